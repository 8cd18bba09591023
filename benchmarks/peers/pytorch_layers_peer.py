"""PyTorch with a network of any layers, with the same settings as in `pytorch_peer`.

Neither `conv2d` nor `conv_transpose2d` can pad or crop more at the bottom and right than at the top and left, which
"same" padding may need. Where it does, all images, kernels and dense weights are turned by 180 degrees before the clock
starts, so that no step needs to copy an image to pad or crop it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from layers import Layer, Layers, channels_first
from torch import Tensor

from peers import Images
from peers.pytorch_peer import PyTorchPeer

Step = Callable[[Tensor], Tensor]

ADAM = partial(torch.optim.Adam, lr=0.001, eps=1e-7)
ACTIVATIONS: dict[str, Step] = {"ReLU": torch.relu_, "Tanh": torch.tanh_}


class PyTorchLayersPeer(PyTorchPeer):
    """The network as a list of PyTorch functions of one tensor, whose weights are bound to them.

    Parameters
    ----------
    model, batch, threads, images, seed, channels_last
        See `PyTorchPeer`.
    layers : Layers
        cvae's, with the initial weights.
    """

    make_optimizer = staticmethod(ADAM)

    def __init__(
        self,
        model: Any,
        batch: int,
        threads: int,
        images: Images,
        seed: int,
        layers: Layers,
        *,
        channels_last: bool = False,
    ) -> None:
        self.is_mirrored = not fits(layers)
        if self.is_mirrored and not fits(layers := layers.mirrored()):
            raise ValueError("PyTorch cannot pad all layers as needed")
        super().__init__(model, batch, threads, images, seed, layers, channels_last=channels_last)

    def describe(self) -> str:
        return super().describe() + (", turned images" if self.is_mirrored else "")

    def _converted(self, layers: Layers) -> dict[str, Tensor]:
        """Bind the parameters to the steps of both parts, and return them."""
        parameters: dict[str, Tensor] = {}
        if not self.channels_last:
            layers = layers.rearranged(channels_first)
        self._encoder_steps = self._steps(layers.encoder, "encoder", parameters)
        self._decoder_steps = self._steps(layers.decoder, "decoder", parameters)
        if len(layers.decoder[-1].out_shape) == 3:
            self._decoder_steps.append(self._flat)
        return parameters

    def _steps(self, part: Sequence[Layer], name: str, parameters: dict[str, Tensor]) -> list[Step]:
        steps = []
        for i, layer in enumerate(part):
            bound = {}
            if layer.W is not None and layer.b is not None:
                bound["weight"] = self._parameter(f"{layer.kind}.W", layer.W)
                bound["bias"] = self._parameter(f"{layer.kind}.b", layer.b)
                parameters |= {f"{name}.{i}.{argument}": tensor for argument, tensor in bound.items()}
            steps.append(self._step(layer, bound))
            if layer.activation:
                steps.append(ACTIVATIONS[layer.activation])
        return steps

    def _step(self, layer: Layer, bound: dict[str, Tensor]) -> Step:
        """Return a layer without its activation as a function."""
        spacing = {"stride": layer.stride, "padding": layer.pad}
        match layer.kind:
            case "Conv2D":
                return partial(F.conv2d, **bound, **spacing)
            case "ConvTranspose2D":
                output_padding = tuple(np.subtract(layer.pad, layer.pad_after).tolist())
                return partial(F.conv_transpose2d, **bound, **spacing, output_padding=output_padding)
            case "FullyConnected":
                return partial(F.linear, **bound)
            case "Flatten":
                return self._flat
            case "Reshape":
                return partial(self._as_images, layer.out_shape)
        raise ValueError(f"PyTorch's peer does not know the layer {layer.kind}")

    def _as_images(self, shape: tuple[int, int, int], rows: Tensor) -> Tensor:
        """Return rows as images of (rows, cols, channels) in the layout that the convolutions read, as a view."""
        n_rows, n_cols, channels = shape
        stored = (n_rows, n_cols, channels) if self.channels_last else (channels, n_rows, n_cols)
        return self._as_read(rows.view(-1, *stored))

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self._as_read(images)
        for step in self._encoder_steps:
            x = step(x)
        mean, log_var = x.chunk(2, dim=1)
        return mean, log_var

    def _logits(self, codes: Tensor) -> Tensor:
        for step in self._decoder_steps:
            codes = step(codes)
        return codes

    def _as_stored(self, images: Images) -> Tensor:
        return super()._as_stored(np.ascontiguousarray(images[:, ::-1, ::-1]) if self.is_mirrored else images)


def fits(layers: Layers) -> bool:
    """Return whether PyTorch's arguments `padding` and `output_padding` can express the padding of all layers."""
    return all(
        before >= 0 and 0 <= before - after < layer.stride
        for layer in (*layers.encoder, *layers.decoder)
        if layer.kind.startswith("Conv")
        for before, after in zip(layer.pad, layer.pad_after, strict=True)
    )
