"""Arrays from what users have, and what they are told where there is none to be made."""

import re
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import dask
import h5py
import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from scipy import sparse
from sklearn.datasets import load_digits

import cvae
from cvae.data.intake import as_array, as_numbers, images_and_labels

BYTES = np.arange(12, dtype=np.uint8).reshape(3, 4)
FLOATS = BYTES / 16


class Tensor:
    """What PyTorch's tensors do: NumPy gets them on the CPU alone, and without gradients."""

    def __init__(self, values, device="cpu", requires_grad=False):
        self.values, self.device, self.requires_grad = values, SimpleNamespace(type=device), requires_grad
        self.shape, self.ndim = values.shape, values.ndim

    def detach(self):
        return Tensor(self.values, self.device.type)

    def cpu(self):
        return Tensor(self.values)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, i):
        return Tensor(self.values[i], self.device.type, self.requires_grad)

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad or self.device.type != "cpu":
            raise RuntimeError("Can't call numpy()")
        if self.values.dtype == np.int16:
            raise TypeError("Got unsupported ScalarType")
        return self.values


class Exporter:
    """An array of a library that has no other way to NumPy than DLPack."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **kwargs):
        return self.values.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class Examples:
    """What data sets of PyTorch do: a length, and an example for each number."""

    def __init__(self, *examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, i):
        return self.examples[i]


class SimpleCollection:
    """What groups of arrays in files do: a length, and an item for each name."""

    def __len__(self):
        return 1

    def __getitem__(self, name):
        raise KeyError(name)


def with_column(array, dtype):
    frame = pd.DataFrame(array)
    return frame.astype({0: dtype})


TAKEN = {
    "frame": (pd.DataFrame(BYTES), BYTES),
    "frame of nullable bytes": (pd.DataFrame(BYTES).astype("UInt8"), BYTES),
    "frame of nullable floats": (pd.DataFrame(FLOATS).astype("Float64"), FLOATS),
    "frame of nullable bools": ((pd.DataFrame(BYTES) > 3).astype("boolean"), BYTES > 3),
    "frame with a nullable column": (with_column(FLOATS, "Float32"), FLOATS),
    "frame of objects": (pd.DataFrame(FLOATS).astype(object), FLOATS),
    "column of arrays": (pd.Series([*FLOATS.reshape(3, 2, 2)]), FLOATS.reshape(3, 2, 2)),
    "objects": (np.array([[1, 0.5], [Decimal("0.25"), True]], object), np.array([[1, 0.5], [0.25, 1]])),
    "objects that are ints": (BYTES.astype(object), BYTES.astype(np.int64)),
    "tensor": (Tensor(FLOATS), FLOATS),
    "tensor with gradients": (Tensor(FLOATS, requires_grad=True), FLOATS),
    "DLPack": (Exporter(FLOATS.copy()), FLOATS),
    "buffer": (memoryview(FLOATS), FLOATS),
    "no mask": (np.ma.array(FLOATS), FLOATS),
    "list": (FLOATS.tolist(), FLOATS),
    "list of arrays": ([*FLOATS], FLOATS),
    "tuple of arrays": (tuple(BYTES), BYTES),
    "list of tensors": ([Tensor(row, requires_grad=True) for row in FLOATS], FLOATS),
    "list of pictures": ([Image.fromarray(BYTES), Image.fromarray(BYTES)], np.stack([BYTES, BYTES])),
    "list of black and white pictures": ([Image.fromarray(BYTES > 3)], (BYTES > 3)[np.newaxis]),
    "data set of images": (Examples(*FLOATS), FLOATS),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_arrays_of_many_kinds_are_taken_with_their_type(kind):
    given, expected = TAKEN[kind]
    found = as_numbers(given, "X")
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype
    assert type(found) is np.ndarray


@pytest.mark.parametrize("given", [FLOATS, pd.DataFrame(FLOATS.copy()), Tensor(FLOATS), np.ma.array(FLOATS)])
def test_nothing_is_copied_without_need(given):
    assert np.shares_memory(as_numbers(given, "X"), np.asarray(given))


def closed_dataset():
    with h5py.File("images", "w", driver="core", backing_store=False) as file:
        return file.create_dataset("images", data=FLOATS)


MISSING = pd.DataFrame(BYTES).astype("UInt8")
MISSING.iloc[1, 1] = pd.NA
PICTURE = Image.fromarray(np.zeros((4, 5, 3), np.uint8))

REFUSED = {
    "sparse matrix": (sparse.csr_matrix(FLOATS), TypeError, "X is sparse: use X.toarray()"),
    "sparse array": (sparse.coo_array(FLOATS), TypeError, "X is sparse: use X.toarray()"),
    "tensor on another device": (Tensor(FLOATS, "cuda"), TypeError, "pass X.cpu()"),
    "tensor of another type": (Tensor(BYTES.astype(np.int16)), TypeError, "of type Tensor: Got unsupported ScalarType"),
    "mask": (np.ma.masked_less(FLOATS, 0.1), ValueError, "must not have masked elements, got 2: pass X.filled"),
    "missing values": (MISSING, ValueError, "must not have missing values (NaN), got 1"),
    "None among objects": ([[0.5, None]], ValueError, "must not have missing values (NaN)"),
    "text": (np.array([["0", "1"]]), TypeError, "an array of bool, int or float, got dtype <U1"),
    "text as objects": (pd.DataFrame({"a": ["0", "1"]}), TypeError, "columns of numbers, got text in 'a'"),
    "other objects": (np.array([[{}, 1]]), TypeError, "float() argument must be a string or a real number, not 'dict'"),
    "complex": (1j * FLOATS, ValueError, "must hold real numbers, got dtype complex128"),
    "None": (None, TypeError, "got an object of type NoneType"),
    "path": ("digits.npy", TypeError, "pass cvae.datasets.load(X).images"),
    "paths": ([Path("1.png"), Path("2.png")], TypeError, "cvae.datasets.load reads files and folders"),
    "one picture": (PICTURE, TypeError, "it is one picture: pass [X]"),
    "pictures of unequal sizes": ([PICTURE, PICTURE, PICTURE.resize((4, 4))], ValueError,
                                  "must hold images of one shape, got (4, 5, 3) for image 0 and (4, 4, 3) for 2"),
    "picture with a palette": ([PICTURE.convert("P")], ValueError, "pass X[0].convert('RGB')"),
    "bytes among floats": ([FLOATS, BYTES], ValueError, "one dtype, got float64 for image 0 and uint8 for 1"),
    "ragged lists": ([[[0, 1], [1]]], ValueError, "must be an array: "),
    "images with labels": ([(FLOATS, 1), (FLOATS, 2)], TypeError,
                           "pass [item[0] for item in X], and the labels as y=[item[1] for item in X]"),
    "batches with labels": ([(FLOATS, [1, 2, 3])] * 2, TypeError, "pass np.concatenate([item[0] for item in X]), "
                            "and the labels as y=np.concatenate([item[1] for item in X])"),
    "data set with labels": (Examples((Tensor(FLOATS), 1)), TypeError, "pass [item[0] for item in X], and the labels"),
    "data set of tuples": (Examples((FLOATS,)), TypeError, "pass [item[0] for item in X]"),
    "data set of mappings": (Examples({"image": FLOATS, "label": 1}), TypeError, "keys 'image', 'label'"),
    "mapping": ({"x_train": FLOATS}, TypeError, "pass one of its values, 'x_train'"),
    "bunch": (load_digits(), TypeError, "an object of type Bunch: pass X['images']"),
    "collection without order": (SimpleCollection(), TypeError, "must be an array, got an object of type SimpleColl"),
    "data set of cvae": (cvae.datasets.load("mnist-sample"), TypeError, "of type Dataset: pass X.images"),
    "table": (SimpleNamespace(column_names=["image", "label"], features={}), TypeError, "pass X['image'] of its col"),
    "closed file": (closed_dataset(), TypeError, "of type Dataset: its file is closed: use it while that is open, or"),
    "delayed value": (dask.delayed(FLOATS), TypeError, "it is computed later: pass X.compute()"),
    "column of arrays in a frame": (pd.DataFrame({"label": [1, 2, 3], "image": [*FLOATS]}), TypeError,
                                    "got cells of type ndarray: pass np.stack(X['image'])"),
    "column of lists in a frame": (pd.DataFrame({"image": FLOATS.tolist()}), TypeError, "pass np.stack(X['image'])"),
    "polars' column of arrays": (pl.DataFrame({"image": pl.Series(FLOATS.tolist(), dtype=pl.Array(pl.Float32, 4))}),
                                 TypeError, "got cells of type ndarray: pass np.stack(X['image'])"),
    "table of arrays": (pd.DataFrame({"image": [*FLOATS]}).to_numpy(), TypeError, "pass np.stack(X[:, 0])"),
    "generator": ((image for image in [FLOATS]), TypeError, "fit takes it if it gives batches of images"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_taken_gets_an_error_that_says_what_to_pass(kind):
    given, error, message = REFUSED[kind]
    with pytest.raises(error, match=f"^X.*{re.escape(message)}"):
        as_numbers(given, "X")


@pytest.mark.parametrize("given", [closed_dataset(), dask.delayed(FLOATS)], ids=["closed file", "delayed value"])
def test_what_has_no_shape_is_refused_wherever_images_are_taken(given):
    vae = cvae.VAE("mlp", T=2, n_epochs=1, verbose=False).fit(FLOATS)
    validated = partial(cvae.VAE("mlp", T=2, n_epochs=1, verbose=False).fit, FLOATS)
    for call in (vae.fit, vae.transform, vae.error_map, lambda X: validated(validation_data=X), cvae.datasets.Blocks):
        with pytest.raises(TypeError, match=r"^\w+ must be an array, got an object of type \w+: it"):
            call(given)


def test_arrays_of_any_type_where_no_numbers_are_needed():
    assert as_array(["a", "b"], "y").tolist() == ["a", "b"]
    assert as_array(pd.Series(["a", "b"], dtype="category"), "y").tolist() == ["a", "b"]


IMAGES, LABELS = np.zeros((5, 4, 4)), np.arange(5)


@pytest.mark.parametrize(
    "images", [IMAGES, IMAGES.reshape(5, 16), IMAGES.tolist(), pd.DataFrame(IMAGES.reshape(5, 16))]
)
@pytest.mark.parametrize("labels", [LABELS, LABELS.tolist(), pd.Series(LABELS), None], ids=lambda y: type(y).__name__)
@pytest.mark.parametrize("pair", [tuple, list])
def test_a_pair_of_images_and_labels(images, labels, pair):
    found = images_and_labels(pair((images, labels)), "data")
    assert found[0] is images
    assert found[1] is labels


@pytest.mark.parametrize("data", [
    IMAGES, [*IMAGES], [*IMAGES[:2]], [IMAGES[0]], IMAGES.tolist(), IMAGES[:2].tolist(), [PICTURE, PICTURE],
    pd.DataFrame(IMAGES[0]), [Tensor(IMAGES[0]), Tensor(IMAGES[1])], [IMAGES[0], IMAGES[1, :3]],
])  # fmt: skip
def test_images_without_labels(data):
    images, labels = images_and_labels(data, "data")
    assert images is data
    assert labels is None


def test_a_list_of_pictures_and_their_labels():
    images, labels = images_and_labels([[PICTURE, PICTURE], [1, 0]], "data")
    assert images == [PICTURE, PICTURE]
    assert labels == [1, 0]


def test_memory_maps_become_plain_views(tmp_path):
    np.save(tmp_path / "x.npy", FLOATS)
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = as_numbers(X, "X")
    assert type(found) is np.ndarray
    assert np.shares_memory(found, X)


def test_images_alone_in_a_tuple_or_list():
    X = IMAGES[..., np.newaxis]
    for alone in ((X,), [X]):
        images, labels = images_and_labels(alone, "data")
        assert images is X
        assert labels is None


@pytest.mark.parametrize("n", [0, 3])
def test_tuples_of_other_lengths(n):
    with pytest.raises(ValueError, match=rf"^data must be images or a pair \(images, labels\), got a tuple of {n}$"):
        images_and_labels((IMAGES,) * n, "data")
