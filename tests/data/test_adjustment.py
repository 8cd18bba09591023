"""Cutting, scaling, grey and colour of images from any source."""

import numpy as np
import pytest
from data_files import GREY, RGB, save_picture
from PIL import Image

from cvae.data.adjustment import to_grey
from cvae.datasets import load


def saved(tmp_path, images, **others):
    np.savez(tmp_path / "x.npz", images=images, **others)
    return tmp_path / "x.npz"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", "bool"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_scaling_keeps_the_dtype_and_constant_images(tmp_path, dtype, channels):
    images = np.ones((2, 6, 8, channels), dtype)
    images[1] *= np.array(0, dtype)
    scaled = load(saved(tmp_path, images, test_images=images), resize=(3, 5))
    for found in (scaled.images, scaled.test_images):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, images[:, :3, :5])


def test_arrays_are_scaled_as_pictures_are(tmp_path):
    dataset = load(saved(tmp_path, RGB), resize=(3, 4))
    wanted = [Image.fromarray(image).resize((4, 3), Image.Resampling.BILINEAR) for image in RGB]
    np.testing.assert_array_equal(dataset.images, np.stack(wanted))
    picture = load(save_picture(tmp_path / "a.png", RGB[0]), resize=(3, 4))
    np.testing.assert_array_equal(picture.images, dataset.images[:1])
    deep = load(saved(tmp_path, RGB.astype("uint16") * 257), resize=(3, 4)).images
    np.testing.assert_allclose(deep / 257, dataset.images, atol=1)


def test_the_middle_is_kept(tmp_path):
    path = saved(tmp_path, RGB)
    np.testing.assert_array_equal(load(path, crop=(2, 3)).images, RGB[:, 2:4, 1:4])
    np.testing.assert_array_equal(load(path, crop=4).images, RGB[:, 1:5, :4])
    np.testing.assert_array_equal(load(path, crop="fit", resize=5).images, RGB[:, :5])
    assert load(path, crop="fit", resize=(2, 4)).images.shape == (4, 2, 4, 3)


def test_grey_and_colour(tmp_path):
    dataset = load(saved(tmp_path, RGB), grey=True)
    wanted = [Image.fromarray(image).convert("L") for image in RGB]
    np.testing.assert_array_equal(dataset.images[..., 0], np.stack(wanted))
    np.testing.assert_array_equal(load(saved(tmp_path, GREY), grey=False).images, np.stack([GREY] * 3, axis=-1))
    np.testing.assert_array_equal(load(saved(tmp_path, GREY), grey=True).images[..., 0], GREY)
    floats = load(saved(tmp_path, RGB / 255), grey=True).images[..., 0]
    np.testing.assert_allclose(floats * 255, dataset.images[..., 0], atol=0.51)
    full = np.full((1, 3), 65535, np.uint16)
    assert to_grey(full) == 65535
    with pytest.raises(ValueError, match="grey must be left out for images of 2 channels"):
        load(saved(tmp_path, RGB[..., :2]), grey=True)


def test_nothing_is_copied_where_nothing_changes(tmp_path):
    np.save(tmp_path / "x.npy", GREY)
    dataset = load(tmp_path / "x.npy", resize=(6, 5), grey=True)
    assert not dataset.images.flags.writeable  # still the memory map


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"resize": "3x3"}, TypeError, "resize must be rows, cols"),
        ({"resize": (3, 3, 3)}, ValueError, "resize must be"),
        ({"resize": 0}, ValueError, "resize must be"),
        ({"resize": (3, 2**40)}, ValueError, "resize must be"),
        ({"resize": 2.5}, TypeError, "resize must be"),
        ({"resize": True}, TypeError, "resize must be"),
        ({"crop": "middle"}, ValueError, "crop must be 'fit' or"),
        ({"crop": "fit"}, ValueError, "crop='fit' needs resize"),
        ({"crop": (0, 3)}, ValueError, "crop must be"),
        ({"crop": (7, 3)}, ValueError, "crop must fit into images of 6x5 pixels"),
        ({"grey": "yes"}, TypeError, "grey must be True, False or None"),
        ({"grey": 1}, TypeError, "grey must be True, False or None"),
    ],
)
def test_wrong_options(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        load(saved(tmp_path, GREY), **options)


def test_scaling_without_pillow(tmp_path, monkeypatch):
    path = saved(tmp_path, GREY)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match="scaling images needs Pillow: pip install pillow"):
        load(path, resize=3)
    assert load(path, crop=3).images.shape == (4, 3, 3, 1)
