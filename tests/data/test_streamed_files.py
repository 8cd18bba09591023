"""Files whose images are read when they are used."""

import pickle
import warnings

import h5py
import numpy as np
import pytest
import zarr
from data_files import idx_bytes, write, write_mnist
from PIL import Image

from cvae.data import loading
from cvae.datasets import Blocks, load

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (11, 14, 12), dtype=np.uint8)
LABELS = np.arange(11) % 3


def hdf5(folder):
    with h5py.File(folder / "data.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=(2, 14, 12), compression="gzip")
        file.create_dataset("labels", data=LABELS)
        file.create_dataset("test/images", data=IMAGES[:5], chunks=(5, 14, 12))
    return folder / "data.h5"


def zarr_group(folder):
    group = zarr.open_group(str(folder / "data.zarr"), mode="w")
    group.create_array("images", data=IMAGES, chunks=(3, 14, 12))
    group.create_array("labels", data=LABELS)
    return folder / "data.zarr"


def pictures(folder):
    for i, image in enumerate(IMAGES):
        path = folder / "pictures" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder / "pictures"


def pages(folder):
    first, *others = map(Image.fromarray, IMAGES)
    first.save(folder / "pages.tif", save_all=True, append_images=others)
    return folder / "pages.tif"


KINDS = {"HDF5": hdf5, "Zarr": zarr_group, "folder": pictures, "pages": pages}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"resize": (7, 6), "grey": False}], ids=["plain", "resized"])
def test_images_that_are_read_later_are_the_same(tmp_path, kind, changes):
    path = KINDS[kind](tmp_path)
    at_once, later = load(path, **changes), load(path, stream=True, **changes)
    assert isinstance(later.images, Blocks)
    assert (later.images.shape, later.images.dtype) == (at_once.images.shape, at_once.images.dtype)
    np.testing.assert_array_equal(np.asarray(later.images), at_once.images)
    np.testing.assert_array_equal(later.images[3:7], at_once.images[3:7])
    np.testing.assert_array_equal(later.images[::4], at_once.images[::4])
    np.testing.assert_array_equal(later.images[-2], at_once.images[-2])
    assert later.images[4:4].shape == (0, *at_once.images.shape[1:])
    np.testing.assert_array_equal(later.labels, at_once.labels)
    assert later.filenames == at_once.filenames
    assert "uint8, read block by block" in repr(later)
    with pytest.raises(IndexError):
        later.images[11]


@pytest.mark.parametrize("kind", KINDS)
def test_only_large_images_are_read_later_unless_all_are_to_be(tmp_path, kind, monkeypatch):
    path = KINDS[kind](tmp_path)
    assert isinstance(load(path, stream=None).images, np.ndarray)
    monkeypatch.setattr(loading, "LARGE", 100)
    assert isinstance(load(path, stream=None).images, Blocks)
    assert isinstance(load(path).images, np.ndarray)


def test_idx_files_are_mapped(tmp_path):
    write(tmp_path / "images", idx_bytes(IMAGES))
    mapped = load(tmp_path / "images", stream=True).images
    np.testing.assert_array_equal(mapped, IMAGES[..., np.newaxis])
    assert isinstance(mapped.base, np.memmap | np.ndarray)
    assert not mapped.flags.writeable
    write_mnist(tmp_path / "mnist", suffix="")
    assert not load(tmp_path / "mnist", stream=True).test_images.flags.writeable
    floats = IMAGES.astype(np.float32)
    write(tmp_path / "floats", idx_bytes(floats))
    np.testing.assert_array_equal(load(tmp_path / "floats", stream=True).images[..., 0], floats)
    for content in (idx_bytes(IMAGES) + b"\0", idx_bytes(IMAGES)[:-1]):
        write(tmp_path / "wrong", content)
        with pytest.raises(ValueError, match=r"wrong: not a valid IDX file: its header, shape \(11, 14, 12\)"):
            load(tmp_path / "wrong", stream=True)


def test_blocks_of_a_file_can_go_to_another_process(tmp_path):
    images = load(hdf5(tmp_path), stream=True).images
    images[0]
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(images))), np.asarray(images))


def test_what_is_damaged_is_named_when_it_is_read(tmp_path):
    path = pictures(tmp_path)
    images = load(path, stream=True).images
    (path / "a" / "4.png").write_bytes((path / "a" / "4.png").read_bytes()[:60])
    with warnings.catch_warnings(), pytest.raises(ValueError, match=r"4\.png"):
        np.asarray(images)


def test_stream_must_be_a_switch(tmp_path):
    with pytest.raises(TypeError, match="stream must be True, False or None, got 1"):
        load("mnist-sample", stream=1)
