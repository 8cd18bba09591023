"""Keras on TensorFlow, with the training step as one graph, optionally compiled by XLA."""

from __future__ import annotations

import os
from collections.abc import Mapping

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from cases import Model

from peers import Array, Images, Peer

# Keras adds epsilon inside the square root, so 1e-7 outside corresponds to its square.
RMSPROP = {"learning_rate": 1e-4, "rho": 0.9, "epsilon": 1e-14}


class KerasPeer(Peer):
    """The model built from Keras layers, in cvae's layout (NHWC).

    Parameters
    ----------
    model, batch, threads, images, seed
        See `Peer`.
    parameters : dict of arrays
        The initial weights, as returned by `CvaePeer.parameters`.
    xla : bool
        Whether to compile the functions with XLA.
    """

    def __init__(
        self,
        model: Model,
        batch: int,
        threads: int,
        images: Images,
        seed: int,
        parameters: Mapping[str, Array],
        *,
        xla: bool = False,
    ) -> None:
        super().__init__(model, batch, threads, images, seed)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        keras.backend.clear_session()
        tf.random.set_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.images = tf.constant(images)
        self.first_batch = self._scaled(self.images[:batch])
        self.codes = tf.random.normal((batch, model.n_codes), dtype=model.dtype)
        self.encoder, self.decoder = networks(model)
        for network in (self.encoder, self.decoder):
            for layer in network.layers:
                if layer.weights:
                    layer.set_weights([parameters[f"{layer.name}.W"], parameters[f"{layer.name}.b"].reshape(-1)])
        self.weights = self.encoder.trainable_variables + self.decoder.trainable_variables
        self.optimizer = keras.optimizers.RMSprop(**RMSPROP)
        self.optimizer.build(self.weights)
        self._step = tf.function(self._eager_step, jit_compile=xla)
        self._encode = tf.function(self._codes, jit_compile=xla)
        self._decode = tf.function(lambda codes: tf.sigmoid(self.decoder(codes)), jit_compile=xla)

    def train(self, n_steps: int) -> None:
        for start, end in self.windows(n_steps):
            order = tf.constant(self.rng.permutation(np.arange(start, end, dtype=np.int32)))
            for indices in tf.split(order, (end - start) // self.batch):
                loss = self._step(indices)
        loss.numpy()

    def encode(self) -> tuple[tf.Tensor, tf.Tensor]:
        return self._encode(self.first_batch)

    def decode(self) -> tf.Tensor:
        return self._decode(self.codes)

    def loss(self, images: Array, noise: Array) -> float:
        return float(self._elbo_loss(tf.constant(images), tf.constant(noise)))

    def _eager_step(self, indices: tf.Tensor) -> tf.Tensor:
        images = self._scaled(tf.gather(self.images, indices))
        noise = tf.random.normal((self.batch, self.model.n_codes), dtype=self.model.dtype)
        with tf.GradientTape() as tape:
            loss = self._elbo_loss(images, noise)
        self.optimizer.apply(tape.gradient(loss, self.weights), self.weights)
        return loss

    def _scaled(self, images: tf.Tensor) -> tf.Tensor:
        """Scale uint8 images to [0, 1]; return others unchanged."""
        return tf.cast(images, self.model.dtype) / 255 if images.dtype == tf.uint8 else images

    def _elbo_loss(self, images: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        mean, log_var = self._codes(images)
        logits = self.decoder(mean + noise * tf.exp(0.5 * log_var))
        pixels = tf.reshape(images, (len(images), -1))
        reconstruction = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(pixels, logits))
        kl = -0.5 * tf.reduce_sum(1 + log_var - tf.square(mean) - tf.exp(log_var))
        return (reconstruction + kl) / len(images)

    def _codes(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, log_var = tf.split(self.encoder(images), 2, axis=1)
        return mean, log_var


def networks(model: Model) -> tuple[keras.Sequential, keras.Sequential]:
    """Return the encoder and the decoder, whose last layers are linear."""
    layers = keras.layers
    keras.config.set_floatx(model.dtype)
    padding = "same" if model.same else "valid"
    n_pixels = int(np.prod(model.image_shape))

    def conv(name: str, index: int) -> keras.layers.Layer:
        channels, stride = model.channels[index], model.strides[index]
        return layers.Conv2D(channels, model.kernel, stride, padding, activation="relu", name=name)

    encoder = keras.Sequential(
        [
            layers.Input(model.image_shape),
            conv("Conv1", 0),
            layers.MaxPooling2D(2, 2),
            conv("Conv2", 1),
            layers.MaxPooling2D(2, 1),
            layers.Flatten(),
            layers.Dense(model.hidden, activation="relu", name="FC4"),
            layers.Dense(2 * model.n_codes, name="FC5"),
        ]
    )
    decoder = keras.Sequential(
        [
            layers.Input((model.n_codes,)),
            layers.Dense(model.hidden, activation="relu", name="FC1"),
            layers.Dense(n_pixels, name="FC2"),
        ]
    )
    return encoder, decoder
