"""The gradients of whole layers, compared with finite differences of their outputs."""

import numpy as np
import pytest
from layer_cases import ACTIVATIONS

from cvae.layers import Conv2D, ConvTranspose2D, Flatten, FullyConnected, Pool2D, Reshape, Upsample2D


def assert_gradients_are_differences(layer, X):
    """Compare a layer's gradients with central differences of sum(dY * output), element by element."""
    rng = np.random.default_rng(5)
    dY = rng.normal(size=layer.forward(X).shape)
    analytic = {"X": layer.backward(dY), **layer.gradients}
    for name, array in {"X": X, **layer.parameters}.items():
        numerical = np.empty_like(array)
        for index in np.ndindex(*array.shape):
            value, losses = array[index], []
            for step in (1e-5, -1e-5):
                array[index] = value + step
                losses.append((dY * layer.forward(X, retain_derived=False)).sum())
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
