"""A model small enough to train in every test, its images, and comparisons of its state."""

import os
import sys

import numpy as np

from cvae import BernoulliVAE, minibatch
from cvae.random import ImageNoise

IMAGE_SHAPE = (9, 8, 1)

SMALL = {
    "T": 2,
    "latent_dim": 8,
    "enc_conv1_out_ch": 4,
    "enc_conv2_out_ch": 6,
    "enc_conv1_kernel_shape": (3, 3),
    "enc_conv2_kernel_shape": (2, 2),
    "optimizer": "Adam(lr=0.01)",
    "batchsize": 4,
    "n_epochs": 2,
    "random_state": 0,
    "verbose": False,
}


def small_vae(**changes):
    """Return an untrained model for `random_images`."""
    return BernoulliVAE(**{**SMALL, **changes})


def checked(vae):
    """Have a model check its arguments, as its first use does, and return it."""
    assert vae.history_ == {}
    return vae


def random_images(n=10, image_shape=IMAGE_SHAPE, seed=1, dtype=np.float32):
    """Return n images (n, rows, cols, channels) with values in [0, 1)."""
    return np.random.default_rng(seed).random((n, *image_shape)).astype(dtype)


def initialized(vae, image_shape=IMAGE_SHAPE):
    """Initialize a model's parameters, as `fit` does before its first batch, and return it."""
    vae.forward(np.zeros((1, *image_shape)), retain_derived=False, noise=np.zeros((1, vae.T)))
    return vae


def architecture(vae):
    """Return the arguments of the plain reference in `oracles`."""
    return {name: value for name, value in vae.get_params().items() if name.startswith("enc_")}


def by_path(components):
    """Copy the nested dictionaries of `parameters` or `gradients` to one with paths such as "encoder/FC4/b"."""
    return {
        f"{part}/{layer}/{name}": np.array(array)
        for part, layers in components["components"].items()
        for layer, arrays in layers.items()
        for name, array in arrays.items()
    }


def parameters(vae):
    """Copy all parameters by path."""
    return by_path(vae.parameters)


def layers(vae):
    """Return all layers by path, such as "encoder/Conv1"."""
    parts = {"encoder": vae.encoder, "decoder": vae.decoder}
    return {f"{part}/{name}": layer for part, of_part in parts.items() for name, layer in of_part.items()}


def set_parameters(vae, arrays):
    """Set parameters given by path."""
    for path, layer in layers(vae).items():
        own = {name: arrays[f"{path}/{name}"] for name in layer.parameters if f"{path}/{name}" in arrays}
        layer.set_params({"parameters": own})


def assert_same_bits(got, expected):
    """Assert that two dictionaries of arrays are equal bit for bit."""
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype, name
        assert got[name].tobytes() == array.tobytes(), f"{name} differs"


def assert_same_model(got, expected, X):
    """Assert that the parameters, optimizers and random numbers of two models are equal."""
    assert_same_bits(parameters(got), parameters(expected))
    got.warm_start = expected.warm_start = True
    one_more = {"n_epochs": 1, "batchsize": 3, "verbose": False}
    assert_same_bits(parameters(got.fit(X, **one_more)), parameters(expected.fit(X, **one_more)))


def steps_by_hand(vae, X, rng, *, batchsize, n_epochs):
    """Train with forward, backward and update, as `fit` does, and yield the loss of each batch.

    `rng` must be the generator that is the model's random_state.
    """
    initialized(vae, X.shape[1:])
    for _ in range(n_epochs):
        for indices in minibatch(X, batchsize, rng=rng)[0]:
            batch = X[indices]
            X_recon = vae.forward(batch)
            vae.backward(batch, X_recon)
            derived = vae.derived_variables
            y = batch.reshape(len(batch), -1)
            loss = vae.loss(y, X_recon, derived["t_mean"], derived["t_log_var"], beta=vae.beta)
            vae.update(loss)
            yield loss


def mean_is_enough(vae):
    """Set the codes' standard deviation to e^-40, so that the loss of an image does not depend on the noise."""
    b = np.zeros((1, 2 * vae.T))
    b[:, vae.T :] = -80
    W = parameters(vae)["encoder/FC5/W"]
    W[:, vae.T :] = 0
    set_parameters(vae, {"encoder/FC5/W": W, "encoder/FC5/b": b})
    return vae


def noise_of(vae, X, random_state=0, codes=1):
    """Return the noise that the methods with a `random_state` draw for images, (n, codes, T) in float64."""
    images = np.ascontiguousarray(X, vae.dtype)
    noise = ImageNoise(np.random.default_rng(random_state), vae.T, vae.dtype).draw(images, codes)
    return noise.astype(np.float64).reshape(len(images), codes, vae.T)


def subprocess_environment():
    """Return an environment in which a subprocess imports cvae and the tests' modules from the same paths."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def without_times(history):
    """Return what is saved of a history."""
    return {name: values for name, values in history.items() if name not in ("seconds", "images_per_second")}
