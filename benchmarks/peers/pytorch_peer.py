"""PyTorch, with its fastest settings on a CPU.

The layers are functional, the first convolution does not compute its input's gradient, ReLU works in place,
gradients are reset to None, and the images are tensors before the clock starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cases import Model
from torch import Tensor

from peers import Array, Images, Peer

MakeOptimizer = Callable[..., torch.optim.Optimizer]
RMSPROP = partial(torch.optim.RMSprop, lr=1e-4, alpha=0.9, eps=1e-7)
OPTIMIZER_IMPLEMENTATIONS = ({"foreach": False}, {"foreach": True}, {"fused": True})


class PyTorchPeer(Peer):
    """The model as PyTorch functions of a dict of parameters.

    Parameters
    ----------
    model, batch, threads, images, seed
        See `Peer`.
    parameters : dict of arrays
        The initial weights, as returned by `CvaePeer.parameters`.
    channels_last : bool
        Whether images and activations are NHWC in memory, otherwise NCHW. The dense layers' weights are in the
        same order, so that a training step does not change any tensor's layout.
    compiled : bool
        Whether to compile the loss and the inference functions with `torch.compile`.
    """

    make_optimizer: MakeOptimizer = staticmethod(RMSPROP)

    def __init__(
        self,
        model: Model,
        batch: int,
        threads: int,
        images: Images,
        seed: int,
        parameters: Mapping[str, Array],
        *,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__(model, batch, threads, images, seed)
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        self.channels_last = channels_last
        self.dtype: torch.dtype = getattr(torch, model.dtype)
        self.images = self._as_stored(images)
        self.first_batch = self._scaled(self.images[:batch])
        self.codes = torch.randn(batch, model.n_codes, dtype=self.dtype)
        self.parameters = self._converted(parameters)
        self.implementation = fastest_implementation(self.make_optimizer, list(self.parameters.values()))
        self.optimizer = self.make_optimizer(self.parameters.values(), **self.implementation)
        self._loss, self._codes, self._probabilities = self._elbo_loss, self._encode, self._decode
        if compiled:
            self._loss = torch.compile(self._elbo_loss, dynamic=False)
            self._codes = torch.compile(self._encode, dynamic=False)
            self._probabilities = torch.compile(self._decode, dynamic=False)

    def describe(self) -> str:
        (setting,) = self.implementation.items()
        return f"{type(self.optimizer).__name__}({setting[0]}={setting[1]})"

    def train(self, n_steps: int) -> None:
        for start, end in self.windows(n_steps):
            for indices in torch.randperm(end - start).add_(start).split(self.batch):
                images = self._scaled(self.images.index_select(0, indices))
                noise = torch.randn(self.batch, self.model.n_codes, dtype=self.dtype)
                self._descend(images, noise)

    def train_with(self, images: Array, noise: Array) -> None:
        """Do a training step on a batch with the given noise."""
        self._descend(self._as_stored(images), torch.from_numpy(noise))

    def _descend(self, images: Tensor, noise: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._loss(images, noise).backward()
        self.optimizer.step()

    def encode(self) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            return self._codes(self.first_batch)

    def decode(self) -> Tensor:
        with torch.inference_mode():
            return self._probabilities(self.codes)

    def loss(self, images: Array, noise: Array) -> float:
        with torch.no_grad():
            return float(self._elbo_loss(self._as_stored(images), torch.from_numpy(noise)))

    def _elbo_loss(self, images: Tensor, noise: Tensor) -> Tensor:
        mean, log_var = self._encode(images)
        logits = self._logits(mean + noise * torch.exp(0.5 * log_var))
        reconstruction = F.binary_cross_entropy_with_logits(logits, images.flatten(1), reduction="sum")
        kl = -0.5 * torch.sum(1 + log_var - mean.square() - log_var.exp())
        return (reconstruction + kl) / len(images)

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        p = self.parameters
        hidden = F.linear(self._features(images), p["FC4.W"], p["FC4.b"]).relu_()
        mean, log_var = F.linear(hidden, p["FC5.W"], p["FC5.b"]).chunk(2, dim=1)
        return mean, log_var

    def _features(self, images: Tensor) -> Tensor:
        """Return the output of the second pooling layer, flattened in memory order."""
        p, strides, pad = self.parameters, self.model.strides, self.model.pad
        x = F.conv2d(self._as_read(images), p["Conv1.W"], p["Conv1.b"], strides[0], pad).relu_()
        x = F.max_pool2d(x, 2, 2)
        x = F.conv2d(x, p["Conv2.W"], p["Conv2.b"], strides[1], pad).relu_()
        return self._flat(F.max_pool2d(x, 2, 1))

    def _decode(self, codes: Tensor) -> Tensor:
        return self._logits(codes).sigmoid_()

    def _logits(self, codes: Tensor) -> Tensor:
        p = self.parameters
        hidden = F.linear(codes, p["FC1.W"], p["FC1.b"]).relu_()
        return F.linear(hidden, p["FC2.W"], p["FC2.b"])

    def _scaled(self, images: Tensor) -> Tensor:
        """Scale uint8 images to [0, 1]; return others unchanged."""
        return images.to(self.dtype).div_(255) if images.dtype == torch.uint8 else images

    def _as_read(self, images: Tensor) -> Tensor:
        """Return stored images as the convolutions take them, as a view."""
        return images.permute(0, 3, 1, 2) if self.channels_last else images

    def _flat(self, x: Tensor) -> Tensor:
        """Flatten the output of a convolution in memory order."""
        return (x.permute(0, 2, 3, 1) if self.channels_last else x).flatten(1)

    def _as_stored(self, images: Images) -> Tensor:
        """Convert images to tensors in the layout that the convolutions read."""
        tensor = torch.from_numpy(images)
        return tensor if self.channels_last else tensor.permute(0, 3, 1, 2).contiguous()

    def _converted(self, parameters: Mapping[str, Array]) -> dict[str, Tensor]:
        """Convert parameters to PyTorch's layouts, dense ones to the pixel order of the images' layout."""
        weights = dict(parameters)
        if not self.channels_last:
            channels = self.model.channels[1]
            side_by_side = weights["FC4.W"].reshape(-1, channels, self.model.hidden)
            weights["FC4.W"] = side_by_side.swapaxes(0, 1).reshape(-1, self.model.hidden)
            for name in ("FC2.W", "FC2.b"):
                pixels = weights[name].reshape(-1, *self.model.image_shape)
                weights[name] = np.moveaxis(pixels, -1, 1).reshape(len(pixels), -1)
        return {name: self._parameter(name, array) for name, array in weights.items()}

    def _parameter(self, name: str, array: Array) -> Tensor:
        layer, kind = name.split(".")
        if kind == "b":
            return torch.tensor(array.reshape(-1), requires_grad=True)
        if not layer.startswith("Conv"):
            return torch.tensor(array.T.copy(), requires_grad=True)
        weight = torch.tensor(array.transpose(3, 2, 0, 1).copy())  # (K, C, R, S)
        if self.channels_last:
            weight = weight.contiguous(memory_format=torch.channels_last)
        return weight.requires_grad_()


def fastest_implementation(make_optimizer: MakeOptimizer, parameters: list[Tensor]) -> dict[str, Any]:
    """Return the fastest setting of an optimizer's implementation, measured with zero gradients."""
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    seconds = {}
    for index, setting in enumerate(OPTIMIZER_IMPLEMENTATIONS):
        try:
            optimizer = make_optimizer(parameters, **setting)
            optimizer.step()
        except (TypeError, RuntimeError):  # not available in this version of PyTorch
            continue
        start = time.perf_counter()
        for _ in range(20):
            optimizer.step()
        seconds[index] = time.perf_counter() - start
    return dict(OPTIMIZER_IMPLEMENTATIONS[min(seconds, key=seconds.__getitem__)])
