"""Images of which each process of a team holds a part: those of the first, then those of the second, and so on."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from cvae._kernels.program import Program
from cvae.checking import check_bool
from cvae.data.gathering import Gatherer
from cvae.data.intake import as_array
from cvae.data.mapping import PixelMapping
from cvae.data.weights import Weights
from cvae.team import Team

Array = npt.NDArray[Any]
Value = TypeVar("Value")


class Parts:
    """All images, as far as training needs them to be an array.

    Parameters
    ----------
    team : Team
    images : array, shape (n, rows, cols, channels)
        Those of this process; n may differ between processes.

    Raises
    ------
    ValueError
        If the images of the processes differ in shape or dtype.
    """

    ndim = 4

    def __init__(self, team: Team, images: Array) -> None:
        self._team, self._own, self.dtype = team, images, images.dtype
        found = team.gather((len(images), images.shape[1:], images.dtype))
        for rank, (_, *kind) in enumerate(found):
            if tuple(kind) != found[0][1:]:
                first, other = (f"{dtype} of {shape}" for shape, dtype in (found[0][1:], kind))
                raise ValueError(
                    f"X must hold the same kind of images in all processes, got {first} and, in {rank}, {other}"
                )
        self._ends = [0, *itertools.accumulate(n for n, *_ in found)]
        self.shape = self._ends[-1], *images.shape[1:]
        self.size = math.prod(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: Any) -> Array:
        """Return images, within `on_first`."""
        indices = np.arange(len(self))[key]
        self._team.share(np.atleast_1d(indices))
        found = self._fetched(np.atleast_1d(indices))
        return found[0] if np.ndim(indices) == 0 else found

    def on_first(self, function: Callable[[], Value]) -> Value:
        """Return, to all processes, what the first one's function returns, which may look at images of others."""
        value, error = None, None
        if self._team.is_first:
            try:
                value = function()
            except BaseException as caught:
                error = caught
            self._team.share(None)
        else:
            while (indices := self._team.share(None)) is not None:
                self._fetched(indices)
        self._team.agree(error)
        result: Value = self._team.share(value)
        return result

    def _fetched(self, indices: Array) -> Array:
        """Have the first process return these images, which the others send to it."""
        return self.exchanged([indices, *([indices[:0]] * (self._team.size - 1))])

    def exchanged(self, wanted: Sequence[Array]) -> Array:
        """Return the images `wanted[rank]` of all processes that this one wants; all call it with the same indices."""
        owners = [np.searchsorted(self._ends, indices, "right") - 1 for indices in wanted]
        rank, size = self._team.rank, self._team.size
        sent = [self._own[wanted[to][owners[to] == rank] - self._ends[rank]] for to in range(size)]
        places = [np.flatnonzero(owners[rank] == owner) for owner in range(size)]
        received = np.empty((len(wanted[rank]), *self.shape[1:]), self.dtype)
        self._team.exchange(np.concatenate(sent), [len(of_one) for of_one in sent], received, [*map(len, places)])
        images = np.empty_like(received)
        images[np.concatenate(places)] = received
        return images


class PartsGatherer:
    """Writes batches of such images to an array, as `Gatherer` does; their processes exchange them before.

    Parameters are those of `Gatherer`.
    """

    def __init__(
        self, parts: Parts, out: Array, mapping: PixelMapping | None, then: Callable[[Program, Array], None] | None
    ) -> None:
        self._parts, self._how = parts, (out, mapping, then)
        self._gatherer: Gatherer | None = None
        self._images = np.empty((0, *parts.shape[1:]), parts.dtype)
        self._loaded = 0

    def exchange(self, wanted: Sequence[Array]) -> None:
        """Get the images that the next calls of `load` ask for, one after another; see `Parts.exchanged`."""
        images, self._loaded = self._parts.exchanged(wanted), 0
        if self._gatherer is None or len(self._images) < len(images):
            self._images = images
            self._gatherer = Gatherer(images, *self._how)
        self._images[: len(images)] = images

    def load(self, indices: Array) -> None:
        """Write the images of these indices to the start of the output."""
        assert self._gatherer is not None
        n = len(indices)
        self._gatherer.load(np.arange(self._loaded, self._loaded + n))
        self._loaded += n


def gatherer_of(
    images: Array | Parts,
    out: Array,
    mapping: PixelMapping | None,
    then: Callable[[Program, Array], None] | None = None,
) -> Gatherer | PartsGatherer:
    """Return what writes batches of images to an array, see `Gatherer`."""
    return (
        PartsGatherer(images, out, mapping, then) if isinstance(images, Parts) else Gatherer(images, out, mapping, then)
    )


def on_first(images: Array | Parts, function: Callable[[], Value]) -> Value:
    """Return what a function of the images returns; see `Parts.on_first`."""
    return images.on_first(function) if isinstance(images, Parts) else function()


def check_parts(parts: Any, team: Team | None, validation_fraction: float | None) -> None:
    """Raise TypeError or ValueError if the argument `parts` is invalid."""
    if check_bool("parts", parts):
        if team is None:
            raise ValueError("parts must be False without comm, got True")
        if validation_fraction is not None:
            raise ValueError("validation_fraction must be None with parts: pass validation_data")


def shared_data(team: Team, parts: bool, images: Array, y: Any, weights: Weights) -> tuple[Array | Parts, Any, Weights]:
    """Return images, labels and weights of all processes, which hold `parts` of them or must hold the same."""
    if not parts:
        kinds = team.gather((images.shape, images.dtype.str, _checksum(images, np.arange(len(images)))))
        for rank, kind in enumerate(kinds):
            if kind != kinds[0]:
                raise ValueError(
                    f"X must be the same in all processes, or parts of all with parts=True, got {kinds[0][1]} of shape "
                    f"{kinds[0][0]} and, in process {rank}, {kind[1]} of shape {kind[0]}"
                    f"{' with other values' * (kind[:2] == kinds[0][:2])}"
                )
        return images, y, weights
    n, found = len(images), {"y": y, **weights}
    for name, values in found.items():
        with team.together():
            if values is not None and np.ndim(values) > 0 and len(values) != n:
                raise ValueError(f"{name} must have {n} entries, one for each image of this process, got {len(values)}")
            own = None if values is None else as_array(values, name) if np.ndim(values) > 0 else np.asarray(values)
        of_all = team.gather(own)
        if values is not None and all(np.ndim(value) > 0 for value in of_all):
            found[name] = np.concatenate(of_all)
    y = found.pop("y")
    return Parts(team, images), y, cast(Weights, found)


def fingerprint_of(images: Array | Parts, rows: Array) -> int:
    """Return a checksum of the images of these rows."""
    return on_first(images, lambda: _checksum(images, rows))


def _checksum(images: Any, rows: Array) -> int:
    """Return a checksum of up to 16 images, to tell other data of the same size."""
    some = rows[:: max(1, len(rows) // 16)][:16]
    return zlib.crc32(np.ascontiguousarray(images[some]).tobytes())
