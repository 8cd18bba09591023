"""The specifics of each layer: its results, arguments and errors."""

import numpy as np
import oracles
import pytest
from layer_cases import ACTIVATIONS, batch, build, weighted_layers

from cvae.layers import Conv2D, ConvTranspose2D, Flatten, FullyConnected, Pool2D

# ------------------------------------------------------------ Conv2D and Pool2D

PADS = [0, 2, (1, 2), (3, 0, 1, 2), "same", "valid", [1, 0], np.int64(1)]


def four_sides(pad, in_shape, kernel_shape, stride, dilation=0):
    if pad == "same":
        span = [k + (k - 1) * dilation for k in kernel_shape]
        return oracles.same_pad(in_shape, span, stride)
    sides = [0] * 4 if pad == "valid" else pad
    sides = [sides] * 4 if np.ndim(sides) == 0 else list(sides)
    return tuple(sides if len(sides) == 4 else [sides[0], sides[0], sides[1], sides[1]])


@pytest.mark.parametrize("pad", PADS, ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [0, 1])
def test_conv2d_equals_the_reference(pad, stride, dilation):
    kernel_shape = (3, 2)
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2, 7, 6, 3))
    layer = Conv2D(4, kernel_shape, pad, stride, dilation, act_fn="ReLU", dtype="float64", random_state=0)
    layer.initialize(X.shape)
    layer.set_params({"b": rng.normal(size=(1, 1, 1, 4))})
    how = {"stride": stride, "pad": four_sides(pad, (7, 6), kernel_shape, stride, dilation), "dilation": dilation}
    Z = oracles.conv2d_forward(X, layer.W, layer.parameters["b"], **how)
    Y = layer.forward(X)
    assert Y.shape == layer.output_shape(X.shape)
    oracles.assert_equal_to_rounding(Y, oracles.relu(Z))
    oracles.assert_equal_to_rounding(layer.derived_variables["Z"][0], Z)
    assert layer.derived_variables["out_rows"] == [Z.shape[1]]
    assert layer.derived_variables["out_cols"] == [Z.shape[2]]

    dY = rng.normal(size=Y.shape)
    dZ = dY * (Z > 0)
    dX = layer.backward(dY)
    oracles.assert_equal_to_rounding(dX, oracles.conv2d_grad_input(dZ, layer.W, X.shape, **how))
    dW, db = oracles.conv2d_grad_weight(dZ, X, layer.W.shape, **how)
    oracles.assert_equal_to_rounding(layer.gradients["W"], dW)
    oracles.assert_equal_to_rounding(layer.gradients["b"], db)


@pytest.mark.parametrize("pad", PADS, ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("mode", ["max", "average"])
def test_pool2d_equals_the_reference(pad, stride, mode):
    kernel_shape = (3, 2)
    rng = np.random.default_rng(2)
    X = rng.normal(size=(2, 7, 6, 3))
    layer = Pool2D(kernel_shape, stride, pad, mode, dtype="float64")
    how = {"kernel_shape": kernel_shape, "stride": stride, "pad": four_sides(pad, (7, 6), kernel_shape, stride)}
    Y = layer.forward(X)
    assert Y.shape == layer.output_shape(X.shape)
    dY = rng.normal(size=Y.shape)
    dX = layer.backward(dY)
    if mode == "max":
        expected, argmax = oracles.pool2d_max_forward(X, **how)
        expected_dX = oracles.pool2d_max_backward(dY, argmax, X.shape, **how)
    else:
        expected = oracles.pool2d_average_forward(X, **how)
        expected_dX = oracles.pool2d_average_backward(dY, X.shape, **how)
    oracles.assert_equal_to_rounding(Y, expected)
    oracles.assert_equal_to_rounding(dX, expected_dX)


def test_gradients_of_max_pooling_go_with_their_own_forward():
    """The inputs may come from separate calls and differ in size."""
    rng = np.random.default_rng(3)
    layer = Pool2D(2, dtype="float64")
    inputs = [rng.normal(size=(n, 4 + n, 5, 2)) for n in (1, 3, 2)]
    dY = [rng.normal(size=layer.forward(X).shape) for X in inputs]
    for X, grad, got in zip(inputs, dY, layer.backward(dY), strict=True):
        _, argmax = oracles.pool2d_max_forward(X, (2, 2))
        oracles.assert_equal_to_rounding(got, oracles.pool2d_max_backward(grad, argmax, X.shape, (2, 2)))
    layer.flush_gradients()
    X = rng.normal(size=(1, 4, 4, 2))
    layer.forward(X)
    assert layer.backward(np.ones((1, 3, 3, 2))).sum() == pytest.approx(18)


@pytest.mark.parametrize("mode", ["max", "average"])
def test_pooling_of_nan_gives_nan_and_a_gradient(mode):
    layer = Pool2D(2, mode=mode)
    X = np.ones((1, 3, 3, 1))
    X[0, 0, 0] = np.nan
    Y = layer.forward(X)
    assert np.isnan(Y[0, 0, 0, 0])
    assert np.isnan(Y).sum() == 1
    dX = layer.backward(np.ones(Y.shape))
    assert np.isfinite(dX).all()
    assert dX.sum() == 4


@pytest.mark.parametrize("build_layer", [lambda **k: Conv2D(2, **k), Pool2D], ids=["Conv2D", "Pool2D"])
def test_windows_are_checked_at_once(build_layer):
    for kernel_shape in (0, (2, 0), (2, 2, 2), (), -1):
        with pytest.raises(ValueError, match="kernel_shape must be an int or 2 ints >= 1, got"):
            build_layer(kernel_shape=kernel_shape)
    for kernel_shape in (None, "2", 2.0, (2, 1.5), True):
        with pytest.raises(TypeError, match="kernel_shape must be an int or 2 ints >= 1, got"):
            build_layer(kernel_shape=kernel_shape)
    for stride in (0, -1, (1, 2)):
        with pytest.raises(ValueError, match="stride must be an int >= 1"):
            build_layer(kernel_shape=2, stride=stride)
    for pad in (-1, 1.0, None, (1,), (1, 2, 3), (1, -1), "all", True, (1, 2, 3, 4, 5)):
        with pytest.raises(ValueError, match="pad must be an int, 'same', 'valid' or 2 or 4 ints >= 0, got"):
            build_layer(kernel_shape=2, pad=pad)
    for good in ({"kernel_shape": [2, 2]}, {"kernel_shape": np.int64(2)}, {"kernel_shape": 2, "pad": "SAME"}):
        build_layer(**good).forward(np.ones((1, 4, 4, 1)))
    build_layer(kernel_shape=2, stride=(2, 2)).forward(np.ones((1, 4, 4, 1)))


@pytest.mark.parametrize("name", ["Conv2D", "Pool2D max", "Pool2D average"])
def test_a_kernel_larger_than_the_padded_image_is_refused(name):
    layer = build(name)
    with pytest.raises(ValueError, match=r"Dimension mismatch during .*out_rows = 0"):
        layer.forward(np.ones((2, layer.kernel_shape[0] - 1, 5, 3)))
    with pytest.raises(ValueError, match=r"Dimension mismatch during .*out_cols = 0"):
        layer.forward(np.ones((2, 6, 1, 3)))
    layer.flush_gradients()
    assert layer.forward(batch(name)).shape[0] == 2


def test_other_arguments_of_conv2d_and_pool2d_are_checked_at_once():
    for out_ch in (0, -1):
        with pytest.raises(ValueError, match="out_ch must be an int >= 1"):
            Conv2D(out_ch, 2)
    for out_ch in (None, 1.0, "3", True):
        with pytest.raises(TypeError, match="out_ch must be an int >= 1"):
            Conv2D(out_ch, 2)
    with pytest.raises(ValueError, match="dilation must be an int >= 0"):
        Conv2D(2, 2, dilation=-1)
    for mode in ("min", None, "MAX", 0):
        with pytest.raises(ValueError, match="mode must be 'max' or 'average', got"):
            Pool2D(2, mode=mode)


# ----------------------------------------------------- FullyConnected and Flatten


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
def test_fully_connected_equals_the_reference(act_fn):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(6, 5))
    layer = FullyConnected(4, act_fn, dtype="float64", random_state=0)
    Y = layer.forward(X)
    Z = oracles.dense_forward(X, layer.W, layer.parameters["b"])
    oracles.assert_equal_to_rounding(Y, layer.act_fn.fn(Z))
    dY = rng.normal(size=Y.shape)
    dX, dW, db = oracles.dense_backward(dY * layer.act_fn.grad(Z), X, layer.W)
    oracles.assert_equal_to_rounding(layer.backward(dY), dX)
    oracles.assert_equal_to_rounding(layer.gradients["W"], dW)
    oracles.assert_equal_to_rounding(layer.gradients["b"], db)


def test_the_number_of_outputs_may_be_set_later_but_not_changed():
    layer = FullyConnected(None, act_fn="ReLU", init="he_normal")
    with pytest.raises(ValueError, match="n_out must be set before the first forward"):
        layer.forward(np.ones((2, 3)))
    layer.set_params({"n_out": 5})
    assert layer.forward(np.ones((2, 3))).shape == (2, 5)
    assert str(layer.act_fn) == "ReLU"
    assert layer.init == "he_normal"
    with pytest.raises(ValueError, match="W must have the shape"):
        layer.set_params({"n_out": 7})
    assert layer.hyperparameters["n_out"] == 5


@weighted_layers
def test_activations_and_starts_are_checked_at_once(name):
    with pytest.raises(ValueError, match="activation must be one of"):
        {
            "Conv2D": lambda: Conv2D(4, 3, act_fn="softmax"),
            "ConvTranspose2D": lambda: ConvTranspose2D(4, 3, act_fn="softmax"),
            "FullyConnected": lambda: FullyConnected(4, "softmax"),
        }[name]()
    with pytest.raises(ValueError, match="init must be one of"):
        build(name, init="zeros")
    with pytest.raises(ValueError, match="optimizer must be one of"):
        build(name, optimizer="Lion")


def test_flatten():
    X = np.arange(48.0).reshape(2, 3, 4, 2)
    for keep_dim, shape in (("first", (2, 24)), ("last", (24, 2)), (-1, (1, 48))):
        layer = Flatten(keep_dim)
        Y = layer.forward(X)
        np.testing.assert_array_equal(Y, X.reshape(shape))
        np.testing.assert_array_equal(layer.backward(Y), X)
    for keep_dim in ("middle", 0, None, "First"):
        with pytest.raises(ValueError, match="keep_dim must be 'first', 'last' or -1, got"):
            Flatten(keep_dim)
