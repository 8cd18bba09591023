"""The VAE loss from probabilities, and its gradient."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_cases import case_id, cases

from cvae.losses import VAELoss

EPS = 2.220446049250313e-16
ARGUMENTS = ("y", "y_pred", "t_mean", "t_log_var")


def random_arguments(seed=0, n=4, n_pixels=6, n_latent=3, dtype=np.float64):
    rng = np.random.default_rng(seed)
    arrays = (
        rng.random((n, n_pixels)),
        rng.uniform(0.05, 0.95, (n, n_pixels)),
        rng.standard_normal((n, n_latent)),
        rng.standard_normal((n, n_latent)),
    )
    return tuple(array.astype(dtype) for array in arrays)


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("vaeloss"), ids=case_id)
def test_reference_figures(name, meta, arrays):
    arguments = [arrays[argument] for argument in ARGUMENTS]
    assert_allclose(VAELoss()(*arguments), arrays["loss"], rtol=1e-14)
    dY_pred, dLogVar, dMean = VAELoss.grad(*arguments)
    assert_allclose(dLogVar, arrays["dLogVar"], rtol=1e-14, atol=1e-16)
    assert_allclose(dMean, arrays["dMean"], rtol=1e-14, atol=1e-16)
    y, y_pred = arguments[:2]
    clipped = (y_pred < EPS) | (y_pred > 1 - EPS)
    assert_allclose(dY_pred[~clipped], arrays["dY_pred"][~clipped], rtol=1e-13)
    # Clipped at EPS from 0 or 1, the slope is 1 / (n EPS) for the opposite target, otherwise close to 1 / n.
    wrong_side = clipped & (y != np.round(y_pred))
    expected = np.where(wrong_side, 1 / EPS, 1 / (1 - EPS)) * np.where(y == 1, -1, 1) / len(y)
    assert_allclose(dY_pred[clipped], expected[clipped], rtol=1e-14)
    assert meta["numpy_ml_is_wrong"] == (["dY_pred"] if wrong_side.any() else [])


def test_closed_form():
    y, y_pred = np.array([[1.0, 0.0], [0.25, 1.0]]), np.array([[0.5, 0.25], [0.5, 0.75]])
    t_mean, t_log_var = np.array([[1.0], [0.0]]), np.array([[0.0], [math.log(4)]])
    cross_entropy = -(math.log(0.5) + math.log(0.75) + math.log(0.5) + math.log(0.75))
    divergence = 0.5 + 0.5 * (4 - 1 - math.log(4))
    for beta in (0, 1, 4.5):
        expected = (cross_entropy + beta * divergence) / 2
        assert_allclose(VAELoss.loss(y, y_pred, t_mean, t_log_var, beta=beta), expected, rtol=1e-14)


def test_loss_is_zero_for_certain_images_and_a_standard_normal_code():
    y = np.array([[0.0, 1.0]])
    assert abs(VAELoss.loss(y, y, np.zeros((1, 3)), np.zeros((1, 3)))) < 1e-15


@pytest.mark.parametrize("beta", [0, 1, 2.5])
def test_gradient_is_the_central_difference_of_the_loss(beta):
    arguments = list(random_arguments())
    dY_pred, dLogVar, dMean = VAELoss.grad(*arguments, beta=beta)
    for position, grad in ((1, dY_pred), (2, dMean), (3, dLogVar)):
        for index in np.ndindex(grad.shape):
            losses = []
            for h in (1e-6, -1e-6):
                moved = list(arguments)
                moved[position] = arguments[position].copy()
                moved[position][index] += h
                losses.append(VAELoss.loss(*moved, beta=beta))
            slope = (losses[0] - losses[1]) / 2e-6
            assert_allclose(grad[index], slope, rtol=1e-6, atol=1e-8)


def test_loss_and_gradient_agree_with_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    arguments = random_arguments(seed=1)
    y, y_pred, mean, log_var = (torch.tensor(array, requires_grad=True) for array in arguments)
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(mean, torch.exp(log_var / 2)), normal(0.0, 1.0))
    cross_entropy = torch.nn.functional.binary_cross_entropy(y_pred, y.detach(), reduction="sum")
    loss = (cross_entropy + 3 * divergence.sum()) / len(y)
    loss.backward()
    assert_allclose(VAELoss()(*arguments, beta=3), loss.item(), rtol=1e-14)
    for grad, tensor in zip(VAELoss.grad(*arguments, beta=3), (y_pred, log_var, mean), strict=True):
        assert_allclose(grad, tensor.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_float32_is_computed_in_float64_and_keeps_its_dtype():
    single = random_arguments(seed=2, n=3, dtype=np.float32)
    double = tuple(array.astype(np.float64) for array in single)
    assert VAELoss.loss(*single) == VAELoss.loss(*double)
    for grad, expected in zip(VAELoss.grad(*single), VAELoss.grad(*double), strict=True):
        assert grad.dtype == np.float32
        assert_array_equal(grad, expected.astype(np.float32))


def test_lists_and_integers():
    y, y_pred, t_mean, t_log_var = [[0, 1]], [[0.5, 0.5]], [[1]], [[0]]
    assert_allclose(VAELoss()(y, y_pred, t_mean, t_log_var), 2 * math.log(2) + 0.5, rtol=1e-15)
    assert [grad.dtype for grad in VAELoss.grad(y, y_pred, t_mean, t_log_var)] == [np.float64] * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_certain_and_wrong_predictions_stay_finite(dtype):
    y, y_pred = np.array([[0, 1]], dtype), np.array([[1, 0]], dtype)
    code = np.zeros((1, 1), dtype)
    assert_allclose(VAELoss.loss(y, y_pred, code, code), -2 * math.log(EPS), rtol=1e-12)
    dY_pred, _, _ = VAELoss.grad(y, y_pred, code, code)
    assert_allclose(dY_pred, [[1 / EPS, -1 / EPS]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_huge_log_var_is_infinite_without_a_warning(dtype):
    y, mean, log_var = (np.full((1, 1), value, dtype) for value in (0.5, 0, 1000))
    assert VAELoss.loss(y, y, mean, log_var) == math.inf
    assert VAELoss.grad(y, y, mean, log_var)[1] == math.inf


def test_inputs_are_not_changed():
    arguments = random_arguments(seed=3)
    arguments[1][0, 0] = 0
    before = [array.copy() for array in arguments]
    for array in arguments:
        array.flags.writeable = False
    VAELoss.loss(*arguments)
    VAELoss.grad(*arguments)
    for array, copied in zip(arguments, before, strict=True):
        assert_array_equal(array, copied)


@pytest.mark.parametrize(
    "shapes",
    [
        [(4, 6), (4, 5), (4, 3), (4, 3)],
        [(4, 6), (4, 6), (4, 3), (4, 1)],
        [(4, 6), (4, 6), (1, 3), (1, 3)],
        [(4, 6), (1, 6), (4, 3), (4, 3)],
        [(6,), (6,), (3,), (3,)],
        [(4, 2, 3), (4, 2, 3), (4, 3), (4, 3)],
        [(4, 6), (4, 6), (4, 3, 1), (4, 3, 1)],
        [(0, 6), (0, 6), (0, 3), (0, 3)],
    ],
)
def test_shapes_that_do_not_fit(shapes):
    arguments = [np.full(shape, 0.5) for shape in shapes]
    for function in (VAELoss(), VAELoss.loss, VAELoss.grad):
        with pytest.raises(ValueError, match=r"y and y_pred must both be \(n, N\), t_mean and"):
            function(*arguments)


@pytest.mark.parametrize(("beta", "error"), [(-1, ValueError), (math.nan, ValueError), ("1", TypeError)])
def test_wrong_beta(beta, error):
    for function in (VAELoss(), VAELoss.loss, VAELoss.grad):
        with pytest.raises(error, match=r"beta must be a number in \[0, inf\), got"):
            function(*random_arguments(), beta=beta)


def test_str():
    assert str(VAELoss()) == "VAELoss"
