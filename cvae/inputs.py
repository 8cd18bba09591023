"""What a model learns of its first images and labels, and how it checks all that it gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cvae import conditions
from cvae.conditions import Labels
from cvae.data.binarization import Binarization
from cvae.data.columns import Columns, shape_of
from cvae.data.images import as_images
from cvae.data.intake import BYTES, NUMBERS
from cvae.data.mapping import PixelMapping
from cvae.estimator import Estimator, not_fitted
from cvae.likelihoods import Likelihood
from cvae.runtime.threads import limit_threads
from cvae.scaling import ValueRange, checked_pixels, learn_mapping
from cvae.streaming import Stream

Array = npt.NDArray[Any]
ImageShape = tuple[int, int, int]
Learnt = TypeVar("Learnt")


class Inputs(Estimator):
    """Images and labels of a model, whose arguments and other parts are defined below."""

    image_shape: Sequence[int] | None
    condition: str | None
    dtype: npt.DTypeLike
    n_threads: int | None
    _likelihood: Likelihood
    _value_range: ValueRange
    _binarization: Binarization

    # Of a model that has no parameters yet.
    _image_shape: ImageShape | None = None
    _label_kind: conditions.LabelKind | None = None
    _mapping: PixelMapping | None = None
    _columns: Columns = Columns()

    def _mapping_of(self, images: Array | Stream, name: str = "X") -> PixelMapping:
        """Return the mapping of pixels to those that the likelihood sees, learnt from the model's first images."""
        if self._mapping is not None:
            return self._mapping
        binarized, parts = self._binarization.how is not None, None
        if isinstance(images, Stream):
            needs_some = self._value_range is None and self._likelihood.standardizes and not binarized
            parts = images.all_blocks()
            images = images.larger_sample() if needs_some else images.sample
        return learn_mapping(images, name, self._likelihood, self._value_range, binarized=binarized, parts=parts)

    @property
    def pixel_offset_(self) -> npt.NDArray[np.float64]:
        """What is subtracted from the pixels of each channel, shape (channels,); then `pixel_scale_` divides them.

        Zeros and ones unless the model has a `value_range`, or a likelihood that standardizes pixels. Pixels of uint8
        images are divided by 255 before, unless there is a `value_range`.
        """
        return self._learnt(self._mapping).offset.copy()

    @property
    def pixel_scale_(self) -> npt.NDArray[np.float64]:
        """What divides the pixels of each channel, shape (channels,), after `pixel_offset_` has been subtracted."""
        return self._learnt(self._mapping).scale.copy()

    @property
    def n_features_in_(self) -> int:
        """The number of pixels of an image, over all channels."""
        return math.prod(self._learnt(self._image_shape))

    @property
    def feature_names_in_(self) -> npt.NDArray[np.object_]:
        """The names of the columns of the data frame that `fit` got, shape (n_features,)."""
        self._learnt(self._image_shape)
        if self._columns.names is None:
            raise AttributeError(f"this {type(self).__name__} was not fitted to columns with names")
        return np.array(self._columns.names, dtype=object)

    def _require_fitted(self) -> ImageShape:
        """Return the image shape, or raise NotFittedError."""
        self._sync()
        return self._learnt(self._image_shape)

    def _learnt(self, value: Learnt | None) -> Learnt:
        """Return what the model has learnt from images, or raise NotFittedError if that is None."""
        if value is None:
            name = type(self).__name__
            raise not_fitted(f"this {name} has no parameters yet: call fit, partial_fit or forward first")
        return value

    @property
    def _known_shape(self) -> Sequence[int] | None:
        """The shape of the images, if it is known before they are."""
        return self._image_shape or self.image_shape

    def _as_images(
        self,
        X: npt.ArrayLike,
        name: str = "X",
        image_shape: Sequence[int] | None = None,
        mapping: PixelMapping | None = None,
        first: int | None = None,
    ) -> Array:
        """Return X checked, (n, rows, cols, channels) in its own dtype, a view if possible; see `cvae.data.images`.

        `first` is the number of the first image if X is a block of a larger set.
        """
        shape = image_shape or self._known_shape
        if type(X) is np.ndarray and X.ndim == 4 and X.shape[1:] == shape and X.size and X.dtype.kind in NUMBERS:
            images = X  # as `as_images` would find, but that a single image takes a tenth less time
        else:
            axes = shape_of(X)
            if len(axes) == 2:
                if expected := self._image_shape or image_shape:
                    self._columns.check(X, name, type(self).__name__, tuple(expected))
                if shape is None and axes[1] > 0:
                    shape = (1, axes[1], 1)
            images = as_images(X, shape, name=name)
        known, binarized = mapping or self._mapping, self._binarization.how is not None
        arguments = images, name, self._likelihood, self._value_range, known
        if images.dtype.char in BYTES:  # no kernel looks at them
            return checked_pixels(*arguments, binarized=binarized, first=first)
        with limit_threads(self.n_threads if first is None else 1):
            return checked_pixels(*arguments, binarized=binarized, first=first)

    def _as_labels(self, y: Any, n: int, name: str = "y", kind: conditions.LabelKind | None = None) -> Labels | None:
        """Return the labels y of n images or codes, checked; None for a model without condition, which takes none.

        Until the model has learnt what there is to know about labels, it is taken to be `kind`; None learns it from y.
        """
        if y is None and self.condition is None:
            return None
        return conditions.as_labels(self.condition, self._label_kind or kind, y, n, self.dtype, name)

    def _if_conditional(self, y: Any) -> Any:
        """Return y, or None for a model without condition, to which scikit-learn gives labels without need."""
        return None if self.condition is None else y

    def _as_pictures(self, images: Array) -> Array:
        """Return images in the units of the model's pixels from 0, black, to 1, white; means may leave that range."""
        assert self._mapping is not None
        low, high = self._picture_ends()
        unit = 255 if images.dtype == np.uint8 and self._mapping.divides_bytes else 1
        # A set of equal pixels is black.
        return np.clip((images / np.float64(unit) - low) / ((high - low) or 1), 0, 1)

    def _picture_ends(self) -> tuple[float, float]:
        """Return the pixels that pictures show as black and white."""
        assert self._mapping is not None
        low, high = self._mapping.ends
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
