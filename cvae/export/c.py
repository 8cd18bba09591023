"""Models as one file of C99, which depends on nothing but the standard library and allocates nothing."""

from __future__ import annotations

import os
import re
from typing import Any

from cvae.core import Core
from cvae.export.c_file import CFile
from cvae.export.parts import take_apart
from cvae.io.files import replaced_file


def to_c(model: Core, path: str | os.PathLike[str], *, prefix: str = "cvae") -> None:
    """Write a model as one C99 file that encodes, decodes, reconstructs and scores images, one at a time.

    The file needs the standard library (``-lm``) alone, allocates no memory and has no state: the caller lends scratch
    memory, of a size that the file defines. A comment at its beginning explains its functions, such as
    ``cvae_encode(image, mean, log_var, scratch)``. Numbers are of the model's dtype. Compile with optimization, as
    ``cc -std=c99 -O3 -march=native``: the inner loops then use the vectors of the processor.

    Parameters
    ----------
    model : VAE
        With parameters.
    path : path
        An existing file is replaced only by a complete new one.
    prefix : str
        Of all names that the file defines for others, a C identifier.

    Raises
    ------
    TypeError
        If `model` is no model.
    NotFittedError
        If the model has no parameters yet.
    ValueError
        If `prefix` is not an identifier, there is no translation of a layer, an activation or the likelihood, or a
        parameter is not finite.
    OSError
        If the file cannot be written.

    Warns
    -----
    UserWarning
        If the model draws pixels black and white (``binarize="dynamic"`` or ``"fixed"``), which the file does not.
    """
    text = c_source(model, prefix=prefix)
    with replaced_file(path) as file:
        file.write(text.encode())


def c_source(model: Core, *, prefix: str = "cvae") -> str:
    """Return the text that `to_c` writes, with the same arguments and errors."""
    check_prefix(prefix)
    return CFile(take_apart(model), type(model).__name__, prefix).text()


def check_prefix(prefix: Any) -> None:
    """Raise ValueError unless names of C may begin with this."""
    if not isinstance(prefix, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", prefix):
        raise ValueError(f"prefix must be a C identifier, got {prefix!r}")
