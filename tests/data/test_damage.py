"""Files of every format with bytes changed, moved and cut: either they are read, or one sentence names the file."""

import gzip
import io

import h5py
import numpy as np
import pytest
from data_files import DEEP, GREY, IMAGES, LABELS, NPY, RGB, deep_png_bytes, deep_tiff_bytes, idx_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from cvae.datasets import load


def picture(format, pixels, *others, **options):
    stream = io.BytesIO()
    pages = {"save_all": True, "append_images": [Image.fromarray(other) for other in others]} if others else {}
    Image.fromarray(pixels).save(stream, format, **pages, **options)
    return stream.getvalue()


def archive(save):
    stream = io.BytesIO()
    save(stream, images=IMAGES, labels=LABELS)
    return stream.getvalue()


def hdf5():
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("images", data=IMAGES, compression="gzip")
        file["labels"] = LABELS
    return stream.getvalue()


SOUND = {
    "a.png": picture("PNG", RGB[0], exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    "deep.png": deep_png_bytes(DEEP[..., :3]),
    "a.jpg": picture("JPEG", RGB[0]),
    "mpo.jpg": picture("MPO", *RGB[:2]),
    "a.webp": picture("WEBP", RGB[0]),
    "a.bmp": picture("BMP", RGB[0]),
    "a.gif": picture("GIF", *GREY),
    "a.tif": picture("TIFF", *GREY),
    "deep.tif": deep_tiff_bytes(DEEP[..., :3], "<", deflated=False),
    "a.ppm": picture("PPM", RGB[0]),
    "a.npy": NPY,
    "a.npz": archive(np.savez),
    "deflated.npz": archive(np.savez_compressed),
    "idx": idx_bytes(IMAGES),
    "idx.gz": gzip.compress(idx_bytes(IMAGES), mtime=0),
    "a.csv": b"label,a,b,c,d\n1,2,3,4,5\n6,7,8,9,10\n",
    "a.h5": hdf5(),
}
if features.check("avif"):
    SOUND["a.avif"] = picture("AVIF", RGB[0])

PIECES = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from(
        [b"\0" * 8, b"\xff" * 4, b"\x7f\xff\xff\xff", b"(" * 50, b"-" * 50, b"1e999", b"PK\x01\x02", b"IDAT"]
    ),
)
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), PIECES), min_size=1, max_size=4)


def damaged(content, changes, kept):
    """Return content with pieces replaced, where the places are shares of its length, and its end cut off."""
    for place, n_replaced, piece in changes:
        start = int(place * len(content))
        content = content[:start] + piece + content[start + n_replaced :]
    return content[: max(1, int(kept * len(content)))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damage")


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES, kept=st.sampled_from([1, 1, 1, 0.9, 0.5]))
def test_damaged_files_are_read_or_refused_by_name(folder, capfd, name, changes, kept):
    path = folder / name
    path.unlink(missing_ok=True)  # as an image that was mapped to memory may still exist
    path.write_bytes(damaged(SOUND[name], changes, kept))
    try:
        images, message = load(path).images, None
    except ValueError as error:
        images, message = None, str(error)
    if message is None:
        assert images.ndim == 4
        assert images.size
    else:
        assert message.startswith(f"{path}: ")
        assert "\n" not in message


@pytest.mark.parametrize("name", SOUND)
def test_the_sound_files_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(SOUND[name])
    assert load(tmp_path / name).images.ndim == 4
