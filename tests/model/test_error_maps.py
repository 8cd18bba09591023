"""`error_map`: where in an image a model is wrong."""

import numpy as np
import pytest
from small_vae import random_images, small_vae

from cvae import VAE
from cvae.likelihoods import Likelihood
from cvae.nn.activations import Identity

LIKELIHOODS = [
    "Bernoulli", "ContinuousBernoulli", "Gaussian(scale=0.3)", "Gaussian('pixel')", "Gaussian('shared')",
    "Gaussian('optimal')", "Laplace(scale=0.2)", "Laplace('pixel')", "Laplace('shared')", "Laplace('optimal')",
    "DiscretizedLogistic",
]  # fmt: skip


def vae_of(likelihood, X, **changes):
    arguments = {"T": 2, "n_epochs": 1, "batchsize": 8, "random_state": 0, "verbose": False, **changes}
    return VAE("mlp", likelihood=likelihood, **arguments).fit(X)


def without_noise(vae):
    """Set the codes' standard deviation to almost 0, so that the reconstruction loss is that of the mean code."""
    layer = vae.encoder_["Code"]
    W, b = layer.parameters["W"].copy(), layer.parameters["b"].copy()
    W[:, vae.T :], b[:, vae.T :] = 0, -80
    layer.set_params({"parameters": {"W": W, "b": b}})
    return vae


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_errors_of_an_image_sum_to_its_reconstruction_loss(likelihood, channels):
    X = random_images(12, (9, 8, channels))
    X = (X * 255).astype(np.uint8) if likelihood == "DiscretizedLogistic" else 3 * X if "sca" in likelihood else X
    vae = without_noise(vae_of(likelihood, X))
    errors = vae.error_map(X)
    assert errors.shape == X.shape
    assert errors.dtype == np.float32
    np.testing.assert_allclose(errors.sum((1, 2, 3), np.float64), vae.elbo_terms(X)[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("value_range", [None, (-2, 4), "data"])
def test_errors_are_those_of_pixels_as_they_are_given(value_range):
    X = 5 * random_images(12) - 1
    vae = without_noise(vae_of("Gaussian('pixel')", X, value_range=value_range))
    np.testing.assert_allclose(vae.error_map(X).sum((1, 2, 3), np.float64), vae.elbo_terms(X)[0], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(vae.error_map(X, "squared"), (X - vae.reconstruct(X)) ** 2, atol=1e-5)


def test_squared_errors_of_bytes_are_those_of_fractions():
    X = (random_images(12) * 255).astype(np.uint8)
    vae = vae_of("Bernoulli", X)
    np.testing.assert_allclose(vae.error_map(X, "squared"), (X / 255 - vae.reconstruct(X)) ** 2, atol=1e-6)


def test_an_error_does_not_depend_on_the_other_images():
    X = random_images(200)
    vae = vae_of("Gaussian('optimal')", X)
    np.testing.assert_array_equal(vae.error_map(X)[150:], vae.error_map(X[150:]))


def test_a_changed_pixel_has_a_large_error():
    X = np.zeros((64, 9, 8))
    X[::2, 3:6] = 1
    vae = vae_of("Bernoulli", X, n_epochs=20, optimizer="Adam(lr=0.01)")
    strange = X[:1].copy()
    strange[0, 8, 0] = 1
    assert np.unravel_index(vae.error_map(strange)[0].argmax(), (9, 8, 1)) == (8, 0, 0)


def test_conditional_models_and_black_and_white_ones():
    X, y = random_images(12), np.arange(12) % 2
    vae = VAE("mlp", T=2, condition="classes", n_epochs=1, verbose=False).fit(X, y)
    assert np.abs(vae.error_map(X, y=y) - vae.error_map(X, y=1 - y)).max() > 0
    with pytest.raises(ValueError, match="y must be a class label"):
        vae.error_map(X)
    binary = small_vae(binarize=0.5).fit(X)
    expected = ((X > 0.5) - binary.reconstruct(X)) ** 2
    np.testing.assert_allclose(binary.error_map(X, "squared"), expected, atol=1e-6)


class SumOfPixels(Likelihood):
    """Depends on the sum of an image alone."""

    activation = Identity()

    def n_outputs(self, image_shape):
        return int(np.prod(image_shape))

    def check(self, images, name):
        pass

    def record_loss(self, program, loss, doutputs, outputs, images, weights):
        def compute():
            difference = outputs.sum(1) - images.sum(1)
            loss[:] = difference**2
            if doutputs is not None:
                doutputs[:] = (2 * difference * weights)[:, np.newaxis]

        program.call(compute)

    def record_mean(self, program, mean, outputs):
        program.call(lambda: np.copyto(mean, outputs))


def test_what_has_no_map_is_refused():
    X = random_images(12)
    with pytest.raises(ValueError, match="kind must be 'likelihood' or 'squared', got 'nll'"):
        vae_of("Bernoulli", X).error_map(X, "nll")
    with pytest.raises(ValueError, match="the likelihood must be one of independent pixels, got SumOfPixels"):
        vae_of(SumOfPixels(), X).error_map(X)
