"""Residual blocks: results, names of parameters, call strings, freezing and errors."""

import numpy as np
import oracles
import pytest
from layer_cases import arrays_of, assert_same_arrays, train

from cvae.layers import BatchNorm2D, Conv2D, FullyConnected, LayerBase, Residual
from cvae.parsing import made

LAYERS = ["Conv2D(4, 3, pad='same', act_fn='ReLU')", "BatchNorm2D(act_fn='ReLU')", "Conv2D(3, 3, pad='same')"]


def images(n=2):
    return np.random.default_rng(0).normal(size=(n, 6, 5, 3))


def block(**changes):
    return Residual(LAYERS, **{"random_state": 0, "dtype": "float64"} | changes)


def one_by_one(layers, X):
    for layer in layers:
        X = layer.forward(X, retain_derived=False)
    return X


@pytest.mark.parametrize("act_fn", [None, "ReLU", "Tanh"])
def test_the_input_is_added(act_fn):
    layer, X = block(act_fn=act_fn), images()
    Y = layer.forward(X, retain_derived=False)
    expected = layer.act_fn.fn(X + one_by_one(layer.layers, X))
    oracles.assert_equal_to_rounding(Y, expected)


def test_the_shortcut_is_added():
    layer = Residual(["Conv2D(8, 3, stride=2, pad=1)"], Conv2D(8, 1, stride=2), random_state=0, dtype="float64")
    X = images()
    Y = layer.forward(X)
    oracles.assert_equal_to_rounding(Y, layer.layers[0].forward(X) + layer.shortcut.forward(X))
    assert list(layer.parameters) == ["Conv2D_1/W", "Conv2D_1/b", "shortcut/W", "shortcut/b"]
    assert layer.parameters["shortcut/W"] is layer.shortcut.W


def test_it_trains_as_its_layers_would():
    layer, X = block(optimizer="Adam(lr=0.01)"), images()
    layer.initialize(X.shape)
    alone = [made(call, LayerBase, "layer") for call in LAYERS]
    shape = X.shape
    for one, own in zip(alone, layer.layers, strict=True):
        one.join(optimizer="Adam(lr=0.01)", dtype="float64", rng=None)
        one.set_params({"parameters": own.parameters})
    for _ in range(3):
        Y = layer.forward(X)
        layer.backward(np.cos(Y))
        layer.update()
        below = X
        for one in alone:
            below = one.forward(below)
        dY = np.cos(X + below)
        for one in reversed(alone):
            dY = one.backward(dY)
        for one in alone:
            one.update()
    assert shape == Y.shape
    for one, name in zip(alone, ("Conv2D_1", "BatchNorm2D_2", "Conv2D_3"), strict=True):
        for key, array in one.parameters.items():
            oracles.assert_equal_to_rounding(layer.parameters[f"{name}/{key}"], array)
    assert layer.optimizer.cache["Conv2D_1/W"]["t"] == 3


def test_parameters_are_those_of_the_layers():
    layer, X = block(), images()
    names = [
        "Conv2D_1/W", "Conv2D_1/b", "BatchNorm2D_2/scaler", "BatchNorm2D_2/intercept", "BatchNorm2D_2/running_mean",
        "BatchNorm2D_2/running_var", "Conv2D_3/W", "Conv2D_3/b",
    ]  # fmt: skip
    assert layer.parameters == dict.fromkeys(names)
    layer.forward(X)
    assert list(layer.parameters) == names
    assert list(layer.gradients) == [name for name in names if "running" not in name]
    layer.set_params({"Conv2D_3/b": np.full((1, 1, 1, 3), 2.0)})
    assert layer.layers[2].parameters["b"] is layer.parameters["Conv2D_3/b"]
    assert layer.parameters["Conv2D_3/b"].tolist() == [[[[2] * 3]]]


def test_parameters_may_be_given_to_a_layer_of_the_block():
    layer, X = block(), images()
    train(layer, X, 1)
    layer.layers[2].set_params({"b": np.full((1, 1, 1, 3), 2.0)})
    train(layer, X, 1)
    assert layer.layers[2].parameters["b"] is layer.parameters["Conv2D_3/b"]
    assert np.ptp(layer.parameters["Conv2D_3/b"] - 2) > 0


def test_layers_given_are_copied():
    given = [FullyConnected(3, random_state=1)]
    first, second = Residual(given), Residual(given)
    train(first, np.ones((2, 3)), 2)
    assert not given[0].is_initialized
    assert second.parameters == {"FullyConnected_1/W": None, "FullyConnected_1/b": None}
    trained = Residual(first.layers)
    np.testing.assert_array_equal(trained.forward(np.ones((2, 3))), first.forward(np.ones((2, 3))))
    assert trained.layers[0].W is not first.layers[0].W


@pytest.mark.parametrize(
    "text",
    [
        f"Residual(layers={(LAYERS[0], LAYERS[2])!r})",
        "Residual([Conv2D(4, 3, pad='same', act_fn=ReLU()), Conv2D(3, 1)], act_fn='Tanh', optimizer=SGD(lr=0.5))",
        "Residual([Residual([Conv2D(3, 1)]), Residual([\"Residual(['Conv2D(3, 1)'])\"])], shortcut=Conv2D(3, 1))",
        "Residual(layers=['Conv2D(out_ch=6, kernel_shape=2, stride=2)'], shortcut='Conv2D(6, 2, stride=2)')",
    ],
)
def test_its_call_string_makes_it_again(text):
    layer = made(text, LayerBase, "layer")
    again = made(repr(layer), LayerBase, "layer")
    assert repr(again) == repr(layer)
    assert again.hyperparameters["layers"] == layer.hyperparameters["layers"]
    for one in (layer, again):
        one.rng = None
        for part in one.parts():
            part.rng = np.random.default_rng(0)
    X = images()
    np.testing.assert_array_equal(layer.forward(X), again.forward(X))


def test_layers_are_frozen_together():
    layer, X = block(), images()
    train(layer, X, 1)
    layer.freeze()
    assert not any(part.trainable for part in layer.parts())
    before = arrays_of(layer)
    np.testing.assert_array_equal(layer.forward(X), layer.forward(X, retain_derived=False))
    layer.flush_gradients()
    train(layer, X, 2)
    assert_same_arrays(arrays_of(layer), before)
    layer.unfreeze()
    train(layer, X, 1)
    assert all((layer.parameters[name] != array).all() for name, array in before.items() if "running" in name)


def test_a_backward_pass_can_be_repeated():
    layer, X = block(act_fn="ReLU"), images()
    dY = np.cos(layer.forward(X))
    dX = layer.backward(dY)
    once = {name: array.copy() for name, array in layer.gradients.items()}
    np.testing.assert_array_equal(layer.backward(dY), dX)
    assert_same_arrays(layer.gradients, {name: 2 * array for name, array in once.items()})


def test_layers_that_change_the_shape_need_a_shortcut():
    for layers, shortcut, message in (
        (["Conv2D(3, 3)"], None, r"must put out the shape \(6, 5, 3\), got \(4, 3, 3\) \(a shortcut such as"),
        (["Conv2D(4, 1)"], None, r"must put out the shape \(6, 5, 3\), got \(6, 5, 4\)"),
        (["Conv2D(4, 1)"], "Conv2D(4, 1, stride=2)", r"must put out the shape \(3, 3, 4\), got \(6, 5, 4\)$"),
        (["FullyConnected(3)"], None, r"Residual/FullyConnected_1 must get arrays of 2 dimensions"),
        (["Conv2D(3, 1)"], "FullyConnected(3)", r"Residual/shortcut must get arrays of 2 dimensions"),
    ):
        layer = Residual(layers, shortcut)
        with pytest.raises(ValueError, match=message):
            layer.initialize((2, 6, 5, 3))
        assert not any(value is not None for value in layer.parameters.values())


def test_arguments_are_checked_at_once():
    frozen = Conv2D(3, 1)
    frozen.freeze()
    for wrong, error, message in (
        ([], ValueError, "layers must be at least 1 layer, got none"),
        ("Conv2D(3, 1)", TypeError, "layers must be a sequence of layers or their call strings, got 'Conv2D"),
        ([3], TypeError, r"layers\[0\]: layer must be a layer or its call string, got 3"),
        (["Conv2D(3, 1)", "Conv3D(3)"], ValueError, r"layers\[1\]: the layer must be one of"),
        ([Conv2D(3, 1, optimizer="SGD")], ValueError, "Conv2D_1 must share optimizer and freezing with its Residual"),
        ([frozen], ValueError, "Conv2D_1 must share optimizer and freezing with its Residual"),
    ):
        with pytest.raises(error, match=message):
            Residual(wrong)
    with pytest.raises(TypeError, match="shortcut: layer must be a layer or its call string, got 3"):
        Residual(["Conv2D(3, 1)"], 3)


def test_labels_reach_the_layers_that_read_them():
    layer, X = Residual(["Condition()", "FullyConnected(3)"], random_state=0, dtype="float64"), np.ones((2, 3))
    labels = np.array([[0.0, 5.0], [7.0, 0.0]])
    assert layer.reads_labels
    assert not block().reads_labels
    layer.expect_labels(2)
    layer.initialize(X.shape)
    Y = layer.reading(labels).forward(X)
    W = layer.parameters["FullyConnected_2/W"]
    oracles.assert_equal_to_rounding(Y, X + np.hstack([X, labels]) @ W)
    with pytest.raises(ValueError, match="labels must be given to a Condition layer outside of a conditional model"):
        layer.forward(X)


def test_layers_stay_once_there_are_parameters():
    layer = block()
    layer.set_params({"layers": [BatchNorm2D()], "act_fn": "ReLU"})
    assert repr(layer.layers) == "(BatchNorm2D(act_fn='Identity'),)"
    layer.forward(images())
    layer.set_params({"layers": ["BatchNorm2D"], "shortcut": None})
    for wrong in ({"layers": LAYERS}, {"shortcut": "Conv2D(3, 1)"}, {"layers": [3]}):
        with pytest.raises((TypeError, ValueError)):
            layer.set_params({"act_fn": "Tanh", **wrong})
        assert str(layer.act_fn) == "ReLU"
        assert repr(layer.layers) == "(BatchNorm2D(act_fn='Identity'),)"
