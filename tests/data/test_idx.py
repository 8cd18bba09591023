"""IDX files, alone and in folders, gzipped or not; damaged ones and false headers."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from data_files import IMAGES, LABELS, TYPE_CODES, assert_is_mnist, assert_refused, idx_bytes, write, write_mnist

from cvae.datasets import load


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
        (IDX[:3], ["truncated in its header, after 3 bytes"]),
        (IDX[:15], ["truncated in its header, after 15 bytes"]),
        (IDX[:16], ["truncated", "60 bytes"]),
        (IDX[:-1], ["truncated", "(3, 4, 5)", "60 bytes"]),
        (IDX + b"\0", ["bytes follow"]),
        (b"\0\0\x08\0", ["1 to 4 dimensions", "got 00 00 08 00"]),
        (b"\0\0\x08\x05" + bytes(100), ["1 to 4 dimensions", "got 00 00 08 05"]),
        (idx_bytes(LABELS), ["holds labels"]),
        (idx_bytes(IMAGES[:0]), ["at least one image", "(0, 4, 5)"]),
        (struct.pack(">2xBB3I", 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), ["truncated"]),
    ],
)
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_damaged_idx_files(tmp_path, name, content, words):
    assert_refused(write(tmp_path / name, content), *words)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"\x01" + IDX[1:], "the bytes 01 00 08 03"),
        (b"\0\0\x0a\x03" + IDX[4:], "the bytes 00 00 0a 03"),
        (b"a text, not an image", "text that starts with 'a text, not an image'"),
        (bytes(257) + b"ustar", "a tar archive; unpack it"),
    ],
)
def test_files_that_are_no_idx_files(tmp_path, content, found):
    assert_refused(write(tmp_path / "images", content), "must be a picture, a folder of pictures, .npy", found)
    assert_refused(write(tmp_path / "images.gz", content), "a gzip file, to be unpacked, of", found)


def test_a_name_of_mnist_says_what_a_damaged_file_should_be(tmp_path):
    for suffix in ("", ".gz"):
        path = write(tmp_path / f"t10k-images-idx3-ubyte{suffix}", b"damaged")
        assert_refused(path, "not a valid IDX file: it must start with 00 00, a type code", "got 64 61 6d 61")


PACKED = gzip.compress(IDX, mtime=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
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


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_of_other_sets_are_those_of_one_name(tmp_path, suffix):
    names = {
        "train-images-idx3": IMAGES,
        "train-labels-idx1": LABELS,
        "test-images-idx3": IMAGES,
        "test-labels-idx1": LABELS,
    }
    for name, array in names.items():
        write(tmp_path / f"emnist-digits-{name}-ubyte{suffix}", idx_bytes(array))
    dataset = load(tmp_path)
    for images in (dataset.images, dataset.test_images):
        np.testing.assert_array_equal(images[..., 0], IMAGES)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    np.testing.assert_array_equal(dataset.test_labels, LABELS)
    write(tmp_path / "emnist-letters-train-images-idx3-ubyte", idx_bytes(IMAGES))
    assert_refused(tmp_path, "one set, got those of emnist-digits-, emnist-letters-; move others away")
    write_mnist(tmp_path)
    assert_is_mnist(load(tmp_path))
