"""Pictures drawn from models, to axes that are given, and of any images and texts."""

import re
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image
from small_vae import random_images, small_vae, subprocess_environment

from cvae import VAE, VAEOutlierDetector, plotting

matplotlib.use("Agg")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def vae():
    return small_vae(n_epochs=1).fit(random_images(20))


@pytest.fixture(scope="module")
def gaussian():
    """A model of pixels from -50 to 50 in two channels."""
    X = 100 * random_images(20, (9, 8, 2)) - 50
    return VAE("mlp", likelihood="Gaussian('optimal')", T=40, n_epochs=1, random_state=0, verbose=False).fit(X)


@pytest.fixture(scope="module")
def conditional():
    return VAE("mlp", T=2, condition="classes", n_epochs=1, random_state=0, verbose=False).fit(
        random_images(20), np.array(["cat", "dog"])[np.arange(20) % 2]
    )


@pytest.fixture(autouse=True)
def _no_figures_are_left():
    yield
    pyplot.close("all")


@pytest.fixture
def ax():
    """Axes of a figure of pyplot."""
    return pyplot.subplots()[1]


def drawn(axes):
    """Return the pixels of the one picture in axes."""
    (image,) = axes.get_images()
    return np.asarray(image.get_array())


def texts(axes):
    return [text.get_text() for text in axes.texts]


# --------------------------------------------------------------------- conventions

X = random_images(20)
DRAWINGS = {
    "reconstructions": lambda vae, **to: plotting.reconstructions(X, vae, **to),
    "samples": lambda vae, **to: plotting.samples(vae, n=5, random_state=0, **to),
    "latent": lambda vae, **to: plotting.latent(vae.transform(X), np.arange(20) % 2, **to),
    "latent_plane": lambda vae, **to: plotting.latent_plane(vae, n=3, **to),
    "traversals": lambda vae, **to: plotting.traversals(vae, n=3, **to),
    "best_and_worst": lambda vae, **to: plotting.best_and_worst(X, vae, n=3, **to),
    "error_maps": lambda vae, **to: plotting.error_maps(X[:3], vae, **to),
    "outliers": lambda vae, **to: plotting.outliers(X, vae, n=3, **to),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_axes_in_axes_out(name, vae, ax):
    assert DRAWINGS[name](vae, ax=ax) is ax
    assert ax.get_images() or ax.collections
    assert pyplot.get_fignums() == [ax.figure.number]


@pytest.mark.parametrize("name", DRAWINGS)
def test_without_axes_there_is_a_new_figure_of_pyplot(name, vae, ax):
    axes = DRAWINGS[name](vae)
    assert axes.figure.number in pyplot.get_fignums()
    assert axes.figure is not ax.figure


@pytest.mark.parametrize("name", DRAWINGS)
def test_with_a_path_the_figure_is_saved_and_forgotten(name, vae, tmp_path):
    axes = DRAWINGS[name](vae, path=tmp_path / "p.png")
    assert pyplot.get_fignums() == []
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == tuple(np.rint(axes.figure.get_size_inches() * 128))


@pytest.mark.parametrize("name", [name for name in DRAWINGS if name != "latent"])
def test_the_origin_of_images_is_above_whatever_matplotlibrc_says(name, vae, ax, tmp_path):
    paths = tmp_path / "expected.png", tmp_path / "found.png"
    DRAWINGS[name](vae, path=paths[0])
    with matplotlib.rc_context({"image.origin": "lower"}):
        DRAWINGS[name](vae, path=paths[1])
        DRAWINGS[name](vae, ax=ax)
    expected, found = (np.asarray(Image.open(path)) for path in paths)
    np.testing.assert_array_equal(found, expected)
    bottom, top = ax.get_ylim()
    assert bottom > top


@pytest.mark.parametrize("rc", ["figure.constrained_layout.use", "figure.autolayout"])
@pytest.mark.parametrize("name", DRAWINGS)
def test_layouts_of_matplotlibrc_do_not_touch_the_figures(name, rc, vae, tmp_path):
    paths = tmp_path / "expected.png", tmp_path / "found.png"
    DRAWINGS[name](vae, path=paths[0])
    with warnings.catch_warnings(), matplotlib.rc_context({rc: True}):
        warnings.simplefilter("error")
        DRAWINGS[name](vae, path=paths[1])
        DRAWINGS[name](vae).figure.canvas.draw()
        own = pyplot.figure()
        assert own.get_layout_engine() is not None
    expected, found = (np.asarray(Image.open(path)) for path in paths)
    np.testing.assert_array_equal(found, expected)


def test_what_is_drawn_to_a_part_of_a_figure_is_saved_with_the_whole(vae, tmp_path):
    figure = pyplot.figure(figsize=(4, 3))
    left, right = figure.subfigures(1, 2)
    plotting.samples(X[:4], tmp_path / "s.png", ax=left.subplots())
    plotting.history(vae, tmp_path / "h.png", figure=right)
    for name in ("s.png", "h.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (4 * 128, 3 * 128)


def test_history_takes_and_returns_a_figure(vae):
    figure = pyplot.figure()
    assert plotting.history(vae, figure=figure) is figure
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Negative ELBO", "KL divergence"]
    assert plotting.history(vae).number in pyplot.get_fignums()


def test_every_function_is_documented_and_listed():
    assert set(DRAWINGS) | {"history", "class_samples", "check_can_plot"} == set(plotting.__all__)
    assert all(getattr(plotting, name).__doc__ for name in plotting.__all__)


# --------------------------------------------------------------------- what is drawn


def test_a_model_gives_what_its_methods_give(vae, ax):
    pixels = drawn(plotting.samples(vae, n=4, random_state=3, ax=ax))
    expected = drawn(plotting.samples(vae.sample(4, random_state=3)))
    np.testing.assert_array_equal(pixels, expected)
    pixels = drawn(plotting.reconstructions(X, vae))
    np.testing.assert_array_equal(pixels, drawn(plotting.reconstructions(X, vae.reconstruct(X))))


def test_rankings_are_sorted_by_score(vae, ax):
    scores = np.arange(20.0)
    plotting.best_and_worst(X, scores, n=2, names=[f"{i}.png" for i in range(20)], ax=ax)
    assert texts(ax) == ["19.png\n19", "18.png\n18", "0.png\n0", "1.png\n1"]
    axes = plotting.outliers(X, vae, n=2, scores=-scores)
    assert texts(axes) == ["image", "reconstruction", "error", "-19", "-18"]


def test_names_stand_in_the_order_of_the_images_whatever_their_index(ax):
    pandas = pytest.importorskip("pandas")
    names = pandas.Series([f"{i}.png" for i in range(20)], index=np.arange(20)[::-1])
    plotting.best_and_worst(X, np.arange(20.0), n=1, names=names, ax=ax)
    assert texts(ax) == ["19.png\n19", "0.png\n0"]


def test_a_detector_ranks_by_its_own_score(vae, ax):
    detector = VAEOutlierDetector(vae, prefit=True, score_type="reconstruction", n_samples=1).fit(X)
    plotting.outliers(X, detector, n=1, ax=ax)
    assert texts(ax)[-1] == f"{detector.score_samples(X).min():.4g}"


def test_maps_have_one_scale(vae, ax):
    errors = np.zeros((2, 9, 8, 1))
    errors[0, :5], errors[1, :5] = 1, 100
    pixels = drawn(plotting.error_maps(X[:2], errors, ax=ax))
    assert texts(ax) == ["image", "error"]
    small, none, large = pixels[-9 * 10, 0], pixels[-1, 0], pixels[-9 * 10, -1]
    assert none.sum() < small.sum() < large.sum() / 2


def test_the_plane_grows_to_the_right_and_upwards(vae, ax):
    pixels = drawn(plotting.latent_plane(vae, n=3, ax=ax))
    z = 0.9674215661017008  # of the standard normal distribution, 5/6 of which is below it
    rows, cols = pixels.shape[0] // 3, pixels.shape[1] // 3
    scale = rows // 9
    for (row, col), code in {(0, 2): (z, z), (2, 0): (-z, -z), (0, 0): (-z, z), (1, 1): (0, 0)}.items():
        cell = pixels[row * rows : (row + 1) * rows : scale, col * cols : (col + 1) * cols : scale]
        expected = np.rint(vae.decode([code])[0] * 255)
        assert np.abs(cell[..., :1] - expected).max() <= 1


def test_a_traversal_changes_one_dimension(vae, ax):
    pixels = drawn(plotting.traversals(vae, n=3, limit=2, at=[0.5, -0.5], dimensions=[1], ax=ax))
    assert texts(ax) == ["dimension 2"]
    cols = pixels.shape[1] // 3
    scale = cols // 8
    for column, code in enumerate([(0.5, -2), (0.5, 0), (0.5, 2)]):
        cell = pixels[::scale, column * cols : (column + 1) * cols : scale]
        assert np.abs(cell[..., :1] - np.rint(vae.decode([code])[0] * 255)).max() <= 1


def test_dimensions_may_be_an_array(vae, ax):
    pixels = drawn(plotting.traversals(vae, n=3, dimensions=np.array([1, 0]), ax=ax))
    assert texts(ax) == ["dimension 2", "dimension 1"]
    np.testing.assert_array_equal(pixels, drawn(plotting.traversals(vae, n=3, dimensions=[1, 0])))
    plane = drawn(plotting.latent_plane(vae, n=2, dimensions=np.array([1, 0])))
    np.testing.assert_array_equal(plane, drawn(plotting.latent_plane(vae, n=2, dimensions=[1, 0])))


def test_many_dimensions_leave_those_that_change_the_image_most(gaussian, ax):
    plotting.traversals(gaussian, n=3, ax=ax)
    shown = [int(text.split()[1]) - 1 for text in texts(ax)]
    spread = []
    for dimension in range(40):
        codes = np.zeros((3, 40))
        codes[:, dimension] = [-3, 0, 3]
        spread.append(gaussian._as_pictures(gaussian.decode(codes)).std(0).mean())
    assert shown == sorted(np.argsort(spread)[-32:])


def test_conditional_models(conditional, ax):
    axes = plotting.class_samples(conditional, n=3, ax=ax)
    assert texts(axes) == ["cat", "dog"]
    plotting.class_samples(conditional, ["dog"], random_state=None)
    y = np.array(["cat", "dog"])[np.arange(20) % 2]
    for draw in (plotting.reconstructions, plotting.error_maps, plotting.best_and_worst, plotting.outliers):
        assert drawn(draw(X, conditional, y=y)).size
    assert drawn(plotting.latent_plane(conditional, n=2, y="cat")).size
    assert drawn(plotting.traversals(conditional, n=2, y="cat", at=X[0])).size
    with pytest.raises(ValueError, match="this model is conditional: y must be"):
        plotting.latent_plane(conditional, n=2)
    with pytest.raises(ValueError, match="images must be an array or a model with condition='classes'"):
        plotting.class_samples(small_vae())


# ----------------------------------------------------------------------- any images


@pytest.mark.parametrize("channels", [2, 4, 5, 20])
def test_other_channels_stand_beside_each_other(channels, ax):
    images = RNG.integers(0, 256, (1, 4, 3, channels), dtype=np.uint8)
    pixels = drawn(plotting.samples(images, ax=ax))[..., 0]
    shown = min(channels, 16)
    scale = pixels.shape[0] // 4
    small = pixels[::scale, ::scale]
    assert small.shape == (4, shown * 4 - 1)
    for channel in range(shown):
        np.testing.assert_array_equal(small[:, channel * 4 : channel * 4 + 3], images[0, ..., channel])


def test_images_in_the_units_of_the_model(gaussian, ax):
    images = 100 * random_images(3, (9, 8, 2)) - 50
    for draw in (plotting.reconstructions, plotting.error_maps, plotting.best_and_worst, plotting.outliers):
        assert len(np.unique(drawn(draw(images, gaussian, ax=None)))) > 50


def test_value_range_says_what_is_black_and_white(ax):
    images = np.array([-1.0, 0.0, 1.0, 9.0]).reshape(1, 1, 4, 1)
    pixels = drawn(plotting.samples(images, value_range=(-1, 1), ax=ax))
    assert pixels[0, :: pixels.shape[1] // 4, 0].tolist() == [0, 128, 255, 255]
    nearly = np.array([-0.2, 0.5, 1.2]).reshape(1, 1, 3, 1)  # as means of Gaussian pixels
    assert drawn(plotting.samples(nearly)).min() == 0
    with pytest.raises(ValueError, match=r"images must hold values in \[0, 1\] .* without value_range, got from -1"):
        plotting.samples(images)
    with pytest.raises(ValueError, match="images must hold finite values"):
        plotting.samples(np.full((1, 2, 2, 1), np.nan))


def test_lists_of_pictures_are_images_too(vae, ax):
    pictures = [Image.fromarray(np.rint(image[..., 0] * 255).astype(np.uint8)) for image in X]
    expected = drawn(plotting.samples(np.rint(X * 255) / 255, ax=ax))
    np.testing.assert_array_equal(drawn(plotting.samples(pictures)), expected)
    for draw in (plotting.reconstructions, plotting.error_maps, plotting.best_and_worst, plotting.outliers):
        assert drawn(draw(pictures, vae)).size
    plotting.best_and_worst(pictures, np.arange(20))


def test_constant_images_and_none(vae, ax):
    for value in (0.0, 1.0):
        assert (drawn(plotting.samples(np.full((3, 4, 4, 1), value), ax=ax))[0, 0] == 255 * value).all()
        ax.clear()
    same = np.zeros((4, 9, 8, 1))
    plotting.error_maps(same, np.zeros_like(same))
    plotting.best_and_worst(same, np.zeros(4))
    for draw in (plotting.samples, lambda images: plotting.best_and_worst(images, [])):
        with pytest.raises(ValueError, match="images must hold at least one image"):
            draw(np.zeros((0, 9, 8, 1)))


# ------------------------------------------------------------------------ any texts


@pytest.mark.parametrize(
    "text", ["mod\udce8le.safetensors", "图片 🙂", "two\nlines\ttab", r"$\frac$ 100 %", "", "x" * 500], ids=ascii
)
def test_any_text_can_be_drawn(text, vae, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, draw in DRAWINGS.items():
            if name in ("samples", "latent", "outliers"):
                draw(vae, path=tmp_path / "t.png", title=text)
        plotting.best_and_worst(X, vae, tmp_path / "t.png", text, names=[text] * 20)
        plotting.latent(RNG.normal(size=(4, 3)), [text, text, "a", "b"], tmp_path / "t.png")
        plotting.class_samples([X[:2]], [text], tmp_path / "t.png")


# -------------------------------------------------------------------------- history


@pytest.mark.parametrize(
    ("history", "titles"),
    [
        ({"reconstruction": [2.0], "kl": [1.0]}, ["Negative ELBO", "KL divergence"]),
        ({"loss": [3.0, 2.0]}, ["Loss"]),
        ({"kl": [1, 2]}, ["KL divergence"]),
        ({"loss": [3.0], "kl": [1.0]}, ["Loss", "KL divergence"]),
        ({"reconstruction": [np.nan, np.inf, 2.0], "kl": [1.0, np.nan, 1.0]}, ["Negative ELBO", "KL divergence"]),
        ({"reconstruction": [np.nan], "kl": [np.nan]}, ["Negative ELBO", "KL divergence"]),
        ({"reconstruction": [3.0, 2.0], "kl": [1.0]}, ["Negative ELBO", "KL divergence"]),
        ({name: list(range(5000)) for name in ("reconstruction", "kl")}, ["Negative ELBO", "KL divergence"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_any_history_can_be_drawn(history, titles, tmp_path):
    figure = plotting.history(history, tmp_path / "h.png")
    assert [axes.get_title(loc="left") for axes in figure.axes] == titles


@pytest.mark.parametrize("history", [{}, {"reconstruction": [], "kl": []}, {"seconds": [1.0]}, small_vae()], ids=str)
def test_a_history_without_epochs_is_refused(history, tmp_path):
    with pytest.raises(ValueError, match="history must hold at least one epoch of loss or reconstruction and kl, got"):
        plotting.history(history, tmp_path / "h.png")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda vae: plotting.best_and_worst(X, [1, 2]), ValueError, r"scores must have the shape \(20,\), got \(2,\)"),
        (lambda vae: plotting.best_and_worst(X, vae, names=["a"]), ValueError, "names must be 20, one for each image"),
        (lambda vae: plotting.best_and_worst(X, vae, n=0), ValueError, "n must be an int >= 1, got 0"),
        (lambda vae: plotting.error_maps(X, X[:3]), ValueError, "errors must be finite and of the shape of images"),
        (lambda vae: plotting.error_maps(X, X[:, :3]), ValueError, "errors must have the shape of images"),
        (
            lambda vae: plotting.outliers(X, X),
            TypeError,
            "detector must be an outlier detector or a model",
        ),
        (lambda vae: plotting.latent_plane(X), TypeError, "vae must be a trained model, got ndarray"),
        (lambda vae: plotting.latent_plane(vae, dimensions=(0, 2)), ValueError, "dimensions must be from 0 to 1"),
        (
            lambda vae: plotting.latent_plane(vae, dimensions=(1, 1)),
            ValueError,
            "must be two different ones",
        ),
        (lambda vae: plotting.latent_plane(vae, dimensions=(1,)), ValueError, "must be two different ones"),
        (lambda vae: plotting.traversals(vae, dimensions=[]), ValueError, "dimensions must be from 0 to 1"),
        (lambda vae: plotting.traversals(vae, dimensions=1), TypeError, "dimensions must be a sequence of ints, got 1"),
        (lambda vae: plotting.traversals(vae, dimensions=[0.5]), TypeError, "dimensions must be a sequence of ints"),
        (lambda vae: plotting.samples(X, value_range=3), TypeError, "value_range must be two numbers"),
        (lambda vae: plotting.samples(X, value_range=(1, 1)), ValueError, "value_range must be .* with low < high"),
        (lambda vae: plotting.history([1, 2]), TypeError, "history must be a mapping such as history_, or a model"),
        (lambda vae: plotting.history({"loss": 3.0}), ValueError, "history must hold a number for each epoch"),
        (lambda vae: plotting.history({"loss": [[3.0]]}), ValueError, "history must hold a number for each epoch"),
        (lambda vae: plotting.traversals(vae, limit=0), ValueError, "limit must be"),
        (lambda vae: plotting.traversals(vae, at=[1, 2, 3]), ValueError, "at must be an image"),
        (lambda vae: plotting.traversals(small_vae()), ValueError, "has no parameters yet"),
        (lambda vae: plotting.latent(X[:, 0, :, 0], method="tsne"), ValueError, "method must be 'pca' or 'umap'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments_are_named(draw, error, message, vae):
    with pytest.raises(error, match=message):
        draw(vae)
    assert pyplot.get_fignums() == []


def test_umap_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"^method='umap' needs umap-learn: pip install umap-learn$"):
        plotting.latent(RNG.normal(size=(20, 3)), method="umap")


def test_no_display_is_needed(tmp_path):
    """With a backend that would need one."""
    code = "import sys, numpy, cvae; cvae.plotting.samples(numpy.zeros((2, 3, 3)), sys.argv[1])"
    environment = {**subprocess_environment(), "MPLBACKEND": "TkAgg"}
    environment.pop("DISPLAY", None)
    command = [sys.executable, "-c", code, str(tmp_path / "s.png")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "s.png").is_file()


def test_pictures_that_are_too_large_are_refused_before_any_image_is_drawn(vae, conditional, monkeypatch):
    def never(*_, **__):
        pytest.fail("decoded")

    for model in (vae, conditional):
        monkeypatch.setattr(model, "decode", never)
        monkeypatch.setattr(model, "sample", never)
    for call in (
        lambda: plotting.latent_plane(vae, n=10**6),
        lambda: plotting.traversals(vae, n=10**6),
        lambda: plotting.samples(vae, n=10**9),
        lambda: plotting.class_samples(conditional, n=10**9),
        lambda: plotting.class_samples(conditional, n=10**6),
    ):
        with pytest.raises(
            ValueError, match=r"^n must make a picture of at most 100,000,000 pixels, 60,000 along a side, got"
        ):
            call()
    with pytest.raises(ValueError, match=r"^images must make a picture of at most"):
        plotting.samples(np.broadcast_to(np.uint8(0), (20_000, 100, 100)))


@pytest.mark.parametrize(
    ("captions", "error", "message"),
    [
        ([1, 2], TypeError, "captions must be a sequence of str, got [1, 2]"),
        ("ab", TypeError, "captions must be a sequence of str, got 'ab'"),
        (None, TypeError, "captions must be a sequence of str, got None"),
        (["a"], ValueError, "captions must be 2, one for each image, or none, got 1"),
    ],
)
def test_captions_are_texts(vae, captions, error, message):
    with pytest.raises(error, match=re.escape(message)):
        plotting.error_maps(random_images(2), vae, captions=captions)
