"""Clipping by the norm of all gradients together: the reference, fit, threads, and what it is refused with."""

import numpy as np
import pytest
from small_vae import (
    assert_same_bits,
    by_path,
    initialized,
    layers,
    parameters,
    random_images,
    small_vae,
    steps_by_hand,
)

import cvae
from cvae.layers import FullyConnected
from cvae.optim.updates import Updates

NETWORK = [
    "Conv2D(out_ch=3, kernel_shape=3)",
    "BatchNorm2D()",
    "Residual(['Conv2D(out_ch=3, kernel_shape=3, pad=1)'])",
    "Flatten()",
]


def with_all_kinds_of_layers(**changes):
    """Return a model with running averages, a residual block, and a scale that is learnt."""
    arguments = {"T": 2, "optimizer": "SGD(lr=1)", "dtype": "float64", "random_state": 0, "verbose": False}
    return cvae.VAE(NETWORK, ["FullyConnected(n_out=5, act_fn='ReLU')"], "Gaussian('shared')", **arguments | changes)


def norm(gradients):
    return np.sqrt(sum(np.square(gradient).sum() for gradient in gradients.values()))


def step(vae, X):
    """Take a step by hand; return parameters from before it and after it, and the gradients."""
    vae.backward(X, vae.forward(X, noise=np.zeros((len(X), vae.T))))
    before, gradients = parameters(vae), by_path(vae.gradients)
    vae.update()
    return before, parameters(vae), gradients


@pytest.mark.parametrize(("share", "factor"), [(0.5, 0.5), (1e-3, 1e-3), (0, 0), (1.01, 1)])
def test_all_gradients_are_scaled_by_the_same_factor(share, factor):
    X = random_images(6)
    _, _, gradients = step(with_all_kinds_of_layers(), X)
    limited = with_all_kinds_of_layers(global_clip_norm=share * norm(gradients))
    before, after, _ = step(limited, X)
    for path, gradient in gradients.items():
        np.testing.assert_allclose(after[path], before[path] - factor * gradient, rtol=1e-12, atol=1e-12, err_msg=path)


def test_gradients_of_frozen_layers_do_not_count():
    X, vae = random_images(6), initialized(small_vae(optimizer="SGD(lr=1)", dtype="float64", global_clip_norm=0.25))
    vae.encoder["Conv1"].freeze()
    before, after, _ = step(vae, X)
    moved = {path: before[path] - after[path] for path in before}
    assert not moved["encoder/Conv1/W"].any()
    assert norm(moved) == pytest.approx(0.25)


@pytest.mark.parametrize("optimizer", ["SGD(lr=0.01, momentum=0.9)", "RMSProp(lr=0.002)", "Adam(lr=0.01)"])
def test_steps_by_hand_give_the_bits_of_fit_on_any_number_of_threads(optimizer):
    X, trained = random_images(10), []
    for n_threads in (1, 2, 3):
        rng = np.random.default_rng(7)
        settings = {"optimizer": optimizer, "global_clip_norm": 0.5, "n_threads": n_threads, "latent_dim": 700}
        trained.append(parameters(initialized(small_vae(random_state=rng, **settings)).fit(X)))
    rng = np.random.default_rng(7)
    by_hand = small_vae(random_state=rng, **settings)
    for _ in steps_by_hand(by_hand, X, rng, batchsize=4, n_epochs=2):
        pass
    for one in trained:
        assert_same_bits(one, parameters(by_hand))


def test_a_limit_that_is_never_reached_changes_no_bits():
    X = random_images(10)
    models = [small_vae(global_clip_norm=limit).fit(X) for limit in (None, 1e30)]
    assert_same_bits(*map(parameters, models))


def test_the_limit_may_change_between_epochs_and_between_calls():
    X = random_images(10)

    def change(vae, epoch, entry):
        vae.global_clip_norm = {1: 0.0, 2: None}.get(epoch)
        seen.append(parameters(vae))

    seen = []
    vae = small_vae(n_epochs=3, optimizer="SGD(lr=0.01)").fit(X, callbacks=[change])
    assert_same_bits(seen[0], seen[1])  # a limit of 0 stops the training
    assert (seen[1]["decoder/FC2/W"] != seen[2]["decoder/FC2/W"]).any()
    vae.set_params(global_clip_norm=0).partial_fit(X)
    assert_same_bits(parameters(vae), seen[2])


def test_an_optimizer_that_clips_itself_is_refused_and_nothing_changes():
    X, vae = random_images(6), small_vae(optimizer="Adam(lr=0.01, clip_norm=1.0)").fit(random_images(6))
    before = parameters(vae)
    vae.set_params(global_clip_norm=2)
    with pytest.raises(
        ValueError, match=r"global_clip_norm must be None with an optimizer that has a clip_norm, got 2"
    ):
        vae.fit(X)
    assert_same_bits(parameters(vae), before)
    assert {layer.optimizer.cur_step for layer in layers(vae).values()} == {4}
    vae.set_params(global_clip_norm=None).fit(X)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", True])
def test_other_limits_are_refused(value):
    with pytest.raises((TypeError, ValueError), match="global_clip_norm must be"):
        small_vae(global_clip_norm=value).fit(random_images(4))


@pytest.mark.parametrize("model", [cvae.VAE, cvae.BernoulliVAE])
def test_the_limit_is_saved(model, tmp_path):
    vae = model(T=2, global_clip_norm=0.5, random_state=0, verbose=False)
    vae.fit(random_images(4, (16, 16, 1)), n_epochs=1).save(tmp_path / "model.safetensors")
    assert cvae.load(tmp_path / "model.safetensors").global_clip_norm == 0.5


def test_gradients_without_a_parameter_do_not_count():
    layer = FullyConnected(n_out=2, optimizer="SGD(lr=1)", dtype="float64", random_state=0)
    layer.initialize((1, 2))
    layer.gradients["W"][:], layer.gradients["b"][:] = 1, 2
    layer.gradients["other"] = np.full(3, 1e9)
    before = layer.parameters["b"].copy()
    Updates().apply([layer], None, norm_limit=np.sqrt(12) / 2)
    np.testing.assert_allclose(before - layer.parameters["b"], 1.0)
