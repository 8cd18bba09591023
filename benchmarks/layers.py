"""A model's layers with all sizes and weights, for the frameworks that build any network from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer, in cvae's layout.

    Attributes
    ----------
    kind : {"Conv2D", "ConvTranspose2D", "Pool2D", "FullyConnected", "Flatten", "Reshape"}
        Pooling takes maxima, and does not pad.
    in_shape, out_shape : tuples of ints
        Of one example: (rows, cols, channels) or (features,).
    activation : str
        Name of cvae's class; empty for the identity.
    W, b : arrays or None
        Weights in the layout of the layer of cvae, and the bias.
    kernel : (rows, cols)
    stride : int
    pad : (top, left)
        Zeros before the image; in a transposed convolution, pixels cropped before it.
    """

    kind: str
    in_shape: Shape
    out_shape: Shape
    activation: str = ""
    W: Array | None = None
    b: Array | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    pad: tuple[int, int] = (0, 0)

    @property
    def pad_after(self) -> tuple[int, int]:
        """The zeros at the bottom and right, or the cropped pixels; negative where as many pixels take no part."""
        large, small = self.in_shape, self.out_shape
        if self.kind == "ConvTranspose2D":
            large, small = small, large
        rows, cols = (
            (small[axis] - 1) * self.stride + self.kernel[axis] - large[axis] - self.pad[axis] for axis in (0, 1)
        )
        return rows, cols


@dataclass(frozen=True)
class Layers:
    """The encoder, which puts out means and log-variances side by side, and the decoder, which puts out logits."""

    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]

    def rearranged(self, rearrange: Callable[[Array], Array]) -> Layers:
        """Return the layers of a framework that keeps the pixels of each image in another order.

        Only dense weights change: their rows after `Flatten`, their columns before `Reshape` and at the end.

        Parameters
        ----------
        rearrange : callable
            Maps an array (rows, cols, channels) to one of the same pixels in the framework's order.
        """
        image_shape = self.encoder[0].in_shape

        def order(shape: Shape) -> npt.NDArray[np.integer]:
            return rearrange(np.arange(math.prod(shape)).reshape(shape)).reshape(-1)

        def changed(part: Sequence[Layer], end: Shape) -> tuple[Layer, ...]:
            new = list(part)
            for i, layer in enumerate(part):
                if layer.W is None or layer.b is None or layer.kind != "FullyConnected":
                    continue
                W, b = layer.W, layer.b
                if i and part[i - 1].kind == "Flatten":
                    W = W[order(part[i - 1].in_shape)]
                following = part[i + 1].out_shape if i + 1 < len(part) and part[i + 1].kind == "Reshape" else ()
                if shape := following or (end if i + 1 == len(part) else ()):
                    W, b = W[:, order(shape)], b[:, order(shape)]
                new[i] = replace(layer, W=W, b=b)
            return tuple(new)

        return Layers(changed(self.encoder, ()), changed(self.decoder, image_shape))

    def mirrored(self) -> Layers:
        """Return the layers that compute the same from images turned by 180 degrees."""

        def turned(layer: Layer) -> Layer:
            if layer.W is None or layer.W.ndim != 4:
                return layer
            return replace(layer, W=layer.W[::-1, ::-1], pad=layer.pad_after)

        turned_layers = self.rearranged(lambda image: image[::-1, ::-1])
        return Layers(tuple(map(turned, turned_layers.encoder)), tuple(map(turned, turned_layers.decoder)))


def channels_first(image: Array) -> Array:
    """Rearrange an image (rows, cols, channels) to (channels, rows, cols)."""
    return np.moveaxis(image, -1, 0)
