"use strict";
// The page: sliders, map, interpolation and pictures of codes. `page.py` describes the data.

const data = JSON.parse(document.getElementById("data").textContent);
const network = data.network, T = data.T, set = data.set;
const weights = floatsOf(data.weights);
const [rows, cols, channels] = network.shape;
const element = (id) => document.getElementById(id);

const codes = set ? floatsOf(set.codes) : new Float32Array(0);
const conditions = set && data.labels ? floatsOf(set.conditions) : null;
const thumbnails = set ? bytesOf(set.thumbnails) : null;
const codeOf = (i) => Array.from(codes.subarray(i * T, (i + 1) * T));

const state = { z: new Array(T).fill(0), labels: data.labels ? data.labels.start.slice() : null, image: -1, share: 0 };
const ends = { a: null, b: null };

// ------------------------------------------------------------------ pictures

/** Draw numbers from 0 to 255 to a canvas; other channels than grey or RGB stand beside each other. */
function paint(canvas, height, width, depth, value) {
  const isColor = depth === 3, beside = depth === 1 || isColor ? 1 : Math.min(depth, 16);
  const fullWidth = beside * (width + 1) - 1;
  canvas.width = fullWidth;
  canvas.height = height;
  canvas.classList.toggle("flat", 8 * Math.min(fullWidth, height) < Math.max(fullWidth, height));
  const context = canvas.getContext("2d"), picture = context.createImageData(fullWidth, height);
  picture.data.fill(160);
  for (let i = 0; i < height; i++) for (let j = 0; j < width; j++) for (let k = 0; k < beside; k++) {
    const from = (i * width + j) * depth + (isColor ? 0 : k), to = 4 * (i * fullWidth + k * (width + 1) + j);
    for (let c = 0; c < 3; c++) picture.data[to + c] = value(from + (isColor ? c : 0));
  }
  for (let to = 3; to < picture.data.length; to += 4) picture.data[to] = 255;
  context.putImageData(picture, 0, 0);
}

function drawCode(canvas, z, labels) {
  const pixels = asPicture(network, decode(network, weights, z, labels));
  paint(canvas, rows, cols, channels, (i) => Math.round(255 * pixels[i]));
}

function drawOriginal(canvas, i) {
  const [height, width, depth] = set.thumbnail_shape, start = i * height * width * depth;
  paint(canvas, height, width, depth, (at) => thumbnails[start + at]);
}

// ---------------------------------------------------------------- the current code

let isDue = false;
/** Draw everything that depends on the current code, once before the next frame. */
function refresh() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    drawCode(element("image"), state.z, state.labels);
    for (const { input, output, dimension } of dimensions) {
      input.value = state.z[dimension];
      output.textContent = state.z[dimension].toFixed(2);
    }
    element("original-figure").hidden = state.image < 0;
    if (state.image >= 0) {
      drawOriginal(element("original"), state.image);
      element("original-name").textContent = set.names[state.image];
    }
    showLabels();
    drawMap();
  });
}

/** Go to a code; `image` is that of the data set whose code it is. */
function goTo(z, image = -1, labels = state.labels) {
  state.z = z.slice();
  state.image = image;
  state.labels = labels && labels.slice();
  refresh();
}

const goToImage = (i) => goTo(codeOf(i), i, conditions ? labelsOf(i) : null);
const labelsOf = (i) => Array.from(conditions.subarray(i * data.labels.n, (i + 1) * data.labels.n));

function standardNormal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

element("random").onclick = () => goTo(state.z.map(standardNormal));
element("reset").onclick = () => goTo(new Array(T).fill(0));

// ------------------------------------------------------------------------ labels

function makeLabels() {
  if (!data.labels) return;
  if (data.labels.names) {
    element("class-label").hidden = false;
    data.labels.names.forEach((name, i) => element("class").add(new Option(name, i)));
    element("class").onchange = (event) => {
      state.labels = state.labels.map((_, i) => (i === Number(event.target.value) ? 1 : 0));
      state.image = -1;
      refresh();
    };
    return;
  }
  element("values").hidden = false;
  state.labels.forEach((_, i) => {
    const input = Object.assign(document.createElement("input"), { type: "number", step: "any" });
    input.setAttribute("aria-label", `Label, value ${i + 1}`);
    input.oninput = () => {
      state.labels[i] = Number(input.value) || 0;
      state.image = -1;
      refresh();
    };
    element("values").append(input);
  });
}

function showLabels() {
  if (!data.labels) return;
  if (data.labels.names) element("class").value = state.labels.indexOf(Math.max(...state.labels));
  else [...element("values").children].forEach((input, i) => {
    if (input !== document.activeElement) input.value = +state.labels[i].toFixed(3);
  });
}

// ----------------------------------------------------------------------- sliders

const dimensions = [];

function makeSliders() {
  const isUsed = (dimension) => !set || set.spread[dimension] > 0.1;
  const order = [...Array(T).keys()];
  if (set && T > 3) order.sort((a, b) => set.spread[b] - set.spread[a]);
  const unused = order.filter((dimension) => !isUsed(dimension));
  const hidden = unused.length < T ? unused : [];
  for (const dimension of order) {
    const into = hidden.includes(dimension) ? element("unused").querySelector("div") : element("sliders");
    into.append(makeSlider(dimension));
  }
  element("unused").hidden = hidden.length === 0;
  element("unused").querySelector("summary").textContent =
    `${hidden.length} ${hidden.length === 1 ? "dimension" : "dimensions"} that these images hardly use`;
}

function makeSlider(dimension) {
  const line = document.createElement("label"), name = document.createElement("span");
  const track = document.createElement("div"), output = document.createElement("output");
  const input = Object.assign(document.createElement("input"), { type: "range", step: "any" });
  const limit = limits[dimension];
  Object.assign(input, { min: -limit, max: limit, value: 0 });
  line.className = "dimension";
  track.className = "track";
  name.textContent = `z${dimension + 1}`;
  input.dataset.dimension = dimension;
  input.setAttribute("aria-label", `Dimension ${dimension + 1}`);
  input.oninput = () => {
    state.z[dimension] = Number(input.value);
    state.image = -1;
    refresh();
  };
  input.ondblclick = () => {
    state.z[dimension] = 0;
    state.image = -1;
    refresh();
  };
  const histogram = document.createElement("canvas");
  track.append(histogram, input);
  line.append(name, track, output);
  dimensions.push({ input, output, dimension, histogram, limit });
  return line;
}

/** Draw how the data set's codes are distributed behind each slider. */
function drawHistograms() {
  if (!set) return;
  const color = getComputedStyle(document.documentElement).getPropertyValue("--bar");
  for (const { histogram, dimension, limit } of dimensions) {
    const bins = new Array(48).fill(0);
    for (let i = dimension; i < codes.length; i += T) {
      bins[Math.min(47, Math.max(0, Math.floor(((codes[i] + limit) / (2 * limit)) * 48)))] += 1;
    }
    histogram.width = 192;
    histogram.height = 44;
    const context = histogram.getContext("2d"), most = Math.max(...bins);
    context.fillStyle = color;
    bins.forEach((n, i) => context.fillRect(4 * i, 44 - (44 * n) / most, 3.4, (44 * n) / most));
  }
}

const limits = [...Array(T).keys()].map((dimension) => {
  let largest = 3;
  for (let i = dimension; i < codes.length; i += T) largest = Math.max(largest, Math.abs(codes[i]));
  return Math.ceil(largest * 10) / 10;
});

// --------------------------------------------------------------------------- map

const plane = data.plane;
const along = (z, axis) => z.reduce((sum, value, d) => sum + value * axis[d], 0);
const inPlane = (z) => [along(z, plane.axes[0]), T > 1 ? along(z, plane.axes[1]) : 0];
const points = [];
let view = null;

function preparePoints() {
  for (let i = 0; i * T < codes.length; i++) {
    const [x, y] = inPlane(codeOf(i));
    points.push([x, T > 1 ? y : ((i * 0.618034) % 1) * 2 - 1]); // one dimension has room for a jitter
  }
  const reach = (k) => Math.max(T > 1 || k === 0 ? 3 : 1.3, ...points.map((point) => Math.abs(point[k]))) * 1.06;
  view = { x: reach(0), y: reach(1) };
}

/** The map's pixels for each unit, the same in both directions unless there is one dimension. */
function placing() {
  const canvas = element("map"), width = canvas.clientWidth, height = canvas.clientHeight;
  let sx = width / 2 / view.x, sy = height / 2 / view.y;
  if (T > 1) sx = sy = Math.min(sx, sy);
  return { width, height, to: ([x, y]) => [width / 2 + x * sx, height / 2 - y * sy],
    from: (px, py) => [(px - width / 2) / sx, (height / 2 - py) / sy] };
}

let backdrop = null;
function drawBackdrop() {
  const { width, height, to } = placing(), ratio = window.devicePixelRatio || 1;
  const canvas = element("map"), style = getComputedStyle(document.documentElement);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  backdrop = document.createElement("canvas");
  backdrop.width = canvas.width;
  backdrop.height = canvas.height;
  const context = backdrop.getContext("2d");
  context.scale(ratio, ratio);
  context.strokeStyle = style.getPropertyValue("--ring");
  context.lineWidth = 1;
  const [zeroX, zeroY] = to([0, 0]);
  for (const radius of [1, 2, 3]) { // standard deviations of the prior
    context.beginPath();
    if (T > 1) context.arc(zeroX, zeroY, to([radius, 0])[0] - zeroX, 0, 2 * Math.PI);
    else for (const x of [-radius, radius]) {
      context.moveTo(to([x, 0])[0], 8);
      context.lineTo(to([x, 0])[0], height - 8);
    }
    context.stroke();
  }
  const size = Math.min(4, Math.max(1.6, 70 / Math.sqrt(points.length || 1)));
  context.globalAlpha = 0.75;
  points.forEach((point, i) => {
    context.fillStyle = set.colors[set.classes[i]];
    context.beginPath();
    context.arc(...to(point), size, 0, 2 * Math.PI);
    context.fill();
  });
}

function drawMap() {
  if (!backdrop) drawBackdrop();
  const canvas = element("map"), context = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(backdrop, 0, 0);
  context.scale(ratio, ratio);
  const { width, height, to } = placing(), style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--text"), card = style.getPropertyValue("--card");
  if (ends.a && ends.b) {
    context.strokeStyle = text;
    context.lineWidth = 1;
    context.setLineDash([3, 4]);
    context.beginPath();
    context.moveTo(...to(inPlane(ends.a.z)));
    context.lineTo(...to(inPlane(ends.b.z)));
    context.stroke();
    context.setLineDash([]);
    context.font = "600 12px system-ui, sans-serif";
    context.fillStyle = text;
    for (const name of ["a", "b"]) {
      const [x, y] = to(inPlane(ends[name].z));
      context.fillText(name.toUpperCase(), Math.min(width - 12, x + 10), Math.max(12, y - 10));
    }
  }
  let [x, y] = to(state.image >= 0 ? points[state.image] : inPlane(state.z));
  x = Math.min(width - 8, Math.max(8, x));
  y = Math.min(height - 8, Math.max(8, y));
  for (const [stroke, line] of [[card, 6], [text, 2.5]]) {
    context.strokeStyle = stroke;
    context.lineWidth = line;
    context.beginPath();
    context.arc(x, y, 7, 0, 2 * Math.PI);
    context.stroke();
  }
}

/** Go to the image whose point is close to a place of the map, or else move the code within the map's plane. */
function goToPlace(event, isDrag) {
  const { to, from } = placing(), box = element("map").getBoundingClientRect();
  const px = event.clientX - box.left, py = event.clientY - box.top;
  let nearest = -1, least = isDrag ? 0 : 14 * 14;
  if (!isDrag) points.forEach((point, i) => {
    const [x, y] = to(point), distance = (x - px) ** 2 + (y - py) ** 2;
    if (distance < least) [nearest, least] = [i, distance];
  });
  if (nearest >= 0) return goToImage(nearest);
  const [u, v] = from(px, py), [u0, v0] = inPlane(state.z);
  return goTo(state.z.map((value, d) => value + (u - u0) * plane.axes[0][d] + (T > 1 ? (v - v0) * plane.axes[1][d] : 0)));
}

function makeMap() {
  const canvas = element("map");
  let start = null;
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    start = [event.clientX, event.clientY];
    goToPlace(event, false);
  };
  canvas.onpointermove = (event) => {
    if (!start || Math.hypot(event.clientX - start[0], event.clientY - start[1]) < 4) return;
    goToPlace(event, true);
  };
  canvas.onpointerup = canvas.onpointercancel = () => { start = null; };
  canvas.onkeydown = (event) => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
    if (!step) return;
    event.preventDefault();
    goTo(state.z.map((value, d) => value + step[0] * plane.axes[0][d] + (T > 1 ? step[1] * plane.axes[1][d] : 0)));
  };
  element("map-hint").textContent = `${plane.text} `
    + (set ? "Click a point to decode its image, or drag." : "Click or drag.");
  if (set) set.legend.forEach((name, i) => {
    const item = document.createElement("li"), dot = document.createElement("i");
    dot.style.background = set.colors[i];
    item.append(dot, name);
    element("legend").append(item);
  });
}

// ----------------------------------------------------------------- interpolation

const mix = (a, b, share) => a.map((value, i) => (1 - share) * value + share * b[i]);

function between(share) {
  const labels = data.labels ? mix(ends.a.labels, ends.b.labels, share) : null;
  return [mix(ends.a.z, ends.b.z, share), labels];
}

function drawEnds() {
  for (const name of ["a", "b"]) {
    drawCode(element(`end-${name}`).querySelector("canvas"), ends[name].z, ends[name].labels);
  }
  const strip = element("strip").children;
  let i = 0;
  const next = () => { // one at a time, so that large models do not hold up the page
    if (i < strip.length) {
      drawCode(strip[i], ...between(i / (strip.length - 1)));
      i += 1;
      setTimeout(next);
    }
  };
  next();
}

function setEnd(name) {
  ends[name] = { z: state.z.slice(), labels: state.labels && state.labels.slice() };
  drawEnds();
  refresh();
}

function goToShare(share) {
  element("share").value = share;
  const [z, labels] = between(share);
  goTo(z, -1, labels);
}

let isPlaying = false;
function play() {
  isPlaying = !isPlaying;
  element("play").textContent = isPlaying ? "Stop" : "Play";
  const start = performance.now() - 2500 * Math.acos(1 - 2 * Number(element("share").value)) / Math.PI;
  const frame = (now) => {
    if (!isPlaying) return;
    goToShare((1 - Math.cos((Math.PI * (now - start)) / 2500)) / 2);
    requestAnimationFrame(frame);
  };
  if (isPlaying) requestAnimationFrame(frame);
}

function makeInterpolation() {
  for (let i = 0; i < 9; i++) {
    const canvas = document.createElement("canvas");
    canvas.onclick = () => goToShare(i / 8);
    element("strip").append(canvas);
  }
  const end = (i, sign) => (set
    ? { z: codeOf(i), labels: conditions ? labelsOf(i) : null }
    : { z: new Array(T).fill(0).map((_, d) => (d === 0 ? 2 * sign : sign)), labels: state.labels });
  [ends.a, ends.b] = set ? set.ends.map((i) => end(i)) : [end(0, -1), end(0, 1)];
  element("end-a").onclick = () => setEnd("a");
  element("end-b").onclick = () => setEnd("b");
  element("share").oninput = (event) => goToShare(Number(event.target.value));
  element("play").onclick = play;
}

// -------------------------------------------------------------------------- page

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  backdrop = null;
  drawHistograms();
  refresh();
}

const darkness = window.matchMedia("(prefers-color-scheme: dark)");
darkness.onchange = () => setTheme(darkness.matches ? "dark" : "light");
element("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
window.onresize = () => { backdrop = null; refresh(); };

element("facts").textContent = data.facts;
makeLabels();
makeSliders();
preparePoints();
makeMap();
makeInterpolation();
setTheme(darkness.matches ? "dark" : "light");
if (set) goToImage(set.ends[0]);
drawEnds();
