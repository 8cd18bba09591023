"""Images, with their labels and weights, that pass through memory block by block, checked as they are read."""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cvae.conditions import KINDS, Classes, LabelKind, Labels
from cvae.data.blocks import Blocks, release
from cvae.data.checks import warn_of_single
from cvae.data.intake import is_array
from cvae.data.mapping import PixelMapping
from cvae.data.reading import PLACES, Stop, read_ahead

Array = npt.NDArray[Any]

_SAMPLE_BYTES = 1 << 26  # what is read, at most, to learn a mapping of pixels
_SAMPLE_BLOCKS = 16
_BATCHES = 8  # of images in memory whose results are written to an array of the caller's at a time
_CHUNK_BYTES = 1 << 23  # of images that are not shuffled


class Check(Protocol):
    """Checks a block of images, as `Core._as_images` does."""

    def __call__(
        self,
        X: Any,
        name: str,
        image_shape: Any = None,
        mapping: PixelMapping | None = None,
        first: int | None = None,
    ) -> Array: ...


class Pool:
    """The places in memory into which images are read, in turn.

    Attributes
    ----------
    size : int
        Images of a place.
    images, labels, weights : array, Labels or None, array or None
        Of all places.
    """

    def __init__(self, stream: Stream, size: int) -> None:
        n = PLACES * size
        self.size = size
        self.images: Array = np.empty((n, *stream.image_shape), stream.dtype)
        self.weights = None if stream.weights is None else np.ones(n)
        self.labels: Labels | None = None
        if stream.labels is not None:
            kind, table, _ = stream.labels
            # Each value has a row of its own unless all are known.
            self._has_table = not stream.blocks.is_indexed and not isinstance(kind, Classes)
            rows = np.arange(n) if self._has_table else np.zeros(n, np.intp)
            self.labels = Labels(kind, np.zeros((n, table.shape[1]), table.dtype) if self._has_table else table, rows)

    def write(self, start: int, images: Array, labels: Labels | None, weights: Array | None) -> None:
        """Copy images to the places from `start` on."""
        part = slice(start, start + len(images))
        self.images[part] = images
        if self.weights is not None:
            self.weights[part] = weights
        if self.labels is not None:
            assert labels is not None
            if self._has_table:
                self.labels.table[part] = labels.numbers()
            else:
                self.labels.rows[part] = labels.rows


class Window(NamedTuple):
    """Images in a pool: `n` from `start` on; `first` is the number of the first in the order of reading."""

    pool: Pool
    start: int
    n: int
    first: int
    is_last: bool


class _Block(NamedTuple):
    images: Array
    labels: Labels | None
    weights: Array | None

    def part(self, part: slice) -> _Block:
        """Return some of the images."""
        labels = None if self.labels is None else self.labels.part(part)
        return _Block(self.images[part], labels, None if self.weights is None else self.weights[part])


class Stream:
    """Checked images that are read block by block, and labels of them.

    Parameters
    ----------
    blocks : Blocks
    check : callable
    name : str
        Of the images, for error messages.
    label : callable, optional
        Makes Labels of the labels of a block of so many images, for sources that give blocks.
    warns : bool
        Whether to warn of blocks that are probably single images, where no image shape is known to tell.

    Attributes
    ----------
    first : array
        The first block, as it was given.
    sample : array
        The same, checked.
    image_shape, dtype : tuple, dtype
    n : int or None
        Number of images, if it is known.
    labels : Labels or None
        Of all images; or those of the first block, for sources that give blocks.
    weights : array, shape (n,), or None
    """

    def __init__(
        self,
        blocks: Blocks,
        check: Check,
        name: str,
        label: Callable[..., Labels | None] | None = None,
        image_shape: Any = None,
        *,
        warns: bool = False,
    ) -> None:
        self.blocks, self._check, self.name, self._label = blocks, check, name, label
        self.n = blocks.n_images() if blocks.is_indexed else None
        self.labels: Labels | None = None
        self.weights: Array | None = None
        self._pool: Pool | None = None
        self._opened: Iterator[tuple[Any, Any]] | None = None
        if blocks.is_indexed:
            self.first = blocks.read(blocks.rows(int(blocks.numbers[0])))
            self.sample = check(self.first, name, image_shape)
        else:
            opened = blocks.open()
            try:
                self.first, y = next(opened)
            except StopIteration:
                raise ValueError(f"{name} must hold at least one image, got an iterator without blocks") from None
            self.sample = check(self.first, name, image_shape)
            if warns and is_array(self.first):
                warn_of_single(np.shape(self.first))
            if label is not None:
                self.labels = label(y, len(self.sample))
                if self.labels is not None:
                    self._label = partial(label, kind=self.labels.kind)
            self._opened = itertools.chain([(self.first, y)], opened)
        self.image_shape = self.sample.shape[1:]
        self.dtype = self.sample.dtype.newbyteorder("=")

    def take_mapping(self, mapping: PixelMapping) -> None:
        """Check further blocks for the pixels that a model with this mapping takes."""
        self._check = partial(self._check, mapping=mapping)

    def checksum(self) -> int:
        """Return a checksum of some images, and of how all are cut into blocks."""
        some: list[Array] = [self.sample[:_SAMPLE_BLOCKS]]
        if self.blocks.is_indexed:
            numbers = self.blocks.numbers
            rows = [self.blocks.rows(number).start for number in numbers[:: max(1, len(numbers) // 16)][:16]]
            some = [self.blocks.read(slice(row, row + 1)) for row in rows]
        total = zlib.crc32(repr((self.blocks.block, self.blocks.buffer)).encode())
        for images in some:
            total = zlib.crc32(np.ascontiguousarray(images).tobytes(), total)
        return total

    def larger_sample(self) -> Array:
        """Return the images from which a mapping of pixels is learnt: evenly spaced blocks, or the first one."""
        if not self.blocks.is_indexed:
            return self.sample
        numbers = self.blocks.numbers
        n = max(1, min(_SAMPLE_BLOCKS, _SAMPLE_BYTES // max(1, self.sample.nbytes)))
        chosen = numbers[np.unique(np.linspace(0, len(numbers) - 1, min(n, len(numbers))).astype(np.intp))]
        return np.concatenate([block.images for block in self._blocks(chosen)])

    def all_blocks(self) -> Iterator[Array]:
        """Yield the images of all blocks, in their order."""
        return (block.images for block in self._blocks(self.blocks.numbers if self.blocks.is_indexed else None))

    def _blocks(self, order: Array | None) -> Iterator[_Block]:
        """Yield checked blocks, of these numbers or, for sources that give them, in their order."""
        if order is not None:
            for number in order.tolist():
                rows = self.blocks.rows(number)
                found = self.blocks.read(rows)
                labels = None if self.labels is None else self.labels.part(rows)
                weights = None if self.weights is None else self.weights[rows]
                yield _Block(self._checked(found, rows.start), labels, weights)
                release(found)
            return
        opened, self._opened = self._opened or self.blocks.open(), None
        n = 0
        for X, y in opened:
            images = self._checked(X, n)
            yield _Block(images, None if self._label is None else self._label(y, len(images)), None)
            n += len(images)

    def _checked(self, X: Any, first: int) -> Array:
        images = self._check(X, self.name, self.image_shape, first=first)
        if images.dtype.newbyteorder("=") != self.dtype:
            raise ValueError(f"{self.name} must hold images of one dtype, got {self.dtype} and later {images.dtype}")
        return images

    def skip(self, n_blocks: int) -> int:
        """Leave out the first blocks of a source that gives them, and return how many images they hold."""
        opened = self._opened or self.blocks.open()
        n = sum(len(X) for X, _ in itertools.islice(opened, n_blocks))
        self._opened = opened
        return n

    def pool(self, size: int) -> Pool:
        """Return places for `size` images each, or for more."""
        if self._pool is None or self._pool.size < size:
            self._pool = Pool(self, size)
        return self._pool

    def windows(self, size: int | None, order: Array | None, skipped: int = 0) -> Generator[Window, None, None]:
        """Yield `size` images at a time, or each block by itself, read ahead by a thread.

        Parameters
        ----------
        size : int or None
        order : array of int, or None
            The numbers of the blocks to read, where they have some.
        skipped : int
            How many images are left out at the beginning.
        """
        return read_ahead(_Filler(self, size, order, skipped).fill)

    def chunks(self, batchsize: int) -> Iterator[tuple[slice, Array, Labels | None]]:
        """Yield all images in their order, whole batches at a time: their numbers, the images, and their labels.

        They are only valid until the next ones are asked for.
        """
        image_bytes = max(1, self.sample.nbytes // len(self.sample))
        size = max(1, _CHUNK_BYTES // image_bytes // batchsize) * batchsize
        size = size if self.n is None else min(size, self.n)
        order = self.blocks.numbers if self.blocks.is_indexed else None
        with contextlib.closing(self.windows(size, order)) as windows:
            for pool, start, n, first, _ in windows:
                part = slice(start, start + n)
                labels = None if pool.labels is None else pool.labels.part(part)
                yield slice(first, first + n), pool.images[part], labels


def stream_of(
    model: Any,
    blocks: Blocks,
    y: Any,
    name: str = "X",
    image_shape: Any = None,
    mapping: PixelMapping | None = None,
    kind: LabelKind | None = None,
) -> Stream:
    """Return the checked images of blocks, and the labels y of a conditional model.

    Where blocks come with labels, y may be the classes that these are out of, for a model that has learnt none.
    """
    label, of_labels = None, "y" if name == "X" else f"the labels of {name}"
    known = model._label_kind or kind
    if model.condition is None:
        model._as_labels(y, 0, of_labels)  # which says that there must be none
    elif not blocks.is_indexed:
        if known is None and y is None and model.condition == "classes":
            raise ValueError(f"{of_labels} must be all classes of a conditional model's first batches, got None")
        known = known or (None if y is None else KINDS[model.condition].learn(y, of_labels))
        label = partial(model._as_labels, name=f"the labels of {name}", kind=known)
    known_shape = image_shape or model._known_shape
    check = partial(model._as_images, mapping=mapping)
    stream = Stream(blocks, check, name, label, image_shape, warns=known_shape is None)
    if blocks.is_indexed:
        stream.labels = model._as_labels(y, len(blocks), of_labels, known)
    return stream


def n_images(images: Array | Stream) -> int | None:
    """Return how many images there are, or None where that is not known."""
    return images.n if isinstance(images, Stream) else len(images)


def pieces(
    images: Array | Stream, labels: Labels | None, batchsize: int
) -> Iterator[tuple[slice, Array, Labels | None]]:
    """Yield which images come next, these images, whole batches of them, and their labels."""
    if isinstance(images, Stream):
        yield from images.chunks(batchsize)
        return
    for start in range(0, len(images), _BATCHES * batchsize):
        part = slice(start, min(start + _BATCHES * batchsize, len(images)))
        yield part, images[part], None if labels is None else labels.part(part)


def as_outputs(out: Any, images: Array | Stream, shape: tuple[int, ...]) -> list[Array] | None:
    """Return an array for the results of images, each of this shape, in a list, after checking it; or None."""
    if out is None:
        return None
    if not isinstance(out, np.ndarray) or out.dtype.kind != "f":
        kind = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise TypeError(f"out must be an array of floats, got {kind}")
    n = n_images(images)
    if n is None:
        raise ValueError("out must be left out where the number of images is not known")
    if out.shape != (n, *shape) or not out.flags.writeable:
        is_fixed = "" if out.flags.writeable else ", which is read-only"
        raise ValueError(f"out must have the shape {(n, *shape)}, got {out.shape}{is_fixed}")
    return [out]


class _Filler:
    """Fills one place of a pool after another."""

    def __init__(self, stream: Stream, size: int | None, order: Array | None, skipped: int) -> None:
        self._stream, self._size, self._done = stream, size, 0
        if order is not None and skipped:
            sizes = [rows.stop - rows.start for rows in map(stream.blocks.rows, order.tolist())]
            begun = int(np.searchsorted(np.cumsum(sizes), skipped, "right"))
            skipped -= sum(sizes[:begun])
            order = order[begun:]
        self._blocks, self._skipped = stream._blocks(order), skipped
        self._left: _Block | None = None

    def _next(self) -> bool:
        """Take the next block; return whether there is one."""
        for block in self._blocks:
            n = len(block.images)
            if n > self._skipped:
                self._left, self._skipped = block.part(slice(self._skipped, n)), 0
                return True
            self._skipped -= n
        self._left = None
        return False

    def fill(self, place: int, stop: Stop) -> Window | None:
        """Fill a place; return None if there are no images left."""
        if self._left is None and not self._next():
            return None
        assert self._left is not None
        size = len(self._left.images) if self._size is None else self._size
        pool, n = self._stream.pool(size), 0
        start, first = place * pool.size, self._done
        while n < size and self._left is not None and not stop.is_set:
            m = min(size - n, len(self._left.images))
            pool.write(start + n, *self._left.part(slice(m)))
            n += m
            if m < len(self._left.images):
                self._left = self._left.part(slice(m, None))
            else:
                self._next()
        self._done += n
        return Window(pool, start, n, first, self._left is None)
