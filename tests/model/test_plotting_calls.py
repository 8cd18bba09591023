"""Pictures that are asked for with wrong arguments: one sentence that names the argument."""

import re

import numpy as np
import pytest
from matplotlib import pyplot

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
    ],
)
def test_labels_that_are_missing_are_a_class(labels, shown):
    axes = plotting.latent(CODES, labels)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == shown
    pyplot.close(axes.figure)


def test_labels_are_names_or_numbers():
    with pytest.raises(TypeError, match="labels must be numbers, strings or None, got "):
        plotting.latent(CODES, [{}] * 6)


def test_a_path_is_no_scores_and_no_errors():
    for draw, name in ((plotting.best_and_worst, "scores"), (plotting.error_maps, "errors")):
        with pytest.raises(ValueError, match=f"{name} must be an array of real numbers"):
            draw(X[:3], "o.png")
