"""The plain reference implementations, compared with the results of numpy-ml.

Where numpy-ml is wrong, they are compared with the documented corrections. numpy-ml's sampling is wrong too, which
affects all results of the whole model; the plain VAE step can reproduce it, so that these results can be used.
"""

import math

import numpy as np
import pytest
from oracles import (
    OPTIMIZERS,
    Updates,
    assert_all_equal,
    assert_equal_to_rounding,
    bce_with_logits,
    conv2d_forward,
    conv2d_grad_input,
    conv2d_grad_weight,
    dense_backward,
    dense_forward,
    kl_divergence,
    pool2d_average_backward,
    pool2d_average_forward,
    pool2d_max_backward,
    pool2d_max_forward,
    sigmoid,
    vae_step,
)
from reference_cases import below, case_id, cases, right_array

TANH_GELU = math.sqrt(2 / math.pi)


def derivative_of_tanh_gelu(z):
    inner = np.tanh(TANH_GELU * (z + 0.044715 * z**3))
    slope = TANH_GELU * (1 + 3 * 0.044715 * z**2)
    return 0.5 * (1 + inner) + 0.5 * z * (1 - inner**2) * slope


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
DERIVATIVES = {
    "Sigmoid": lambda z: sigmoid(z) * (1 - sigmoid(z)),
    "ReLU": lambda z: np.where(z > 0, 1.0, 0.0),
    "Tanh": lambda z: 1 - np.tanh(z) ** 2,
    "Leaky ReLU(alpha=0.3)": lambda z: np.where(z < 0, 0.3, 1.0),
    "GELU(approximate=True)": derivative_of_tanh_gelu,
    "Affine(slope=2.0, intercept=-0.5)": lambda z: np.full_like(z, 2.0),
    "Identity": np.ones_like,
    "ELU(alpha=0.7)": lambda z: np.where(z > 0, 1.0, 0.7 * np.exp(z)),
    "Exponential": np.exp,
    "SELU": lambda z: SELU_SCALE * np.where(z >= 0, 1.0, SELU_ALPHA * np.exp(z)),
    "Hard Sigmoid": lambda z: np.where(np.abs(z) <= 2.5, 0.2, 0.0),
    "SoftPlus": sigmoid,
}


def passes(arrays):
    """Return the suffixes of a case's forward passes: "" for one, "_0" and "_1" for two."""
    return ["_0", "_1"] if "X_0" in arrays else [""]


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("conv2d"), ids=case_id)
def test_conv2d_equals_numpy_ml(name, meta, arrays):
    kernel_shape, pad = meta["kernel_shape"], meta.get("pad_top_bottom_left_right", (1, 1, 1, 1))
    geometry = (meta["stride"], pad, meta["dilation"])
    W, b = arrays["W"], arrays["b"]
    assert W.shape[:2] == kernel_shape
    dW = db = 0.0
    for i in passes(arrays):
        X, dY = arrays[f"X{i}"], arrays[f"dY{i}"]
        Z = conv2d_forward(X, W, b, *geometry)
        if "Z" in arrays:
            assert_equal_to_rounding(Z, arrays["Z"])
        dZ = dY * DERIVATIVES[meta["act_fn"]](Z)
        assert_equal_to_rounding(conv2d_grad_input(dZ, W, X.shape, *geometry), arrays[f"dX{i}"])
        more_dW, more_db = conv2d_grad_weight(dZ, X, W.shape, *geometry)
        dW, db = dW + more_dW, db + more_db
    assert_equal_to_rounding(dW, arrays["dW"])
    assert_equal_to_rounding(db, arrays["db"])


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("pool2d"), ids=case_id)
def test_pooling_equals_numpy_ml(name, meta, arrays):
    X, dY = arrays["X"], arrays["dY"]
    window = (meta["kernel_shape"], meta["stride"], meta["pad_top_bottom_left_right"])
    if meta["mode"] == "max":
        Y, argmax = pool2d_max_forward(X, *window)
        dX = pool2d_max_backward(dY, argmax, X.shape, *window)
    else:
        Y = pool2d_average_forward(X, *window)
        dX = pool2d_average_backward(dY, X.shape, *window)
    assert_equal_to_rounding(Y, arrays["Y"])
    assert_equal_to_rounding(dX, right_array(meta, arrays, "dX"))


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("fullyconnected"), ids=case_id)
def test_dense_equals_numpy_ml(name, meta, arrays):
    W, b = arrays["W"], arrays["b"]
    dW = db = 0.0
    for i in passes(arrays):
        X, dY = arrays[f"X{i}"], arrays[f"dY{i}"]
        Z = dense_forward(X, W, b)
        if "Z" in arrays:
            assert_equal_to_rounding(Z, arrays["Z"])
        dX, more_dW, more_db = dense_backward(dY * DERIVATIVES[meta["act_fn"]](Z), X, W)
        assert_equal_to_rounding(dX, right_array(meta, arrays, f"dX{i}"))
        dW, db = dW + more_dW, db + more_db
    assert_equal_to_rounding(dW, right_array(meta, arrays, "dW"))
    assert_equal_to_rounding(db, right_array(meta, arrays, "db"))


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("vaeloss"), ids=case_id)
def test_losses_equal_numpy_ml(name, meta, arrays):
    n, y = len(arrays["y"]), arrays["y"]
    p = np.clip(arrays["y_pred"], meta["eps"], 1 - meta["eps"])
    bce, dlogits = bce_with_logits(np.log(p / (1 - p)), y)
    kl, dmean, dlog_var = kl_divergence(arrays["t_mean"], arrays["t_log_var"])
    assert_equal_to_rounding((bce + kl).mean(), arrays["loss"])
    assert_equal_to_rounding(dmean / n, arrays["dMean"])
    assert_equal_to_rounding(dlog_var / n, arrays["dLogVar"])
    if "dY_pred" not in meta["numpy_ml_is_wrong"]:
        assert_equal_to_rounding(dlogits / (n * p * (1 - p)), arrays["dY_pred"])


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("optimizer"), ids=case_id)
def test_optimizers_equal_numpy_ml(name, meta, arrays):
    arguments = {k: v for k, v in meta["arguments"].items() if k not in ("lr", "lr_scheduler")}
    for param_name in ("W", "b"):
        param, state = arrays[f"{param_name}_0"], {}
        for t, lr in enumerate(arrays["learning_rates"], start=1):
            grad = arrays[f"d{param_name}_{t}"]
            param = OPTIMIZERS[meta["optimizer"]](param, grad, state, lr=lr, **arguments)
            assert_equal_to_rounding(param, arrays[f"{param_name}_{t}"])


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("vae"), ids=case_id)
def test_vae_steps_equal_numpy_ml_with_its_sampling(name, meta, arrays):
    X, architecture = arrays["X"], meta["constructor"]
    params, updates = below(arrays, "step0/param/"), Updates(architecture["optimizer"])
    for k in range(1, meta["steps"] + 1):
        step = below(arrays, f"step{k}/")
        v = vae_step(X, params, step["noise"], architecture, log_var_scale=1.0)
        names = ("X_recon", "loss", "t_mean", "t_log_var", "dX")
        assert_all_equal(v, {key: step[key] for key in names})
        assert_all_equal(v, below(step, "derived/"))
        assert_all_equal(v["grads"], below(step, "grad/"))
        params = updates(params, v["grads"])
        assert_all_equal(params, below(step, "param/"))


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("vae"), ids=case_id)
def test_vae_step_equals_the_correct_figures_with_the_right_sampling(name, meta, arrays):
    params, correct = below(arrays, "step0/param/"), below(arrays, "step1/correct_torch/")
    v = vae_step(arrays["X"], params, arrays["step1/noise"], meta["constructor"])
    assert_all_equal(v, {key: correct[key] for key in ("X_recon", "loss", "dX")})
    assert_all_equal(v["grads"], below(correct, "grad/"))


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("vae_fit"), ids=case_id)
def test_vae_training_equals_numpy_ml_with_its_sampling(name, meta, arrays):
    params, updates = below(arrays, "param_before/"), Updates(meta["constructor"]["optimizer"])
    size = meta["batchsize"]
    batches = [o[i : i + size] for o in arrays["epoch_orders"] for i in range(0, len(o), size)]
    for j, (batch, loss) in enumerate(zip(batches, arrays["batch_losses"], strict=True)):
        noise = arrays[f"noise_batch_{j}"]
        v = vae_step(arrays["X"][batch], params, noise, meta["constructor"], log_var_scale=1.0)
        assert_equal_to_rounding(v["loss"], loss)
        params = updates(params, v["grads"])
    assert_all_equal(params, below(arrays, "param_after/"))
