"""All three passes of Winograd's algorithm, compared with the plain reference, and its matrices with their points."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import assert_margins_untouched, each_dtype, exact, normal, output

from cvae._kernels import winograd
from cvae.layers import Conv2D, ConvTranspose2D
from cvae.nn.convolution import FEW_CHANNELS, winograd_is_faster, winograd_rows_are_faster
from cvae.runtime.programs import run as run_kernel

SOURCE = Path(__file__).parents[2] / "csrc" / "kernels" / "cook_toom.h"
POINTS = [Fraction(p) for p in (0, 1, -1, 2, -2, "1/2", "-1/2")]  # and infinity
# Largest and rms error, see assert_accurate; the transforms multiply by up to 5.25 and cancel.
TOLERANCE = {np.dtype(np.float32): 4e-5, np.dtype(np.float64): 1e-13}
RMS_TOLERANCE = {np.dtype(np.float32): 6e-6, np.dtype(np.float64): 2e-14}

# n, rows, columns, in_ch, out_ch, kernel shape, padding (top, bottom, left, right), stride
SHAPES = [
    (3, 12, 12, 32, 64, (5, 5), (0, 0, 0, 0), 1),  # the default model's second convolution
    (1, 5, 5, 1, 1, (5, 5), (0, 0, 0, 0), 1),  # one pixel of a tile
    (2, 13, 11, 5, 7, (3, 3), (1, 1, 1, 1), 1),
    (2, 9, 15, 33, 40, (4, 5), (2, 1, 2, 2), 1),
    (9, 7, 7, 16, 16, (3, 2), (0, 0, 1, 0), 1),
    (2, 6, 5, 17, 31, (1, 1), (0, 0, 0, 0), 1),
    (4, 4, 9, 6, 2, (5, 1), (6, 7, 0, 3), 1),  # whole tiles of padding
    (70, 6, 6, 8, 8, (3, 3), (1, 1, 1, 1), 1),  # more groups than accumulators
    (1, 40, 30, 20, 33, (3, 3), (0, 0, 0, 0), 1),  # an image of more tiles than a block
    # Few channels: the forward pass transforms along rows only.
    (3, 28, 28, 1, 32, (5, 5), (0, 0, 0, 0), 1),  # the default model's first convolution
    (2, 31, 70, 3, 100, (3, 3), (1, 1, 1, 1), 1),  # more tiles than a strip holds
    (2, 7, 33, 4, 17, (4, 2), (20, 3, 25, 9), 1),  # whole bands and tiles of padding
    (1, 13, 5, 2, 40, (1, 4), (0, 0, 1, 0), 1),
    # Larger strides, by polyphase decomposition.
    (3, 14, 14, 32, 64, (4, 4), (0, 0, 0, 0), 2),
    (2, 13, 11, 5, 7, (3, 3), (1, 1, 1, 1), 2),  # phases that share a vector, some of it outside the image
    (2, 16, 15, 33, 40, (5, 4), (2, 1, 1, 2), 2),
    (2, 30, 31, 3, 32, (6, 6), (0, 0, 0, 0), 2),
    (9, 7, 7, 16, 16, (3, 2), (0, 1, 1, 0), 2),
    (70, 6, 6, 8, 8, (2, 2), (0, 0, 0, 0), 2),  # more groups than accumulators
    (2, 31, 33, 1, 19, (10, 9), (5, 4, 3, 6), 2),  # the largest kernel
    (4, 4, 9, 6, 2, (5, 1), (6, 7, 0, 3), 2),  # whole tiles of padding, a kernel smaller than the stride
    (2, 20, 23, 7, 9, (5, 7), (1, 0, 2, 1), 3),
    (2, 11, 9, 4, 5, (1, 1), (0, 0, 0, 0), 4),
]


def matrix(name):
    """Return a matrix of the source as fractions."""
    text = re.search(rf"real {name}\[[^=]*= {{(.*?)}};", SOURCE.read_text(), re.DOTALL).group(1)
    rows = re.findall(r"{([^{}]*)}", text)
    return [[quotient(entry) for entry in row.split(",")] for row in rows]


def quotient(text):
    numerator, _, denominator = text.strip().partition("/")
    return Fraction(numerator.strip()) / Fraction(denominator.strip() or 1)


def test_matrices_follow_from_the_points():
    for name, degree, divided in (
        ("OUTPUT_4", 4, False),
        ("OUTPUT_6", 6, False),
        ("OUTPUT_7", 7, False),
        ("KERNEL_5", 5, True),
        ("KERNEL_3", 3, True),
        ("KERNEL_2", 2, True),
    ):
        expected = []
        for p in POINTS:
            norm = np.prod([p - q for q in POINTS if q != p]) if divided else 1
            expected.append([p**i / norm for i in range(degree)])
        expected.append([Fraction(i == degree - 1) for i in range(degree)])
        assert matrix(name) == expected, name
    rows = []
    for p in [*POINTS, None]:
        coefficients = [Fraction(1)]  # of the product of x - q, lowest power first
        for q in POINTS:
            if q != p:
                shifted, scaled = [Fraction(0), *coefficients], [*(-q * c for c in coefficients), Fraction(0)]
                coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
        rows.append(coefficients + [Fraction(0)] * (8 - len(coefficients)))
    assert matrix("INPUT") == rows


def run(shape, dtype, seed=0, n_threads=2, relu=False):
    """Return the outputs y, dx, dw, db of the kernels and of the reference."""
    n, rows, cols, in_ch, out_ch, kernel_shape, pad, stride = shape
    rng = np.random.default_rng(seed)
    x, w = normal(rng, (n, rows, cols, in_ch), dtype), normal(rng, (*kernel_shape, in_ch, out_ch), dtype)
    b = normal(rng, (out_ch,), dtype)
    out_shape = (n, *oracles.output_shape(x, kernel_shape, stride, pad, 0), out_ch)
    dy = normal(rng, out_shape, dtype)
    y, dx, dw, db = (output(s, dtype) for s in (out_shape, x.shape, w.shape, b.shape))
    arguments = {"stride": stride, "pad_top": pad[0], "pad_left": pad[2], "n_threads": n_threads}
    run_kernel(winograd.forward, y, x, w, b, relu=relu, **arguments)
    run_kernel(winograd.backward, dx, dw, db, x, dy, w, **arguments)
    assert_margins_untouched(y, dx, dw, db)
    exact_x, exact_w, exact_b, exact_dy = exact(x, w, b, dy)
    expected_y = oracles.conv2d_forward(exact_x, exact_w, exact_b, stride, pad)
    expected_dw, expected_db = oracles.conv2d_grad_weight(exact_dy, exact_x, w.shape, stride, pad)
    expected_dx = oracles.conv2d_grad_input(exact_dy, exact_w, exact_x.shape, stride, pad)
    return (y, dx, dw, db), (
        np.maximum(expected_y, 0) if relu else expected_y,
        expected_dx,
        expected_dw,
        expected_db.reshape(-1),
    )


def assert_accurate(shape, got, expected):
    """Assert that errors are small relative to the rms of a sum of as many products of standard normal numbers."""
    _, _, _, in_ch, out_ch, kernel_shape, _, _ = shape
    taps, pixels = np.prod(kernel_shape), np.prod(got[0].shape[:3])
    for a, b, terms in zip(got, expected, (taps * in_ch, taps * out_ch, pixels, pixels), strict=True):
        scale = np.sqrt(terms)
        assert np.abs(a - b).max() <= TOLERANCE[a.dtype] * scale
        assert np.sqrt(np.mean((a - b) ** 2)) <= RMS_TOLERANCE[a.dtype] * scale


@each_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_passes_equal_the_reference(shape, dtype):
    assert_accurate(shape, *run(shape, dtype))


@each_dtype
def test_relu_is_applied_to_the_output(dtype):
    got, expected = run(SHAPES[2], dtype, relu=True)
    assert (got[0] == 0).any()
    assert_accurate(SHAPES[2], got, expected)


@given(
    n=st.integers(1, 9),
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    channels=st.tuples(st.integers(1, FEW_CHANNELS) | st.integers(1, 40), st.integers(1, 40)),
    kernel_shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    pad=st.tuples(*[st.integers(0, 5)] * 4),
    stride=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_any_shape_equals_the_reference(n, size, channels, kernel_shape, pad, stride, seed):
    grown = [max(0, k - s - pad[2 * i]) for i, (k, s) in enumerate(zip(kernel_shape, size, strict=True))]
    pad = (pad[0], max(pad[1], grown[0]), pad[2], max(pad[3], grown[1]))
    got, expected = run((n, *size, *channels, kernel_shape, pad, stride), np.float64, seed)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(1, np.abs(b).max()))


@each_dtype
def test_bits_do_not_depend_on_the_number_of_threads(dtype):
    for shape in (SHAPES[0], *SHAPES[7:11], *SHAPES[13:19]):
        first, *others = (run(shape, dtype, n_threads=n)[0] for n in (1, 2, 3, 7))
        for other in others:
            for a, b in zip(first, other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_gradients_that_are_not_wanted_are_left_out():
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(s) for s in ((3, 8, 8, 4), (3, 3, 4, 6), (3, 6, 6, 6)))
    arguments = {"stride": 1, "pad_top": 0, "pad_left": 0, "n_threads": 2}
    dx, dw, db = np.empty_like(x), np.empty_like(w), np.empty(6)
    run_kernel(winograd.backward, dx, dw, db, x, dy, w, **arguments)
    only_dx, only_dw, only_db = np.empty_like(x), np.empty_like(w), np.empty(6)
    run_kernel(winograd.backward, only_dx, None, None, x, dy, w, **arguments)
    run_kernel(winograd.backward, None, only_dw, only_db, x, dy, w, **arguments)
    for got, expected in ((only_dx, dx), (only_dw, dw), (only_db, db)):
        np.testing.assert_array_equal(got, expected)


def test_wrong_arguments_are_errors():
    x, w, b = np.zeros((2, 8, 8, 4)), np.zeros((3, 3, 4, 6)), np.zeros(6)
    y = np.zeros((2, 6, 6, 6))
    good = {"stride": 1, "pad_top": 0, "pad_left": 0, "n_threads": 1}
    forward = {**good, "relu": False}
    for changes in ({"pad_top": -1}, {"pad_left": 2**40}):
        with pytest.raises(ValueError, match=next(iter(changes)).split("_")[0]):
            run_kernel(winograd.forward, y, x, w, b, **{**forward, **changes})
    for stride, rows in ((1, 6), (2, 11)):
        with pytest.raises(ValueError, match=r"R and S at most 5 \* stride, got stride"):
            run_kernel(winograd.forward, y, x, np.zeros((rows, 3, 4, 6)), b, **forward | {"stride": stride})
    with pytest.raises(ValueError, match="stride must be from 1"):
        run_kernel(winograd.forward, y, x, w, b, **forward | {"stride": 0})
    with pytest.raises(ValueError, match="bias"):
        run_kernel(winograd.forward, y, x, w, np.zeros(5), **forward)
    with pytest.raises(ValueError, match="shapes"):
        run_kernel(winograd.backward, np.zeros((2, 8, 7, 4)), w.copy(), b.copy(), x, y, w, **good)
    with pytest.raises(ValueError, match="shapes"):
        run_kernel(winograd.backward, None, w.copy(), None, x, y, w, **good)
    with pytest.raises(ValueError, match="mismatch"):
        run_kernel(winograd.backward, x.astype(np.float32), w.copy(), b.copy(), x, y, w, **good)


# ---------------------------------------------------------------- the layer's choice


@pytest.mark.parametrize("layer_type", [Conv2D, ConvTranspose2D])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("kernel_shape", [(3, 3), (5, 5), (4, 2)])
def test_layers_agree_whatever_the_algorithm(kernel_shape, pad, stride, layer_type):
    X = np.random.default_rng(0).normal(size=(3, 12, 11, 6))
    results = []
    for algorithm in ("direct", "winograd"):
        options = {"pad": pad, "act_fn": "ReLU", "dtype": "float64", "random_state": 0, "algorithm": algorithm}
        layer = layer_type(9, kernel_shape, stride=stride, **options)
        Y = layer.forward(X)
        results.append((Y, layer.backward(np.cos(Y)), layer.gradients["W"], layer.gradients["b"]))
    for direct, fast in zip(*results, strict=True):
        np.testing.assert_allclose(fast, direct, rtol=0, atol=1e-11 * np.abs(direct).max())


def test_auto_takes_what_is_faster():
    for forward in (True, False):
        assert Conv2D(64, 5).uses_winograd((128, 12, 12, 32), forward=forward)
        assert Conv2D(32, 5).uses_winograd((128, 28, 28, 1), forward=forward) is forward
        for changes in ({"dilation": 1}, {"kernel_shape": 7}, {"kernel_shape": 11, "stride": 2}):
            layer = Conv2D(**{"out_ch": 64, "kernel_shape": 5, **changes})
            assert not layer.uses_winograd((8, 30, 30, 32), forward=forward)
            assert not layer.uses_winograd((8, 30, 30, 1), forward=forward)
        for kernel_shape in (4, 5, 6):
            assert Conv2D(64, kernel_shape, stride=2).uses_winograd((8, 29, 29, 32), forward=forward)
            assert not Conv2D(64, kernel_shape, stride=2).uses_winograd((8, 29, 29, 1), forward=forward)
        assert not Conv2D(256, 4, stride=2).uses_winograd((8, 6, 6, 128), forward=forward)  # one tile for 2x2 outputs
        assert not Conv2D(64, 2, stride=2).uses_winograd((8, 28, 28, 32), forward=forward)
        # One tile does not repay the evaluation of the weights for a single image, which encoding must be fast for.
        assert Conv2D(128, 4, stride=2).uses_winograd((8, 14, 14, 64), forward=forward)
    assert not Conv2D(128, 4, stride=2).uses_winograd((8, 14, 14, 64), forward=True, training=False)
    assert Conv2D(64, 4, stride=2).uses_winograd((8, 31, 31, 32), forward=True, training=False)
    assert Conv2D(32, 6, stride=2).uses_winograd((8, 64, 64, 3), forward=False)
    assert not winograd_is_faster((8, 8), (1, 1), 1, 64, 64)
    for kernel_shape in ((1, 1), (1, 5), (2, 2)):
        assert not winograd_rows_are_faster((24, 24), kernel_shape)


@pytest.mark.parametrize("changes", [{"dilation": 1}, {"kernel_shape": 7}, {"kernel_shape": 11, "stride": 2}], ids=str)
def test_winograd_where_it_cannot_be_is_an_error(changes):
    layer = Conv2D(**{"out_ch": 4, "kernel_shape": 3, "algorithm": "winograd", **changes})
    with pytest.raises(ValueError, match="algorithm 'winograd' must have dilation 0 and a kernel of at most"):
        layer.forward(np.zeros((1, 20, 20, 3)))


def test_unknown_algorithm_is_an_error():
    with pytest.raises(ValueError, match="algorithm must be 'auto', 'direct' or 'winograd', got 'fft'"):
        Conv2D(4, 3, algorithm="fft")


def test_outputs_of_a_tile():
    assert [winograd.outputs(kernel) for kernel in range(1, winograd.MAX_KERNEL + 1)] == [7, 7, 6, 4, 4]
    for kernel in (0, -1, winograd.MAX_KERNEL + 1):
        with pytest.raises(ValueError, match=f"kernel must be from 1 to 5, got {kernel}"):
            winograd.outputs(kernel)
