"""Training step by step: numpy-ml's forward, backward and update, which give exactly what `fit` does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import latent, losses
from cvae.compat.losses import VAELoss
from cvae.engine.updates import Updates
from cvae.model import Array, Model
from cvae.nn.base import WeightedLayer
from cvae.nn.conv2d import Conv2D
from cvae.nn.conv_pool import ConvPool, active_places
from cvae.nn.pool2d import Pool2D
from cvae.random import standard_normal
from cvae.runtime.programs import run
from cvae.runtime.threads import limit_threads

_DERIVED = (
    "noise", "t_mean", "t_log_var", "dDecoder_FC1_in", "dDecoder_t_mean", "dDecoder_FC1_out", "dDecoder_t_log_var",
    "dEncoder_FC5_out", "dEncoder_FC4_out", "dEncoder_Pool2_out", "dEncoder_Conv2_out", "dEncoder_Pool1_out",
    "dEncoder_Conv1_out", "dEncoder_Flatten3_out",
)  # fmt: skip


class Stepwise(Model):
    """`forward`, `backward`, `update` and the properties of numpy-ml's model."""

    loss = VAELoss()

    def _build(self) -> None:
        super()._build()
        self._dv: dict[str, Array | None] = dict.fromkeys(_DERIVED)
        self._deviation: Array = np.empty(0)  # of the codes that the last forward retained

    def _components(self, attribute: str) -> dict[str, Any]:
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        return {
            "components": {
                part: {name: getattr(layer, attribute) for name, layer in layers.items()}
                for part, layers in parts.items()
            }
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """The layers' own parameters: ``["components"]["encoder"]["Conv1"]["W"]`` and so on."""
        return self._components("parameters")

    @property
    def gradients(self) -> dict[str, Any]:
        """The layers' own gradients, in the same nesting; `update` sets them to zero."""
        return self._components("gradients")

    @property
    def derived_variables(self) -> dict[str, Any]:
        """What the last `forward` and `backward` computed; dEncoder_X_out is the gradient of X's output."""
        return {**self._dv, **self._components("derived_variables")}

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """numpy-ml's hyperparameters: the arguments, the number of input channels and those of the layers."""
        own = ("T", "init", "optimizer", "latent_dim")
        encoder_arguments = [name for name in self._argument_names() if name.startswith("enc_")]
        return {
            "layer": "BernoulliVAE",
            "loss": str(self.loss),
            **{name: getattr(self, name) for name in own},
            "enc_conv1_in_ch": self.encoder["Conv1"].hyperparameters["in_ch"],
            **{name: getattr(self, name) for name in encoder_arguments},
            "encoder_ids": list(self.encoder),
            "decoder_ids": list(self.decoder),
            **self._components("hyperparameters"),
        }

    def forward(self, X_train: npt.ArrayLike, retain_derived: bool = True, noise: npt.ArrayLike | None = None) -> Array:
        """Encode a batch, draw a code for each image, and decode it.

        Parameters
        ----------
        X_train : array, shape (n, rows, cols, channels)
            Images in [0, 1], or uint8; as for `fit`.
        retain_derived : bool
            Whether to keep what `backward` needs.
        noise : array, shape (n, T), optional
            Standard normal numbers; drawn from the model's generator if not given.

        Returns
        -------
        X_recon : array, shape (n, rows * cols * channels)
            Probabilities of the pixels.
        """
        X = self._as_batch(X_train)
        self._initialize(X.shape[1:])
        with limit_threads(self.n_threads):
            mean, log_var, deviation, z = (np.empty((len(X), self.T), X.dtype) for _ in range(4))
            noise = self._noise(len(X)) if noise is None else np.array(noise, X.dtype)
            if noise.shape != mean.shape:  # before the layers retain anything
                raise ValueError(f"noise must have the shape {mean.shape}, got {noise.shape}")
            run(latent.sample, z, deviation, mean, log_var, self._pass(self.encoder, X, retain_derived), noise)
            X_recon = self._pass(self.decoder, z, retain_derived)
        if retain_derived:
            self._dv |= {"noise": noise, "t_mean": mean, "t_log_var": log_var}
            self._deviation = deviation
        return X_recon

    def _pass(self, layers: Any, X: Array, retain_derived: bool) -> Array:
        for layer in layers.values():
            X = layer.forward(X, retain_derived)
        return X

    def _noise(self, n: int) -> Array:
        return standard_normal(self._rng, (n, self.T), self.dtype)

    def backward(self, X_train: npt.ArrayLike, X_recon: npt.ArrayLike) -> Array:
        """Add the gradients of the loss of the last `forward` to the layers' `gradients`.

        Parameters
        ----------
        X_train : array, shape (n, rows, cols, channels)
            The batch that went forward.
        X_recon : array, shape (n, rows * cols * channels)
            What `forward` returned.

        Returns
        -------
        dX : array, shape (n, rows, cols, channels)
            The gradient with respect to the encoder's input (the target's own part is not in it).

        Raises
        ------
        RuntimeError
            If not exactly one `forward` was retained since the last `update` or `flush_gradients`.
        ValueError
            If a shape is not that of the batch that went forward.
        """
        retained = len(self.encoder["Conv1"].X)
        if retained != 1:
            raise RuntimeError(f"backward needs exactly one retained forward since the last flush, got {retained}")
        X = self._as_batch(X_train)
        n = len(X)
        y, p = X.reshape(n, -1), np.asarray(X_recon, X.dtype)
        if p.shape != y.shape or X.shape != self.encoder["Conv1"].X[0].shape:
            raise ValueError(
                f"X_train and X_recon must be those of the last forward, of shapes {self.encoder['Conv1'].X[0].shape} "
                f"and {(n, y.shape[1])}, got {X.shape} and {p.shape}"
            )
        with limit_threads(self.n_threads):
            dX = self._backpropagate((p - y) * X.dtype.type(1 / n))
        return dX

    def _backpropagate(self, dlogits: Array) -> Array:
        """From the gradient with respect to the logits down to the encoder's input."""
        dv = self._dv
        noise, mean, log_var = (dv[name] for name in ("noise", "t_mean", "t_log_var"))
        output = self.decoder["FC2"]
        if noise is None or mean is None or log_var is None or not isinstance(output, WeightedLayer):
            raise RuntimeError("backward needs a forward of the whole model before it, got none")
        d_hidden = dv["dDecoder_FC1_out"] = output.backward_preactivation(dlogits)
        dz = dv["dDecoder_FC1_in"] = self.decoder["FC1"].backward(d_hidden)
        dmean, dlog_var = np.empty_like(mean), np.empty_like(mean)
        weights = np.full(len(mean), self.beta / len(mean))
        run(losses.gaussian_kl, np.empty(len(mean)), dmean, dlog_var, mean, log_var, weights)
        dcode = np.empty((len(mean), 2 * self.T), mean.dtype)
        run(latent.backward, dcode, dz, noise, self._deviation, dmean, dlog_var)
        # Through the decoder alone, without the direct gradients of the KL divergence.
        dv["dDecoder_t_mean"], dv["dDecoder_t_log_var"] = dz, 0.5 * dz * noise * self._deviation
        grad = dcode
        names = list(self.encoder)
        while names:
            name = names.pop()
            dv[f"dEncoder_{name}_out"] = grad
            layer, below = self.encoder[name], self.encoder[names[-1]] if names else None
            if isinstance(below, Conv2D) and isinstance(layer, Pool2D):
                name = names.pop()
                dv[f"dEncoder_{name}_out"], grad = self._backward_pair(below, layer, grad, is_first=not names)
            else:
                grad = layer.backward(grad)
        return grad

    def _backward_pair(self, conv: Conv2D, pool: Pool2D, grad: Array, *, is_first: bool) -> tuple[Array, Array]:
        """The gradients of the convolution's output and input; its weights' are summed in the order of training."""
        X, argmax = conv.X[0], pool.argmax[0]
        d_conv = pool.backward(grad)
        if argmax is None or not ConvPool.fuses(conv, pool, X.shape):
            return d_conv, conv.backward(d_conv)
        dX = conv.backward(d_conv, retain_grads=False)
        if conv.trainable:
            Y = pool.forward(conv.act_fn.fn(conv.derived_variables["Z"][0]), retain_derived=False)
            dW, db = np.empty_like(conv.W), np.empty_like(conv.b)
            # The same as dX, but the order of the weights' sums depends on whether it is wanted.
            same_dX = None if is_first else np.empty_like(X)
            block, places = ConvPool(conv, pool, X.shape), active_places(argmax, Y)
            run(block.record_backward, same_dX, dW, db, X, places, grad)
            conv.gradients["W"] += dW
            conv.gradients["b"] += db.reshape(conv.gradients["b"].shape)
        return d_conv, dX

    def update(self, cur_loss: float | None = None) -> None:
        """Take one step of every layer's optimizer, from the output back to the input, and flush the gradients.

        A frozen layer only flushes. An error leaves all parameters, optimizers and gradients as they were.
        """
        trained = [layer for layer in reversed(self._layers().values()) if layer.trainable]
        with limit_threads(self.n_threads):
            Updates().apply(trained, cur_loss)
        self.flush_gradients()

    def flush_gradients(self) -> None:
        """Forget what `forward` retained and set all gradients to zero."""
        for layer in self._layers().values():
            layer.flush_gradients()
