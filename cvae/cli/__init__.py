"""The command `cvae`."""

import os
import sys

import cvae
from cvae.installation import REMEDY

if not hasattr(cvae, "VAE"):  # before modules are imported that use it
    folder = next(iter(cvae.__path__))
    is_elsewhere = os.path.dirname(os.path.dirname(__file__)) not in cvae.__path__  # as after an editable installation
    if getattr(cvae, "__file__", None) is None and is_elsewhere:
        what = f"the folder {folder} hides the package cvae; rename it, or work in another folder"
    else:
        what = f"the package cvae has been replaced by another project's; {REMEDY}"
    print(f"cvae: error: {what}", file=sys.stderr)
    sys.exit(2)
