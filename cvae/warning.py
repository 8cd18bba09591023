"""Warnings that point to the user's line."""

import sys
import warnings

_PASSED_OVER = "cvae", "sklearn"  # scikit-learn wraps methods of models


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the line that called this package: the innermost one outside of it."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_OVER:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level + 1)
