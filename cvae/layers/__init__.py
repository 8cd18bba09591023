"""The layers that the autoencoder is assembled from."""

from cvae.layers.base import LayerBase
from cvae.layers.conv2d import Conv2D
from cvae.layers.flatten import Flatten
from cvae.layers.fully_connected import FullyConnected
from cvae.layers.pool2d import Pool2D

__all__ = ["Conv2D", "Flatten", "FullyConnected", "LayerBase", "Pool2D"]
