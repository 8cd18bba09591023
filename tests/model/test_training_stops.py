"""Early ends of training: Ctrl-C, and a loss that is not finite."""

import itertools
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from small_vae import (
    assert_same_bits,
    assert_same_model,
    initialized,
    layers,
    parameters,
    random_images,
    small_vae,
    steps_by_hand,
    subprocess_environment,
    without_times,
)

import cvae
from cvae.callbacks import LambdaCallback
from cvae.optimizers import SGD, Adam
from cvae.schedulers import SchedulerBase

# --------------------------------------------------------------- interruption


class ActsAtStep(SchedulerBase):
    """A constant rate that also calls a function at one step, in the middle of the update."""

    def __init__(self, lr=0.01, action=None, at=0):
        self.lr, self.action, self.at = lr, action, at

    def __call__(self, step=None, cur_loss=None):
        if self.action is not None and step == self.at:
            action, self.action = self.action, None
            action()
        return self.lr


@pytest.fixture
def ctrl_c_raises():
    """Restore the usual effect of Ctrl-C, which background processes ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def interrupted_at(step, X, action=press_ctrl_c, **arguments):
    """Simulate Ctrl-C during the update of a step and return the model."""
    vae = small_vae()
    vae.encoder["Conv2"].optimizer = Adam(lr_scheduler=ActsAtStep(action=action, at=step))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        vae.fit(X, **arguments)
    assert signal.getsignal(signal.SIGINT) is before
    return vae


@pytest.mark.usefixtures("ctrl_c_raises")
@pytest.mark.parametrize("step", [1, 4, 6, 9])
def test_ctrl_c_stops_after_the_batch_under_way(step):
    """Batches of 4, 4 and 2: within an epoch, at the end of one, and at the end of the training."""
    X, rng = random_images(), np.random.default_rng(0)
    vae = interrupted_at(step, X, n_epochs=3)
    assert {layer.optimizer.cur_step for layer in layers(vae).values()} == {step}
    assert len(vae.history_.get("loss", ())) == step // 3
    by_hand = small_vae(random_state=rng)
    for _, _ in zip(range(step), steps_by_hand(by_hand, X, rng, batchsize=4, n_epochs=3), strict=False):
        pass
    assert_same_bits(parameters(vae), parameters(by_hand))
    # The model is consistent: it can be used, and continues with whole epochs.
    assert np.isfinite(vae.fit(X).score(X))
    assert np.isfinite(vae.history_["loss"]).all()


@pytest.mark.usefixtures("ctrl_c_raises")
def test_ctrl_c_at_the_end_of_an_epoch_waits_for_the_callbacks_and_is_not_lost():
    called, X = [], random_images()
    vae = interrupted_at(3, X, n_epochs=3, callbacks=[lambda *_: called.append(1), lambda *_: True])
    assert called == [1]
    assert len(vae.history_["loss"]) == 1


@pytest.mark.usefixtures("ctrl_c_raises")
def test_ctrl_c_in_a_callback_ends_the_training():
    vae = small_vae()
    with pytest.raises(KeyboardInterrupt):
        vae.fit(random_images(), n_epochs=3, callbacks=[lambda *_: press_ctrl_c()])
    assert_same_model(vae, small_vae().fit(random_images(), n_epochs=1), random_images())


@pytest.mark.usefixtures("ctrl_c_raises")
@pytest.mark.parametrize("step", [1, 3, 4, 6, 9])
def test_another_fit_goes_on_with_the_same_bits(step, tmp_path):
    X = random_images()
    whole = small_vae().fit(X, n_epochs=3, validation_data=X)
    count = itertools.count(1)

    def interrupt(vae, batch, loss):
        if next(count) == step:
            press_ctrl_c()

    vae = small_vae()
    with pytest.raises(KeyboardInterrupt):
        vae.fit(X, n_epochs=3, validation_data=X, callbacks=[LambdaCallback(on_batch_end=interrupt)])
    vae.save(tmp_path / "model")
    for interrupted in (vae, cvae.load(tmp_path / "model")):
        n = 3 - len(interrupted.history_.get("loss", ()))
        if n:
            interrupted.fit(X, n_epochs=n, validation_data=X)
        assert interrupted.history_["loss"] == whole.history_["loss"]
        assert_same_bits(parameters(interrupted), parameters(whole))


@pytest.mark.usefixtures("ctrl_c_raises")
def test_ctrl_c_interrupts_the_validation_at_once(monkeypatch):
    X, vae = random_images(), small_vae()
    terms = type(vae)._elbo_terms

    def press_before(*arguments):
        monkeypatch.undo()
        press_ctrl_c()
        pytest.fail("not reached")

    monkeypatch.setattr(type(vae), "_elbo_terms", press_before)
    with pytest.raises(KeyboardInterrupt):
        vae.fit(X, n_epochs=2, validation_data=X)
    assert type(vae)._elbo_terms is terms
    assert vae.history_ == {}
    whole = small_vae().fit(X, n_epochs=2, validation_data=X)
    assert without_times(vae.fit(X, validation_data=X).history_) == without_times(whole.history_)
    assert_same_model(vae, whole, X)


@pytest.mark.usefixtures("ctrl_c_raises")
def test_a_second_ctrl_c_does_not_wait():
    reached = []

    def press_twice():
        press_ctrl_c()
        press_ctrl_c()
        reached.append("the line after")

    vae = interrupted_at(2, random_images(), action=press_twice)
    assert reached == []
    assert {layer.optimizer.cur_step for layer in layers(vae).values()} == {1}
    vae.fit(random_images())


def test_an_ignored_ctrl_c_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        vae = small_vae().fit(random_images(), callbacks=[lambda *_: press_ctrl_c()])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(vae.history_["loss"]) == 2


def test_fit_works_outside_the_main_thread():
    vae = small_vae()
    thread = threading.Thread(target=vae.fit, args=(random_images(),))
    thread.start()
    thread.join()
    assert_same_model(vae, small_vae().fit(random_images()), random_images())


INTERRUPTED_SCRIPT = """
import signal

import numpy as np
from small_vae import assert_same_bits, parameters, random_images, small_vae, steps_by_hand

signal.signal(signal.SIGINT, signal.default_int_handler)
X, rng = random_images(500), np.random.default_rng(0)
vae = small_vae(batchsize=8)
try:
    vae.fit(X, n_epochs=10**6, callbacks=[lambda *_: print("an epoch", flush=True)])
except KeyboardInterrupt:
    steps = vae.encoder["Conv1"].optimizer.cur_step
    assert len(vae.history_["loss"]) == steps // 63
    by_hand = small_vae(random_state=rng)
    for _ in zip(range(steps), steps_by_hand(by_hand, X, rng, batchsize=8, n_epochs=10**6)):
        pass
    assert_same_bits(parameters(vae), parameters(by_hand))
    print("the same bits")
"""


def test_ctrl_c_at_any_moment_leaves_what_whole_batches_give(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED_SCRIPT],
        stdout=subprocess.PIPE,
        text=True,
        env=subprocess_environment(),
        cwd=tmp_path,
    )
    try:
        assert process.stdout.readline() == "an epoch\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out.endswith("the same bits\n")


# ------------------------------------------------------------------ divergence


class GrowsAtStep(SchedulerBase):
    """A small rate that becomes huge at one step."""

    def __init__(self, at=0, lr=0.01, huge=1e30):
        self.at, self.lr, self.huge = at, lr, huge

    def __call__(self, step=None, cur_loss=None):
        return self.huge if step >= self.at else self.lr


def test_a_loss_that_is_not_finite_before_the_first_step_is_not_put_down_to_the_rate():
    vae, y = cvae.VAE("mlp", condition="values", T=2, random_state=0, verbose=False), np.full(10, 1e30)
    message = r"in epoch 1/20, batch 1/1; .* far larger than 1\?\)$"
    with pytest.warns(UserWarning, match="y holds numbers of"), pytest.raises(FloatingPointError, match=message):
        vae.fit(random_images(10), y)


def test_a_loss_that_is_not_finite_stops_with_the_parameters_from_before_the_batch():
    snapshots = []
    vae = small_vae(optimizer=SGD(lr_scheduler=GrowsAtStep(at=3)))
    with pytest.raises(FloatingPointError, match=r"^the loss became (nan|inf) in epoch 4/10, batch 1/1; ") as caught:
        vae.fit(
            random_images(),
            n_epochs=10,
            batchsize=10,
            callbacks=[lambda vae, *_: snapshots.append(parameters(vae))],
        )
    assert "learning rate" in str(caught.value)
    assert len(snapshots) == len(vae.history_["loss"]) == 3
    assert_same_bits(parameters(vae), snapshots[-1])
    assert all(np.isfinite(array).all() for array in parameters(vae).values())
    assert np.isfinite(vae.history_["loss"]).all()
    assert all(not gradient.any() for layer in layers(vae).values() for gradient in layer.gradients.values())


def test_the_failed_batch_is_named():
    vae = small_vae(optimizer=SGD(lr_scheduler=GrowsAtStep(at=4)))
    with pytest.raises(FloatingPointError, match=r" in epoch 2/3, batch 2/3; "):
        vae.fit(random_images(), n_epochs=3)
    assert vae.encoder["Conv1"].optimizer.cur_step == 4


@pytest.mark.parametrize("n_epochs", [1, 2])
def test_a_step_that_overflows_at_the_end_of_an_epoch_is_found(n_epochs):
    """No later loss would tell."""
    vae = small_vae(optimizer=SGD(lr_scheduler=GrowsAtStep(at=n_epochs, huge=1e39)))
    message = rf"^(en|de)coder/.* is no longer finite after epoch {n_epochs}/{n_epochs}; the rate may be too large"
    with pytest.raises(FloatingPointError, match=message):
        vae.fit(random_images(), n_epochs=n_epochs, batchsize=10)
    assert len(vae.history_.get("loss", [])) == n_epochs - 1


@pytest.mark.filterwarnings("ignore:the mean loss rose")
@pytest.mark.parametrize("optimizer", ["SGD", "SGD(momentum=0.9)", "AdaGrad", "RMSProp", "Adam"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_stay_finite_however_large_the_rate(optimizer, dtype):
    """Gradients may overflow while the loss is still finite; such a step must not be taken."""
    X, failed = random_images(20), 0
    for seed, exponent in np.ndindex(6, 10):
        vae = small_vae(optimizer=optimizer, random_state=seed, dtype=dtype, n_epochs=20, batchsize=7)
        for layer in layers(vae).values():
            layer.optimizer.lr = 10.0 ** (exponent if dtype == "float32" else 12 * exponent)
        try:
            vae.fit(X)
        except FloatingPointError:
            failed += 1
        assert all(np.isfinite(array).all() for array in parameters(vae).values())
    assert failed > 40


def test_a_divergence_that_beta_hides_is_found():
    """With beta = 0 the loss excludes an infinite KL divergence, but the code is useless."""
    vae = initialized(small_vae(beta=0.0))
    vae.encoder["FC5"].set_params({"parameters": {"b": np.array([[0.0, 0.0, 1e4, 1e4]])}})
    before = parameters(vae)
    with pytest.raises(FloatingPointError):
        vae.fit(random_images())
    assert_same_bits(parameters(vae), before)
