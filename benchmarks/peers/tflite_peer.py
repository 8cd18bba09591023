"""TensorFlow Lite, which encodes and decodes single images with XNNPACK, its fastest kernels of a CPU."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import cvae

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "ReLU": tf.nn.relu,
    "Tanh": tf.math.tanh,
    "Sigmoid": tf.math.sigmoid,
    "Identity": tf.identity,
    "Affine": tf.identity,  # of slope 1 and intercept 0, which the comparison of results would notice
}


class Call:
    """A function that TensorFlow Lite runs on one thread, on an input that is in place before."""

    def __init__(self, function: Callable[[Any], Any], given: np.ndarray) -> None:
        concrete = tf.function(function).get_concrete_function(tf.TensorSpec(given.shape, tf.float32))
        model = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deprecated")
            self._interpreter = tf.lite.Interpreter(model_content=model, num_threads=1)
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], given)

    def __call__(self) -> None:
        self._interpreter.invoke()

    def result(self) -> np.ndarray:
        """Return the first output of the last call."""
        result: np.ndarray = self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"])
        return result


def tflite_functions(vae: cvae.VAE, image: np.ndarray, z: np.ndarray) -> dict[str, Call]:
    """Return calls of `encode`, `decode`, `reconstruct` and `elbo`, which takes the posterior's mean as the code.

    The model is one of Bernoulli pixels, with plain layers.
    """
    encoder, decoder = [*vae.encoder_.values()], [*vae.decoder_.values()]

    def encode(x: Any) -> tuple[Any, Any]:
        code = applied(encoder, x)
        return code[:, : vae.T], code[:, vae.T :]

    def logits(z: Any) -> Any:
        return tf.reshape(applied(decoder, z, activates_last=False), (1, image.size))

    def elbo(x: Any) -> Any:
        mean, log_var = encode(x)
        out = logits(mean)
        reconstruction = tf.reduce_sum(tf.nn.softplus(out) - out * tf.reshape(x, (1, image.size)))
        kl = -0.5 * tf.reduce_sum(1 + log_var - mean * mean - tf.exp(log_var))
        return -(reconstruction + kl)

    functions = {
        "encode": (encode, image),
        "decode": (lambda z: tf.math.sigmoid(logits(z)), z),
        "reconstruct": (lambda x: tf.math.sigmoid(logits(encode(x)[0])), image),
        "elbo": (elbo, image),
    }
    return {name: Call(function, given) for name, (function, given) in functions.items()}


def applied(layers: Iterable[Any], x: Any, *, activates_last: bool = True) -> Any:
    """Return what layers make of x."""
    layers = list(layers)
    for layer in layers:
        x = getattr(_Layers, type(layer).__name__)(layer, x)
        act_fn = getattr(layer, "act_fn", None)
        if act_fn is not None and (activates_last or layer is not layers[-1]):
            x = ACTIVATIONS[type(act_fn).__name__](x)
    return x


class _Layers:
    """What layers compute before their activations; TensorFlow keeps the weights of convolutions as cvae does."""

    @staticmethod
    def Conv2D(layer: Any, x: Any) -> Any:
        top, bottom, left, right = layer._pad4(tuple(x.shape))
        shape = zip(x.shape[1:3], layer.kernel_shape, strict=True)
        same = [max(0, (math.ceil(size / layer.stride) - 1) * layer.stride + kernel - size) for size, kernel in shape]
        padding = "VALID"
        if [top, bottom, left, right] == [part for pad in same for part in (pad // 2, pad - pad // 2)]:
            padding = "SAME"
        elif any((top, bottom, left, right)):
            x = tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]])
        return tf.nn.conv2d(x, layer.parameters["W"], layer.stride, padding) + layer.parameters["b"].reshape(-1)

    @staticmethod
    def ConvTranspose2D(layer: Any, x: Any) -> Any:
        shape = layer.output_shape(tuple(x.shape))  # "SAME" is the only padding that the models here need
        return tf.nn.conv2d_transpose(x, layer.parameters["W"], shape, layer.stride) + layer.parameters["b"].reshape(-1)

    @staticmethod
    def Pool2D(layer: Any, x: Any) -> Any:
        return tf.nn.max_pool2d(x, layer.kernel_shape, layer.stride, "VALID")

    @staticmethod
    def FullyConnected(layer: Any, x: Any) -> Any:
        return tf.matmul(x, layer.parameters["W"]) + layer.parameters["b"].reshape(1, -1)

    @staticmethod
    def Flatten(layer: Any, x: Any) -> Any:
        return tf.reshape(x, (1, -1))

    @staticmethod
    def Reshape(layer: Any, x: Any) -> Any:
        return tf.reshape(x, (1, *layer.shape))
