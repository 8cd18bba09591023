"""The layers that models are assembled from."""

from cvae.nn.base import LayerBase
from cvae.nn.conv2d import Conv2D
from cvae.nn.flatten import Flatten
from cvae.nn.fully_connected import FullyConnected
from cvae.nn.pool2d import Pool2D

__all__ = ["Conv2D", "Flatten", "FullyConnected", "LayerBase", "Pool2D"]
