"""The specifics of the layers that decoders draw with: ConvTranspose2D, Upsample2D and Reshape."""

import numpy as np
import oracles
import pytest

from cvae._kernels.program import Program
from cvae.layers import Conv2D, ConvTranspose2D, Reshape, Upsample2D
from cvae.nn.protocol import allocate
from cvae.optim.updates import Updates
from cvae.runtime.programs import run

# ---------------------------------------------------------------- ConvTranspose2D

# pad, and what is cropped (top, bottom, left, right) of the output of a kernel that spans (3, 2), for a stride of 2.
PADS = [
    (0, (0, 0, 0, 0)), (1, (1, 1, 1, 1)), ((1, 0), (1, 1, 0, 0)), ((0, 1, 2, 0), (0, 1, 2, 0)), ("valid", (0, 0, 0, 0)),
    ("same", (0, 1, 0, 0)), ("SAME", (0, 1, 0, 0)),
]  # fmt: skip


def assert_equals_the_reference(layer, X, pad, out_shape):
    rng = np.random.default_rng(1)
    layer.initialize(X.shape)
    layer.set_params({"b": rng.normal(size=layer.parameters["b"].shape)})
    how = {"stride": layer.stride, "dilation": layer.dilation, "pad": pad}
    Z = oracles.conv_transpose2d_forward(X, layer.W, layer.b, out_shape, **how)
    Y = layer.forward(X)
    assert Y.shape == layer.output_shape(X.shape)
    oracles.assert_equal_to_rounding(Y, oracles.relu(Z))
    oracles.assert_equal_to_rounding(layer.derived_variables["Z"][0], Z)
    assert layer.derived_variables["out_rows"] == [out_shape[0]]
    assert layer.derived_variables["out_cols"] == [out_shape[1]]

    dY = rng.normal(size=Y.shape)
    dX, dW, db = oracles.conv_transpose2d_backward(dY * (Z > 0), X, layer.W, **how)
    oracles.assert_equal_to_rounding(layer.backward(dY), dX)
    oracles.assert_equal_to_rounding(layer.gradients["W"], dW)
    oracles.assert_equal_to_rounding(layer.gradients["b"], db)


@pytest.mark.parametrize(("pad", "cropped"), PADS, ids=str)
@pytest.mark.parametrize("out_ch", [1, 4, 9])
def test_it_equals_the_reference(pad, cropped, out_ch):
    X = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    layer = ConvTranspose2D(out_ch, (3, 2), 2, pad, act_fn="ReLU", dtype="float64", random_state=0)
    full = (5 - 1) * 2 + 3, (4 - 1) * 2 + 2
    out_shape = full[0] - cropped[0] - cropped[1], full[1] - cropped[2] - cropped[3]
    assert_equals_the_reference(layer, X, cropped, out_shape)


@pytest.mark.parametrize(("stride", "dilation", "output_pad"), [(1, 0, 0), (1, 2, 2), (3, 0, 2), (2, 1, 1)])
@pytest.mark.parametrize("pad", [(0, 0, 0, 0), (1, 0, 2, 1)], ids=str)
def test_it_equals_the_reference_with_output_padding(stride, dilation, output_pad, pad):
    X = np.random.default_rng(0).normal(size=(3, 4, 5, 3))
    how = {"act_fn": "ReLU", "dtype": "float64", "random_state": 0}
    layer = ConvTranspose2D(4, (3, 4), stride, pad, output_pad, dilation, **how)
    spans = 3 + 2 * dilation, 4 + 3 * dilation
    rows = (4 - 1) * stride + spans[0] + output_pad - pad[0] - pad[1]
    cols = (5 - 1) * stride + spans[1] + output_pad - pad[2] - pad[3]
    assert_equals_the_reference(layer, X, pad, (rows, cols))


@pytest.mark.parametrize("kernel_shape", [1, 2, 3, 4, 5, (1, 5)])
@pytest.mark.parametrize(("stride", "output_pad"), [(1, 0), (2, 0), (2, 1), (3, 2)])
def test_same_multiplies_the_size_by_the_stride(kernel_shape, stride, output_pad):
    X = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    how = {"act_fn": "ReLU", "dtype": "float64", "random_state": 0}
    layer = ConvTranspose2D(2, kernel_shape, stride, "same", output_pad, **how)
    total = [max(k - stride + output_pad, 0) for k in layer.kernel_shape]
    cropped = total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2
    out_shape = 5 * stride, 4 * stride
    if min(layer.kernel_shape) + output_pad >= stride:
        assert_equals_the_reference(layer, X, cropped, out_shape)
    assert layer.forward(X).shape == (2, *out_shape, 2)


def test_same_fills_what_a_short_kernel_does_not_reach_with_the_bias():
    layer = ConvTranspose2D(1, 1, 3, "same").set_params({"parameters": {"W": [[[[2.0]]]], "b": [[[[1.0]]]]}})
    expected = np.ones((6, 3))
    expected[::3, ::3] += 2
    np.testing.assert_array_equal(layer.forward(np.ones((1, 2, 1, 1)))[0, :, :, 0], expected)
    np.testing.assert_array_equal(layer.backward(np.ones((1, 6, 3, 1))), np.full((1, 2, 1, 1), 2))


@pytest.mark.parametrize(("channels", "out_ch"), [(20, 40), (40, 20), (20, 1), (3, 20)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_algorithms_agree(channels, out_ch, dtype):
    X = np.random.default_rng(0).normal(size=(3, 12, 13, channels))
    results = []
    for algorithm in ("direct", "winograd", "auto"):
        layer = ConvTranspose2D(out_ch, 3, pad="same", act_fn="ReLU", algorithm=algorithm, dtype=dtype, random_state=0)
        Y = layer.forward(X)
        results.append([Y, layer.backward(np.cos(np.arange(Y.size)).reshape(Y.shape)), *layer.gradients.values()])
    for others in zip(*results, strict=True):
        for other in others[1:]:
            limit = {"float32": 1e-4, "float64": 1e-12}[dtype] * np.abs(others[0]).max()
            np.testing.assert_allclose(other, others[0], rtol=0, atol=limit)


def test_it_is_the_transpose_of_a_convolution_with_the_same_weights():
    rng = np.random.default_rng(0)
    conv = Conv2D(5, (3, 4), pad=(1, 2, 0, 1), stride=2, dilation=1, dtype="float64", random_state=0)
    images = rng.normal(size=(2, 9, 11, 3))
    features = conv.forward(images)
    # The convolution leaves a row and a col unused.
    transposed = ConvTranspose2D(3, (3, 4), 2, (1, 2, 0, 1), output_pad=1, dilation=1, dtype="float64")
    transposed.set_params({"parameters": {"W": conv.W}})
    other = rng.normal(size=features.shape)
    oracles.assert_equal_to_rounding(transposed.forward(other), conv.backward(other))
    oracles.assert_equal_to_rounding(transposed.backward(images), features)


def test_weights_start_by_the_number_of_products_in_an_output():
    X = np.random.default_rng(0).normal(size=(4, 20, 20, 64))
    for stride in (1, 2, 4):
        layer = ConvTranspose2D(48, 4, stride, pad="same", init="he_normal", random_state=0)
        Y = layer.forward(X)
        products = 64 * (4 / stride) ** 2
        assert layer.W.std() == pytest.approx(np.sqrt(2 / products) * 0.88, rel=0.02)
        inner = Y[:, 4 * stride : -4 * stride, 4 * stride : -4 * stride]
        assert inner.std() == pytest.approx(np.sqrt(2) * 0.88, rel=0.1)  # of inputs of variance 1
    layer = ConvTranspose2D(48, 1, 3, init="he_normal", random_state=0)
    layer.initialize(X.shape)
    assert layer.W.std() == pytest.approx(np.sqrt(2 / 64) * 0.88, rel=0.05)


def test_its_arguments_are_checked_at_once():
    for stride, dilation, most in ((1, 0, 0), (2, 0, 1), (1, 2, 2)):
        for output_pad in (-1, most + 1):
            with pytest.raises(ValueError, match=f"output_pad must be an int from 0 to {most}, less than stride"):
                ConvTranspose2D(2, 3, stride, dilation=dilation, output_pad=output_pad)
    for output_pad in (None, 0.5, "1", True, (1, 1)):
        with pytest.raises(TypeError, match="output_pad must be an int from 0 to 1"):
            ConvTranspose2D(2, 3, 2, output_pad=output_pad)
    with pytest.raises(ValueError, match="kernel_shape must be an int or 2 ints >= 1, got 0"):
        ConvTranspose2D(2, 0)
    with pytest.raises(ValueError, match="stride must be an int >= 1"):
        ConvTranspose2D(2, 3, (1, 2))
    with pytest.raises(ValueError, match="pad must be an int, 'same', 'valid' or 2 or 4 ints >= 0, got 'all'"):
        ConvTranspose2D(2, 3, pad="all")
    with pytest.raises(ValueError, match="dilation must be an int >= 0"):
        ConvTranspose2D(2, 3, dilation=-1)
    with pytest.raises(ValueError, match="out_ch must be an int >= 1"):
        ConvTranspose2D(0, 3)
    with pytest.raises(ValueError, match="algorithm must be 'auto', 'direct' or 'winograd', got 'fft'"):
        ConvTranspose2D(2, 3, algorithm="fft")
    with pytest.raises(ValueError, match="algorithm 'winograd' must have dilation 0 and a kernel of at most 10x10 "):
        ConvTranspose2D(2, 11, 2, algorithm="winograd").forward(np.ones((1, 4, 4, 1)))


def test_an_output_that_is_cropped_to_nothing_is_refused():
    with pytest.raises(ValueError, match=r"Dimension mismatch during transposed convolution: out_rows = 0, out_cols"):
        ConvTranspose2D(2, 3, pad=(2, 0)).forward(np.ones((1, 2, 5, 1)))
    with pytest.raises(ValueError, match=r"out_cols = -1, because \(0, 0, 1, 3\) rows and cols are cropped"):
        ConvTranspose2D(2, 3, pad=(0, 0, 1, 3)).forward(np.ones((1, 2, 1, 1)))


# -------------------------------------------------------------- Upsample2D, Reshape


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("factor", [1, 3, (2, 1), [1, 4], np.int64(2)], ids=str)
def test_upsample2d_equals_the_reference(factor, mode):
    rng = np.random.default_rng(2)
    X, layer = rng.normal(size=(2, 3, 4, 5)), Upsample2D(factor, mode, dtype="float64")
    Y = layer.forward(X)
    assert Y.shape == layer.output_shape(X.shape)
    oracles.assert_equal_to_rounding(Y, oracles.upsample2d_forward(X, layer.factor, mode))
    dY = rng.normal(size=Y.shape)
    oracles.assert_equal_to_rounding(layer.backward(dY), oracles.upsample2d_backward(dY, X.shape, layer.factor, mode))


def test_arguments_of_upsample2d_are_checked_at_once():
    for factor in (0, (2, 0), (1, 2, 3)):
        with pytest.raises(ValueError, match="factor must be an int or 2 ints >= 1, got"):
            Upsample2D(factor)
    for factor in (None, 1.5, "2", True):
        with pytest.raises(TypeError, match="factor must be an int or 2 ints >= 1, got"):
            Upsample2D(factor)
    for mode in (None, "cubic", "Nearest"):
        with pytest.raises(ValueError, match="mode must be 'nearest' or 'bilinear', got"):
            Upsample2D(mode=mode)


def test_reshape():
    X = np.arange(48.0).reshape(2, 24)
    for shape in ((4, 3, 2), [2, 12], 24, (np.int64(6), 4)):
        layer = Reshape(shape)
        Y = layer.forward(X)
        np.testing.assert_array_equal(Y, X.reshape(2, *np.atleast_1d(shape)))
        np.testing.assert_array_equal(layer.backward(Y), X)
    assert repr(Reshape((4, 3, 2))) == "Reshape(shape=(4, 3, 2))"


def test_a_reshape_that_does_not_fit_is_refused():
    layer = Reshape((4, 4, 2))
    with pytest.raises(ValueError, match=r"Reshape to \(4, 4, 2\) must get 32 numbers an example, got 30 in the shape"):
        layer.forward(np.ones((2, 30)))
    with pytest.raises(ValueError, match="must get 32 numbers an example, got 16"):
        layer.forward(np.ones((2, 4, 4)))  # as many in all
    for shape in ((), (0, 4), (-1, 4)):
        with pytest.raises(ValueError, match="shape must be an int"):
            Reshape(shape)
    for shape in (None, 2.5, "4", (2, True)):
        with pytest.raises(TypeError, match="shape must be an int"):
            Reshape(shape)


# --------------------------------------------------------------------- recordings


class WithoutPython(Program):
    """A program in which no Python may run."""

    def call(self, function, *arguments):
        raise AssertionError(f"{function} is to be called in a program")


@pytest.mark.parametrize(
    "layer",
    [
        ConvTranspose2D(3, 3, 2, pad="same"),
        ConvTranspose2D(3, 3, 2, pad="same", act_fn="ReLU"),
        ConvTranspose2D(3, 3, algorithm="winograd", act_fn="ReLU"),
        Upsample2D(2),
        Upsample2D(2, "bilinear"),
    ],
    ids=repr,
)
def test_no_python_runs_in_a_program(layer):
    x = np.ones((2, 5, 4, 6), np.float32)
    layer.initialize(x.shape)
    y, saved = np.empty(layer.output_shape(x.shape), np.float32), allocate(layer.saved(x.shape))
    program, updates = WithoutPython(), Updates()
    updates.prepare([layer], None)
    layer.record_forward(program, x, y, saved, training=True)
    layer.record_backward(program, np.empty_like(x), np.empty_like(y), x, y, saved, layer.gradients or None)
    layer.record_descent(program, np.empty_like(x), np.empty_like(y), x, y, saved, updates)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_the_input_gradient_may_take_the_place_of_the_input(algorithm):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 5, 4))
    layer = ConvTranspose2D(3, 3, algorithm=algorithm, dtype="float64", random_state=0)
    dy = rng.normal(size=layer.forward(x).shape)
    expected = layer.backward(dy)
    grads = {name: np.empty_like(array) for name, array in layer.gradients.items()}
    run(layer.record_backward, x, dy, x, None, {}, grads)
    np.testing.assert_array_equal(x, expected)
    for name, array in grads.items():
        np.testing.assert_array_equal(array, layer.gradients[name])
