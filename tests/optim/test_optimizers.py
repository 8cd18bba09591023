"""Optimizers: updates, state, clipping, arguments and call strings."""

import math

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reference_cases import case_id, cases

from cvae._kernels import optimizers as kernels
from cvae.optimizers import OPTIMIZERS, SGD, AdaGrad, Adam, AdamW, RMSProp
from cvae.parsing import object_from_call
from cvae.schedulers import (
    SCHEDULERS,
    ConstantScheduler,
    ExponentialScheduler,
    KingScheduler,
    NoamScheduler,
)

CLASSES = [SGD, AdaGrad, RMSProp, Adam, AdamW]
DTYPES = [np.float32, np.float64]
# Arguments that differ from the defaults, except for the learning rate.
ARGUMENTS = {
    SGD: {"momentum": 0.9},
    AdaGrad: {"eps": 1e-3},
    RMSProp: {"decay": 0.8, "eps": 1e-3},
    Adam: {"decay1": 0.5, "decay2": 0.9, "eps": 1e-3},
    AdamW: {"weight_decay": 0.2, "decay1": 0.5, "decay2": 0.9, "eps": 1e-3},
}
each_class = pytest.mark.parametrize("cls", CLASSES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def random_arrays(seed, shape, dtype, count):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(count)]


def state_arrays(state):
    return [state["mean"], state["var"]] if isinstance(state, dict) else [state]


# ----------------------------------------------------------------- updates


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("optimizer"), ids=case_id)
def test_reference_figures(name, meta, arrays):
    arguments = dict(meta["arguments"])
    if "lr_scheduler" in arguments:
        scheduler_name, scheduler_arguments = arguments["lr_scheduler"]
        arguments["lr_scheduler"] = SCHEDULERS[scheduler_name](**scheduler_arguments)
    optimizer = OPTIMIZERS[meta["optimizer"]](**arguments)
    assert optimizer.hyperparameters == meta["hyperparameters"]
    params = {"W": arrays["W_0"], "b": arrays["b_0"]}
    for step in range(1, meta["steps"] + 1):
        optimizer.step()
        for param_name in params:
            grad = arrays[f"d{param_name}_{step}"]
            params[param_name] = optimizer(params[param_name], grad, param_name)
            expected = arrays[f"{param_name}_{step}"]
            # An element near 0 has the rounding error of the values around 1 from which it was computed.
            assert_allclose(params[param_name], expected, rtol=1e-14, atol=1e-15)
        rate = optimizer.lr_scheduler(optimizer.cur_step)
        assert_allclose(rate, arrays["learning_rates"][step - 1], rtol=1e-14)


@each_class
@pytest.mark.parametrize("clip_norm", [None, 1.5])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4, 5), (20_001,), (0, 4)])
@each_dtype
def test_updates_agree_with_the_plain_ones(cls, clip_norm, shape, dtype):
    arguments = ARGUMENTS[cls] | {"lr": 0.05, "clip_norm": clip_norm}
    param, *grads = random_arrays(0, shape, dtype, 5)
    optimizer, state, expected = cls(**arguments), {}, param.astype(np.float64)
    for grad in grads:
        param = optimizer.update(param, grad, "W")
        update = oracles.OPTIMIZERS[cls.__name__]
        expected = update(expected, grad.astype(np.float64), state, **arguments)
    assert (param.shape, param.dtype) == (shape, dtype)
    # Four updates of numbers around 1, each with a few rounding errors of 6e-8 in float32.
    tolerance = {np.float32: 2e-6, np.float64: 1e-14}[dtype]
    assert_allclose(param, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize(
    ("optimizer", "torch_name", "torch_arguments"),
    [
        (SGD(0.1, momentum=0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
        (AdaGrad(0.1), "Adagrad", {"lr": 0.1, "eps": 1e-7}),
        (RMSProp(0.01, decay=0.8), "RMSprop", {"lr": 0.01, "alpha": 0.8, "eps": 1e-7}),
        (Adam(0.01), "Adam", {"lr": 0.01, "eps": 1e-7}),
        (AdamW(0.01, weight_decay=0.3), "AdamW", {"lr": 0.01, "eps": 1e-7, "weight_decay": 0.3}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_updates_agree_with_torch(torch, optimizer, torch_name, torch_arguments):
    param, *grads = random_arrays(1, (4, 3), np.float64, 6)
    tensor = torch.tensor(param, requires_grad=True)
    torch_optimizer = getattr(torch.optim, torch_name)([tensor], **torch_arguments)
    for grad in grads:
        param = optimizer.update(param, grad, "W")
        tensor.grad = torch.tensor(grad)
        torch_optimizer.step()
    assert_allclose(param, tensor.detach().numpy(), rtol=1e-13)


@each_class
@each_dtype
def test_update_in_place_is_update(cls, dtype):
    returned, *grads = random_arrays(2, (3, 4), dtype, 4)
    in_place = returned.copy()
    one, other = cls(**ARGUMENTS[cls], clip_norm=1.0), cls(**ARGUMENTS[cls], clip_norm=1.0)
    for grad in grads:
        returned = one(returned, grad, "W")
        assert other.update_in_place(in_place, grad, "W") is None
        assert_array_equal(in_place, returned)
    for a, b in zip(state_arrays(one.cache["W"]), state_arrays(other.cache["W"]), strict=True):
        assert_array_equal(a, b)


@each_class
def test_update_leaves_its_inputs(cls):
    param, grad = random_arrays(3, (3, 4), np.float64, 2)
    before = param.copy(), grad.copy()
    param.flags.writeable = grad.flags.writeable = False
    updated = cls().update(param, grad, "W")
    assert not np.shares_memory(updated, param)
    assert not np.array_equal(updated, param)
    assert_array_equal(param, before[0])
    assert_array_equal(grad, before[1])


@each_class
def test_state_stays_in_its_memory(cls):
    optimizer = cls()
    param, grad = random_arrays(4, (3, 4), np.float32, 2)
    optimizer.update_in_place(param, grad, "W")
    before = state_arrays(optimizer.cache["W"])
    optimizer.update_in_place(param, grad, "W")
    for old, new in zip(before, state_arrays(optimizer.cache["W"]), strict=True):
        assert old is new
        assert (new.shape, new.dtype) == ((3, 4), np.float32)


@each_class
def test_strided_arrays_in_update(cls):
    param, grad = random_arrays(5, (6, 8), np.float64, 2)
    expected = cls().update(param[::2, ::-2].copy(), grad.T[::2, :3].T.copy(), "W")
    updated = cls().update(param[::2, ::-2], grad.T[::2, :3].T, "W")
    assert updated.flags.c_contiguous
    assert_array_equal(updated, expected)


@each_class
def test_parameters_do_not_touch_each_other(cls):
    W, b, *grads = random_arrays(6, (5,), np.float64, 8)
    both, alone = cls(), cls()
    W_alone = W
    for dW, db in zip(grads[::2], grads[1::2], strict=True):
        W, b = both(W, dW, "W"), both(b, db, "b")
        W_alone = alone(W_alone, dW, "W")
    assert_array_equal(W, W_alone)
    assert set(both.cache) == {"W", "b"}


def test_cache_layout():
    param, grad = np.zeros(2), np.array([3.0, -4.0])
    optimizers = [SGD(0.1), AdaGrad(), RMSProp(decay=0.75), Adam(decay1=0.5, decay2=0.75)]
    for optimizer in optimizers:
        optimizer.update(param, grad, "b")
    sgd, adagrad, rmsprop, adam = (optimizer.cache["b"] for optimizer in optimizers)
    assert_allclose(sgd, [0.3, -0.4], rtol=1e-15)
    assert_array_equal(adagrad, [9, 16])
    assert_array_equal(rmsprop, [9 / 4, 4])
    assert set(adam) == {"t", "mean", "var"}
    assert adam["t"] == 1
    assert_array_equal(adam["mean"], [1.5, -2])
    assert_array_equal(adam["var"], [9 / 4, 4])


@each_class
def test_classes_keep_and_give_what_their_rule_takes(cls):
    n_states, n_scalars = kernels.rules()[cls.rule]
    optimizer, param = cls(), np.ones(3)
    state = optimizer.checked_state(param, param, "W")
    optimizer.cache["W"] = state
    assert len(optimizer.states("W")) == n_states
    assert len(optimizer.scalars(0.1, param, state)) == optimizer.n_scalars == n_scalars


def test_every_rule_has_a_class():
    assert {cls.rule for cls in CLASSES} == set(kernels.rules())


class Accelerating(SGD):
    """An optimizer of a user's, whose momentum grows from step to step."""

    def _constants(self, state):
        return (1 - 1 / (self.cur_step + 1),)


def test_a_subclass_may_compute_its_constants():
    optimizer, (param, *grads) = Accelerating(lr=0.1, clip_norm=1.0), random_arrays(11, (4,), np.float64, 4)
    expected, state = param, {}
    for step, grad in enumerate(grads, start=1):
        optimizer.step()
        param = optimizer.update(param, grad, "W")
        expected = oracles.sgd(expected, grad, state, lr=0.1, momentum=1 - 1 / (step + 1), clip_norm=1.0)
    assert_allclose(param, expected, rtol=1e-14)


# ---------------------------------------------------------------- clipping


@pytest.mark.parametrize(("clip_norm", "moved"), [(None, 5.0), (10, 5.0), (5, 5.0), (2.5, 2.5), (0, 0.0)])
@each_dtype
def test_clip_norm_limits_the_norm_of_one_parameter(clip_norm, moved, dtype):
    optimizer = SGD(lr=1, clip_norm=clip_norm)
    grad = np.array([[3], [-4]], dtype)
    updated = optimizer.update(np.zeros((2, 1), dtype), grad, "W")
    assert_allclose(updated, -grad * (moved / 5), rtol=1e-6)


def test_clip_norm_leaves_a_zero_gradient():
    assert_array_equal(SGD(clip_norm=0).update(np.ones(3), np.zeros(3), "W"), np.ones(3))


def test_clip_norm_of_large_float32_gradients_does_not_overflow():
    updated = SGD(lr=1, clip_norm=1).update(np.zeros(4, np.float32), np.full(4, 1e30, np.float32), "W")
    assert_allclose(updated, -0.5, rtol=1e-6)


# ------------------------------------------------------------ rate and steps


def test_steps():
    optimizer = SGD()
    assert optimizer.cur_step == 0
    optimizer.step()
    optimizer.step()
    optimizer.update(np.ones(1), np.ones(1), "W")
    assert optimizer.cur_step == 2
    optimizer.reset_step()
    assert optimizer.cur_step == 0


def test_a_step_is_no_change_after_which_passes_would_be_recorded_anew():
    optimizer = SGD()
    before = optimizer.revision
    optimizer.step()
    assert optimizer.revision == before
    optimizer.cur_step = 7
    assert optimizer.revision == before + 1


@pytest.mark.parametrize(("cur_step", "error"), [(-3, ValueError), (2**63, ValueError), (2.5, TypeError)])
def test_a_number_of_steps_is_checked(cur_step, error):
    optimizer = SGD()
    with pytest.raises(error, match=r"cur_step must be an int (>= 0|from 0 to 2\^63 - 1), got"):
        optimizer.cur_step = cur_step
    assert optimizer.cur_step == 0


def test_the_scheduler_gives_the_rate_of_the_step():
    scheduler = ExponentialScheduler(initial_lr=1, stage_length=1, decay=0.5)
    optimizer, param = SGD(lr=77, lr_scheduler=scheduler), np.zeros(1)
    moves = []
    for _ in range(3):
        optimizer.step()
        moves.append(optimizer.update(param, np.ones(1), "W")[0])
    assert moves == [-0.5, -0.25, -0.125]


def test_the_loss_reaches_the_scheduler_once_per_step():
    optimizer = SGD(lr_scheduler="KingScheduler(initial_lr=1.0, patience=3, decay=0.5)")
    for _ in range(4):
        optimizer.step()
        for name in ("W", "b"):
            moved = optimizer.update(np.zeros(1), np.ones(1), name, cur_loss=3.0)
    assert optimizer.lr_scheduler.current_lr == 0.5
    assert moved == [-0.5]
    with pytest.raises(ValueError, match="cur_loss must be a number"):
        optimizer.update(np.zeros(1), np.ones(1), "W")


def test_noam_needs_a_step():
    optimizer = Adam(lr_scheduler="NoamScheduler")
    with pytest.raises(ValueError, match="step must be a number in"):
        optimizer.update(np.zeros(1), np.ones(1), "W")
    assert optimizer.cache == {}
    optimizer.step()
    optimizer.update(np.zeros(1), np.ones(1), "W")
    assert optimizer.cache["W"]["t"] == 1


def change_by_set_params(optimizer):
    optimizer.set_params({"lr": 0.25})


def change_by_hyperparameters(optimizer):
    optimizer.hyperparameters["lr"] = 0.25


def change_by_attribute(optimizer):
    optimizer.lr = 0.25


@each_class
@pytest.mark.parametrize("change", [change_by_set_params, change_by_hyperparameters, change_by_attribute])
def test_the_rate_can_be_changed(cls, change):
    optimizer, fresh = cls(lr=0.5), cls(lr=0.25)
    change(optimizer)
    assert optimizer == fresh
    assert optimizer.hyperparameters["lr"] == optimizer.lr == 0.25
    assert optimizer.hyperparameters["lr_scheduler"] == "ConstantScheduler(lr=0.25)"
    param, grad = random_arrays(7, (4,), np.float64, 2)
    assert_array_equal(optimizer(param, grad, "W"), fresh(param, grad, "W"))


def test_a_given_scheduler_rules_over_lr():
    scheduler = ConstantScheduler(0.5)
    optimizer = SGD(lr=0.1, lr_scheduler=scheduler)
    assert optimizer.lr == 0.5
    optimizer.set_params({"lr": 0.25})
    assert optimizer.lr_scheduler == ConstantScheduler(0.25)
    assert scheduler.lr == 0.5
    optimizer.set_params({"lr": 0.1, "lr_scheduler": "constant(0.75)"})
    assert optimizer.lr == 0.75
    noam = SGD(lr=0.1, lr_scheduler=NoamScheduler())
    noam.set_params({"lr": 0.25})
    assert noam.lr_scheduler == NoamScheduler()
    noam.set_params({"lr_scheduler": None})
    assert noam.lr_scheduler == ConstantScheduler(0.25)


# ----------------------------------------------------- copies and restoring


@each_class
def test_copy_is_deep_and_complete(cls):
    param, *grads = random_arrays(8, (3,), np.float64, 4)
    optimizer = cls(lr_scheduler=KingScheduler(patience=3))
    optimizer.step()
    param = optimizer(param, grads[0], "W", 1.0)
    copied = optimizer.copy()
    assert copied == optimizer
    assert copied.cur_step == 1
    expected = optimizer.copy()(param, grads[1], "W", 1.0)
    copied(param, grads[2], "W", 1.0)
    copied.step()
    copied(param, grads[2], "b", 1.0)
    assert set(optimizer.cache) == {"W"}
    assert optimizer.lr_scheduler.loss_history == [1.0]
    assert_array_equal(optimizer(param, grads[1], "W", 1.0), expected)


@each_class
def test_hyperparameters_and_cache_restore_an_optimizer(cls):
    param, *grads = random_arrays(9, (2, 3), np.float64, 6)
    optimizer = cls(lr=0.2, clip_norm=3.0, **ARGUMENTS[cls])
    for grad in grads[:3]:
        param = optimizer(param, grad, "W")
    restored = cls().set_params(dict(optimizer.hyperparameters), optimizer.cache)
    assert restored == optimizer
    one, other = param, param
    for grad in grads[3:]:
        one, other = optimizer(one, grad, "W"), restored(other, grad, "W")
        assert_array_equal(one, other)


@each_class
def test_set_params_replaces_the_whole_cache_by_copies(cls):
    param, grad = random_arrays(10, (2, 3), np.float64, 2)
    source, target = cls(), cls()
    source(param, grad, "W")
    target(param, grad, "b")
    assert target.set_params(cache_dict=source.cache) is target
    assert set(target.cache) == {"W"}
    for kept, given_array in zip(state_arrays(target.cache["W"]), state_arrays(source.cache["W"]), strict=True):
        assert not np.shares_memory(kept, given_array)
        assert_array_equal(kept, given_array)
    target.set_params({"clip_norm": 2})
    assert set(target.cache) == {"W"}
    target.set_params(cache_dict={})
    assert target.cache == {}


@pytest.mark.parametrize(
    ("optimizer", "cache"),
    [
        (SGD(), {"W": 3.0}),
        (SGD(), {"W": {"t": 1, "mean": np.zeros(2), "var": np.zeros(2)}}),
        (Adam(), {"W": np.zeros(2)}),
        (Adam(), {"W": {"t": 1, "mean": np.zeros(2)}}),
        (Adam(), {"W": {"t": 1, "mean": np.zeros(2), "var": [0.0, 0.0]}}),
    ],
)
def test_a_cache_of_another_optimizer_is_an_error(optimizer, cache):
    with pytest.raises(TypeError, match=r"cache_dict\['W'\] must hold"):
        optimizer.set_params({"clip_norm": 2}, cache)
    assert optimizer.cache == {}
    assert optimizer.clip_norm is None


# --------------------------------------------------------------- wrong arrays


@each_class
@pytest.mark.parametrize(
    ("param", "grad", "error", "message"),
    [
        (np.ones(3), np.ones(4), ValueError, r"grad must have the shape of param, \(3,\), got"),
        (np.ones((1, 3)), np.ones(3), ValueError, "grad must have the shape of param"),
        (np.ones(3), np.ones(3, np.float32), TypeError, "grad must have the dtype of param"),
        (np.ones(3, int), np.ones(3), TypeError, "param must be a float32 or float64.*, got int"),
        (np.ones(3, ">f8"), np.ones(3), TypeError, "param must be a float32 or float64.*, got >f8"),
        (np.ones(3), np.ones(3, np.float16), TypeError, "grad must be a float32 or float64 array"),
    ],
)
def test_arrays_that_do_not_fit(cls, param, grad, error, message):
    optimizer = cls()
    for update in (optimizer.update, optimizer.update_in_place):
        with pytest.raises(error, match=message):
            update(param, grad, "W")
    assert optimizer.cache == {}


@each_class
def test_arrays_that_cannot_be_updated_in_place(cls):
    optimizer = cls()
    read_only = np.ones(3)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="param must be writable"):
        optimizer.update_in_place(read_only, np.ones(3), "W")
    with pytest.raises(ValueError, match="param must be C-contiguous"):
        optimizer.update_in_place(np.ones(6)[::2], np.ones(3), "W")
    with pytest.raises(ValueError, match="grad must be C-contiguous"):
        optimizer.update_in_place(np.ones(3), np.ones(6)[::2], "W")
    with pytest.raises(TypeError, match="param must be a float32 or float64 array, got list"):
        optimizer.update_in_place([1.0], np.ones(1), "W")


@each_class
def test_a_parameter_keeps_its_shape_and_dtype(cls):
    optimizer = cls()
    optimizer.update(np.ones((2, 3)), np.ones((2, 3)), "W")
    for other in (np.ones((3, 2)), np.ones((2, 3), np.float32)):
        with pytest.raises(ValueError, match=r"'W' must stay float64 of shape \(2, 3\) as before"):
            optimizer.update(other, other, "W")


# ---------------------------------------------------------- arguments, text


@pytest.mark.parametrize(
    ("optimizer", "text"),
    [
        (
            SGD(),
            "SGD(lr=0.01, momentum=0.0, clip_norm=None, lr_scheduler=ConstantScheduler(lr=0.01))",
        ),
        (
            AdaGrad(),
            "AdaGrad(lr=0.01, eps=1e-07, clip_norm=None, lr_scheduler=ConstantScheduler(lr=0.01))",
        ),
        (
            RMSProp(clip_norm=5),
            "RMSProp(lr=0.001, eps=1e-07, decay=0.9, clip_norm=5, lr_scheduler=ConstantScheduler(lr=0.001))",
        ),
        (
            Adam(lr_scheduler=NoamScheduler(64)),
            "Adam(lr=0.001, decay1=0.9, decay2=0.999, eps=1e-07, clip_norm=None, "
            "lr_scheduler=NoamScheduler(model_dim=64, scale_factor=1, warmup_steps=4000))",
        ),
    ],
)
def test_str(optimizer, text):
    assert str(optimizer) == repr(optimizer) == text
    assert object_from_call(text, OPTIMIZERS, "optimizer") == optimizer


@given(
    cls=st.sampled_from(CLASSES),
    lr=st.floats(0, 1e300),
    clip_norm=st.none() | st.floats(0, 1e300) | st.integers(0, 100),
    scheduler=st.sampled_from([None, ConstantScheduler(0.3), ExponentialScheduler(staircase=True), KingScheduler()]),
)
def test_str_is_parsed_back(cls, lr, clip_norm, scheduler):
    optimizer = cls(lr=lr, clip_norm=clip_norm, lr_scheduler=scheduler, **ARGUMENTS[cls])
    assert object_from_call(str(optimizer), OPTIMIZERS, "optimizer") == optimizer


@each_class
def test_equality_is_that_of_the_arguments(cls):
    assert cls(lr=0.5) == cls(lr=0.5)
    assert cls(lr=0.5) != cls(lr=0.25)
    assert cls() != object()
    assert len({type(c()) for c in CLASSES if c() == cls()}) == 1


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        *((cls, {"lr": -1e-9}) for cls in CLASSES),
        *((cls, {"lr": math.nan}) for cls in CLASSES),
        *((cls, {"clip_norm": -0.5}) for cls in CLASSES),
        *((cls, {"eps": 0}) for cls in (AdaGrad, RMSProp, Adam, AdamW)),
        (AdamW, {"weight_decay": -0.1}),
        (SGD, {"momentum": 1}),
        (SGD, {"momentum": -0.1}),
        (RMSProp, {"decay": 1}),
        (RMSProp, {"decay": -0.1}),
        (Adam, {"decay1": 1}),
        (Adam, {"decay2": 1.5}),
    ],
)
def test_arguments_out_of_range(cls, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be a number in"):
        cls(**arguments)
    optimizer = cls()
    optimizer.update(np.ones(1), np.ones(1), "W")
    with pytest.raises(ValueError, match=f"{name} must be a number in"):
        optimizer.set_params(arguments, {})
    assert optimizer == cls()
    assert set(optimizer.cache) == {"W"}


@each_class
def test_arguments_of_a_wrong_type_or_name(cls):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        cls(learning_rate=0.1)
    with pytest.raises(TypeError, match="lr must be a number"):
        cls(lr="0.1")
    with pytest.raises(TypeError, match="lr_scheduler must be a scheduler, str, dict or None"):
        cls(lr_scheduler=0.1)
    with pytest.raises(ValueError, match=f"{cls.__name__} takes lr, "):
        cls().set_params({"learning_rate": 0.1})
    with pytest.raises(ValueError, match="id must be"):
        cls().set_params({"id": "Lion"})


@pytest.mark.parametrize("optimizer", [RMSProp(eps=1e-46), Adam(eps=1e-46), AdaGrad(eps=1e-46)], ids=str)
def test_an_eps_that_vanishes_in_float32_is_refused(optimizer):
    with pytest.raises(ValueError, match="eps must not vanish in float32, got 1e-46"):
        optimizer.update(np.ones(3, np.float32), np.zeros(3, np.float32), "W")
