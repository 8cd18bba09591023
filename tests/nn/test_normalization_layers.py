"""The specifics of the layers that normalize: results, running statistics, freezing and errors."""

import copy
import pickle

import numpy as np
import oracles
import pytest
from layer_cases import ACTIVATIONS, arrays_of, assert_same_arrays

from cvae.activations import ReLU
from cvae.layers import BatchNorm1D, BatchNorm2D, GroupNorm

BATCH = {"BatchNorm1D": (BatchNorm1D, (6, 4)), "BatchNorm2D": (BatchNorm2D, (3, 4, 5, 4))}
each_batch_norm = pytest.mark.parametrize(("make", "shape"), BATCH.values(), ids=BATCH.keys())


def images(shape=(3, 4, 5, 4), seed=0):
    return np.random.default_rng(seed).normal(2, 3, size=shape)


def started(layer, X, seed=1):
    """Give a layer random parameters."""
    rng = np.random.default_rng(seed)
    layer.initialize(X.shape)
    return layer.set_params({"parameters": {k: rng.uniform(0.5, 1.5, v.shape) for k, v in layer.parameters.items()}})


def by_image(layer, X):
    return X.reshape(1 if isinstance(layer, (BatchNorm1D, BatchNorm2D)) else len(X), -1, X.shape[-1])


def assert_equals_the_reference(layer, X, groups):
    started(layer, X)
    scaler, intercept = layer.parameters["scaler"], layer.parameters["intercept"]
    X3 = by_image(layer, X)
    statistics = oracles.normalization_statistics(X3, groups)
    Z = oracles.normalize(X3, *statistics, scaler, intercept, layer.epsilon)
    oracles.assert_equal_to_rounding(layer.forward(X), layer.act_fn.fn(Z).reshape(X.shape))
    dY = np.random.default_rng(2).normal(size=X.shape)
    dZ = dY.reshape(Z.shape) * layer.act_fn.grad(Z)
    expected = oracles.normalize_backward(dZ, X3, *statistics, scaler, layer.epsilon, groups)
    oracles.assert_equal_to_rounding(layer.backward(dY), expected[0].reshape(X.shape))
    oracles.assert_equal_to_rounding(layer.gradients["scaler"], expected[1])
    oracles.assert_equal_to_rounding(layer.gradients["intercept"], expected[2])


@each_batch_norm
@pytest.mark.parametrize("act_fn", ACTIVATIONS)
def test_batch_normalization_equals_the_reference(make, shape, act_fn):
    layer = make(epsilon=0.1, act_fn=act_fn, dtype="float64")
    assert_equals_the_reference(layer, images(shape), shape[-1])


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_normalization_equals_the_reference(groups, act_fn):
    assert_equals_the_reference(GroupNorm(groups, 0.1, act_fn, dtype="float64"), images(), groups)


@each_batch_norm
def test_training_steps_move_the_running_statistics(make, shape):
    layer, mean, variance = make(momentum=0.75, dtype="float64", optimizer="SGD(lr=0)"), np.zeros(4), np.ones(4)
    for seed in range(3):
        X = images(shape, seed)
        layer.backward(layer.forward(X))
        layer.update()
        statistics = oracles.normalization_statistics(by_image(layer, X), 4)
        mean = oracles.running_average(mean, statistics[0][0], 0.75)
        variance = oracles.running_average(variance, statistics[1][0], 0.75)
    oracles.assert_equal_to_rounding(layer.parameters["running_mean"], mean)
    oracles.assert_equal_to_rounding(layer.parameters["running_var"], variance)
    expected = oracles.normalize(by_image(layer, X), mean[np.newaxis], variance[np.newaxis], 1, 0, layer.epsilon)
    oracles.assert_equal_to_rounding(layer.forward(X, retain_derived=False), expected.reshape(shape))


@each_batch_norm
def test_nothing_but_a_step_after_a_backward_pass_moves_them(make, shape):
    layer, X = make(optimizer="SGD(lr=0)"), images(shape)
    layer.forward(X)
    before = arrays_of(layer)
    layer.update()
    layer.forward(X, retain_derived=False)
    layer.backward(layer.forward(X), retain_grads=False)
    layer.update()
    layer.backward(layer.forward(X))
    layer.flush_gradients()
    layer.update()
    assert_same_arrays(arrays_of(layer), before)
    layer.backward(layer.forward(X))
    layer.update()
    moved = arrays_of(layer)
    assert (moved["running_mean"] != before["running_mean"]).all()
    layer.update()
    assert_same_arrays(arrays_of(layer), moved)


@each_batch_norm
def test_a_frozen_layer_uses_and_keeps_the_running_statistics(make, shape):
    layer, X = make(dtype="float64"), images(shape)
    started(layer, X)
    layer.freeze()
    before, dY = arrays_of(layer), np.random.default_rng(2).normal(size=shape)
    np.testing.assert_array_equal(layer.forward(X), layer.forward(X, retain_derived=False))
    mean, variance = layer.parameters["running_mean"], layer.parameters["running_var"]
    slope = layer.parameters["scaler"] / np.sqrt(variance + layer.epsilon)
    oracles.assert_equal_to_rounding(
        layer.X[0] * slope - mean * slope + layer.parameters["intercept"], layer.forward(X)
    )
    layer.flush_gradients()
    layer.forward(X)
    oracles.assert_equal_to_rounding(layer.backward(dY), dY * slope)
    layer.update()
    assert_same_arrays(arrays_of(layer), before)


@each_batch_norm
def test_a_backward_pass_is_that_of_its_forward_pass_even_if_the_layer_was_frozen_in_between(make, shape):
    X, dY = images(shape), np.random.default_rng(2).normal(size=shape)
    layer = started(make(dtype="float64"), X)
    layer.forward(X)
    trained = layer.backward(dY)
    layer.freeze()
    np.testing.assert_array_equal(layer.backward(dY), trained)
    layer.flush_gradients()
    layer.forward(X)
    frozen = layer.backward(dY)
    layer.unfreeze()
    np.testing.assert_array_equal(layer.backward(dY), frozen)
    before = arrays_of(layer)
    layer.update()
    assert (layer.parameters["scaler"] != before["scaler"]).all()
    np.testing.assert_array_equal(layer.parameters["running_mean"], before["running_mean"])


@each_batch_norm
def test_running_statistics_can_be_reset(make, shape):
    layer = started(make(), images(shape))
    array = layer.parameters["running_var"]
    layer.reset_running_stats()
    assert layer.parameters["running_var"] is array
    np.testing.assert_array_equal(array, np.ones(4))
    np.testing.assert_array_equal(layer.parameters["running_mean"], np.zeros(4))
    make().reset_running_stats()


@each_batch_norm
def test_a_copy_takes_the_step_that_its_original_was_about_to_take(make, shape):
    layer, X = make(dtype="float64"), images(shape)
    layer.backward(layer.forward(X))
    others = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    layer.update()
    for other in others:
        other.update()
        assert_same_arrays(arrays_of(other), arrays_of(layer))


def test_a_batch_of_one_row_puts_out_the_intercepts():
    layer, X = BatchNorm1D(dtype="float64"), images((1, 4))
    started(layer, X)
    np.testing.assert_array_equal(layer.forward(X)[0], layer.parameters["intercept"])
    np.testing.assert_array_equal(layer.backward(np.ones((1, 4))), np.zeros((1, 4)))


def test_parameters_are_made_by_the_first_input():
    for layer, X in ((BatchNorm1D(), images((6, 4))), (BatchNorm2D(), images()), (GroupNorm(2), images())):
        names = ["scaler", "intercept"] + ([] if isinstance(layer, GroupNorm) else ["running_mean", "running_var"])
        assert layer.parameters == dict.fromkeys(names)
        assert layer.gradients == {}
        layer.forward(X, retain_derived=False)
        assert {name: array.shape for name, array in layer.parameters.items()} == dict.fromkeys(names, (4,))
        assert list(layer.gradients) == ["scaler", "intercept"]
        assert [array.tolist() for array in layer.parameters.values()][:2] == [[1] * 4, [0] * 4]


def test_call_strings():
    assert repr(BatchNorm2D(act_fn="ReLU")) == "BatchNorm2D(act_fn='ReLU')"
    assert repr(BatchNorm1D(0.5, 1e-3)) == "BatchNorm1D(momentum=0.5, epsilon=0.001, act_fn='Identity')"
    assert repr(GroupNorm(4)) == "GroupNorm(groups=4, act_fn='Identity')"


def test_arguments_are_checked_at_once():
    for make in (BatchNorm1D, BatchNorm2D):
        for momentum in (-0.1, 1.5, np.nan):
            with pytest.raises(ValueError, match=r"momentum must be a number in \[0, 1\], got"):
                make(momentum)
        with pytest.raises(TypeError, match=r"momentum must be a number in \[0, 1\], got 'a'"):
            make("a")
    for make in (BatchNorm1D, BatchNorm2D, lambda **k: GroupNorm(2, **k)):
        for epsilon in (0, -1e-5, np.inf):
            with pytest.raises(ValueError, match=r"epsilon must be a number in \(0, inf\), got"):
                make(epsilon=epsilon)
        with pytest.raises(ValueError, match="activation must be one of"):
            make(act_fn="softmax")
    with pytest.raises(ValueError, match="groups must be an int >= 1, got 0"):
        GroupNorm(0)
    with pytest.raises(TypeError, match="groups must be an int >= 1, got None"):
        GroupNorm(None)
    with pytest.raises(ValueError, match="X must have a multiple of groups=3 channels, got 4"):
        GroupNorm(3).forward(images())


def test_parameters_are_checked():
    layer = started(BatchNorm2D(), images())
    before = arrays_of(layer)
    for wrong, message in (
        ({"scaler": np.ones(5)}, r"scaler must have the shape \(4,\), got \(5,\)"),
        ({"running_mean": np.ones((4, 1))}, r"running_mean must have the shape \(4,\), got \(4, 1\)"),
        ({"running_var": [1, 1, -1, 1]}, "running_var must be >= 0, got"),
        ({"in_ch": 5}, "in_ch must stay 4, got 5"),
        ({"momentum": 2}, "momentum must be a number"),
    ):
        with pytest.raises(ValueError, match=message):
            layer.set_params({"act_fn": "ReLU", **wrong})
        assert_same_arrays(arrays_of(layer), before)
        assert layer.act_fn != ReLU()
    group = started(GroupNorm(2), images())
    with pytest.raises(ValueError, match="X must have a multiple of groups=3 channels, got 4"):
        group.set_params({"groups": 3})
    assert group.groups == 2
