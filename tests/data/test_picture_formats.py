"""JPEG 2000 and HEIC: what is read of them, and what is said where that is not possible."""

import io
import struct
import sys

import numpy as np
import pillow_heif
import pytest
from data_files import DEEP, GREY, RGB, assert_refused, save_picture, write
from PIL import Image, features

from cvae.data import pictures
from cvae.datasets import load

SIZ = b"\xff\x4f\xff\x51"  # how a codestream of JPEG 2000 starts


@pytest.mark.parametrize("suffix", ["jp2", "j2k", "JPX"])
@pytest.mark.parametrize("pixels", [RGB[0], GREY[0], DEEP[0]], ids=["RGB", "grey", "16 bits"])
def test_jpeg_2000(tmp_path, suffix, pixels):
    save_picture(tmp_path / "source.jp2", pixels, irreversible=False, no_jp2=suffix == "j2k")
    path = (tmp_path / "source.jp2").rename(tmp_path / f"a.{suffix}")
    images = load(path).images
    np.testing.assert_array_equal(images[0].squeeze(), pixels)
    assert images.dtype == pixels.dtype


def with_depth(content, depth):
    """Return a JPEG 2000 picture that says its first channel has another depth."""
    place = content.index(SIZ) + 42
    return content[:place] + struct.pack("B", depth) + content[place + 1 :]


@pytest.mark.parametrize(("depth", "message"), [(15, "16 bits a channel, of which Pillow reads 8"), (0x87, "a sign")])
def test_jpeg_2000_of_which_pillow_would_cut_bits_is_refused(tmp_path, depth, message):
    content = save_picture(tmp_path / "a.jp2", RGB[0]).read_bytes()
    assert_refused(write(tmp_path / "b.jp2", with_depth(content, depth)), message, "convert it to")


@pytest.fixture
def without_heif(monkeypatch):
    """Pillow as it is before pillow-heif adds to it."""
    Image.init()
    monkeypatch.setattr(Image, "OPEN", {name: opener for name, opener in Image.OPEN.items() if name != "HEIF"})


def heic(path, pixels, **options):
    pillow_heif.from_bytes("L" if pixels.ndim == 2 else "RGB", pixels.shape[1::-1], pixels.tobytes()).save(
        path, quality=-1, chroma=444, **options
    )
    return path


@pytest.mark.usefixtures("without_heif")
@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "photo"])
def test_heic(tmp_path, name):
    pixels = np.full((64, 72, 3), (200, 100, 50), np.uint8)
    path = heic(tmp_path / "source.heic", pixels).rename(tmp_path / name)
    images = load(path).images
    assert images.shape == (1, 64, 72, 3)
    np.testing.assert_allclose(images[0].astype(int), pixels, atol=4)


@pytest.mark.usefixtures("without_heif")
def test_heic_beside_other_pictures(tmp_path):
    pixels = np.full((64, 72, 3), 100, np.uint8)
    heic(tmp_path / "2.heic", pixels)
    save_picture(tmp_path / "1.png", pixels)
    dataset = load(tmp_path)
    assert dataset.filenames == ("1.png", "2.heic")


@pytest.mark.usefixtures("without_heif")
@pytest.mark.parametrize("source", ["a.heic", "."])
def test_without_pillow_heif_the_message_says_what_helps(tmp_path, monkeypatch, source):
    heic(tmp_path / "a.heic", np.zeros((64, 64, 3), np.uint8))
    save_picture(tmp_path / "b.png", np.zeros((64, 64, 3), np.uint8))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImportError, match=r"a\.heic: reading HEIC pictures needs pillow-heif: .*pip install.*convert"):
        load(tmp_path / source)


def test_damaged_heic(tmp_path):
    content = heic(tmp_path / "a.heic", np.zeros((64, 64, 3), np.uint8)).read_bytes()
    for damaged in (content[:40], content[: len(content) // 2], b"\0\0\0\x18ftypheic"):
        assert_refused(write(tmp_path / "b.heic", damaged), "not a valid picture")


@pytest.mark.parametrize(("suffix", "feature"), [("jp2", "jpg_2000"), ("webp", "webp")])
def test_a_pillow_without_a_format(tmp_path, monkeypatch, suffix, feature):
    path, check = save_picture(tmp_path / f"a.{suffix}", RGB[0]), features.check
    monkeypatch.setattr(features, "check", lambda name: name != feature and check(name))
    monkeypatch.setattr(pictures, "_FORMATS", ("PNG",))
    with pytest.raises(ImportError, match=r"this Pillow was built without the format of a .* picture; convert"):
        load(path)


def test_other_pictures_are_refused_whatever_their_name(tmp_path):
    pcx = io.BytesIO()
    Image.fromarray(GREY[0]).save(pcx, "PCX")
    assert_refused(write(tmp_path / "b.heic", pcx.getvalue()), "not a valid picture")
