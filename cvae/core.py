"""The core of a model: layers, likelihood, objective, random number generators, and the passes over them."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvae import assembly, conditions
from cvae.annealing import Clock
from cvae.checking import check_bool, check_number, check_size, check_switch
from cvae.conditions import Labels
from cvae.data.binarization import Binarization
from cvae.data.columns import Columns
from cvae.data.images import resolve_image_shape
from cvae.data.mapping import PixelMapping
from cvae.estimator import HINTS, Given, not_fitted
from cvae.hints import OF_MODELS, no_attribute
from cvae.inputs import Array, ImageShape, Inputs
from cvae.likelihoods import Likelihood
from cvae.nn.base import LayerBase, check_dtype
from cvae.nn.initializers import OptimizerInitializer
from cvae.nn.sequence import Layers
from cvae.objectives import Objective
from cvae.optim.base import OptimizerBase
from cvae.optim.schedulers import ConstantScheduler
from cvae.pass_cache import PassCache
from cvae.passes import Passes
from cvae.random import make_rng
from cvae.runtime.threads import check_num_threads
from cvae.scaling import in_given_units, resolve_value_range
from cvae.undo import undone_on_error
from cvae.warning import warn

_passes_of_models = PassCache()


class Core(Inputs):
    """Base of the models, which declare the arguments annotated here among their own and make layers from them."""

    _hints = HINTS | OF_MODELS
    _keeps_parameters = frozenset(
        {
            "n_epochs", "batchsize", "n_threads", "verbose", "optimizer", "lr", "global_clip_norm", "binarize",
            "warm_start", "dtype", "random_state",
        }
    )  # fmt: skip
    _describes_objective: frozenset[str] = frozenset()  # arguments that `_make_objective` reads
    _made_by_start = frozenset(
        {
            "encoder_", "decoder_", "history_", "_rng", "_sampling_rng", "_likelihood", "_given_likelihood",
            "_objective", "_clock", "_binarization", "_value_range",
        }
    )  # fmt: skip
    T: int
    n_epochs: int
    batchsize: int
    value_range: Sequence[float] | str | None
    optimizer: Any = Given()
    lr: Any = Given()
    global_clip_norm: float | None
    binarize: float | str | None
    warm_start: bool
    random_state: int | np.random.Generator | np.random.RandomState | None
    verbose: bool

    # Of a model that has no parameters yet, beside what `Inputs` has.
    _optimizer_text: str | None = None  # of the optimizer that is in effect
    _position: Any = None  # within an epoch that was interrupted, see `cvae.training`

    @abstractmethod
    def _make_encoder(self, image_shape: ImageShape | None) -> Layers:
        """Return new layers, without drawing random numbers; none if they depend on an image shape that is None."""

    @abstractmethod
    def _make_decoder(self, image_shape: ImageShape | None, likelihood: Likelihood) -> Layers:
        """Return the same of the decoder."""

    @abstractmethod
    def _make_likelihood(self) -> Likelihood: ...

    @abstractmethod
    def _make_objective(self) -> Objective: ...

    def _check_arguments(self) -> None:
        for name in ("T", "n_epochs", "batchsize"):
            check_size(name, getattr(self, name))
        check_dtype(self.dtype)
        check_bool("warm_start", self.warm_start)
        check_switch("verbose", self.verbose)
        conditions.check_condition(self.condition)
        if self.n_threads is not None:
            check_num_threads("n_threads", self.n_threads)
        if self.image_shape is not None:
            resolve_image_shape(self.image_shape)
        if self.global_clip_norm is not None:
            check_number("global_clip_norm", self.global_clip_norm, "[0, inf)")
        Binarization(self.binarize)

    def __getattr__(self, name: str) -> Any:
        """Make what the arguments describe when it is first asked for, as the constructor does not."""
        if name in self._made_by_start and not self._is_started:
            self._start()
            return vars(self)[name]
        if name in {*Inputs.__annotations__, *Core.__annotations__} and not name.startswith("_"):  # an argument
            raise no_attribute(self, name, {name: "its class's __init__ must call super().__init__"})
        return super().__getattr__(name)

    def _start(self) -> None:
        """Check the arguments and reset the model: layers without parameters, random number generators, history."""
        self._check_arguments()
        self._new_optimizer()
        likelihood, objective = self._make_likelihood(), self._make_objective()
        value_range = resolve_value_range(self.value_range, likelihood)
        image_shape = None if self.image_shape is None else resolve_image_shape(self.image_shape)
        encoder, decoder = self._new_encoder(image_shape), self._new_decoder(image_shape, likelihood)
        # Nothing below fails, so a generator shared with the caller is not advanced by a failed attempt.
        self._take_generator()
        self._likelihood = self._given_likelihood = likelihood
        self._objective, self._clock = objective, Clock()
        self._binarization = Binarization(self.binarize)
        self.encoder_, self.decoder_ = self._joined(encoder), self._joined(decoder)
        self.history_: dict[str, list[float]] = {}
        for name in ("_image_shape", "_label_kind", "_mapping", "_columns", "_position"):
            vars(self).pop(name, None)
        self._value_range = value_range
        _passes_of_models.kept_for(self).clear()
        self._remember_arguments()

    def _begin_fit(self, *, anew: bool) -> None:
        """Start anew if the model has parameters and is asked to; else apply arguments that have changed."""
        self._warn_of_unused()
        if anew and self._image_shape is not None:
            if self._position is not None and self._position.interrupted:
                warn(
                    "fit starts anew, without what was trained before the interruption: partial_fit, or fit after "
                    "set_params(warm_start=True), goes on",
                )
            elif not all(layer.trainable for layer in self._layers().values()):
                warn(
                    "fit starts anew, with new parameters in the frozen layers too, which are frozen no more: "
                    "partial_fit, or fit after set_params(warm_start=True), keeps them",
                )
            self._start()
        else:
            self._sync_training()
            if self._has_other_lists():
                self._apply(set(self._changed()))

    def _sync_training(self) -> None:
        """Apply arguments as `_sync` does, and changes within the optimizer that was given as an object or a dict.

        Layers have copies of it, to which such a change is none.
        """
        self._sync()
        if self._optimizer_text not in (None, str(self.optimizer)):
            self._apply({"optimizer"})

    def _remember_arguments(self) -> None:
        super()._remember_arguments()
        self._optimizer_text = str(self.optimizer)

    def _waits_for_fit(self) -> bool:
        """Return whether arguments have changed that a model with parameters can only take into account from anew."""
        return self._image_shape is not None and bool(self._changed_layers(self._changed()))

    def _take_generator(self) -> None:
        """Make the random number generators from `random_state`."""
        before, self._rng = vars(self).get("_rng"), make_rng(self.random_state)
        # A separate stream, so that sampling between epochs does not change the training.
        self._sampling_rng = self._rng.spawn(1)[0]
        if before is not None and "encoder_" in vars(self):
            for layer in self._parts():
                if layer.rng is before:
                    layer.rng = self._rng

    def _new_optimizer(self) -> OptimizerBase:
        """Return a new optimizer, as the arguments `optimizer` and `lr` describe it."""
        optimizer = OptimizerInitializer(self.optimizer)()
        if self.lr is not None:
            check_number("lr", self.lr, "[0, inf)")
            if not isinstance(optimizer.lr_scheduler, ConstantScheduler):
                raise ValueError(f"lr must be None for an optimizer with a lr_scheduler, got {self.lr!r}")
            optimizer.lr = self.lr
        return optimizer

    def _joined(self, layers: Layers) -> Layers:
        """Return new layers after giving them the model's optimizer, dtype and generator."""
        for layer in layers.values():
            layer.join(optimizer=self._new_optimizer(), dtype=self.dtype, rng=self._rng)
        return layers

    def _take_effect(self, changed: set[str]) -> None:
        if self._image_shape is None and not changed <= self._keeps_parameters:
            self._start()
            return
        former = self._changed()
        for name in self._changed_layers(former):
            raise not_fitted(
                f"{name} has changed from {former[name]!r} to {getattr(self, name)!r} since this {type(self).__name__} "
                "was fitted: call fit, which starts anew, or set it back"
            )
        optimizer = self._new_optimizer()
        objective = self._make_objective() if changed & self._describes_objective else self._objective
        clock = self._clock if objective.beta == self._objective.beta else Clock()
        with undone_on_error(self._parts()):
            if changed & {"optimizer", "lr"}:
                for layer in self._layers().values():
                    layer.take_optimizer(optimizer)
            if "dtype" in changed:
                for layer in self._layers().values():
                    layer.take_dtype(self.dtype)
            if "random_state" in changed:
                self._take_generator()
        self._objective, self._clock, self._binarization = objective, clock, Binarization(self.binarize)

    def _changed_layers(self, former: dict[str, Any]) -> list[str]:
        """Return which of these arguments, given with their former values, a trained model cannot change."""
        changed = [name for name in former if name not in self._keeps_parameters]
        if "image_shape" in changed:
            with contextlib.suppress(TypeError, ValueError):  # of an invalid one, which `_check_arguments` reports
                if self.image_shape is None or resolve_image_shape(self.image_shape) == self._image_shape:
                    changed.remove("image_shape")
        return changed

    def _parts(self) -> list[LayerBase]:
        """Return all layers, and those inside of them."""
        return [part for layer in self._layers().values() for part in layer.parts()]

    def _layers(self) -> dict[str, LayerBase]:
        """Return all layers by path, such as "encoder/Conv1", from the input to the output."""
        parts = {"encoder": self.encoder_, "decoder": self.decoder_}
        return {f"{part}/{name}": layer for part, layers in parts.items() for name, layer in layers.items()}

    def _new_encoder(self, image_shape: ImageShape | None) -> Layers:
        """Return `_make_encoder` with a layer that reads labels, if the model is conditional: before the code."""
        encoder = self._make_encoder(image_shape)
        return assembly.with_condition(encoder, self.condition, len(encoder) - 1)

    def _new_decoder(self, image_shape: ImageShape | None, likelihood: Likelihood) -> Layers:
        """Return `_make_decoder` with a layer that reads labels, if the model is conditional: at the start."""
        return assembly.with_condition(self._make_decoder(image_shape, likelihood), self.condition, 0)

    def _make_missing(self, image_shape: ImageShape) -> None:
        """Make the layers that depend on the shape of the images, unless they exist."""
        if not self.encoder_:
            self.encoder_ = self._joined(self._new_encoder(image_shape))
        if not self.decoder_:
            self.decoder_ = self._joined(self._new_decoder(image_shape, self._likelihood))

    def _initialize(
        self, image_shape: ImageShape, mapping: PixelMapping, kind: conditions.LabelKind | None = None
    ) -> None:
        """Create all parameters for such images and labels unless they exist; `_prepare` undoes half of them."""
        if self._image_shape is None:
            self._make_missing(image_shape)
            n_labels = 0 if kind is None else kind.n_labels
            assembly.initialize(self.encoder_, self.decoder_, self._likelihood, image_shape, self.T, n_labels)
            self._image_shape, self._label_kind, self._mapping = image_shape, kind, mapping
            self._given_likelihood = in_given_units(self._likelihood, self._value_range, mapping, image_shape)

    def _prepare(
        self,
        images: Array,
        labels: Labels | None,
        batchsize: int,
        *,
        training: bool,
        mapping: PixelMapping | None = None,
        given: Any = None,
    ) -> Passes:
        """Create parameters and passes for images, `given` as what the user passed.

        After an error, of too little memory say, nothing has changed.
        """
        layers = self._parts()
        rngs = {id(rng): rng for rng in (self._rng, *(layer.rng for layer in layers)) if rng is not None}
        rows, cols, channels = images.shape[1:]
        with undone_on_error([self, *layers], rngs.values()):
            kind = None if labels is None else labels.kind
            if self._image_shape is None:
                self._columns = Columns.of(images if given is None else given)
                self._columns.warn_of_others()
            try:
                self._initialize((rows, cols, channels), mapping or self._mapping_of(images), kind)
            except ValueError as error:
                if not self._columns.are_rows or self.image_shape is not None:
                    raise
                message = f"{error} (rows of {cols} features are images of 1x{cols} pixels without image_shape)"
                raise ValueError(message) from None
            if training:
                self._adopt_parameters()
                for layer in layers:
                    layer.own_arrays()
            return self._passes(batchsize, training=training)

    def _adopt_parameters(self) -> None:
        """Bring arrays that a user has assigned to layers' parameters to the form that kernels read."""
        if self._image_shape is not None:
            for path, layer in self._layers().items():
                layer.adopt_parameters(path)

    def _passes(self, batchsize: int, *, training: bool) -> Passes:
        """Return passes for batches of at least this size, cached for each Python thread."""
        kept = _passes_of_models.kept_for(self)
        made_from = self.encoder_, self.decoder_, self._given_likelihood, self._objective, self._clock
        passes = kept.get(training)
        if passes is None or passes.batchsize < batchsize or not passes.is_current(*made_from):
            image_shape = self._require_fitted()
            passes = None
            kept.pop(training, None)  # free its memory before allocating the new one
            self._adopt_parameters()
            assembly.check_shapes(self.encoder_, self.decoder_, self._likelihood, image_shape, self.T)
            n_labels = 0 if self._label_kind is None else self._label_kind.n_labels
            passes = Passes(*made_from, batchsize, image_shape, training=training, n_labels=n_labels)
            kept[training] = passes
        return passes

    def _fitted_text(self) -> str:
        if self._image_shape is None:
            return ""
        n_epochs, shape = len(self.history_.get("loss", ())), "x".join(map(str, self._image_shape))
        return f"trained for {n_epochs} epoch{'' if n_epochs == 1 else 's'} on images of {shape}"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        with contextlib.suppress(TypeError, ValueError):  # of invalid arguments, which `fit` reports
            tags.transformer_tags.preserves_dtype = [check_dtype(self.dtype).name]
            tags.input_tags.positive_only = self._make_likelihood().pixels != "real" and self.value_range is None
        tags.input_tags.three_d_array = True
        tags.target_tags.required = self.condition is not None
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return self._image_shape is not None and not self._waits_for_fit()
