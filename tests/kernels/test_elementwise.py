"""The compiled elementwise kernels: ReLU's derivative, the logistic function, gathering and range of images."""

import math

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kernel_checks import assert_margins_untouched, each_dtype, exact, normal, output, read_only

from cvae._kernels import elementwise, pixelwise
from cvae._kernels.program import Program
from cvae.runtime.programs import execute, run

# Around multiples of vectors, of pieces (4096) and of the least work for several threads (8192, 32768).
SIZES = [0, 1, 2, 3, 15, 16, 17, 33, 4095, 4096, 4097, 8191, 8192, 32767, 32768, 40001]
EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}


def sigmoid(z):
    out = output(z.shape, z.dtype)
    run(elementwise.sigmoid, out, z, n_threads=2)
    assert_margins_untouched(out)
    return out


def relu_backward(dy, y):
    dz = output(dy.shape, dy.dtype)
    run(elementwise.relu_backward, dz, dy, y, n_threads=2)
    assert_margins_untouched(dz)
    return dz


@each_dtype
@pytest.mark.parametrize("size", SIZES)
def test_relu_backward_passes_the_gradient_where_the_output_is_positive(size, dtype):
    rng = np.random.default_rng(1)
    dy, y = normal(rng, (size,), dtype), np.maximum(normal(rng, (size,), dtype), 0)
    expected = oracles.relu_backward(dy, y)
    np.testing.assert_array_equal(relu_backward(dy, y), expected)
    in_place = np.array(dy)
    run(elementwise.relu_backward, in_place, in_place, y, n_threads=2)
    np.testing.assert_array_equal(in_place, expected)


@each_dtype
def test_relu_backward_at_special_values(dtype):
    tiny = np.finfo(dtype).tiny
    y = np.array([0, -0.0, -1, np.nan, np.inf, -np.inf, tiny, -tiny], dtype)
    np.testing.assert_array_equal(relu_backward(np.ones_like(y), y), [0, 0, 0, 0, 1, 0, 1, 0])
    # Gradients that are not passed on are 0 even if they are not finite.
    np.testing.assert_array_equal(relu_backward(np.full_like(y, np.inf), y)[:2], [0, 0])


@each_dtype
@pytest.mark.parametrize("size", SIZES)
def test_sigmoid_equals_the_reference(size, dtype):
    z = 5 * normal(np.random.default_rng(2), (size,), dtype)
    expected = oracles.sigmoid(exact(z)[0])
    np.testing.assert_allclose(sigmoid(z), expected, rtol=4 * EPS[dtype])
    in_place = np.array(z)
    run(elementwise.sigmoid, in_place, in_place, n_threads=2)
    np.testing.assert_array_equal(in_place, sigmoid(z))


@each_dtype
def test_sigmoid_keeps_its_relative_precision_down_to_the_smallest_number(dtype):
    z = np.array([-5, -20, -50, -80, -86, -700 if dtype == np.float64 else -85], dtype)
    expected = [math.exp(value) / (1 + math.exp(value)) for value in z.tolist()]
    np.testing.assert_allclose(sigmoid(z), expected, rtol=4 * EPS[dtype])


@each_dtype
def test_sigmoid_at_special_values(dtype):
    largest = np.finfo(dtype).max
    np.testing.assert_array_equal(sigmoid(np.array([0, -0.0, 1e-40, largest, np.inf], dtype)), [0.5, 0.5, 0.5, 1, 1])
    # The result is about the smallest normal number instead of a subnormal number or 0.
    p = sigmoid(np.array([-90 if dtype == np.float32 else -710, -largest, -np.inf], dtype))
    assert ((p >= 0) & (p <= 2 * np.finfo(dtype).smallest_normal)).all()
    assert np.isnan(sigmoid(np.array([np.nan], dtype))).all()


@each_dtype
@given(data=st.data())
def test_sigmoid_is_monotone_and_symmetric(data, dtype):
    elements = st.floats(width=8 * np.dtype(dtype).itemsize, allow_nan=False)
    z = np.sort(data.draw(hnp.arrays(dtype, st.integers(1, 50), elements=elements)))
    p = sigmoid(z)
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) >= -2 * EPS[dtype] * p[1:]).all()
    np.testing.assert_allclose(p + sigmoid(-z), 1, rtol=2 * EPS[dtype])


def gather_bytes(images, indices, dtype):
    out = output((len(indices), images.shape[1]), dtype)
    run(pixelwise.gather_bytes, out, images, indices, n_threads=2)
    assert_margins_untouched(out)
    return out


# Images of odd sizes, no images, empty images, and more pixels than one thread handles alone (32768).
@each_dtype
@pytest.mark.parametrize(
    ("n", "m"), [(0, 5), (5, 0), (1, 1), (3, 7), (2, 17), (8, 33), (41, 784), (42, 784), (1, 32769), (40_000, 1)]
)
def test_gather_bytes_gives_the_quotients_of_numpy(n, m, dtype):
    rng = np.random.default_rng(3)
    images = read_only(rng.integers(0, 256, (9, m), np.uint8))
    indices = read_only(rng.integers(0, 9, n).astype(np.intp))
    expected = oracles.scale_bytes(images[indices], dtype)
    assert expected.dtype == dtype
    np.testing.assert_array_equal(gather_bytes(images, indices, dtype), expected)


@each_dtype
def test_gather_bytes_divides_every_byte_as_numpy_does(dtype):
    images = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.divide(images, 255, dtype=dtype)
    np.testing.assert_array_equal(gather_bytes(images, np.arange(16), dtype), expected)
    np.testing.assert_array_equal(gather_bytes(images, np.arange(16)[::-1].copy(), dtype), expected[::-1])
    np.testing.assert_array_equal(gather_bytes(images, np.full(3, 15), dtype), expected[[15, 15, 15]])


@pytest.mark.parametrize("index", [5, -1, 2**62, -(2**63)])
@pytest.mark.parametrize("place", [0, 2])
def test_gather_bytes_refuses_indices_outside(place, index):
    indices = np.array([0, 4, 1], np.intp)
    indices[place] = index
    with pytest.raises(IndexError, match=rf"indices must lie in 0\.\.4, got {index}$"):
        gather_bytes(np.zeros((5, 6), np.uint8), indices, np.float32)


def test_gather_bytes_of_no_images():
    assert gather_bytes(np.zeros((0, 6), np.uint8), np.zeros(0, np.intp), np.float32).shape == (0, 6)
    with pytest.raises(IndexError, match="indices must lie in"):
        gather_bytes(np.zeros((0, 6), np.uint8), np.zeros(1, np.intp), np.float32)


@each_dtype
@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (1, 1), (3, 7), (41, 784), (42, 784), (1, 32769)])
def test_gather_copies_images(n, m, dtype):
    rng = np.random.default_rng(4)
    images, indices = normal(rng, (9, m), dtype), read_only(rng.integers(0, 9, n).astype(np.intp))
    out = output((n, m), dtype)
    run(pixelwise.gather, out, images, indices, n_threads=2)
    assert_margins_untouched(out)
    np.testing.assert_array_equal(out, images[indices])


def test_gather_refuses_indices_outside_and_other_shapes():
    out, images = np.zeros((2, 6), np.float32), np.zeros((5, 6), np.float32)
    for indices in ([0, 5], [-1, 0]):
        with pytest.raises(IndexError, match=r"indices must lie in 0\.\.4, got"):
            run(pixelwise.gather, out, images, np.array(indices, np.intp))
    for wrong in ([out[:1], images], [out, images[:, :5].copy()], [out, images.astype(np.float64)]):
        with pytest.raises(ValueError, match=r"out, images and indices must be|mismatch"):
            run(pixelwise.gather, *wrong, np.zeros(2, np.intp))


def is_in_unit_range(x, n_threads):
    outside = output((1,), np.uint8)
    run(pixelwise.is_in_unit_range, outside, x, n_threads=n_threads)
    assert_margins_untouched(outside)
    assert outside[0] in (0, 1)
    return not outside[0]


@each_dtype
@pytest.mark.parametrize("size", [1, 7, 4096, 4097, 50_000])
def test_is_in_unit_range(size, dtype):
    x = np.linspace(0, 1, size, dtype=dtype)
    for n_threads in (1, 3, 7) if size < 50_000 else range(1, 8):
        assert is_in_unit_range(x, n_threads)
        assert is_in_unit_range(read_only(-0.0 * x), n_threads)
        for place in (0, size // 2, size - 1):
            for value in (np.nextafter(dtype(1), dtype(2)), -np.finfo(dtype).tiny, np.nan, np.inf, -np.inf):
                bad = x.copy()
                bad[place] = value
                assert not is_in_unit_range(bad, n_threads)
    assert is_in_unit_range(x[:0], 2)


@each_dtype
@given(data=st.data())
def test_is_in_unit_range_equals_the_reference(data, dtype):
    width = 8 * np.dtype(dtype).itemsize
    inside = st.floats(0, 1, width=width)
    outside = st.floats(width=width, allow_subnormal=False)  # which kernels may take for 0
    elements = data.draw(st.sampled_from([inside, inside | outside]))
    x = data.draw(hnp.arrays(dtype, st.integers(0, 40), elements=elements))
    assert is_in_unit_range(x, 2) == oracles.in_unit_range(x)


@each_dtype
def test_a_program_looks_at_the_range_again_and_again(dtype):
    x, outside, program = np.full(40_000, 0.5, dtype), np.array([7], np.uint8), Program()
    pixelwise.is_in_unit_range(program, outside, x)
    for value in (0.5, -1, 1, 2, 0):
        x[39_999] = value
        execute(program, 3)
        assert outside == [not 0 <= value <= 1]


def test_the_arrays_of_is_in_unit_range_are_checked():
    x, outside = np.zeros(10, np.float32), np.zeros(1, np.uint8)
    for wrong in (np.zeros(0, np.uint8), np.zeros(2, np.uint8), np.zeros(1), None, read_only(np.zeros(1, np.uint8))):
        with pytest.raises((TypeError, ValueError)):
            run(pixelwise.is_in_unit_range, wrong, x)
    for wrong in (x.astype(np.int32), None, x.reshape(2, 5), x[::2]):
        with pytest.raises((TypeError, ValueError)):
            run(pixelwise.is_in_unit_range, outside, wrong)


# ------------------------------------------------------------------ arguments


def call(name, arrays):
    run(pixelwise.gather_bytes if name == "gather_bytes" else getattr(elementwise, name), *arrays)


@pytest.mark.parametrize(("name", "count"), [("relu_backward", 3), ("sigmoid", 2)])
def test_every_array_is_checked(name, count):
    good = [np.zeros(10, np.float32) for _ in range(count)]
    call(name, good)
    for i, array in enumerate(good):
        for size in (0, 9, 11):
            with pytest.raises(ValueError, match="must have the same size"):
                call(name, [*good[:i], np.zeros(size, np.float32), *good[i + 1 :]])
        wrong = [array.astype(np.float64), array.astype(np.int32), None, array.tolist(), array.reshape(2, 5)]
        wrong += [np.repeat(array, 2)[::2], array.astype(array.dtype.newbyteorder())]
        for value in wrong:
            with pytest.raises((TypeError, ValueError)):
                call(name, [*good[:i], value, *good[i + 1 :]])


@pytest.mark.parametrize(("name", "count"), [("relu_backward", 3), ("sigmoid", 2)])
def test_outputs_must_be_writable(name, count):
    arrays = [np.zeros(10, np.float32) for _ in range(count)]
    arrays[0].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        call(name, arrays)


def gather_arrays():
    return [np.zeros((3, 8), np.float32), np.zeros((5, 8), np.uint8), np.zeros(3, np.intp)]


def test_every_array_of_gather_bytes_is_checked():
    good = gather_arrays()
    call("gather_bytes", good)
    shapes = {0: [(2, 8), (4, 8), (3, 7), (3, 9), (0, 8), (3, 0)], 1: [(5, 7), (5, 9), (5, 0)], 2: [(2,), (4,), (0,)]}
    for i, array in enumerate(good):
        for shape in shapes[i]:
            with pytest.raises(ValueError, match=r"out, images and indices must be \(n, m\), \(any, m\) and \(n\)"):
                call("gather_bytes", [*good[:i], np.zeros(shape, array.dtype), *good[i + 1 :]])
        wrong = [array.astype(np.int8), array.astype(np.uint16), array.astype(np.complex64), None, array.tolist()]
        wrong += [array[np.newaxis], np.repeat(array, 2, axis=-1)[..., ::2]]
        if array.itemsize > 1:
            wrong.append(array.astype(array.dtype.newbyteorder()))
        for value in wrong:
            with pytest.raises((TypeError, ValueError)):
                call("gather_bytes", [*good[:i], value, *good[i + 1 :]])


def test_the_output_of_gather_bytes_must_be_writable():
    arrays = gather_arrays()
    arrays[0].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        call("gather_bytes", arrays)
