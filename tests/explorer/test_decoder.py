"""The explorer's decoder in JavaScript draws the images of `VAE.decode`: every layer, activation and likelihood."""

import json
from pathlib import Path

import numpy as np
import pytest
from py_mini_racer import MiniRacer
from small_vae import random_images, small_vae

from cvae import VAE, layers, likelihoods
from cvae.activations import ActivationBase
from cvae.explorer import network
from cvae.explorer.network import base64_of, network_of
from cvae.layers import BatchNorm1D, FullyConnected
from cvae.likelihoods import Bernoulli, Likelihood
from cvae.nn.activations import ACTIVATIONS

SOURCE = (Path(network.__file__).parent / "decoder.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def engine():
    """A JavaScript engine that knows the decoder, and nothing of a page."""
    engine = MiniRacer()
    engine.eval(SOURCE)
    return engine


def fitted(X, **arguments):
    settings = {"T": 3, "encoder": ["Flatten()"], "n_epochs": 1, "batchsize": 8, "random_state": 0, "verbose": False}
    labels = np.arange(len(X)) % 3 if "condition" in arguments else None
    if arguments.get("condition") == "values":
        labels = np.random.default_rng(0).normal(size=(len(X), 2))
    return VAE(**{**settings, **arguments}).fit(X, labels)


def assert_draws_the_same(engine, vae, y=None, labels=None):
    """Compare pictures of random codes, from 0 to 1: JavaScript, which gets `labels`, and `decode`, which gets y."""
    described, weights = network_of(vae)
    codes = np.random.default_rng(1).normal(size=(3, vae.T)).astype(np.float32)
    call = "JSON.stringify({}.map((code) => Array.from(asPicture(network, decode(network, weights, code, {})))))"
    engine.eval(f"network = {json.dumps(described)}; weights = floatsOf('{weights}'); 0")
    found = np.array(json.loads(engine.eval(call.format(json.dumps(codes.tolist()), json.dumps(labels)))))
    expected = vae._as_pictures(vae.decode(codes, y)).reshape(3, -1)
    assert np.ptp(expected, axis=0).max() > 0  # codes make a difference
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)
    return found


def test_no_layer_and_no_likelihood_is_left_out():
    assert {layer.__name__ for layer in network._STEPS} == {*layers.__all__} - {"LayerBase"}
    public = {name: thing for name, thing in vars(likelihoods).items() if not name.startswith("_")}
    own = {thing for thing in public.values() if isinstance(thing, type) and issubclass(thing, Likelihood)}
    assert set(network._MEANS) == own - {Likelihood}


IMAGES = random_images(20, (8, 12, 3))
DECODERS = {
    "dense": ["FullyConnected(7, act_fn='ReLU')"],
    "conv": ["FullyConnected(48)", "Reshape((8, 6, 1))", "Conv2D(4, (3, 2), pad='same', act_fn='Tanh')",
             "Conv2D(3, 3, stride=2, pad=1, dilation=1)", "Flatten()"],
    "transposed": ["FullyConnected(24)", "Reshape((2, 3, 4))",
                   "ConvTranspose2D(5, 3, stride=2, pad='same', act_fn='ELU')",
                   "ConvTranspose2D(3, (4, 5), stride=2, pad=(1, 2), output_pad=1, dilation=0)",
                   "Conv2D(3, (1, 2), pad=(0, 1, 0, 2))", "Flatten()"],
    "dilated": ["FullyConnected(24)", "Reshape((4, 6, 1))",
                "ConvTranspose2D(2, 3, stride=2, pad=2, output_pad=1, dilation=1)", "Conv2D(3, 3, pad='same')"],
    "upsampled": ["FullyConnected(24)", "Reshape((4, 2, 3))", "Upsample2D((2, 3))", "Upsample2D((1, 2), 'bilinear')",
                  "Conv2D(3, 3, pad='same')"],
    "bilinear": ["FullyConnected(18)", "Reshape((2, 3, 3))", "Upsample2D(4, mode='bilinear')", "Conv2D(3, 1)"],
    "pooled": ["FullyConnected(768)", "Reshape((16, 24, 2))", "Pool2D(3, stride=2, pad=1)",
               "Pool2D((2, 3), pad=(1, 0, 1, 1), mode='average')", "Conv2D(3, 1)"],
    "normalized": ["FullyConnected(8)", "BatchNorm1D(act_fn='ReLU')", "FullyConnected(24)", "Reshape((2, 3, 4))",
                   "ConvTranspose2D(6, 4, stride=4)", "BatchNorm2D(act_fn='LeakyReLU')", "GroupNorm(3, act_fn='ReLU')",
                   "GroupNorm(6)", "GroupNorm(1)", "Conv2D(3, 1)"],
    "residual": ["FullyConnected(96)", "Reshape((8, 12, 1))",
                 "Residual(['Conv2D(4, 3, pad=\\'same\\')', 'BatchNorm2D()'], shortcut='Conv2D(4, 1)', act_fn='ReLU')",
                 "Residual(['GroupNorm(2, act_fn=\\'GELU\\')', 'Conv2D(4, 3, pad=\\'same\\')'])", "Flatten()",
                 "Reshape((8, 12, 4))", "Conv2D(3, 1)"],
    "deep": ["FullyConnected(4)",
             "Residual(['Residual([\\'FullyConnected(4)\\'], act_fn=\\'Tanh\\')', 'FullyConnected(4)'])"],
}  # fmt: skip


@pytest.mark.parametrize("name", DECODERS)
def test_every_layer(name, engine):
    assert_draws_the_same(engine, fitted(IMAGES, decoder=DECODERS[name]))


@pytest.mark.parametrize("architecture", ["auto", "mlp", "keras", "numpy-ml"])
def test_networks_by_name(architecture, engine):
    X = random_images(16, (28, 28, 1))
    assert_draws_the_same(engine, fitted(X, encoder=architecture, decoder=architecture))


def test_the_model_of_numpy_ml(engine):
    assert_draws_the_same(engine, small_vae().fit(random_images()))
    assert_draws_the_same(engine, small_vae(dtype="float64").fit(random_images()))


CALLS = {name: name for name in ACTIVATIONS} | {
    "LeakyReLU": "LeakyReLU(alpha=0.05)", "ELU": "ELU(alpha=0.7)", "Affine": "Affine(slope=-2, intercept=0.3)",
    "exact GELU": "GELU(approximate=False)",
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_every_activation(name, engine):
    decoder = ["FullyConnected(16)", f"FullyConnected(16, act_fn='{CALLS[name]}')"]
    vae = fitted(IMAGES, decoder=decoder)
    vae.decoder_["FullyConnected_1"].parameters["W"][:] *= 4  # values at which activations differ
    assert_draws_the_same(engine, vae)


LIKELIHOODS = [
    "Bernoulli", "ContinuousBernoulli", "DiscretizedLogistic", "Gaussian(scale=0.3)", "Gaussian('pixel')",
    "Gaussian('shared')", "Gaussian('optimal')", "Laplace('pixel')", "Laplace('optimal')",
]  # fmt: skip


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood(likelihood, engine):
    X = (IMAGES * 255).astype(np.uint8)
    assert_draws_the_same(engine, fitted(X, likelihood=likelihood, decoder="mlp"))


@pytest.mark.parametrize("value_range", [(-20, 180), "data", None])
def test_pixels_of_any_range(value_range, engine):
    likelihood = "Gaussian('optimal')" if value_range is None else "Bernoulli"
    vae = fitted(200 * IMAGES - 20, likelihood=likelihood, decoder="mlp", value_range=value_range)
    pictures = assert_draws_the_same(engine, vae)
    assert 0.2 < pictures.mean() < 0.8
    code = [0.5, -1, 2]
    found = json.loads(engine.eval(f"JSON.stringify(Array.from(decode(network, weights, {code}, null)))"))
    np.testing.assert_allclose(found, vae.decode([code]).ravel(), rtol=1e-3, atol=0.05)


def test_labels(engine):
    vae = fitted(IMAGES, decoder="mlp", condition="classes")
    first = assert_draws_the_same(engine, vae, 0, [1, 0, 0])
    assert np.abs(first - assert_draws_the_same(engine, vae, 2, [0, 0, 1])).max() > 0
    decoder = ["FullyConnected(96)", "Reshape((8, 12, 1))", "Condition()", "Conv2D(3, 1)"]
    vae = fitted(IMAGES, decoder=decoder, condition="values")
    assert_draws_the_same(engine, vae, [0.5, -2], [0.5, -2])


def test_base64_of_any_length(engine):
    for n in range(9):
        values = np.arange(n, dtype=np.float32) / 3 - 1
        text = engine.eval(f"JSON.stringify(Array.from(floatsOf('{base64_of(values)}')))")
        np.testing.assert_array_equal(np.array(json.loads(text), np.float32), values)
        octets = np.arange(n, dtype=np.uint8) * 31
        assert json.loads(engine.eval(f"JSON.stringify(Array.from(bytesOf('{base64_of(octets)}')))")) == octets.tolist()


class Cube(ActivationBase):
    """z cubed."""

    def _fn(self, x):
        return x**3

    def _grad(self, x):
        return 3 * x**2

    def _grad2(self, x):
        return 6 * x


class Doubled(FullyConnected):
    """A layer of the user's own."""


class Coin(Bernoulli):
    """A likelihood of the user's own."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoder": [Doubled(4)]}, "layers of the decoder must be FullyConnected, .* for an explorer, got Doubled"),
        ({"decoder": [BatchNorm1D(act_fn=Cube())]}, "activations of the decoder must be those of cvae"),
        ({"decoder": "mlp", "likelihood": Coin()}, "likelihood must be one of Bernoulli, .* for an explorer, got Coin"),
    ],
    ids=["layer", "activation", "likelihood"],
)
def test_formulas_of_the_users_own_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        network_of(fitted(IMAGES, **arguments))
