"""From the arguments of `fit` to a training: everything is checked and prepared, or nothing has changed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae import conditions
from cvae.by_hand import ByHand
from cvae.checking import check_number, check_size, check_switch
from cvae.conditions import Labels
from cvae.data.blocks import as_blocks
from cvae.data.columns import Columns, shape_of, warn_of_other_order
from cvae.data.intake import as_array, images_and_labels
from cvae.data.mapping import PixelMapping
from cvae.data.weights import Weights
from cvae.exclusion import alone
from cvae.feeding import Labelled, check_repeatable, feed_of
from cvae.nn.normalization import BatchNorm1D
from cvae.nn.sequence import Layers
from cvae.parts import check_parts
from cvae.scikit_learn import run_with_callbacks
from cvae.sharding import resolve_sharding
from cvae.streaming import stream_of
from cvae.team import team_of, together
from cvae.training import AnyCallback, as_callbacks, train
from cvae.undo import undone_on_error
from cvae.warning import warn


class Fitting(ByHand):
    """What `fit` and `partial_fit` have in common."""

    def _fit(
        self,
        X: npt.ArrayLike,
        y: Any,
        weights: Weights,
        *,
        anew: bool,
        n_epochs: int | None = None,
        batchsize: int | None = None,
        verbose: bool | None = None,
        validation_data: Any = None,
        validation_fraction: float | None = None,
        callbacks: Sequence[AnyCallback] = (),
        accumulate: int | None = None,
        n_shards: int | None = None,
        comm: Any = None,
        parts: bool = False,
        classes: Any = None,
    ) -> Self:
        """Check everything, prepare the model and train it; until the first step, all or nothing."""
        generators = [each for each in (self.random_state,) if isinstance(each, np.random.Generator)]
        goes_on = not anew and self._image_shape is not None
        kept = undone_on_error([self], () if goes_on else generators)
        with alone(self), team_of(comm) as team, kept as forget:
            with together(team):
                self._begin_fit(anew=anew)
                if classes is not None:
                    self._label_kind = conditions.of_classes(self.condition, self._label_kind, classes)
                n_epochs = check_size("n_epochs", self.n_epochs if n_epochs is None else n_epochs)
                size = check_size("batchsize", self.batchsize if batchsize is None else batchsize)
                shows = check_switch("verbose", self.verbose if verbose is None else verbose)
                callbacks = as_callbacks(callbacks)
                _check_validation(validation_data, validation_fraction)
                interrupted = () if self._position is None else self._position.shards
                sharding = resolve_sharding(team, n_shards, accumulate, interrupted)
                check_parts(parts, team, validation_fraction)
                feed, validation, mapping = feed_of(
                    self,
                    X,
                    self._if_conditional(y),
                    weights,
                    n_epochs=n_epochs,
                    batchsize=size if sharding is None else size * sharding.accumulate,
                    cuts=batchsize is not None or (sharding is not None and sharding.accumulate > 1),
                    validation_fraction=validation_fraction,
                    team=team,
                    parts=parts,
                )
                if validation_data is not None:
                    if self._image_shape is None:
                        self._columns = Columns.of(feed.given)
                    image_shape = feed.images.shape[1:]
                    validation = self._as_validation(validation_data, image_shape, feed.labels, mapping, n_epochs)
                largest = feed.largest if sharding is None else sharding.largest_part(feed.largest)
                self._warn_of_surprises(X, y, weights, largest)
                self._prepare(feed.images, feed.labels, largest, training=True, mapping=mapping, given=feed.given)
            self._mixture = None
            if goes_on:
                forget()  # training goes on in the arrays that there are, and can be resumed from where it stops
            run = partial(
                train,
                self,
                feed,
                n_epochs=n_epochs,
                verbose=shows,
                stepped=forget,
                validation=validation,
                sharding=sharding,
            )
            data = {"X": X, "y": y, "metadata": weights}
            run_with_callbacks(self, run, callbacks, n_epochs, self._copied_layers, data)
        return self

    def _warn_of_surprises(self, X: Any, y: Any, weights: Weights, largest: int) -> None:
        """Warn of what is valid, but hardly meant: batches of one, images in the place of labels, and another order."""
        if largest == 1 and any(isinstance(layer, BatchNorm1D) for layer in self._parts()):
            warn(
                "BatchNorm1D puts out the same for all images in batches of one, of which it is the mean: a batchsize "
                "of 2 or more is needed to learn through it",
            )
        if self.condition is None and y is not None and _is_other_images(y, X):
            warn(
                "y is ignored: a model without condition learns to put out X; images to validate with are "
                "validation_data, and weights are sample_weight",
            )
        for name, value in {"y": self._if_conditional(y), **weights}.items():
            warn_of_other_order(X, value, name)

    def _copied_layers(self) -> dict[str, Layers]:
        """Return copies of the layers by the names of their attributes."""
        return dict(zip(("encoder_", "decoder_"), copy.deepcopy((self.encoder_, self.decoder_)), strict=True))

    def _as_validation(
        self, data: Any, image_shape: Sequence[int], labels: Labels | None, mapping: PixelMapping, n_epochs: int
    ) -> Labelled:
        """Return validation images and, for a conditional model, labels out of those of the training images."""
        X, y = images_and_labels(data, "validation_data")
        kind, blocks = None if labels is None else labels.kind, as_blocks(X, image_shape)
        if blocks is not None:
            check_repeatable(blocks, n_epochs, "validation_data")
            return stream_of(self, blocks, self._if_conditional(y), "validation_data", image_shape, mapping, kind), None
        images, y = self._as_images(X, "validation_data", image_shape, mapping), self._if_conditional(y)
        warn_of_other_order(X, y, "validation_data[1]", "validation_data[0]")
        return images, self._as_labels(y, len(images), "the labels of validation_data", kind)


def _is_other_images(y: Any, X: Any) -> bool:
    """Return whether labels are images that X does not begin with, or not as many as X has: a target of another kind.

    X itself is what autoencoders of other libraries are given.
    """
    ours, theirs = shape_of(X), shape_of(y)
    if y is X or not ours or not theirs:
        return False
    if ours[0] != theirs[0] or len(theirs) <= 2:
        return ours[0] != theirs[0]
    if not (hasattr(X, "__getitem__") and hasattr(y, "__getitem__")):
        return True
    return not np.array_equal(as_array(X[:1], "X"), as_array(y[:1], "y"))


def _check_validation(data: Any, fraction: float | None) -> None:
    """Raise TypeError or ValueError unless there is one source of images to validate with, or none."""
    if fraction is not None:
        check_number("validation_fraction", fraction, "(0, 1)")
        if data is not None:
            raise ValueError("validation_fraction must be left out with validation_data, got both")
