"""Convolutional variational autoencoders on the CPU, with compiled kernels.

The model is `BernoulliVAE`; `datasets.load("mnist-sample")` gives it something to train on.
"""

from cvae import datasets
from cvae.minibatches import minibatch
from cvae.model import NotFittedError
from cvae.threads import get_num_threads, set_num_threads
from cvae.vae import BernoulliVAE, load
from cvae.version import __version__

__all__ = [
    "BernoulliVAE",
    "NotFittedError",
    "__version__",
    "datasets",
    "get_num_threads",
    "load",
    "minibatch",
    "set_num_threads",
]
