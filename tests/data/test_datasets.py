"""The built-in sample, what a source may be, and the set that comes of it."""

import dataclasses

import numpy as np
import pytest
from data_files import IMAGES, RGB, assert_refused, idx_bytes, save_picture, write

from cvae import datasets
from cvae.datasets import Dataset, load

# the sample


@pytest.fixture(scope="module")
def sample():
    return load("mnist-sample")


def test_sample_is_mnist(sample):
    assert sample.name == "mnist-sample"
    assert sample.images.shape == (5000, 28, 28, 1)
    assert sample.test_images.shape == (1000, 28, 28, 1)
    for array in (sample.images, sample.labels, sample.test_images, sample.test_labels):
        assert array.dtype == np.uint8
    counts = [493, 557, 493, 526, 469, 441, 523, 525, 507, 466]
    assert np.bincount(sample.labels).tolist() == counts
    test_counts = [104, 116, 99, 103, 91, 79, 105, 112, 94, 97]
    assert np.bincount(sample.test_labels).tolist() == test_counts
    assert sample.images.sum(dtype=np.int64) == 131_255_132
    assert sample.test_images.sum(dtype=np.int64) == 26_023_321
    assert sample.images.max() == 255


def test_sample_has_no_image_twice(sample):
    images = np.concatenate([sample.images, sample.test_images]).reshape(6000, -1)
    assert len(np.unique(images, axis=0)) == 6000


def test_sample_is_in_random_order(sample):
    for labels in np.split(sample.labels, 10):
        assert np.bincount(labels, minlength=10).min() > 25


def test_sample_labels_belong_to_the_images(sample):
    X, X_test = (x.reshape(len(x), -1) / 255 for x in (sample.images, sample.test_images))
    means = np.stack([X[sample.labels == digit].mean(axis=0) for digit in range(10)])
    distances = (means**2).sum(axis=1) - 2 * X_test @ means.T
    assert (distances.argmin(axis=1) == sample.test_labels).mean() > 0.75


# Dataset


def test_repr(sample):
    assert repr(sample) == (
        "Dataset('mnist-sample': images 5000x28x28x1 uint8 from 0 to 255; labels 10 classes; "
        "test_images 1000x28x28x1 uint8 from 0 to 255; test_labels 10 classes)"
    )
    assert repr(Dataset("a", np.zeros((2, 3, 4, 1)))) == "Dataset('a': images 2x3x4x1 float64 from 0 to 0)"
    images = np.linspace(-1, 1, 48).reshape(4, 3, 4, 1)
    of_folder = Dataset("a", images, np.zeros(4, int), class_names=("cat",), filenames=tuple("abcd"))
    assert repr(of_folder) == (
        "Dataset('a': images 4x3x4x1 float64 from -1 to 1; labels 1 class; class_names cat; filenames a, ...)"
    )
    assert "; labels of 2 numbers)" in repr(Dataset("a", images, np.zeros((4, 2))))
    assert "; labels from -1.5 to 2)" in repr(Dataset("a", images, np.array([0, -1.5, 2, 1])))


def test_dataset_is_frozen(sample):
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.name = "other"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"labels": np.zeros(4)},
            r"one label for each of the 3 images, got labels of shape \(4,\)",
        ),
        ({"labels": np.zeros((3, 2, 1))}, r"got labels of shape \(3, 2, 1\)"),
        ({"test_labels": np.zeros(3)}, "labels but no images"),
        (
            {"test_images": np.zeros((2, 4, 4, 1)), "test_labels": np.zeros(3)},
            r"\(test\).*each of the 2 images",
        ),
        ({"test_images": np.zeros((2, 5, 4, 1))}, r"\(4, 4, 1\), got \(5, 4, 1\)"),
        ({"val_images": np.zeros((2, 5, 4, 1))}, r"\(4, 4, 1\), got \(5, 4, 1\)"),
        ({"filenames": ("a",)}, "one filename for each of the 3 images"),
        ({"test_filenames": ("a",)}, "one filename for each of the 0 images"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    with pytest.raises(ValueError, match=f"^toy.*{message}"):
        Dataset("toy", np.zeros((3, 4, 4, 1)), **fields)


# sources


def test_names():
    assert datasets.names() == ("mnist-sample", "mnist", "fashion-mnist")


@pytest.mark.parametrize("source", ["no-such-thing", "no/such/file.npy", ""])
def test_unknown_source(source):
    with pytest.raises(FileNotFoundError, match=f"mnist-sample, mnist, fashion-mnist, got '{source}'"):
        load(source)


@pytest.mark.parametrize("source", [None, 5, np.zeros((3, 4, 4)), b"mnist-sample"])
def test_source_of_a_wrong_type(source):
    with pytest.raises(TypeError, match="source must be a built-in name or a path, got"):
        load(source)


def test_a_path_may_be_a_string_or_a_path(tmp_path):
    path = write(tmp_path / "images", idx_bytes(IMAGES))
    for source in (path, str(path)):
        dataset = load(source)
        np.testing.assert_array_equal(dataset.images, IMAGES[..., np.newaxis])
        assert dataset.name == str(path)


def test_the_home_folder(tmp_path, monkeypatch):
    write(tmp_path / "images", idx_bytes(IMAGES))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert len(load("~/images").images) == 3


def test_a_file_called_like_a_built_in_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mnist-sample", idx_bytes(IMAGES))
    assert len(load("mnist-sample").images) == 5000
    assert len(load("./mnist-sample").images) == 3


def test_a_shape_that_does_not_match_says_what_helps(tmp_path):
    path = save_picture(tmp_path / "a.png", RGB[0])
    with pytest.raises(ValueError, match=r"shape \(3, 3, 1\), got \(6, 5, 3\); pass resize=\(3, 3\) .* and grey=True"):
        load(path, image_shape=(3, 3))
    assert load(path, image_shape=(3, 3), resize=3, grey=True).images.shape == (1, 3, 3, 1)
    np.save(tmp_path / "x.npy", IMAGES)
    with pytest.raises(ValueError, match=r"\(4, 4, 3\), got \(4, 5, 1\); pass resize=\(4, 4\) .* and grey=False"):
        load(tmp_path / "x.npy", image_shape=(4, 4, 3))
    assert_refused(write(tmp_path / "y.npy", b"x" * 200), "not a valid .npy file")
