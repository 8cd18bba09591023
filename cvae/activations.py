"""Activation functions."""

from cvae.nn.activations import *  # noqa: F403 - the names in its __all__
