"""Images that are read block by block: what is taken, the order of reading, and the thread that reads ahead."""

import mmap
import re
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from cvae.data import blocks as module
from cvae.data.blocks import Blocks, as_blocks, release
from cvae.data.reading import PLACES, read_ahead

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 1), dtype=np.uint8)


def mapped(folder, images=IMAGES, mode="r"):
    np.save(folder / "images.npy", images)
    return np.load(folder / "images.npy", mmap_mode=mode)


def hdf5(folder, images=IMAGES, **options):
    with h5py.File(folder / "images.h5", "w") as file:
        file.create_dataset("images", data=images, **options)
    return h5py.File(folder / "images.h5")["images"]


def zarr_array(folder, images=IMAGES):
    zarr.save(str(folder / "images.zarr"), images)
    return zarr.open(str(folder / "images.zarr"), mode="r")


SOURCES = {
    "array": lambda folder: IMAGES,
    "memory map": mapped,
    "HDF5": lambda folder: hdf5(folder, chunks=(7, 6, 5, 1), compression="gzip"),
    "Zarr": zarr_array,
    "list": lambda folder: [IMAGES[:20], hdf5(folder, IMAGES[20:21]), IMAGES[21:]],
    "blocks": lambda folder: Blocks(IMAGES, block=3),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_blocks_are_the_images_in_their_order_wherever_they_lie(tmp_path, kind):
    blocks = Blocks(SOURCES[kind](tmp_path), block=8)
    assert (blocks.shape, blocks.dtype, len(blocks), blocks.nbytes) == (IMAGES.shape, np.uint8, 50, IMAGES.nbytes)
    found = [blocks.read(blocks.rows(number)) for number in blocks.numbers]
    assert [len(block) for block in found] == [8] * 6 + [2]
    np.testing.assert_array_equal(np.concatenate(found), IMAGES)
    np.testing.assert_array_equal(np.asarray(blocks), IMAGES)
    np.testing.assert_array_equal(blocks[-1], IMAGES[-1])
    np.testing.assert_array_equal(blocks[18:23], IMAGES[18:23])


def test_blocks_are_whole_chunks_by_default(tmp_path):
    images = np.zeros((600, 64, 64, 1), np.uint8)
    assert Blocks(images).block == 256
    assert Blocks(hdf5(tmp_path, images, chunks=(100, 64, 64, 1))).block == 300
    assert Blocks(hdf5(tmp_path, images, chunks=(600, 8, 8, 1))).block == 600
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        file.create_dataset("wide", shape=(9000, 64, 64, 1), chunks=(9000, 1, 1, 1), dtype=np.uint8)
        assert Blocks(file["wide"]).block == 8192


@pytest.mark.parametrize("kind", ["memory map", "HDF5", "Zarr"])
def test_what_is_large_and_lies_in_files_is_read_block_by_block(tmp_path, kind, monkeypatch):
    given = SOURCES[kind](tmp_path)
    assert as_blocks(given) is None
    monkeypatch.setattr(module, "LARGE", IMAGES.nbytes - 1)
    found = as_blocks(given)
    assert found.shape == IMAGES.shape
    assert found.buffer is None
    if kind == "memory map":
        assert as_blocks(np.asarray(given)[1:]) is None
        assert as_blocks(np.asarray(given)).shape == IMAGES.shape
        assert as_blocks(np.array(given)) is None


@pytest.mark.parametrize(
    "X", [IMAGES, [IMAGES[0], IMAGES[1]], IMAGES.tolist(), (IMAGES, None), "images.npy", {"images": IMAGES}, None, 3]
)
def test_all_else_is_one_array(X):
    assert as_blocks(X) is None


def test_blocks_of_blocks_take_over_what_is_not_given():
    blocks = Blocks(IMAGES, block=7, buffer=64)
    assert [(each.block, each.buffer) for each in (Blocks(blocks), Blocks(blocks, block=9, buffer=30))] == [
        (7, 64),
        (9, 30),
    ]
    part = Blocks(blocks.part([0, 7]))
    assert (part.numbers.tolist(), part.n_images(), part.block) == ([0, 7], 8, 7)
    assert Blocks(part, block=7, buffer=9).numbers.tolist() == [0, 7]
    with pytest.raises(ValueError, match="block must be left out for a part of blocks of 7, got 5"):
        Blocks(part, block=5)
    with pytest.raises(ValueError, match="source must be a list of whole sets of images, got a part"):
        Blocks([part, IMAGES])
    assert Blocks(Blocks(iter([IMAGES]), buffer=0)).buffer == 0


class Tensor:
    """What PyTorch's do: a dtype that NumPy does not know."""

    dtype = "torch.uint8"

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return Tensor(self.values[index])

    def __array__(self, dtype=None, copy=None):
        return self.values


def test_lists_of_tensors_are_blocks():
    np.testing.assert_array_equal(as_blocks([Tensor(IMAGES[:20]), Tensor(IMAGES[20:])]), IMAGES)


def test_iterables_give_batches_and_functions_blocks():
    assert as_blocks(iter([IMAGES])).buffer == 0
    assert as_blocks(lambda: iter([IMAGES])).buffer is None
    assert as_blocks([IMAGES, IMAGES]).shape == (100, 6, 5, 1)
    assert as_blocks(iter([IMAGES])).is_once
    assert not as_blocks(lambda: iter([IMAGES])).is_once


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source": 3}, TypeError, "source must be an array, a list of arrays, an iterable of blocks or a function"),
        ({"source": []}, TypeError, "source must be a list of arrays, got no array in it"),
        ({"source": [IMAGES, 3]}, TypeError, "source must be a list of arrays, got int in it"),
        ({"source": [IMAGES, IMAGES / 255]}, ValueError, "images of one dtype, got uint8 in part 0, float64 in 1"),
        ({"source": [IMAGES, IMAGES[:, 1:]]}, ValueError, "images of one shape, got .6, 5, 1. in part 0, .5, 5"),
        ({"source": IMAGES[:0]}, ValueError, "with at least one image, got .0, 6, 5, 1."),
        ({"source": IMAGES[0, 0, 0]}, ValueError, "source must have the shape"),
        ({"source": IMAGES, "block": 0}, ValueError, "block must be an int >= 1"),
        ({"source": IMAGES, "buffer": -1}, ValueError, "buffer must be an int >= 1"),
        ({"source": iter([IMAGES]), "block": 3}, ValueError, "block must be left out"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        Blocks(**arguments)


def test_blocks_of_an_iterable_have_no_number_of_images():
    blocks = Blocks(iter([IMAGES]))
    for action in (len, np.asarray, lambda blocks: blocks[:3]):
        with pytest.raises(TypeError, match=r"Blocks\(list_iterator\)"):
            action(blocks)


def resident(array):
    """Return how many bytes of a file's map are in this process's memory."""
    start = f"{array.__array_interface__['data'][0] // mmap.PAGESIZE * mmap.PAGESIZE:x}-"
    with open("/proc/self/smaps") as file:
        lines = iter(file)
        next(line for line in lines if start in line.split()[0])
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Rss:"))


def test_pages_of_a_memory_map_are_given_back_and_read_again(tmp_path):
    array = mapped(tmp_path, np.arange(1 << 18, dtype=np.uint8).reshape(256, 32, 32, 1), mode="r+")
    array[3] = 7
    array.sum()
    before = resident(array)
    release(array[64:192])
    assert resident(array) <= before - (1 << 17) + mmap.PAGESIZE
    release(array)
    assert resident(array) == 0
    assert (array[3] == 7).all()
    copy = np.load(tmp_path / "images.npy", mmap_mode="c")
    copy[5] = 9
    release(copy)  # which would lose the assignment
    assert (copy[5] == 9).all()


def test_reading_is_one_place_ahead_and_ends_with_its_reader():
    filled = []
    reading = read_ahead(lambda place, stop: filled.append(place) or len(filled))
    assert [next(reading) for _ in range(3)] == [1, 2, 3]
    reading.close()
    assert filled[:5] == [0, 1, 0, 1, 0][: len(filled)]
    assert len(filled) <= 3 + PLACES
    assert not any(thread.name == "cvae-reader" for thread in threading.enumerate())


def test_an_error_of_the_thread_comes_after_what_was_read_before_it():
    def fill(place, stop):
        count.append(place)
        if len(count) == 3:
            raise OSError("no disk")
        return len(count)

    count = []
    reading = read_ahead(fill)
    assert [next(reading), next(reading)] == [1, 2]
    with pytest.raises(OSError, match="no disk"):
        next(reading)


def file_pages():
    """Return the bytes of files that this process has in memory."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"^RssFile:\s+(\d+)", status, re.MULTILINE)[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
def test_blocks_that_were_read_leave_no_pages(tmp_path):
    np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.uint8, shape=(6400, 10_000)).flush()
    images = np.load(tmp_path / "x.npy", mmap_mode="r")
    before = file_pages()
    for start in range(0, len(images), 100):
        block = images[start : start + 100]
        block.sum()
        release(block)
    assert file_pages() - before < 4e6  # 64 blocks of 1 MB, none of which begins with a page
