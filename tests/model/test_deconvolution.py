"""Models whose decoders draw: reshaped codes, transposed convolutions, upsampling, and no dense layer at the end."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from small_vae import assert_same_bits, by_path, random_images, subprocess_environment

import cvae
from cvae import NotFittedError, layers
from cvae.layers import Conv2D, ConvTranspose2D, FullyConnected

IMAGE_SHAPE = (8, 12, 2)
ENCODER = ["Conv2D(out_ch=4, kernel_shape=3, stride=2, act_fn='ReLU')", "Flatten()"]
DENSE = ["FullyConnected(n_out=18, act_fn='SoftPlus')", "Reshape((2, 3, 3))"]
DECODERS = {
    "transposed": [
        *DENSE, "ConvTranspose2D(out_ch=5, kernel_shape=3, stride=2, pad='same', act_fn='Tanh')",
        "ConvTranspose2D(out_ch=2, kernel_shape=(4, 3), stride=2, pad='same')",
    ],
    "upsampled": [
        *DENSE, "Upsample2D(2)", "Conv2D(out_ch=4, kernel_shape=3, pad='same', act_fn='SoftPlus')",
        "Upsample2D((2, 2), mode='bilinear')", "Conv2D(out_ch=2, kernel_shape=3, pad='same')",
    ],
    "reshaped at once": ["Reshape((1, 1, 2))", "ConvTranspose2D(out_ch=2, kernel_shape=(8, 12))"],
    "with the likelihood's activation": [
        *DENSE, "ConvTranspose2D(out_ch=2, kernel_shape=4, stride=4, act_fn='Sigmoid')",
    ],
}  # fmt: skip
each_decoder = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS.keys())
ARGUMENTS = {"T": 2, "optimizer": "Adam(lr=0.01)", "batchsize": 4, "n_epochs": 2, "random_state": 0, "verbose": False}


def make(decoder, **changes):
    return cvae.VAE(ENCODER, decoder, **{"warm_start": True, **ARGUMENTS, **changes})


def arrays(vae):
    return by_path(vae.parameters)


def loss_of(vae, X, noise):
    """The loss of images with given noise, as training computes it."""
    passes = vae._passes(len(X), training=True)
    passes.images[: len(X)], passes.noise[: len(noise)] = X, noise
    return vae._objective.loss(passes.loss(len(X))) / len(X)


@each_decoder
def test_no_dense_layer_is_added_to_what_puts_out_images(decoder):
    vae = make(decoder).fit(random_images(8, IMAGE_SHAPE))
    assert len(vae.decoder_) == len(decoder)
    assert "Output" not in vae.decoder_


def test_a_dense_layer_is_added_to_all_else():
    flat = ["Reshape((1, 1, 2))", "ConvTranspose2D(out_ch=2, kernel_shape=3)", "Flatten()"]
    for decoder in ([], ["FullyConnected(n_out=3)"], ["Reshape(2)"], flat):
        vae = make(decoder).fit(random_images(8, IMAGE_SHAPE), n_epochs=1)
        assert next(reversed(vae.decoder_)) == "Output"
        assert vae.decode(np.zeros((3, 2))).shape == (3, *IMAGE_SHAPE)


@each_decoder
def test_all_gradients_are_finite_differences_of_the_loss(decoder):
    X = random_images(3, IMAGE_SHAPE, dtype=np.float64)
    noise = np.random.default_rng(0).standard_normal((3, 2))
    vae = make(decoder, dtype="float64")
    vae.backward(X, vae.forward(X, noise=noise))
    rng, h = np.random.default_rng(1), 1e-6
    for path, gradient in by_path(vae.gradients).items():
        layer, _, name = path.rpartition("/")
        array = vae._layers()[layer].parameters[name]
        assert gradient.any()
        for index in rng.permutation(array.size)[:8]:
            before, losses = array.flat[index], []
            for sign in (1, -1):
                array.flat[index] = before + sign * h
                losses.append(loss_of(vae, X, noise))
            array.flat[index] = before
            difference = (losses[0] - losses[1]) / (2 * h)
            assert gradient.flat[index] == pytest.approx(difference, rel=1e-5, abs=1e-7), path


@each_decoder
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fit_takes_the_steps_of_forward_backward_and_update(decoder, dtype):
    X = random_images(4, IMAGE_SHAPE, dtype=dtype)
    rngs = [np.random.default_rng(3) for _ in range(2)]
    by_hand, fitted = (make(decoder, random_state=rng, dtype=dtype) for rng in rngs)
    for vae in (by_hand, fitted):
        vae.forward(X, retain_derived=False, noise=np.zeros((4, 2)))  # creates the parameters
    fitted.fit(X, n_epochs=3, batchsize=2)
    for _ in range(3):
        for indices in cvae.minibatch(X, 2, rng=rngs[0])[0]:
            by_hand.backward(X[indices], by_hand.forward(X[indices]))
            by_hand.update()
    assert_same_bits(arrays(by_hand), arrays(fitted))


@each_decoder
def test_the_number_of_threads_does_not_matter(decoder):
    X = random_images(16, IMAGE_SHAPE)
    one = make(decoder, n_threads=1, batchsize=16).fit(X)
    for n_threads in (2, 3):
        other = make(decoder, n_threads=n_threads, batchsize=16).fit(X)
        assert_same_bits(arrays(other), arrays(one))
        np.testing.assert_array_equal(other.elbo(X), one.elbo(X))


@each_decoder
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_model_goes_on_with_the_same_bits(decoder, dtype, tmp_path):
    X = random_images(8, IMAGE_SHAPE)
    vae = make(decoder, dtype=dtype).fit(X)
    vae.save(tmp_path / "model.safetensors")
    loaded = cvae.load(tmp_path / "model.safetensors")
    assert list(loaded.decoder_) == list(vae.decoder_)
    np.testing.assert_array_equal(loaded.decode(np.ones((3, 2))), vae.decode(np.ones((3, 2))))
    assert_same_bits(arrays(loaded.fit(X)), arrays(vae.fit(X)))


@each_decoder
def test_inference_is_that_of_the_layers(decoder):
    X = random_images(5, IMAGE_SHAPE, dtype=np.float64)
    vae = make(decoder, dtype="float64").fit(X)
    Z = vae.encode(X)[0]
    outputs = Z
    for layer in vae.decoder_.values():
        outputs = (layer.without_activation() or layer).forward(outputs, retain_derived=False)
        if layer.act_fn is not None and layer is not list(vae.decoder_.values())[-1]:
            outputs = layer.act_fn.fn(outputs)
    images = vae.decode(Z)
    assert images.shape == X.shape
    np.testing.assert_allclose(images, 1 / (1 + np.exp(-outputs)), rtol=1e-10)
    assert vae.sample(3).shape == (3, *IMAGE_SHAPE)
    assert vae.reconstruct(X).shape == X.shape
    assert np.isfinite(vae.elbo(X)).all()
    assert np.isfinite(vae.log_likelihood(X, 7)).all()


@each_decoder
def test_derived_variables_are_the_gradients_of_the_layers(decoder):
    X = random_images(3, IMAGE_SHAPE, dtype=np.float64)
    vae = make(decoder, dtype="float64")
    vae.backward(X, vae.forward(X))
    derived, gradients = vae.derived_variables, by_path(vae.gradients)
    names = list(vae.decoder_)
    for below, name in itertools.pairwise(names):
        assert derived[f"dDecoder_{below}_out"].shape == vae.decoder_[name].X[0].shape
    # A bias has the sum of the gradients of the pre-activation.
    first = vae.decoder_[names[0]]
    assert derived[f"dDecoder_{names[0]}_in"].shape == (3, 2)
    if isinstance(first, FullyConnected):
        dZ = derived[f"dDecoder_{names[0]}_out"] * first.act_fn.grad(derived["components"]["decoder"][names[0]]["Z"][0])
        np.testing.assert_allclose(gradients[f"decoder/{names[0]}/b"][0], dZ.sum(0), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (DECODERS["transposed"][:-1], r"decoder must put out 192 numbers for Bernoulli, got the shape \(4, 6, 5\)"),
        (
            ["Reshape((1, 1, 3))", "ConvTranspose2D(out_ch=2, kernel_shape=3)"],
            r"Reshape to \(1, 1, 3\) must get 3 numb",
        ),
        (["ConvTranspose2D(out_ch=2, kernel_shape=3)"], r"decoder/ConvTranspose2D_1 must get arrays of 4 dimensions"),
        ([*DENSE, "Upsample2D(4)"], r"decoder/Output must get arrays of 2 dimensions, got \(n, 8, 12, 3\)"),
        ([*DENSE, "ConvTranspose2D(2, 4, 4, act_fn='ReLU')"], "must have the activation Sigmoid of the likelihood"),
    ],
)
def test_decoders_that_do_not_fit_are_refused_before_anything_is_made(decoder, message):
    vae = make(decoder)
    with pytest.raises(ValueError, match=message):
        vae.fit(random_images(4, IMAGE_SHAPE))
    with pytest.raises(NotFittedError):
        vae.encode(random_images(4, IMAGE_SHAPE))
    assert all(value is None for layer in vae._layers().values() for value in layer.parameters.values())


def test_all_layers_are_known_by_name_to_a_program_that_imports_the_package_alone():
    names = [name for name in layers.__all__ if name != "LayerBase"]
    program = f"""
import cvae
for name in {names!r}:
    try:
        cvae.VAE([f"{{name}}(wrong=1)"], [])
    except ValueError as error:
        assert "takes" in str(error), error
"""
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, env=subprocess_environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_it_learns_digits():
    digits = cvae.datasets.load("mnist-sample")
    decoder = [
        FullyConnected(7 * 7 * 16, act_fn="ReLU"), "Reshape((7, 7, 16))",
        ConvTranspose2D(16, 3, 2, pad="same", act_fn="ReLU"), ConvTranspose2D(1, 3, 2, pad="same"),
    ]  # fmt: skip
    encoder = [Conv2D(16, 3, stride=2, act_fn="ReLU"), Conv2D(16, 3, stride=2, act_fn="ReLU"), "Flatten()"]
    vae = cvae.VAE(encoder, decoder, T=10, random_state=0, verbose=False, batchsize=64)
    vae.forward(digits.images[:1])
    before = -vae.elbo(digits.test_images[:500]).mean()
    vae.fit(digits.images, n_epochs=3)
    after = -vae.elbo(digits.test_images[:500]).mean()
    assert before > 500
    assert after < 220
