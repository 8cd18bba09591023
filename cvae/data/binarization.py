"""Black and white images from grey ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import pixelwise
from cvae._kernels.program import Program
from cvae.checking import check_number
from cvae.runtime.programs import run

Array = npt.NDArray[Any]


class Binarization:
    """How a model makes grey pixels in [0, 1] black (0) or white (1).

    Parameters
    ----------
    how : None, "dynamic", "fixed" or float
        None leaves them as they are. "dynamic" draws each pixel, white with the probability that its grey value is:
        anew every time that an image is used in training; in other uses, by a key and the image. "fixed" draws them
        once: the same image gives the same draws in all models. A number, from 0 to less than 1, is a threshold, and
        greater values are white.

    Raises
    ------
    TypeError, ValueError
        If `how` is none of these.

    Notes
    -----
    Source of the dynamic kind: Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks";
    Burda et al. 2016 train on it.
    """

    def __init__(self, how: Any) -> None:
        if how is not None and not (isinstance(how, str) and how in ("dynamic", "fixed")):
            message = f"binarize must be None, 'dynamic', 'fixed' or a threshold in [0, 1), got {how!r}"
            if isinstance(how, str):
                raise ValueError(message)
            try:
                how = check_number("binarize", how, "[0, 1)")
            except (TypeError, ValueError) as error:
                raise type(error)(message) from None
        self.how = how

    def new_key(self, rng: np.random.Generator) -> np.uint64:
        """Return a key for draws; 0, without advancing the generator, unless they are "dynamic"."""
        return rng.integers(2**64, dtype=np.uint64) if self.how == "dynamic" else np.uint64(0)

    def apply(self, images: Array, key: np.uint64, *, training: bool = False) -> Array:
        """Binarize images (n, ...), C-contiguous, in place and return them."""
        if self.how is not None and images.size:
            run(self.record, images, np.array([key], np.uint64), training=training)
        return images

    def record(self, program: Program, images: Array, key: npt.NDArray[np.uint64], *, training: bool) -> None:
        """Record the binarization of images (n, ...) in place.

        Parameters
        ----------
        program : Program
        images : array
            C-contiguous.
        key : array, shape (1,)
            Read when the program runs.
        training : bool
            Whether "dynamic" draws depend on the place in the batch, so that equal images differ, or on the image
            alone, so that its likelihood does not depend on its neighbours.
        """
        if self.how in ("dynamic", "fixed"):
            by_content = self.how == "fixed" or not training
            rows = images.reshape(len(images), -1)
            pixelwise.binarize(program, rows, rows, key, by_content)
        elif self.how is not None:
            pixelwise.threshold(program, images.reshape(-1), images.reshape(-1), self.how)
