"""Networks by name: encoders and decoders that are made for the shape of the images.

"auto" is this package's own choice for images of any shape. The others are networks that people compare with:

- "keras": the example "Variational AutoEncoder" of the Keras documentation, for 28x28 pixels, with T=2.
- "world-models": Ha & Schmidhuber 2018, "World models", appendix A.1, for 64x64x3, with T=32.
- "mlp": Burda et al. 2016, "Importance weighted autoencoders", one stochastic layer, with T=50.
- "numpy-ml": the layers of `cvae.BernoulliVAE` with its default arguments, T=5.

The layers for the code (2T outputs) and, after dense layers, for the pixels are the model's to add. Only
"world-models" depends on the size of the images: its convolutions without padding fit 64x64 pixels alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from cvae.layers import Conv2D, ConvTranspose2D, Flatten, FullyConnected, LayerBase, Pool2D, Reshape
from cvae.parsing import normalized

__all__ = ["MLP", "Architecture", "Auto", "Keras", "NumpyML", "WorldModels"]

ImageShape = tuple[int, int, int]
Layers = list[LayerBase]


class Architecture(ABC):
    """Makes the layers of an encoder, and of a decoder that mirrors it, for images (rows, cols, channels)."""

    @abstractmethod
    def encoder(self, image_shape: ImageShape) -> Layers:
        """Return the layers from images to rows (n, features); raise ValueError if images of this shape do not fit."""

    @abstractmethod
    def decoder(self, image_shape: ImageShape, channels: int) -> Layers:
        """Return the layers from codes to rows (n, features), or to images of so many channels."""


class Halving(NamedTuple):
    """A convolution of stride 2, whose output has half as many rows and cols, rounded up."""

    shape: tuple[int, int]
    pad: tuple[int, int, int, int]


def halvings(size: tuple[int, int], kernel: int, count: int) -> list[Halving]:
    """Return the output sizes and the padding of `count` convolutions, each of the output of the one before.

    The padding is the least that there may be, the odd zero at the bottom or right. A transposed convolution of the
    same padding maps the output's size back to the input's, odd or even.
    """
    found = []
    for _ in range(count):
        halved = -(-size[0] // 2), -(-size[1] // 2)
        rows, cols = (max(2 * (half - 1) + kernel - full, 0) for half, full in zip(halved, size, strict=True))
        found.append(Halving(halved, (rows // 2, rows - rows // 2, cols // 2, cols - cols // 2)))
        size = halved
    return found


class Auto(Architecture):
    """Convolutions of stride 2 down to 4 to 7 pixels along the shorter side, a dense layer, and the mirror image.

    The channels double with each halving, up to 256. Images of fewer than 8 rows or cols, such as rows of features, get
    dense layers. The widest dense layer has 4 million weights or, where there are more than 131,072 features, 32 units.
    """

    kernel = 4  # a multiple of the stride, so that each pixel of the decoder's images gets as many products
    smallest = 8  # rows or cols that are halved
    most_channels = 256
    dense_widths = 32, 256  # the least and the most units of a dense layer
    most_weights = 2**22

    def encoder(self, image_shape: ImageShape) -> Layers:
        steps, widths = self._convolutions(image_shape)
        convolutions = [
            Conv2D(out_ch, self.kernel, pad=step.pad, stride=2, act_fn="ReLU")
            for step, out_ch in zip(steps, widths, strict=True)
        ]
        return [*convolutions, Flatten(), *self._dense(image_shape)]

    def decoder(self, image_shape: ImageShape, channels: int) -> Layers:
        steps, widths = self._convolutions(image_shape)
        layers = self._dense(image_shape)
        if not steps:
            return layers
        smallest = *steps[-1].shape, widths[-1]
        layers += [FullyConnected(math.prod(smallest), act_fn="ReLU"), Reshape(smallest)]
        for step, out_ch in zip(reversed(steps[1:]), reversed(widths[:-1]), strict=True):
            layers.append(ConvTranspose2D(out_ch, self.kernel, 2, step.pad, act_fn="ReLU"))
        return [*layers, ConvTranspose2D(channels, self.kernel, 2, steps[0].pad)]

    def _convolutions(self, image_shape: ImageShape) -> tuple[list[Halving], list[int]]:
        """Return the halvings and the number of channels after each."""
        shorter, count = min(image_shape[:2]), 0
        while shorter >= self.smallest:
            shorter, count = -(-shorter // 2), count + 1
        first = 32 if count <= 4 else 16  # of large images, which would take much memory and time otherwise
        widths = [min(first * 2**i, self.most_channels) for i in range(count)]
        return halvings(image_shape[:2], self.kernel, count), widths

    def _dense(self, image_shape: ImageShape) -> Layers:
        """Return the layer between the features and the code or, where there are no convolutions, two of them."""
        steps, widths = self._convolutions(image_shape)
        features = math.prod(steps[-1].shape) * widths[-1] if steps else math.prod(image_shape)
        least, most = self.dense_widths
        width = min(max(self.most_weights // features, least), most)
        return [FullyConnected(width, act_fn="ReLU") for _ in range(1 if steps else 2)]


class Keras(Architecture):
    """Two convolutions of stride 2 and a dense layer of 16; two transposed ones of stride 2 and one of stride 1."""

    def encoder(self, image_shape: ImageShape) -> Layers:
        first, second = halvings(image_shape[:2], 3, 2)
        return [
            Conv2D(32, 3, pad=first.pad, stride=2, act_fn="ReLU"),
            Conv2D(64, 3, pad=second.pad, stride=2, act_fn="ReLU"),
            Flatten(),
            FullyConnected(16, act_fn="ReLU"),
        ]

    def decoder(self, image_shape: ImageShape, channels: int) -> Layers:
        first, second = halvings(image_shape[:2], 3, 2)
        smallest = *second.shape, 64
        return [
            FullyConnected(math.prod(smallest), act_fn="ReLU"),
            Reshape(smallest),
            ConvTranspose2D(64, 3, 2, second.pad, act_fn="ReLU"),
            ConvTranspose2D(32, 3, 2, first.pad, act_fn="ReLU"),
            ConvTranspose2D(channels, 3, 1, "same"),
        ]


class WorldModels(Architecture):
    """Four convolutions of stride 2 without padding; a dense layer of 1024 and four transposed ones."""

    def encoder(self, image_shape: ImageShape) -> Layers:
        self._check(image_shape)
        return [*(Conv2D(out_ch, 4, stride=2, act_fn="ReLU") for out_ch in (32, 64, 128, 256)), Flatten()]

    def decoder(self, image_shape: ImageShape, channels: int) -> Layers:
        self._check(image_shape)
        return [
            FullyConnected(1024),
            Reshape((1, 1, 1024)),
            ConvTranspose2D(128, 5, 2, act_fn="ReLU"),
            ConvTranspose2D(64, 5, 2, act_fn="ReLU"),
            ConvTranspose2D(32, 6, 2, act_fn="ReLU"),
            ConvTranspose2D(channels, 6, 2),
        ]

    def _check(self, image_shape: ImageShape) -> None:
        if image_shape[:2] != (64, 64):
            raise ValueError(f"'world-models' must get images of 64x64 pixels, got {image_shape[0]}x{image_shape[1]}")


class MLP(Architecture):
    """Two dense layers of 200 units with tanh on each side."""

    def encoder(self, image_shape: ImageShape) -> Layers:
        return [Flatten(), *self.decoder(image_shape, 1)]

    def decoder(self, image_shape: ImageShape, channels: int) -> Layers:
        return [FullyConnected(200, act_fn="Tanh"), FullyConnected(200, act_fn="Tanh")]


class NumpyML(Architecture):
    """Two convolutions with max pooling and a dense layer; a dense layer."""

    def encoder(self, image_shape: ImageShape) -> Layers:
        return [
            Conv2D(32, 5, act_fn="ReLU"),
            Pool2D(2, 2),
            Conv2D(64, 5, act_fn="ReLU"),
            Pool2D(2, 1),
            Flatten(),
            *self.decoder(image_shape, 1),
        ]

    def decoder(self, image_shape: ImageShape, channels: int) -> Layers:
        return [FullyConnected(256, act_fn="ReLU")]


ARCHITECTURES: dict[str, Architecture] = {
    "auto": Auto(),
    "keras": Keras(),
    "world-models": WorldModels(),
    "mlp": MLP(),
    "numpy-ml": NumpyML(),
}


def architectures_of(encoder: Any, decoder: Any) -> tuple[Architecture | None, Architecture | None]:
    """Return the architectures that two arguments name, None for one that is no string.

    "auto" is the counterpart of the other one, if that is a name.

    Raises
    ------
    ValueError
        If a string is not the name of an architecture.
    """
    names = _name(encoder, "encoder"), _name(decoder, "decoder")
    if None not in names and "auto" in names:
        other = names[1] if names[0] == "auto" else names[0]
        names = other, other
    first, second = (None if name is None else ARCHITECTURES[name] for name in names)
    return first, second


def _name(value: Any, part: str) -> str | None:
    if not isinstance(value, str):
        return None
    for name in ARCHITECTURES:
        if normalized(value) == normalized(name):
            return name
    names = ", ".join(map(repr, ARCHITECTURES))
    raise ValueError(f"{part} must be a sequence of layers or their call strings, or one of {names}, got {value!r}")
