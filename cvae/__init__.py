"""Convolutional variational autoencoders on the CPU, with compiled kernels.

The model is `BernoulliVAE`; `datasets.load("mnist-sample")` gives it something to train on.
"""

from importlib.metadata import PackageNotFoundError, version

from cvae import datasets
from cvae.minibatches import minibatch
from cvae.model import NotFittedError
from cvae.threads import get_num_threads, set_num_threads
from cvae.vae import BernoulliVAE, load

try:
    __version__ = version("cvae-cpu")
except PackageNotFoundError:  # built in place but not installed
    __version__ = "0+unknown"

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
