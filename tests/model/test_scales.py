"""Likelihoods with one scale for all pixels: learnt with the weights, or the best one of each batch."""

import numpy as np
import pytest
from scipy import stats
from small_vae import assert_same_bits, by_path

import cvae

IMAGE_SHAPE = (5, 4, 2)
CALLS = [f"{kind}('{scale}')" for kind in ("Gaussian", "Laplace") for scale in ("shared", "optimal")]
each_call = pytest.mark.parametrize("likelihood", CALLS)
each_optimal = pytest.mark.parametrize("likelihood", [call for call in CALLS if "optimal" in call])


def model(likelihood, decoder=("FullyConnected(n_out=16, act_fn='SoftPlus')",), **changes):
    encoder = ["Flatten()", "FullyConnected(n_out=8, act_fn='Tanh')"]
    fixed = {"T": 2, "optimizer": "Adam(lr=0.01)", "n_epochs": 2, "batchsize": 4, "random_state": 0, "verbose": False}
    return cvae.VAE(encoder, list(decoder), likelihood, **{"warm_start": True, **fixed, **changes})


def signed_images(n=32, seed=0):
    """Return images around 100, in float64, whose channels differ in brightness and contrast."""
    rng = np.random.default_rng(seed)
    return 100 + rng.normal(size=(n, *IMAGE_SHAPE)) * (3, 40) + (0, -500)


def number(vae):
    return float(vae.decoder_["Scale"].parameters["number"][0])


def scale(vae, likelihood):
    """Return the scale that a model has outside training, in its own units."""
    if "shared" in likelihood:
        return np.exp(8 * np.tanh(number(vae) / 8))
    return np.sqrt(number(vae)) if "Gaussian" in likelihood else number(vae)


@each_call
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_p_is_scipys_of_the_pixels_as_they_were_given(likelihood, dtype):
    X = signed_images()
    vae = model(likelihood, dtype=dtype).fit(X, n_epochs=5)
    noise = np.random.default_rng(5).standard_normal((len(X), 2))
    means = vae.forward(X, retain_derived=False, noise=noise).reshape(X.shape)
    density = stats.norm if "Gaussian" in likelihood else stats.laplace
    expected = density.logpdf(X, means, scale(vae, likelihood) * vae.pixel_scale_).sum((1, 2, 3))
    passes = vae._passes(len(X), training=False)
    passes.images[: len(X)] = (X - vae.pixel_offset_) / vae.pixel_scale_
    reconstruction, _ = passes.terms(noise.astype(dtype))
    # Means are rounded in the pixels' own units.
    np.testing.assert_allclose(-reconstruction, expected, rtol=2e-5 if dtype == "float32" else 1e-6)


@each_call
def test_noise_of_known_size_is_found(likelihood):
    X = (stats.norm if "Gaussian" in likelihood else stats.laplace).rvs(size=(2000, 4, 4, 1), random_state=0) * 30 + 7
    vae = model(likelihood, batchsize=100, optimizer="Adam(lr=0.01)").fit(X, n_epochs=30)
    spread = X.std() if "Gaussian" in likelihood else np.abs(X - np.median(X)).mean()
    assert scale(vae, likelihood) * vae.pixel_scale_[0] == pytest.approx(spread, rel=0.03)


@each_optimal
def test_the_loss_of_a_batch_is_the_analytic_one_and_its_scale_is_kept(likelihood):
    X = signed_images(6)
    vae = model(likelihood, dtype="float64", batchsize=6).fit(X, n_epochs=1)
    D, logs, spread = X[0].size, np.log(vae.pixel_scale_).sum() * 20, number(vae)
    best = D / 2 * np.log(2 * np.pi * np.e * spread) if "Gaussian" in likelihood else D * np.log(2 * np.e * spread)
    assert vae.history_["reconstruction"] == pytest.approx([best + logs], rel=1e-10)


@each_optimal
def test_later_batches_are_averaged(likelihood):
    X = signed_images(8)
    vae = model(likelihood, dtype="float64", batchsize=8, optimizer="SGD(lr=0)")
    losses = vae.fit(X, n_epochs=5).history_["reconstruction"]
    power, constant = (2, np.log(2 * np.pi * np.e) / 2) if "Gaussian" in likelihood else (1, np.log(2 * np.e))
    logs, average = np.log(vae.pixel_scale_).sum() * 20, 0.0
    for step, loss in enumerate(losses, 1):
        average += 2 / (step + 1) * (np.exp(power * ((loss - logs) / 40 - constant)) - average)
    assert number(vae) == pytest.approx(average, rel=1e-9)
    assert vae.decoder_["Scale"].parameters["steps"][0] == 5


@each_call
def test_only_training_moves_the_scale(likelihood):
    X = signed_images(8)
    vae = model(likelihood).fit(X)
    before = by_path(vae.parameters)
    vae.encode(X), vae.elbo(X), vae.sample(3), vae.log_likelihood(X, 2), vae.reconstruct(X)
    vae.backward(X, vae.forward(X))
    vae.flush_gradients()
    assert_same_bits(by_path(vae.parameters), before)
    vae.decoder_["Output"].W[:] = np.inf
    before = number(vae)
    with pytest.raises(FloatingPointError):
        vae.fit(X)
    assert number(vae) == before


@each_call
def test_a_frozen_scale_stays(likelihood):
    X = signed_images(8)
    vae = model(likelihood).fit(X)
    vae.decoder_["Scale"].freeze()
    before = number(vae)
    assert number(vae.fit(X)) == before
    vae.decoder_["Scale"].unfreeze()
    assert number(vae.fit(X)) != before


@each_call
@pytest.mark.parametrize(
    "objective", ["ELBO(n_samples=3)", "IWAE(k=3)", "IWAE(k=3, gradient='doubly_reparameterized')"]
)
def test_objectives_with_several_codes(likelihood, objective):
    X = signed_images()
    vae = model(likelihood, objective=objective).fit(X, n_epochs=20)
    assert np.isfinite(vae.history_["loss"]).all()
    assert vae.history_["loss"][-1] < vae.history_["loss"][0]
    assert 0.2 < scale(vae, likelihood) < 1.5


@each_call
def test_bits_do_not_depend_on_the_number_of_threads(likelihood):
    X = np.random.default_rng(0).normal(size=(64, 12, 12, 2))
    expected = by_path(model(likelihood, batchsize=32, n_threads=1).fit(X).parameters)
    for n_threads in (2, 3, 7):
        assert_same_bits(by_path(model(likelihood, batchsize=32, n_threads=n_threads).fit(X).parameters), expected)


@each_call
@pytest.mark.parametrize("n", [1, 7])
def test_batches_of_any_size(likelihood, n):
    vae = model(likelihood, batchsize=3).fit(signed_images(n), validation_data=signed_images(2, 1))
    assert np.isfinite([*vae.history_["loss"], *vae.history_["val_loss"]]).all()
    assert vae.reconstruct(signed_images(1)).shape == (1, *IMAGE_SHAPE)


@pytest.mark.parametrize(
    "likelihood", [*CALLS, "Gaussian('pixel')", "Laplace('pixel')", "Gaussian(2.0)", "DiscretizedLogistic"]
)
def test_decoders_that_put_out_images(likelihood):
    two = "pixel" in likelihood or "Logistic" in likelihood
    last = f"ConvTranspose2D(out_ch={6 if two else 3}, kernel_shape=4, stride=2, pad='same')"
    decoder = ["FullyConnected(n_out=32)", "Reshape((4, 4, 2))", last]
    X = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
    X[..., 0] //= 16
    vae = model(likelihood, decoder).fit(X, n_epochs=30)
    assert [*vae.decoder_][-1] == ("Scale" if likelihood in CALLS else "ConvTranspose2D_3")
    images = vae.reconstruct(X)
    assert images.shape == X.shape
    # Each channel is in its place.
    np.testing.assert_allclose(images.mean((0, 1, 2)), X.mean((0, 1, 2)) / 255, atol=0.1)


def test_a_decoder_of_another_size_or_activation_is_refused():
    X = signed_images(4)
    with pytest.raises(ValueError, match=r"decoder must put out 40 numbers for Gaussian\(scale='shared'\), got"):
        model("Gaussian('shared')", ["FullyConnected(n_out=40)", "Reshape((5, 4, 2))", "Conv2D(1, 1)"]).fit(X)
    decoder = ["FullyConnected(n_out=40)", "Reshape((5, 4, 2))", "Conv2D(2, 1, act_fn='Sigmoid')"]
    with pytest.raises(ValueError, match=r"Conv2D_3 must have the activation .* of the likelihood, got Sigmoid"):
        model("Gaussian('optimal')", decoder).fit(X)


@pytest.mark.parametrize("scale", ["shared", "optimal"])
def test_a_linear_model_finds_the_density_of_its_images(scale):
    """Probabilistic principal components (Tipping & Bishop 1999): the best linear model is the distribution itself."""
    rng = np.random.default_rng(0)
    W, mean = 40 * rng.normal(size=(60, 3)), rng.normal(1000, 100, 60)
    X = mean + rng.normal(size=(6000, 3)) @ W.T + 25 * rng.normal(size=(6000, 60))
    truth = stats.multivariate_normal(mean, W @ W.T + 25**2 * np.eye(60)).logpdf(X[4000:]).mean()
    vae = cvae.VAE(
        ["Flatten()"], [], f"Gaussian('{scale}')", T=3, image_shape=(6, 5, 2), optimizer="Adam(lr=0.003)",
        batchsize=100, n_epochs=40, random_state=0, verbose=False,
    )  # fmt: skip
    estimate = vae.fit(X[:4000]).log_likelihood(X[4000:], 50).mean()
    assert estimate == pytest.approx(truth, rel=0.005)
