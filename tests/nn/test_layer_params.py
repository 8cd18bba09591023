"""The summaries of layers, and restoring layers from them."""

import copy
import pickle

import numpy as np
import pytest
from layer_cases import (
    LAYERS,
    WEIGHTED,
    arrays_of,
    assert_same_arrays,
    batch,
    build,
    every_layer,
    state,
    train,
    weighted_layers,
)

from cvae.activations import ELU, ReLU
from cvae.layers import (
    BatchNorm1D,
    BatchNorm2D,
    Conv2D,
    ConvTranspose2D,
    Flatten,
    FullyConnected,
    GroupNorm,
    Pool2D,
    Reshape,
    Residual,
    Upsample2D,
)
from cvae.optimizers import SGD

OPTIMIZERS = [
    "SGD(lr=0.1, momentum=0.9)",
    "AdaGrad",
    "RMSProp",
    "Adam(clip_norm=0.1)",
    "SGD(lr_scheduler=ExponentialScheduler(initial_lr=0.1, stage_length=2))",
    "Adam(lr_scheduler=NoamScheduler(warmup_steps=4))",
]


def test_hyperparameters():
    shared = {"dtype": "float32", "optimizer": {"cache": {}, "hyperparameters": SGD().hyperparameters, "cur_step": 0}}
    assert Conv2D(4, 3).hyperparameters == {
        "layer": "Conv2D", "pad": 0, "init": "glorot_uniform", "in_ch": None, "out_ch": 4, "stride": 1, "dilation": 0,
        "act_fn": "Identity", "kernel_shape": (3, 3), "algorithm": "auto", **shared,
    }  # fmt: skip
    assert Pool2D((3, 2), stride=2).hyperparameters == {
        "layer": "Pool2D", "act_fn": None, "pad": 0, "mode": "max", "in_ch": None, "out_ch": None, "stride": 2,
        "kernel_shape": (3, 2), **shared,
    }  # fmt: skip
    assert FullyConnected(4, act_fn="ELU(alpha=0.5)").hyperparameters == {
        "layer": "FullyConnected", "init": "glorot_uniform", "n_in": None, "n_out": 4, "act_fn": "ELU(alpha=0.5)",
        **shared,
    }  # fmt: skip
    assert ConvTranspose2D(4, 3, 2, output_pad=1).hyperparameters == {
        "layer": "ConvTranspose2D", "pad": 0, "init": "glorot_uniform", "in_ch": None, "out_ch": 4, "stride": 2,
        "output_pad": 1, "dilation": 0, "act_fn": "Identity", "kernel_shape": (3, 3), "algorithm": "auto", **shared,
    }  # fmt: skip
    assert Reshape([2, 3]).hyperparameters == {"layer": "Reshape", "shape": (2, 3), **shared}
    assert Upsample2D(3).hyperparameters == {"layer": "Upsample2D", "factor": (3, 3), "mode": "nearest", **shared}
    assert Flatten("last").hyperparameters == {"layer": "Flatten", "keep_dim": "last", **shared}


@every_layer
def test_the_summary_holds_the_layers_own_arrays(name):
    layer = build(name)
    layer.forward(batch(name))
    summary = layer.summary()
    assert summary.keys() == {"layer", "parameters", "hyperparameters"}
    assert summary["layer"] == name.split()[0] == summary["hyperparameters"]["layer"]
    assert summary["parameters"] is layer.parameters


@every_layer
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fresh_layer_restored_from_a_summary_goes_on_in_the_same_way(name, optimizer, dtype):
    layer, X = build(name, optimizer=optimizer, dtype=dtype), batch(name)
    train(layer, X, 3)
    summary = layer.summary()
    fresh = {
        "Conv2D": lambda: Conv2D(1, 1, dtype=dtype),
        "ConvTranspose2D": lambda: ConvTranspose2D(1, 1, dtype=dtype),
        "FullyConnected": lambda: FullyConnected(None, dtype=dtype),
        "Reshape": lambda: Reshape(1, dtype=dtype),
        "Upsample2D": lambda: Upsample2D(dtype=dtype),
        "Flatten": lambda: Flatten("last", dtype=dtype),
        "Pool2D": lambda: Pool2D(1, dtype=dtype),
        "BatchNorm1D": lambda: BatchNorm1D(0.5, 0.1, dtype=dtype),
        "BatchNorm2D": lambda: BatchNorm2D(0.5, 0.1, dtype=dtype),
        "GroupNorm": lambda: GroupNorm(3, 0.1, dtype=dtype),
        "Residual": lambda: Residual([Flatten()], dtype=dtype),
    }[name.split()[0]]()
    assert fresh.set_params(summary) is fresh
    assert repr(fresh.summary()) == repr(summary)
    np.testing.assert_array_equal(fresh.forward(X, retain_derived=False), layer.forward(X, retain_derived=False))
    train(layer, X, 3, first=3)
    train(fresh, X, 3, first=3)
    assert_same_arrays(arrays_of(fresh), arrays_of(layer))


@every_layer
def test_a_fresh_layer_takes_the_dtype_of_a_summary(name):
    layer, X = build(name, dtype="float64"), batch(name)
    Y = layer.forward(X)
    fresh = build(name, dtype="float32").set_params(layer.summary())
    assert fresh.dtype == np.float64
    np.testing.assert_array_equal(fresh.forward(X), Y)


@weighted_layers
def test_set_params_copies_and_leaves_the_callers_dictionary_alone(name):
    layer, X = build(name, optimizer="RMSProp"), batch(name)
    train(layer, X, 2)
    summary = layer.summary()
    before = {key: copy.deepcopy(dict(value)) if key != "layer" else value for key, value in summary.items()}
    fresh = build(name).set_params(summary)
    train(fresh, X, 2)
    assert repr(summary) == repr(before)
    assert_same_arrays(arrays_of(layer), before["parameters"])


@weighted_layers
def test_set_params_takes_single_values_by_name(name):
    layer, X = build(name), batch(name)
    layer.forward(X)
    b = np.arange(4.0).reshape(layer.parameters["b"].shape)
    layer.set_params({"b": b, "act_fn": "ELU(alpha=0.5)", "optimizer": "Adam(lr=0.5)"})
    np.testing.assert_array_equal(layer.parameters["b"], b)
    assert layer.act_fn == ELU(alpha=0.5)
    assert str(layer.optimizer).startswith("Adam(lr=0.5,")
    layer.set_params({"hyperparameters": {"act_fn": ReLU()}, "parameters": {"W": np.zeros(layer.W.shape)}})
    np.testing.assert_array_equal(layer.forward(X), np.broadcast_to(b.reshape(-1), layer.output_shape(X.shape)))


@weighted_layers
def test_weights_given_to_a_fresh_layer_make_it_ready(name):
    drawn, X = build(name), batch(name)
    Y = drawn.forward(X)
    layer = build(name, random_state=1).set_params({"parameters": {"W": drawn.W}})
    assert layer.is_initialized
    assert not layer.b.any()
    np.testing.assert_array_equal(layer.forward(X), Y)


@weighted_layers
def test_parameters_of_none_are_none(name):
    layer, X = build(name), batch(name)
    layer.forward(X)
    before = state(layer)
    layer.set_params({"W": None, "b": None})
    layer.set_params({"parameters": {"W": None}})
    assert state(layer) == before


@weighted_layers
def test_a_bias_alone_does_not_make_a_fresh_layer_ready(name):
    layer = build(name)
    with pytest.raises(ValueError, match="parameters must hold W"):
        layer.set_params({"parameters": {"b": np.zeros(4)}})
    assert not layer.is_initialized


WRONG = {
    "Conv2D": [
        {"stride": 0}, {"kernel_shape": (3, 0)}, {"kernel_shape": (2, 2)}, {"pad": -1}, {"dilation": -1},
        {"out_ch": 5}, {"out_ch": 0}, {"in_ch": 4}, {"W": np.zeros((3, 2, 4, 4))}, {"b": np.zeros(4)},
        {"W": np.zeros((3, 2, 3, 5))}, {"init": "zeros"}, {"act_fn": "softmax"}, {"layer": "Pool2D"},
    ],
    "ConvTranspose2D": [
        {"stride": 0}, {"kernel_shape": (3, 0)}, {"kernel_shape": (2, 2)}, {"pad": -1}, {"dilation": -1},
        {"output_pad": 2}, {"output_pad": -1}, {"stride": 1}, {"out_ch": 5}, {"out_ch": 0}, {"in_ch": 4},
        {"W": np.zeros((3, 2, 3, 4))}, {"b": np.zeros(4)}, {"W": np.zeros((3, 2, 4, 5))}, {"init": "zeros"},
        {"act_fn": "softmax"}, {"algorithm": "fft"}, {"layer": "Conv2D"},
    ],
    "FullyConnected": [
        {"n_out": 5}, {"n_out": 0}, {"n_out": 2.5}, {"n_in": 6}, {"W": np.zeros((6, 4))}, {"W": np.zeros((5, 3))},
        {"W": np.zeros(20)}, {"b": np.zeros((4, 1))}, {"init": "zeros"}, {"act_fn": 3}, {"layer": "Conv2D"},
    ],
    "Pool2D max": [{"mode": "min"}, {"kernel_shape": 0}, {"stride": -1}, {"pad": (1, 2, 3)}, {"layer": "Flatten"}],
    "Pool2D average": [{"mode": None}, {"kernel_shape": (2, 2, 2)}, {"stride": (1, 2)}, {"pad": None}],
    "Flatten": [{"keep_dim": "middle"}, {"keep_dim": 1}, {"keep_dim": None}, {"layer": "Pool2D"}],
    "Reshape": [{"shape": ()}, {"shape": (2, 0)}, {"shape": (2.5, 4)}, {"shape": "3"}, {"layer": "Flatten"}],
    "Upsample2D nearest": [{"factor": 0}, {"factor": (2, 2, 2)}, {"mode": "cubic"}, {"layer": "Pool2D"}],
    "Upsample2D bilinear": [{"factor": 1.5}, {"mode": None}],
    "BatchNorm1D": [{"momentum": 2}, {"epsilon": 0}, {"n_in": 6}, {"scaler": np.ones(6)}, {"running_var": -np.ones(5)}],
    "BatchNorm2D": [{"momentum": "a"}, {"act_fn": 3}, {"in_ch": 4}, {"running_mean": np.ones((3, 1))}],
    "GroupNorm": [{"groups": 3}, {"groups": 0}, {"epsilon": -1}, {"intercept": np.ones(2)}, {"layer": "BatchNorm2D"}],
    "Residual": [{"layers": ["Conv2D(3, 1)"]}, {"shortcut": "Conv2D(3, 1)"}, {"Conv2D_1/W": np.ones(3)}, {"act_fn": 3}],
    "Residual shortcut": [{"shortcut": None}, {"layers": 3}, {"shortcut/b": np.ones(3)}, {"layer": "Conv2D"}],
}  # fmt: skip


@every_layer
def test_set_params_changes_nothing_if_anything_is_wrong(name):
    layer, X = build(name, optimizer="RMSProp"), batch(name)
    train(layer, X, 2)
    layer.forward(X)
    before = state(layer)
    for_all = [{"depth": 3}, {"dtype": "int8"}, {"dtype": "float64"} if name in WEIGHTED else {"dtype": None}]
    for_all += [{"optimizer": "Lion"}, {"optimizer": {"cache": {"W": 3}, "hyperparameters": {"id": "SGD"}}}]
    for wrong in [*WRONG[name], *for_all]:
        for before_it in ({}, {"optimizer": "Adam"} if "optimizer" not in wrong else {"dtype": "float32"}):
            with pytest.raises((TypeError, ValueError)):
                layer.set_params({**before_it, **wrong})
            assert state(layer) == before
    assert len(layer.X) == 1


def test_the_summary_of_another_layer_is_refused():
    layers = {name: build(name) for name in LAYERS}
    for name, layer in layers.items():
        layer.forward(batch(name))
        for other_name, other in layers.items():
            if other_name.split()[0] != name.split()[0]:
                expected = f"layer must be '{name.split()[0]}', got '{other_name.split()[0]}'"
                for summary in (other.summary(), {"hyperparameters": other.hyperparameters}):
                    with pytest.raises(ValueError, match=expected):
                        layer.set_params(summary)


@every_layer
def test_copies_and_pickles_train_as_the_layer_does(name):
    layer, X = build(name, optimizer="Adam"), batch(name)
    train(layer, X, 2)
    layer.forward(X)
    others = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    for one in (layer, *others):
        one.flush_gradients()
        train(one, X, 2, first=2)
    for other in others:
        assert_same_arrays(arrays_of(other), arrays_of(layer))
