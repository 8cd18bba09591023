"""The layers that models are assembled from."""

from cvae.nn.base import LayerBase
from cvae.nn.condition import Condition
from cvae.nn.conv2d import Conv2D
from cvae.nn.conv_transpose2d import ConvTranspose2D
from cvae.nn.flatten import Flatten
from cvae.nn.fully_connected import FullyConnected
from cvae.nn.normalization import BatchNorm1D, BatchNorm2D, GroupNorm
from cvae.nn.pool2d import Pool2D
from cvae.nn.reshape import Reshape
from cvae.nn.residual import Residual
from cvae.nn.upsample2d import Upsample2D

__all__ = [
    "BatchNorm1D",
    "BatchNorm2D",
    "Condition",
    "Conv2D",
    "ConvTranspose2D",
    "Flatten",
    "FullyConnected",
    "GroupNorm",
    "LayerBase",
    "Pool2D",
    "Reshape",
    "Residual",
    "Upsample2D",
]
