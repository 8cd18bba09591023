"""NumPy's files, .npy and .npz; damaged ones and false headers."""

import re
import tracemalloc
import zipfile

import numpy as np
import pytest
from data_files import IMAGES, LABELS, NPY, assert_is_mnist, assert_refused, npy_bytes, write

from cvae import VAE
from cvae.datasets import load


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["not a valid .npy file"]),
        (NPY[:20], ["not a valid .npy file"]),
        (NPY[:-1], ["not a valid .npy file"]),
        (NPY + NPY, ["bytes follow"]),
        (b"a text, not an array", ["not a valid .npy file", "magic"]),
        (npy_bytes(np.array([[[None, 1]]], object)), ["Python objects", "numpy.stack(images)"]),
        (npy_bytes(IMAGES.astype(complex)), ["real numbers", "complex128"]),
        (npy_bytes(IMAGES.astype(str)), ["bool, int or float", "<U"]),
        (npy_bytes(LABELS), ["(3,)"]),
        (npy_bytes(IMAGES[:0]), ["at least one image"]),
    ],
)
def test_damaged_npy_files(tmp_path, content, words):
    assert_refused(write(tmp_path / "x.npy", content), *words)


def test_an_npy_file_and_an_npz_file_may_have_the_name_of_the_other(tmp_path):
    np.testing.assert_array_equal(load(write(tmp_path / "x.npz", NPY)).images[..., 0], IMAGES)
    np.savez(tmp_path / "y.npz", images=IMAGES, labels=LABELS)
    (tmp_path / "y.npz").rename(tmp_path / "y.npy")
    for source in (tmp_path / "y.npy", f"{tmp_path / 'y.npy'}:images"):
        dataset = load(source)
        np.testing.assert_array_equal(dataset.images[..., 0], IMAGES)
        np.testing.assert_array_equal(dataset.labels, LABELS)


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
        ("train-images", "train-labels", "test-images", "test-labels"),
    ],
)
def test_npz_keys(tmp_path, save, images, labels, test_images, test_labels):
    arrays = {images: IMAGES, labels: LABELS, test_images: IMAGES[:2] + 1, test_labels: LABELS[:2]}
    save(tmp_path / "x.npz", **arrays)
    assert_is_mnist(load(tmp_path / "x.npz"))


def test_npz_labels_of_bytes_are_text(tmp_path):
    labels = np.array([b"cat", "dög".encode(), b"d\xf6g"])
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=labels, val_images=IMAGES, val_labels=labels[:, np.newaxis])
    dataset = load(tmp_path / "x.npz")
    for found in (dataset.labels, dataset.val_labels):
        assert found.dtype.kind == "U"
        assert found.tolist() == ["cat", "dög", "d\\xf6g"]


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
        ({"a": IMAGES, "b": IMAGES}, ["x_train", "got a (3, 4, 5) uint8, b (3, 4, 5) uint8", "colon, x.npz:NAME"]),
        ({"images": IMAGES, "arr_0": IMAGES}, ["one array of images, got images and arr_0", "colon, x.npz:arr_0"]),
        ({"labels": LABELS}, ["x_train", "got labels (3,) uint8"]),
        ({"test_images": IMAGES}, ["x_train", "got test_images (3, 4, 5) uint8"]),
        ({}, ["must hold arrays, as numpy.savez writes them, got a ZIP archive of nothing"]),
        ({"images": IMAGES, "labels": LABELS[:2]}, ["each of the 3 images", "(2,)"]),
        ({"images": IMAGES, "labels": LABELS[:2, None]}, ["each of the 3 images", "(2, 1)"]),
        ({"images": IMAGES, "test_labels": LABELS}, ["labels but no images"]),
        ({"images": IMAGES, "test_images": IMAGES[:, 1:]}, ["(4, 5, 1), got (3, 5, 1)"]),
        ({"images": IMAGES.astype(object)}, ["images must be an array of bool, int or float", "Python objects"]),
        ({"images": IMAGES.astype(complex)}, ["bool, int or float", "complex"]),
        ({"images": IMAGES, "test_images": LABELS}, ["test_images must have the shape", "(3,)"]),
    ],
)
def test_npz_files_that_do_not_fit(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    assert_refused(tmp_path / "x.npz", *words)


def test_damaged_npz_files(tmp_path):
    path = tmp_path / "x.npz"
    for content in (b"", b"a text", NPY[1:]):
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
    assert_refused(path, "got a ZIP archive of images; unpack it")


def test_the_only_images_need_no_known_name_and_other_arrays_are_told_of(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, imgs_of_mine=IMAGES, latents=np.zeros((3, 6)), notes=np.array({"a": 1}, object))
    with pytest.warns(UserWarning, match=r"x\.npz: 2 in it not read, as no images: latents, notes"):
        dataset = load(path)
    np.testing.assert_array_equal(dataset.images[..., 0], IMAGES)
    np.savez(path, X=IMAGES, Y=LABELS.astype(str))
    assert load(path).labels.tolist() == ["7", "0", "9"]
    np.savez(path, X=IMAGES, Y=LABELS)
    assert_is_same(load(path), IMAGES, LABELS)


def assert_is_same(dataset, images, labels):
    np.testing.assert_array_equal(dataset.images[..., 0], images)
    np.testing.assert_array_equal(dataset.labels, labels)


def test_an_array_is_named_after_a_colon(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=IMAGES, b=IMAGES + 1)
    dataset = load(f"{path}:b")
    assert dataset.name == f"{path}:b"
    np.testing.assert_array_equal(dataset.images[..., 0], IMAGES + 1)
    with pytest.raises(ValueError, match=r"must hold an array 'c', got a \(3, 4, 5\) uint8, b"):
        load(f"{path}:c")
    np.save(tmp_path / "x.npy", IMAGES)
    with pytest.raises(ValueError, match=r"must be \.npz, HDF5 or Zarr for a name after a colon"):
        load(f"{tmp_path / 'x.npy'}:b")


def test_medmnists_names_and_columns_of_labels(tmp_path):
    path, column = tmp_path / "x.npz", LABELS[:, np.newaxis]
    arrays = {
        f"{part}_{what}": x
        for part in ("train", "val", "test")
        for what, x in zip(("images", "labels"), (IMAGES, column), strict=True)
    }
    np.savez(path, **arrays)
    dataset = load(path)
    assert dataset.val_images.shape == dataset.test_images.shape == (3, 4, 5, 1)
    for labels in (dataset.labels, dataset.val_labels, dataset.test_labels):
        assert labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint64"])
def test_wide_integers_that_are_bytes_become_bytes(tmp_path, dtype):
    np.savez(tmp_path / "x.npz", x_train=IMAGES.astype(dtype), x_test=IMAGES[:1].astype(dtype))
    dataset = load(tmp_path / "x.npz")
    assert dataset.images.dtype == dataset.test_images.dtype == np.uint8
    np.testing.assert_array_equal(dataset.images[..., 0], IMAGES)


@pytest.mark.parametrize("change", [lambda x: x - 1, lambda x: x + 250, lambda x: x % 2, lambda x: x.astype("int16")])
def test_other_integers_stay_as_they_are(tmp_path, change):
    images = change(IMAGES.astype("int64"))
    np.save(tmp_path / "x.npy", images)
    dataset = load(tmp_path / "x.npy")
    assert dataset.images.dtype == images.dtype
    np.testing.assert_array_equal(dataset.images[..., 0], images)


def test_arrays_in_fortran_order_within_archives(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", images=np.asfortranarray(IMAGES))
    np.testing.assert_array_equal(load(tmp_path / "x.npz").images[..., 0], IMAGES)


def archive_of(path, method=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_numpy_does_not_write(tmp_path, method):
    assert_refused(archive_of(tmp_path / "x.npz", method, images=NPY), "compressed by method")


def test_encrypted_archives(tmp_path):
    content = bytearray(archive_of(tmp_path / "x.npz", images=NPY).read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + offset] |= 1
    assert_refused(write(tmp_path / "x.npz", bytes(content)), "encrypted")


def npy_header(text):
    text = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


FALSE_HEADERS = [
    npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000), }"),
    npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4, 5), }"),
    npy_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**63}, {2**63}, 5), }}"),
    npy_header("{'descr': " + "-" * 9000 + "1}"),
    npy_header("[" * 9000),
    npy_header("{'descr': ('|u1', (4000000000,)), 'fortran_order': False, 'shape': (3, 4, 5), }"),
    npy_header("\0"),
]


@pytest.mark.parametrize("header", FALSE_HEADERS, ids=range(len(FALSE_HEADERS)))
def test_no_memory_is_asked_for_a_false_header(tmp_path, header):
    paths = [write(tmp_path / "x.npy", header + bytes(100))]
    paths.append(archive_of(tmp_path / "a.npz", images=header + bytes(100)))
    paths.append(archive_of(tmp_path / "b.npz", images=NPY, labels=header + bytes(100)))
    for path in paths:
        tracemalloc.start()
        try:
            assert_refused(path)
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()


def test_what_does_not_fit_or_follows_is_not_inflated(tmp_path):
    labels = npy_bytes(np.zeros(1 << 26, np.uint8))
    for members in ({"images": NPY, "labels": labels}, {"images": NPY + bytes(1 << 26)}):
        path = archive_of(tmp_path / "x.npz", **members)
        tracemalloc.start()
        try:
            assert_refused(path)
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()


def test_archives_are_read_into_place(tmp_path):
    images = np.random.default_rng(0).random((500, 64, 64), np.float32)
    np.savez_compressed(tmp_path / "x.npz", images)
    tracemalloc.start()
    try:
        dataset = load(tmp_path / "x.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(dataset.images[..., 0], images)
    assert peak < images.nbytes * 1.4


@pytest.mark.parametrize(
    "labels", [LABELS.astype(object), LABELS.astype(complex), LABELS.astype("M8[s]"), np.zeros((3, 4, 5), np.uint8)]
)
def test_labels_that_are_none_do_not_keep_images_from_being_read(tmp_path, labels):
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=labels)
    with pytest.warns(UserWarning, match="1 in it not read, as no images: labels of "):
        dataset = load(tmp_path / "x.npz")
    np.testing.assert_array_equal(dataset.images[..., 0], IMAGES)
    assert dataset.labels is None


def test_images_that_are_named_bring_their_labels(tmp_path):
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS, x_test=IMAGES[:2], y_test=LABELS[1:], data=IMAGES[:1])
    for name, labels in (("images", LABELS), ("x_test", LABELS[1:]), ("data", None)):
        found = load(f"{tmp_path / 'x.npz'}:{name}").labels
        assert found is None if labels is None else np.array_equal(found, labels)


def test_a_shape_that_helps_is_the_only_remedy(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "first.npy", rng.random((9, 3, 8, 8)))
    np.save(tmp_path / "one.npy", rng.random((8, 8, 3)))
    for name, remedy in (("first", "transpose(0, 2, 3, 1)"), ("one", "[np.newaxis] for one image")):
        with pytest.raises(ValueError, match=re.escape(remedy)) as caught:
            load(tmp_path / f"{name}.npy", image_shape=(8, 8, 3))
        assert "resize" not in str(caught.value)
    with pytest.raises(ValueError, match="not scaled or cut: channels come last"):
        load(tmp_path / "first.npy", resize=8)
    np.save(tmp_path / "last.npy", rng.random((8, 8, 3, 9)))
    with pytest.raises(ValueError, match=r"not scaled or cut: .* so save array.transpose\(3, 0, 1, 2\)"):
        load(tmp_path / "last.npy", crop=2)


def test_one_picture_is_not_taken_for_many_unawares():
    rng = np.random.default_rng(0)
    vae = VAE("mlp", T=1, n_epochs=1, random_state=0)
    with pytest.warns(UserWarning, match=r"8 images of 9x3 pixels: if it is one picture of 8x9 pixels with 3 channels"):
        vae.fit(rng.random((8, 9, 3)))
    vae.fit(rng.random((50, 9, 3)))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["archive/data.pkl", "archive/data/0"], "a PyTorch file; save its tensors by numpy.savez"),
        (["[Content_Types].xml", "xl/workbook.xml"], "an Office file; save its table as .csv"),
        (["config.json", "model.weights.h5"], "a Keras model"),
        (["a/1.png", "a/2.png"], "a ZIP archive of a/1.png, a/2.png; unpack it"),
    ],
)
def test_archives_of_other_programs_are_called_by_their_names(tmp_path, names, found):
    for file in ("x.npz", "x.zip", "x.pt"):
        with zipfile.ZipFile(tmp_path / file, "w") as archive:
            for name in names:
                archive.writestr(name, "")
        assert_refused(tmp_path / file, f"must hold arrays, as numpy.savez writes them, got {found}")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_other_files_called_like_arrays(tmp_path, suffix):
    for content, found in (
        (
            b"version https://git-lfs.github.com/spec/v1",
            "but a pointer of Git LFS; git lfs pull brings the file itself",
        ),
        (b"<!DOCTYPE html>", "but text that starts with '<!DOCTYPE html>'"),
        (b"\x1f\x8b" + bytes(9), "but a gzip file"),
    ):
        assert_refused(write(tmp_path / f"x.{suffix}", content), f"not a valid .{suffix} file", found)
