"""Loading of images: the built-in sample, IDX, .npy, .npz and pictures, and damaged files of each kind."""

import dataclasses
import gzip
import io
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from cvae import datasets
from cvae.datasets import Dataset, load

TYPE_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = np.array([7, 0, 9], np.uint8)


def idx_bytes(array):
    header = struct.pack(f">2xBB{array.ndim}I", TYPE_CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_mnist(folder, suffix=".gz", images=IMAGES, labels=LABELS):
    write(folder / f"train-images-idx3-ubyte{suffix}", idx_bytes(images))
    write(folder / f"train-labels-idx1-ubyte{suffix}", idx_bytes(labels))
    write(folder / f"t10k-images-idx3-ubyte{suffix}", idx_bytes(images[:2] + np.uint8(1)))
    write(folder / f"t10k-labels-idx1-ubyte{suffix}", idx_bytes(labels[:2]))
    return folder


def assert_is_mnist(dataset):
    np.testing.assert_array_equal(dataset.images, IMAGES[..., np.newaxis])
    np.testing.assert_array_equal(dataset.labels, LABELS)
    np.testing.assert_array_equal(dataset.test_images, IMAGES[:2, ..., np.newaxis] + 1)
    np.testing.assert_array_equal(dataset.test_labels, LABELS[:2])


def assert_refused(source, *words, file=None):
    """Assert that loading raises a one-line ValueError that contains the file's name and all `words`."""
    with pytest.raises(ValueError, match=re.escape(str(file or source))) as caught:
        load(source)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


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
        "<Dataset 'mnist-sample': 5000 images 28x28x1 uint8, labels, 1000 test images, test labels>"
    )
    assert repr(Dataset("a", np.zeros((2, 3, 4, 1)))) == "<Dataset 'a': 2 images 3x4x1 float64>"


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


def test_a_file_called_like_a_built_in_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mnist-sample", idx_bytes(IMAGES))
    assert len(load("mnist-sample").images) == 5000
    assert len(load("./mnist-sample").images) == 3


@pytest.fixture
def no_installed_data(tmp_path, monkeypatch):
    """Hide datasets installed on this machine and point CVAE_DATA to an empty folder."""
    data = tmp_path / "data"
    data.mkdir()
    find_idx = datasets._find_idx
    monkeypatch.setattr(
        datasets,
        "_find_idx",
        lambda folder, name: find_idx(folder, name) if tmp_path in folder.parents else None,
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("CVAE_DATA", str(data))
    return data


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("fashion-mnist", "fashion-mnist"),
        ("fashion-mnist", "FashionMNIST/raw"),
    ],
)
def test_known_names_are_found_in_cvae_data(no_installed_data, name, folder):
    write_mnist(no_installed_data / folder)
    dataset = load(name)
    assert dataset.name == name
    assert_is_mnist(dataset)


@pytest.mark.parametrize("cvae_data", [None, "", "nowhere"])
def test_known_names_are_found_where_keras_keeps_them(no_installed_data, monkeypatch, tmp_path, cvae_data):
    if cvae_data is None:
        monkeypatch.delenv("CVAE_DATA")
    else:
        monkeypatch.setenv("CVAE_DATA", cvae_data)
    keras = tmp_path / ".keras" / "datasets"
    write_mnist(keras / "fashion-mnist")
    assert_is_mnist(load("fashion-mnist"))
    np.savez(keras / "mnist.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:1], y_test=[1])
    assert len(load("mnist").test_images) == 1


def test_known_names_are_not_downloaded(no_installed_data):
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist")
    message = str(caught.value)
    assert str(no_installed_data) in message
    assert "CVAE_DATA" in message
    assert "train-images-idx3-ubyte.gz" in message
    assert "Debian" not in message
    with pytest.raises(FileNotFoundError, match="Debian's package dataset-fashion-mnist"):
        load("fashion-mnist")


# IDX


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_folder_of_idx_files(tmp_path, suffix):
    dataset = load(write_mnist(tmp_path, suffix))
    assert dataset.name == str(tmp_path)
    assert_is_mnist(dataset)


def test_idx_files_spelled_with_a_dot(tmp_path):
    for path in write_mnist(tmp_path, suffix="").iterdir():
        path.rename(tmp_path / path.name.replace("-idx", ".idx"))
    assert_is_mnist(load(tmp_path))


def test_folder_of_training_images_alone(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", idx_bytes(IMAGES))
    dataset = load(tmp_path)
    assert dataset.labels is dataset.test_images is dataset.test_labels is None


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"])
def test_folder_of_idx_labels_without_images(tmp_path, name):
    (write_mnist(tmp_path, suffix="") / name).unlink()
    assert_refused(tmp_path, f"{name} is missing")


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"])
def test_folder_of_idx_files_whose_counts_disagree(tmp_path, name):
    path = write(write_mnist(tmp_path, suffix="") / name, idx_bytes(np.zeros(9, np.uint8)))
    assert_refused(tmp_path, "one label for each of the", "got labels of shape (9,)", file=path)


def test_folder_with_a_damaged_idx_file_names_the_file(tmp_path):
    path = write(write_mnist(tmp_path) / "t10k-images-idx3-ubyte.gz", b"\0\0\x08\x03")
    assert_refused(tmp_path, "truncated in its header, after 4 bytes", file=path)


@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images.idx.gz"])
@pytest.mark.parametrize("dtype", TYPE_CODES)
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2)])
def test_every_type_code(tmp_path, name, dtype, shape):
    values = np.random.default_rng(0).uniform(-100, 100, shape).astype(dtype)
    dataset = load(write(tmp_path / name, idx_bytes(values)))
    np.testing.assert_array_equal(dataset.images, values.reshape(3, 4, 5, -1))
    assert dataset.images.dtype == np.dtype(dtype)
    assert dataset.images.dtype.isnative


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    packed = write(tmp_path / "packed", gzip.compress(idx_bytes(IMAGES)))
    plain = tmp_path / "plain.gz"
    plain.write_bytes(idx_bytes(IMAGES))
    assert len(load(packed).images) == len(load(plain).images) == 3


def test_flat_images_need_image_shape(tmp_path):
    path = write(tmp_path / "flat.idx", idx_bytes(IMAGES.reshape(3, 20)))
    assert_refused(path, "needs image_shape")
    dataset = load(path, image_shape=(4, 5))
    np.testing.assert_array_equal(dataset.images, IMAGES[..., np.newaxis])


def test_image_shape_must_match(tmp_path):
    path = write(tmp_path / "images.idx", idx_bytes(IMAGES))
    assert load(path, image_shape=(4, 5, 1)).images.shape == (3, 4, 5, 1)
    with pytest.raises(ValueError, match=r"images of shape \(5, 4, 1\), got \(4, 5, 1\)"):
        load(path, image_shape=(5, 4))
    with pytest.raises(TypeError, match="image_shape must be 2 or 3 ints"):
        load(path, image_shape=20)


IDX = idx_bytes(IMAGES)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["truncated in its header, after 0 bytes"]),
        (IDX[:3], ["truncated in its header, after 3 bytes"]),
        (IDX[:15], ["truncated in its header, after 15 bytes"]),
        (IDX[:16], ["truncated", "60 bytes"]),
        (IDX[:-1], ["truncated", "(3, 4, 5)", "60 bytes"]),
        (IDX + b"\0", ["bytes follow"]),
        (b"\x01" + IDX[1:], ["must start with 00 00", "got 01 00 08 03"]),
        (b"\0\0\x0a\x03" + IDX[4:], ["type code", "got 00 00 0a 03"]),
        (b"\0\0\x08\0", ["1 to 4 dimensions", "got 00 00 08 00"]),
        (b"\0\0\x08\x05" + bytes(100), ["1 to 4 dimensions", "got 00 00 08 05"]),
        (b"a text, not an image", ["must start with 00 00", "got 61 20 74 65"]),
        (idx_bytes(LABELS), ["holds labels"]),
        (idx_bytes(IMAGES[:0]), ["at least one image", "(0, 4, 5)"]),
        (struct.pack(">2xBB3I", 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), ["truncated"]),
    ],
)
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_damaged_idx_files(tmp_path, name, content, words):
    assert_refused(write(tmp_path / name, content), *words)


PACKED = gzip.compress(IDX, mtime=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PACKED[:1], ["truncated in its header"]),
        (PACKED[:5], ["ended before"]),
        (PACKED[:30], ["ended before"]),
        (PACKED[:-1], ["ended before"]),
        (PACKED[:-8] + b"\1\2\3\4" + PACKED[-4:], ["CRC"]),
        (PACKED[:10] + b"\xff" * 20 + PACKED[30:], ["decompressing"]),
        (PACKED + b"more", ["Not a gzipped file"]),
        (b"\x1f\x8b\xff" + PACKED[3:], ["compression method"]),
    ],
)
def test_damaged_gzip_files(tmp_path, content, words):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    assert_refused(path, "not a valid IDX file", *words)


def test_truncated_gzip_says_how_much_is_missing(tmp_path):
    assert_refused(write(tmp_path / "images.gz", IDX[:-10]), "announces 60 bytes", "holds 50")


def test_big_gzip_is_read_with_little_memory(tmp_path):
    images = np.zeros((4000, 64, 64), np.float32)
    images[:, ::16] = np.random.default_rng(0).random(64, np.float32)
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(images), 1))
    tracemalloc.start()
    try:
        dataset = load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(dataset.images[..., 0], images)
    assert peak < images.nbytes * 1.1


def test_no_memory_is_asked_for_a_false_header(tmp_path):
    header = struct.pack(">2xBB3I", 8, 3, 2**10, 2**10, 2**10)
    for name in ("images", "images.gz"):
        path = write(tmp_path / name, header + bytes(100))
        tracemalloc.start()
        try:
            assert_refused(path, "truncated", f"{2**30} bytes")
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()


# .npy


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 3)])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32", ">f8"])
def test_npy_is_memory_mapped(tmp_path, dtype, shape):
    X = (np.random.default_rng(0).random(shape) * 2).astype(dtype)
    np.save(tmp_path / "x.npy", X)
    images = load(tmp_path / "x.npy").images
    np.testing.assert_array_equal(images, X.reshape(3, 4, 5, -1))
    assert images.dtype == X.dtype
    assert not images.flags.writeable
    base = images
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_npy_in_fortran_order_and_upper_case(tmp_path):
    with open(tmp_path / "x.NPY", "wb") as stream:
        np.save(stream, np.asfortranarray(IMAGES))
    np.testing.assert_array_equal(load(tmp_path / "x.NPY").images, IMAGES[..., np.newaxis])


def test_flat_npy_needs_image_shape(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, IMAGES.reshape(3, 20))
    assert_refused(path, "needs image_shape")
    assert load(path, image_shape=(4, 5)).images.shape == (3, 4, 5, 1)


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


NPY = npy_bytes(IMAGES)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["not a valid .npy file"]),
        (NPY[:20], ["not a valid .npy file"]),
        (NPY[:-1], ["not a valid .npy file"]),
        (NPY + NPY, ["bytes follow"]),
        (b"a text, not an array", ["not a valid .npy file", "magic"]),
        (npy_bytes(np.array([[[None, 1]]], object)), ["not a valid .npy file", "objects"]),
        (npy_bytes(IMAGES.astype(complex)), ["real numbers", "complex128"]),
        (npy_bytes(IMAGES.astype(str)), ["bool, int or float", "<U"]),
        (npy_bytes(LABELS), ["(3,)"]),
        (npy_bytes(IMAGES[:0]), ["at least one image"]),
    ],
)
def test_damaged_npy_files(tmp_path, content, words):
    assert_refused(write(tmp_path / "x.npy", content), *words)


# .npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("images", "labels", "test_images", "test_labels"),
    [
        ("images", "labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("X", "y", "X_test", "y_test"),
        ("arr_0", "labels", "x_test", "y_test"),
    ],
)
def test_npz_keys(tmp_path, save, images, labels, test_images, test_labels):
    arrays = {images: IMAGES, labels: LABELS, test_images: IMAGES[:2] + 1, test_labels: LABELS[:2]}
    save(tmp_path / "x.npz", **arrays)
    assert_is_mnist(load(tmp_path / "x.npz"))


def test_npz_of_images_alone(tmp_path):
    np.savez(tmp_path / "x.npz", IMAGES / 255)
    dataset = load(tmp_path / "x.npz")
    np.testing.assert_array_equal(dataset.images[..., 0], IMAGES / 255)
    assert dataset.labels is None


def test_flat_npz_needs_image_shape(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x_train=IMAGES.reshape(3, 20), x_test=IMAGES.reshape(3, 20))
    assert_refused(path, "needs image_shape")
    assert load(path, image_shape=(4, 5)).test_images.shape == (3, 4, 5, 1)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": IMAGES, "labels": LABELS}, ["['pictures', 'labels']", "x_train"]),
        ({"images": IMAGES, "extra": LABELS}, ["['images', 'extra']"]),
        ({"images": IMAGES, "arr_0": IMAGES}, ["at most one of each", "['images', 'arr_0']"]),
        ({"labels": LABELS}, ["['labels']"]),
        ({}, ["[]"]),
        ({"images": IMAGES, "labels": LABELS[:2]}, ["each of the 3 images", "(2,)"]),
        ({"images": IMAGES, "labels": LABELS[:2, None]}, ["each of the 3 images", "(2, 1)"]),
        ({"images": IMAGES, "test_labels": LABELS}, ["labels but no images"]),
        ({"images": IMAGES, "test_images": IMAGES[:, 1:]}, ["(4, 5, 1), got (3, 5, 1)"]),
        ({"images": IMAGES.astype(object)}, ["not a valid .npz file", "allow_pickle"]),
        ({"images": IMAGES, "labels": LABELS.astype(object)}, ["allow_pickle"]),
        ({"images": IMAGES.astype(complex)}, ["real numbers", "complex"]),
        ({"images": IMAGES, "test_images": LABELS}, ["test_images must have the shape", "(3,)"]),
    ],
)
def test_npz_files_that_do_not_fit(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    assert_refused(tmp_path / "x.npz", *words)


def test_damaged_npz_files(tmp_path):
    path = tmp_path / "x.npz"
    for content in (b"", b"a text", NPY):
        assert_refused(write(path, content), "not a complete zip archive")
    np.savez(path, images=IMAGES)
    content = path.read_bytes()
    assert_refused(write(path, content[:-30]), "not a complete zip archive")
    pixels = content.index(IMAGES.tobytes())
    damaged = content[:pixels] + b"\xff" + content[pixels + 1 :]
    assert_refused(write(path, damaged), "not a valid .npz file", "CRC")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", NPY[:-1])
    assert_refused(path, "not a valid .npz file")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", "no array")
    assert_refused(path, "bool, int or float")


# pictures


@pytest.fixture
def save_picture(tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="pictures need Pillow")

    def save(name, pixels, mode=None, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = image_module.fromarray(np.asarray(pixels, np.uint8))
        (picture.convert(mode) if mode else picture).save(path, **options)
        return path

    return save


GREY = np.random.default_rng(0).integers(0, 256, (4, 6, 5), dtype=np.uint8)
RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "pgm", "tif", "tiff", "PNG"])
def test_folder_of_grey_pictures(tmp_path, save_picture, suffix):
    for i in (2, 0, 3, 1):
        save_picture(f"digit{i}.{suffix}", GREY[i])
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_text("not a picture")
    (tmp_path / ".cache").mkdir()
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset.images, GREY[..., np.newaxis])
    assert dataset.images.dtype == np.uint8
    assert dataset.labels is None


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif"])
def test_folder_of_colour_pictures(tmp_path, save_picture, suffix):
    for i in range(4):
        save_picture(f"{i}.{suffix}", RGB[i])
    np.testing.assert_array_equal(load(tmp_path).images, RGB)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG"])
def test_folder_of_jpeg_pictures(tmp_path, save_picture, suffix):
    for i in range(2):
        save_picture(f"{i}.{suffix}", np.full((8, 8, 3), 100 * i), quality=95)
    images = load(tmp_path).images
    assert images.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(images[:, 0, 0, 0], [0, 100])


def test_one_picture(save_picture):
    path = save_picture("digit.png", GREY[0])
    np.testing.assert_array_equal(load(path).images, GREY[:1, ..., np.newaxis])


def test_subfolders_are_classes(tmp_path, save_picture):
    save_picture("dog/b.png", GREY[3])
    save_picture("cat/z.png", GREY[1])
    save_picture("cat/a.png", GREY[0])
    save_picture("dog/a.png", GREY[2])
    (tmp_path / "README").write_text("not a picture")
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset.images, GREY[..., np.newaxis])
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.class_names == ("cat", "dog")


def test_pictures_beside_subfolders(tmp_path, save_picture):
    save_picture("a.png", GREY[0])
    save_picture("cat/a.png", GREY[1])
    assert_refused(tmp_path, "pictures and subfolders")


def test_folders_without_pictures(tmp_path, save_picture):
    assert_refused(tmp_path, "holds no pictures")
    save_picture("cat/a.png", GREY[0])
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "folder.png").mkdir()
    assert_refused(tmp_path, "holds no pictures", file=tmp_path / "dog")


@pytest.mark.parametrize(
    ("pixels", "mode", "words"),
    [
        (GREY[1][:, 1:], None, ["size and mode of a.png, (6, 5), got (6, 4)"]),
        (RGB[1], None, ["size and mode of a.png, (6, 5), got (6, 5, 3)"]),
        (RGB[1], "RGBA", ["must be one 8-bit grey or RGB picture", "without transparency", "mode RGBA"]),
        (GREY[1], "LA", ["must be one 8-bit grey or RGB picture", "without transparency", "mode LA"]),
        (GREY[1], "I;16", ["must be one 8-bit grey or RGB picture", "mode I;16"]),
        (RGB[1], "P", ["size and mode of a.png, (6, 5), got (6, 5, 3)"]),
    ],
)
def test_pictures_that_do_not_fit(tmp_path, save_picture, pixels, mode, words):
    save_picture("a.png", GREY[0])
    path = save_picture("b.png", pixels, mode)
    assert_refused(tmp_path, *words, file=path)


def test_pictures_of_one_bit_or_with_a_palette(tmp_path, save_picture):
    black_and_white, few_colours = 255 * (GREY[0] & 1), 255 * (RGB[0] & 1)
    path = save_picture("bits.png", black_and_white, "1")
    np.testing.assert_array_equal(load(path).images[0, ..., 0], black_and_white)
    for name in ("colours.png", "colours.gif"):
        path = save_picture(name, few_colours, "P")
        np.testing.assert_array_equal(load(path).images[0], few_colours)


def test_pictures_with_a_transparent_colour(save_picture):
    path = save_picture("a.png", 255 * (RGB[0] & 1), "P", transparency=0)
    assert_refused(path, "without transparency", "mode P")


def test_moving_pictures(tmp_path, save_picture):
    image_module = pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    frames = [image_module.fromarray(pixels) for pixels in GREY]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert_refused(tmp_path / "film.gif", "must be one 8-bit grey or RGB picture", "got 4")


def test_damaged_pictures(tmp_path, save_picture):
    path = save_picture("a.png", GREY[0])
    content = path.read_bytes()
    for damaged in (b"", b"a text", content[:60], content[:20], NPY):
        assert_refused(write(path, damaged), "not a valid picture")


def test_pictures_without_pillow(tmp_path, monkeypatch):
    write(tmp_path / "a.png", b"")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"needs Pillow: pip install 'cvae-cpu\[plot\]'"):
        load(tmp_path)


def test_pillow_is_imported_only_where_it_is_needed():
    code = "import sys; from cvae.datasets import load; load('mnist-sample')"
    code += "; assert 'PIL' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
