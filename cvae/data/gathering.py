"""Gathering of batches from a set of images, mapped to the units of a model batch by batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cvae._kernels import pixelwise
from cvae._kernels.program import Program
from cvae.data.mapping import PixelMapping, identity
from cvae.runtime.programs import execute, run

_BLOCK_VALUES = 1 << 16  # values copied at a time, so that they stay in cache


def gather(
    X: np.ndarray, indices: np.ndarray | slice, out: np.ndarray, mapping: PixelMapping | None = None
) -> np.ndarray:
    """Write the images ``X[indices]`` to `out`, mapped to the units of a model.

    Without a mapping ``uint8`` values are divided by 255, and all others only converted to the dtype of `out`.
    Temporaries hold at most 65,536 values, or one image if that is larger.

    Parameters
    ----------
    X : ndarray, shape (n, rows, cols, channels)
        Images as returned by `as_images`.
    indices : ndarray of ints, shape (m,), or slice
        The images to take, in this order; each index in 0..n-1.
    out : ndarray, shape (m, rows, cols, channels)
        float32 or float64, C-contiguous, in native byte order. Overwritten.
    mapping : PixelMapping, optional

    Returns
    -------
    ndarray
        `out`.

    Raises
    ------
    TypeError
        If `indices` are not ints, or `out` is neither float32 nor float64.
    ValueError
        If `out` has the wrong shape or is not C-contiguous.
    IndexError
        If an index is outside 0..n-1.

    Examples
    --------
    >>> X = np.arange(0, 250, 51, dtype=np.uint8).reshape(5, 1, 1, 1)
    >>> gather(X, np.array([2, 0]), np.empty((2, 1, 1, 1))).ravel()
    array([0.4, 0. ])
    """
    mapping = mapping or identity(X.shape[-1])
    if isinstance(indices, slice):
        if (mapping.is_identity and X.dtype != np.uint8) or out.size < _BLOCK_VALUES:
            selected = X[indices]
            _check_out(out, selected.shape)
            mapping.copied(selected, out)
            return out
        indices = np.arange(*indices.indices(len(X)))
    indices = np.asarray(indices)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise TypeError(
            f"indices must be a slice or a 1-D array of ints, got {indices.ndim} dimensions of dtype {indices.dtype}"
        )
    _check_out(out, (indices.size, *X.shape[1:]))
    if indices.size and not (indices.min() >= 0 and indices.max() < len(X)):
        raise IndexError(f"indices must lie in 0..{len(X) - 1}, got {indices.min()}..{indices.max()}")
    if out.size and _has_kernel(X):
        run(_record_gather, X, np.ascontiguousarray(indices, np.intp), out, mapping)
        return out
    images_per_block = max(1, _BLOCK_VALUES // X[0].size)
    for first in range(0, indices.size, images_per_block):
        block = slice(first, first + images_per_block)
        mapping.copied(X[indices[block]], out[block])
    return out


class Gatherer:
    """Repeated calls of `gather` with the same images and output, recorded once for each batch size.

    Parameters
    ----------
    X : ndarray, shape (n, rows, cols, channels)
        Images as returned by `as_images`.
    out : ndarray, shape (m, rows, cols, channels)
        As in `gather`, for batches of up to m images.
    mapping : PixelMapping, optional
    then : callable, optional
        Records what follows, called with a program and the part of `out` that holds a batch.
    """

    def __init__(
        self,
        X: np.ndarray,
        out: np.ndarray,
        mapping: PixelMapping | None = None,
        then: Callable[[Program, np.ndarray], None] | None = None,
    ) -> None:
        self._images, self._out, self._mapping, self._then = X, out, mapping or identity(X.shape[-1]), then
        self._indices = np.zeros(len(out), np.intp)
        self._programs: dict[int, Program] = {}  # by batch size

    def load(self, indices: np.ndarray) -> None:
        """Write the images ``X[indices]`` to the start of `out`; the indices are not checked."""
        n = len(indices)
        self._indices[:n] = indices
        if n not in self._programs:
            self._programs[n] = self._record(n)
        execute(self._programs[n])

    def _record(self, n: int) -> Program:
        X, out, indices, program = self._images, self._out[:n], self._indices[:n], Program()
        if _has_kernel(X):
            _record_gather(program, X, indices, out, self._mapping)
        else:
            program.call(gather, X, indices, out, self._mapping)
        if self._then is not None:
            self._then(program, out)
        return program


def _has_kernel(X: np.ndarray) -> bool:
    """Return whether a kernel can gather from `X`, or it needs converting by NumPy."""
    is_plain = X.dtype.isnative and X.flags.c_contiguous and X.flags.aligned
    return is_plain and (X.dtype == np.bool_ or X.dtype.name in pixelwise.pixel_types())


def _record_gather(
    program: Program, X: np.ndarray, indices: np.ndarray, out: np.ndarray, mapping: PixelMapping
) -> None:
    """Record the kernel that gathers from `X` to `out`."""
    rows, images = out.reshape(len(out), -1), X.reshape(len(X), -1)
    if mapping.is_identity and X.dtype == np.uint8:
        pixelwise.gather_bytes(program, rows, images, indices)
    elif mapping.is_identity and X.dtype == out.dtype:
        pixelwise.gather(program, rows, images, indices)
    else:
        name = "uint8" if X.dtype == np.bool_ else X.dtype.name
        if X.dtype == np.uint8 and mapping.divides_bytes:
            name = "fraction"
        offset, scale = mapping.tiled_offset, mapping.tiled_scale
        pixelwise.gather_mapped(program, rows, images.view(np.uint8), indices, name, offset, scale)


def _check_out(out: np.ndarray, shape: tuple[int, ...]) -> None:
    if out.dtype not in (np.float32, np.float64):
        raise TypeError(f"out must be float32 or float64 in native byte order, got {out.dtype!r}")
    if out.shape != shape or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous of shape {shape}, got shape {out.shape}")
