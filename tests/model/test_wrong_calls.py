"""Wrong values for every argument: the type of the error, and a message of one line that names the argument.

`KINDS` says what is wrong for arguments of a kind, `ARGUMENTS` of which kind each argument is.
"""

import math

import numpy as np
import pytest
from small_vae import random_images, small_vae

import cvae
from cvae import annealing, callbacks, layers, objectives, optimizers, plotting, schedulers
from cvae.initializers import WeightInitializer

NO_NUMBERS = ["x", None, True, 1j, [1], {}, {1}, np.zeros(3), b"x", object(), slice(3), np.datetime64("2020")]
NOT_FINITE = [math.nan, math.inf, -math.inf, np.float32(np.nan), 10**400]
SURROGATE = "\udc80"

# What is a TypeError, and what a ValueError.
KINDS = {
    "rate": (NO_NUMBERS, [*NOT_FINITE, -1, -1e-300]),
    "positive": (NO_NUMBERS, [*NOT_FINITE, 0, -1]),
    "share": (NO_NUMBERS, [*NOT_FINITE, 1, -1, 2**63]),
    "factor": (NO_NUMBERS, [*NOT_FINITE, 0, 1.5, -1]),
    "size": ([*NO_NUMBERS, 1.5, math.nan], [0, -1, 1 << 63, -(10**40), 10**40]),
    "axes": (
        ["x", None, True, 1j, 1.5, {}, b"x", object(), [True, 1], ["a", "b"]],
        [0, -1, [], [0, 0], 1 << 31, 1 << 63, (1, 2, 3)],
    ),
    "flag": (["x", None, 1, 0, [], math.nan, np.zeros(3), object()], []),
    "switch": (["x", 1.5, -1, [], {}, math.nan, np.zeros(3), object(), SURROGATE], []),
    "dtype": ([], ["x", "1 2", SURROGATE, None, 3, "int32", "float16", complex, object(), [], "float128"]),
    "act_fn": ([3, 0.5, True, [], {}, object()], []),
    "init": ([], ["x", None, 3, [], {}, SURROGATE, "Glorot"]),
    "optimizer": ([3, 0.5, True, [], object()], []),
    "list of layers": ([None, 3, "x", object()], []),
    "dict": (["x", 3, [1], [("a", 1)], object(), np.zeros(3), {1: 2}], []),
    "threads": (["x", True, 1.5, [], 1j, np.zeros(3), np.ma.masked, object()], [0, -1, 5000, 1 << 63]),
    "pixels": (["x", None, {}, object(), np.datetime64("2020")], [1j, [], np.zeros(3), np.full((2, 9, 8), np.nan), 3]),
    "codes": ([{}, object()], [1j, [], np.zeros(3), np.full((2, 2), np.nan), np.zeros((2, 5)), 3]),
    "real array": ([1j, np.ones((2, 3), complex)], ["x", SURROGATE, [[1], [1, 2]], [], 3]),
    "path": ([1, True, None, 0.5, [], object()], []),
    "words": ([], ["x", "", SURROGATE]),
    "network": ([None, 3, object()], ["x", SURROGATE]),
    "annealed": ([], [-1, math.nan, math.inf, SURROGATE]),
    "shape": ([None, 3, 0.5, True, object(), {}, np.zeros(3)], [(0, 0), (2, -1), (1 << 63, 2), (1,), ()]),
    "figure": (["x", 3, True, object()], []),
    "history": (
        ["x", None, 3, [], object()],
        [{}, {"loss": []}, {"loss": ["a"]}, {"loss": 3}, {"loss": [[1]]}, {"a": [1]}],
    ),
}
for name in ("positive", "size", "switch", "share", "rate", "path"):
    KINDS[f"optional {name}"] = tuple([value for value in values if value is not None] for values in KINDS[name])
X = random_images()
FLAT = np.ones((2, 6), np.float32)


def layer(name, **arguments):
    """Return a call that makes a layer with one more argument."""
    return lambda argument: lambda value: getattr(layers, name)(**arguments | {argument: value})


def maker(cls, **arguments):
    return lambda argument: lambda value: cls(**arguments | {argument: value})


def model(argument):
    """Return a call that makes a model and has its arguments checked, as the constructor does not."""
    return lambda value: cvae.VAE(**{"encoder": ["Flatten()"], "decoder": [], "T": 2, argument: value}).fit(X)


def bernoulli(argument):
    return lambda value: cvae.BernoulliVAE(**{argument: value}).fit(X)


_trained = small_vae().fit(X, n_epochs=1)


def method(name, *first):
    return lambda argument: lambda value: getattr(_trained, name)(*first, **{argument: value})


def initialized(name, x, **arguments):
    new = getattr(layers, name)(**arguments)
    new.forward(x)
    return new


WEIGHTED = {"act_fn": "act_fn", "init": "init", "optimizer": "optimizer", "dtype": "dtype"}
SHAPED = WEIGHTED | {"out_ch": "size", "kernel_shape": "axes", "stride": "axes"}
OPTIMIZER = {"lr": "rate", "lr_scheduler": "optimizer"}
KING = {"initial_lr": "rate", "patience": "positive", "decay": "factor"}
KL = {"start": "rate", "end": "rate"}

# Calls by name, each with its arguments and their kinds.
ARGUMENTS = {
    "SGD": (maker(optimizers.SGD), OPTIMIZER | {"momentum": "share"}),
    "AdaGrad": (maker(optimizers.AdaGrad), OPTIMIZER | {"eps": "positive"}),
    "RMSProp": (maker(optimizers.RMSProp), OPTIMIZER | {"eps": "positive", "decay": "share"}),
    "Adam": (maker(optimizers.Adam), OPTIMIZER | {"eps": "positive", "decay1": "share", "decay2": "share"}),
    "AdamW": (maker(optimizers.AdamW), OPTIMIZER | {"weight_decay": "rate"}),
    "Adam.set_params": (
        lambda argument: lambda value: optimizers.Adam().set_params(**{argument: value}),
        {"hparam_dict": "dict", "cache_dict": "dict"},
    ),
    "ConstantScheduler": (maker(schedulers.ConstantScheduler), {"lr": "rate"}),
    "ExponentialScheduler": (
        maker(schedulers.ExponentialScheduler),
        {"initial_lr": "rate", "stage_length": "positive", "staircase": "flag"},
    ),
    "NoamScheduler": (
        maker(schedulers.NoamScheduler),
        {"model_dim": "positive", "scale_factor": "rate", "warmup_steps": "positive"},
    ),
    "KingScheduler": (maker(schedulers.KingScheduler), KING),
    "CosineScheduler": (maker(schedulers.CosineScheduler, steps=9), {"initial_lr": "rate", "steps": "positive"}),
    "scheduler": (
        lambda argument: lambda value: schedulers.NoamScheduler()(**{argument: value}),
        {"step": "optional positive"},
    ),
    "Conv2D": (layer("Conv2D", out_ch=2, kernel_shape=3), SHAPED),
    "ConvTranspose2D": (layer("ConvTranspose2D", out_ch=2, kernel_shape=3), SHAPED),
    "Pool2D": (layer("Pool2D", kernel_shape=2), {"kernel_shape": "axes", "stride": "axes", "dtype": "dtype"}),
    "Flatten": (layer("Flatten"), {"dtype": "dtype", "optimizer": "optimizer"}),
    "FullyConnected": (layer("FullyConnected", n_out=3), WEIGHTED),
    "Reshape": (layer("Reshape", shape=(2, 3)), {"dtype": "dtype"}),
    "Residual": (layer("Residual", layers=["Flatten()"]), {"layers": "list of layers", "dtype": "dtype"}),
    "a layer's set_params": (
        lambda argument: lambda value: layers.Flatten().set_params(
            value if argument == "summary_dict" else {argument: value}
        ),
        {"summary_dict": "dict", "hyperparameters": "dict", "parameters": "dict", "dtype": "dtype"},
    ),
    "a layer's forward": (lambda _: layers.FullyConnected(3).forward, {"X": "real array"}),
    "a layer's backward": (lambda _: initialized("FullyConnected", FLAT, n_out=3).backward, {"dLdy": "real array"}),
    "a layer's weights": (
        lambda argument: lambda value: initialized("FullyConnected", FLAT, n_out=3).set_params({argument: value}),
        {"W": "real array", "b": "real array"},
    ),
    "WeightInitializer": (lambda _: lambda value: WeightInitializer("ReLU", mode=value), {"init": "init"}),
    "weights": (
        lambda argument: lambda value: WeightInitializer("ReLU")(**{"shape": (2, 3), argument: value}),
        {"shape": "shape"},
    ),
    "VAE": (
        model,
        {
            "T": "size", "n_epochs": "size", "batchsize": "size", "dtype": "dtype", "lr": "optional rate",
            "warm_start": "flag", "verbose": "switch", "n_threads": "threads", "optimizer": "optimizer",
            "encoder": "network", "decoder": "network", "likelihood": "words",
            "objective": "words", "condition": "words", "binarize": "words",
        },
    ),
    "BernoulliVAE": (
        bernoulli,
        {
            "T": "size", "latent_dim": "size", "enc_conv1_out_ch": "size", "enc_conv2_out_ch": "size",
            "enc_conv1_stride": "axes", "enc_pool1_stride": "axes", "enc_conv1_kernel_shape": "axes",
            "enc_pool2_kernel_shape": "axes", "beta": "rate",
        },
    ),
    "fit": (
        method("fit", X),
        {"n_epochs": "optional size", "batchsize": "optional size", "verbose": "optional switch"},
    ),
    "fit X": (lambda _: _trained.fit, {"X": "pixels"}),
    "partial_fit": (lambda _: _trained.partial_fit, {"X": "pixels"}),
    "validation": (method("fit", X), {"validation_fraction": "optional share"}),
    "encode": (lambda _: _trained.encode, {"X": "pixels"}),
    "transform": (lambda _: _trained.transform, {"X": "pixels"}),
    "elbo": (lambda _: _trained.elbo, {"X": "pixels"}),
    "reconstruct": (lambda _: _trained.reconstruct, {"X": "pixels"}),
    "decode": (lambda _: _trained.decode, {"Z": "codes"}),
    "inverse_transform": (lambda _: _trained.inverse_transform, {"Z": "codes"}),
    "log_likelihood": (method("log_likelihood", X), {"n_samples": "size"}),
    "sample": (method("sample"), {"n": "optional size", "temperature": "rate"}),
    "active_units": (method("active_units", X), {"threshold": "rate"}),
    "summary": (method("summary"), {"batchsize": "optional size"}),
    "forward": (method("forward", X), {"noise": "real array", "retain_derived": "switch"}),
    "save": (lambda _: _trained.save, {"path": "path"}),
    "load": (lambda _: cvae.load, {"path": "path"}),
    "set_num_threads": (lambda _: cvae.set_num_threads, {"n": "threads"}),
    "minibatch": (
        lambda argument: lambda value: cvae.minibatch(**{"X": X, argument: value}),
        {"batchsize": "size", "shuffle": "switch"},
    ),
    "ELBO": (maker(objectives.ELBO), {"beta": "annealed", "free_bits": "rate", "n_samples": "size"}),
    "IWAE": (maker(objectives.IWAE), {"k": "size"}),
    "Linear": (maker(annealing.Linear, steps=3), KL | {"steps": "size"}),
    "Cyclical": (maker(annealing.Cyclical, steps=3), KL | {"steps": "size", "cycles": "size"}),
    "EarlyStopping": (maker(callbacks.EarlyStopping), {"patience": "size", "min_delta": "rate"}),
    "ReduceLROnPlateau": (
        maker(callbacks.ReduceLROnPlateau),
        {"patience": "size", "min_delta": "rate", "min_lr": "rate"},
    ),
    "plotting.history": (
        lambda argument: lambda value: plotting.history(**{"history": {"loss": [1.0]}, argument: value}),
        {"history": "history", "figure": "figure", "path": "optional path"},
    ),
}  # fmt: skip


def cases():
    for call, (make, arguments) in ARGUMENTS.items():
        for argument, kind in arguments.items():
            for error, values in zip((TypeError, ValueError), KINDS[kind], strict=True):
                for i, value in enumerate(values):
                    yield pytest.param(make, argument, value, error, id=f"{call}-{argument}-{error.__name__}-{i}")


CASES = list(cases())


def test_the_table_is_large():
    assert len(CASES) > 1000


@pytest.mark.parametrize(("make", "argument", "value", "error"), CASES)
def test_a_wrong_value_isnamed(make, argument, value, error):
    with pytest.raises((TypeError, ValueError)) as caught:
        make(argument)(value)
    message = str(caught.value)
    assert type(caught.value) is error, message
    assert argument in message
    assert "\n" not in message
