"""Networks by name: "auto" for images of any shape, and those that people compare with."""

import copy
import itertools
import pickle
import re
import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone
from small_vae import assert_same_bits, by_path, checked, random_images

import cvae
from cvae import NotFittedError
from cvae.architectures import ARCHITECTURES, halvings
from cvae.layers import Conv2D, ConvTranspose2D, FullyConnected
from cvae.likelihoods import Bernoulli

ARGUMENTS = {"T": 3, "batchsize": 4, "n_epochs": 2, "random_state": 0, "verbose": False}
SHAPES = [
    (1, 1, 1), (1, 64, 1), (3, 3, 2), (7, 40, 1), (8, 8, 1), (9, 8, 3), (28, 28, 1), (27, 35, 2), (8, 100, 1),
    (33, 64, 3),
]  # fmt: skip
LIKELIHOODS = ["Bernoulli", "Gaussian(scale='pixel')"]
NAMES = ["auto", "keras", "mlp", "numpy-ml"]


def make(encoder="auto", decoder="auto", **changes):
    return cvae.VAE(encoder, decoder, **ARGUMENTS | changes)


def arrays(vae):
    return by_path(vae.parameters)


def kinds(layers):
    return [type(layer).__name__ for layer in layers.values()]


def untouched(vae):
    return not any(layer.is_initialized for layer in vae._layers().values() if layer.parameters)


# ------------------------------------------------------------------------- auto


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("image_shape", SHAPES, ids=str)
def test_auto_trains_on_images_of_any_shape(image_shape, likelihood):
    X = random_images(6, image_shape)
    vae = make(likelihood=likelihood).fit(X)
    assert np.isfinite(vae.history_["loss"]).all()
    assert vae.reconstruct(X).shape == X.shape
    assert vae.sample(2).shape == (2, *image_shape)
    convolutional = min(image_shape[:2]) >= 8
    assert ("Conv2D" in kinds(vae.encoder_)) is ("ConvTranspose2D" in kinds(vae.decoder_)) is convolutional


@pytest.mark.parametrize(
    ("image_shape", "most"),
    [((8, 8, 1), 5e5), ((28, 28, 1), 2e6), ((64, 64, 3), 4e6), ((256, 256, 3), 1e7), ((512, 512, 4), 1e7),
     ((512, 8, 3), 1e7), ((1, 10000, 1), 1e7)],
    ids=str,
)  # fmt: skip
def test_auto_is_of_a_sensible_size(image_shape, most):
    summary = cvae.VAE().summary(image_shape)
    assert summary.parameters < most
    convolutions = [row for row in summary.rows if "/Conv2D" in row.layer]
    channels = [row.output_shape[2] for row in convolutions]
    assert all(wider in (2 * narrower, 256) for narrower, wider in itertools.pairwise(channels))
    if convolutions:
        assert 4 <= min(convolutions[-1].output_shape[:2]) <= 7


def test_the_decoder_mirrors_the_encoder():
    rows = cvae.VAE().summary((27, 50, 3)).rows
    encoder = [row.output_shape for row in rows if "/Conv2D" in row.layer]
    decoder = [row.output_shape for row in rows if "/ConvTranspose2D" in row.layer]
    assert [*reversed(encoder[:-1]), (27, 50, 3)] == decoder
    assert encoder == [(14, 25, 32), (7, 13, 64)]


@pytest.mark.parametrize("kernel", [3, 4, 5])
@pytest.mark.parametrize("size", [(8, 9), (1, 13), (28, 28), (31, 2)], ids=str)
def test_a_transposed_convolution_undoes_the_size_of_a_halving(size, kernel):
    for step in halvings(size, kernel, 3):
        images = (2, *size, 3)
        halved = Conv2D(5, kernel, pad=step.pad, stride=2).output_shape(images)
        assert halved == (2, *step.shape, 5) == (2, -(-size[0] // 2), -(-size[1] // 2), 5)
        assert ConvTranspose2D(3, kernel, 2, step.pad).output_shape(halved) == images
        size = step.shape


def test_large_images_train_in_little_memory():
    X = np.zeros((32, 256, 256, 3), np.uint8)
    vae = cvae.VAE(batchsize=32, random_state=0, verbose=False)
    tracemalloc.start()
    vae.fit(X, n_epochs=1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1e9


def test_layers_are_made_once_the_shape_is_known():
    X = random_images(8, (9, 8, 1))
    vae = make()
    assert vae.encoder_ == vae.decoder_ == {}
    assert vae.parameters == {"components": {"encoder": {}, "decoder": {}}}
    assert vae.hyperparameters["encoder_ids"] == []
    with pytest.raises(NotFittedError):
        vae.transform(X)
    assert list(make(image_shape=(9, 8)).encoder_) == list(vae.fit(X).encoder_)
    assert next(reversed(vae.encoder_)) == "Code"
    with pytest.raises(ValueError, match=r"must hold images of shape \(9, 8, 1\), got \(8, 9, 1\)"):
        vae.partial_fit(random_images(8, (8, 9, 1)))


def test_image_shape_makes_the_same_model_at_once():
    X = random_images(8, (9, 8, 1))
    rows = make(image_shape=(9, 8)).fit(X.reshape(8, -1))
    assert_same_bits(arrays(rows), arrays(make().fit(X)))


def test_one_of_the_two_may_be_given():
    X = random_images(8, (9, 8, 1))
    vae = make("auto", ["FullyConnected(n_out=5)"])
    assert list(vae.encoder_) == []
    assert list(vae.decoder_) == ["FullyConnected_1", "Output"]
    vae.decoder_["FullyConnected_1"].freeze()
    vae.fit(X)
    assert kinds(vae.encoder_) == ["Conv2D", "Flatten", "FullyConnected", "FullyConnected"]
    assert not vae.decoder_["FullyConnected_1"].trainable
    other = make(["Flatten()"], "auto").fit(X)
    assert list(other.encoder_) == ["Flatten_1", "Code"]
    assert kinds(other.decoder_)[-1] == "ConvTranspose2D"


@pytest.mark.parametrize("method", ["fit", "forward"])
def test_a_failed_attempt_leaves_no_layers_behind(method, monkeypatch):
    X, rng = random_images(8, (9, 8, 1)), np.random.default_rng(0)

    def fail(*arguments):
        raise MemoryError("no room")

    vae = make(random_state=rng)
    before = copy.deepcopy(rng.bit_generator.state)
    for place in (ConvTranspose2D, FullyConnected):
        with monkeypatch.context() as patch:
            patch.setattr(place, "initialize", fail)
            with pytest.raises(MemoryError):
                getattr(vae, method)(X)
        assert vae.encoder_ == vae.decoder_ == {}
        assert rng.bit_generator.state == before
    other = random_images(8, (12, 12, 3))  # the shape is still open
    assert vae.fit(other).decode(np.zeros((1, 3))).shape == (1, 12, 12, 3)


def test_decoders_that_do_not_fit_leave_no_encoder_behind():
    vae = make("auto", ["FullyConnected(6)", "Reshape((2, 3, 1))", "ConvTranspose2D(1, 3)"])
    with pytest.raises(ValueError, match="decoder must put out 72 numbers for Bernoulli"):
        vae.fit(random_images(8, (9, 8, 1)))
    assert vae.encoder_ == {}
    assert untouched(vae)


# -------------------------------------------------------------- several numbers a pixel


@pytest.mark.parametrize("likelihood", ["Gaussian(scale='pixel')", "Laplace('pixel')", "DiscretizedLogistic"])
def test_means_and_scales_of_a_drawn_image_keep_their_pixels(likelihood):
    decoder = ["FullyConnected(20)", "Reshape((2, 5, 2))", "ConvTranspose2D(out_ch=6, kernel_shape=2, stride=2)"]
    X = (random_images(8, (4, 10, 3)) * 255).astype(np.uint8)
    vae = make(["Flatten()"], decoder, likelihood=likelihood).fit(X)
    Z = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    outputs = Z
    for layer in vae.decoder_.values():
        outputs = layer.forward(outputs, retain_derived=False)
    mean = outputs[..., ::2] * vae.pixel_scale_ + vae.pixel_offset_
    mean = mean.clip(0, 1) if likelihood == "DiscretizedLogistic" else mean
    np.testing.assert_allclose(vae.decode(Z), mean, rtol=1e-5, atol=1e-6)


def test_the_scale_of_a_pixel_is_learnt_where_it_is():
    """Noise of 0.3 in the left half and of 0.01 in the right one, with a log density of 95 for each image.

    With one scale for all pixels it would be 8.
    """
    rng = np.random.default_rng(0)
    X = 0.5 + rng.normal(size=(256, 8, 8, 1)) * np.where(np.arange(8) < 4, 0.3, 0.01)[:, np.newaxis]
    vae = make(likelihood="Gaussian('pixel')", n_epochs=60, batchsize=32, optimizer="Adam(lr=0.003)").fit(X)
    assert 60 < vae.elbo(X).mean() < 95


def test_too_few_channels_for_the_likelihood_are_refused_by_the_first_use():
    decoder = ["Reshape((1, 1, 3))", "ConvTranspose2D(1, 8)"]
    with pytest.raises(ValueError, match=r"must put out 2 channels for each of the images', for Gaussian.*, got 1$"):
        checked(make(["Flatten()"], decoder, likelihood="Gaussian('pixel')"))


def test_a_likelihood_may_need_one_output_for_all_channels_of_a_pixel():
    class GreyOfColours(Bernoulli):
        def n_outputs(self, image_shape):
            return image_shape[0] * image_shape[1]

    assert cvae.VAE(likelihood=GreyOfColours()).summary((8, 9, 3)).rows[-1].output_shape == (8, 9, 1)


# --------------------------------------------------------------------- by name


def test_keras_has_the_layers_of_the_example():
    rows = cvae.VAE("keras", T=2).summary((28, 28)).rows
    assert [(row.layer.split("/")[1].split("_")[0], row.output_shape, row.parameters) for row in rows] == [
        ("Conv2D", (14, 14, 32), 320), ("Conv2D", (7, 7, 64), 18_496), ("Flatten", (3136,), 0),
        ("FullyConnected", (16,), 50_192), ("Code", (4,), 68), ("FullyConnected", (3136,), 9_408),
        ("Reshape", (7, 7, 64), 0), ("ConvTranspose2D", (14, 14, 64), 36_928),
        ("ConvTranspose2D", (28, 28, 32), 18_464), ("ConvTranspose2D", (28, 28, 1), 289),
    ]  # fmt: skip


def test_keras_fits_images_of_any_size():
    for image_shape in ((10, 12, 3), (27, 5, 1)):
        X = random_images(4, image_shape)
        for likelihood in LIKELIHOODS:
            assert make("keras", likelihood=likelihood).fit(X).reconstruct(X).shape == X.shape


def test_world_models_has_the_published_number_of_parameters():
    """4,348,547 in all, of Ha & Schmidhuber's own program, with codes of 32."""
    summary = cvae.VAE("world-models").summary((64, 64, 3))
    assert summary.parameters == 4_348_547
    assert [row.output_shape for row in summary.rows if "/Conv" in row.layer] == [
        (31, 31, 32), (14, 14, 64), (6, 6, 128), (2, 2, 256), (5, 5, 128), (13, 13, 64), (30, 30, 32), (64, 64, 3),
    ]  # fmt: skip


def test_world_models_is_for_one_size():
    assert cvae.VAE("world-models", image_shape=(64, 64, 1)).decoder_["ConvTranspose2D_6"].out_ch == 1
    message = "'world-models' must get images of 64x64 pixels, got 28x28"
    with pytest.raises(ValueError, match=message):
        checked(cvae.VAE("world-models", image_shape=(28, 28)))
    vae = make("world-models")
    with pytest.raises(ValueError, match=message):
        vae.fit(random_images(4, (28, 28, 1)))
    assert vae.encoder_ == {}


def test_mlp_has_two_layers_of_200():
    rows = cvae.VAE("mlp", T=50).summary((28, 28)).rows
    assert [row.output_shape for row in rows] == [(784,), (200,), (200,), (100,), (200,), (200,), (784,)]
    vae = cvae.VAE("mlp", image_shape=(28, 28))
    assert str(vae.encoder_["FullyConnected_2"].act_fn) == str(vae.decoder_["FullyConnected_1"].act_fn) == "Tanh"


def test_numpy_ml_is_bernoulli_vae():
    X = random_images(6, (16, 16, 1))
    expected = cvae.BernoulliVAE(**ARGUMENTS, optimizer="Adam(lr=0.001)").fit(X)
    vae = make("numpy-ml").fit(X)
    for got, array in zip(arrays(vae).values(), arrays(expected).values(), strict=True):
        np.testing.assert_array_equal(got, array)


def test_a_name_goes_for_both_networks_unless_the_other_is_given():
    def layers(*parts):
        vae = make(*parts, image_shape=(12, 12))
        return [repr(layer) for layer in vae._layers().values()]

    assert layers("keras") == layers("keras", "keras") == layers("auto", "keras") == layers("Keras")
    assert layers("numpy_ML") == layers("numpy-ml", "auto")
    assert layers("keras", "mlp") not in (layers("keras"), layers("mlp"))
    assert layers("keras", ["FullyConnected(3)"])[:5] == layers("keras")[:5]


@pytest.mark.parametrize("name", NAMES)
def test_the_strings_and_the_layers_are_saved(name, tmp_path, monkeypatch):
    X = random_images(8, (16, 17, 1))
    vae = make(name, likelihood="Gaussian('pixel')", optimizer="Adam(lr=0.01)").fit(X)
    vae.encoder_["Code"].freeze()
    vae.save(tmp_path / "model")
    # Another version may make other layers of the same name.
    monkeypatch.setitem(ARCHITECTURES, name, ARCHITECTURES["keras" if name != "keras" else "mlp"])
    loaded = cvae.load(tmp_path / "model")
    assert repr(loaded) == repr(vae)
    assert (loaded.encoder, loaded.decoder) == (name, "auto")
    assert [repr(layer) for layer in loaded._layers().values()] == [repr(layer) for layer in vae._layers().values()]
    np.testing.assert_array_equal(loaded.transform(X), vae.transform(X))
    with pytest.warns(UserWarning, match="fit starts anew, with new parameters in the frozen layers too"):
        assert_same_bits(arrays(loaded.fit(X)), arrays(vae.fit(X)))


def test_it_is_an_estimator():
    X = random_images(8, (9, 8, 1))
    assert repr(cvae.VAE()) == "VAE()"
    assert repr(make("keras", T=2)).startswith("VAE(encoder='keras', T=2, ")
    vae = make().fit(X)
    cloned = clone(vae)
    assert cloned.encoder_ == {}
    assert cloned.get_params() == vae.get_params()
    for other in (cloned.fit(X), pickle.loads(pickle.dumps(vae)), copy.deepcopy(vae)):
        assert_same_bits(arrays(other), arrays(vae))
    early = pickle.loads(pickle.dumps(make()))
    assert_same_bits(arrays(early.fit(X)), arrays(vae))
    vae.set_params(decoder="mlp", T=2)
    with pytest.raises(NotFittedError, match="decoder has changed from"):
        vae.encode(X)
    assert kinds(vae.fit(X).decoder_) == ["FullyConnected"] * 3
    vae.set_params(optimizer="SGD(lr=0.1)")
    assert untouched(vae) is False
    unfitted = make().set_params(optimizer="SGD(lr=0.1)").fit(X)
    assert str(unfitted.encoder_["Conv2D_1"].optimizer).startswith("SGD(lr=0.1")


def test_steps_by_hand_before_and_after_the_layers_are_made():
    X, vae = random_images(4, (9, 8, 1)), make()
    vae.update()
    vae.flush_gradients()
    assert vae.derived_variables["t_mean"] is None
    vae.backward(X, vae.forward(X))
    assert vae.derived_variables["dEncoder_Conv2D_1_out"].shape == (4, 5, 4, 32)
    assert vae.derived_variables["dDecoder_FullyConnected_1_in"].shape == (4, 3)
    vae.update()


@pytest.mark.parametrize("wrong", ["resnet", "", "Flatten()"])
def test_unknown_names_are_refused_by_the_first_use(wrong):
    for part in ("encoder", "decoder"):
        message = (
            f"{part} must be a sequence of layers or their call strings, or one of 'auto', 'keras', 'world-models'"
        )
        with pytest.raises(ValueError, match=f"{re.escape(message)}.*, got {re.escape(repr(wrong))}"):
            checked(make(**{part: wrong}))


def test_the_number_of_threads_does_not_matter():
    X = random_images(16, (17, 20, 3))
    one, *others = (
        arrays(make(likelihood="Gaussian('pixel')", n_threads=n, batchsize=16).fit(X)) for n in (1, 2, 3, 7)
    )
    for other in others:
        assert_same_bits(other, one)
