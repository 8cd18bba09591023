"""Pixels of any range: mapped to [0, 1], or standardized, and given back in the units in which they came."""

import copy
import json
import math
import pickle
import re

import numpy as np
import pytest
from safetensors.numpy import save
from scipy import stats
from small_vae import assert_same_bits, by_path, checked

import cvae
from cvae import passes
from cvae.data import gathering
from cvae.estimator import NotFittedError
from cvae.io import serialization
from cvae.io.files import replaced_file
from cvae.runtime.programs import execute

IMAGE_SHAPE = (5, 4, 2)
REAL = ["Gaussian(0.1)", "Gaussian('pixel')", "Gaussian('shared')", "Laplace(0.2)", "Laplace('optimal')"]
UNIT = ["Bernoulli", "ContinuousBernoulli"]
DTYPES = ["bool", "int8", "int16", "uint16", "int32", "int64", "uint64", ">i2", "float16", "float32", ">f4", "float64"]
DTYPES += ["longdouble"]


def model(likelihood="Bernoulli", dtype="float32", **changes):
    encoder = ["Conv2D(out_ch=3, kernel_shape=2, act_fn='Tanh')", "Flatten()"]
    fixed = {"T": 2, "optimizer": "Adam(lr=0.01)", "n_epochs": 2, "batchsize": 4, "random_state": 0, "verbose": False}
    fixed["warm_start"] = True
    return cvae.VAE(
        encoder, ["FullyConnected(n_out=16, act_fn='SoftPlus')"], likelihood, dtype=dtype, **fixed | changes
    )


def unit_images(n=12, seed=0, shape=IMAGE_SHAPE):
    """Return images in [0, 1], float64, that reach both ends."""
    X = np.random.default_rng(seed).random((n, *shape))
    X[0, 0, 0, 0], X[-1, -1, -1, -1] = 0, 1
    return X


def levels(dtype, n=12):
    """Return images of a dtype, integers from -30 to 90, or 0 to 1 as bool."""
    X = np.rint(unit_images(n) * 120 - (0 if np.dtype(dtype).kind in "bu" else 30))
    return (X > 60).astype(dtype) if dtype == "bool" else X.astype(dtype)


# ------------------------------------------------------------ a range to [0, 1]


@pytest.mark.parametrize("likelihood", UNIT)
@pytest.mark.parametrize("value_range", ["data", (-7.5, 22.5)], ids=str)
def test_a_range_is_mapped_to_the_unit_interval_and_back(likelihood, value_range):
    X = unit_images()
    mapped, plain = model(likelihood, "float64", value_range=value_range), model(likelihood, "float64")
    scaled = X * 30 - 7.5
    mapped.fit(scaled)
    plain.fit(X)
    np.testing.assert_allclose([mapped.pixel_offset_, mapped.pixel_scale_], [[-7.5, -7.5], [30, 30]], rtol=1e-15)
    np.testing.assert_array_equal([plain.pixel_offset_, plain.pixel_scale_], [[0, 0], [1, 1]])
    np.testing.assert_allclose(mapped.encode(scaled), plain.encode(X), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mapped.reconstruct(scaled), plain.reconstruct(X) * 30 - 7.5, rtol=1e-9)
    np.testing.assert_allclose(mapped.sample(3, 0), plain.sample(3, 0) * 30 - 7.5, rtol=1e-9)
    # A density counts in the unit of the pixels, a probability has none.
    difference = 0 if likelihood == "Bernoulli" else 40 * math.log(30)
    for method in ("elbo", "log_likelihood"):
        np.testing.assert_allclose(getattr(mapped, method)(scaled), getattr(plain, method)(X) - difference, rtol=1e-9)
    np.testing.assert_allclose(mapped.history_["loss"], np.add(plain.history_["loss"], difference), rtol=1e-9)


@pytest.mark.parametrize("dtype", ["uint8", *DTYPES])
def test_numbers_of_every_type_count_as_they_are(dtype):
    X = levels(dtype)
    vae = model(value_range="data").fit(X)
    other = model(value_range="data").fit(X.astype(np.float64))
    assert vae.pixel_offset_[0] == X.min()
    assert vae.pixel_scale_[0] == float(X.max()) - float(X.min())
    assert_same_bits(by_path(vae.parameters), by_path(other.parameters))
    np.testing.assert_array_equal(vae.elbo(X), other.elbo(X.astype(np.float64)))
    np.testing.assert_array_equal(vae.elbo(X[::-1, ::-1]), vae.elbo(X[::-1, ::-1].copy()))


def test_bytes_with_a_range_are_numbers():
    X = np.rint(255 * unit_images()).astype(np.uint8)
    raw, fractions = model(value_range=(0, 255)).fit(X), model().fit(X)
    np.testing.assert_allclose(raw.reconstruct(X), 255 * fractions.reconstruct(X), rtol=1e-5)
    np.testing.assert_array_equal(raw.encode(X), raw.encode(X.astype(np.float32)))
    black_and_white = (X > 99).astype(np.uint8)
    other = model(value_range=(0, 1)).fit(black_and_white)
    np.testing.assert_array_equal(other.elbo(black_and_white), model().fit(X > 99).elbo(X > 99))


@pytest.mark.parametrize("likelihood", UNIT)
def test_values_outside_the_range_are_refused(likelihood):
    X = levels("float32")
    for vae in (model(likelihood, value_range="data").fit(X), model(likelihood, value_range=(-30, 90))):
        for value in (91, -31, np.nan, np.inf):
            wrong = X.copy()
            wrong[3, 1, 2, 0] = value
            got = "NaN" if np.isnan(value) else value
            message = rf"X must hold values in the value_range from -30.0 to 90.0, got {got}.* in image 3 at row 1"
            with pytest.raises(ValueError, match=message):
                vae.fit(wrong)
        with pytest.raises(ValueError, match="validation_data must hold values in the value_range"):
            vae.fit(X, validation_data=2 * X)


def test_what_is_learnt_comes_from_all_images_and_validation_data_must_lie_within():
    X = levels("int16")
    vae = model(value_range="data", random_state=np.random.default_rng(0))
    state = vae._rng.bit_generator.state
    with pytest.raises(ValueError, match=r"validation_data must hold values in the value_range from -30\.0"):
        vae.fit(X, validation_data=X + 1)
    assert vae._rng.bit_generator.state == state
    with pytest.raises(NotFittedError):
        vae.pixel_offset_  # noqa: B018
    assert not hasattr(vae, "pixel_scale_")
    assert np.isfinite(vae.fit(X, validation_data=X[:2]).history_["val_loss"]).all()


@pytest.mark.parametrize("likelihood", REAL)
def test_for_real_pixels_a_range_is_a_unit(likelihood):
    X = unit_images()
    vae, plain = (model(likelihood, "float64", value_range=ends) for ends in ((-10, 90), (0, 1)))
    vae.fit(100 * X - 10)
    plain.fit(X)
    np.testing.assert_array_equal(plain.pixel_scale_, [1, 1])
    np.testing.assert_allclose(vae.elbo(100 * X - 10), plain.elbo(X) - 40 * math.log(100), rtol=1e-9)
    assert np.isfinite(vae.elbo(1000 * X)).all()
    with pytest.raises(ValueError, match="X must hold finite values"):
        vae.fit(np.nan * X)


@pytest.mark.parametrize(("wrong", "error"), [
    ((1, 1), ValueError), ((2, 1), ValueError), ((0, np.inf), ValueError), ((np.nan, 1), ValueError),
    ("all", ValueError), ((0, 1e39), ValueError), (3, TypeError), ((1, 2, 3), TypeError), ((True, 2), TypeError),
    (("0", "1"), TypeError),
], ids=str)  # fmt: skip
def test_wrong_ranges(wrong, error):
    with pytest.raises(error, match="value_range must be"):
        checked(model(value_range=wrong))
    vae = model().set_params(value_range=wrong)
    with pytest.raises(error, match="value_range must be"):
        vae.fit(unit_images())
    assert vae.set_params(value_range=None).fit(unit_images()).history_["loss"]


def test_bytes_have_no_range():
    with pytest.raises(
        ValueError, match="value_range must be None for DiscretizedLogistic, which takes pixels of 8 bits"
    ):
        checked(model("DiscretizedLogistic", value_range=(0, 255)))


def test_errors_say_how_other_images_are_taken():
    with pytest.raises(
        ValueError,
        match=r"got 300.0 in image 0 .*; cvae.VAE maps others with value_range='data' or \(low, high\) .*, and",
    ):
        model().fit(np.full((2, *IMAGE_SHAPE), 300.0))
    with pytest.raises(
        ValueError, match=r"got 300 in image 0 .*; cvae.VAE maps others with value_range='data' or \(0, 65535\) .*, and"
    ):
        model().fit(np.full((2, *IMAGE_SHAPE), 300, np.uint16))
    with pytest.raises(ValueError, match=r"got NaN in image 0 at row 0, column 0, channel 0$"):
        model().fit(np.full((2, *IMAGE_SHAPE), np.nan))
    for bytes_, remedy in (
        (np.full((2, *IMAGE_SHAPE), 200.0), "; if they mean 0..255, divide by 255 first; cvae.VAE maps"),
        (np.full((2, *IMAGE_SHAPE), 200), "; if they mean 0..255, pass X.astype('uint8'); cvae.VAE maps"),
    ):
        with pytest.raises(
            ValueError, match=re.escape(remedy) + r".* value_range='data' or \(0, 255\) .*, and takes any"
        ):
            model().fit(bytes_)
    with pytest.raises(ValueError, match=r"X must hold different values for value_range='data', got only 300.0"):
        model(value_range="data").fit(np.full((2, *IMAGE_SHAPE), 300.0))


# --------------------------------------------------------------- standardization


@pytest.mark.parametrize("likelihood", REAL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_standardization_is_that_of_numpy(likelihood, dtype):
    X = levels(dtype)
    vae = model(likelihood).fit(X)
    pixels = X.reshape(-1, 2).astype(np.float64)
    deviation = pixels.std(0)
    if "0." in likelihood:  # a number is one scale for all
        deviation = np.full(2, np.sqrt(np.square(deviation).mean()))
    np.testing.assert_allclose(vae.pixel_offset_, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(vae.pixel_scale_, deviation, rtol=1e-12)
    np.testing.assert_array_equal(vae.elbo(X), vae.elbo(X.astype(np.float64)))


def test_bytes_are_standardized_as_fractions():
    X = np.rint(255 * unit_images()).astype(np.uint8)
    vae = model("Gaussian('pixel')").fit(X)
    np.testing.assert_allclose(vae.pixel_offset_, (X / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_array_equal(vae.elbo(X), vae.elbo(X.astype(np.float32) / np.float32(255)))
    np.testing.assert_array_equal(vae.elbo(X[:, ::-1]), vae.elbo(X[:, ::-1].copy()))


@pytest.mark.parametrize("likelihood", ["Gaussian(25.0)", "Laplace(25.0)", "Gaussian(1e-3)"])
def test_a_number_is_the_scale_of_the_pixels_as_they_were_given(likelihood):
    X = 1000 + 50 * np.random.default_rng(0).normal(size=(20, *IMAGE_SHAPE)) * (1, 3)
    vae = model(likelihood, "float64").fit(X, n_epochs=5)
    noise = np.random.default_rng(5).standard_normal((20, 2))
    means = vae.forward(X, retain_derived=False, noise=noise).reshape(X.shape)
    passes = vae._passes(20, training=False)
    passes.images[:20] = (X - vae.pixel_offset_) / vae.pixel_scale_
    kind, number = (stats.norm if "Gaussian" in likelihood else stats.laplace), float(likelihood[:-1].split("(")[1])
    expected = kind.logpdf(X, means, number).sum((1, 2, 3))
    np.testing.assert_allclose(-passes.terms(noise)[0], expected, rtol=1e-6)


def test_per_pixel_densities_are_scipys():
    X = 1000 + 50 * np.random.default_rng(0).normal(size=(20, *IMAGE_SHAPE)) * (1, 3)
    vae = model("Gaussian('pixel')", "float64").fit(X, n_epochs=5)
    noise = np.random.default_rng(5).standard_normal((20, 2))
    vae.forward(X, noise=noise)
    s = vae.decoder_["Output"].forward(vae.decoder_["Output"].X[0], retain_derived=False)[:, 1::2].reshape(X.shape)
    means = vae.forward(X, retain_derived=False, noise=noise).reshape(X.shape)
    passes = vae._passes(20, training=False)
    passes.images[:20] = (X - vae.pixel_offset_) / vae.pixel_scale_
    expected = stats.norm.logpdf(X, means, np.exp(8 * np.tanh(s / 16)) * vae.pixel_scale_).sum((1, 2, 3))
    np.testing.assert_allclose(-passes.terms(noise)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("likelihood", REAL[1:3] + REAL[4:])
@pytest.mark.parametrize(("offset", "scale"), [(0, 1e-25), (1e6, 1e-2), (-1e6, 0.1), (0, 1e30), (5, 1)], ids=str)
def test_units_do_not_matter(likelihood, offset, scale):
    X = unit_images()
    moved = offset + scale * X
    vae, plain = model(likelihood, "float64").fit(moved, n_epochs=3), model(likelihood, "float64").fit(X, n_epochs=3)
    rtol = 1e-6 if offset else 1e-9
    np.testing.assert_allclose(vae.history_["loss"], np.add(plain.history_["loss"], 40 * np.log(scale)), rtol=rtol)
    np.testing.assert_allclose(vae.encode(moved), plain.encode(X), rtol=rtol * 10, atol=1e-5)
    np.testing.assert_allclose(vae.reconstruct(moved), offset + scale * plain.reconstruct(X), rtol=1e-5)


@pytest.mark.parametrize("likelihood", REAL)
def test_small_differences_of_large_numbers_survive_float32(likelihood):
    X = 1e6 + 0.01 * np.random.default_rng(0).normal(size=(16, *IMAGE_SHAPE))
    vae = model(likelihood).fit(X)
    assert len(np.unique(vae.encode(X)[0])) > 20
    np.testing.assert_allclose(vae.pixel_scale_, 0.01, rtol=0.2)
    assert np.isfinite(vae.elbo(X)).all()


@pytest.mark.parametrize("likelihood", REAL)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_channels(likelihood, value):
    X = unit_images()
    X[..., 0] = value
    vae = model(likelihood).fit(X)
    assert vae.pixel_offset_[0] == pytest.approx(value, abs=1e-300)
    assert vae.pixel_scale_[0] == (vae.pixel_scale_[1] if "0." in likelihood else 1)
    all_constant = model(likelihood).fit(np.full_like(X, value))
    np.testing.assert_array_equal(all_constant.pixel_scale_, 1)
    assert np.isfinite(all_constant.history_["loss"]).all()


def test_a_channel_with_an_outlier():
    X = unit_images(4000, shape=(4, 4, 1))
    X[7, 1, 1, 0] = 1e8
    vae = model("Gaussian('shared')").fit(X, n_epochs=1)
    np.testing.assert_allclose(vae.pixel_scale_, X.std(), rtol=1e-9)


# ---------------------------------------------------------------- black and white


@pytest.mark.parametrize("value_range", ["data", (-30, 90)], ids=str)
def test_mapped_pixels_are_made_black_and_white(value_range):
    X = levels("int16")
    vae = model(value_range=value_range, binarize=0.5).fit(X)
    other = model().fit(X > 30)
    assert_same_bits(by_path(vae.parameters), by_path(other.parameters))
    np.testing.assert_array_equal(vae.elbo(X), other.elbo(X > 30))
    np.testing.assert_allclose(vae.reconstruct(X), other.reconstruct(X > 30) * 120 - 30, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("likelihood", REAL)
def test_pixels_that_are_made_black_and_white_are_not_standardized(likelihood):
    X = unit_images()
    vae = model(likelihood, binarize=0.5).fit(X)
    np.testing.assert_array_equal(vae.pixel_scale_, [1, 1])
    np.testing.assert_array_equal(vae.elbo(X), vae.elbo(X > 0.5))
    with pytest.raises(ValueError, match=r"X must hold values in \[0, 1\]"):
        vae.fit(2 * X)
    ranged = model(likelihood, binarize="dynamic", value_range=(0, 2)).fit(2 * X)
    with pytest.raises(ValueError, match=r"X must hold values in the value_range from 0.0 to 2.0"):
        ranged.fit(3 * X)
    standardized = model(likelihood).fit(X).set_params(binarize="dynamic")
    with pytest.raises(ValueError, match="binarize must be None for a model that has learnt to standardize its pixels"):
        standardized.fit(X)


# ------------------------------------------------------------------ other units

BYTES = np.rint(unit_images() * 255).astype(np.uint8)


@pytest.mark.parametrize("likelihood", REAL)
@pytest.mark.parametrize("trained", [BYTES, BYTES / 255, BYTES[:, ::2] / 127.5 - 1], ids=["bytes", "0..1", "-1..1"])
def test_a_factor_of_255_is_noticed(likelihood, trained):
    vae = model(likelihood).fit(trained)
    others = BYTES[:, : trained.shape[1]]
    for wrong in (others.astype(float), others.astype(int), others[:1] * np.float32(0.9)):
        for call in (vae.elbo, vae.transform, vae.partial_fit, lambda X: cvae.VAE.fit(vae, X)):
            with pytest.raises(ValueError, match=r"X must have the units of the images of training.* up to"):
                call(wrong)


@pytest.mark.parametrize("likelihood", REAL)
def test_bytes_have_the_units_of_the_numbers_of_training(likelihood):
    of_255 = model(likelihood).fit(BYTES.astype(np.float32))
    np.testing.assert_array_equal(of_255.elbo(BYTES), of_255.elbo(BYTES.astype(np.float32)))
    assert_same_bits(by_path(copy.deepcopy(of_255).fit(BYTES).parameters),
                     by_path(copy.deepcopy(of_255).fit(BYTES.astype(int)).parameters))  # fmt: skip
    of_1 = model(likelihood).fit(BYTES / 255)
    np.testing.assert_allclose(of_1.transform(BYTES), of_1.transform(BYTES / 255), rtol=1e-4, atol=1e-5)
    signed = model(likelihood).fit(BYTES / 127.5 - 1)
    with pytest.raises(ValueError, match=r"trained on pixels from -1 to 1, got uint8, which means 0..1: pass X.astype"):
        signed.elbo(BYTES)


@pytest.mark.parametrize("likelihood", REAL)
def test_numbers_of_another_size_are_told_of(likelihood):
    of_255 = model(likelihood).fit(BYTES.astype(np.float32))
    for other in (BYTES / 255, BYTES * 100.0, BYTES + 5000.0):
        with pytest.warns(UserWarning, match="the model was trained on pixels from 0 to 255: are they in the same un"):
            of_255.elbo(other)
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="X must hold finite values"):
            of_255.elbo(np.full(BYTES.shape, wrong))
    of_255.elbo(BYTES // 9)
    of_255.elbo(np.zeros_like(BYTES))


# ------------------------------------------------------------------ what is kept


@pytest.mark.parametrize(("likelihood", "value_range"), [*((each, None) for each in REAL), ("Bernoulli", "data"),
                                                         ("ContinuousBernoulli", (-30, 90))], ids=str)  # fmt: skip
@pytest.mark.parametrize("how", ["saved", "copied", "pickled"])
def test_the_mapping_goes_with_the_model(likelihood, value_range, how, tmp_path):
    X = levels("int16")
    vae = model(likelihood, value_range=value_range).fit(X)
    if how == "saved":
        vae.save(tmp_path / "model.safetensors")
        other = cvae.load(tmp_path / "model.safetensors")
        assert other.value_range == value_range
    else:
        other = copy.deepcopy(vae) if how == "copied" else pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(other.pixel_offset_, vae.pixel_offset_)
    np.testing.assert_array_equal(other.pixel_scale_, vae.pixel_scale_)
    np.testing.assert_array_equal(other.elbo(X[:5]), vae.elbo(X[:5]))
    np.testing.assert_array_equal(other.reconstruct(X[:5]), vae.reconstruct(X[:5]))
    assert_same_bits(by_path(other.fit(X[:7]).parameters), by_path(vae.fit(X[:7]).parameters))


@pytest.mark.parametrize("likelihood", ["Bernoulli", "Gaussian(0.1)"])
def test_files_from_before_take_pixels_as_they_are(likelihood, tmp_path):
    X, path = unit_images(), tmp_path / "model.safetensors"
    vae = model(likelihood, value_range=(0, 1)).fit(X)
    vae.save(path)
    arrays, description = serialization.read(path)
    del description["pixels"], description["arguments"]["value_range"]
    description["history"] = {name: arrays.pop(f"history/{name}").tolist() for name in description["history"]}
    with replaced_file(path, by_model=True) as file:
        file.write(save(arrays, {serialization.KEY: json.dumps({**description, "format": 2})}))
    old = cvae.load(path)
    np.testing.assert_array_equal(old.pixel_scale_, [1, 1])
    np.testing.assert_array_equal(old.elbo(X), vae.elbo(X))


@pytest.mark.parametrize("change", [
    {"offset": [0.0]}, {"scale": [1.0, 0.0]}, {"scale": [1.0, float("inf")]}, {"ends": 3}, {"gain": 1},
    {"offset": ["a", 1]},
], ids=str)  # fmt: skip
def test_a_wrong_mapping_in_a_file_is_noticed(change, tmp_path):
    path = tmp_path / "model.safetensors"
    model("Gaussian('shared')").fit(unit_images()).save(path)
    arrays, description = serialization.read(path)
    description["pixels"] |= change
    serialization.write(path, arrays, description)
    with pytest.raises(ValueError, match=r"model.safetensors is not a complete model file of cvae: "):
        cvae.load(path)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize(("likelihood", "value_range"), [
    ("Bernoulli", "data"), ("Gaussian(0.1)", None), ("Gaussian('optimal')", None), ("Laplace('shared')", (0, 9)),
], ids=str)  # fmt: skip
def test_a_training_step_runs_no_python_within_its_programs(likelihood, value_range, dtype, monkeypatch):
    seen = []

    def note(program, n_threads=None):
        seen.append(program)
        execute(program, n_threads)

    for module in (passes, gathering):
        monkeypatch.setattr(module, "execute", note)
    model(likelihood, value_range=value_range).fit(levels(dtype))
    assert len(seen) == 2 * 3 * 3  # epochs, batches; gathering, up and down
    assert [program.calls for program in seen] == [[]] * len(seen)


def test_later_images_do_not_change_it_and_new_arguments_do():
    X = levels("float32")
    vae = model("Gaussian('shared')").fit(X)
    offset = vae.pixel_offset_
    vae.fit(5 * X).partial_fit(X - 100)
    np.testing.assert_array_equal(vae.pixel_offset_, offset)
    vae.set_params(batchsize=3, optimizer="SGD(lr=0.001)").fit(X)
    np.testing.assert_array_equal(vae.pixel_offset_, offset)
    vae.pixel_offset_[:] = 7  # a copy
    np.testing.assert_array_equal(vae.pixel_offset_, offset)
    vae.set_params(T=3).fit(5 * X)
    np.testing.assert_allclose(vae.pixel_offset_, 5 * offset, rtol=1e-6)


def test_a_failed_first_fit_leaves_nothing():
    X = levels("float32")
    vae = cvae.VAE(["Pool2D(9)", "Flatten()"], [], "Gaussian('shared')", T=2, verbose=False)
    with pytest.raises(ValueError, match="kernel"):
        vae.fit(X)
    assert not hasattr(vae, "pixel_offset_")


@pytest.mark.parametrize("likelihood", ["Gaussian('optimal')", "Gaussian(2.5)"])
def test_steps_by_hand_give_the_bits_of_fit(likelihood):
    X, rngs = levels("int16"), [np.random.default_rng(3) for _ in range(2)]
    by_hand, fitted = (model(likelihood, random_state=rng) for rng in rngs)
    for vae in (by_hand, fitted):
        vae.forward(X, retain_derived=False, noise=np.zeros((12, 2)))  # learns from these images
    np.testing.assert_allclose(by_hand.pixel_offset_, X.mean((0, 1, 2)), rtol=1e-12)
    fitted.fit(X, n_epochs=3, batchsize=5)
    for _ in range(3):
        for indices in cvae.minibatch(X, 5, rng=rngs[0])[0]:
            by_hand.backward(X[indices], by_hand.forward(X[indices]))
            by_hand.update()
    assert_same_bits(by_path(by_hand.parameters), by_path(fitted.parameters))


def test_rows_and_scikit_learns_arguments():
    from sklearn.base import clone

    X = levels("uint16").reshape(12, -1)
    vae = model("Gaussian('shared')", image_shape=IMAGE_SHAPE).fit(X)
    assert vae.pixel_offset_.shape == (2,)
    assert vae.get_params()["value_range"] is None
    other = clone(vae.set_params(likelihood="Bernoulli", value_range=(0, 65535)))
    assert "value_range=(0, 65535)" in repr(other)
    assert other.fit(X).reconstruct(X).shape == (12, *IMAGE_SHAPE)


def test_a_memory_map_of_integers(tmp_path):
    X = levels("int16")
    np.save(tmp_path / "images.npy", X)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for value_range, likelihood in ((None, "Gaussian('shared')"), ("data", "Bernoulli")):
        vae, other = (model(likelihood, value_range=value_range).fit(images) for images in (mapped, X))
        assert_same_bits(by_path(vae.parameters), by_path(other.parameters))


def test_a_scale_that_is_too_small_for_the_images_is_refused_and_changes_nothing():
    vae = cvae.VAE("mlp", likelihood="Gaussian(1e-10)", T=2, verbose=False)
    images = np.random.default_rng(0).normal(scale=1e9, size=(8, 4, 4, 1))
    with pytest.raises(ValueError, match="scale / standard deviation of the images must be a number in"):
        vae.fit(images)
    vae.fit(images * 1e-19, n_epochs=1)
