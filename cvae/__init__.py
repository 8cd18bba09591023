"""Convolutional variational autoencoders on the CPU, with compiled kernels.

The model is `BernoulliVAE`; `datasets.load("mnist-sample")` gives it something to train on.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

try:
    from cvae.data.minibatches import minibatch
    from cvae.estimator import NotFittedError
    from cvae.model import VAE
    from cvae.runtime.threads import get_num_threads, set_num_threads
    from cvae.vae import BernoulliVAE, load
    from cvae.version import __version__
except ImportError as error:
    # The kernels refuse to be imported.  The command tells its user so in a sentence, and can only do it here, for its
    # own modules are imported after this one.  Its name is still "-m" when `python -m cvae` gets here.
    if error.name is None and os.path.basename(sys.argv[0]) in ("cvae", "-m"):
        print(f"cvae: error: {error}", file=sys.stderr)
        sys.exit(2)
    raise

if TYPE_CHECKING:
    from cvae import datasets

__all__ = [
    "VAE",
    "BernoulliVAE",
    "NotFittedError",
    "__version__",
    "datasets",
    "get_num_threads",
    "load",
    "minibatch",
    "set_num_threads",
]


def __getattr__(name: str) -> Any:
    # Imported when it is first used (PEP 562): what it needs of the standard library takes as long as all the rest.
    if name == "datasets":
        return importlib.import_module("cvae.data.loading")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
