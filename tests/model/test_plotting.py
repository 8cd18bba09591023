"""Plots: their pixels, texts and sizes, and the absence of side effects."""

import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae import plotting

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 9, 8, 1), dtype=np.uint8)
RGB = RNG.integers(0, 256, (7, 9, 8, 3), dtype=np.uint8)
BLUE, YELLOW, RED = "#3f90da", "#ffa90e", "#bd1f01"


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def has_color(path, color):
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((read(path) == rgb).all(axis=2).any())


def find(picture, image):
    """Return (scale, top, left) of an image within a picture, enlarged by an integer factor."""
    image = np.broadcast_to(image, (*image.shape[:2], 3))
    for scale in range(1, 41):
        block = image.repeat(scale, axis=0).repeat(scale, axis=1)
        rows, cols = (np.array(picture.shape) - block.shape)[:2] + 1
        if min(rows, cols) < 1:
            break
        corners = picture[:rows, :cols] == block[0, 0]
        corners &= picture[-rows:, -cols:] == block[-1, -1]
        for top, left in np.argwhere(corners.all(axis=2)):
            if (picture[top : top + len(block), left : left + block.shape[1]] == block).all():
                return scale, top, left
    raise AssertionError("the picture does not contain the image")


@pytest.mark.parametrize("images", [GREY, RGB], ids=["grey", "rgb"])
def test_each_original_stands_above_its_reconstruction(tmp_path, images):
    results = 255 - images
    plotting.reconstructions(images, results, tmp_path / "r.png")
    picture = read(tmp_path / "r.png")
    places = []
    for original, result in zip(images, results, strict=True):
        scale, top, left = find(picture, original)
        below_scale, below_top, below_left = find(picture, result)
        assert (below_scale, below_left) == (scale, left)
        assert 0 <= below_top - (top + 9 * scale) < 5
        places.append((top, left))
    assert places == sorted(places)


@pytest.mark.parametrize("images", [GREY, RGB], ids=["grey", "rgb"])
def test_samples_stand_in_a_square_in_order(tmp_path, images):
    plotting.samples(images, tmp_path / "s.png")
    picture = read(tmp_path / "s.png")
    places = [find(picture, image)[1:] for image in images]
    assert places == sorted(places)
    assert len({top for top, _ in places}) == len({left for _, left in places}) == 3


@pytest.mark.parametrize("images", [GREY, RGB], ids=["grey", "rgb"])
def test_each_class_has_a_row_of_its_own(tmp_path, images):
    classes = np.stack([images[:3], images[3:6]])
    plotting.class_samples(classes, ["cat", "$dog"], tmp_path / "c.png")
    picture = read(tmp_path / "c.png")
    scales, tops, lefts = zip(*(find(picture, image) for of_class in classes for image in of_class), strict=True)
    assert len(set(scales)) == 1
    assert len(set(tops[:3])) == len(set(tops[3:])) == 1
    assert tops[3] - tops[0] == 9 * scales[0] + 2
    assert lefts[:3] == lefts[3:]
    assert lefts[0] < lefts[1] < lefts[2]
    assert lefts[0] > 100  # where the labels are
    plotting.class_samples(classes, ["", ""], tmp_path / "unnamed.png")
    assert (read(tmp_path / "unnamed.png")[40:, : lefts[0] - 1] == 255).all()
    assert (picture[40:, : lefts[0] - 1] < 255).any()


def test_rows_and_classes_must_be_as_many(tmp_path):
    for images in (np.zeros((2, 3, 9, 8)), np.zeros((3, 9, 8)), np.zeros((4, 3, 9, 8, 1))):
        with pytest.raises(ValueError, match=r"images must have the shape \(3, n, rows, cols, channels\) or"):
            plotting.class_samples(images, [0, 1, 2], tmp_path / "c.png")


def test_floats_and_images_without_channels_look_the_same(tmp_path):
    plotting.samples(GREY, tmp_path / "a.png")
    plotting.samples(GREY[..., 0] / 255, tmp_path / "b.png")
    plotting.samples((GREY / 255).astype(np.float32), tmp_path / "c.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), read(tmp_path / "b.png"))
    np.testing.assert_array_equal(read(tmp_path / "a.png"), read(tmp_path / "c.png"))


@pytest.mark.parametrize("side", [8, 28, 64, 300])
def test_grids_have_about_the_width_of_a_page(tmp_path, side):
    images = np.zeros((40, side, side, 1))
    plotting.reconstructions(images, images, tmp_path / "r.png")
    assert 800 <= read(tmp_path / "r.png").shape[1] <= 1100
    plotting.samples(images[:9] if side == 300 else images, tmp_path / "s.png")
    assert 800 <= read(tmp_path / "s.png").shape[1] <= 1100


def test_one_image_of_any_size_is_enough(tmp_path):
    for shape in ((1, 1, 1, 1), (1, 1, 50, 1), (1, 50, 1, 3), (1, 28, 28, 1)):
        images, thickness = np.zeros(shape), math.ceil(max(shape[1:3]) / 8)
        plotting.samples(images, tmp_path / "s.png")
        plotting.reconstructions(images, images, tmp_path / "r.png")
        plotting.error_maps(images, np.ones(shape), tmp_path / "e.png", reconstructions=images)
        for name in ("s.png", "r.png", "e.png"):
            drawn = np.maximum(shape[1:3], thickness)  # a line of pixels would hardly be seen
            find(read(tmp_path / name), np.zeros((*drawn, shape[3]), np.uint8))


@pytest.mark.parametrize("T", [1, 2, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_latent_shows_each_class_in_its_color(tmp_path, T, dtype):
    means = RNG.normal(size=(60, T)).astype(dtype)
    plotting.latent(means, np.arange(60) % 2, tmp_path / "z.png", "two classes")
    assert has_color(tmp_path / "z.png", BLUE)
    assert has_color(tmp_path / "z.png", YELLOW)
    assert not has_color(tmp_path / "z.png", RED)
    assert read(tmp_path / "z.png").shape[1] == 1000


@pytest.mark.parametrize("T", [1, 2, 5])
def test_latent_without_labels_has_no_legend(tmp_path, T):
    plotting.latent(RNG.normal(size=(60, T)), None, tmp_path / "z.svg")
    assert "class" not in texts(tmp_path / "z.svg")


def texts(path):
    """Return the texts of an SVG picture, which matplotlib draws as glyphs and repeats in comments."""
    lines = path.read_text().splitlines()
    return [line.strip()[5:-4] for line in lines if line.strip().startswith("<!-- ")]


def test_more_than_two_dimensions_are_projected_on_principal_components(tmp_path):
    means = RNG.normal(size=(200, 5)) @ RNG.normal(size=(5, 5)) + 7
    variances = np.linalg.eigvalsh(np.cov(means.T))[::-1]
    first, second = variances[:2] / variances.sum()
    plotting.latent(means, None, tmp_path / "z.svg")
    found = texts(tmp_path / "z.svg")
    assert f"principal component 1 ({first:.0%} of the variance)" in found
    assert f"principal component 2 ({second:.0%} of the variance)" in found


def test_two_dimensions_are_drawn_as_they_are(tmp_path):
    plotting.latent(RNG.normal(size=(50, 2)), None, tmp_path / "z.svg")
    found = texts(tmp_path / "z.svg")
    assert "latent mean 1" in found
    assert "latent mean 2" in found


def test_the_first_component_is_where_two_classes_lie_apart(tmp_path):
    """Two narrow clusters, separated in an arbitrary direction of 5-D, must be separated along x only."""
    direction = np.array([1.0, -2.0, 3.0, 1.0, -1.0]) / 4
    means = np.repeat([-5.0, 5.0], 20)[:, np.newaxis] * direction
    means += RNG.normal(scale=0.1, size=means.shape)
    plotting.latent(means, np.repeat([0, 1], 20), tmp_path / "z.png")
    picture = read(tmp_path / "z.png").astype(int)[:, :925]  # without the legend
    difference = picture[..., 0] - picture[..., 2]
    blue, yellow = np.argwhere(difference < -80), np.argwhere(difference > 80)
    assert blue[:, 1].max() < yellow[:, 1].min()
    height, width = np.ptp(np.vstack([blue, yellow]), axis=0)
    assert height < 0.1 * width


def test_latent_takes_names_many_classes_and_few_points(tmp_path):
    means = RNG.normal(size=(300, 3))
    not_math = r"100 % $\frac$"  # an error if parsed as TeX
    plotting.latent(means, np.array(["cat", not_math])[np.arange(300) % 2], tmp_path / "z.svg")
    assert {"cat", not_math, "class"} <= set(texts(tmp_path / "z.svg"))
    plotting.latent(means, np.arange(300) % 30, tmp_path / "z.svg", not_math)
    assert {"0", "29", not_math} <= set(texts(tmp_path / "z.svg"))
    plotting.latent(means, np.arange(300) / 7, tmp_path / "z.svg")
    assert len(texts(tmp_path / "z.svg")) < 80
    plotting.latent(means[:1], [3], tmp_path / "z.svg")
    assert "principal component 1 (0% of the variance)" in texts(tmp_path / "z.svg")


def test_history_draws_training_and_test(tmp_path):
    history = {"loss": [3.0, 2.5], "reconstruction": [2.0, 1.0], "kl": [1.0, 1.5]}
    plotting.history(history, tmp_path / "h.svg")
    assert "validation" not in texts(tmp_path / "h.svg")
    history |= {"val_reconstruction": [np.nan, 1.2], "val_kl": [np.nan, 1.5]}
    plotting.history(history, tmp_path / "h.svg")
    assert {"training", "validation", "Negative ELBO", "epoch"} <= set(texts(tmp_path / "h.svg"))
    plotting.history(history, tmp_path / "h.png")
    assert has_color(tmp_path / "h.png", BLUE)
    assert has_color(tmp_path / "h.png", RED)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    path = tmp_path / "x.png"
    with pytest.raises(ValueError, match=r"images must hold values in \[0, 1\]"):
        plotting.samples(np.full((3, 4, 4, 1), 2.0), path)
    with pytest.raises(ValueError, match="reconstructions must have the shape of images"):
        plotting.reconstructions(GREY, GREY[1:], path)
    with pytest.raises(ValueError, match=r"means must be finite and of shape \(n, T\)"):
        plotting.latent(np.zeros(3), None, path)
    with pytest.raises(ValueError, match="means must be finite"):
        plotting.latent(np.full((3, 2), np.nan), None, path)
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\), got \(2,\)"):
        plotting.latent(np.zeros((3, 2)), [0, 1], path)
    for name in ("x.npy", "x", "png"):
        with pytest.raises(ValueError, match=r"must end in .png, .* or .webp, got"):
            plotting.samples(GREY, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_link_still_links(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target.png", tmp_path / "link.png"
    target.write_bytes(b"old")
    link.symlink_to(target)
    plotting.samples(GREY, link)
    assert link.is_symlink()
    find(read(target), GREY[0])


def run_python(code):
    path = str(next(iter(cvae.__path__)))[: -len("cvae")]
    code = f"import sys; sys.path.insert(0, {path!r})\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_pyplot_and_the_global_settings_are_left_alone(tmp_path):
    process = run_python(
        f"""
import numpy as np
from cvae import plotting
assert "matplotlib" not in sys.modules
import matplotlib
before = dict(dict.items(matplotlib.rcParams))  # bypasses the look-up of "backend", which loads pyplot
plotting.latent(np.eye(3), [0, 1, 2], {str(tmp_path / "z.png")!r})
plotting.samples(np.zeros((2, 3, 3)), {str(tmp_path / "s.pdf")!r})
assert dict(dict.items(matplotlib.rcParams)) == before
assert "matplotlib.pyplot" not in sys.modules
"""
    )
    assert process.returncode == 0, process.stderr


def test_without_matplotlib_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = "^plotting needs matplotlib: pip install matplotlib$"
    with pytest.raises(ImportError, match=message):
        plotting.samples(GREY, tmp_path / "s.png")
    with pytest.raises(ImportError, match=message):
        plotting.check_can_plot(tmp_path / "s.png")
    assert list(tmp_path.iterdir()) == []
