"""Pillow, imported where pictures are read or scaled."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

# What Pillow may have been built without, by what `signatures.kind` calls such pictures.
_FEATURES = {"an AVIF picture": "avif", "a JPEG 2000 picture": "jpg_2000", "a WebP picture": "webp"}


def image_module(purpose: str) -> ModuleType:
    """Return ``PIL.Image`` with all formats registered; raise ImportError that says how to get it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"{purpose} needs Pillow: pip install pillow") from error
    module: ModuleType = Image
    Image.init()
    return module


def register_heif(path: Path) -> None:
    """Have Pillow read HEIC, by pillow-heif; raise ImportError that says how to get it, or what else helps."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        remedy = "install it (pip install pillow-heif), or convert such pictures to JPEG or PNG"
        raise ImportError(f"{path}: reading HEIC pictures needs pillow-heif: {remedy}") from None
    register_heif_opener()


def check_built_with(name: str) -> None:
    """Raise ImportError if Pillow was built without the format of a picture that `signatures.kind` calls `name`."""
    from PIL import features

    if name in _FEATURES and not features.check(_FEATURES[name]):
        raise ImportError(f"this Pillow was built without the format of {name}; convert it to PNG")
