"""Convolutional variational autoencoders on the CPU, with compiled kernels.

`BernoulliVAE` is numpy-ml's model, `VAE` one from any layers; `datasets.load("mnist-sample")` loads data to train on.
"""

import importlib
import os
import sys
import warnings

from cvae.starting import EndsAtInterrupt

# The command's own modules are imported after this one. With `python -m cvae` its name is still "-m" at this point.
_is_command = bool(getattr(sys, "argv", None)) and os.path.basename(sys.argv[0]) in ("cvae", "-m")

try:
    with EndsAtInterrupt(_is_command):
        from typing import TYPE_CHECKING, Any

        from cvae.data.minibatches import minibatch
        from cvae.estimator import NotFittedError
        from cvae.installation import REMEDY, has_foreign_files
        from cvae.model import VAE
        from cvae.runtime.threads import get_num_threads, set_num_threads
        from cvae.vae import BernoulliVAE, load
        from cvae.version import __version__
except ImportError as error:
    # The kernels cannot be imported, which the command reports in one sentence.
    if error.name is None and _is_command:
        print(f"cvae: error: {error}", file=sys.stderr)
        sys.exit(2)
    raise

if has_foreign_files(__path__[0]):
    warnings.warn(f"files of another project are in {__path__[0]}; {REMEDY}", stacklevel=2)

if TYPE_CHECKING:
    from cvae import callbacks, datasets, explorer, export, plotting
    from cvae.outliers import VAEOutlierDetector

# Public modules, imported on first use (PEP 562): what some need takes longer than everything else.
_MODULES = (
    "activations", "architectures", "callbacks", "datasets", "explorer", "export", "initializers", "layers",
    "likelihoods", "losses", "objectives", "optimizers", "plotting", "schedulers",
)  # fmt: skip

__all__ = [
    "VAE", "BernoulliVAE", "NotFittedError", "VAEOutlierDetector", "__version__", "callbacks", "datasets", "explorer",
    "export", "get_num_threads", "load", "minibatch", "plotting", "set_num_threads",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"cvae.{name}")
    if name == "VAEOutlierDetector":
        return importlib.import_module("cvae.outliers").VAEOutlierDetector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_home_of(name)}")


def _home_of(name: str) -> str:
    """Return, for an error message, which public module has this name."""
    if name[:1].isupper():  # of a class: `hasattr` with the names that tools look for imports nothing
        for module in _MODULES:
            if name in importlib.import_module(f"cvae.{module}").__all__:
                return f": it is cvae.{module}.{name}"
    return ""


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
