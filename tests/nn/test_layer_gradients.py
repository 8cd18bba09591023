"""The gradients of whole layers, compared with finite differences of their outputs."""

import numpy as np
import pytest
from layer_cases import ACTIVATIONS

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


def assert_gradients_are_differences(layer, X):
    """Compare a layer's gradients in training with central differences of sum(dY * output), element by element."""
    rng = np.random.default_rng(5)
    dY = rng.normal(size=layer.forward(X).shape)
    analytic = {"X": layer.backward(dY), **layer.gradients}
    parameters = {name: layer.parameters[name] for name in layer.gradients}
    for name, array in {"X": X, **parameters}.items():
        numerical = np.empty_like(array)
        for index in np.ndindex(*array.shape):
            value, losses = array[index], []
            for step in (1e-5, -1e-5):
                array[index] = value + step
                losses.append((dY * layer.forward(X)).sum())
                layer._retained.pop()
            array[index] = value
            numerical[index] = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(analytic[name], numerical, rtol=0, atol=2e-9 * max(1, np.abs(numerical).max()))


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
def test_gradients_of_fully_connected_are_differences(act_fn):
    layer = FullyConnected(3, act_fn, dtype="float64", init="std_normal", random_state=0)
    assert_gradients_are_differences(layer, np.random.default_rng(6).normal(size=(4, 5)))


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
def test_gradients_of_conv2d_are_differences(act_fn):
    layer = Conv2D(3, (3, 2), pad=(1, 0, 2, 1), stride=2, dilation=1, act_fn=act_fn, dtype="float64", random_state=1)
    assert_gradients_are_differences(layer, np.random.default_rng(7).normal(size=(2, 6, 5, 2)))


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
def test_gradients_of_conv_transpose2d_are_differences(act_fn):
    layer = ConvTranspose2D(3, (3, 2), 2, (1, 0, 2, 1), 1, dilation=1, act_fn=act_fn, dtype="float64", random_state=1)
    X = np.random.default_rng(7).normal(size=(2, 4, 3, 2))
    layer.initialize(X.shape)
    layer.set_params({"b": [[[[0.3, -0.2, 0.1]]]]})  # where no pixel reaches, 0 would be the kink of an activation
    assert_gradients_are_differences(layer, X)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("out_ch", [1, 6])
def test_gradients_of_conv_transpose2d_by_winograds_algorithm_are_differences(out_ch, stride):
    layer = ConvTranspose2D(
        out_ch, (3, 2), stride, "same", act_fn="ReLU", algorithm="winograd", dtype="float64", random_state=1
    )
    assert_gradients_are_differences(layer, np.random.default_rng(7).normal(size=(2, 4, 3, 2)))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("factor", [1, (2, 3), (4, 1)])
def test_gradients_of_upsample2d_are_differences(mode, factor):
    layer = Upsample2D(factor, mode, dtype="float64")
    assert_gradients_are_differences(layer, np.random.default_rng(8).normal(size=(2, 3, 4, 2)))


def test_gradients_of_reshape_are_differences():
    assert_gradients_are_differences(Reshape((3, 4), dtype="float64"), np.random.default_rng(9).normal(size=(2, 6, 2)))


@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, (1, 0, 2, 1)), (1, "same")])
def test_gradients_of_pool2d_are_differences(mode, stride, pad):
    layer = Pool2D((3, 2), stride, pad, mode, dtype="float64")
    assert_gradients_are_differences(layer, np.random.default_rng(8).normal(size=(2, 5, 4, 2)))


@pytest.mark.parametrize("keep_dim", ["first", "last", -1])
def test_gradients_of_flatten_are_differences(keep_dim):
    assert_gradients_are_differences(
        Flatten(keep_dim, dtype="float64"), np.random.default_rng(9).normal(size=(2, 3, 2))
    )


def with_parameters(layer, X):
    """Give a layer parameters that are not those it starts with."""
    rng = np.random.default_rng(3)
    layer.initialize(X.shape)
    random = {name: rng.uniform(0.5, 1.5, array.shape) for name, array in layer.parameters.items()}
    return layer.set_params({"parameters": random})


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_gradients_of_batch_normalization_are_differences(act_fn, frozen):
    rng = np.random.default_rng(10)
    for make, X in ((BatchNorm1D, rng.normal(size=(5, 3))), (BatchNorm2D, rng.normal(size=(2, 3, 2, 3)))):
        layer = with_parameters(make(act_fn=act_fn, epsilon=0.1, dtype="float64"), X)
        if frozen:
            layer.freeze()
            layer.gradients = {}
        assert_gradients_are_differences(layer, X)


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gradients_of_group_normalization_are_differences(act_fn, groups):
    X = np.random.default_rng(11).normal(size=(2, 3, 2, 4))
    assert_gradients_are_differences(with_parameters(GroupNorm(groups, 0.1, act_fn, dtype="float64"), X), X)


@pytest.mark.parametrize("act_fn", [None, "ReLU", "Tanh"])
@pytest.mark.parametrize(
    ("layers", "shortcut"),
    [
        (["Conv2D(2, 3, pad='same', act_fn='ReLU')", "BatchNorm2D(act_fn='Tanh')", "Conv2D(3, 1)"], None),
        (["GroupNorm(3, act_fn='ReLU')"], None),
        (["Conv2D(2, 3, stride=2, act_fn='SoftPlus')"], "Conv2D(2, 3, stride=2, act_fn='ReLU')"),
        (["Residual([Conv2D(3, 1, act_fn='ReLU')])", "Residual([Conv2D(4, 1)], Conv2D(4, 1))"], "Conv2D(4, 1)"),
        (["Flatten()", "FullyConnected(60, act_fn='Tanh')", "Reshape((5, 4, 3))"], None),
        (["Flatten()"], "Reshape(60)"),
        (["Reshape((4, 5, 3))", "Reshape((5, 4, 3))"], None),
    ],
    ids=["one path", "one layer", "shortcut", "nested", "reshaped", "views", "views alone"],
)
def test_gradients_of_residual_are_differences(layers, shortcut, act_fn):
    X = np.random.default_rng(12).normal(size=(2, 5, 4, 3))
    layer = Residual(layers, shortcut, act_fn, dtype="float64", random_state=0)
    assert_gradients_are_differences(layer, X)


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_preactivations_do_not_warn_and_only_the_exponential_overflows(act_fn, dtype):
    largest = {"float32": 1e38, "float64": 1e307}[dtype]
    layer = FullyConnected(2, act_fn, dtype=dtype).set_params({"parameters": {"W": np.eye(2)}})
    Y = layer.forward([[largest, -largest], [1e5, -1e5], [800, -800], [40, -40]])
    for dY in (np.ones_like(Y), np.zeros_like(Y)):
        dX = layer.backward(dY)
        if act_fn != "Exponential":
            assert np.isfinite(Y).all()
            assert np.isfinite(dX).all()
