"""Schedulers: rates, state, arguments and call strings."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from reference_cases import case_id, cases

from cvae.schedulers import (
    ConstantScheduler,
    CosineScheduler,
    ExponentialScheduler,
    KingScheduler,
    NoamScheduler,
    make_scheduler,
)


def king_rates(losses, initial_lr, patience, decay):
    """Return the rates of KingScheduler by its definition, with NumPy's line fit."""
    n, history, rate, rates = patience + 1, [], initial_lr, []
    for loss in losses:
        history.append(loss)
        kept = np.array(history[-(math.ceil(patience / 0.9) + 1) :])
        robust = kept[kept <= np.quantile(kept, 0.9)]
        if len(robust) >= n and all(probability_of_fall(y[-n:]) < 0.51 for y in (kept, robust)):
            rate *= decay
            history = []
        rates.append(rate)
    return rates


def probability_of_fall(y):
    n = len(y)
    x = np.arange(n)
    slope, intercept = np.polyfit(x, y, 1)
    residual_variance = ((y - slope * x - intercept) ** 2).sum() / (n - 2)
    slope_variance = residual_variance / ((x - x.mean()) ** 2).sum()
    return 0.5 * (1 + math.erf(-slope / math.sqrt(2 * (slope_variance + 2.2e-16))))


def ask(scheduler, steps, losses=None):
    losses = [None] * len(steps) if losses is None else losses
    return [scheduler(int(step), loss) for step, loss in zip(steps, losses, strict=True)]


# ------------------------------------------------------------------- rates


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("scheduler"), ids=case_id)
def test_reference_figures(name, meta, arrays):
    scheduler = make_scheduler(meta["scheduler"])
    assert str(scheduler) == meta["scheduler"]
    rates = ask(scheduler, arrays["steps"], arrays.get("losses"))
    expected = arrays["learning_rates"]
    if isinstance(scheduler, KingScheduler):
        if not meta["numpy_ml_is_wrong"]:
            # numpy-ml is correct up to its first decay, after which it decays at every step.
            assert scheduler.max_history == meta["max_history"]
            until = 1 + np.count_nonzero(expected == expected[0])
            assert_allclose(rates[:until], expected[:until], rtol=1e-15)
        expected = king_rates(arrays["losses"], **meta["arguments"])
        assert meta["numpy_ml_is_wrong"] == [] or min(expected) < max(expected)
    assert_allclose(rates, expected, rtol=1e-14)


def test_constant_takes_anything():
    scheduler = ConstantScheduler(lr=0.3)
    assert scheduler() == scheduler(5) == scheduler(None, 2.0) == 0.3


@given(initial_lr=st.floats(1e-6, 1), stage_length=st.integers(1, 1000), decay=st.floats(0.01, 1.5))
def test_exponential_closed_form(initial_lr, stage_length, decay):
    smooth = ExponentialScheduler(initial_lr, stage_length, decay=decay)
    stairs = ExponentialScheduler(initial_lr, stage_length, staircase=True, decay=decay)
    assert smooth(0) == stairs(0) == stairs(stage_length - 1) == initial_lr
    for stages in (1, 2, 5):
        expected = initial_lr * decay**stages
        assert_allclose(smooth(stages * stage_length), expected, rtol=1e-12)
        assert_allclose(stairs(stages * stage_length), expected, rtol=1e-12)
    assert_allclose(smooth(stage_length / 2), initial_lr * math.sqrt(decay), rtol=1e-12)


@given(highest=st.floats(1e-6, 1), final=st.floats(0, 1e-3), warmup=st.integers(0, 50), falling=st.integers(1, 1000))
def test_cosine_rises_and_falls_to_its_final_rate(highest, final, warmup, falling):
    scheduler = CosineScheduler(highest, warmup + falling, final, warmup)
    assert_allclose(scheduler(warmup), highest, rtol=1e-12)
    assert_allclose([scheduler(warmup + factor * falling) for factor in (1, 2)], final, rtol=1e-9, atol=1e-15)
    assert_allclose(scheduler(warmup / 2), highest / 2 if warmup else highest, rtol=1e-12)
    for share in (0.25, 0.5, 0.9):
        expected = final + (highest - final) * math.cos(math.pi / 2 * share) ** 2
        assert_allclose(scheduler(warmup + share * falling), expected, rtol=1e-9)


@given(model_dim=st.integers(1, 2000), scale=st.floats(0.01, 10), warmup_steps=st.integers(2, 10000))
def test_noam_rises_to_the_end_of_the_warm_up_and_falls(model_dim, scale, warmup_steps):
    scheduler = NoamScheduler(model_dim, scale, warmup_steps)
    peak = scheduler(warmup_steps)
    assert_allclose(peak, scale / math.sqrt(model_dim * warmup_steps), rtol=1e-12)
    assert_allclose(scheduler(1) * warmup_steps, peak, rtol=1e-12)
    assert_allclose(scheduler(4 * warmup_steps), peak / 2, rtol=1e-12)


# -------------------------------------------------------------------- King


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    patience=st.integers(3, 25),
    trend=st.sampled_from([-0.3, -0.01, 0.0, 0.3]),
)
def test_king_follows_its_definition(seed, patience, trend):
    noise = np.random.default_rng(seed).standard_normal(120)
    losses = 100 + trend * np.arange(120) + noise
    scheduler = KingScheduler(initial_lr=1.0, patience=patience, decay=0.5)
    rates = ask(scheduler, range(1, 121), losses)
    assert rates == king_rates(losses, 1.0, patience, 0.5)


@pytest.mark.parametrize("patience", [*range(3, 105), 1000])
def test_king_notices_a_rising_loss_after_max_history_steps(patience):
    scheduler = KingScheduler(initial_lr=1.0, patience=patience, decay=0.5)
    n_steps = 2 * scheduler.max_history
    rates = ask(scheduler, range(n_steps), np.arange(n_steps) + 0.5)
    first = scheduler.max_history - 1
    assert rates == [1.0] * first + [0.5] * (first + 1) + [0.25]


@pytest.mark.parametrize("patience", [3, 10, 50])
def test_king_notices_a_constant_loss_after_patience_plus_one_steps(patience):
    scheduler = KingScheduler(initial_lr=1.0, patience=patience, decay=0.5)
    rates = ask(scheduler, range(1, 2 * patience + 3), [3.0] * (2 * patience + 2))
    assert rates == [1.0] * patience + [0.5] * (patience + 1) + [0.25]


def test_king_leaves_the_rate_while_the_loss_falls():
    scheduler = KingScheduler(initial_lr=1.0, patience=5, decay=0.5)
    assert set(ask(scheduler, range(200), -np.arange(200.0))) == {1.0}


def test_king_does_not_fall_for_one_outlier():
    losses = 100 - np.arange(60.0)
    losses[30] += 1000
    with_outlier = KingScheduler(initial_lr=1.0, patience=20, decay=0.5)
    assert set(ask(with_outlier, range(60), losses)) == {1.0}


@pytest.mark.parametrize(("z", "rate"), [(-0.020, 0.5), (-0.024, 0.5), (-0.026, 1.0), (-0.03, 1.0)])
def test_king_judges_the_slope_by_its_standard_error(z, rate):
    # Phi(0.02507) = 0.51. With residuals of +-1, the slope of 4 values has the variance (4 / 2) / 5.
    slope = z * math.sqrt(2 / 5)
    line = np.array([1, -1, -1, 1]) + slope * np.array([-1.5, -0.5, 0.5, 1.5])
    scheduler = KingScheduler(initial_lr=1.0, patience=3, decay=0.5)
    assert ask(scheduler, range(5), [1000, *line]) == [1.0, 1.0, 1.0, 1.0, rate]


def test_king_counts_a_step_once():
    losses = [5.0, 5.0, 5.0, 5.0, 4.0]
    once, thrice = (KingScheduler(initial_lr=1.0, patience=3, decay=0.5) for _ in range(2))
    for step, loss in enumerate(losses, start=1):
        rate = once(step, loss)
        assert [thrice(step, loss) for _ in range(3)] == [rate] * 3
    assert thrice.loss_history == once.loss_history == [4.0]
    assert thrice.last_step == 5


def test_king_counts_every_call_without_a_step_number():
    scheduler = KingScheduler(initial_lr=1.0, patience=3, decay=0.5)
    assert [scheduler(cur_loss=5.0) for _ in range(4)] == [1.0, 1.0, 1.0, 0.5]


def test_king_keeps_no_more_than_max_history():
    scheduler = KingScheduler(patience=20)
    assert scheduler.max_history == math.ceil(20 / 0.9) + 1 == 24
    ask(scheduler, range(100), -np.arange(100.0))
    assert scheduler.loss_history == [-float(i) for i in range(76, 100)]


def test_king_set_params():
    scheduler = KingScheduler(initial_lr=1.0, patience=3, decay=0.5)
    ask(scheduler, range(5), [2.0] * 5)
    scheduler.set_params({"patience": 4, "initial_lr": 1.0})
    assert (scheduler.current_lr, scheduler.loss_history) == (0.5, [2.0])
    assert scheduler.max_history == 6
    scheduler.set_params({"initial_lr": 0.75})
    assert (scheduler(5, 2.0), scheduler.loss_history) == (0.75, [2.0, 2.0])


def test_king_copy_has_its_own_state():
    scheduler = KingScheduler(initial_lr=1.0, patience=3, decay=0.5)
    ask(scheduler, range(3), [2.0] * 3)
    copied = scheduler.copy()
    assert copied(3, 2.0) == 0.5
    assert (scheduler.current_lr, len(scheduler.loss_history)) == (1.0, 3)
    assert scheduler(3, 2.0) == 0.5


# --------------------------------------------------------------- arguments

ALL = [
    ConstantScheduler(0.3),
    CosineScheduler(0.5, 60, 0.1, 7),
    ExponentialScheduler(0.5, 6, True, 0.2),
    NoamScheduler(16, 2, 8),
    KingScheduler(0.5, 19, 0.75),
]


@pytest.mark.parametrize("scheduler", ALL, ids=str)
def test_str_hyperparameters_and_copy_describe_the_scheduler(scheduler):
    assert make_scheduler(str(scheduler)) == scheduler
    assert scheduler.hyperparameters == {"id": type(scheduler).__name__, **scheduler.arguments}
    assert make_scheduler({"hyperparameters": scheduler.hyperparameters}) == scheduler
    assert make_scheduler({"hyperparameters": dict(scheduler.hyperparameters)}) == scheduler
    copied = scheduler.copy()
    assert copied == scheduler
    assert copied is not scheduler


@pytest.mark.parametrize(
    ("scheduler", "changes", "rate"),
    [
        (ConstantScheduler(), {"lr": 0.25}, 0.25),
        (ExponentialScheduler(0.5, 10), {"initial_lr": 1.0, "decay": 0.25}, 0.5),
        (NoamScheduler(16, 2, 20), {"model_dim": 4, "warmup_steps": 1}, 2 / math.sqrt(4 * 5)),
        (KingScheduler(0.5), {"initial_lr": 0.25}, 0.25),
    ],
    ids=str,
)
def test_set_params_and_hyperparameters_change_the_rate(scheduler, changes, rate):
    written = scheduler.copy()
    assert scheduler.set_params(changes) is scheduler
    assert_allclose(scheduler(5, 1.0), rate, rtol=1e-14)
    for name, value in changes.items():
        written.hyperparameters[name] = value
    assert written == scheduler
    assert_allclose(written(5, 1.0), rate, rtol=1e-14)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant(lr=0.1)", ConstantScheduler(0.1)),
        ("constant scheduler(0.1)", ConstantScheduler(0.1)),
        ("Exponential", ExponentialScheduler()),
        (
            "ExponentialScheduler(initial_lr=.1, staircase=True)",
            ExponentialScheduler(0.1, 500, True),
        ),
        ("noam(model_dim=64)", NoamScheduler(64)),
        ("KING(patience=20)", KingScheduler(patience=20)),
    ],
)
def test_make_scheduler_from_text(text, expected):
    assert make_scheduler(text) == expected


def test_make_scheduler_from_the_rest():
    scheduler = KingScheduler()
    assert make_scheduler(scheduler) is scheduler
    assert make_scheduler(None, lr=0.1) == ConstantScheduler(0.1)
    assert make_scheduler({"hyperparameters": {"id": "King"}}, lr=0.1) == KingScheduler()


@pytest.mark.parametrize(
    ("param", "error", "message"),
    [
        (None, ValueError, "lr must be a number"),
        ("step", ValueError, "the scheduler must be one of ConstantScheduler, Cos"),
        ("Noam(dim=3)", ValueError, "NoamScheduler takes model_dim, scale_factor, warmup_steps"),
        ({}, ValueError, "must hold 'hyperparameters'"),
        ({"hyperparameters": {"lr": 0.1}}, ValueError, "must name the scheduler under 'id'"),
        (0.1, TypeError, "lr_scheduler must be a scheduler, str, dict or None, got 0.1"),
        (ConstantScheduler, TypeError, "lr_scheduler must be a scheduler, str, dict or None"),
    ],
)
def test_make_scheduler_refuses(param, error, message):
    with pytest.raises(error, match=message):
        make_scheduler(param)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (ConstantScheduler, {"lr": -0.1}),
        (ConstantScheduler, {"lr": math.nan}),
        (ExponentialScheduler, {"initial_lr": -1}),
        (ExponentialScheduler, {"stage_length": 0}),
        (ExponentialScheduler, {"decay": 0}),
        (CosineScheduler, {"initial_lr": -1}),
        (CosineScheduler, {"steps": 0}),
        (CosineScheduler, {"final_lr": math.nan}),
        (CosineScheduler, {"warmup_steps": 10_000}),
        (NoamScheduler, {"model_dim": 0}),
        (NoamScheduler, {"scale_factor": -1}),
        (NoamScheduler, {"warmup_steps": 0}),
        (KingScheduler, {"initial_lr": math.inf}),
        (KingScheduler, {"patience": 2}),
        (KingScheduler, {"patience": 3.5}),
        (KingScheduler, {"decay": 1.1}),
        (KingScheduler, {"decay": 0}),
    ],
)
def test_arguments_out_of_range(cls, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be"):
        cls(**arguments)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (ConstantScheduler, {"lr": "0.1"}),
        (ConstantScheduler, {"initial_lr": 0.1}),
        (ExponentialScheduler, {"staircase": 1}),
        (KingScheduler, {"patience": None}),
    ],
)
def test_arguments_of_a_wrong_type_or_name(cls, arguments):
    with pytest.raises(TypeError):
        cls(**arguments)


@pytest.mark.parametrize(
    ("scheduler", "step", "loss", "message"),
    [
        (NoamScheduler(), 0, 1.0, r"step must be a number in \(0, inf\), got 0"),
        (NoamScheduler(), None, 1.0, "step must be a number"),
        (CosineScheduler(), -1, 1.0, "step must be a number"),
        (CosineScheduler(), None, 1.0, "step must be a number"),
        (ExponentialScheduler(), None, 1.0, "step must be a number"),
        (ExponentialScheduler(), -1, 1.0, "step must be a number"),
        (KingScheduler(), 1, None, "cur_loss must be a number"),
        (KingScheduler(), 1, math.nan, "cur_loss must be a number"),
    ],
)
def test_steps_and_losses_out_of_range(scheduler, step, loss, message):
    with pytest.raises(ValueError, match=message):
        scheduler(step, loss)
