"""Activation functions."""

from cvae.nn.activations import *  # noqa: F403 - the names in its __all__
from cvae.nn.activations import __all__ as __all__
