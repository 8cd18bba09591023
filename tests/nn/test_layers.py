"""The common interface of layers: forward and backward, updates, freezing and initialization."""

import numpy as np
import oracles
import pytest
from layer_cases import (
    LAYERS,
    STATELESS,
    arrays_of,
    assert_same_arrays,
    batch,
    build,
    every_layer,
    layers_by_example,
    state,
    train,
    weighted_layers,
)

from cvae.layers import Flatten, Pool2D, Reshape, Upsample2D
from cvae.nn.base import LayerBase
from cvae.optimizers import SGD, RMSProp


def ones_like_output(layer, X):
    return np.ones(layer.output_shape(X.shape))


# ------------------------------------------------------------- forward, backward


@layers_by_example
def test_forward_retains_its_input_if_asked_to(name):
    layer, X = build(name), batch(name)
    Y = layer.forward(X)
    assert Y.dtype == np.float32
    assert Y.shape == layer.output_shape(X.shape)
    assert len(layer.X) == 1
    assert [len(values) for values in layer.derived_variables.values()] == [1] * len(layer.derived_variables)
    without = layer.forward(X, retain_derived=False)
    np.testing.assert_array_equal(without, Y)
    assert len(layer.X) == 1
    assert [len(values) for values in layer.derived_variables.values()] == [1] * len(layer.derived_variables)


@every_layer
def test_backward_of_one_forward_gives_an_array_and_of_several_a_list(name):
    layer = build(name, dtype="float64")
    inputs = [batch(name, seed=1), batch(name, seed=2, n=5)]
    dY = [np.random.default_rng(3).normal(size=layer.forward(X).shape) for X in inputs]
    together = layer.backward(dY)
    assert isinstance(together, list)
    gradients = {key: np.array(value) for key, value in layer.gradients.items()}

    alone = []
    for X, grad in zip(inputs, dY, strict=True):
        other = build(name, dtype="float64")
        other.forward(X)
        alone.append((other.backward(grad), other.gradients))
    for got, (expected, _) in zip(together, alone, strict=True):
        assert got.shape == expected.shape
        np.testing.assert_array_equal(got, expected)
    for key, value in gradients.items():
        oracles.assert_equal_to_rounding(value, alone[0][1][key] + alone[1][1][key])


@every_layer
def test_a_list_of_one_gradient_is_as_good_as_the_gradient(name):
    layer, X = build(name), batch(name)
    dY = ones_like_output(layer, X)
    layer.forward(X)
    np.testing.assert_array_equal(layer.backward([dY]), layer.backward(dY))


@weighted_layers
def test_backward_adds_to_the_gradients(name):
    layer, X = build(name, dtype="float64"), batch(name)
    dY = np.cos(layer.forward(X))
    dX = layer.backward(dY)
    once = {key: np.array(value) for key, value in layer.gradients.items()}
    assert all(value.any() for value in once.values())
    np.testing.assert_array_equal(layer.backward(dY), dX)
    assert_same_arrays(layer.gradients, {key: 2 * value for key, value in once.items()})


@weighted_layers
def test_backward_adds_nothing_if_it_is_not_to_retain_gradients(name):
    layer, X = build(name), batch(name)
    dY = np.cos(layer.forward(X))
    dX = layer.backward(dY, retain_grads=False)
    assert not any(value.any() for value in layer.gradients.values())
    np.testing.assert_array_equal(layer.backward(dY), dX)


@every_layer
def test_backward_needs_a_gradient_for_each_retained_forward(name):
    layer, X = build(name), batch(name)
    dY = ones_like_output(layer, X)
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        layer.backward(dY)
    layer.forward(X, retain_derived=False)
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        layer.backward(dY)
    layer.forward(X)
    layer.forward(X)
    for grads in (dY, [dY], [dY, dY, dY], []):
        with pytest.raises(ValueError, match="dLdy must hold 2 gradients"):
            layer.backward(grads)
    assert not any(value.any() for value in layer.gradients.values())


@every_layer
def test_backward_needs_gradients_of_the_outputs_shape(name):
    layer, X = build(name), batch(name)
    dY = ones_like_output(layer, X)
    layer.forward(X)
    for wrong in (dY[:1], dY[..., :1], dY[np.newaxis], dY.reshape(-1), 1.0):
        with pytest.raises(ValueError, match="dLdy must have the output's shape"):
            layer.backward(wrong)


@weighted_layers
def test_backward_adds_nothing_if_one_of_several_gradients_is_wrong(name):
    layer, X = build(name), batch(name)
    layer.forward(X)
    layer.forward(X)
    dY = ones_like_output(layer, X)
    with pytest.raises(ValueError, match="dLdy must have the output's shape"):
        layer.backward([dY, dY[:1]])
    assert not any(value.any() for value in layer.gradients.values())


@every_layer
def test_inputs_and_gradients_of_any_kind_of_array_are_taken(name):
    X = np.round(8 * batch(name))
    expected = build(name).forward(X)
    dY = np.round(8 * expected)
    layer = build(name)
    layer.forward(X)
    dX = layer.backward(dY)
    read_only = X.copy()
    read_only.flags.writeable = False
    strided = np.repeat(X, 2, axis=-1)[..., ::2]
    for other in (X.astype(np.int64), X.astype(">f8"), X.astype(np.float16), X.tolist(), read_only, strided):
        layer = build(name)
        np.testing.assert_array_equal(layer.forward(other), expected)
        np.testing.assert_array_equal(layer.backward(np.asfortranarray(dY)), dX)


@every_layer
def test_masks_are_not_ignored(name):
    layer, X = build(name), batch(name)
    Y = layer.forward(np.ma.array(X))
    with pytest.raises(ValueError, match=r"^X must be an array of real numbers, got masked elements$"):
        layer.forward(np.ma.masked_equal(X, X.flat[0]))
    with pytest.raises(ValueError, match=r"^dLdy must be an array of real numbers, got masked elements$"):
        layer.backward(np.ma.masked_equal(Y, Y.flat[0]))


@every_layer
@pytest.mark.parametrize("dtype", ["float32", "float64", np.float64, np.dtype(np.float32)], ids=str)
def test_everything_has_the_layers_type(name, dtype):
    layer, X = build(name, dtype=dtype), batch(name)
    Y = layer.forward(X)
    dX = layer.backward(np.ones(Y.shape))
    for array in (Y, dX, *layer.parameters.values(), *layer.gradients.values()):
        assert array.dtype == np.dtype(dtype)


@every_layer
@pytest.mark.parametrize("dtype", ["float16", "int32", "text", None, object])
def test_other_types_are_refused(name, dtype):
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got"):
        build(name, dtype=dtype)


@pytest.mark.parametrize("name", [name for name in LAYERS if build(name).input_ndim is not None])
def test_inputs_of_other_dimensions_are_refused(name):
    layer, X = build(name), batch(name)
    for wrong in (X[0], X[np.newaxis], X[:0], X.reshape(-1), 1.0, None):
        with pytest.raises(ValueError, match="X must be a non-empty array of"):
            layer.forward(wrong)
    assert layer.X == []


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in STATELESS])
def test_inputs_of_other_widths_than_the_first_are_refused(name):
    layer, X = build(name), batch(name)
    assert not layer.is_initialized
    layer.forward(X)
    more = np.concatenate([X, X], axis=-1)
    for wrong in (more, X[..., :1]):
        with pytest.raises(ValueError, match=f"X must have {X.shape[-1]} "):
            layer.forward(wrong)
    assert len(layer.X) == 1


# --------------------------------------------------------- update, flush, freeze


@weighted_layers
def test_update_takes_a_step_in_place_and_flushes(name):
    layer, X = build(name, optimizer="SGD(lr=0.1)", dtype="float64"), batch(name)
    layer.backward(np.cos(layer.forward(X)))
    W, before = layer.parameters["W"], arrays_of(layer)
    gradients = {key: np.array(value) for key, value in layer.gradients.items()}
    layer.update()
    assert layer.parameters["W"] is W
    assert layer.optimizer.cur_step == 1
    for key, value in layer.parameters.items():
        oracles.assert_equal_to_rounding(value, before[key] - 0.1 * gradients[key])
    assert layer.X == []
    assert not any(values for values in layer.derived_variables.values())
    assert not any(value.any() for value in layer.gradients.values())


@weighted_layers
@pytest.mark.parametrize("call", ["SGD(lr=0.1, momentum=0.9)", "AdaGrad(lr=0.01)", "RMSProp(lr=0.01)", "Adam(lr=0.01)"])
def test_training_equals_the_reference_optimizers(name, call):
    layer, X = build(name, optimizer=call, dtype="float64"), batch(name)
    layer.initialize(X.shape)
    updates, expected = oracles.Updates(call), arrays_of(layer)
    for i in range(3):
        layer.backward(np.cos(i + layer.forward(X)))
        expected = updates(expected, layer.gradients)
        layer.update()
    for key, value in expected.items():
        oracles.assert_equal_to_rounding(layer.parameters[key], value)


@every_layer
def test_update_before_forward_only_counts_the_step(name):
    layer = build(name)
    layer.update()
    assert layer.optimizer.cur_step == 1
    assert layer.is_initialized == (name in STATELESS)


@weighted_layers
def test_update_hands_the_loss_to_the_scheduler(name):
    layer, X = build(name, optimizer="SGD(lr_scheduler=KingScheduler(patience=3))"), batch(name)
    layer.backward(layer.forward(X))
    with pytest.raises(ValueError, match="loss"):
        layer.update()
    layer.update(cur_loss=3.0)


@every_layer
def test_flush_forgets_inputs_and_gradients_and_nothing_else(name):
    layer, X = build(name, optimizer="Adam"), batch(name)
    train(layer, X, 2)
    before = state(layer)
    Y = layer.forward(X)
    layer.backward(np.ones(Y.shape))
    layer.flush_gradients()
    assert state(layer) == before
    np.testing.assert_array_equal(layer.forward(X), Y)


@layers_by_example
def test_a_frozen_layer_passes_gradients_and_stays_as_it_is(name):
    layer, X = build(name), batch(name)
    dY = np.cos(layer.forward(X))
    dX = layer.backward(dY)
    layer.flush_gradients()
    before = arrays_of(layer)

    layer.freeze()
    assert not layer.trainable
    layer.forward(X)
    np.testing.assert_array_equal(layer.backward(dY), dX)
    assert not any(value.any() for value in layer.gradients.values())
    layer.update()
    assert_same_arrays(arrays_of(layer), before)
    assert layer.X == []

    layer.unfreeze()
    assert layer.trainable
    train(layer, X, 1)
    assert all((layer.parameters[key] != value).any() for key, value in before.items())


@weighted_layers
def test_gradients_gathered_before_freezing_are_not_applied(name):
    layer, X = build(name), batch(name)
    layer.backward(np.cos(layer.forward(X)))
    before = arrays_of(layer)
    layer.freeze()
    layer.update()
    layer.unfreeze()
    layer.update()
    assert_same_arrays(arrays_of(layer), before)


@weighted_layers
@pytest.mark.parametrize("optimizer", [SGD(lr=0.1, momentum=0.9), RMSProp()], ids=["SGD", "RMSProp"])
def test_layers_given_the_same_optimizer_do_not_share_its_state(name, optimizer):
    first, second, alone = (build(name, optimizer=optimizer) for _ in range(3))
    X = batch(name)
    for _ in range(3):
        train(first, X, 1)
        train(second, -X, 1)
        train(alone, X, 1)
    assert_same_arrays(arrays_of(first), arrays_of(alone))
    assert first.optimizer.cur_step == 3
    assert optimizer.cur_step == 0
    assert optimizer.cache == {}


# -------------------------------------------------------------- initialisation


@weighted_layers
def test_parameters_are_made_by_the_first_forward(name):
    layer, X = build(name), batch(name)
    assert layer.parameters == {"W": None, "b": None}
    assert layer.gradients == {}
    assert layer.derived_variables == {}
    assert not layer.is_initialized
    layer.forward(X, retain_derived=False)
    assert layer.is_initialized
    shapes = {
        "Conv2D": {"W": (3, 2, 3, 4), "b": (1, 1, 1, 4)},
        "ConvTranspose2D": {"W": (3, 2, 4, 3), "b": (1, 1, 1, 4)},
        "FullyConnected": {"W": (5, 4), "b": (1, 4)},
    }[name]
    assert {key: value.shape for key, value in layer.parameters.items()} == shapes
    assert {key: value.shape for key, value in layer.gradients.items()} == shapes
    assert layer.derived_variables.keys() == ({"Z"} if name == "FullyConnected" else {"Z", "out_rows", "out_cols"})
    assert not layer.b.any()


def test_layers_without_parameters():
    for layer in (Pool2D(2), Flatten(), Reshape(32), Upsample2D()):
        layer.forward(np.ones((1, 4, 4, 2)))
        assert layer.parameters == {}
        assert layer.gradients == {}
    pool = Pool2D(2)
    pool.forward(np.ones((1, 4, 5, 2)))
    assert pool.derived_variables == {"out_rows": [3], "out_cols": [4]}
    flatten = Flatten()
    assert flatten.derived_variables == {"in_dims": []}
    flatten.forward(np.ones((1, 4, 5, 2)))
    assert flatten.derived_variables == {"in_dims": [(1, 4, 5, 2)]}


@weighted_layers
@pytest.mark.parametrize(
    "init", ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "std_normal", "trunc_normal"]
)
def test_every_way_to_start_works_and_depends_on_the_seed_alone(name, init):
    X = batch(name)
    weights = []
    for seed in (0, 0, 1, np.random.default_rng(1)):
        layer = build(name, init=init, random_state=seed)
        layer.forward(X)
        weights.append(layer.W)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).all()
    np.testing.assert_array_equal(weights[2], weights[3])
    if init == "trunc_normal":
        assert np.abs(weights).max() < 2


def test_the_base_class_cannot_be_used_alone():
    with pytest.raises(TypeError, match="abstract"):
        LayerBase()
