"""Convolutional variational autoencoders on the CPU, with compiled kernels.

`BernoulliVAE` is numpy-ml's model, `VAE` one from any layers; `datasets.load("mnist-sample")` loads data to train on.
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
    # The kernels cannot be imported. The command reports that in one sentence, which has to happen here because its
    # own modules are imported after this one. With `python -m cvae` its name is still "-m" at this point.
    if error.name is None and os.path.basename(sys.argv[0]) in ("cvae", "-m"):
        print(f"cvae: error: {error}", file=sys.stderr)
        sys.exit(2)
    raise

if TYPE_CHECKING:
    from cvae import (
        activations,
        callbacks,
        datasets,
        explorer,
        export,
        initializers,
        layers,
        likelihoods,
        losses,
        objectives,
        optimizers,
        plotting,
        schedulers,
    )
    from cvae.outliers import VAEOutlierDetector

# Imported on first use (PEP 562): what some of them need takes longer than everything else.
_LAZY = {
    "activations", "callbacks", "datasets", "explorer", "export", "initializers", "layers", "likelihoods", "losses",
    "objectives", "optimizers", "plotting", "schedulers",
}  # fmt: skip

__all__ = [
    "VAE", "BernoulliVAE", "NotFittedError", "VAEOutlierDetector", "__version__", "activations", "callbacks",
    "datasets", "explorer", "export", "get_num_threads", "initializers", "layers", "likelihoods", "load", "losses",
    "minibatch", "objectives", "optimizers", "plotting", "schedulers", "set_num_threads",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"cvae.{name}")
    if name == "VAEOutlierDetector":
        return importlib.import_module("cvae.outliers").VAEOutlierDetector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
