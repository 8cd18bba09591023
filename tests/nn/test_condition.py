"""The layer that appends labels, used by itself."""

import copy

import numpy as np
import pytest

from cvae.layers import Condition, Residual

SHAPES = [(3, 5), (3, 4, 2, 5)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=["rows", "images"])
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def batch(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@each_dtype
@each_shape
def test_labels_follow_the_features_of_their_example(shape, dtype):
    X, labels = batch(shape).astype(dtype), batch((3, 2), 1).astype(dtype)
    Y = Condition(dtype=dtype).forward(X, labels=labels)
    assert Y.dtype == dtype
    np.testing.assert_array_equal(Y[..., :5], X)
    for i in range(3):
        np.testing.assert_array_equal(Y[i, ..., 5:], np.broadcast_to(labels[i], (*shape[1:-1], 2)))


@each_shape
def test_the_gradient_is_that_of_finite_differences(shape):
    layer, X, labels = Condition(dtype="float64"), batch(shape), batch((3, 2), 1)
    dY = batch(layer.forward(X, labels=labels).shape, 2)
    dX, numerical = layer.backward(dY), np.empty_like(X)
    for index in np.ndindex(*shape):
        losses = []
        for step in (0.5, -0.5):  # exact: the layer is linear
            moved = X.copy()
            moved[index] += step
            losses.append((dY * layer.forward(moved, retain_derived=False, labels=labels)).sum())
        numerical[index] = losses[0] - losses[1]
    np.testing.assert_allclose(dX, numerical, rtol=0, atol=1e-12)


def test_several_batches_wait_for_their_gradients():
    layer = Condition()
    for n in (2, 3):
        layer.forward(batch((n, 4)), labels=np.ones((n, 1)))
    assert [X.shape for X in layer.X] == [(2, 4), (3, 4)]
    dX = layer.backward([np.ones((2, 5)), np.ones((3, 5))])
    assert [array.shape for array in dX] == [(2, 4), (3, 4)]
    layer.flush_gradients()
    assert layer.X == []


def test_the_first_labels_set_their_number():
    layer = Condition()
    assert layer.n_labels is None
    layer.forward(batch((3, 5)), labels=np.ones((3, 2)))
    assert layer.hyperparameters["n_labels"] == 2
    assert Condition().set_params(layer.summary()).n_labels == 2
    with pytest.raises(ValueError, match="labels must be of 2 numbers for this Condition layer, got 3"):
        layer.forward(batch((3, 5)), labels=np.ones((3, 3)))


def test_it_has_no_parameters_and_says_what_it_is():
    layer = Condition()
    layer.forward(batch((3, 5)), labels=np.ones((3, 2)))
    layer.update()
    assert layer.parameters == {}
    assert repr(layer) == "Condition()"
    assert copy.deepcopy(layer).n_labels == 2


@pytest.mark.parametrize(
    "labels", [np.ones(3), np.ones((2, 4)), np.ones((3, 0)), np.ones((3, 1, 1))], ids=lambda labels: str(labels.shape)
)
def test_labels_of_another_shape_are_refused(labels):
    with pytest.raises(ValueError, match=r"labels must have the shape \(3, any number\)"):
        Condition().forward(batch((3, 5)), labels=labels)


def test_it_needs_labels():
    layer = Condition()
    for unlabelled in (layer, Residual([layer, "FullyConnected(5)"])):
        with pytest.raises(ValueError, match="labels must be given"):
            unlabelled.forward(batch((3, 5)))
    layer.forward(batch((3, 5)), labels=np.ones((3, 2)))
    with pytest.raises(ValueError, match="labels must be given"):
        layer.forward(batch((3, 5)))


def test_a_block_reads_the_labels_for_its_layers():
    block, X = Residual([Condition(), "FullyConnected(5)"], random_state=0, dtype="float64"), batch((3, 5))
    assert block.reads_labels
    assert not Residual(["FullyConnected(5)"]).reads_labels
    labels = batch((3, 2), 1)
    block.expect_labels(2)
    block.initialize(X.shape)
    Y = block.reading(labels).forward(X)
    dense = block.layers[1]
    expected = X + np.hstack([X, labels]) @ dense.W + dense.b
    np.testing.assert_allclose(Y, expected, rtol=1e-12)
    assert [X.shape for X in block.X] == [(3, 5)]
