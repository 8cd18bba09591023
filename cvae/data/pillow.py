"""Pillow, imported where pictures are read or scaled."""

from __future__ import annotations

from types import ModuleType


def image_module(purpose: str) -> ModuleType:
    """Return ``PIL.Image`` with all formats registered; raise ImportError that says how to get it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"{purpose} needs Pillow: pip install pillow") from error
    module: ModuleType = Image
    Image.init()
    return module
