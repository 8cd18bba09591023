"""What a file is, told by its first bytes: for choosing a reader, and for saying what came instead of images."""

from __future__ import annotations

import gzip
import stat
import zlib
from pathlib import Path
from typing import NamedTuple

_HEAD_BYTES = 560


class Kind(NamedTuple):
    """A kind of file: a reader's name or "" for what is not read, and what to call it, with what helps."""

    reader: str
    name: str
    is_known: bool = True  # what it is, and not only how it begins


HEIC = "a HEIC picture"
_PICTURE, _UNREAD = "picture", ""
_PICKLE = "a pickle, which could run any code; save its array by numpy.save"
_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (  # offset, bytes; the first that fits counts
    (0, b"\x89PNG\r\n\x1a\n", Kind(_PICTURE, "a PNG picture")),
    (0, b"\xff\xd8\xff", Kind(_PICTURE, "a JPEG picture")),
    (8, b"WEBP", Kind(_PICTURE, "a WebP picture")),
    (0, b"GIF8", Kind(_PICTURE, "a GIF picture")),
    (0, b"BM", Kind(_PICTURE, "a BMP picture")),
    (0, b"II*\0", Kind(_PICTURE, "a TIFF picture")),
    (0, b"MM\0*", Kind(_PICTURE, "a TIFF picture")),
    (0, b"II+\0", Kind(_PICTURE, "a TIFF picture")),
    (4, b"ftypavif", Kind(_PICTURE, "an AVIF picture")),
    (4, b"ftypavis", Kind(_PICTURE, "an AVIF picture")),
    *((0, b"P%d" % digit + blank, Kind(_PICTURE, "a PNM picture")) for digit in range(1, 7) for blank in (b"\n", b" ")),
    *((4, b"ftyp" + brand, Kind(_PICTURE, HEIC)) for brand in (b"hei", b"hevc", b"hevx", b"mif1", b"msf1")),
    (4, b"jP  ", Kind(_PICTURE, "a JPEG 2000 picture")),
    (0, b"\xff\x4f\xff\x51", Kind(_PICTURE, "a JPEG 2000 picture")),
    (0, b"%!PS", Kind(_UNREAD, "a PostScript file; convert it to PNG")),
    (0, b"\xc5\xd0\xd3\xc6", Kind(_UNREAD, "a PostScript file; convert it to PNG")),
    (0, b"8BPS", Kind(_UNREAD, "a Photoshop file; convert it to PNG or TIFF")),
    (0, b"%PDF", Kind(_UNREAD, "a PDF file; convert its pages to PNG")),
    (0, b"SIMPLE  =", Kind(_UNREAD, "a FITS file; save its array by numpy.save")),
    (128, b"DICM", Kind(_UNREAD, "a DICOM file; save its pixels by numpy.save")),
    (344, b"n+1\0", Kind(_UNREAD, "a NIfTI file; save its array by numpy.save")),
    (0, b"\x93NUMPY", Kind("npy", "a .npy file")),
    (0, b"\x89HDF\r\n\x1a\n", Kind("hdf5", "an HDF5 file")),
    (
        0,
        b"MATLAB 7.3",
        Kind(_UNREAD, "a MATLAB 7.3 file; read it by h5py and save its arrays, transposed, by numpy.savez"),
    ),
    (512, b"\x89HDF\r\n\x1a\n", Kind("hdf5", "an HDF5 file")),  # behind a block of the user's
    (0, b"version https://git-lfs", Kind(_UNREAD, "a pointer of Git LFS; git lfs pull brings the file itself")),
    (0, b"MATLAB 5.0", Kind(_UNREAD, "a MATLAB file; read it by scipy.io.loadmat and save its arrays by numpy.savez")),
    (0, b"PK\x03\x04", Kind("zip", "a ZIP archive")),
    (0, b"PK\x05\x06", Kind("zip", "an empty ZIP archive")),
    (0, b"\x1f\x8b", Kind("gzip", "a gzip file")),
    (0, b"BZh", Kind(_UNREAD, "a bzip2 file; unpack it")),
    (0, b"\xfd7zXZ\0", Kind(_UNREAD, "an xz file; unpack it")),
    (0, b"\x28\xb5\x2f\xfd", Kind(_UNREAD, "a Zstandard file; unpack it")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind(_UNREAD, "a 7z archive; unpack it")),
    (0, b"Rar!", Kind(_UNREAD, "a RAR archive; unpack it")),
    (257, b"ustar", Kind(_UNREAD, "a tar archive; unpack it")),
    (0, b"PAR1", Kind(_UNREAD, "a Parquet file; save its images by numpy.save")),
    (0, b"ARROW1", Kind(_UNREAD, "an Arrow file; save its images by numpy.save")),
    (0, b"\xd0\xcf\x11\xe0", Kind(_UNREAD, "an old Office file; save its table as .csv")),
    (4, b"ftyp", Kind(_UNREAD, "a film; save its frames as pictures")),
    (0, b"RIFF", Kind(_UNREAD, "a film or sound; save frames as pictures")),
    *((0, bytes([0, 0, code]), Kind("idx", "an IDX file")) for code in (0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E)),
    *((0, bytes([0x80, protocol]), Kind(_UNREAD, _PICKLE)) for protocol in range(2, 6)),
)


def kind(path: Path) -> Kind:
    """Return what a file is, by its content, or by what is in it for a gzip file of something else than IDX."""
    with path.open("rb") as file:
        found = _kind_of(file.read(_HEAD_BYTES))
        if found.reader != "gzip":
            return found
        file.seek(0)
        try:
            inner = _kind_of(gzip.GzipFile(fileobj=file).read(_HEAD_BYTES))
        except (OSError, EOFError, zlib.error):
            return found
    return inner if inner.reader == "idx" else Kind(_UNREAD, f"a gzip file, to be unpacked, of {inner.name}")


def _kind_of(head: bytes) -> Kind:
    for offset, magic, found in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return found
    if not head:
        return Kind(_UNREAD, "an empty file")
    if head[8:9] == b"{" and head[3:8] == bytes(5):
        return Kind(_UNREAD, "a safetensors file, such as a model", False)
    try:
        text = head.decode("utf-8-sig" if len(head) < _HEAD_BYTES else "latin-1")
    except UnicodeDecodeError:
        text = "\0"
    if all(character.isprintable() or character in "\t\r\n" for character in text):
        start = " ".join(text[:40].split())
        return Kind(_UNREAD, f"text that starts with {start!r}")
    return Kind(_UNREAD, f"a file that starts with the bytes {head[:8].hex(' ')}", False)


def check_regular(path: Path) -> None:
    """Raise ValueError for a pipe or device, whose opening could wait for ever, and OSError for a dangling link."""
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"{path}: is a link to {path.readlink()}, which does not exist")
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path}: must be a file or a folder, got a pipe, device or socket")
