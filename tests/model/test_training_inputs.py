"""The inputs of fit: images in all storage formats, and errors that name what is wrong."""

import array

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from small_vae import (
    assert_same_bits,
    assert_same_model,
    parameters,
    random_images,
    small_vae,
)

import cvae
from cvae import NotFittedError


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def strided(X):
    wide = np.zeros((2 * len(X), 11, 16, 2), X.dtype)
    wide[::2, 1:10, ::2, 1:] = X
    return wide[::2, 1:10, ::2, 1:]


SAME_IMAGES = {
    "list": lambda X: X.tolist(),
    "float64": lambda X: X.astype(np.float64),
    "long double": lambda X: X.astype(np.longdouble),
    "Fortran order": np.asfortranarray,
    "reversed twice": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "strided": strided,
    "read-only": read_only,
    "byte-swapped": lambda X: X.astype(X.dtype.newbyteorder()),
    "without channels": lambda X: X[..., 0],
    "flat": lambda X: X.reshape(len(X), -1),
}


@pytest.mark.parametrize("kind", SAME_IMAGES)
def test_the_same_images_give_the_same_bits_however_they_are_stored(kind):
    X = random_images()
    plain = small_vae().fit(X, validation_data=X)
    given = SAME_IMAGES[kind](X)
    other = small_vae(image_shape=(9, 8) if kind == "flat" else None).fit(given, validation_data=given)
    assert_same_model(other, plain, X)
    assert other.history_["val_loss"] == plain.history_["val_loss"]
    np.testing.assert_array_equal(other.encode(given), plain.encode(X))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_train_as_their_255th_parts_do(dtype):
    X = np.random.default_rng(0).integers(0, 256, (10, 9, 8, 1), dtype=np.uint8)
    X.reshape(-1)[:256] = np.arange(256)
    plain = small_vae(dtype=dtype).fit(X / 255)
    assert_same_model(small_vae(dtype=dtype).fit(X), plain, X)


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.float16])
def test_binary_images_of_any_type_train_alike(dtype):
    X = (random_images() > 0.5).astype(np.float32)
    assert_same_model(small_vae().fit(X.astype(dtype)), small_vae().fit(X), X)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.dtype(">f8")])
def test_memory_maps_train_as_arrays_do(tmp_path, dtype):
    X = (random_images() * (255 if dtype == np.uint8 else 1)).astype(dtype)
    np.save(tmp_path / "images.npy", X)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert_same_model(small_vae().fit(mapped), small_vae().fit(X), X)


def test_the_images_stay_as_they_are():
    X = random_images()
    before = X.copy()
    vae = small_vae().fit(X)
    vae.encode(X)
    vae.backward(X, vae.forward(X))
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_images_than_a_batch(n):
    X = random_images(n)
    vae = small_vae(batchsize=100).fit(X, n_epochs=2)
    assert vae.encoder["Conv1"].optimizer.cur_step == 2
    assert_same_bits(parameters(vae), parameters(small_vae(batchsize=n).fit(X, n_epochs=2)))
    assert np.isfinite(vae.score(X))


def with_value(value, n=4):
    X = random_images(n)
    X[2, 3, 4, 0] = value
    return X


WRONG_IMAGES = {
    "NaN": (with_value(np.nan), ValueError, r"must hold values in \[0, 1\].*got NaN in image 2 at row 3, column 4"),
    "infinity": (with_value(np.inf), ValueError, "got inf in image 2"),
    "more than 1": (with_value(1.5), ValueError, "only uint8 means 0..255"),
    "less than 0": (with_value(-0.25), ValueError, "got -0.25 in image 2"),
    "0..255 as floats": (255 * random_images(4), ValueError, "only uint8 means 0..255"),
    "no image": (random_images(0), ValueError, "must hold at least one image"),
    "no pixel": (np.zeros((4, 0, 8, 1)), ValueError, "must hold at least one image"),
    "one dimension": (np.zeros(72), ValueError, r"must have the shape \(n, rows, cols, channels\)"),
    "five dimensions": (np.zeros((1, 1, 9, 8, 1)), ValueError, "must have the shape"),
    "text": (np.full((4, 9, 8, 1), "0"), TypeError, "must be an array of bool, int or float"),
    "objects": (np.full((4, 9, 8, 1), {}), TypeError, "must be an array of bool, int or float"),
    "missing": (np.full((4, 9, 8, 1), None), ValueError, "must not have missing values"),
    "complex": (np.zeros((4, 9, 8, 1), complex), ValueError, "must hold real numbers"),
    "ragged": ([[[1.0]], [[1.0, 0.0]]], ValueError, "must be an array: "),
}


@pytest.mark.parametrize("kind", WRONG_IMAGES)
@pytest.mark.parametrize("name", ["X", "validation_data"])
def test_wrong_images_are_refused_by_name_and_leave_the_model_untouched(name, kind):
    wrong, error, message = WRONG_IMAGES[kind]
    vae = small_vae()
    with pytest.raises(error, match=f"^{name} .*{message}"):
        vae.fit(**{"X": random_images(), name: wrong})
    with pytest.raises(NotFittedError):
        vae.encode(random_images())
    assert_same_model(vae.fit(random_images()), small_vae().fit(random_images()), random_images())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"n_epochs": 0}, ValueError),
        ({"n_epochs": 2.0}, TypeError),
        ({"batchsize": -1}, ValueError),
        ({"batchsize": "8"}, TypeError),
        ({"batchsize": True}, TypeError),
        ({"validation_data": ()}, ValueError),
        ({"validation_data": random_images(3, (8, 9, 1))}, ValueError),
        ({"validation_data": random_images(3, (9, 8, 3))}, ValueError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_arguments_of_fit_are_refused_by_name(arguments, error):
    vae = small_vae()
    with pytest.raises(error, match=f"^{next(iter(arguments))} must "):
        vae.fit(random_images(), **arguments)
    assert vae.history_ == {}
    with pytest.raises(NotFittedError):
        vae.encode(random_images())


def test_validation_data_with_labels_that_the_model_does_not_need():
    X, y = random_images(6), np.arange(6)
    losses = {
        tuple(small_vae().fit(X, validation_data=data).history_["val_loss"]) for data in (X, (X,), [X], (X, y), [X, y])
    }
    assert len(losses) == 1


def test_a_data_frame_trains_as_its_array_does():
    X = np.random.default_rng(0).integers(0, 256, (10, 72), np.uint8)
    plain = small_vae(image_shape=(9, 8)).fit(X)
    for frame in (pd.DataFrame(X), pd.DataFrame(X).astype("UInt8")):
        assert_same_bits(parameters(small_vae(image_shape=(9, 8)).fit(frame)), parameters(plain))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_beyond_the_range_by_rounding_are_clipped(dtype):
    X = random_images(dtype=dtype)
    X[0, 0, 0], X[1, 0, 0] = 1, 0
    rounded = X.copy()
    rounded[0, 0, 0], rounded[1, 0, 0] = 1 + 2e-7, -1e-17
    before = rounded.copy()
    vae, plain = small_vae().fit(rounded), small_vae().fit(X)
    assert_same_bits(parameters(vae), parameters(plain))
    np.testing.assert_array_equal(vae.elbo(rounded), plain.elbo(X))
    np.testing.assert_array_equal(rounded, before)
    for value_range in ("data", (0, 1)):
        ranged = cvae.VAE("mlp", T=2, value_range=value_range, verbose=False, random_state=0).fit(X, n_epochs=1)
        np.testing.assert_array_equal(ranged.elbo(rounded), ranged.elbo(X))


def test_what_scikit_learns_scalers_leave_is_taken():
    X = np.random.default_rng(0).normal(size=(500, 64))
    scaled = MinMaxScaler().fit_transform(X)
    assert scaled.max() > 1
    vae = cvae.VAE("mlp", T=2, image_shape=(8, 8), verbose=False, random_state=0)
    pipeline = make_pipeline(MinMaxScaler(), vae.set_params(n_epochs=1)).fit(X)
    assert np.isfinite(pipeline.score(X))
    np.testing.assert_array_equal(pipeline.transform(X[:9]), pipeline[-1].transform(np.clip(scaled[:9], 0, 1)))


def test_bytes_that_are_only_0_and_1_warn():
    X = random_images() > 0.5
    ones = X.astype(np.uint8)
    vae = small_vae()
    with pytest.warns(UserWarning, match=r"^X has dtype uint8 and holds only 0 and 1, .* pass X.astype\(bool\)"):
        vae.fit(ones)
    with pytest.warns(UserWarning, match="^validation_data has dtype uint8"):
        vae.fit(X, validation_data=ones)
    with pytest.warns(UserWarning, match="^X has dtype uint8"):
        vae.transform(ones)
    ones[-1, -1, -1] = 2
    vae.fit(ones).transform(np.zeros_like(ones))  # black images are black
    cvae.VAE("mlp", T=2, value_range=(0, 1), verbose=False).fit(X.astype(np.uint8), n_epochs=1)


def test_channels_that_come_first_are_noticed():
    vae = cvae.VAE("mlp", T=2, verbose=False)
    with pytest.warns(UserWarning, match=r"^X holds images of 3x8 pixels with 9 channels: .* pass X.transpose\(0, 2"):
        vae.fit(random_images(4, (3, 8, 9)), n_epochs=1)
    vae = cvae.VAE("mlp", T=2, verbose=False).fit(random_images(4, (8, 9, 3)), n_epochs=1)
    with pytest.raises(ValueError, match=r"got \(3, 8, 9\): channels come last, as in X.transpose\(0, 2, 3, 1\)"):
        vae.transform(random_images(4, (3, 8, 9)))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_that_are_stacked_last_are_noticed(channels):
    X = random_images(9, (8, 10, channels))
    expected = rf"^X holds images of 10x{channels} pixels with 9 channels: .* are 8x10 pixels with {channels}, pass X."
    with pytest.warns(UserWarning, match=expected + r"transpose\(3, 0, 1, 2\)$"):
        cvae.VAE("mlp", T=2, verbose=False).fit(X.transpose(1, 2, 3, 0), n_epochs=1)
    vae = cvae.VAE("mlp", T=2, verbose=False).fit(X, n_epochs=1)
    with pytest.raises(ValueError, match=r"images come first, as in X.transpose\(3, 0, 1, 2\)$"):
        vae.transform(X.transpose(1, 2, 3, 0))
    signals = random_images(40, (8, channels, 9))  # many short rows are no picture
    cvae.VAE("mlp", T=2, verbose=False).fit(signals, n_epochs=1)


def test_one_image_in_the_place_of_a_set():
    vae, X = small_vae().fit(random_images()), random_images()
    for one in (X[0], X[0, ..., 0]):
        with pytest.raises(ValueError, match=r"pass X\[np.newaxis\] for one image$"):
            vae.transform(one)
        assert vae.transform(one[np.newaxis]).shape == (1, 2)


def test_buffers_of_python():
    X = random_images()
    np.testing.assert_array_equal(
        small_vae().fit(memoryview(X)).transform(memoryview(X)), small_vae().fit(X).transform(X)
    )
    for flat in (X.tobytes(), bytearray(X.tobytes()), array.array("f", X.ravel())):
        with pytest.raises(TypeError, match=r"pass np.frombuffer\(X, dtype\).reshape\(n, rows, cols, channels\)"):
            small_vae().fit(flat)
