"""New images of a model: temperature, mixtures of codes, and ways from one image to another."""

import subprocess
import sys

import numpy as np
import pytest
from small_vae import assert_same_bits, parameters, random_images, small_vae, subprocess_environment

import cvae
from cvae import NotFittedError
from cvae.mixture import Mixture

X = random_images(60)
LABELS = np.arange(60) % 3


@pytest.fixture(scope="module")
def trained():
    return small_vae(beta=0.05).fit(X, n_epochs=10)


@pytest.fixture(scope="module")
def conditional():
    return small_vae(condition="classes", beta=0.05).fit(X, LABELS, n_epochs=10)


@pytest.fixture
def with_prior(tmp_path, trained):
    trained.save(tmp_path / "model")
    return cvae.load(tmp_path / "model").fit_prior(X, n_components=3)


# ---------------------------------------------------------------------- temperature


def test_temperature_scales_the_codes(trained):
    codes = np.random.default_rng(5).standard_normal((7, 2), np.float32)
    for temperature in (1, 0.5, 2.0, np.float64(0.1)):
        expected = trained.decode(codes * np.float32(temperature))
        np.testing.assert_allclose(trained.sample(7, 5, temperature=temperature), expected, rtol=1e-6)
    np.testing.assert_array_equal(trained.sample(7, 5), trained.sample(7, 5, temperature=1))
    np.testing.assert_array_equal(trained.sample(3, 5, temperature=0), trained.decode(np.zeros((3, 2))))


@pytest.mark.parametrize("temperature", [-1, np.inf, np.nan])
def test_temperatures_are_finite_and_not_negative(trained, temperature):
    with pytest.raises(ValueError, match=r"temperature must be .* in \[0, inf\)"):
        trained.sample(temperature=temperature)


# -------------------------------------------------------------------------- mixtures


def test_a_mixture_draws_from_its_distributions():
    means, covariance = np.array([[-5.0, 0], [5, 5]]), np.array([[2.0, 0.6], [0.6, 0.5]])
    mixture = Mixture(np.array([0.25, 0.75]), means, np.stack([covariance, np.eye(2)]))
    codes = mixture.draw(40_000, np.random.default_rng(0), 1.0)
    first = codes[codes[:, 0] + codes[:, 1] < 2.5]
    assert len(first) / 40_000 == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(first.mean(0), means[0], atol=0.05)
    np.testing.assert_allclose(np.cov(first.T), covariance, atol=0.07)
    cool = mixture.draw(40_000, np.random.default_rng(0), 0.1)
    np.testing.assert_allclose(np.cov(cool[cool[:, 0] < 0].T), covariance / 100, atol=0.001)
    np.testing.assert_array_equal(np.unique(mixture.draw(50, np.random.default_rng(0), 0.0), axis=0), means)


def test_a_mixture_finds_the_distribution_of_codes():
    rng = np.random.default_rng(1)
    codes = np.concatenate([rng.normal(-3, 0.5, (500, 2)), rng.normal(3, 1, (1500, 2))])
    found = Mixture.fit(codes.astype(np.float32), 2, 0)
    order = np.argsort(found.weights)
    np.testing.assert_allclose(found.weights[order], [0.25, 0.75], atol=0.01)
    np.testing.assert_allclose(found.means[order], [[-3, -3], [3, 3]], atol=0.15)
    np.testing.assert_allclose(found.covariances[order[0]], 0.25 * np.eye(2), atol=0.05)


def test_samples_of_the_mixture_are_decoded_codes_of_it(with_prior):
    mixture = with_prior._mixture
    codes = mixture.draw(6, np.random.default_rng(4), 0.7)
    expected = with_prior.decode(codes)
    np.testing.assert_array_equal(with_prior.sample(6, 4, prior="mixture", temperature=0.7), expected)
    assert np.abs(with_prior.sample(6, 4) - expected).max() > 0


def test_the_mixture_is_fitted_to_draws_of_the_posteriors(with_prior):
    mean, log_var = with_prior.encode(X)
    mixture = with_prior._mixture
    centre = mixture.weights @ mixture.means
    np.testing.assert_allclose(centre, mean.mean(0), atol=4 * np.sqrt(np.exp(log_var).mean() / 60))
    spread = np.einsum("k,kij->ij", mixture.weights, mixture.covariances)
    spread += np.einsum("k,ki,kj->ij", mixture.weights, mixture.means - centre, mixture.means - centre)
    expected = mean.var(0) + np.exp(log_var).mean(0)
    np.testing.assert_allclose(np.diag(spread), expected, rtol=0.5)


def test_the_same_seed_gives_the_same_mixture(trained):
    first, second, other = (trained.fit_prior(X, 3, random_state=seed)._mixture for seed in (0, 0, 1))
    for name in Mixture._fields:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.means, other.means)


def test_the_mixture_is_saved(tmp_path, with_prior):
    with_prior.save(tmp_path / "model")
    code = """
import sys
sys.modules["sklearn"] = None
import cvae
print(cvae.load("model").sample(5, 0, prior="mixture").tobytes().hex())
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=subprocess_environment(), capture_output=True, text=True
    )
    assert run.stdout.strip() == with_prior.sample(5, 0, prior="mixture").tobytes().hex(), run.stderr


def test_training_drops_the_mixture(with_prior):
    def train_by_hand():
        with_prior.backward(X, with_prior.forward(X))
        with_prior.update()

    for train in (lambda: with_prior.fit(X), lambda: with_prior.partial_fit(X), train_by_hand):
        with_prior.fit_prior(X, 2).sample(prior="mixture")
        train()
        with pytest.raises(ValueError, match="prior must be 'normal' until fit_prior has been called since the last t"):
            with_prior.sample(prior="mixture")
    with_prior.fit_prior(X, 2).set_params(T=4).fit(X)
    assert with_prior._mixture is None


def test_a_failed_fit_keeps_the_mixture(with_prior):
    with pytest.raises(ValueError, match="X must"):
        with_prior.fit(X - 2)
    with_prior.sample(prior="mixture")


def test_what_a_mixture_needs(trained, monkeypatch):
    with pytest.raises(ValueError, match="X must hold at least 10 images for the mixture, got 4"):
        trained.fit_prior(X[:4])
    with pytest.raises(ValueError, match="n_components"):
        trained.fit_prior(X, 0)
    with pytest.raises(NotFittedError):
        small_vae().fit_prior(X)
    with pytest.raises(ValueError, match="prior must be 'normal' or 'mixture', got 'gmm'"):
        trained.sample(prior="gmm")
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(ImportError, match="fit_prior needs scikit-learn: pip install"):
        trained.fit_prior(X)


def test_a_mixture_of_a_conditional_model_serves_all_labels(conditional):
    conditional.fit_prior(X, 3, y=LABELS)
    codes = conditional._mixture.draw(4, np.random.default_rng(2), 1.0)
    for label in (0, 1, 2):
        np.testing.assert_array_equal(
            conditional.sample(4, 2, y=label, prior="mixture"), conditional.decode(codes, label)
        )


# ---------------------------------------------------------------------- interpolation


@pytest.mark.parametrize("method", ["linear", "spherical"])
def test_the_ends_are_the_reconstructions(trained, method):
    images = trained.interpolate(X[0], X[1], 6, method)
    assert images.shape == (6, 9, 8, 1)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[[0, -1]], trained.reconstruct(X[:2]))


def test_linear_ways_are_straight(trained):
    a, b = trained.transform(X[:2]).astype(np.float64)
    codes = [a + (b - a) * i / 4 for i in range(5)]
    np.testing.assert_allclose(trained.interpolate(X[0], X[1], 5), trained.decode(codes), rtol=1e-6)


def test_spherical_ways_are_arcs(trained):
    radius, angles = 2.0, np.linspace(0, np.pi / 2, 7)
    codes = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = trained.interpolate(codes[0], codes[-1], 7, "spherical")
    np.testing.assert_allclose(found, trained.decode(codes), rtol=1e-6)


@pytest.mark.parametrize("b", [[2.0, 2.0], [-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]], ids=str)
def test_without_an_angle_arcs_are_straight(trained, b):
    np.testing.assert_array_equal(
        trained.interpolate([1.0, 1.0], b, 5, "spherical"), trained.interpolate([1.0, 1.0], b, 5, "linear")
    )


def test_images_of_every_form_and_codes(trained):
    code = trained.transform(X[:1])[0]
    expected = trained.interpolate(X[0], X[1], 3)
    for a in (X[0, :, :, 0], X[0].ravel(), X[0].astype(np.float64), X[0].tolist()):
        np.testing.assert_array_equal(trained.interpolate(a, X[1], 3), expected)
    np.testing.assert_allclose(trained.interpolate(code, X[1], 3), expected, rtol=1e-6)


@pytest.mark.parametrize("y", [1, [1, 1], [0, 2]], ids=str)
def test_labels_of_the_ends(conditional, y):
    of_a, of_b = (y, y) if y == 1 else y
    images = conditional.interpolate(X[0], X[1], 5, y=y)
    np.testing.assert_array_equal(images[0], conditional.reconstruct(X[:1], of_a)[0])
    np.testing.assert_array_equal(images[-1], conditional.reconstruct(X[1:2], of_b)[0])
    assert np.abs(np.diff(images, axis=0)).max() < np.abs(images[-1] - images[0]).max()


def test_labels_between_values():
    vae = small_vae(condition="values").fit(X, X.mean((1, 2, 3)))
    images = vae.interpolate([0.5, 1], [0.5, 1], 3, y=[0.25, 0.75])
    np.testing.assert_array_equal(images, vae.decode([[0.5, 1]] * 3, [0.25, 0.5, 0.75]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 1}, "n must be at least 2, got 1"),
        ({"n": 0}, "n must be"),
        ({"method": "cubic"}, "method must be 'linear' or 'spherical', got 'cubic'"),
        ({"a": X[:1]}, r"a must be an image \(9, 8, 1\) or a code \(2,\), got the shape \(1, 9, 8, 1\)"),
        ({"b": [1, 2, 3]}, r"b must be an image \(9, 8, 1\) or a code \(2,\), got the shape \(3,\)"),
        ({"b": [1, np.nan]}, "b must be finite in float32"),
        ({"a": X[0] + 1}, r"a must hold values in \[0, 1\]"),
        ({"y": 1}, "y must be None for a model without condition, got int"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_wrong_ends_are_refused(trained, change, message):
    with pytest.raises(ValueError, match=message):
        trained.interpolate(**{"a": X[0], "b": X[1]} | change)


def test_conditional_ways_need_labels(conditional):
    with pytest.raises(ValueError, match="this model is conditional: y must be"):
        conditional.interpolate(X[0], X[1])
    with pytest.raises(ValueError, match="y must be one label, or one for each of 2, got 3 labels"):
        conditional.interpolate(X[0], X[1], y=[0, 1, 2])


def test_none_of_this_changes_the_model(trained):
    before = parameters(trained)
    trained.fit_prior(X, 2).sample(3, prior="mixture")
    trained.interpolate(X[0], X[1])
    assert_same_bits(parameters(trained), before)
