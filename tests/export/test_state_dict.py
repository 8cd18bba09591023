"""PyTorch's state dicts: the module of the examples computes what the model does, and the weights come back."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from export_cases import CASES, images, trained
from small_vae import assert_same_bits, parameters, small_vae

from cvae import VAE, NotFittedError
from cvae.export import from_state_dict, to_state_dict
from cvae.layers import Residual

EXAMPLE = Path(__file__).parents[2] / "examples" / "pytorch_module.py"
# Means of other likelihoods are no activation of the outputs; thresholds are no part of the module.
OTHERS = ("continuous Bernoulli", "continuous Bernoulli in a range", "discretized logistic")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is the other side of this comparison")


@pytest.fixture(scope="module")
def example(torch):
    specification = importlib.util.spec_from_file_location("pytorch_module", EXAMPLE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def module_of(example, vae):
    module = example.Autoencoder(vae)
    module.load_state_dict(example.as_tensors(to_state_dict(vae)))
    return module.eval()


def with_other_weights(name):
    """Return a new model of a case that has other weights than `trained` gives it, or none yet."""
    vae, case = trained(name), CASES[name]
    other = type(vae)(**vae.get_params() | {"random_state": 5, "n_epochs": 1})
    if case.labels is None and vae.value_range != "data":
        return other.set_params(image_shape=case.image_shape)  # enough, without a fit
    return other.fit(images(case), case.labels)


def labels_of(torch, vae, labels):
    if labels is None:
        return None
    return torch.from_numpy(vae._as_labels(labels, len(labels)).numbers())


def to_nchw(torch, array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def to_nhwc(tensor):
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def assert_close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", CASES)
def test_the_weights_come_back_bit_for_bit(name):
    vae, other = trained(name), with_other_weights(name)
    assert from_state_dict(other, to_state_dict(vae)) is other
    assert_same_bits(parameters(other), parameters(vae))
    assert_same_model(other, vae, CASES[name])


def test_weights_of_convolutions_have_their_channels_first():
    vae = channels_model()
    W, b = vae.encoder_["Conv2D_1"].parameters["W"], vae.encoder_["Conv2D_1"].parameters["b"]
    W[:], b[:] = np.arange(12).reshape(1, 2, 2, 3), np.arange(3)
    state = to_state_dict(vae)
    np.testing.assert_array_equal(state["encoder.Conv2D_1.weight"], W.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(state["encoder.Conv2D_1.weight"][1], [[[1, 7]], [[4, 10]]])
    np.testing.assert_array_equal(state["encoder.Conv2D_1.bias"], [0, 1, 2])


def test_dense_layers_beside_images_have_their_weights_in_the_order_of_channels():
    vae = channels_model()
    hidden, output = vae.encoder_["FullyConnected_3"].parameters, vae.decoder_["Output"].parameters
    hidden["W"][:] = 10 * np.arange(6)[:, None] + np.arange(4)  # 10 times the number of the feature, and the output's
    output["W"][:], output["b"][:] = np.arange(8), np.arange(8)  # the number of the output
    state = to_state_dict(vae)
    # Features are (2 rows, 1 column, 3 channels), outputs (2 rows, 2 columns, 2 channels).
    features = np.arange(6).reshape(2, 1, 3).transpose(2, 0, 1).ravel()
    np.testing.assert_array_equal(features, [0, 3, 1, 4, 2, 5])
    for j, row in enumerate(state["encoder.FullyConnected_3.weight"]):
        np.testing.assert_array_equal(row, 10 * features + j)
    outputs = [0, 2, 4, 6, 1, 3, 5, 7]
    np.testing.assert_array_equal(state["decoder.Output.bias"], outputs)
    np.testing.assert_array_equal(state["decoder.Output.weight"], np.repeat(outputs, 5).reshape(8, 5))


def channels_model():
    """Return a model of images of two channels with a dense layer after `Flatten`."""
    encoder = ["Conv2D(3, (1, 2))", "Flatten()", "FullyConnected(n_out=4)"]
    vae = VAE(encoder, ["FullyConnected(n_out=5)"], T=1, random_state=0, verbose=False)
    return vae.fit(np.zeros((3, 2, 2, 2), np.float32), n_epochs=1)


@pytest.mark.parametrize("name", CASES)
def test_the_module_computes_what_the_model_does(name, torch, example):
    vae, case, X = trained(name), CASES[name], images(CASES[name])
    module, labels = module_of(example, vae), labels_of(torch, vae, case.labels)
    if X.dtype == np.uint8 and vae.value_range is None:
        X = X / np.float32(255)
    seen = (vae.binarize < X).astype(np.float32) if vae.binarize is not None else X
    mean, log_var = vae.encode(X, case.labels)
    for got, expected in zip(module.encode(to_nchw(torch, seen), labels), (mean, log_var), strict=True):
        assert_close(got.detach().numpy(), expected)
    if name not in OTHERS:
        assert_close(to_nhwc(module.decode(torch.from_numpy(mean), labels)), vae.decode(mean, case.labels))


@pytest.mark.parametrize("name", CASES)
def test_the_weights_come_back_from_the_module(name, example):
    vae, again = trained(name), with_other_weights(name)
    wrapped = {f"module.{name}": tensor for name, tensor in module_of(example, vae).state_dict().items()}
    assert from_state_dict(again, wrapped) is again
    assert_same_model(again, vae, CASES[name])


def assert_same_model(got, expected, case):
    X, y = images(case), case.labels
    np.testing.assert_array_equal(got.transform(X, y), expected.transform(X, y))
    np.testing.assert_array_equal(got.reconstruct(X, y), expected.reconstruct(X, y))
    np.testing.assert_array_equal(got.elbo(X, y=y), expected.elbo(X, y=y))


def test_a_plain_sequence_of_modules_takes_the_weights(torch):
    """Whoever writes the network down in PyTorch's own terms gets the same codes."""
    vae, X = trained("numpy-ml"), images(CASES["numpy-ml"])
    nn = torch.nn
    encoder = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 4),
    )  # fmt: skip
    state = to_state_dict(vae)
    places = {"Conv1": 0, "Conv2": 3, "FC4": 7, "FC5": 9}
    own = {
        f"{place}.{key}": torch.from_numpy(state[f"encoder.{name}.{key}"])
        for name, place in places.items()
        for key in ("weight", "bias")
    }
    encoder.load_state_dict(own)
    assert_close(encoder(to_nchw(torch, X)).detach().numpy(), np.hstack(vae.encode(X)))


def test_tensors_of_any_kind_are_taken(torch):
    vae, case = trained("numpy-ml"), CASES["numpy-ml"]
    state = {
        name: torch.from_numpy(array).requires_grad_(array.dtype.kind == "f")
        for name, array in to_state_dict(vae).items()
    }
    again = type(vae)(**vae.get_params()).set_params(image_shape=case.image_shape)
    assert_same_model(from_state_dict(again, state), vae, case)
    halves = {name: tensor.detach().to(torch.bfloat16) for name, tensor in state.items() if "pixel" not in name}
    X = images(case)
    np.testing.assert_allclose(from_state_dict(again, halves).transform(X), vae.transform(X), atol=0.05)


def test_what_does_not_fit_is_named_and_changes_nothing():
    vae = VAE("mlp", T=2, random_state=0, verbose=False).fit(images(CASES["numpy-ml"]), n_epochs=1)
    before, state = vae.transform(images(CASES["numpy-ml"])), to_state_dict(vae)
    first = next(iter(state))
    for wrong, message in (
        ({name: array for name, array in state.items() if name != first}, f"{first} must be given"),
        (state | {"encoder.more.weight": np.ones(2)}, "encoder.more.weight are of no layer"),
        (state | {first: np.ones((3, 2))}, rf"{first} must have the shape \(\d+, 72\), got \(3, 2\)"),
        (state | {first: state[first].astype(str)}, "must hold real numbers"),
        (state | {first: np.full(state[first].shape, np.nan)}, "must hold numbers that are finite as float32, got NaN"),
        (state | {first: np.full(state[first].shape, 1e300)}, "must hold numbers that are finite as float32"),
        (state | {"pixel_offset": np.array([np.inf])}, "offset and scale must be finite"),
        (state | {"pixel_offset": np.zeros(3), "pixel_scale": np.ones(3)}, "pixel_offset must be of 1 channels"),
        ({}, "must be given"),
    ):
        with pytest.raises(ValueError, match=message):
            from_state_dict(vae, wrong)
        np.testing.assert_array_equal(vae.transform(images(CASES["numpy-ml"])), before)


def test_a_new_model_needs_to_know_its_images():
    state = to_state_dict(trained("numpy-ml"))
    with pytest.raises(NotFittedError):
        to_state_dict(VAE())
    with pytest.raises(ValueError, match="image_shape must be given"):
        from_state_dict(small_vae(), state)
    with pytest.raises(ValueError, match="must be fitted before"):
        from_state_dict(VAE("mlp", condition="classes", image_shape=(9, 8)), state)


def test_optimizers_start_anew():
    X = images(CASES["numpy-ml"])
    vae = VAE("mlp", T=2, random_state=0, verbose=False).fit(X, n_epochs=2)
    from_state_dict(vae, to_state_dict(vae))
    assert {layer.optimizer.cur_step for layer in vae._layers().values()} == {0}
    assert all(not layer.optimizer.cache for layer in vae._layers().values())
    vae.fit(X, n_epochs=1)


def test_features_that_pytorch_has_in_another_order_need_a_dense_layer_between():
    encoder = ["Conv2D(2, 3)", "Flatten()", Residual(["FullyConnected(n_out=84)"])]
    vae = VAE(encoder, ["FullyConnected(n_out=4)"], T=2, verbose=False).fit(images(CASES["numpy-ml"]), n_epochs=1)
    with pytest.raises(ValueError, match="between encoder/Flatten_2 and encoder/Residual_3"):
        to_state_dict(vae)
    decoder = ["Reshape((1, 2, 2))", "ConvTranspose2D(1, (9, 7))"]
    vae = VAE("mlp", decoder, T=4, verbose=False).fit(images(CASES["numpy-ml"]), n_epochs=1)
    with pytest.raises(ValueError, match="between the codes and decoder/Reshape_1"):
        to_state_dict(vae)
