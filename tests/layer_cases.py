"""The layers used in tests of their common interface, and helpers that train and compare them."""

import numpy as np
import pytest

from cvae.layers import (
    BatchNorm1D,
    BatchNorm2D,
    Conv2D,
    ConvTranspose2D,
    Flatten,
    FullyConnected,
    GroupNorm,
    Pool2D,
    Reshape,
    Residual,
    Upsample2D,
)

# For each layer, a function that builds it with fixed weights, and the shape of an input.
LAYERS = {
    "Conv2D": (lambda **k: Conv2D(4, (3, 2), act_fn="Tanh", **{"random_state": 0} | k), (2, 6, 5, 3)),
    "ConvTranspose2D": (
        lambda **k: ConvTranspose2D(4, (3, 2), 2, (1, 0), 1, act_fn="Tanh", **{"random_state": 0} | k),
        (2, 4, 3, 3),
    ),
    "FullyConnected": (lambda **k: FullyConnected(4, act_fn="Tanh", **{"random_state": 0} | k), (3, 5)),
    "Pool2D max": (lambda **k: Pool2D((2, 2), **k), (2, 6, 5, 3)),
    "Pool2D average": (lambda **k: Pool2D((2, 2), mode="average", **k), (2, 6, 5, 3)),
    "Flatten": (lambda **k: Flatten(**k), (2, 6, 5, 3)),
    "Reshape": (lambda **k: Reshape((5, 9, 2), **k), (2, 6, 5, 3)),
    "Upsample2D nearest": (lambda **k: Upsample2D((2, 3), **k), (2, 3, 4, 3)),
    "Upsample2D bilinear": (lambda **k: Upsample2D((2, 3), "bilinear", **k), (2, 3, 4, 3)),
    "BatchNorm1D": (lambda **k: BatchNorm1D(act_fn="Tanh", **k), (4, 5)),
    "BatchNorm2D": (lambda **k: BatchNorm2D(act_fn="Tanh", **k), (2, 6, 5, 3)),
    "GroupNorm": (lambda **k: GroupNorm(2, act_fn="Tanh", **k), (2, 6, 5, 4)),
    "Residual": (
        lambda **k: Residual(
            ["Conv2D(3, 3, pad='same', act_fn='ReLU')", "GroupNorm(1)", "Conv2D(3, 1)"], act_fn="Tanh",
            **{"random_state": 0} | k,
        ),
        (2, 6, 5, 3),
    ),
    "Residual shortcut": (
        lambda **k: Residual(["Conv2D(4, 3, stride=2)"], "Conv2D(4, 3, stride=2)", **{"random_state": 0} | k),
        (2, 6, 5, 3),
    ),
}  # fmt: skip
# Those whose results in training are others than without.
BY_BATCH = ["BatchNorm1D", "BatchNorm2D"]
WEIGHTED = ["Conv2D", "ConvTranspose2D", "FullyConnected"]
# Those to which no input is the first.
STATELESS = ["Flatten", "Reshape", "Upsample2D nearest", "Upsample2D bilinear"]
every_layer = pytest.mark.parametrize("name", LAYERS)
layers_by_example = pytest.mark.parametrize("name", [name for name in LAYERS if name not in BY_BATCH])
weighted_layers = pytest.mark.parametrize("name", WEIGHTED)

ACTIVATIONS = [
    "ReLU", "LeakyReLU(alpha=0.3)", "GELU(approximate=True)", "GELU(approximate=False)", "ELU(alpha=0.7)", "SELU",
    "Sigmoid", "HardSigmoid", "Tanh", "SoftPlus", "Exponential", "Affine(slope=2, intercept=-1)", "Identity",
]  # fmt: skip


def build(name, **changes):
    return LAYERS[name][0](**changes)


def batch(name, seed=0, n=None):
    shape = LAYERS[name][1]
    return np.random.default_rng(seed).normal(size=shape if n is None else (n, *shape[1:]))


def train(layer, X, steps, first=0):
    for i in range(first, first + steps):
        layer.backward(np.cos(i + layer.forward(X)))
        layer.update(cur_loss=1.0)


def arrays_of(layer):
    return {name: np.array(array) for name, array in layer.parameters.items()}


def assert_same_arrays(got, expected):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)


def state(layer):
    """Return the state of a layer in a comparable form."""
    lists = {name: len(values) for name, values in layer.derived_variables.items()}
    return repr((layer.hyperparameters, lists, len(layer.X), arrays_of(layer), layer.gradients))
