"""The layer that appends a number to each row."""

import numpy as np
import pytest

from cvae.nn.appended_number import AppendedNumber

each_kind = pytest.mark.parametrize("averaged", [False, True])


@each_kind
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 3, 2)], ids=str)
def test_forward_and_backward(averaged, dtype, shape):
    layer, X = AppendedNumber(averaged, dtype=dtype), np.random.default_rng(0).normal(size=shape)
    Y = layer.forward(X)
    start = 1.0 if averaged else 0.0
    rows = X.reshape(len(X), -1).astype(dtype)
    np.testing.assert_array_equal(Y, np.hstack([rows, np.full((len(X), 1), start, dtype)]))
    dY = np.random.default_rng(1).normal(size=Y.shape)
    dX = layer.backward(dY)
    np.testing.assert_array_equal(dX, dY[:, :-1].astype(dtype).reshape(shape))
    total = dY[:, -1].sum()
    if averaged:
        assert layer.gradients == {}
        layer.update()
        assert layer.parameters["number"][0] == pytest.approx(total, rel=1e-5)
        assert layer.parameters["steps"][0] == 1
    else:
        assert layer.gradients["number"][0] == pytest.approx(total, rel=1e-5)


def test_an_average_moves_only_after_a_backward_pass():
    layer = AppendedNumber(averaged=True)
    layer.forward(np.zeros((2, 3)))
    layer.update()
    assert [layer.parameters[name][0] for name in ("number", "steps")] == [1, 0]
    for flushes in (False, True):
        layer.forward(np.zeros((2, 3)))
        layer.backward(np.full((2, 4), 5.0))
        if flushes:
            layer.flush_gradients()
        layer.update()
        layer.update()
        assert [layer.parameters[name][0] for name in ("number", "steps")] == [10, 1]


@each_kind
def test_a_frozen_layer_does_not_move(averaged):
    layer = AppendedNumber(averaged)
    layer.forward(np.zeros((3, 5)))
    before = layer.parameters["number"].copy()
    layer.freeze()
    layer.backward(np.ones((3, 6)))
    layer.update()
    np.testing.assert_array_equal(layer.parameters["number"], before)


@each_kind
def test_parameters_are_restored(averaged):
    layer, other = AppendedNumber(averaged), AppendedNumber(averaged)
    layer.forward(np.zeros((2, 3)))
    layer.parameters["number"][:] = 0.3
    other.set_params(layer.summary())
    assert other.parameters["number"][0] == np.float32(0.3)
    assert repr(layer) == ("AppendedNumber(averaged=True)" if averaged else "AppendedNumber()")
    with pytest.raises(ValueError, match=r"number must have the shape \(1,\), got \(2,\)"):
        layer.set_params({"parameters": {"number": [1.0, 2.0]}})
    with pytest.raises(ValueError, match=f"averaged must stay {averaged}, got {not averaged}"):
        layer.set_params({"averaged": not averaged})
    assert layer.averaged is averaged


def test_averaged_is_a_bool():
    with pytest.raises(TypeError, match="averaged must be True or False, got 'yes'"):
        AppendedNumber("yes")
