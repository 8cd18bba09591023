"""The command `cvae`."""

import sys

import cvae
from cvae.installation import REMEDY

if getattr(cvae, "__file__", None) is None:  # a folder of that name comes first, whose files this package's add to
    folder = next(iter(cvae.__path__))
    print(f"cvae: error: the folder {folder} hides the package cvae; rename it or run elsewhere", file=sys.stderr)
    sys.exit(2)
if not hasattr(cvae, "VAE"):  # before modules are imported that use it
    print(f"cvae: error: the package cvae has been replaced by another project's; {REMEDY}", file=sys.stderr)
    sys.exit(2)
