"""Models of every likelihood: which images they take, how they train, their gradients, files and units."""

import math
import re

import numpy as np
import pytest
from small_vae import assert_same_bits, by_path, random_images

import cvae
from cvae.likelihoods import (
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    Likelihood,
    bits_per_dimension,
)
from cvae.nn.activations import Identity
from cvae.parsing import made, subclasses_by_name

IMAGE_SHAPE = (5, 4, 2)
CALLS = [
    "ContinuousBernoulli",
    "Gaussian(scale=0.1)",
    "Gaussian(scale='pixel')",
    "Gaussian(scale='shared')",
    "Gaussian(scale='optimal')",
    "Laplace(scale=0.2)",
    "Laplace(scale='pixel')",
    "Laplace(scale='shared')",
    "Laplace(scale='optimal')",
    "DiscretizedLogistic",
]
each_likelihood = pytest.mark.parametrize("likelihood", CALLS)


def make_likelihood(call):
    return made(call, Likelihood, "likelihood")


def model(likelihood, dtype="float32", **changes):
    encoder = ["Conv2D(out_ch=3, kernel_shape=2, act_fn='Tanh')", "Flatten()"]
    decoder = ["FullyConnected(n_out=16, act_fn='SoftPlus')"]
    fixed = {"T": 2, "optimizer": "Adam(lr=0.01)", "n_epochs": 2, "batchsize": 4, "random_state": 0, "verbose": False}
    return cvae.VAE(encoder, decoder, likelihood, dtype=dtype, **{"warm_start": True, **fixed, **changes})


def structured_images(n=32, dtype=np.uint8):
    """Return images with a gradient whose brightness differs from image to image."""
    rng = np.random.default_rng(0)
    brightness = rng.uniform(0.2, 1, (n, 1, 1, 1)) * np.linspace(0, 1, 40).reshape(IMAGE_SHAPE)
    return np.rint(255 * brightness).astype(dtype)


def test_these_are_all_likelihoods():
    own = {name for name, cls in subclasses_by_name(Likelihood).items() if cls.__module__ == "cvae.likelihoods"}
    assert own == {"Bernoulli", *(call.partition("(")[0] for call in CALLS)}


@each_likelihood
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_lowers_the_loss(likelihood, dtype):
    X = structured_images()
    vae = model(likelihood, dtype).fit(X, n_epochs=60)
    assert np.mean(vae.history_["loss"][-3:]) < np.mean(vae.history_["loss"][:3]) - 2
    assert np.isfinite(vae.log_likelihood(X[:3], 20)).all()
    images = vae.reconstruct(X)
    assert images.shape == X.shape
    # Closer to each image than the mean of all.
    assert np.square(images - X / 255).mean() < np.square(X.mean(0) / 255 - X / 255).mean()
    for images in (vae.sample(5), vae.decode(np.full((1, 2), 1e4))):
        assert np.isfinite(images).all()
        if likelihood in ("ContinuousBernoulli", "DiscretizedLogistic"):
            assert images.min() >= 0
            assert images.max() <= 1


@each_likelihood
def test_a_model_is_saved_and_goes_on_with_the_same_bits(likelihood, tmp_path):
    X = structured_images(8)
    vae = model(likelihood).fit(X)
    vae.save(tmp_path / "model.safetensors")
    loaded = cvae.load(tmp_path / "model.safetensors")
    assert make_likelihood(loaded.likelihood) == make_likelihood(likelihood)
    np.testing.assert_array_equal(loaded.decode(np.ones((3, 2))), vae.decode(np.ones((3, 2))))
    np.testing.assert_array_equal(loaded.elbo(X), vae.elbo(X))
    assert_same_bits(by_path(loaded.fit(X).parameters), by_path(vae.fit(X).parameters))


@each_likelihood
def test_gradients_by_hand_are_finite_differences_of_the_loss(likelihood):
    X, noise = structured_images(4), np.random.default_rng(0).standard_normal((4, 2))
    vae = model(likelihood, "float64")

    def loss():
        passes = vae._passes(4, training=True)
        passes.images[:], passes.noise[:] = (X / 255 - vae.pixel_offset_) / vae.pixel_scale_, noise
        return vae._objective.loss(passes.loss(4)) / 4

    vae.backward(X, vae.forward(X, noise=noise))
    rng, gradients = np.random.default_rng(1), by_path(vae.gradients)
    assert len(gradients) == (9 if "shared" in likelihood else 8)
    for path, gradient in gradients.items():
        layer, _, name = path.rpartition("/")
        array = vae._layers()[layer].parameters[name]
        for index in rng.permutation(array.size)[:6]:
            before, losses = array.flat[index], []
            for sign in (1, -1):
                array.flat[index] = before + sign * 1e-6
                losses.append(loss())
            array.flat[index] = before
            difference = (losses[0] - losses[1]) / 2e-6
            assert gradient.flat[index] == pytest.approx(difference, rel=1e-5, abs=1e-6), path


@each_likelihood
def test_fit_takes_the_steps_of_forward_backward_and_update(likelihood):
    X, rngs = structured_images(4), [np.random.default_rng(3) for _ in range(2)]
    by_hand, fitted = (model(likelihood, random_state=rng) for rng in rngs)
    for vae in (by_hand, fitted):
        vae.forward(X, retain_derived=False, noise=np.zeros((4, 2)))  # creates the parameters
    fitted.fit(X, n_epochs=3, batchsize=2)
    for _ in range(3):
        for indices in cvae.minibatch(X, 2, rng=rngs[0])[0]:
            by_hand.backward(X[indices], by_hand.forward(X[indices]))
            by_hand.update()
    assert_same_bits(by_path(by_hand.parameters), by_path(fitted.parameters))


# ---------------------------------------------------------- the decoder's outputs


@each_likelihood
def test_outputs_and_mean_images(likelihood):
    X, Z = structured_images(4), np.random.default_rng(0).standard_normal((3, 2))
    vae = model(likelihood, "float64").fit(X)
    outputs = Z
    for layer in vae.decoder_.values():
        outputs = layer.forward(outputs, retain_derived=False)
    pixels = math.prod(IMAGE_SHAPE)
    if "Scale" in vae.decoder_:
        outputs = outputs[:, :-1]
    two = "pixel" in likelihood or likelihood == "DiscretizedLogistic"
    assert outputs.shape[1] == make_likelihood(likelihood).n_outputs(IMAGE_SHAPE) == pixels * (2 if two else 1)
    mean = outputs[:, ::2] if two else outputs
    if likelihood == "ContinuousBernoulli":
        mean = 1 / (1 - np.exp(-mean)) - 1 / mean
    elif likelihood == "DiscretizedLogistic":
        mean = np.clip(mean, 0, 1)
    mean = (mean.reshape(-1, 2) * vae.pixel_scale_ + vae.pixel_offset_).reshape(3, pixels)
    np.testing.assert_allclose(vae.decode(Z).reshape(3, pixels), mean, rtol=1e-9, atol=1e-12)
    assert make_likelihood(likelihood).activation == Identity()


def test_a_pixel_that_never_changes_is_no_reason_to_diverge():
    X = np.zeros((8, *IMAGE_SHAPE), np.float32)
    for likelihood, least in (("Gaussian('pixel')", -7.1), ("Laplace('pixel')", -7.4), ("DiscretizedLogistic", 0)):
        vae = model(likelihood, optimizer="Adam(lr=0.1)").fit(X, n_epochs=200)
        assert np.isfinite(vae.history_["loss"]).all()
        assert min(vae.history_["reconstruction"]) >= 40 * least


# ------------------------------------------------------------- images and arguments


@pytest.mark.parametrize("likelihood", CALLS[1:9])
@pytest.mark.parametrize("dtype", ["bool", "int16", "int64", "uint16", ">f4", "float16", "float64"])
def test_gaussian_and_laplace_take_numbers_as_they_are(likelihood, dtype):
    X = (10 * random_images(6, IMAGE_SHAPE) - (0 if dtype in ("bool", "uint16") else 5)).astype(dtype)
    vae = model(likelihood, "float64").fit(X, n_epochs=1)
    np.testing.assert_array_equal(vae.elbo(X), vae.elbo(X.astype(np.float64)))


@each_likelihood
def test_bytes_are_scaled(likelihood):
    X = structured_images(6)
    vae = model(likelihood).fit(X, n_epochs=1)
    np.testing.assert_array_equal(vae.elbo(X), vae.elbo(X.astype(np.float32) / np.float32(255)))


@each_likelihood
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_no_likelihood_takes(likelihood, value):
    X = structured_images(6) / 255
    X[2, 1, 3, 0] = value
    got = "NaN" if np.isnan(value) else re.escape(str(value))
    with pytest.raises(ValueError, match=f"X must hold .*, got {got} in image 2 at row 1, column 3"):
        model(likelihood).fit(X)


def test_what_was_expected_is_said():
    X = np.full((2, 3, 3, 1), 2.0)
    Gaussian().check(X, "X")
    with pytest.raises(ValueError, match=r"Y must hold values in \[0, 1\] .*, got 2.0 in image 0"):
        ContinuousBernoulli().check(X, "Y")
    with pytest.raises(ValueError, match=r"Y must hold finite values, at most 3.4e\+38 in size, got NaN in image 0"):
        Laplace().check(X * np.nan, "Y")
    with pytest.raises(ValueError, match=r"Y must hold values in \[0, 1\] .*, got 2.0 in image 0"):
        DiscretizedLogistic().check(X, "Y")
    message = "Y must hold multiples of 1/255, as uint8 divided by 255 gives, got 0.5 in image 0 at row 0, column 0"
    with pytest.raises(ValueError, match=re.escape(message)):
        DiscretizedLogistic().check(X / 4, "Y")


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", ">f8", "longdouble"])
def test_all_bytes_are_multiples_of_1_255_and_values_between_are_not(dtype):
    bytes_ = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    if dtype == "uint8":
        DiscretizedLogistic().check(bytes_, "X")
        return
    DiscretizedLogistic().check((bytes_ / 255).astype(dtype), "X")
    DiscretizedLogistic().check((bytes_ / np.float32(255)).astype(dtype), "X")
    with pytest.raises(ValueError, match="X must hold multiples of 1/255"):
        DiscretizedLogistic().check(((bytes_[:, 1:] - 0.5) / 255).astype(dtype), "X")


def test_black_and_white_are_multiples_too():
    for X in (np.eye(4) > 0, np.eye(4, dtype=np.int64)):
        DiscretizedLogistic().check(X.reshape(1, 4, 4, 1), "X")


@pytest.mark.parametrize("cls", [Gaussian, Laplace])
def test_scales(cls):
    assert str(cls()) == f"{cls.__name__}(scale=1.0)"
    assert make_likelihood(f"{cls.__name__}('pixel')") == cls(scale="pixel") != cls(1)
    for wrong in (0, -1, math.inf, math.nan, 1e-16):
        with pytest.raises(ValueError, match=r"scale must be a number in \[1e-15, 1e15\], got"):
            cls(wrong)
    for wrong in (None, True, [1]):
        with pytest.raises(TypeError, match=r"scale must be a number in \[1e-15, 1e15\], got"):
            cls(wrong)
    with pytest.raises(ValueError, match="scale must be a number, 'pixel', 'shared' or 'optimal', got 'best'"):
        cls("best")


def test_bits_per_dimension():
    nats = np.array([0.0, math.log(2), 75 * math.log(2)])
    np.testing.assert_allclose(bits_per_dimension(nats, (5, 5, 3)), [0, 1 / 75, 1], rtol=1e-15)
    assert bits_per_dimension(25 * math.log(256), (5, 5)) == pytest.approx(8)
    with pytest.raises(ValueError, match="image_shape must be 2 or 3 ints >= 1"):
        bits_per_dimension(nats, (5,))
