"""Pictures that are asked for with wrong arguments: one sentence that names the argument."""

import re

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

import cvae
from cvae import plotting

X = np.random.default_rng(0).integers(0, 256, (24, 6, 6, 1), dtype=np.uint8)
CODES = np.random.default_rng(1).standard_normal((6, 2))


@pytest.fixture(scope="module")
def vae():
    return cvae.VAE("mlp", T=2, random_state=0, verbose=False).fit(X, n_epochs=1)


@pytest.fixture(scope="module")
def conditional():
    labels = np.arange(24) % 2
    return cvae.VAE("mlp", T=2, condition="classes", random_state=0, verbose=False).fit(X, labels, n_epochs=1)


OF_MODELS = {
    "reconstructions": lambda vae, **how: plotting.reconstructions(X[:3], vae, **how),
    "error_maps": lambda vae, **how: plotting.error_maps(X[:3], vae, **how),
    "outliers": lambda vae, **how: plotting.outliers(X[:3], vae, **how),
    "best_and_worst": lambda vae, **how: plotting.best_and_worst(X[:3], vae, **how),
    "samples": lambda vae, **how: plotting.samples(vae, n=2, **how),
    "latent_plane": lambda vae, **how: plotting.latent_plane(vae, n=2, **how),
    "traversals": lambda vae, **how: plotting.traversals(vae, n=2, **how),
    "latent": lambda vae, **how: plotting.latent(vae.transform(X[:6]), **how),
}


@pytest.mark.parametrize("name", OF_MODELS)
@pytest.mark.parametrize("make", [cvae.VAE, cvae.BernoulliVAE])
def test_an_untrained_model_has_to_be_fitted_first(name, make):
    with pytest.raises(cvae.NotFittedError, match="call fit"):
        OF_MODELS[name](make())


def test_an_untrained_model_of_classes_has_to_be_fitted_first():
    with pytest.raises(cvae.NotFittedError, match="call fit"):
        plotting.class_samples(cvae.VAE(condition="classes"))


@pytest.mark.parametrize("name", OF_MODELS)
def test_axes_are_axes(vae, name):
    figure, several = pyplot.subplots(1, 2)
    for ax, found in ((several, "ndarray, of which one is meant"), (figure, "Figure"), (pyplot, "module"), (0, "int")):
        with pytest.raises(TypeError, match=f"^ax must be matplotlib axes or None, got {found}$"):
            OF_MODELS[name](vae, ax=ax)
    assert OF_MODELS[name](vae, ax=several[1]) is several[1]
    pyplot.close(figure)


@pytest.mark.parametrize("name", OF_MODELS)
@pytest.mark.parametrize(("projection", "kind"), [("3d", "Axes3D"), ("polar", "PolarAxes"), ("hammer", "HammerAxes")])
def test_axes_are_rectilinear(vae, name, projection, kind):
    figure = pyplot.figure()
    message = f"ax must be matplotlib axes or None, got {kind} of the projection '{projection}', not 'rectilinear'"
    with pytest.raises(TypeError, match=f"^{message}$"):
        OF_MODELS[name](vae, ax=figure.add_subplot(projection=projection))
    pyplot.close(figure)


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        ("o.png", TypeError, "classes must be a sequence of labels, one for each row, got 'o.png'"),
        (3, TypeError, "classes must be a sequence of labels, one for each row, got 3"),
        ([], ValueError, "classes must hold at least one label, got none"),
        ([7], ValueError, "classes must hold labels of the first fit, 0, 1, got 7"),
    ],
)
def test_classes_are_labels(conditional, classes, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(message)):
        plotting.class_samples(conditional, classes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("draw", "images", "others", "message"),
    [
        (plotting.reconstructions, X[:3], X[:2], "reconstructions {}, (3, 6, 6, 1), got (2, 6, 6, 1)"),
        (
            plotting.reconstructions,
            np.zeros((3, 6, 6, 4)),
            np.zeros((3, 6, 6, 2)),
            "reconstructions {}, (3, 6, 6, 4), got (3, 6, 6, 2)",
        ),
        (plotting.error_maps, X[:3], np.zeros((3, 5, 6, 1)), "errors {}, (3, 6, 6, 1), got (3, 5, 6, 1)"),
    ],
)
def test_shapes_in_messages_are_those_that_were_given(draw, images, others, message):
    with pytest.raises(ValueError, match=re.escape(message.format("must have the shape of images"))):
        draw(images, others)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ([None] * 6, ["None"]),
        (["a", None, "b", "a", "b", "b"], ["None", "a", "b"]),
        ([1, None, 2, 1, 2, 2], ["1", "2", "None"]),
        (np.array(["b", "a"] * 3, object), ["a", "b"]),
        (np.array([10, 9] * 3, object), ["9", "10"]),
        (np.array([2.0, float("nan"), 1.0, float("nan"), 2.0, 1.0], object), ["1.0", "2.0", "nan"]),
        (np.array(["b", float("nan")] * 3, object), ["b", "nan"]),
        (np.array(["b", None] * 3, np.dtypes.StringDType(na_object=None)), ["None", "b"]),
    ],
)
def test_labels_that_are_missing_are_a_class(labels, shown):
    axes = plotting.latent(CODES, labels)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == shown
    pyplot.close(axes.figure)


def test_the_missing_values_of_pandas_are_a_class():
    pandas = pytest.importorskip("pandas")
    names = ["b", None, "a", "a", "b", None]
    for labels, shown in (
        (pandas.Categorical(names), ["a", "b", "nan"]),
        (pandas.Series(names, dtype="string"), ["<NA>", "a", "b"]),
        (pandas.Series([2, 1, None] * 2, dtype="Int64"), ["1.0", "2.0", "nan"]),
        (pandas.Series([pandas.NA] * 6), ["<NA>"]),
    ):
        axes = plotting.latent(CODES, labels)
        assert [text.get_text() for text in axes.get_legend().get_texts()] == shown
        pyplot.close(axes.figure)


@pytest.mark.parametrize("T", [1, 2])
def test_classes_whose_names_begin_with_an_underscore_are_in_the_legend(T):
    axes = plotting.latent(CODES[:, :T], ["_a", "b", "__", "_a", "b", "_"])
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["_", "__", "_a", "b"]
    colors = [matplotlib.colors.to_hex(handle.get_facecolor()[0]) for handle in legend.legend_handles]
    assert colors == ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2"]
    pyplot.close(axes.figure)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda masked: plotting.latent(masked(CODES), None), "means must not have masked elements, got 1: pass"),
        (lambda masked: plotting.latent(CODES, masked([1] * 6)), "labels must not have masked elements, got 1: pass"),
        (lambda masked: plotting.best_and_worst(X[:3], masked([1.0] * 3)), "scores must be .* got masked elements"),
        (lambda masked: plotting.error_maps(X[:3], masked(X[:3] / 255)), "errors must be .* got masked elements"),
        (lambda masked: plotting.history({"loss": masked([1.0, 2.0])}), "loss of history must be .* masked elements"),
        (lambda masked: plotting.samples(masked(X[:3])), "images must not have masked elements, got 1: pass"),
        (lambda masked: plotting.class_samples(masked(X[None])), "images must not have masked elements, got 1: pass"),
        (lambda masked: plotting.class_samples([masked(X[:3])]), "images must not have masked elements, got 1: pass"),
    ],
)
def test_masks_are_not_ignored(draw, message):
    def masked(values):
        found = np.ma.array(values)
        found[(0,) * found.ndim] = np.ma.masked
        return found

    with pytest.raises(ValueError, match=f"^{message}"):
        draw(masked)


def test_the_outliers_of_a_conditional_model_have_their_labels(conditional):
    masked = np.ma.array(np.arange(24) % 2, mask=np.arange(24) == 5)
    with pytest.raises(ValueError, match=r"^y must not have masked elements, got 1: pass"):
        plotting.outliers(X, conditional, scores=np.arange(24), y=masked)
    with pytest.raises(ValueError, match=r"^y must be one label, or one for each of 24, got 3 labels$"):
        plotting.outliers(X, conditional, scores=np.arange(24), y=[0, 1, 0])
    values = cvae.VAE("mlp", T=2, condition="values", random_state=0, verbose=False)
    values.fit(X, np.random.default_rng(0).random((24, 2)), n_epochs=1)
    alike = np.full((24, 2), 0.5)
    for_one, for_all = (plotting.outliers(X, values, n=2, y=y) for y in (alike, [0.5, 0.5]))
    np.testing.assert_array_equal(*(axes.get_images()[0].get_array() for axes in (for_one, for_all)))
    pyplot.close("all")


def test_samples_of_classes_are_nested_in_any_way():
    pictures = [[Image.fromarray(X[i, ..., 0])] for i in range(2)]
    for images in (pictures, [X[:1], X[1:2]], X[:2, np.newaxis]):
        axes = plotting.class_samples(images)
        drawn = np.asarray(axes.get_images()[0].get_array())
        np.testing.assert_array_equal(drawn[: 6 * 14 : 14, ::14, 0], X[0, ..., 0])
        np.testing.assert_array_equal(drawn[6 * 14 + 2 :: 14, ::14, 0], X[1, ..., 0])
        pyplot.close(axes.figure)
    for images, found in (("x.npy", "an object of type str"), ({0: X}, "an object of type dict")):
        with pytest.raises(TypeError, match=f"^images must be an array, got {found}: pass"):
            plotting.class_samples(images)


def test_labels_are_names_or_numbers():
    with pytest.raises(TypeError, match="labels must be numbers, strings or None, got "):
        plotting.latent(CODES, [{}] * 6)


def test_a_path_is_no_scores_and_no_errors():
    for draw, name in ((plotting.best_and_worst, "scores"), (plotting.error_maps, "errors")):
        with pytest.raises(ValueError, match=f"{name} must be an array of real numbers"):
            draw(X[:3], "o.png")
