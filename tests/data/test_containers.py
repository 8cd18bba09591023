"""HDF5 files and Zarr stores."""

import json
import sys
import zipfile

import h5py
import numpy as np
import pytest
import zarr
from data_files import IMAGES, LABELS, assert_is_mnist, assert_refused, write

from cvae.data.containers import _check_codecs
from cvae.datasets import load

ARRAYS = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:2] + 1, "y_test": LABELS[:2]}


def write_hdf5(path, arrays, **options):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **options)
    return path


def write_zarr(path, arrays, zarr_format=3):
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    for name, array in arrays.items():
        group.create_array(name, data=array)
    return path


def write_v2(path, arrays):
    return write_zarr(path, arrays, zarr_format=2)


WRITERS = pytest.mark.parametrize(
    ("write_to", "suffix"), [(write_hdf5, "h5"), (write_zarr, "zarr"), (write_v2, "zarr")]
)


@WRITERS
def test_known_names(tmp_path, write_to, suffix):
    assert_is_mnist(load(write_to(tmp_path / f"x.{suffix}", ARRAYS)))


@WRITERS
def test_the_only_images_and_names_after_a_colon(tmp_path, write_to, suffix):
    path = write_to(tmp_path / f"x.{suffix}", {"group/pictures": IMAGES, "codes": np.zeros((3, 2))})
    with pytest.warns(UserWarning, match="1 in it not read, as no images: codes"):
        assert load(path).images.shape == (3, 4, 5, 1)
    path = write_to(tmp_path / f"y.{suffix}", {"a": IMAGES, "b/c": IMAGES + 1})
    assert_refused(path, "got a (3, 4, 5) uint8, b/c (3, 4, 5) uint8", f"colon, y.{suffix}:NAME")
    for name in ("b/c", "/b/c"):
        np.testing.assert_array_equal(load(f"{path}:{name}").images[..., 0], IMAGES + 1)


TEXTS = {  # labels as they are written, by what is read
    "any length": ["cat", "dög", "cat"],
    "bytes of any length": np.array([b"cat", "dög".encode(), b"cat"], object),
    "bytes": np.array([b"cat", "dög".encode(), b"cat"]),
    "columns": [["cat"], ["dög"], ["cat"]],
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("labels", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip"}], ids=["contiguous", "chunked"])
def test_labels_of_text_in_hdf5(tmp_path, labels, options, stream):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x_train"], file["x_test"] = IMAGES, IMAGES
        for name in ("y_train", "y_test"):
            file.create_dataset(name, data=labels, **options)
    for found in (load(tmp_path / "x.h5", stream=stream), load(f"{tmp_path}/x.h5:x_test", stream=stream)):
        assert found.labels.dtype == "U3"
        assert found.labels.tolist() == ["cat", "dög", "cat"]
    assert load(tmp_path / "x.h5", stream=stream).test_labels.tolist() == ["cat", "dög", "cat"]


def test_labels_of_text_that_is_not_utf_8(tmp_path):
    for labels in (np.array([b"d\xf6g", b"cat", b"d\xe4g"]), np.array([b"d\xf6g", b"cat", b"d\xe4g"], object)):
        found = load(write_hdf5(tmp_path / "x.h5", {"images": IMAGES, "labels": labels})).labels
        assert found.tolist() == ["d\\xf6g", "cat", "d\\xe4g"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_labels_of_text_in_zarr(tmp_path, zarr_format, stream):
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=zarr_format)
    group.create_array("images", data=IMAGES)
    group.create_array("labels", data=np.array(["cat", "dög", "cat"], np.dtypes.StringDType()))
    found = load(tmp_path / "x.zarr", stream=stream).labels
    assert found.dtype == "U3"
    assert found.tolist() == ["cat", "dög", "cat"]


def test_one_long_string_does_not_make_all_labels_long(tmp_path):
    labels = ["x" * 10**6, *[""] * 10**5]
    images = np.zeros((len(labels), 1, 1), np.uint8)
    path = write_hdf5(tmp_path / "x.h5", {"images": images, "labels": labels}, compression="gzip")
    assert_refused(path, "labels has a string of 1,000,000 characters")


def test_names_in_groups(tmp_path):
    arrays = {"train/data": IMAGES, "train/target": LABELS, "test/data": IMAGES[:2] + 1, "test/target": LABELS[:2]}
    assert_is_mnist(load(write_hdf5(tmp_path / "x.h5", arrays)))


def test_a_single_array_of_zarr(tmp_path):
    zarr.save_array(str(tmp_path / "x.zarr"), IMAGES)
    np.testing.assert_array_equal(load(tmp_path / "x.zarr").images[..., 0], IMAGES)


def test_hdf5_is_mapped_where_it_can_be(tmp_path):
    images = load(write_hdf5(tmp_path / "a.h5", {"images": IMAGES.astype(">f4")})).images
    np.testing.assert_array_equal(images[..., 0], IMAGES)
    assert not images.flags.writeable
    images = load(write_hdf5(tmp_path / "b", {"images": IMAGES}, compression="gzip")).images
    np.testing.assert_array_equal(images[..., 0], IMAGES)


def test_hdf5_that_lies_in_other_files_is_not_followed(tmp_path):
    secret = write(tmp_path / "secret", IMAGES.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", IMAGES.shape, "u1", external=[(str(secret), 0, IMAGES.nbytes)])
    assert_refused(tmp_path / "a.h5", "lies in other files")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        layout = h5py.VirtualLayout(IMAGES.shape, "u1")
        layout[:] = h5py.VirtualSource(str(write_hdf5(tmp_path / "c.h5", {"x": IMAGES})), "x", IMAGES.shape)
        file.create_virtual_dataset("images", layout)
    assert_refused(tmp_path / "b.h5", "lies in other files")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["images"] = h5py.ExternalLink(str(tmp_path / "c.h5"), "x")
    assert_refused(tmp_path / "d.h5", "got no arrays")


def test_arrays_that_the_files_cannot_hold(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (10**6, 1000, 1000), "u1", chunks=(1, 1000, 1000))
    assert_refused(tmp_path / "a.h5", "which the file of", "cannot hold")
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("images", shape=(10**6, 1000, 1000), dtype="u1", chunks=(1, 1000, 1000))
    assert_refused(tmp_path / "a.zarr", "cannot hold")


def test_members_that_a_zip_file_cannot_hold(tmp_path):
    path = tmp_path / "a.zarr.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zarr.json", "{}")
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    for size in (directory + 20, directory + 24):  # stored, and read
        damaged = content.copy()
        damaged[size : size + 4] = (10**9).to_bytes(4, "little")
        path.write_bytes(damaged)
        assert_refused(path, "zarr.json has", f"which the file of {len(content)} bytes cannot hold")


def test_codecs_that_run_code_are_refused(tmp_path):
    path = write_v2(tmp_path / "x.zarr", {"images": IMAGES})
    metadata = json.loads((path / "images" / ".zarray").read_text())
    for change in ({"compressor": {"id": "pickle", "protocol": 5}}, {"filters": [{"id": "pickle", "protocol": 5}]}):
        (path / "images" / ".zarray").write_text(json.dumps(metadata | change))
        assert_refused(path)


def test_only_codecs_known_to_be_harmless_are_used():
    safe = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "bytes"}, {"name": "zstd"}]}}
    _check_codecs("x", {"codecs": [safe], "compressor": {"id": "blosc"}, "filters": [{"id": "shuffle"}]})
    pickled = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}
    for metadata in ({"codecs": [pickled]}, {"compressor": {"id": "pickle"}}, {"filters": [{"id": "pickle"}]}):
        with pytest.raises(ValueError, match=r"x is encoded by .*pickle, which is not read"):
            _check_codecs("x", metadata)


def test_damaged_files(tmp_path):
    content = write_hdf5(tmp_path / "a.h5", {"images": IMAGES}, compression="gzip").read_bytes()
    for damaged in (content[:100], content[:-20]):
        assert_refused(write(tmp_path / "b.h5", damaged), "not a valid HDF5 file")
    (tmp_path / "a.zarr").mkdir()
    for text in ("", "[]", '{"zarr_format": 3, "node_type": "array"}'):
        (tmp_path / "a.zarr" / "zarr.json").write_text(text)
        assert_refused(tmp_path / "a.zarr", "not a valid Zarr store")


@pytest.mark.parametrize("package", ["h5py", "zarr"])
def test_without_the_package(tmp_path, monkeypatch, package):
    paths = {"h5py": write_hdf5(tmp_path / "a.h5", ARRAYS), "zarr": write_zarr(tmp_path / "a.zarr", ARRAYS)}
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"needs {package}: pip install {package}"):
        load(paths[package])


def test_hdf5_behind_a_block_of_the_user(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        file["images"] = IMAGES
        file.create_dataset("test_images", data=IMAGES, chunks=IMAGES.shape)
    dataset = load(tmp_path / "x.h5")
    np.testing.assert_array_equal(dataset.images[..., 0], IMAGES)
    np.testing.assert_array_equal(dataset.test_images[..., 0], IMAGES)
