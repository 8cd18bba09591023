"""What layers are made from, by name: activations, optimizers, schedulers and starting weights."""

from cvae.nn.initializers import *  # noqa: F403 - the names in its __all__
