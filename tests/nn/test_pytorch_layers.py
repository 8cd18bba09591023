"""The layers, compared with PyTorch: each alone, and all in sequence."""

import numpy as np
import pytest
from oracles import assert_equal_to_rounding

from cvae.layers import (
    BatchNorm1D,
    BatchNorm2D,
    Conv2D,
    ConvTranspose2D,
    Flatten,
    FullyConnected,
    GroupNorm,
    Pool2D,
    Residual,
    Upsample2D,
)

torch = pytest.importorskip("torch", reason="PyTorch is the other side of this comparison")
functional = torch.nn.functional

# PyTorch's equivalents of the activations; some differ at kinks (exactly 0), which random numbers do not hit.
ACTIVATIONS = {
    "Identity": lambda z: z,
    "ReLU": functional.relu,
    "LeakyReLU(alpha=0.2)": lambda z: functional.leaky_relu(z, 0.2),
    "GELU(approximate=False)": functional.gelu,
    "GELU(approximate=True)": lambda z: functional.gelu(z, approximate="tanh"),
    "ELU(alpha=0.5)": lambda z: functional.elu(z, 0.5),
    "SELU": functional.selu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "SoftPlus": functional.softplus,
    "Exponential": torch.exp,
}


def leaf(array):
    return torch.tensor(np.array(array), requires_grad=True)


def to_nchw(array):
    return array.permute(0, 3, 1, 2)


def to_nhwc(array):
    return array.permute(0, 2, 3, 1)


def padded(x, pad):
    top, bottom, left, right = pad
    return functional.pad(x, (left, right, top, bottom))


def conv2d(x, W, b, stride=1, pad=(0, 0, 0, 0), dilation=0):
    """Convolve NHWC images with PyTorch."""
    weights = W.permute(3, 2, 0, 1)
    z = functional.conv2d(padded(to_nchw(x), pad), weights, b.reshape(-1), stride=stride, dilation=dilation + 1)
    return to_nhwc(z)


def conv_transpose2d(x, W, b, stride=1, pad=(0, 0, 0, 0), output_pad=0, dilation=0):
    """The transposed convolution of NHWC images by PyTorch, whose own padding is the same on opposite sides."""
    top, bottom, left, right = pad
    weights = W.permute(3, 2, 0, 1)
    spacing = {"stride": stride, "output_padding": output_pad, "dilation": dilation + 1}
    full = functional.conv_transpose2d(to_nchw(x), weights, b.reshape(-1), **spacing)
    return to_nhwc(full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right])


def pool2d(x, kernel_shape, stride=1, pad=(0, 0, 0, 0), mode="max"):
    pool = {"max": functional.max_pool2d, "average": functional.avg_pool2d}[mode]
    return to_nhwc(pool(padded(to_nchw(x), pad), kernel_shape, stride))


def assert_same(layer, X, compute):
    """Compare the output and gradients of a layer with those of `compute(x, **parameters)`."""
    Y = layer.forward(X)
    x, parameters = leaf(X), {name: leaf(layer.parameters[name]) for name in layer.gradients}
    y = compute(x, **parameters)
    assert_equal_to_rounding(Y, y.detach().numpy())
    dY = np.random.default_rng(0).normal(size=Y.shape)
    y.backward(torch.tensor(dY))
    assert_equal_to_rounding(layer.backward(dY), x.grad.numpy())
    for name, parameter in parameters.items():
        assert_equal_to_rounding(layer.gradients[name], parameter.grad.numpy())


@pytest.mark.parametrize("kernel_shape", [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [0, 1, 2])
@pytest.mark.parametrize("pad", [(0, 0, 0, 0), (1, 0, 3, 2), (6, 6, 6, 6)], ids=str)
def test_conv2d(kernel_shape, stride, dilation, pad):
    X = np.random.default_rng(1).normal(size=(2, 14, 15, 3))
    layer = Conv2D(5, kernel_shape, pad, stride, dilation, act_fn="Tanh", dtype="float64", random_state=0)
    assert_same(layer, X, lambda x, W, b: torch.tanh(conv2d(x, W, b, stride, pad, dilation)))


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # PyTorch warns that it makes a copy
@pytest.mark.parametrize("kernel_shape", [(2, 3), (4, 3)])
@pytest.mark.parametrize("dilation", [0, 1])
def test_same_padding_of_conv2d_is_pytorchs(kernel_shape, dilation):
    X = np.random.default_rng(2).normal(size=(2, 9, 8, 3))
    layer = Conv2D(5, kernel_shape, "same", dilation=dilation, dtype="float64", random_state=0)

    def compute(x, W, b):
        weights = W.permute(3, 2, 0, 1)
        return to_nhwc(functional.conv2d(to_nchw(x), weights, b.reshape(-1), padding="same", dilation=dilation + 1))

    assert_same(layer, X, compute)


@pytest.mark.parametrize("kernel_shape", [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize(("stride", "output_pad"), [(1, 0), (2, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize("dilation", [0, 1, 2])
@pytest.mark.parametrize("pad", [(0, 0, 0, 0), (1, 0, 3, 2)], ids=str)
def test_conv_transpose2d(kernel_shape, stride, output_pad, dilation, pad):
    X = np.random.default_rng(1).normal(size=(2, 6, 7, 3))
    layer = ConvTranspose2D(
        5, kernel_shape, stride, pad, output_pad, dilation, act_fn="Tanh", dtype="float64", random_state=0
    )
    assert_same(layer, X, lambda x, W, b: torch.tanh(conv_transpose2d(x, W, b, stride, pad, output_pad, dilation)))


@pytest.mark.parametrize(
    ("kernel_shape", "stride", "padding", "output_pad"), [(3, 2, 1, 1), (4, 2, 1, 0), (5, 1, 2, 0)]
)
def test_same_of_conv_transpose2d_is_pytorchs_symmetric_padding(kernel_shape, stride, padding, output_pad):
    X = np.random.default_rng(2).normal(size=(2, 6, 5, 3))
    layer = ConvTranspose2D(4, kernel_shape, stride, "same", output_pad, dtype="float64", random_state=0)

    def compute(x, W, b):
        how = {"stride": stride, "padding": padding, "output_padding": output_pad}
        return to_nhwc(functional.conv_transpose2d(to_nchw(x), W.permute(3, 2, 0, 1), b.reshape(-1), **how))

    assert_same(layer, X, compute)


@pytest.mark.parametrize("factor", [(1, 1), (2, 2), (3, 4), (1, 5)], ids=str)
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (4, 3)], ids=str)
def test_upsample2d(factor, mode, size):
    X = np.random.default_rng(3).normal(size=(2, *size, 3))
    how = {"mode": mode, "align_corners": False} if mode == "bilinear" else {"mode": mode}
    layer = Upsample2D(factor, mode, dtype="float64")
    assert_same(layer, X, lambda x: to_nhwc(functional.interpolate(to_nchw(x), scale_factor=factor, **how)))


@pytest.mark.parametrize("kernel_shape", [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [(0, 0, 0, 0), (1, 0, 3, 2)], ids=str)
@pytest.mark.parametrize("mode", ["max", "average"])
def test_pool2d(kernel_shape, stride, pad, mode):
    X = np.random.default_rng(3).normal(size=(2, 9, 10, 3))
    layer = Pool2D(kernel_shape, stride, pad, mode, dtype="float64")
    assert_same(layer, X, lambda x: pool2d(x, kernel_shape, stride, pad, mode))


def test_max_pooling_of_ties():
    X = np.random.default_rng(4).integers(0, 3, (3, 8, 8, 4)).astype(np.float64)
    assert_same(Pool2D((3, 3), 2, dtype="float64"), X, lambda x: pool2d(x, (3, 3), 2))


def with_random_parameters(layer, X):
    rng = np.random.default_rng(7)
    layer.initialize(X.shape)
    return layer.set_params({"parameters": {k: rng.uniform(0.5, 1.5, v.shape) for k, v in layer.parameters.items()}})


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_batch_normalization(frozen):
    rng = np.random.default_rng(4)
    for make, X in ((BatchNorm1D, rng.normal(size=(6, 5))), (BatchNorm2D, rng.normal(size=(3, 4, 5, 6)))):
        layer = with_random_parameters(make(epsilon=0.01, dtype="float64"), X)
        mean, variance = (torch.tensor(layer.parameters[name]) for name in ("running_mean", "running_var"))

        def compute(x, scaler, intercept, mean=mean, variance=variance):
            first = to_nchw(x) if x.ndim == 4 else x
            y = functional.batch_norm(first, mean, variance, scaler, intercept, training=not frozen, eps=0.01)
            return to_nhwc(y) if x.ndim == 4 else y

        if frozen:
            layer.freeze()
            fixed = {name: torch.tensor(layer.parameters[name]) for name in ("scaler", "intercept")}
            layer.gradients = {}
            assert_same(layer, X, lambda x, fixed=fixed, compute=compute: compute(x, **fixed))
        else:
            assert_same(layer, X, compute)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_normalization(groups):
    X = np.random.default_rng(4).normal(size=(3, 4, 5, 6))
    layer = with_random_parameters(GroupNorm(groups, 0.01, dtype="float64"), X)

    def compute(x, scaler, intercept):
        return to_nhwc(functional.group_norm(to_nchw(x), groups, scaler, intercept, eps=0.01))

    assert_same(layer, X, compute)


def test_residual():
    X = np.random.default_rng(4).normal(size=(3, 6, 5, 4))
    layers = [Conv2D(6, 3, 1, 2, act_fn="Tanh"), BatchNorm2D(epsilon=0.01)]
    layer = Residual(layers, Conv2D(6, 1, stride=2), act_fn="ReLU", dtype="float64", random_state=0)
    layer.initialize(X.shape)

    def compute(x, **parameters):
        W, b, scaler, intercept, shortcut_W, shortcut_b = parameters.values()
        hidden = to_nchw(torch.tanh(conv2d(x, W, b, 2, (1, 1, 1, 1))))
        normalized = functional.batch_norm(hidden, None, None, scaler, intercept, training=True, eps=0.01)
        return torch.relu(to_nhwc(normalized) + conv2d(x, shortcut_W, shortcut_b, 2))

    assert_same(layer, X, compute)


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
def test_fully_connected(act_fn):
    X = np.random.default_rng(5).normal(size=(7, 11))
    layer = FullyConnected(6, act_fn, dtype="float64", init="std_normal", random_state=0)
    assert_same(layer, X, lambda x, W, b: ACTIVATIONS[act_fn](x @ W + b))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_in_a_row(dtype):
    """Compare the default model's encoder on 28x28 images."""
    X = np.random.default_rng(6).random((6, 28, 28, 1))
    how = {"dtype": dtype, "random_state": 0, "act_fn": "ReLU"}
    layers = [
        Conv2D(32, 5, **how),
        Pool2D(2, stride=2, dtype=dtype),
        Conv2D(64, 5, **how),
        Pool2D(2, dtype=dtype),
        Flatten(dtype=dtype),
        FullyConnected(256, **how),
    ]
    Y = X
    for layer in layers:
        Y = layer.forward(Y)
    dX = np.cos(Y)
    for layer in reversed(layers):
        dX = layer.backward(dX)

    x = leaf(X)
    weights = [[leaf(value.astype(np.float64)) for value in layer.parameters.values()] for layer in layers]
    hidden = pool2d(torch.relu(conv2d(x, *weights[0])), (2, 2), 2)
    hidden = pool2d(torch.relu(conv2d(hidden, *weights[2])), (2, 2))
    W, b = weights[5]
    y = torch.relu(hidden.reshape(6, -1) @ W + b)
    y.backward(torch.cos(y.detach()))

    pairs = [(Y, y.detach()), (dX, x.grad)]
    for layer, leaves in zip(layers, weights, strict=True):
        pairs += zip(layer.gradients.values(), [one.grad for one in leaves], strict=True)
    tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype]
    for got, expected in pairs:
        error = np.linalg.norm(got - expected.numpy()) / np.linalg.norm(expected.numpy())
        assert error < tolerance
