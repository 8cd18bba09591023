"use strict";
// The decoder of a model, run one image at a time on arrays in the layout (rows, cols, channels). A network is a list of
// steps that `network.py` made from the layers; step.W and the like are places in the one array of all weights.

/** Return the bytes that a base64 text stands for. */
function bytesOf(text) {
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const value = new Uint8Array(128);
  for (let i = 0; i < 64; i++) value[digits.charCodeAt(i)] = i;
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  for (let i = 0, at = 0; i < text.length; i += 4) {
    const four = (value[text.charCodeAt(i)] << 18) | (value[text.charCodeAt(i + 1)] << 12)
      | (value[text.charCodeAt(i + 2)] << 6) | value[text.charCodeAt(i + 3)];
    if (at < bytes.length) bytes[at++] = four >> 16;
    if (at < bytes.length) bytes[at++] = (four >> 8) & 255;
    if (at < bytes.length) bytes[at++] = four & 255;
  }
  return bytes;
}

/** Return the float32 numbers, little-endian, that a base64 text stands for. */
function floatsOf(text) {
  const bytes = bytesOf(text);
  const view = new DataView(bytes.buffer);
  const floats = new Float32Array(bytes.length / 4);
  for (let i = 0; i < floats.length; i++) floats[i] = view.getFloat32(4 * i, true);
  return floats;
}

/** The error function, to 1.2e-7: Numerical Recipes' Chebyshev fit of erfc (Press et al. 1992, section 6.2). */
function erf(x) {
  const t = 1 / (1 + Math.abs(x) / 2);
  const fit = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
    -0.82215223, 0.17087277];
  const exponent = fit.reduceRight((sum, c) => sum * t + c, 0) - x * x;
  return Math.sign(x) * (1 - t * Math.exp(exponent));
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

const ACTIVATIONS = {
  relu: () => (x) => Math.max(x, 0),
  sigmoid: () => sigmoid,
  tanh: () => Math.tanh,
  leaky_relu: (alpha) => (x) => (x < 0 ? alpha * x : x),
  gelu: () => (x) => Math.max(x, -40) * sigmoid(2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)),
  gelu_exact: () => (x) => Math.max(x, -40) * 0.5 * (1 + erf(x / Math.SQRT2)),
  affine: (slope, intercept) => (x) => slope * x + intercept,
  elu: (alpha) => (x) => (x > 0 ? x : alpha * Math.expm1(x)),
  selu: (negative, positive) => (x) => (x > 0 ? positive * x : negative * Math.expm1(x)),
  exponential: () => Math.exp,
  hard_sigmoid: () => (x) => Math.min(Math.max(0.2 * x + 0.5, 0), 1),
  softplus: () => (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
};

function activate(y, act) {
  if (!act) return y;
  const f = ACTIVATIONS[act[0]](...act.slice(1));
  for (let i = 0; i < y.length; i++) y[i] = f(y[i]);
  return y;
}

const STEPS = {
  dense(x, step, weights) {
    const [nIn, nOut] = step.shape;
    const y = weights.slice(step.b, step.b + nOut);
    for (let i = 0; i < nIn; i++) {
      const factor = x[i];
      if (factor === 0) continue;
      for (let j = 0, w = step.W + i * nOut; j < nOut; j++, w++) y[j] += factor * weights[w];
    }
    return y;
  },

  conv(x, step, weights) {
    const [rows, cols, inCh] = step.in, [outRows, outCols, outCh] = step.out, [kRows, kCols] = step.kernel;
    const y = new Float32Array(outRows * outCols * outCh);
    for (let i = 0, o = 0; i < outRows; i++) for (let j = 0; j < outCols; j++, o += outCh) {
      for (let k = 0; k < outCh; k++) y[o + k] = weights[step.b + k];
      for (let r = 0; r < kRows; r++) {
        const row = i * step.stride - step.top + r * step.spacing;
        if (row < 0 || row >= rows) continue;
        for (let c = 0; c < kCols; c++) {
          const col = j * step.stride - step.left + c * step.spacing;
          if (col < 0 || col >= cols) continue;
          let w = step.W + (r * kCols + c) * inCh * outCh;
          for (let m = 0, at = (row * cols + col) * inCh; m < inCh; m++, at++) {
            const factor = x[at];
            for (let k = 0; k < outCh; k++) y[o + k] += factor * weights[w++];
          }
        }
      }
    }
    return y;
  },

  // W is (kernel rows, kernel cols, output channels, input channels).
  conv_transpose(x, step, weights) {
    const [rows, cols, inCh] = step.in, [outRows, outCols, outCh] = step.out, [kRows, kCols] = step.kernel;
    const y = new Float32Array(outRows * outCols * outCh);
    for (let o = 0; o < y.length; o++) y[o] = weights[step.b + (o % outCh)];
    for (let i = 0, at = 0; i < rows; i++) for (let j = 0; j < cols; j++, at += inCh) {
      for (let r = 0; r < kRows; r++) {
        const row = i * step.stride - step.top + r * step.spacing;
        if (row < 0 || row >= outRows) continue;
        for (let c = 0; c < kCols; c++) {
          const col = j * step.stride - step.left + c * step.spacing;
          if (col < 0 || col >= outCols) continue;
          let w = step.W + (r * kCols + c) * inCh * outCh;
          for (let k = 0, o = (row * outCols + col) * outCh; k < outCh; k++, o++) {
            let sum = 0;
            for (let m = 0; m < inCh; m++) sum += x[at + m] * weights[w++];
            y[o] += sum;
          }
        }
      }
    }
    return y;
  },

  pool(x, step) {
    const [rows, cols, ch] = step.in, [outRows, outCols] = step.out, [kRows, kCols] = step.kernel;
    const y = new Float32Array(outRows * outCols * ch);
    for (let i = 0, o = 0; i < outRows; i++) for (let j = 0; j < outCols; j++) for (let k = 0; k < ch; k++, o++) {
      let best = -Infinity, sum = 0;
      for (let r = 0; r < kRows; r++) for (let c = 0; c < kCols; c++) {
        const row = i * step.stride - step.top + r, col = j * step.stride - step.left + c;
        const inside = row >= 0 && row < rows && col >= 0 && col < cols;
        const value = inside ? x[(row * cols + col) * ch + k] : 0; // zeros around the image count
        best = Math.max(best, value);
        sum += value;
      }
      y[o] = step.max ? best : sum / (kRows * kCols);
    }
    return y;
  },

  upsample(x, step) {
    const [rows, cols, ch] = step.in, [rowFactor, colFactor] = step.factor;
    const outRows = rows * rowFactor, outCols = cols * colFactor;
    const y = new Float32Array(outRows * outCols * ch);
    const place = (i, factor, size) => {
      if (!step.bilinear) return [Math.floor(i / factor), Math.floor(i / factor), 0];
      const at = Math.min(Math.max((i + 0.5) / factor - 0.5, 0), size - 1);
      const low = Math.floor(at);
      return [low, Math.min(low + 1, size - 1), at - low];
    };
    for (let i = 0, o = 0; i < outRows; i++) {
      const [top, bottom, down] = place(i, rowFactor, rows);
      for (let j = 0; j < outCols; j++) {
        const [left, right, across] = place(j, colFactor, cols);
        for (let k = 0; k < ch; k++, o++) {
          const at = (row, col) => x[(row * cols + col) * ch + k];
          const above = at(top, left) * (1 - across) + at(top, right) * across;
          const below = at(bottom, left) * (1 - across) + at(bottom, right) * across;
          y[o] = above * (1 - down) + below * down;
        }
      }
    }
    return y;
  },

  scale(x, step, weights) {
    const ch = step.channels;
    return Float32Array.from(x, (value, i) => value * weights[step.factor + (i % ch)] + weights[step.shift + (i % ch)]);
  },

  group_norm(x, step, weights) {
    const ch = step.channels, groups = step.groups, size = ch / groups;
    const y = new Float32Array(x.length);
    for (let g = 0; g < groups; g++) {
      let sum = 0, squares = 0, n = 0;
      const each = (f) => {
        for (let p = g * size; p < x.length; p += ch) for (let k = 0; k < size; k++) f(p + k, g * size + k);
      };
      each((i) => { sum += x[i]; n += 1; });
      const mean = sum / n;
      each((i) => { squares += (x[i] - mean) * (x[i] - mean); });
      const deviation = Math.sqrt(squares / n + step.epsilon);
      each((i, k) => { y[i] = ((x[i] - mean) / deviation) * weights[step.factor + k] + weights[step.shift + k]; });
    }
    return y;
  },

  condition(x, step, weights, labels) {
    const ch = step.channels, wide = ch + labels.length, pixels = x.length / ch;
    const y = new Float32Array(pixels * wide);
    for (let p = 0; p < pixels; p++) {
      for (let k = 0; k < ch; k++) y[p * wide + k] = x[p * ch + k];
      for (let k = 0; k < labels.length; k++) y[p * wide + ch + k] = labels[k];
    }
    return y;
  },

  residual(x, step, weights, labels) {
    const y = runSteps(x, step.layers, weights, labels), other = runSteps(x, step.shortcut, weights, labels);
    return y.map((value, i) => value + other[i]);
  },
};

function runSteps(x, steps, weights, labels) {
  for (const step of steps) x = activate(STEPS[step.op](x, step, weights, labels), step.act);
  return x;
}

const MEANS = {
  identity: (x) => x,
  sigmoid,
  unit: (x) => Math.min(Math.max(x, 0), 1),
  // The mean of a continuous Bernoulli distribution: 1 / (1 - exp(-x)) - 1 / x, by its series near 0.
  continuous_bernoulli: (x) => (Math.abs(x) < 0.01 ? 0.5 + x / 12 : 1 / (1 - Math.exp(-x)) - 1 / x),
};

/** Return the mean image of a code, in the units of the model's images. */
function decode(network, weights, code, labels) {
  const outputs = runSteps(Float32Array.from(code), network.steps, weights, Float32Array.from(labels || []));
  const channels = network.shape[2], mean = MEANS[network.mean];
  const pixels = new Float32Array(network.shape[0] * network.shape[1] * channels);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = mean(outputs[i * network.every]) * network.scale[i % channels] + network.offset[i % channels];
  }
  return pixels;
}

/** Return pixels from 0, black, to 1, white. */
function asPicture(network, pixels) {
  const [low, high] = network.ends, width = high - low || 1;
  return pixels.map((value) => Math.min(Math.max((value - low) / width, 0), 1));
}
