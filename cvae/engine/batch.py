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
    """The arrays that objectives record from and to. T is the size of a code; row r of n * k belongs to image r // k.

    Attributes
    ----------
    images : array, shape (n, rows * cols * channels)
        The images whose likelihood counts.
    code, dcode : arrays, shape (n, 2T)
        The encoder's output, means and log variances side by side, and the gradient with respect to it.
    mean, log_var, deviation : arrays, shape (n, T)
        The two halves of `code`, and the standard deviation exp(log_var / 2).
    dmean, dlog_var : arrays, shape (n, T)
        Gradients of the terms that do not depend on z.
    noise, z, dz : arrays, shape (n * k, T)
        Standard normal noise, the codes mean + noise * deviation, and the gradient with respect to them.
    outputs, doutputs : arrays, shape (n * k, n_outputs)
        The decoder's output and the gradient with respect to it; they may be the same memory.
    reconstruction : array, shape (n * k,), float64
        -log p(x | z) of each code.
    kl : array, shape (n,), float64
        KL divergence from each image's posterior to the prior.
    weights, kl_weights : arrays, shape (n * k,) and (n,), float64
        Weights of the elements of `reconstruction` and `kl` in the gradients.
    totals : array, float64
        The objective's terms, summed over the images.
    step : int
        How many training steps there were before.
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
    step: int = 0

    @classmethod
    def allocate(cls, encoder: Network, decoder: Network, images: Array, n_terms: int) -> Batch:
        """Allocate the arrays between two networks for as many images as there are in `images`."""
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
        """Return the part for the first n images, with the first `rows` codes."""
        parts = {name: array for name, array in vars(self).items() if name not in ("totals", "step")}
        sizes = {name: rows if name in PER_ROW else n for name in parts}
        return Batch(**vars(self) | {name: array[: sizes[name]] for name, array in parts.items()})
