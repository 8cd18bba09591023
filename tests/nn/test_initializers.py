"""Initializers of activations, schedulers and optimizers, and the distributions of weights."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_cases import case_id, cases

from cvae.activations import (
    ELU,
    GELU,
    SELU,
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
from cvae.initializers import (
    ActivationInitializer,
    OptimizerInitializer,
    SchedulerInitializer,
    WeightInitializer,
    calc_fan,
)
from cvae.optimizers import SGD, AdaGrad, Adam, RMSProp
from cvae.schedulers import (
    ConstantScheduler,
    ExponentialScheduler,
    KingScheduler,
    NoamScheduler,
)

MODES = [
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "std_normal", "trunc_normal",
]  # fmt: skip

# ------------------------------------------------------------- activations


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        (None, Identity()),
        ("relu", ReLU()),
        ("ReLU", ReLU()),
        ("tanh", Tanh()),
        ("selu", SELU()),
        ("sigmoid", Sigmoid()),
        ("identity", Identity()),
        ("hardsigmoid", HardSigmoid()),
        ("hard sigmoid", HardSigmoid()),
        ("Hard Sigmoid", HardSigmoid()),
        ("HardSigmoid()", HardSigmoid()),
        ("softplus", SoftPlus()),
        ("soft_plus", SoftPlus()),
        ("exponential", Exponential()),
        ("affine", Affine()),
        ("Affine(slope=2,intercept=-1)", Affine(2, -1)),
        ("Affine(intercept=-1, slope=2)", Affine(2, -1)),
        ("affine(2, -1)", Affine(2, -1)),
        ("leaky relu", LeakyReLU()),
        ("leaky-relu", LeakyReLU()),
        ("LeakyReLU(alpha=.1)", LeakyReLU(0.1)),
        ("Leaky ReLU(alpha=0.1)", LeakyReLU(0.1)),
        ("elu", ELU()),
        ("ELU(alpha=1e-1)", ELU(0.1)),
        ("gelu", GELU()),
        ("GELU(approximate=False)", GELU(approximate=False)),
    ],
)
def test_activation_initializer(param, expected):
    assert ActivationInitializer(param)() == expected


def test_activation_initializer_hands_an_activation_on():
    activation = LeakyReLU(0.1)
    assert ActivationInitializer(activation)() is activation


@pytest.mark.parametrize("text", ["softmax", "swish", "", " relu6", "preluu", "ELU(beta=1)", "relu(1)"])
def test_activation_initializer_refuses_text(text):
    with pytest.raises(ValueError, match=r"must be one of Sigmoid|must look like|takes"):
        ActivationInitializer(text)()


@pytest.mark.parametrize("param", [3, ReLU, ["relu"]])
def test_activation_initializer_refuses_other_types(param):
    with pytest.raises(TypeError, match="act_fn must be an activation, str or None, got"):
        ActivationInitializer(param)()


# -------------------------------------------------------------- schedulers


@pytest.mark.parametrize(
    ("param", "lr", "expected"),
    [
        (None, 0.1, ConstantScheduler(0.1)),
        ("noam(warmup_steps=10)", 0.1, NoamScheduler(warmup_steps=10)),
        ({"hyperparameters": {"id": "ConstantScheduler", "lr": 0.3}}, None, ConstantScheduler(0.3)),
        (
            {"hyperparameters": {"id": "ExponentialScheduler", "staircase": True}},
            None,
            ExponentialScheduler(staircase=True),
        ),
        ({"hyperparameters": {"id": "NoamScheduler", "model_dim": 8}}, None, NoamScheduler(8)),
        ({"hyperparameters": {"id": "KingScheduler", "patience": 8}}, None, KingScheduler(0.01, 8)),
    ],
)
def test_scheduler_initializer(param, lr, expected):
    assert SchedulerInitializer(param, lr=lr)() == expected


def test_scheduler_initializer_needs_a_scheduler_or_a_rate():
    with pytest.raises(ValueError, match="lr must be a number"):
        SchedulerInitializer()()


# -------------------------------------------------------------- optimizers


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        (None, SGD()),
        ("RMSProp(lr=0.0001)", RMSProp(lr=0.0001)),
        ("rmsprop", RMSProp()),
        ("SGD()", SGD()),
        ("SGD(0.1)", SGD(lr=0.1)),
        ("SGD(lr = .1,momentum=0.9, clip_norm=5)", SGD(lr=0.1, momentum=0.9, clip_norm=5)),
        ("ada_grad(eps=1e-3)", AdaGrad(eps=1e-3)),
        ("Adam(lr=.002, decay1=.5, decay2=.6)", Adam(lr=0.002, decay1=0.5, decay2=0.6)),
        (
            "Adam(lr_scheduler=ExponentialScheduler(initial_lr=0.1, stage_length=7))",
            Adam(lr_scheduler=ExponentialScheduler(0.1, 7)),
        ),
        ({"hyperparameters": {"id": "SGD", "momentum": 0.5}}, SGD(momentum=0.5)),
        ({"hyperparameters": {"id": "AdaGrad"}, "cache": {}}, AdaGrad()),
        (
            {"hyperparameters": {"id": "RMSProp", "lr_scheduler": "noam"}},
            RMSProp(lr_scheduler="noam"),
        ),
        ({"hyperparameters": {"id": "Adam", "lr": 0.5}}, Adam(lr=0.5)),
    ],
)
def test_optimizer_initializer(param, expected):
    initializer = OptimizerInitializer(param)
    optimizer = initializer()
    assert optimizer == expected
    assert initializer() is not optimizer


@pytest.mark.parametrize("cls", [SGD, AdaGrad, RMSProp, Adam])
def test_layers_given_one_optimizer_do_not_share_it(cls):
    initializer = OptimizerInitializer(cls(lr=0.5, lr_scheduler=KingScheduler(patience=3)))
    first, second = initializer(), initializer()
    first.step()
    first.update(np.zeros(3), np.ones(3), "W", cur_loss=1.0)
    second.update(np.zeros((2, 2)), np.ones((2, 2)), "W", cur_loss=1.0)
    assert (first.cur_step, second.cur_step, initializer().cur_step) == (1, 0, 0)
    assert initializer().cache == {}
    assert initializer().lr_scheduler.loss_history == []


def test_optimizer_initializer_restores_the_number_of_steps():
    assert OptimizerInitializer({"hyperparameters": {"id": "SGD"}, "cur_step": 7})().cur_step == 7
    with pytest.raises(TypeError, match=r"cur_step must be an int >= 0, got 2\.5"):
        OptimizerInitializer({"hyperparameters": {"id": "SGD"}, "cur_step": 2.5})()


def test_optimizer_initializer_restores_the_cache():
    source = Adam(lr=0.5)
    param, grad = np.zeros(3), np.array([1.0, -2.0, 3.0])
    source.update(param, grad, "W")
    summary = {"hyperparameters": source.hyperparameters, "cache": source.cache}
    restored = OptimizerInitializer(summary)()
    assert restored == source
    assert_array_equal(restored.update(param, grad, "W"), source.update(param, grad, "W"))
    assert restored.cache["W"]["t"] == 2


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("Lion(lr=0.1)", "the optimizer must be one of SGD, AdaGrad, RMSProp, Adam, .*got 'Lion'"),
        ("Nadam", "the optimizer must be one of"),
        ("AdaMax", "the optimizer must be one of"),
        ("", "must look like"),
        ("SGD(foo=3)", "SGD takes lr, momentum, clip_norm, lr_scheduler"),
        ("SGD(lr=-1)", r"lr must be a number in \[0, inf\), got -1"),
        ("SGD(lr_scheduler=foo(1))", "the scheduler must be one of"),
        ({}, "an optimizer's dict must hold 'hyperparameters'"),
        ({"hyperparameters": {"lr": 0.1}}, "must name the optimizer under 'id'"),
        ({"hyperparameters": {"id": "Lion"}}, "the optimizer must be one of"),
        ({"hyperparameters": {"id": "SGD"}, "cur_step": -3}, r"cur_step must be an int from 0 to 2\^63 - 1, got -3"),
    ],
)
def test_optimizer_initializer_refuses(param, message):
    with pytest.raises(ValueError, match=message):
        OptimizerInitializer(param)()


@pytest.mark.parametrize("param", [0.1, SGD, ["sgd"]])
def test_optimizer_initializer_refuses_other_types(param):
    with pytest.raises(TypeError, match="optimizer must be an optimizer, str, dict or None, got"):
        OptimizerInitializer(param)()


# ----------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((120, 80), (120, 80)), ((5, 8, 16), (40, 80)), ((5, 5, 8, 16), (200, 400))],
)
def test_calc_fan(shape, expected):
    assert calc_fan(shape) == expected


@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 3, 4, 5)])
def test_calc_fan_refuses(shape):
    with pytest.raises(ValueError, match="shape must be 2, 3 or 4 ints, got"):
        calc_fan(shape)


def normal_cdf(x):
    return 0.5 * np.array([math.erfc(-value / math.sqrt(2)) for value in x])


def uniform_cdf(x):
    """Return the distribution function of U(-1, 1)."""
    return (x + 1) / 2


def truncated_normal_cdf(x):
    """Return the distribution function of N(0, 1/4), truncated to (-1, 1)."""
    tail = 0.5 * math.erfc(math.sqrt(2))
    return (normal_cdf(2 * x) - tail) / (1 - 2 * tail)


def assert_distributed(sample, cdf):
    """Do a Kolmogorov-Smirnov test with a fixed seed; 1.95 / sqrt(n) is exceeded with probability 0.001."""
    levels = cdf(np.sort(sample.ravel()))
    steps = np.arange(sample.size) / sample.size
    distance = max(np.max(levels - steps), np.max(steps + 1 / sample.size - levels))
    assert distance < 1.95 / math.sqrt(sample.size)


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("initializer"), ids=case_id)
def test_reference_figures(name, meta, arrays):
    shape, mode = tuple(meta["shape"]), meta["mode"]
    assert calc_fan(shape) == tuple(arrays["fan_in_fan_out"])
    initializer = WeightInitializer(meta["act_fn"], mode)
    if mode.startswith("glorot"):
        assert_allclose(initializer.gain, arrays["correct_gain"], rtol=1e-15)
    # numpy-ml's limit with the correct gain.
    correction = arrays["correct_gain"] / arrays["gain"] if mode.startswith("glorot") else 1
    limit, std = arrays["limit"] * correction, arrays["expected_std"] * correction

    weights = initializer(shape, rng=np.random.default_rng(0))
    assert weights.shape == shape
    if mode == "std_normal":
        assert limit == math.inf
        assert_distributed(weights, normal_cdf)
    else:
        assert np.abs(weights).max() <= limit * (1 + 1e-15)
        cdf = uniform_cdf if mode.endswith("uniform") else truncated_normal_cdf
        assert_distributed(weights / limit, cdf)
    # Both estimates are within 4 standard errors, which are at most those of a normal sample.
    assert abs(weights.mean()) < 4 * std / math.sqrt(weights.size)
    assert abs(weights.std() / std - 1) < 4 / math.sqrt(2 * weights.size)


@pytest.mark.parametrize(
    ("act_fn", "gain"),
    [
        ("Tanh", 5 / 3),
        ("ReLU", math.sqrt(2)),
        ("Leaky ReLU(alpha=0.3)", math.sqrt(2 / 1.09)),
        ("LeakyReLU(alpha=1)", 1),
        ("Affine(slope=1, intercept=0)", 1),
        ("Sigmoid", 1),
        ("SELU", 1),
        ("GELU(approximate=False)", 1),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_the_gain_scales_glorot_only(act_fn, gain, mode):
    drawn, plain = (
        WeightInitializer(name, mode)((30, 20), rng=np.random.default_rng(1)) for name in (act_fn, "Identity")
    )
    assert_allclose(drawn, plain * (gain if mode.startswith("glorot") else 1), rtol=1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_float32_and_float64_start_from_the_same_numbers(mode):
    initializer = WeightInitializer("ReLU", mode)
    double = initializer((3, 3, 4, 8), rng=np.random.default_rng(5))
    single = initializer((3, 3, 4, 8), rng=np.random.default_rng(5), dtype=np.float32)
    assert (double.dtype, single.dtype) == (np.float64, np.float32)
    assert single.flags.c_contiguous
    assert_array_equal(single, double.astype(np.float32))


def test_without_a_generator_the_numbers_are_new():
    initializer = WeightInitializer("ReLU")
    assert not np.array_equal(initializer((4, 4)), initializer((4, 4)))


def test_weight_initializer_refuses():
    with pytest.raises(ValueError, match=r"init must be one of glorot_uniform, .*, got 'xavier'"):
        WeightInitializer("ReLU", mode="xavier")
    with pytest.raises(ValueError, match="the activation must be one of"):
        WeightInitializer("swish")
    initializer = WeightInitializer("ReLU")
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator or None, got 3"):
        initializer((2, 2), rng=3)
    with pytest.raises(TypeError, match="dtype must be float32 or float64, got"):
        initializer((2, 2), dtype=np.int32)
    with pytest.raises(ValueError, match="shape must be 2, 3 or 4 ints"):
        initializer((2,))
