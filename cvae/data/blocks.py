"""Images that are read block by block, because all of them may be more than fits into memory."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.checking import check_size
from cvae.data.checks import is_like_picture
from cvae.data.images import resolve_image_shape
from cvae.data.intake import (
    MOST_CHANNELS,
    as_array,
    is_array,
    is_buffer,
    is_frame,
    is_pair,
    is_pair_of_sets,
    is_sequence,
    remedy,
    remedy_of_shapeless,
)
from cvae.data.lazy import Lazy, Shaped, n_bytes

Array = npt.NDArray[Any]

LARGE = 1 << 30  # bytes from which on what lies in a file is read block by block without being asked
_BLOCK_BYTES = 1 << 20  # so that files are read sequentially for some milliseconds at a time
_CHUNK_BYTES = 1 << 25  # what is read at most to have whole chunks
_BUFFER_BYTES = 1 << 26
_MAPPED_AROUND = max(1 << 21, mmap.PAGESIZE)  # a large page


class Blocks(Shaped):
    """Images to train on or to encode that are read block by block, by a thread that is ahead of the model.

    `fit` shuffles the blocks, and then the images of the blocks that it holds in memory, always in the same way for the
    same seed, sizes of blocks and buffer: wherever the images lie, and on any number of threads.

    Memory maps, HDF5 datasets and Zarr arrays of more than 1 GiB are taken as ``Blocks(source)`` by themselves, as are
    lists of sets of images, and callables; lists of pairs, other sequences of batches and iterables as
    ``Blocks(source, buffer=0)``.

    Parameters
    ----------
    source : array, list of arrays or of pairs, callable or iterable
        Anything with a shape, a dtype and slices, such as ``np.load(path, mmap_mode="r")``, an ``h5py.Dataset`` or a
        ``zarr.Array``, (n, rows, cols, channels), (n, rows, cols) or (n, features); a list of these, which are taken
        one after another; or what gives blocks of images, or pairs (images, labels): a function that returns a new
        iterator over them at each call, or an iterable such as a PyTorch ``DataLoader`` or a list of its batches.
    block : int, optional
        Images that are read at a time. Default: about 1 MiB, in whole chunks of HDF5 and Zarr unless these take more
        than 32 MiB. For sources that give blocks these are as they come.
    buffer : int, optional
        Images in memory, at least two batches, besides the block that is being read. One half of them is shuffled and
        trained on while the other is read. The default is 64 MiB. With 0 nothing is shuffled: blocks are the batches,
        in the order in which they come.

    Attributes
    ----------
    shape, dtype : tuple, dtype
        As those of an array, where the source has them.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import cvae
    >>> blocks = cvae.datasets.Blocks(cvae.datasets.load("mnist-sample").images, buffer=1024)
    >>> cvae.VAE("mlp", T=2, random_state=0, verbose=False).fit(blocks, n_epochs=1).transform(blocks).shape
    (5000, 2)
    """

    block: int | None
    buffer: int | None
    numbers: npt.NDArray[np.intp]  # of the blocks that are read

    def __init__(self, source: Any, *, block: int | None = None, buffer: int | None = None) -> None:
        part: npt.NDArray[np.intp] | None = None
        if isinstance(source, Blocks):  # whatever is not given is taken over
            part = source.numbers if source._is_part else None
            if part is not None and block not in (None, source.block):
                raise ValueError(f"block must be left out for a part of blocks of {source.block}, got {block}")
            block = source.block if block is None else block
            buffer = source.buffer if buffer is None else buffer
            source = source.source
        self.block = None if block is None else check_size("block", block)
        self.buffer = (
            buffer if buffer is None or (buffer == 0 and buffer is not False) else check_size("buffer", buffer)
        )
        if found := remedy_of_shapeless(source, "source"):
            raise TypeError(f"source must be an array, got an object of type {type(source).__name__}: {found}")
        if isinstance(source, (list, tuple)) and not _has_pairs(source):
            source = _joined(source)
        self.source: Any = source
        self.is_indexed = _has_slices(source)
        if self.is_indexed:
            self.shape, self.dtype = tuple(map(int, source.shape)), np.dtype(source.dtype)
            if len(self.shape) not in (2, 3, 4) or 0 in self.shape:
                expected = "(n, rows, cols, channels), (n, rows, cols) or (n, features), with at least one image"
                raise ValueError(f"source must have the shape {expected}, got {self.shape}")
            self.block = self.block or self._default_block()
            self.numbers = np.arange(-(-self.shape[0] // self.block)) if part is None else part
        elif not callable(source) and not _is_iterable(source):
            raise TypeError(
                "source must be an array, a list of arrays, an iterable of blocks or a function that returns an "
                f"iterator, got {type(source).__name__}"
            )
        elif block is not None:
            raise ValueError("block must be left out for a source that gives blocks")

    def _default_block(self) -> int:
        n = max(1, _BLOCK_BYTES * self.shape[0] // self.nbytes)
        chunks = getattr(self.source, "chunks", None)
        chunk = 1 if not chunks else chunks[0][0] if isinstance(chunks[0], tuple) else chunks[0]
        most = max(n, _CHUNK_BYTES * self.shape[0] // self.nbytes)
        return min(-(-n // chunk) * chunk, most, self.shape[0])

    @property
    def _is_part(self) -> bool:
        """Whether there are other blocks besides those that are read."""
        return self.is_indexed and self.n_images() < self.shape[0]

    @property
    def is_once(self) -> bool:
        """Whether the source can be read a single time, as a generator."""
        return not self.is_indexed and isinstance(self.source, Iterator)

    def __len__(self) -> int:
        """Return the number of images, or raise TypeError if it is not known."""
        if not self.is_indexed:
            raise TypeError(f"the number of images of {self!r} is not known")
        return self.shape[0]

    def __getitem__(self, index: Any) -> Array:
        """Return images as an array, as the source's own slices do."""
        if not self.is_indexed:
            raise TypeError(f"{self!r} has no images by number")
        found: Array = np.asarray(self.source[index])
        return found

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Return all images in memory, for what does not read block by block."""
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        given = "x".join(map(str, self.shape)) + f" {self.dtype}" if self.is_indexed else type(self.source).__name__
        return f"Blocks({given})"

    def window(self, batchsize: int, image_bytes: int) -> int:
        """Return how many images of so many bytes are shuffled at a time: whole batches, half of the buffer."""
        buffer = _BUFFER_BYTES // image_bytes if self.buffer is None else self.buffer
        return max(1, buffer // 2 // batchsize) * batchsize

    # What is indexed

    def rows(self, number: int) -> slice:
        """Return which images a block holds."""
        assert self.block is not None
        return slice(number * self.block, min((number + 1) * self.block, self.shape[0]))

    def n_images(self) -> int:
        """Return the number of images in the blocks that are read."""
        parts = [self.rows(number) for number in self.numbers[-1:]]
        assert self.block is not None
        return (len(self.numbers) - 1) * self.block + sum(int(part.stop - part.start) for part in parts)

    def read(self, rows: slice) -> Array:
        """Return a block, possibly as a view of a memory map."""
        return as_array(self.source[rows], "X")

    def part(self, numbers: npt.NDArray[np.intp]) -> Blocks:
        """Return the same with these blocks alone, which keep their numbers; they ascend."""
        other = Blocks(self.source, block=self.block, buffer=self.buffer)
        other.numbers = np.asarray(numbers, np.intp)
        return other

    # What gives blocks

    def open(self) -> Iterator[tuple[Any, Any]]:
        """Return a new iterator over blocks: images, and labels or None."""
        source = self.source() if callable(self.source) else self.source
        if is_array(source) or is_pair(source):  # a function may return all at once
            source = [source]
        if not _is_iterable(source):
            raise TypeError(f"X must return an iterator over blocks of images, got {type(source).__name__}")
        return map(_images_and_labels, source)


def _joined(parts: Sequence[Any]) -> Lazy:
    """Return arrays one after another, as if they were one."""
    if any(isinstance(part, Blocks) and part._is_part for part in parts):
        raise ValueError("source must be a list of whole sets of images, got a part of blocks in it")
    parts = [part.source if isinstance(part, Blocks) else part for part in parts]
    if not parts or not all(_has_slices(part) for part in parts):
        kinds = sorted({type(part).__name__ for part in parts if not _has_slices(part)})
        raise TypeError(f"source must be a list of arrays, got {' and '.join(kinds) or 'no array'} in it")
    parts = [part if isinstance(part.dtype, np.dtype) else as_array(part, "source") for part in parts]  # tensors
    shape, dtype = tuple(parts[0].shape[1:]), np.dtype(parts[0].dtype)
    for i, part in enumerate(parts):
        for what, value, wanted in (("shape", tuple(part.shape[1:]), shape), ("dtype", np.dtype(part.dtype), dtype)):
            if value != wanted:
                raise ValueError(f"source must hold images of one {what}, got {wanted} in part 0, {value} in {i}")
    ends = np.cumsum([part.shape[0] for part in parts]).tolist()

    def read(start: int, stop: int) -> Array:
        pieces, begin = [], 0
        for part, end in zip(parts, ends, strict=True):
            if start < end and stop > begin:
                pieces.append(as_array(part[max(start - begin, 0) : min(stop, end) - begin], "X"))
            begin = end
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    return Lazy((ends[-1], *shape), dtype, read)


def as_blocks(X: Any, image_shape: Sequence[int] | None = None) -> Blocks | None:
    """Return what is to be read block by block, or None for all that is taken as one array.

    `image_shape`, if it is known, tells lists of batches from lists of images.
    """
    if isinstance(X, Blocks):
        return X
    if type(X) is np.ndarray or isinstance(X, np.ndarray):
        return Blocks(X) if X.nbytes > LARGE and _file_of(X) is not None else None
    if remedy_of_shapeless(X, "X"):
        return None
    if _has_pairs(X):
        return Blocks(X, buffer=0)
    if _is_stored(X):
        return Blocks(X) if _has_known_shape(X) and n_bytes(X.shape, X.dtype) > LARGE else None
    if is_array(X) or is_frame(X) or is_buffer(X) or isinstance(X, type) or remedy(X, "X"):
        return None
    if is_sequence(X):
        return _of_items(X, image_shape)
    if _is_iterable(X):
        return Blocks(X, buffer=0)
    return Blocks(X) if callable(X) else None


def _of_items(items: Sequence[Any], image_shape: Sequence[int] | None) -> Blocks | None:
    """Return a sequence of batches as blocks; None if its items are images, or nothing that is known."""
    try:
        first: Any = items[0] if len(items) else None
    except (LookupError, TypeError, NotImplementedError):  # of a collection that has no order
        return None
    is_known = _has_slices(first) and _has_known_shape(first)
    if isinstance(items, (list, tuple)):
        if not is_known or is_pair_of_sets(items):
            return None
        return Blocks(items) if _are_sets(first, lambda: items, image_shape) else None
    if _is_batch(first) or (is_known and _are_sets(first, lambda: [items[len(items) - 1]], image_shape)):
        return Blocks(lambda: map(items.__getitem__, range(len(items))), buffer=0)
    return None


def _are_sets(first: Any, others: Callable[[], Sequence[Any]], image_shape: Sequence[int] | None) -> bool:
    """Return whether arrays are sets of images, such as batches, rather than single images.

    `others` returns more of them, which need not be asked for.

    Raises
    ------
    ValueError
        If these of three dimensions may be grey images, or one image of many channels.
    """
    shape = tuple(map(int, first.shape))
    if image_shape is not None and len(shape) < 4:
        rows, cols, channels = resolve_image_shape(image_shape)
        images = [(rows, cols, channels), (rows * cols * channels,), *([(rows, cols)] if channels == 1 else [])]
        return shape not in images and shape[1:] in images
    if len(shape) != 3 or shape[2] <= MOST_CHANNELS:
        return len(shape) == 4
    shapes = {shape, *(tuple(np.shape(other)) for other in others())}
    if len(shapes) > 1:
        return {other[1:] for other in shapes} == {shape[1:]}
    n, rows, cols = shape
    if not is_like_picture(rows, cols):
        return False
    if n in (1, 3, 4) and min(rows, cols) >= 8:  # channels that come first, of which users are warned
        return False
    if n != rows == cols:
        return True
    raise ValueError(
        f"X must hold batches or images, got arrays of shape {shape}, which may be either: pass np.concatenate(X) for "
        f"batches of grey images, np.stack(X) for images of {cols} channels, or image_shape to the model"
    )


def _is_stored(X: Any) -> bool:
    """Return whether this is an array of HDF5, Zarr or another library that reads it in chunks."""
    return hasattr(X, "chunks") and _has_slices(X)


def _has_slices(X: Any) -> bool:
    return all(hasattr(X, name) for name in ("shape", "dtype", "__getitem__")) and len(X.shape) > 0


def _has_known_shape(X: Any) -> bool:
    """Return whether all lengths are known, which those of Dask's arrays are not before they are computed."""
    return all(isinstance(length, (int, np.integer)) for length in X.shape)


def _is_iterable(X: Any) -> bool:
    return isinstance(X, Iterable) and not isinstance(X, (str, bytes, Mapping))


def _images_and_labels(block: Any) -> tuple[Any, Any]:
    """Return images and labels of a block, None for the labels if there are none."""
    is_listed = isinstance(block, list) and len(block) == 1 and _is_set(block[0])  # as PyTorch's TensorDataset has them
    if not (isinstance(block, tuple) and len(block) in (1, 2) and is_array(block[0])) and not is_listed:
        if isinstance(block, (tuple, Mapping)):
            of = f"tuple of {len(block)}" if isinstance(block, tuple) else f"mapping of {', '.join(map(str, block))}"
            raise TypeError(f"X must give blocks of images or pairs (images, labels), got a {of}")
        if not is_pair(block):
            return block, None
    images, labels = (*block, None)[:2]
    if labels is None or np.ndim(labels) == 0:
        if labels is not None and np.ndim(images) < 4:  # otherwise one label for all is allowed
            raise TypeError(
                "X must give blocks of images, such as those of DataLoader(dataset, batch_size=100), or be a list of "
                f"images with y, a list of labels; got a single image of shape {np.shape(images)} with its label"
            )
    elif len(labels) != len(images):
        raise ValueError(f"X must give as many labels as images, got {len(labels)} for {len(images)}")
    return images, labels


def _has_pairs(X: Any) -> bool:
    """Return whether this is a list of blocks with their labels, such as a list of the batches of a DataLoader."""
    return isinstance(X, (list, tuple)) and len(X) > 0 and _is_batch(X[0])


def _is_batch(pair: Any) -> bool:
    """Return whether this is a pair of several images and a label for each."""
    if not is_pair(pair):
        return False
    images, labels = pair
    return is_array(images) and np.ndim(labels) > 0 and len(labels) == len(images)


def _is_set(X: Any) -> bool:
    """Return whether an array holds several images, rather than being one with its channels."""
    return is_array(X) and (np.ndim(X) != 3 or np.shape(X)[2] not in (1, 3, 4))


def _file_of(array: Array) -> mmap.mmap | None:
    """Return the file that an array is a view of; None if it lies in memory."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None


def release(array: Any) -> None:
    """Have a part of a memory map take no memory in this process; the system keeps what was read and written."""
    base = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    # The pages of other maps may hold what has been assigned to the array.
    if not isinstance(base, np.memmap) or base.mode == "c" or not hasattr(mmap, "MADV_DONTNEED") or not array.size:
        return
    file = _file_of(base)
    if file is not None:
        low, high = np.lib.array_utils.byte_bounds(array)
        address = np.frombuffer(file, np.uint8).__array_interface__["data"][0]
        # With the pages around it, which the system maps beside those that are read, and nobody else would give back.
        start = (low - address) // _MAPPED_AROUND * _MAPPED_AROUND
        end = min(len(file), -(-(high - address) // _MAPPED_AROUND) * _MAPPED_AROUND)
        file.madvise(mmap.MADV_DONTNEED, start, end - start)
