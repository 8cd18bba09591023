"""The layers in float64, compared with numpy-ml's results, or with their corrections where it is wrong."""

import numpy as np
import pytest
from oracles import assert_equal_to_rounding
from reference_cases import case_id, cases, right_array

from cvae.layers import Conv2D, Flatten, FullyConnected, Pool2D


def run(layer, meta, arrays):
    """Run a case forward and backward and compare all results that it contains."""
    two_forwards = "X_0" in arrays
    passes = ["_0", "_1"] if two_forwards else [""]
    for i in passes:
        assert_equal_to_rounding(layer.forward(arrays[f"X{i}"]), arrays[f"Y{i}"])
    if "Z" in arrays:
        [Z] = layer.derived_variables["Z"]
        assert_equal_to_rounding(Z, arrays["Z"])

    dY = [arrays["dY_0"], arrays["dY_1"]] if two_forwards else arrays["dY"]
    dX = layer.backward(dY)
    for i, got in zip(passes, dX if two_forwards else [dX], strict=True):
        assert_equal_to_rounding(got, right_array(meta, arrays, f"dX{i}"))
    assert_gradients(layer, meta, arrays)


def assert_gradients(layer, meta, arrays):
    """Compare the parameters' gradients; a layer without parameters has none."""
    expected = {"W", "b"} if "dW" in arrays else set()
    assert set(layer.gradients) == expected
    for key in expected:
        assert_equal_to_rounding(layer.gradients[key], right_array(meta, arrays, f"d{key}"))


def with_parameters(layer, arrays):
    return layer.set_params({"parameters": {"W": arrays["W"], "b": arrays["b"]}})


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("conv2d"), ids=case_id)
def test_conv2d(name, meta, arrays):
    layer = Conv2D(
        out_ch=arrays["W"].shape[3],
        kernel_shape=meta["kernel_shape"],
        pad=meta["pad"],
        stride=meta["stride"],
        dilation=meta["dilation"],
        act_fn=meta["act_fn"],
        dtype="float64",
    )
    run(with_parameters(layer, arrays), meta, arrays)


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("pool2d"), ids=case_id)
def test_pool2d(name, meta, arrays):
    layer = Pool2D(meta["kernel_shape"], meta["stride"], meta["pad"], meta["mode"], dtype="float64")
    run(layer, meta, arrays)


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("pool2d")[6:9], ids=case_id)
def test_the_padding_of_max_pooling_is_zero_and_not_minus_infinity(name, meta, arrays):
    layer = Pool2D(meta["kernel_shape"], meta["stride"], meta["pad"], dtype="float64")
    with_minus_infinity = arrays["Y_torch_minus_infinity_padding"]
    expected = meta["minus_infinity_padding_differs_from_zero_padding"]
    assert (layer.forward(arrays["X"]) != with_minus_infinity).any() == expected


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("fullyconnected"), ids=case_id)
def test_fully_connected(name, meta, arrays):
    layer = FullyConnected(arrays["W"].shape[1], act_fn=meta["act_fn"], dtype="float64")
    run(with_parameters(layer, arrays), meta, arrays)


def test_a_backward_that_keeps_no_gradients_gives_the_same_input_gradients():
    name, meta, arrays = cases("fullyconnected")[12]
    assert name.endswith("two_forwards_list_and_retain_grads_false")
    layer = FullyConnected(arrays["W"].shape[1], act_fn=meta["act_fn"], dtype="float64")
    with_parameters(layer, arrays)
    dY = [arrays["dY_0"], arrays["dY_1"]]
    for X in (arrays["X_0"], arrays["X_1"]):
        layer.forward(X)
    dX = layer.backward(dY, retain_grads=False)
    assert all((gradient == 0.0).all() for gradient in layer.gradients.values())
    for got, same in zip(dX, layer.backward(dY), strict=True):
        np.testing.assert_array_equal(got, same)
    assert_gradients(layer, meta, arrays)


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("flatten"), ids=case_id)
def test_flatten(name, meta, arrays):
    run(Flatten(meta["keep_dim"], dtype="float64"), meta, arrays)
