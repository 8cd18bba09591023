"""Whether another project has put files into this package's folder.

The package index's project cvae, CompressionVAE, also installs a folder ``cvae``. Whatever is installed last replaces
what both have, ``__init__.py`` above all.
"""

from __future__ import annotations

import os

DISTRIBUTION = "cvae-cpu"
REMEDY = f"run: pip uninstall cvae {DISTRIBUTION}, and then install {DISTRIBUTION} again"
_FOREIGN = "cvae.py"  # a module of CompressionVAE, whose name no module of this package has


def has_foreign_files(folder: str) -> bool:
    """Return whether CompressionVAE's files are in a folder; takes one look at the file system."""
    return os.path.exists(os.path.join(folder, _FOREIGN))


def other_projects() -> list[str]:
    """Return the names and versions of all other installed projects with files in a folder ``cvae``."""
    from importlib import metadata  # here, for it takes as long as the rest of `import cvae`

    found = []
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        files = distribution.read_text("RECORD") or ""
        if name != DISTRIBUTION and any(line.startswith("cvae/") for line in files.splitlines()):
            found.append(f"{name} {distribution.version}")
    return sorted(found)
