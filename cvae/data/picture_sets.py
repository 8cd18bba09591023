"""Many picture files as one array: what they have in common is decided before the first one is decoded."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from cvae.data.adjustment import Adjustment
from cvae.data.lazy import Lazy
from cvae.data.pictures import Image, Picture

Array = npt.NDArray[Any]
Item = TypeVar("Item")

_SECONDS_WITHOUT_PROGRESS = 2


class File(NamedTuple):
    """A picture file and the images that it holds."""

    path: Path
    images: list[Image]


class Format(NamedTuple):
    """The shape and dtype of all images of a set."""

    rows: int
    cols: int
    channels: int
    dtype: str


def inspect(paths: Iterable[Path]) -> list[File]:
    """Return what each file holds, without decoding most."""
    return [File(path, Picture(path).images()) for path in _with_progress(list(paths), "looking at pictures")]


def common_format(files: list[File], adjustment: Adjustment) -> Format:
    """Return the format that all images have once they are adjusted.

    Pictures with a palette are grey if all others are, and their palettes too.

    Raises
    ------
    ValueError
        If they differ; the message names two files and the argument that helps.
    """
    images = [(file.path, image) for file in files for image in file.images]
    first, any_image = images[0]
    channels = _channels(images, adjustment)
    size = _size(first, any_image, adjustment)
    for path, image in images:
        if image.dtype != any_image.dtype:
            raise ValueError(
                f"{path}: must have pixels of the dtype of {first.name}, {any_image.dtype}, got {image.dtype}; "
                "convert one of them"
            )
        if (found := _size(path, image, adjustment)) != size:
            rows, cols = Counter((image.rows, image.cols) for _, image in images).most_common(1)[0][0]
            raise ValueError(
                f"{path}: must have the size of {first.name}, {_pixels(size)}, got {_pixels(found)}; pass "
                f"resize=({rows}, {cols}) or another size to scale all of them (--resize {rows}x{cols} on the command "
                "line), and crop='fit' (--crop fit) to keep their proportions"
            )
    return Format(*size, channels, any_image.dtype)


def read(
    files: list[File],
    format: Format,
    adjustment: Adjustment,
    background: tuple[int, int, int] | None,
    most: float = math.inf,
) -> Array | Lazy:
    """Return all images, (n, rows, cols, channels), decoded one after another into the array.

    Those of more than `most` bytes in all are decoded later.
    """
    n = sum(len(file.images) for file in files)
    lazy = Lazy((n, *format[:3]), format.dtype, _Reader(files, format, adjustment, background))
    if lazy.nbytes > most:
        return lazy
    array = np.empty((n, format.rows, format.cols, format.channels), format.dtype)
    i = 0
    for file in _with_progress(files, "reading pictures"):
        for image in _decoded(file, format, adjustment, background):
            array[i] = image
            i += 1
    return array


def _decoded(
    file: File, format: Format, adjustment: Adjustment, background: tuple[int, int, int] | None
) -> Iterator[Array]:
    """Yield the images of a file, (rows, cols, channels)."""
    for pixels in Picture(file.path).pixels(file.images, format.channels, background):
        adjusted = adjustment.apply(pixels)
        yield adjusted if adjusted.ndim == 3 else adjusted[..., np.newaxis]


class _Reader:
    """Decodes images by their numbers."""

    def __init__(
        self, files: list[File], format: Format, adjustment: Adjustment, background: tuple[int, int, int] | None
    ) -> None:
        self._files, self._options = files, (format, adjustment, background)
        self._ends = np.cumsum([len(file.images) for file in files])

    def __call__(self, start: int, stop: int) -> Array:
        images: list[Array] = []
        first, last = np.searchsorted(self._ends, [start, stop - 1], "right").tolist()
        for number in range(first, last + 1):
            file = self._files[number]
            begin = int(self._ends[number]) - len(file.images)
            wanted = file.images[max(start - begin, 0) : stop - begin]
            images += _decoded(file._replace(images=wanted), *self._options)
        return np.stack(images).astype(self._options[0].dtype, copy=False)


def _channels(images: list[tuple[Path, Image]], adjustment: Adjustment) -> int:
    if adjustment.grey is not None:
        return 1 if adjustment.grey else 3
    grey = next((path for path, image in images if image.is_grey), None)
    coloured = next((path for path, image in images if image.is_coloured), None)
    converted = next((path for path, image in images if image.is_converted), None)
    remedy = "grey=False makes all RGB (--no-grey on the command line), grey=True all grey (--grey)"
    if converted is not None:
        raise ValueError(f"{converted}: must be grey or RGB, got CMYK or another kind; {remedy}")
    if grey is not None and coloured is not None:
        n_grey, n = sum(image.is_grey for _, image in images), len(images)
        raise ValueError(
            f"{coloured}: must be grey as {grey.name} is, got colours: {n_grey} of {n} images are grey; {remedy}"
        )
    return 1 if coloured is None else 3


def _size(path: Path, image: Image, adjustment: Adjustment) -> tuple[int, int]:
    try:
        return adjustment.size(image.rows, image.cols)
    except ValueError as error:  # smaller than the part that is to be kept
        raise ValueError(f"{path}: {error}") from None


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} pixels (rows x columns)"


def _with_progress(items: list[Item], what: str) -> Iterator[Item]:
    """Yield items, with a progress bar on a terminal where that takes long."""
    if sys.stderr is None or not sys.stderr.isatty():
        return iter(items)
    return iter(tqdm(items, what, delay=_SECONDS_WITHOUT_PROGRESS, leave=False, unit=" files"))
