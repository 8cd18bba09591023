"""Activations, optimizers, schedulers and starting weights by name."""

from cvae.nn.initializers import *  # noqa: F403 - the names in its __all__
