"""Activations: values, derivatives, kinks, dtypes, overflow, names."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reference_cases import case_id, cases, right_array

from cvae.activations import (
    ACTIVATIONS,
    ELU,
    GELU,
    SELU,
    ActivationBase,
    Affine,
    Exponential,
    HardSigmoid,
    Identity,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SoftPlus,
    Tanh,
)
from cvae.parsing import object_from_call

ALL = [
    Sigmoid(), ReLU(), LeakyReLU(), LeakyReLU(alpha=-2), GELU(), GELU(approximate=False), Tanh(),
    Affine(), Affine(slope=2, intercept=-0.5), Identity(), ELU(), ELU(alpha=0.7), Exponential(),
    SELU(), HardSigmoid(), SoftPlus(),
]  # fmt: skip
DTYPES = [np.float16, np.float32, np.float64, np.longdouble]
each_activation = pytest.mark.parametrize("activation", ALL, ids=str)
each_method = pytest.mark.parametrize("method", ["fn", "grad", "grad2"])


def tanh_gelu_derivatives(x):
    """Return the first and second derivative of x (1 + tanh(u)) / 2, by the product and chain rules."""
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    sech2, du, d2u = 1 - t**2, c * (1 + 3 * 0.044715 * x**2), c * 6 * 0.044715 * x
    grad = 0.5 * (1 + t) + 0.5 * x * sech2 * du
    return grad, sech2 * du + 0.5 * x * (sech2 * d2u - 2 * t * sech2 * du**2)


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("activation"), ids=case_id)
@each_method
def test_reference_figures(name, meta, arrays, method):
    activation = object_from_call(meta["activation"], ACTIVATIONS, "activation")
    assert str(activation) == meta["activation"]
    evaluate = getattr(activation, method)
    expected = right_array(meta, arrays, method)
    assert_allclose(evaluate(arrays["x"]), expected, rtol=1e-14, atol=1e-15)
    # Values at kinks and for huge arguments, and GELU's derivatives, which numpy-ml computes incorrectly.
    edge_x = arrays["edge_x"]
    if method in meta["numpy_ml_is_wrong"]:
        expected = tanh_gelu_derivatives(edge_x)[("grad", "grad2").index(method)]
    else:
        expected = right_array(meta, arrays, f"edge_{method}")
    assert_allclose(evaluate(edge_x), expected, rtol=1e-14, atol=1e-15)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize(
    ("activation", "torch_function"),
    [
        (Sigmoid(), lambda torch, x: torch.sigmoid(x)),
        (ReLU(), lambda torch, x: torch.relu(x)),
        (LeakyReLU(0.2), lambda torch, x: torch.nn.functional.leaky_relu(x, 0.2)),
        (GELU(), lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh")),
        (GELU(approximate=False), lambda torch, x: torch.nn.functional.gelu(x)),
        (Tanh(), lambda torch, x: torch.tanh(x)),
        (Affine(2, -0.5), lambda torch, x: 2 * x - 0.5),
        (Identity(), lambda torch, x: 1 * x),
        (ELU(0.7), lambda torch, x: torch.nn.functional.elu(x, 0.7)),
        (Exponential(), lambda torch, x: torch.exp(x)),
        (SELU(), lambda torch, x: torch.selu(x)),
        (HardSigmoid(), lambda torch, x: torch.clamp(0.2 * x + 0.5, 0, 1)),
        (SoftPlus(), lambda torch, x: torch.logaddexp(x, torch.zeros_like(x))),
    ],
    ids=lambda value: str(value) if isinstance(value, ActivationBase) else "",
)
def test_values_and_derivatives_agree_with_torch(torch, activation, torch_function):
    x = np.linspace(-9, 9, 200)  # avoids the kinks at 0 and +-2.5
    tensor = torch.tensor(x, requires_grad=True)
    value = torch_function(torch, tensor)
    (grad,) = torch.autograd.grad(value.sum(), tensor, create_graph=True)
    # PyTorch's tanh approximation of GELU cancels for negative x: its error is that of 1, times x and u'(x).
    assert_allclose(activation.fn(x), value.detach().numpy(), rtol=1e-12, atol=1e-14)
    assert_allclose(activation.grad(x), grad.detach().numpy(), rtol=1e-12, atol=1e-14)
    if grad.requires_grad:
        (grad2,) = torch.autograd.grad(grad.sum(), tensor, allow_unused=True)
        grad2 = np.zeros_like(x) if grad2 is None else grad2.numpy()
        assert_allclose(activation.grad2(x), grad2, rtol=1e-12, atol=1e-14)
    else:
        assert_array_equal(activation.grad2(x), 0)


@each_activation
def test_derivatives_are_central_differences(activation):
    x, h = np.linspace(-6, 6, 100), 1e-5  # no x is within h of a kink
    slope = (activation.fn(x + h) - activation.fn(x - h)) / (2 * h)
    curvature = (activation.grad(x + h) - activation.grad(x - h)) / (2 * h)
    assert_allclose(activation.grad(x), slope, rtol=1e-8, atol=1e-9)
    assert_allclose(activation.grad2(x), curvature, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("activation", "x", "fn", "grad", "grad2"),
    [
        (ReLU(), 0, 0, 0, 0),
        (LeakyReLU(alpha=0.3), 0, 0, 1, 0),
        (ELU(alpha=0.7), 0, 0, 0.7, 0),
        (SELU(), 0, 0, 1.0507009873554805, 1.0507009873554805 * 1.6732632423543772),
        (HardSigmoid(), -2.5, 0, 0.2, 0),
        (HardSigmoid(), 2.5, 1, 0.2, 0),
    ],
    ids=str,
)
def test_values_at_the_kinks(activation, x, fn, grad, grad2):
    assert (activation.fn(x), activation.grad(x), activation.grad2(x)) == (fn, grad, grad2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Sigmoid().fn(-700.0), math.exp(-700)),
        (Sigmoid().grad(700.0), math.exp(-700)),
        (Sigmoid().grad2(700.0), -math.exp(-700)),
        (SoftPlus().fn(-700.0), math.exp(-700)),
        (SoftPlus().grad2(700.0), math.exp(-700)),
        (ELU().fn(-1e-20), -1e-20),
        (GELU(approximate=False).fn(-10.0), -5 * math.erfc(10 / math.sqrt(2))),
        (Exponential().fn(1000.0), math.inf),
    ],
)
def test_small_values_keep_their_digits(value, expected):
    assert_allclose(value, expected, rtol=1e-13, atol=0)


@each_activation
@each_method
@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_arguments_raise_no_warning_and_give_no_nan(activation, method, dtype):
    largest = np.finfo(dtype).max
    fractions = np.array([1, 0.5, 1e-2, 1e-4], dtype=dtype)
    x = np.concatenate([largest * fractions, -largest * fractions, fractions * 1000])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result = getattr(activation, method)(x)
    assert not np.isnan(result).any()


@pytest.mark.parametrize("activation", [a for a in ALL if a not in (Exponential(), Affine(2, -0.5))])
def test_only_true_overflow_gives_infinity(activation):
    x = np.array([-1e300, -800.0, 800.0, 1e300])
    for method in (activation.fn, activation.grad, activation.grad2):
        assert np.isfinite(method(x)).all()


@each_activation
@each_method
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_and_shape_stay(activation, method, dtype):
    evaluate = getattr(activation, method)
    for x in (np.ones((2, 3, 1), dtype), np.ones((0, 4), dtype), np.ones((), dtype), dtype(1)):
        assert evaluate(x).dtype == dtype
        assert evaluate(x).shape == x.shape


@each_activation
@each_method
def test_numbers_lists_integers_and_byte_order(activation, method):
    evaluate = getattr(activation, method)
    expected = evaluate(np.array([-2.0, 0.0, 1.0]))
    assert_array_equal(evaluate([-2, 0, 1]), expected)
    assert_array_equal(evaluate([evaluate(0) * 0 - 2, 0, 1]), expected)
    assert_array_equal(evaluate(np.array([-2, 0, 1], np.int8)), expected)
    swapped = evaluate(np.array([-2, 0, 1], np.dtype(float).newbyteorder()))
    assert_array_equal(swapped, expected)
    assert swapped.dtype.isnative
    assert_array_equal(evaluate(np.array([False, True])), expected[1:])
    assert evaluate(np.array([0, 1], np.uint8)).dtype == np.float64
    assert evaluate(1) == expected[2]


@each_activation
def test_input_is_not_changed(activation):
    x = np.linspace(-50, 50, 11)
    x.flags.writeable = False
    before = x.copy()
    for method in (activation, activation.fn, activation.grad, activation.grad2):
        assert not np.shares_memory(method(x), x) or activation == Identity()
    assert_array_equal(x, before)


@each_activation
def test_a_call_makes_a_row_of_one_dimension(activation):
    x = np.array([-1.0, 0.0, 2.0])
    assert_array_equal(activation(x), activation.fn(x)[np.newaxis])
    assert_array_equal(activation([[1, 2]]), activation.fn([[1, 2]]))
    assert activation(2.0) == activation.fn(2.0)


@pytest.mark.parametrize("x", ["abc", [1j], [None], [{}]])
def test_what_is_not_real_is_a_type_error(x):
    with pytest.raises(TypeError, match="activations take real numbers, got an array of dtype"):
        Tanh().fn(x)


def test_nan_stays_in_fn():
    for activation in ALL:
        assert np.isnan(activation.fn(np.nan)), activation


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("activation", "text"),
    [
        (Sigmoid(), "Sigmoid"),
        (ReLU(), "ReLU"),
        (LeakyReLU(), "Leaky ReLU(alpha=0.3)"),
        (GELU(), "GELU(approximate=True)"),
        (Tanh(), "Tanh"),
        (Affine(), "Affine(slope=1, intercept=0)"),
        (Identity(), "Identity"),
        (ELU(), "ELU(alpha=1.0)"),
        (Exponential(), "Exponential"),
        (SELU(), "SELU"),
        (HardSigmoid(), "Hard Sigmoid"),
        (SoftPlus(), "SoftPlus"),
    ],
)
def test_str(activation, text):
    assert str(activation) == repr(activation) == text


@each_activation
def test_str_is_parsed_back(activation):
    parsed = object_from_call(str(activation), ACTIVATIONS, "activation")
    assert parsed == activation
    assert hash(parsed) == hash(activation)


@given(slope=st.floats(-1e300, 1e300), intercept=st.integers(-(10**9), 10**9))
def test_arguments_are_parsed_back(slope, intercept):
    affine = Affine(slope=slope, intercept=intercept)
    assert object_from_call(str(affine), ACTIVATIONS, "activation") == affine


def test_equality_and_hash():
    assert len(set(ALL)) == len(ALL)
    assert ELU(alpha=1) == ELU(1.0)
    assert ELU(0.5) != ELU(0.6)
    assert Identity() != Affine(1, 0)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: LeakyReLU(alpha="0.3"), TypeError),
        (lambda: LeakyReLU(alpha=math.nan), ValueError),
        (lambda: ELU(alpha=math.inf), ValueError),
        (lambda: ELU(alpha=True), TypeError),
        (lambda: Affine(slope=None), TypeError),
        (lambda: GELU(approximate=1), TypeError),
        (lambda: ReLU(1), TypeError),
        (lambda: ActivationBase(), TypeError),
    ],
)
def test_wrong_arguments(make, error):
    with pytest.raises(error):
        make()
