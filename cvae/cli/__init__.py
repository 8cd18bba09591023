"""The command `cvae`."""

import sys

import cvae
from cvae.installation import REMEDY

if not hasattr(cvae, "VAE"):  # before modules are imported that use it
    print(f"cvae: error: the package cvae has been replaced by another project's; {REMEDY}", file=sys.stderr)
    sys.exit(2)
