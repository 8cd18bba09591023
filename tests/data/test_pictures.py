"""Single pictures: the formats that are read and as what, those that are not, damaged files and bombs."""

import io
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from data_files import (
    DEEP,
    GREY,
    NPY,
    RGB,
    assert_refused,
    deep_png_bytes,
    deep_tiff_bytes,
    png_bytes,
    save_picture,
    write,
)
from PIL import Image, ImageOps, features

from cvae.datasets import load


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "pgm", "tif", "tiff", "PNG"])
def test_grey_pictures(tmp_path, suffix):
    dataset = load(save_picture(tmp_path / f"a.{suffix}", GREY[0]))
    np.testing.assert_array_equal(dataset.images, GREY[:1, ..., np.newaxis])
    assert dataset.images.dtype == np.uint8
    assert dataset.filenames == (f"a.{suffix}",)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp"])
def test_coloured_pictures(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save_picture(tmp_path / f"a.{suffix}", RGB[0], **options)
    np.testing.assert_array_equal(load(path).images[0], RGB[0])


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG", "jfif", "webp", "avif"])
def test_lossy_pictures(tmp_path, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    path = save_picture(tmp_path / f"a.{suffix}", np.full((8, 8, 3), 100, np.uint8), quality=95)
    images = load(path).images
    assert images.shape == (1, 8, 8, 3)
    np.testing.assert_allclose(images.astype(int), 100, atol=3)


def test_the_format_is_told_by_content_and_needs_no_ending(tmp_path):
    for name in ("a.png", "a", "a.JPG_large"):
        content = save_picture(tmp_path / "source.webp", RGB[0], lossless=True).read_bytes()
        np.testing.assert_array_equal(load(write(tmp_path / name, content)).images[0], RGB[0])


def test_pictures_of_one_bit_or_with_a_palette(tmp_path):
    black_and_white, few_colours = 255 * (GREY[0] & 1), 255 * (RGB[0] & 1)
    path = save_picture(tmp_path / "bits.png", black_and_white, "1")
    np.testing.assert_array_equal(load(path).images[0, ..., 0], black_and_white)
    for name in ("colours.png", "colours.gif"):
        path = save_picture(tmp_path / name, few_colours, "P")
        np.testing.assert_array_equal(load(path).images[0], few_colours)
    greys = Image.fromarray(black_and_white).quantize(2)
    greys.save(tmp_path / "greys.png")
    np.testing.assert_array_equal(load(tmp_path / "greys.png").images[0, ..., 0], black_and_white)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_pictures_are_turned_upright(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save_picture(tmp_path / f"a.{suffix}", RGB[0], exif=exif, **options)
    with Image.open(path) as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(load(path).images[0], upright)


def test_pngs_with_exif_behind_their_pixels_are_turned(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    content = save_picture(tmp_path / "a.png", RGB[0], exif=exif).read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    behind = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    assert behind.index(b"eXIf") > behind.index(b"IDAT")
    path = write(tmp_path / "b.png", behind)
    np.testing.assert_array_equal(load(path).images[0], np.rot90(RGB[0], -1))


def test_damaged_exif_is_no_reason_to_refuse_a_picture(tmp_path):
    path = save_picture(tmp_path / "a.jpg", RGB[0], exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert load(path).images.shape == (1, 6, 5, 3)


# 16 bits and more


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_greys_of_16_bits(tmp_path, suffix):
    images = load(save_picture(tmp_path / f"a.{suffix}", DEEP[..., 0])).images
    assert images.dtype == np.uint16
    np.testing.assert_array_equal(images[0, ..., 0], DEEP[..., 0])


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_tiff_of_other_numbers(tmp_path, dtype):
    pixels = (DEEP[..., 0].astype(dtype) - 30000) * 3
    images = load(save_picture(tmp_path / "a.tif", pixels)).images
    assert images.dtype == dtype
    np.testing.assert_array_equal(images[0, ..., 0], pixels)


def with_tag(content, tag, value):
    """Return a little-endian TIFF of Pillow's with another value of a tag."""
    start = struct.unpack_from("<I", content, 4)[0]
    entries = range(start + 2, start + 2 + 12 * struct.unpack_from("<H", content, start)[0], 12)
    at = next(entry for entry in entries if struct.unpack_from("<H", content, entry)[0] == tag)
    return content[: at + 8] + struct.pack("<HH", value, 0) + content[at + 12 :]


def test_tiff_in_which_0_is_white(tmp_path):
    for pixels in (GREY[0], DEEP[..., 0]):
        plain = save_picture(tmp_path / "a.tif", pixels).read_bytes()
        images = load(write(tmp_path / "b.tif", with_tag(plain, 262, 0))).images
        assert images.dtype == pixels.dtype
        np.testing.assert_array_equal(images[0, ..., 0], np.iinfo(pixels.dtype).max - pixels)


def test_tiff_of_signed_bytes(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(GREY[0]).save(path, tiffinfo={339: 1})
    images = load(write(path, with_tag(path.read_bytes(), 339, 2))).images
    np.testing.assert_array_equal(images[0, ..., 0], GREY[0].view(np.int8))


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits(tmp_path, channels):
    pixels = DEEP[..., :channels].copy()
    pixels[..., 3:] = 65535
    files = [write(tmp_path / "a.png", deep_png_bytes(pixels))]
    for name, order, deflated in (("b", "<", False), ("c", ">", False), ("d", "<", True), ("e", ">", True)):
        files.append(write(tmp_path / f"{name}.tif", deep_tiff_bytes(pixels, order, deflated=deflated)))
    for path in files:
        images = load(path).images
        assert images.dtype == np.uint16
        np.testing.assert_array_equal(images[0], pixels[..., :3])
    grey = load(files[0], grey=True).images[0, ..., 0]
    np.testing.assert_allclose(grey, pixels[..., :3] @ [0.299, 0.587, 0.114], atol=1)


def test_16_bits_that_pillow_would_cut_are_refused(tmp_path):
    path = write(tmp_path / "a.png", deep_png_bytes(DEEP[..., :2]))
    assert_refused(path, "16 bits a channel", "Pillow reads 8")
    path = write(tmp_path / "a.ppm", b"P6 5 6 65535\n" + DEEP[..., :3].astype(">u2").tobytes())
    assert_refused(path, "16-bit colours in PPM")


# several images in a file


def test_pages_and_frames_are_images(tmp_path):
    frames = [Image.fromarray(pixels) for pixels in GREY]
    for name in ("film.gif", "pages.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        dataset = load(tmp_path / name)
        np.testing.assert_array_equal(dataset.images[..., 0], GREY)
        assert dataset.filenames == tuple(f"{name}[{i}]" for i in range(4))


def test_coloured_frames(tmp_path):
    colours = np.repeat(np.repeat(RGB[:, :1, :1] & 0xC0, 6, axis=1), 5, axis=2)
    frames = [Image.fromarray(pixels) for pixels in colours]
    for name, options in (("film.gif", {}), ("film.webp", {"lossless": True}), ("film.png", {})):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(load(tmp_path / name).images, colours)


def test_of_a_cameras_mpo_the_first_picture_is_read(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), 100 * i, np.uint8)) for i in (1, 2)]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    dataset = load(tmp_path / "a.jpg")
    np.testing.assert_array_equal(dataset.images, np.full((1, 8, 8, 3), 100))
    assert dataset.filenames == ("a.jpg",)


def test_smaller_copies_within_a_tiff_are_no_images(tmp_path):
    first, second = Image.fromarray(GREY[0]), Image.fromarray(GREY[1][::2, ::2])
    second.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(load(tmp_path / "a.tif").images, GREY[:1, ..., np.newaxis])


def test_stacks_without_pages_are_refused(tmp_path):
    path = save_picture(tmp_path / "a.tif", GREY[0], tiffinfo={270: "ImageJ=1.53\nimages=4\nslices=4\n"})
    assert_refused(path, "ImageJ stack of 4 images, of which Pillow sees 1")
    path = save_picture(tmp_path / "b.tif", GREY[0], tiffinfo={270: "ImageJ=1.53\nimages=1\n"})
    assert len(load(path).images) == 1


# transparency and other kinds of colour


@pytest.mark.parametrize(("pixels", "mode"), [(RGB[0], "RGBA"), (GREY[0], "LA")])
def test_transparent_pictures(tmp_path, pixels, mode):
    picture = Image.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "opaque.png")
    opaque = load(tmp_path / "opaque.png").images[0]
    np.testing.assert_array_equal(opaque.squeeze(), pixels)
    picture.putalpha(Image.fromarray(GREY[1]))
    picture.save(tmp_path / "a.png")
    assert_refused(tmp_path / "a.png", "is transparent in parts; pass background='white'", "--background white")
    opacity = GREY[1].reshape(6, 5, *[1] * (pixels.ndim - 2)) / 255
    for background, behind in (("white", 255), ("#000", 0), ((10, 10, 10), 10)):
        shown = load(tmp_path / "a.png", background=background).images[0].squeeze()
        np.testing.assert_allclose(shown, pixels * opacity + behind * (1 - opacity), atol=0.51)


def test_pictures_with_a_transparent_colour(tmp_path):
    few_colours = 255 * (RGB[0] & 1)
    picture = Image.fromarray(few_colours).quantize(8)
    picture.save(tmp_path / "a.png", transparency=0)
    assert_refused(tmp_path / "a.png", "is transparent in parts")
    shown = load(tmp_path / "a.png", background=picture.getpalette()[:3]).images[0]
    np.testing.assert_array_equal(shown, few_colours)
    path = save_picture(tmp_path / "b.png", np.full((6, 5), 7, np.uint8), transparency=3)
    np.testing.assert_array_equal(load(path).images, 7)


@pytest.mark.parametrize("background", ["nope", (1, 2), (1, 2, 300), (1.5, 2, 3)])
def test_backgrounds_that_are_no_colours(tmp_path, background):
    path = save_picture(tmp_path / "a.png", GREY[0])
    with pytest.raises(ValueError, match="background must be a colour"):
        load(path, background=background)
    with pytest.raises(TypeError, match="background must be a colour"):
        load(path, background=5)


def test_cmyk_needs_a_choice(tmp_path):
    path = save_picture(tmp_path / "a.jpg", np.full((8, 8, 3), 100, np.uint8), "CMYK", quality=95)
    assert_refused(path, "CMYK", "grey=False makes all RGB", "--no-grey", "grey=True all grey")
    for grey, channels in ((True, 1), (False, 3)):
        images = load(path, grey=grey).images
        assert images.shape == (1, 8, 8, channels)
        np.testing.assert_allclose(images.astype(int), 100, atol=5)


# what is not read


def test_nothing_but_pictures_is_opened(tmp_path, monkeypatch):
    def refuse_to_start(*arguments, **options):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse_to_start)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\nshowpage\n%%EOF\n"
    assert_refused(write(tmp_path / "a.png", eps), "not a valid picture", "a PostScript file")
    assert_refused(write(tmp_path / "a", eps), "a PostScript file; convert it to PNG")
    pcx = io.BytesIO()
    Image.fromarray(GREY[0]).save(pcx, "PCX")
    assert_refused(write(tmp_path / "b.png", pcx.getvalue()), "not a valid picture")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"%PDF-1.4", "a PDF file"),
        (b"\x80\x02}q", "a pickle, which could run any code"),
        (bytes(257) + b"ustar", "a tar archive; unpack it"),
        (b'{"a": 1}', "text that starts with '{\"a\": 1}'"),
        (struct.pack("<Q", 64) + b'{"a":{}}', "a safetensors file, such as a model"),
        (b"MATLAB 5.0 MAT-file", "scipy.io.loadmat"),
        (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", "h5py and save its arrays, transposed"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS; git lfs pull brings"),
        (b"", "an empty file"),
        (b"\x07\x12\xff\0", "bytes 07 12 ff 00"),
    ],
)
def test_other_files_are_called_by_their_names(tmp_path, content, found):
    assert_refused(write(tmp_path / "x", content), "must be a picture, a folder of pictures, .npy, .npz", found)


def test_damaged_pictures(tmp_path):
    content = save_picture(tmp_path / "a.png", GREY[0]).read_bytes()
    for damaged in (b"", b"a text", content[:60], content[:20], NPY):
        assert_refused(write(tmp_path / "a.png", damaged), "not a valid picture")


@pytest.mark.parametrize("size", [9000, 12000, 20000, 100000])
def test_small_files_of_huge_pictures(tmp_path, size):
    path = write(tmp_path / "a.png", png_bytes(size, size, 8, 2, []))
    tracemalloc.start()
    try:
        assert_refused(path, "decompression bombs", "PIL.Image.MAX_IMAGE_PIXELS")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_many_pages_of_the_same_bytes(tmp_path):
    page = Image.fromarray(np.zeros((1000, 1000), np.uint8))
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page] * 39, compression="tiff_adobe_deflate")
    content = (tmp_path / "a.tif").read_bytes()
    assert len(content) * 4096 > 40e6  # a few bytes for each page are enough, as nothing but their number is large
    assert load(tmp_path / "a.tif").images.shape == (40, 1000, 1000, 1)


def test_pictures_without_pillow(tmp_path, monkeypatch):
    write(tmp_path / "a.png", b"")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"reading pictures needs Pillow: pip install pillow$"):
        load(tmp_path)


def test_pillow_is_imported_only_where_it_is_needed():
    code = "import sys; from cvae.datasets import load; load('mnist-sample')"
    code += "; assert not {'PIL', 'h5py', 'zarr', 'pooch', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
