"""VAE: models from lists of layers or their strings, and everything that such a model can do."""

import numpy as np
import pytest
from sklearn.base import clone
from small_vae import IMAGE_SHAPE, SMALL, assert_same_bits, by_path, checked, random_images, small_vae, without_times

import cvae
from cvae import NotFittedError
from cvae.layers import Conv2D, Flatten, FullyConnected, Pool2D
from cvae.likelihoods import Bernoulli
from cvae.objectives import ELBO

ENCODER = [
    "Conv2D(out_ch=4, kernel_shape=3, act_fn='ReLU')", "Pool2D(kernel_shape=2, stride=2)",
    "Conv2D(out_ch=6, kernel_shape=2, act_fn='ReLU')", "Pool2D(kernel_shape=2)", "Flatten()",
    "FullyConnected(n_out=8, act_fn='ReLU')",
]  # fmt: skip
DECODER = ["FullyConnected(n_out=8, act_fn='ReLU')"]
ARGUMENTS = {"T": 2, "optimizer": "Adam(lr=0.01)", "batchsize": 4, "n_epochs": 2, "random_state": 0, "verbose": False}


def make(encoder=ENCODER, decoder=DECODER, **changes):
    return cvae.VAE(encoder, decoder, **{**ARGUMENTS, **changes})


def arrays(vae):
    return list(by_path(vae.parameters).values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_layers_of_bernoulli_vae_train_to_the_same_bits(dtype):
    X = random_images()
    expected, vae = small_vae(dtype=dtype).fit(X), make(dtype=dtype).fit(X)
    assert len(arrays(vae)) == len(arrays(expected))
    for got, array in zip(arrays(vae), arrays(expected), strict=True):
        np.testing.assert_array_equal(got, array)
    np.testing.assert_array_equal(vae.elbo(X), expected.elbo(X))
    np.testing.assert_array_equal(vae.log_likelihood(X, 7), expected.log_likelihood(X, 7))
    assert vae.history_["loss"] == expected.history_["loss"]
    assert SMALL["T"] == vae.T


def test_instances_are_as_good_as_strings_and_stay_as_they_are():
    X = random_images()
    instances = [
        Conv2D(4, 3, act_fn="ReLU"), Pool2D(2, stride=2), Conv2D(6, 2, act_fn="ReLU"), Pool2D(2), Flatten(),
        FullyConnected(8, act_fn="ReLU"),
    ]  # fmt: skip
    vae = make(instances, (FullyConnected(8, act_fn="ReLU"),)).fit(X)
    for got, array in zip(arrays(vae), arrays(make().fit(X)), strict=True):
        np.testing.assert_array_equal(got, array)
    assert not any(layer.is_initialized for layer in instances if layer.parameters)
    assert vae.encoder is instances


def test_a_layer_keeps_its_own_optimizer_generator_and_parameters():
    W = np.random.default_rng(0).normal(size=(2, 8))
    decoder = [FullyConnected(8, act_fn="ReLU", optimizer="SGD(lr=0)").set_params({"parameters": {"W": W}})]
    encoder = [*ENCODER[:-1], FullyConnected(8, act_fn="ReLU", random_state=5)]
    X, vae = random_images(), make(encoder, decoder)
    vae.fit(X)
    np.testing.assert_array_equal(vae.decoder_["FullyConnected_1"].W, W.astype(np.float32))
    other = make(encoder, decoder, random_state=1, n_epochs=1)
    other.forward(X[:1])
    path = "encoder/FullyConnected_6/W"
    same = make(encoder, decoder, random_state=2)
    same.forward(X[:1])
    np.testing.assert_array_equal(by_path(other.parameters)[path], by_path(same.parameters)[path])


def test_any_depth():
    X = random_images(12, (16, 16, 3))
    encoder = [
        "Conv2D(out_ch=4, kernel_shape=3, pad='same', act_fn='ELU')", "Conv2D(out_ch=5, kernel_shape=3, stride=2)",
        "Conv2D(out_ch=6, kernel_shape=(1, 3), act_fn='LeakyReLU')", "Pool2D(kernel_shape=2, mode='average')",
        "Conv2D(out_ch=7, kernel_shape=2, act_fn='ReLU')", "Flatten()", "FullyConnected(n_out=9, act_fn='Tanh')",
        "FullyConnected(n_out=8, act_fn='ReLU')",
    ]  # fmt: skip
    decoder = ["FullyConnected(n_out=5, act_fn='GELU')", "FullyConnected(n_out=6)", "FullyConnected(n_out=7)"]
    vae = make(encoder, decoder, T=3).fit(X, n_epochs=8)
    assert vae.history_["loss"][-1] < vae.history_["loss"][0]
    assert vae.decode(vae.transform(X)).shape == X.shape
    assert list(vae.encoder_) == [
        "Conv2D_1", "Conv2D_2", "Conv2D_3", "Pool2D_4", "Conv2D_5", "Flatten_6", "FullyConnected_7",
        "FullyConnected_8", "Code",
    ]  # fmt: skip
    assert list(vae.decoder_) == ["FullyConnected_1", "FullyConnected_2", "FullyConnected_3", "Output"]


def test_networks_may_be_empty_but_for_what_the_model_adds():
    X = random_images()
    vae = make(["Flatten()"], []).fit(X)
    assert by_path(vae.parameters)["encoder/Code/W"].shape == (72, 4)
    assert by_path(vae.parameters)["decoder/Output/W"].shape == (2, 72)
    np.testing.assert_allclose(
        np.hstack(vae.encode(X)),
        X.reshape(10, -1) @ vae.encoder_["Code"].W + vae.encoder_["Code"].b,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("encoder", "decoder", "error", "message"),
    [
        (["Conv3D(out_ch=2)"], DECODER, ValueError, r"encoder\[0\]: the layer must be one of .*Conv2D.*got 'Conv3D'"),
        (["Conv2D(out_ch=0, kernel_shape=1)"], DECODER, ValueError, r"encoder\[0\]: out_ch must be an int >= 1, got 0"),
        (["Conv2D(kernel_shape=1)"], DECODER, ValueError, r"encoder\[0\]: Conv2D takes out_ch.*missing"),
        (ENCODER, ["Flatten(", "Flatten()"], ValueError, r"decoder\[0\]: layer: a call string must look like"),
        ([5], DECODER, TypeError, r"encoder\[0\]: layer must be a layer or its call string, got 5"),
        ("Flatten()", DECODER, ValueError, "encoder must be a sequence of layers or .*, got 'Flatten"),
        (ENCODER, None, TypeError, "decoder must be a sequence of layers or their call strings, got None"),
        (ENCODER, [Conv2D], TypeError, r"decoder\[0\]: layer must be a layer or its call string, got <class"),
        (ENCODER, iter(DECODER), TypeError, "decoder must be a sequence of layers"),
    ],
)
def test_wrong_layers_are_refused_by_the_first_use(encoder, decoder, error, message):
    with pytest.raises(error, match=message):
        checked(make(encoder, decoder))


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (
            ENCODER[:2],
            DECODER,
            r"Code must get arrays of 2 dimensions, got \(n, 3, 3, 4\) \(a Flatten\(\) before it\?\)$",
        ),
        (
            ["Flatten()", "Pool2D(kernel_shape=2)"],
            DECODER,
            r"encoder/Pool2D_2 must get arrays of 4 dimensions, got \(n, 72\)$",
        ),
        (["Conv2D(out_ch=2, kernel_shape=10)", "Flatten()"], DECODER, "Dimension mismatch during convolution"),
        (["Flatten(keep_dim='last')"], DECODER, r"encoder must put out a mean and a log variance for each of T=2"),
    ],
)
def test_layers_that_do_not_fit_are_refused_before_anything_is_made(encoder, decoder, message):
    vae = make(encoder, decoder)
    for use in (vae.fit, vae.forward):
        with pytest.raises(ValueError, match=message):
            use(random_images())
    with pytest.raises(NotFittedError):
        vae.encode(random_images())
    assert all(value is None for layer in vae._layers().values() for value in layer.parameters.values())


def test_parameters_that_do_not_fit_are_refused():
    wrong = [FullyConnected(8).set_params({"parameters": {"W": np.zeros((3, 8))}})]
    with pytest.raises(ValueError, match="X must have 3 columns, got 2"):
        make(ENCODER, wrong).fit(random_images())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"likelihood": "Poisson"}, ValueError, "the likelihood must be one of .*Bernoulli.*, got 'Poisson'"),
        ({"likelihood": 3}, TypeError, "likelihood must be a likelihood or its call string, got 3"),
        ({"objective": "ELBO(beta=-1)"}, ValueError, r"beta must be a number in \[0, inf\), got -1"),
        ({"objective": "elbow"}, ValueError, "the objective must be one of .*ELBO"),
        ({"objective": None}, TypeError, "objective must be an objective or its call string, got None"),
        ({"T": 0}, ValueError, "T must be an int >= 1"),
        ({"optimizer": "Lion"}, ValueError, "the optimizer must be one of"),
        ({"dtype": "int8"}, ValueError, "dtype must be"),
    ],
)
def test_other_wrong_arguments_are_refused_by_the_first_use(changes, error, message):
    with pytest.raises(error, match=message):
        checked(make(**changes))


def test_objects_are_as_good_as_strings():
    X = random_images()
    by_objects = make(likelihood=Bernoulli(), objective=ELBO(beta=0.5)).fit(X)
    by_strings = make(likelihood="bernoulli", objective="elbo(beta=0.5)").fit(X)
    assert_same_bits(by_path(by_objects.parameters), by_path(by_strings.parameters))
    np.testing.assert_allclose(
        by_objects.history_["loss"],
        np.array(by_objects.history_["reconstruction"]) + 0.5 * np.array(by_objects.history_["kl"]),
    )


def test_it_is_an_estimator():
    X, vae = random_images(), make([Conv2D(4, 3, act_fn="ReLU"), "Flatten()"])
    cloned = clone(vae.fit(X))
    assert repr(vae) == f"<{cloned!r} trained for 2 epochs on images of 9x8x1>"
    assert repr(cloned).startswith("VAE(encoder=[Conv2D(out_ch=4, kernel_shape=(3, 3), act_fn='ReLU'), 'Flatten()'], ")
    assert cloned.history_ == {}
    assert_same_bits(by_path(cloned.fit(X).parameters), by_path(vae.parameters))
    assert vae.get_params()["encoder"] is vae.encoder
    assert list(vae.get_feature_names_out()) == ["vae0", "vae1"]
    vae.set_params(decoder=["FullyConnected(n_out=3)"])
    with pytest.raises(NotFittedError):
        vae.encode(X)
    assert vae.fit(X).decoder_["FullyConnected_1"].n_out == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_save_and_load(tmp_path, dtype):
    X, path = random_images(), tmp_path / "model.safetensors"
    encoder = [Conv2D(4, 3, act_fn="LeakyReLU(alpha=0.2)", optimizer="SGD(lr=0.1)"), "Flatten()"]
    vae = make(encoder, [FullyConnected(8, act_fn="Tanh")], objective="ELBO(beta=0.5)", dtype=dtype).fit(X)
    vae.encoder_["Code"].freeze()
    vae.save(path)
    loaded = cvae.load(path)
    assert type(loaded) is cvae.VAE
    assert loaded.history_ == without_times(vae.history_)
    np.testing.assert_array_equal(loaded.transform(X), vae.transform(X))
    np.testing.assert_array_equal(loaded.sample(3), vae.sample(3))
    assert_same_bits(by_path(loaded.partial_fit(X).parameters), by_path(vae.partial_fit(X).parameters))
    assert loaded.encoder_["Conv2D_1"].optimizer == vae.encoder_["Conv2D_1"].optimizer
    assert loaded.objective == "ELBO(beta=0.5)"


def test_flat_images_need_image_shape():
    X = random_images().reshape(10, -1)
    vae = make(image_shape=IMAGE_SHAPE).fit(X)
    assert vae.transform(X).shape == (10, 2)
    with pytest.raises(ValueError, match=r"\(rows of 72 features are images of 1x72 pixels without image_shape\)$"):
        make().fit(X)


def test_numpy_mls_interface_is_there():
    X = random_images()
    vae = make()
    vae.backward(X, vae.forward(X))
    derived = vae.derived_variables
    assert derived["dEncoder_Conv2D_1_out"].shape == (10, 7, 6, 4)
    assert derived["dDecoder_FullyConnected_1_in"].shape == (10, 2)
    assert derived["components"]["encoder"]["Conv2D_3"]["Z"][0].shape == (10, 2, 2, 6)
    vae.update()
    assert list(vae.parameters["components"]["decoder"]) == ["FullyConnected_1", "Output"]


def test_given_parameters_take_the_models_dtype():
    W = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    given = FullyConnected(8, act_fn="ReLU").set_params({"parameters": {"W": W}})
    vae = make(decoder=[given], dtype="float64", optimizer="SGD(lr=0)").fit(random_images())
    assert vae.decoder_["FullyConnected_1"].W.dtype == np.float64
    np.testing.assert_array_equal(vae.decoder_["FullyConnected_1"].W, W)
    assert given.W.dtype == np.float32


def test_a_model_that_the_arguments_do_not_make_is_not_saved(tmp_path):
    vae = make().fit(random_images())
    vae.decoder_["More"] = FullyConnected(72, random_state=0)
    vae.encode(random_images())
    with pytest.raises(ValueError, match="layers must be those of the constructor, "):
        vae.save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []
