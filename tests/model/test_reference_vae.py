"""BernoulliVAE in float64, step by step, on the models, images and noise of numpy-ml's reference results.

numpy-ml's sampling is wrong, so that its results for the whole model cannot be reproduced. The first step is compared
with PyTorch's results for correct sampling, all steps with the plain reference step and optimizers, which
test_reference_oracles.py compares with numpy-ml's results.
"""

import numpy as np
import pytest
from oracles import Updates, assert_all_equal, vae_step
from reference_cases import below, case_id, cases

from cvae import BernoulliVAE
from cvae.losses import VAELoss

GRADIENTS_BETWEEN_LAYERS = (
    "dDecoder_FC1_out",
    "dDecoder_FC1_in",
    "dDecoder_t_mean",
    "dDecoder_t_log_var",
    "dEncoder_FC5_out",
    "dEncoder_FC4_out",
    "dEncoder_Flatten3_out",
    "dEncoder_Pool2_out",
    "dEncoder_Conv2_out",
    "dEncoder_Pool1_out",
    "dEncoder_Conv1_out",
)


def build(constructor, params):
    """Return a model with the given parameters by path, such as "encoder/Conv1/W"."""
    vae = BernoulliVAE(**constructor, dtype="float64", verbose=False)
    for layer in {path.rpartition("/")[0] for path in params}:
        side, name = layer.split("/")
        getattr(vae, side)[name].set_params({"parameters": below(params, layer + "/")})
    return vae


def by_path(components):
    """Flatten the model's nested dictionaries to one with paths such as "encoder/FC4/b"."""
    return {
        f"{side}/{layer}/{key}": array
        for side, layers in components["components"].items()
        for layer, arrays in layers.items()
        for key, array in arrays.items()
    }


def step(vae, X, noise):
    """Run a step up to the update and return its values under the oracle's names."""
    X_recon = vae.forward(X, noise=noise)
    dX = vae.backward(X, X_recon)
    derived = vae.derived_variables
    mean, log_var = derived["t_mean"], derived["t_log_var"]
    return {
        "X_recon": X_recon,
        "dX": dX,
        "loss": VAELoss()(X.reshape(len(X), -1), X_recon, mean, log_var),
        "grads": {path: np.array(array) for path, array in by_path(vae.gradients).items()},
        **{key: derived[key] for key in ("t_mean", "t_log_var", *GRADIENTS_BETWEEN_LAYERS)},
    }


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("vae"), ids=case_id)
def test_the_first_step_equals_the_right_figures(name, meta, arrays):
    vae = build(meta["constructor"], below(arrays, "step0/param/"))
    got, correct = (
        step(vae, arrays["X"], arrays["step1/noise"]),
        below(arrays, "step1/correct_torch/"),
    )
    assert_all_equal(got, {key: correct[key] for key in ("X_recon", "loss", "dX")})
    assert_all_equal(got["grads"], below(correct, "grad/"))


def assert_training_equals_the_oracle(vae, params, batches, constructor):
    """Train on batches of (images, noise) and compare all values of every step."""
    updates = Updates(constructor["optimizer"])
    for X, noise in batches:
        got, expected = step(vae, X, noise), vae_step(X, params, noise, constructor)
        names = ("X_recon", "loss", "dX", "t_mean", "t_log_var", *GRADIENTS_BETWEEN_LAYERS)
        assert_all_equal(got, {key: expected[key] for key in names})
        assert_all_equal(got["grads"], expected["grads"])
        vae.update(got["loss"])
        params = updates(params, expected["grads"])
        assert_all_equal(by_path(vae.parameters), params)


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("vae"), ids=case_id)
def test_all_steps_equal_the_oracle(name, meta, arrays):
    params = below(arrays, "step0/param/")
    noises = [arrays[f"step{k}/noise"] for k in range(1, meta["steps"] + 1)]
    vae = build(meta["constructor"], params)
    batches = [(arrays["X"], noise) for noise in noises]
    assert_training_equals_the_oracle(vae, params, batches, meta["constructor"])


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("vae_fit"), ids=case_id)
def test_two_epochs_in_batches_equal_the_oracle(name, meta, arrays):
    params, size = below(arrays, "param_before/"), meta["batchsize"]
    indices = [o[i : i + size] for o in arrays["epoch_orders"] for i in range(0, len(o), size)]
    batches = [(arrays["X"][i], arrays[f"noise_batch_{j}"]) for j, i in enumerate(indices)]
    vae = build(meta["constructor"], params)
    assert_training_equals_the_oracle(vae, params, batches, meta["constructor"])
