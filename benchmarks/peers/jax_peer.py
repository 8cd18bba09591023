"""JAX, with the whole training step as one compiled function that reuses the parameters' memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from cases import Model
from jax import lax

from peers import Array, Images, Peer

LR, DECAY, EPS = 1e-4, 0.9, 1e-7

Parameters = dict[str, jax.Array]


class JaxPeer(Peer):
    """The model as functions of a dict of parameters, in cvae's layout (NHWC).

    Parameters
    ----------
    model, batch, threads, images, seed
        See `Peer`.
    parameters : dict of arrays
        The initial weights, as returned by `CvaePeer.parameters`.
    """

    def __init__(
        self, model: Model, batch: int, threads: int, images: Images, seed: int, parameters: Mapping[str, Array]
    ) -> None:
        super().__init__(model, batch, threads, images, seed)
        if hasattr(os, "sched_setaffinity"):  # the only way to limit JAX's threads
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        jax.config.update("jax_enable_x64", model.dtype == "float64")
        self.rng = np.random.default_rng(seed)
        self.key = jax.random.key(seed)
        self.images = jnp.asarray(images)
        self.codes = jax.random.normal(self.key, (batch, model.n_codes), model.dtype)
        self.parameters = {name: jnp.array(array) for name, array in parameters.items()}
        self.mean_squares = {name: jnp.zeros_like(p) for name, p in self.parameters.items()}
        self._step = jax.jit(partial(step, model), donate_argnums=(0, 1, 2))
        self._encode = jax.jit(partial(encode, model))
        self._decode = jax.jit(lambda parameters, codes: jax.nn.sigmoid(logits(parameters, codes)))
        self.first_batch = scaled(model, self.images[:batch])

    def train(self, n_steps: int) -> None:
        for start, end in self.windows(n_steps):
            order = self.rng.permutation(np.arange(start, end, dtype=np.int32))
            for indices in order.reshape(-1, self.batch):
                self.parameters, self.mean_squares, self.key = self._step(
                    self.parameters, self.mean_squares, self.key, self.images, indices
                )
        jax.block_until_ready(self.parameters)

    def encode(self) -> tuple[jax.Array, jax.Array]:
        return jax.block_until_ready(self._encode(self.parameters, self.first_batch))

    def decode(self) -> jax.Array:
        return jax.block_until_ready(self._decode(self.parameters, self.codes))

    def loss(self, images: Array, noise: Array) -> float:
        return float(elbo_loss(self.model, self.parameters, jnp.asarray(images), jnp.asarray(noise)))


def step(
    model: Model,
    parameters: Parameters,
    mean_squares: Parameters,
    key: jax.Array,
    images: jax.Array,
    indices: jax.Array,
) -> tuple[Parameters, Parameters, jax.Array]:
    """Do a training step with RMSprop on the images at `indices` and return the new state."""
    key, subkey = jax.random.split(key)
    noise = jax.random.normal(subkey, (len(indices), model.n_codes), model.dtype)
    gradients = jax.grad(elbo_loss, argnums=1)(model, parameters, scaled(model, images[indices]), noise)
    mean_squares = {k: DECAY * mean_squares[k] + (1 - DECAY) * jnp.square(g) for k, g in gradients.items()}
    parameters = {k: p - LR * gradients[k] / (jnp.sqrt(mean_squares[k]) + EPS) for k, p in parameters.items()}
    return parameters, mean_squares, key


def scaled(model: Model, images: jax.Array) -> jax.Array:
    """Scale uint8 images to [0, 1]; return others unchanged."""
    return images.astype(model.dtype) / 255 if images.dtype == jnp.uint8 else images


def elbo_loss(model: Model, parameters: Parameters, images: jax.Array, noise: jax.Array) -> jax.Array:
    """Return the negative ELBO in nats per image."""
    mean, log_var = encode(model, parameters, images)
    x = logits(parameters, mean + noise * jnp.exp(0.5 * log_var))
    y = images.reshape(len(images), -1)
    reconstruction = jnp.sum(jax.nn.softplus(x) - x * y)
    kl = -0.5 * jnp.sum(1 + log_var - jnp.square(mean) - jnp.exp(log_var))
    return (reconstruction + kl) / len(images)


def encode(model: Model, parameters: Parameters, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the means and log-variances of the codes."""
    x = images
    for layer, stride, pool_stride in (("Conv1", model.strides[0], 2), ("Conv2", model.strides[1], 1)):
        x = lax.conv_general_dilated(
            x,
            parameters[f"{layer}.W"],
            (stride, stride),
            ((model.pad, model.pad), (model.pad, model.pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = max_pool(jax.nn.relu(x + parameters[f"{layer}.b"]), pool_stride)
    hidden = jax.nn.relu(x.reshape(len(x), -1) @ parameters["FC4.W"] + parameters["FC4.b"])
    mean, log_var = jnp.split(hidden @ parameters["FC5.W"] + parameters["FC5.b"], 2, axis=1)
    return mean, log_var


def max_pool(x: jax.Array, stride: int) -> jax.Array:
    """Pool 2x2 windows; with `lax.reduce_window` a training step takes twice as long."""
    rows, cols = ((size - 2) // stride * stride + 1 for size in x.shape[1:3])  # range of the windows' origins
    corners = [x[:, r : r + rows : stride, c : c + cols : stride] for r in (0, 1) for c in (0, 1)]
    return jnp.maximum(jnp.maximum(corners[0], corners[1]), jnp.maximum(corners[2], corners[3]))


def logits(parameters: Parameters, codes: jax.Array) -> jax.Array:
    """Return the pixels' logits."""
    hidden = jax.nn.relu(codes @ parameters["FC1.W"] + parameters["FC1.b"])
    return hidden @ parameters["FC2.W"] + parameters["FC2.b"]
