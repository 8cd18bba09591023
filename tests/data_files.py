"""Files of images for the tests, and the check that a damaged one is refused."""

import gzip
import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cvae.datasets import load

TYPE_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = np.array([7, 0, 9], np.uint8)


def idx_bytes(array):
    header = struct.pack(f">2xBB{array.ndim}I", TYPE_CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_mnist(folder, suffix=".gz", images=IMAGES, labels=LABELS):
    write(folder / f"train-images-idx3-ubyte{suffix}", idx_bytes(images))
    write(folder / f"train-labels-idx1-ubyte{suffix}", idx_bytes(labels))
    write(folder / f"t10k-images-idx3-ubyte{suffix}", idx_bytes(images[:2] + np.uint8(1)))
    write(folder / f"t10k-labels-idx1-ubyte{suffix}", idx_bytes(labels[:2]))
    return folder


def assert_is_mnist(dataset):
    np.testing.assert_array_equal(dataset.images, IMAGES[..., np.newaxis])
    np.testing.assert_array_equal(dataset.labels, LABELS)
    np.testing.assert_array_equal(dataset.test_images, IMAGES[:2, ..., np.newaxis] + 1)
    np.testing.assert_array_equal(dataset.test_labels, LABELS[:2])


def assert_refused(source, *words, file=None):
    """Assert that loading raises a one-line ValueError that contains the file's name and all `words`."""
    with pytest.raises(ValueError, match=re.escape(str(file or source))) as caught:
        load(source)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


NPY = npy_bytes(IMAGES)

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (4, 6, 5), dtype=np.uint8)
RGB = RNG.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 5, 4), dtype=np.uint16)


def save_picture(path, pixels, mode=None, **options):
    """Write a picture and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(pixels))
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def png_bytes(width, height, bits, colour_type, rows):
    """Return a PNG file of rows of unfiltered bytes."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def deep_png_bytes(pixels):
    """Return a PNG file of 16 bits a channel, which Pillow does not write."""
    rows, cols, channels = pixels.shape
    colour_type = {2: 4, 3: 2, 4: 6}[channels]
    return png_bytes(cols, rows, 16, colour_type, [row.astype(">u2").tobytes() for row in pixels])


def deep_tiff_bytes(pixels, order, *, deflated):
    """Return a TIFF file of 16 bits a channel, in one strip."""
    rows, cols, channels = pixels.shape
    strip = pixels.astype(f"{order}u2").tobytes()
    strip = zlib.compress(strip) if deflated else strip
    n_tags = 9 + (channels == 4)
    bits_at = 8 + 2 + 12 * n_tags + 4
    short, long = 3, 4
    tags = [
        (256, short, 1, cols), (257, short, 1, rows), (258, short, channels, bits_at),
        (259, short, 1, 8 if deflated else 1), (262, short, 1, 2), (273, long, 1, bits_at + 2 * channels),
        (277, short, 1, channels), (278, short, 1, rows), (279, long, 1, len(strip)), (338, short, 1, 2),
    ]  # fmt: skip
    content = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, n_tags)
    for tag, kind, count, value in tags[:n_tags]:
        fits = kind == short and count == 1
        content += struct.pack(f"{order}HHI", tag, kind, count)
        content += struct.pack(f"{order}HH", value, 0) if fits else struct.pack(f"{order}I", value)
    return content + struct.pack(f"{order}I", 0) + struct.pack(f"{order}{channels}H", *[16] * channels) + strip
