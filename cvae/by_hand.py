"""numpy-ml's model interface: forward, backward and update by hand, and nested dictionaries over all layers.

The passes are those that `fit` records, except for the optimizer steps, which `update` takes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae.checking import check_switch
from cvae.data.gathering import gather
from cvae.derived import Derived, Values, derived_names, output_gradients, run_one_by_one
from cvae.inputs import Array
from cvae.nn.base import as_floats
from cvae.nn.sequence import Layers
from cvae.optim.updates import Updates
from cvae.passes import Passes
from cvae.random import standard_normal
from cvae.runtime.threads import limit_threads
from cvae.sampling import Sampling


class _Forward:
    """A forward pass that `backward` may follow; `passes` is None once their outputs have been overwritten."""

    def __init__(
        self, passes: Passes, images: Array, labels: Array, key: np.uint64, noise: Array, X_recon: Array
    ) -> None:
        self.passes: Passes | None = passes
        self.images, self.labels, self.key, self.noise, self.X_recon = images, labels, key, noise, X_recon


class ByHand(Sampling):
    """`forward`, `backward`, `update` and the properties of numpy-ml's model."""

    _of_forward = frozenset({"_retained", "_derived"})
    _made_by_start = Sampling._made_by_start | _of_forward

    def _start(self) -> None:
        super()._start()
        self._forget_forward()

    def _forget_forward(self) -> None:
        """Reset to the state before any `forward`."""
        self._retained: list[_Forward] = []
        self._derived = Values({})

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what `forward` retained, which lies in memory that a copy cannot share."""
        return {name: value for name, value in vars(self).items() if name not in self._of_forward}

    def __copy__(self) -> Self:
        """Return a model of its own: one that shared layers with this one would be half of it after either trains."""
        return copy.deepcopy(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._is_started:
            self._forget_forward()

    def _components(self, attribute: str) -> dict[str, Any]:
        def values(layers: Layers) -> dict[str, Any]:
            return {name: getattr(layer, attribute) for name, layer in layers.items()}

        return {"components": {"encoder": values(self.encoder_), "decoder": values(self.decoder_)}}

    @property
    def parameters(self) -> dict[str, Any]:
        """The layers' own parameter arrays: ``["components"]["encoder"]["Conv1"]["W"]`` and so on."""
        return self._components("parameters")

    @property
    def gradients(self) -> dict[str, Any]:
        """The layers' own gradient arrays, nested like `parameters`; `update` sets them to zero."""
        return self._components("gradients")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The model's arguments, the names of its layers, and their hyperparameters."""
        return {
            "layer": type(self).__name__,
            **self.get_params(),
            "encoder_ids": list(self.encoder_),
            "decoder_ids": list(self.decoder_),
            **self._components("hyperparameters"),
        }

    @property
    def derived_variables(self) -> Mapping[str, Any]:
        """numpy-ml's intermediate values of the last `forward` and `backward`, such as gradients of layer outputs.

        Training does not need most of them, so they are computed when one is first requested, which must be before
        `update` changes the parameters. A value is None without a pass to compute it from, or if requested too late.
        """
        return Derived(
            derived_names(self.encoder_, self.decoder_),
            self._derived,
            lambda: self._components("derived_variables")["components"],
            self._output_gradients,
        )

    def forward(
        self,
        X_train: npt.ArrayLike,
        retain_derived: bool = True,
        noise: npt.ArrayLike | None = None,
        y: Any = None,
    ) -> Array:
        """Encode a batch of images, draw a code for each, and decode it.

        Parameters
        ----------
        X_train : array, shape (n, rows, cols, channels)
            Images, as for `fit`.
        retain_derived : bool
            Whether to keep what `backward` needs.
        noise : array, shape (n, T), optional
            Standard normal numbers; drawn from the model's generator if not given.
        y : array or label
            The labels of a conditional model, as for `fit`.

        Returns
        -------
        X_recon : array, shape (n, rows * cols * channels)
            The mean image of each code, in the units of `decode`; for Bernoulli pixels, their probabilities.
        """
        self._sync()
        check_switch("retain_derived", retain_derived)
        images, labels = self._in_memory(X_train, y)
        n, codes = len(images), self._objective.codes
        shape = n * codes, self.T
        given = None if noise is None else as_floats(noise, "noise", self.dtype)
        if given is not None and given.shape != shape:
            raise ValueError(f"noise must have the shape {shape}, got {given.shape}")
        if given is not None and not np.isfinite(given).all():
            raise ValueError("noise must be finite, got NaN or infinity")
        if not any(layer.has_retained for layer in self._layers().values()):  # flushed layer by layer
            self._retained = []
        if self._retained and retain_derived:  # compute what its layers retain before reusing its memory
            self._components("X")
        with limit_threads(self.n_threads):
            passes = self._prepare(
                images, labels, n if retain_derived else n * codes, training=retain_derived, given=X_train
            )
            key = self._binarization.new_key(self._rng)
            drawn = standard_normal(self._rng, shape, self.dtype) if given is None else given
            self._load(passes, images, labels, slice(0, n), key, training=True)
            passes.noise[: len(drawn)] = drawn
            X_recon = passes.forward(n, codes)
        if retain_derived:
            self._retain(passes, X_recon, key, drawn)
        return X_recon

    def backward(self, X_train: npt.ArrayLike, X_recon: npt.ArrayLike) -> Array:
        """Add the gradients of the loss after the last `forward` to the layers' `gradients`.

        Parameters
        ----------
        X_train : array, shape (n, rows, cols, channels)
            The images that the reconstructions are compared with, usually the batch that went forward.
        X_recon : array, shape (n, rows * cols * channels)
            What `forward` returned.

        Returns
        -------
        dX : array, shape (n, rows, cols, channels)
            The gradient with respect to the encoder's input, without the part of the loss's target. The encoder's input
            are pixels after `pixel_offset_` and `pixel_scale_`.

        Raises
        ------
        RuntimeError
            Unless exactly one `forward` was retained since the last `update` or `flush_gradients`.
        ValueError
            If a shape differs from that of the forward batch, or `X_recon` is not what `forward` returned.
        """
        self._sync()
        if len(self._retained) != 1:
            raise RuntimeError(
                f"backward needs exactly one retained forward since the last flush, got {len(self._retained)}"
            )
        images, noise, returned = self._retained[0].images, self._retained[0].noise, self._retained[0].X_recon
        X, p = self._as_images(X_train), np.asarray(X_recon)
        if X.shape != images.shape or p.shape != returned.shape:
            raise ValueError(
                f"X_train and X_recon must be those of the last forward, of shapes {images.shape} and "
                f"{returned.shape}, got {X.shape} and {p.shape}"
            )
        if not np.array_equal(p, returned, equal_nan=True):
            raise ValueError("X_recon must be what the last forward returned, got other values")
        trained = [layer for layer in self._layers().values() if layer.trainable]
        with limit_threads(self.n_threads):
            target = gather(X, slice(None), np.empty(X.shape, self.dtype), self._mapping)
            self._binarization.apply(target, self._retained[0].key, training=True)
            passes = self._repeated(self._retained[0])
            before = [(sums, sums.copy()) for layer in trained for sums in layer.gradients.values()]
            dX = passes.backward(target)
            for sums, added in before:
                if added.any():
                    sums += added
        self._retained[0].passes = None
        self._derived.inputs = target, noise
        return dX

    def _retain(self, passes: Passes, X_recon: Array, key: np.uint64, noise: Array) -> None:
        """Keep what `backward` needs, and a way for the layers to compute what they retain in numpy-ml."""
        n = len(X_recon) // passes.codes
        batch = passes.batch_of(n)
        images, labels, z = passes.images[:n].copy(), passes.labels[:n].copy(), batch.z.copy()
        self._retained.append(_Forward(passes, images, labels, key, noise, X_recon.copy()))
        self._derived = Values({"noise": noise, "t_mean": batch.mean.copy(), "t_log_var": batch.log_var.copy()})
        # Not the model itself: the layers would keep it alive.
        encoder, decoder, n_threads, codes = self.encoder_, self.decoder_, self.n_threads, passes.codes

        def recall() -> None:
            for layer in (*encoder.values(), *decoder.values()):
                layer.recall_with(None)
            with limit_threads(n_threads):
                run_one_by_one(encoder, images, labels)
                run_one_by_one(decoder, z, labels.repeat(codes, axis=0))

        for layer in self._layers().values():
            layer.recall_with(recall)

    def _repeated(self, forward: _Forward) -> Passes:
        """Return the passes in the state after `forward`: they may have been used since, or layers have changed."""
        n = len(forward.images)
        passes = self._passes(n, training=True)
        if passes is not forward.passes:
            passes.images[:n], passes.labels[:n] = forward.images, forward.labels
            passes.noise[: len(forward.noise)] = forward.noise
            passes.forward(n, passes.codes)
        return passes

    def _output_gradients(self, target: Array, noise: Array) -> dict[str, Array]:
        layers = self._layers().values()
        if not all(layer.has_retained for layer in layers) or any(len(layer.X) != 1 for layer in layers):
            return {}  # a layer has been flushed, or used by itself
        with limit_threads(self.n_threads):
            passes = self._repeated(self._retained[0])
            deviation = passes.batch_of(len(target)).deviation.copy()
            return output_gradients(passes, self.encoder_, self.decoder_, target, noise, deviation)

    def update(self, cur_loss: float | None = None) -> None:
        """Take one step of every layer's optimizer, from the output back to the input, and flush the gradients.

        A frozen layer only flushes. An error leaves all parameters, optimizers and gradients unchanged.
        """
        self._sync_training()
        trained = [layer for layer in reversed(self._layers().values()) if layer.trainable]
        for layer in self._parts():
            layer.own_arrays()
        with limit_threads(self.n_threads):
            Updates().apply(trained, cur_loss, self.global_clip_norm)
        self._clock.steps += 1
        self._mixture = None
        self.flush_gradients()

    def flush_gradients(self) -> None:
        """Forget what `forward` retained and set all gradients to zero."""
        for layer in self._layers().values():
            layer.flush_gradients()
        self._derived.inputs = None
        self._retained = []
