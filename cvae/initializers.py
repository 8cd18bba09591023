"""Activations, optimizers, schedulers and starting weights by name."""

from cvae.nn.initializers import *  # noqa: F403 - the names in its __all__
from cvae.nn.initializers import __all__ as __all__
