"""How many bits the pixels of a JPEG 2000 picture have, which Pillow does not tell."""

from __future__ import annotations

from pathlib import Path

from cvae.data.errors import Refused

_START = b"\xff\x4f\xff\x51"  # of a codestream: the markers SOC and SIZ
_COUNT, _COMPONENTS = 40, 42  # behind it: the number of components, and three bytes for each


def check_bits(path: Path, read: int) -> None:
    """Refuse a picture that has more bits a channel than the `read` ones of Pillow, or negative pixels."""
    content = path.read_bytes()
    start = content.find(_START)
    n_components = int.from_bytes(content[start + _COUNT : start + _COMPONENTS], "big")
    depths = content[start + _COMPONENTS :][: 3 * n_components : 3] if start >= 0 else b""
    bits = max((1 + (depth & 0x7F) for depth in depths), default=read)
    if bits > read:
        raise Refused(f"holds {bits} bits a channel, of which Pillow reads {read}; convert it to 16-bit TIFF or PNG")
    if any(depth & 0x80 for depth in depths):
        raise Refused("holds pixels with a sign, which Pillow does not read; convert it to TIFF")
