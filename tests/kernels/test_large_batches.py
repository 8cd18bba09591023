"""Batches so large that the gradient of the weights is summed in more parts, for more threads to share it."""

import math

import numpy as np
import pytest
from program_checks import CONV, POOL, STRIDED, Guarded, record

from cvae._kernels import conv2d, conv_pool, winograd
from cvae.runtime.programs import execute

N = 1100  # images
X, W, Y, B, POOLED = (9, 8, 3), (3, 3, 3, 20), (7, 6, 20), (20,), (6, 5, 20)
BLOCK = {"conv": {**CONV, "out_shape": Y[:2]}, "pool": POOL}
EACH = 100  # images in a small batch


def direct(program, dw, db, x, dy, argmax, dpooled, w):
    conv2d.conv2d_grad_weight(program, dw, db, x, dy, **CONV)


def by_winograd(program, dw, db, x, dy, argmax, dpooled, w):
    winograd.backward(program, None, dw, db, x, dy, w, **STRIDED)


def block(fast):
    def kernel(program, dw, db, x, dy, argmax, dpooled, w):
        conv_pool.backward(program, None, dw, db, x, argmax, dpooled, w, **BLOCK, winograd=fast)

    return kernel


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "kernel", [direct, by_winograd, block(False), block(True)], ids=["direct", "winograd", "block", "fast_block"]
)
def test_the_gradient_is_that_of_small_batches_on_any_number_of_threads(kernel, dtype):
    rng = np.random.default_rng(0)
    x, dy, dpooled = (rng.normal(size=(N, *shape)).astype(dtype) for shape in (X, Y, POOLED))
    argmax, w = rng.integers(0, 4, dpooled.shape).astype(np.uint8), rng.normal(size=W).astype(dtype)

    def gradients(part, n_threads):
        dw, db = np.empty(W, dtype), np.empty(B, dtype)
        program = record([(kernel, (dw, db, x[part], dy[part], argmax[part], dpooled[part], w), {})])
        execute(program, n_threads)
        return dw, db

    whole = gradients(slice(None), 1)
    for n_threads in (2, 7):
        for one, other in zip(whole, gradients(slice(None), n_threads), strict=True):
            np.testing.assert_array_equal(one, other)
    parts = [gradients(slice(start, start + EACH), 1) for start in range(0, N, EACH)]
    for found, of_parts in zip(whole, zip(*parts, strict=True), strict=True):
        scale = math.sqrt(N) * 50 * np.finfo(dtype).eps
        np.testing.assert_allclose(found, np.sum(of_parts, axis=0, dtype=np.float64), rtol=scale, atol=scale * 10)


@pytest.mark.parametrize(("n", "pieces"), [(511, 8), (512, 16), (1100, 34)])
def test_large_batches_have_more_pieces(n, pieces):
    x, dy = np.ones((n, *X), np.float32), np.ones((n, *Y), np.float32)
    program = record([(direct, (np.empty(W, np.float32), np.empty(B, np.float32), x, dy, None, None, None), {})])
    (_, seconds, _), _ = program.timed(workspace=Guarded(), n_threads=1)
    assert len(seconds) == pieces
