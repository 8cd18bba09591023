"""The arrays between encoder and decoder, for a batch of n images with k codes each."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.engine.network import Network
from cvae.runtime.workspace import empty

Array = npt.NDArray[Any]


PER_ROW = ("noise", "z", "dz", "outputs", "doutputs", "reconstruction", "weights")


class Batch(SimpleNamespace):
    """What objectives record from and to. T is the size of a code; row r of n * k rows belongs to image r // k.

    Attributes
    ----------
    images : array, shape (n, rows * cols * channels)
        The images whose likelihood counts.
    code, dcode : arrays, shape (n, 2T)
        The encoder's output, means and log variances side by side, and the gradient with respect to it.
    mean, log_var, deviation : arrays, shape (n, T)
        Its halves, and the standard deviation exp(log_var / 2).
    dmean, dlog_var : arrays, shape (n, T)
        For the gradients of terms that do not depend on z.
    noise, z, dz : arrays, shape (n * k, T)
        Standard normal noise, the codes mean + noise * deviation, and the gradient with respect to them.
    outputs, doutputs : arrays, shape (n * k, n_outputs)
        The decoder's output and the gradient with respect to it; they may be the same memory.
    reconstruction : array, shape (n * k,), float64
        For -log p(x | z) of each code.
    kl : array, shape (n,), float64
        For the KL divergence of each image's posterior.
    weights, kl_weights : arrays, shape (n * k,) and (n,), float64
        How much the rows of `reconstruction` and `kl` count in the gradients.
    totals : array, float64
        The objective's terms, summed over the images.
    """

    images: Array
    code: Array
    dcode: Array
    outputs: Array
    doutputs: Array
    mean: Array
    log_var: Array
    deviation: Array
    dmean: Array
    dlog_var: Array
    noise: Array
    z: Array
    dz: Array
    reconstruction: Array
    kl: Array
    weights: Array
    kl_weights: Array
    totals: Array

    @classmethod
    def allocate(cls, encoder: Network, decoder: Network, images: Array, n_terms: int) -> Batch:
        """Return room for as many images as there are in `images`, between these networks."""
        n, rows = len(images), len(decoder.output)
        T, dtype = encoder.output.shape[1] // 2, encoder.output.dtype
        halves = {name: empty((n, T), dtype) for name in ("mean", "log_var", "deviation", "dmean", "dlog_var")}
        codes = {name: empty((rows, T), dtype) for name in ("noise", "z", "dz")}
        sums = {"reconstruction": rows, "weights": rows, "kl": n, "kl_weights": n, "totals": n_terms}
        return cls(
            images=images.reshape(n, -1),
            code=encoder.output,
            dcode=encoder.output_grad,
            outputs=decoder.output.reshape(rows, -1),
            doutputs=decoder.output_grad.reshape(len(decoder.output_grad), math.prod(decoder.output.shape[1:])),
            **halves,
            **codes,
            **{name: empty((size,), np.float64) for name, size in sums.items()},
        )

    def head(self, n: int, rows: int) -> Batch:
        """Return the part of the first n images and the first rows of codes."""
        sizes = {name: rows if name in PER_ROW else n for name in vars(self)}
        return Batch(**{name: a if name == "totals" else a[: sizes[name]] for name, a in vars(self).items()})
