"""One picture file: what it holds, and its pixels as they were stored.

Pillow tells formats by content. It is asked for those below alone, since others start programs (PostScript) or are no
pictures.
"""

from __future__ import annotations

import contextlib
import io
import operator
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cvae.data.adjustment import to_grey
from cvae.data.errors import Refused, named_errors
from cvae.data.jpeg2000 import check_bits
from cvae.data.pillow import check_built_with, image_module, register_heif
from cvae.data.signatures import HEIC, check_regular, kind

Array = npt.NDArray[Any]

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".avif", ".apng", ".mpo", ".jp2", ".j2k", ".j2c", ".jpx", ".jpf", ".heic", ".heif", ".hif",
)  # fmt: skip
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF")

# A small file of a huge picture is an attack rather than data: a deflated byte stands for up to 1,032, one of LZW for
# more.
_PIXELS_ALWAYS_READ = 1 << 24
_PIXELS_PER_BYTE = 4096

_GREY, _COLOUR, _GREY_PALETTE, _COLOUR_PALETTE, _CONVERTED = range(5)
_KINDS = {
    "1": _GREY, "L": _GREY, "LA": _GREY, "La": _GREY, "I": _GREY, "F": _GREY,
    "RGB": _COLOUR, "RGBX": _COLOUR, "RGBA": _COLOUR, "RGBa": _COLOUR,
    "CMYK": _CONVERTED, "YCbCr": _CONVERTED, "LAB": _CONVERTED, "HSV": _CONVERTED,
}  # fmt: skip
# Tags of TIFF and EXIF.
_ORIENTATION, _SUBFILE_TYPE, _BITS, _DESCRIPTION, _SAMPLE_FORMAT, _PHOTOMETRIC = 274, 254, 258, 270, 339, 262


class Image(NamedTuple):
    """An image of a picture file, before it is decoded."""

    frame: int
    rows: int
    cols: int
    dtype: str
    kind: int

    @property
    def is_grey(self) -> bool:
        """Whether it has greys only, and is stored so."""
        return self.kind == _GREY

    @property
    def is_coloured(self) -> bool:
        return self.kind in (_COLOUR, _COLOUR_PALETTE)

    @property
    def is_converted(self) -> bool:
        """Whether it has neither grey nor RGB, such as CMYK, and needs a conversion that loses a little."""
        return self.kind == _CONVERTED


class _BoundedReader(io.BufferedReader):
    """A file of which no more is asked for at a time than it holds, whatever lengths are in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size and min(size, self._size))


class Picture:
    """A picture file, open for reading.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ImportError
        If Pillow is missing.
    OSError
        If the file cannot be read.
    ValueError
        From all methods, if it is not one of the formats above, is damaged or far larger than its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._module = image_module("reading pictures")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        check_regular(self.path)
        with (
            _BoundedReader(self.path) as stream,
            named_errors(self.path, "picture"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # about EXIF and other things that no pixel depends on
            warnings.simplefilter("error", self._module.DecompressionBombWarning)
            try:
                picture = self._open(stream)
            except (self._module.DecompressionBombError, self._module.DecompressionBombWarning):
                raise Refused(_bomb(f"more than {self._module.MAX_IMAGE_PIXELS:,}", self.path)) from None
            with picture:
                yield picture

    def _open(self, stream: Any) -> Any:
        """Return what Pillow makes of a file, with pillow-heif if it needs that."""
        try:
            return self._module.open(stream, formats=[name for name in _FORMATS if name in self._module.OPEN])
        except self._module.UnidentifiedImageError:
            name = kind(self.path).name
            check_built_with(name)
            if name != HEIC or "HEIF" in self._module.OPEN:
                raise ValueError(f"it is {name}") from None
        register_heif(self.path)
        stream.seek(0)
        return self._open(stream)

    def images(self) -> list[Image]:
        """Return what the file holds: all frames or pages, but of a camera's MPO or HEIC the first picture alone."""
        with self._opened() as picture:
            n_frames = 1 if picture.format in ("MPO", "HEIF") else getattr(picture, "n_frames", 1)
            self._check_pixels(picture, n_frames)
            _check_stack(picture, n_frames)
            found = []
            for frame in range(n_frames):
                if frame:
                    picture.seek(frame)
                    self._check_pixels(picture, n_frames)
                if picture.format == "TIFF" and picture.tag_v2.get(_SUBFILE_TYPE, 0) & 5:
                    continue  # a smaller copy of another page, or a mask
                found.append(self._describe(picture, frame))
            if not found:
                raise Refused("holds only previews and masks")
            return found

    def pixels(self, images: list[Image], channels: int, background: tuple[int, int, int] | None) -> Iterator[Array]:
        """Yield each image, (rows, cols) for one channel and (rows, cols, 3) for three, in its own dtype.

        Parameters
        ----------
        images : list of Image
            Of this file, as `images` returned them.
        channels : int
            1 or 3.
        background : (red, green, blue) or None
            8-bit colour that shows through pixels that are not opaque; None to refuse these.
        """
        with self._opened() as picture:
            for image in images:
                if image.frame:
                    picture.seek(image.frame)
                pixels = self._decode(picture, image)
                if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
                    pixels = _on_background(pixels, background)
                if pixels.ndim == 3 and channels == 1:
                    same = (pixels == pixels[..., :1]).all()
                    pixels = pixels[..., 0] if same else to_grey(pixels)
                elif pixels.ndim == 2 and channels == 3:
                    pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2)
                yield pixels

    def _check_pixels(self, picture: Any, n_frames: int) -> None:
        """Refuse pictures that no file of this size holds in earnest, before their memory is asked for."""
        width, height = picture.size
        pixels, n_bytes = width * height * n_frames, self.path.stat().st_size
        limit = self._module.MAX_IMAGE_PIXELS
        most = max(_PIXELS_ALWAYS_READ, _PIXELS_PER_BYTE * n_bytes)
        if limit is not None and (width * height > limit or pixels > most):
            raise Refused(_bomb(f"{pixels:,}", self.path))

    def _describe(self, picture: Any, frame: int) -> Image:
        mode, dtype = picture.mode, _dtype(picture)
        if picture.format == "JPEG2000":
            check_bits(self.path, 16 if dtype == "uint16" else 8)
        if mode in ("P", "PA"):
            palette = np.array(picture.getpalette("RGB") or [], int).reshape(-1, 3)
            found = _GREY_PALETTE if (palette == palette[:, :1]).all() else _COLOUR_PALETTE
        elif picture.format == "GIF" and frame:  # which Pillow has converted from its palette
            pixels = _pixels(picture.convert("RGB"))
            found = _GREY_PALETTE if (pixels == pixels[..., :1]).all() else _COLOUR_PALETTE
        else:
            found = _KINDS.get(mode, _GREY if mode.startswith("I;16") else -1)
        if found < 0:
            raise Refused(f"its pixels are of the kind {mode}, which is not read; convert it to RGB")
        cols, rows = picture.size
        # Pillow has turned a TIFF's size already, and would decode a PNG to look for EXIF behind its pixels.
        is_upright = picture.format == "TIFF" or (picture.format == "PNG" and not self._has_metadata())
        if not is_upright and _orientation(picture) > 4:
            rows, cols = cols, rows
        return Image(frame, rows, cols, dtype, found)

    def _has_metadata(self) -> bool:
        """Return whether a PNG may hold EXIF, of its own or as other programs add it."""
        content = self.path.read_bytes()
        return any(mark in content for mark in (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp"))

    def _decode(self, picture: Any, image: Image) -> Array:
        """Return the pixels (rows, cols[, channels]), turned upright, with a last channel for what is not opaque."""
        orientation = 1 if picture.format == "TIFF" else _orientation(picture)
        if image.dtype == "uint16" and picture.mode in ("RGB", "RGBA"):
            pixels = self._decode_16_bits(picture)
        else:
            pixels = _pixels(_plain(picture))
            if image.dtype != pixels.dtype.name:
                pixels = pixels.astype(image.dtype)
            if picture.format == "TIFF" and image.dtype == "uint16" and picture.tag_v2.get(_PHOTOMETRIC) == 0:
                pixels = ~pixels  # 0 is white, which Pillow knows of 8 bits alone
        return _upright(pixels, orientation)

    def _decode_16_bits(self, picture: Any) -> Array:
        """Return 16-bit colours, of which Pillow decodes a byte at a time: the high one, or that of the other order."""
        high = _pixels(picture).astype(np.uint16)
        with self._opened() as again:
            if picture.tell():
                again.seek(picture.tell())
            again.tile = [_with_other_order(tile) for tile in again.tile]
            low = _pixels(again)
        colours: Array = high << np.uint16(8) | low
        return colours


def _check_stack(picture: Any, n_frames: int) -> None:
    """Refuse large stacks of ImageJ, whose images follow a page for the first one without pages of their own."""
    if picture.format == "TIFF":
        description = str(picture.tag_v2.get(_DESCRIPTION, ""))
        match = re.match(r"ImageJ=.*?^images=([0-9]{1,9})", description, re.DOTALL | re.MULTILINE)
        if match and int(match[1]) > n_frames:
            raise Refused(f"is an ImageJ stack of {match[1]} images, of which Pillow sees {n_frames}; save it as .npy")


def _bomb(pixels: str, path: Path) -> str:
    return (
        f"announces {pixels} pixels in {path.stat().st_size:,} bytes, as decompression bombs do; if you trust the "
        "file, set PIL.Image.MAX_IMAGE_PIXELS to None"
    )


def _dtype(picture: Any) -> str:
    """Return the dtype that holds a picture's pixels; raise ValueError if Pillow would cut them."""
    rawmode, *rest = _tile_arguments(picture)
    mode = picture.mode
    if mode.startswith("I;16"):
        if "transparency" in picture.info:
            raise Refused("holds 16 bits with a transparent colour, which is not read; remove the transparency")
        return "uint16"
    if mode == "I":
        if picture.format != "TIFF":
            return "uint16"  # 16-bit greys of older Pillow, and of PGM
        is_unsigned = picture.tag_v2.get(_SAMPLE_FORMAT, (1,))[0] == 1 and picture.tag_v2.get(_BITS, (32,))[0] == 32
        return "uint32" if is_unsigned else "int32"
    if mode == "F":
        return "float32"
    if mode == "L" and picture.format == "TIFF" and picture.tag_v2.get(_SAMPLE_FORMAT, (1,))[0] == 2:
        return "int8"
    if isinstance(rawmode, str) and ";16" in rawmode:
        if rawmode.partition(";")[0] in ("RGB", "RGBA", "RGBX") and "transparency" not in picture.info:
            return "uint16"
        raise Refused(f"holds 16 bits a channel of {rawmode}, of which Pillow reads 8; convert it to 16-bit RGB")
    if picture.format == "PPM" and mode == "RGB" and rest and isinstance(rest[0], int) and rest[0] > 255:
        raise Refused("holds 16-bit colours in PPM, of which Pillow reads 8 bits; convert it to PNG")
    return "uint8"


def _tile_arguments(picture: Any) -> tuple[Any, ...]:
    """Return how the first part of a picture is decoded: (raw mode, ...)."""
    if not picture.tile:
        return (None,)
    arguments = picture.tile[0][3]
    return (arguments or (None,)) if isinstance(arguments, tuple) else (arguments,)


def _with_other_order(tile: Any) -> Any:
    """Return a part of a picture that takes the other byte of each 16 bits than `tile` does."""
    rawmode, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    is_little = rawmode[-1] == "L" or (rawmode[-1] == "N" and sys.byteorder == "little")
    other = rawmode[:-1] + ("B" if is_little else "L")
    return tile._replace(args=(other, *rest) if isinstance(tile.args, tuple) else other)


def _pixels(picture: Any) -> Array:
    """Return all channels of a picture, decoded."""
    picture.load()  # whose errors NumPy would take for the absence of an array
    return np.asarray(picture)


def _plain(picture: Any) -> Any:
    """Return a picture of one of the modes L, LA, RGB, RGBA, I, I;16 and F."""
    picture.load()
    if picture.has_transparency_data:
        if picture.mode in ("LA", "RGBA"):
            return picture
        return picture.convert("RGBA" if picture.mode not in ("La",) else "LA")
    if picture.mode in ("L", "RGB", "I", "F") or picture.mode.startswith("I;16"):
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _on_background(pixels: Array, background: tuple[int, int, int] | None) -> Array:
    """Return greys or colours (rows, cols[, 3]) without their last channel, the opacity."""
    colours, opacity = pixels[..., :-1], pixels[..., -1:]
    full = np.iinfo(pixels.dtype).max
    if (opacity == full).all():
        return colours[..., 0] if colours.shape[2] == 1 else colours
    if background is None:
        raise Refused(
            "is transparent in parts; pass background='white' or another colour (--background white on the command "
            "line) for what shows through"
        )
    behind = np.array(background, np.float64) * (full / 255)
    share = opacity / full
    mixed = np.rint(colours * share + behind * (1 - share)).astype(pixels.dtype)
    is_grey = colours.shape[2] == 1 and len(set(background)) == 1
    return mixed[..., 0] if is_grey else mixed


def _orientation(picture: Any) -> int:
    """Return how a camera was held, from 1 (upright) to 8, as EXIF and TIFF number it."""
    try:
        found = operator.index(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF
        return 1
    return found if 1 <= found <= 8 else 1


def _upright(pixels: Array, orientation: int) -> Array:
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
