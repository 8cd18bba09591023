"""The explorer's page in a real browser: what it draws is what `decode` gives, and its controls do what they say.

Without Chromium these tests are left out, but not where CI is set, as it is in .ci/run.
"""

import json
import os

import numpy as np
import pytest
from chromium import Chromium, executable
from small_vae import random_images

import cvae
from cvae import VAE

pytestmark = pytest.mark.skipif(executable() is None and "CI" not in os.environ, reason="there is no Chromium")
PIXELS = """(() => {
  const canvas = %s, data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return JSON.stringify([canvas.height, canvas.width, Array.from(data)]);
})()"""


@pytest.fixture(scope="module")
def browser():
    browser = Chromium()
    browser.resize(1280, 1400)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def digits():
    return cvae.datasets.load("mnist-sample")


@pytest.fixture(scope="module")
def vae(digits):
    """Of all layers that people use most, trained for a moment."""
    vae = VAE(T=4, n_epochs=2, batchsize=64, optimizer="Adam(lr=0.003)", random_state=0, verbose=False)
    return vae.fit(digits.images[:1000])


@pytest.fixture
def page(browser, vae, digits, tmp_path):
    """The browser with the page of the model and 100 digits."""
    path = tmp_path / "explorer.html"
    cvae.explorer.write(vae, path, digits.test_images[:100], digits.test_labels[:100])
    browser.messages.clear()
    browser.resize(1280, 1400)
    browser.open(path)
    yield browser
    assert browser.messages == [f"file://{path}"]  # no error, and nothing else was asked for


def picture(browser, canvas="document.getElementById('image')"):
    """Return the pixels of a canvas (rows, cols, 3)."""
    browser.settle()
    rows, cols, values = json.loads(browser.evaluate(PIXELS % canvas))
    return np.array(values).reshape(rows, cols, 4)[..., :3]


def code(browser):
    return json.loads(browser.evaluate("JSON.stringify(state.z)"))


def assert_shows(browser, image):
    """Assert that the page shows an image (rows, cols, 1) of values from 0 to 1."""
    assert np.abs(picture(browser) / 255 - image).max() <= 1 / 255


def set_slider(browser, selector, value):
    browser.evaluate(f"""(() => {{
      const input = document.querySelector({json.dumps(selector)});
      input.value = {value};
      input.dispatchEvent(new Event("input"));
    }})()""")
    browser.settle()


def test_the_first_image_is_the_decoded_one(page, vae, digits):
    assert_shows(page, vae.reconstruct(digits.test_images[:1])[0])
    original = picture(page, "document.getElementById('original')")
    np.testing.assert_array_equal(original, np.broadcast_to(digits.test_images[0], (28, 28, 3)))


def test_a_slider_changes_the_image_to_that_of_its_code(page, vae):
    before = picture(page)
    z = code(page)
    for dimension, value in ((2, 1.75), (0, -2.5)):
        set_slider(page, f"input[data-dimension='{dimension}']", value)
        z[dimension] = value
        assert code(page) == pytest.approx(z)
        assert_shows(page, vae.decode([z])[0])
    assert np.abs(picture(page) - before).max() > 50
    assert page.evaluate("document.getElementById('original-figure').hidden")


def test_many_codes_agree(page, vae):
    codes = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    for z in codes:
        page.evaluate(f"goTo({z.tolist()})")
        assert_shows(page, vae.decode(z[np.newaxis])[0])


def test_a_click_on_the_map_shows_the_image_there(page, vae, digits):
    for i in (17, 60):
        place = f"(() => {{ const box = element('map').getBoundingClientRect(), [x, y] = placing().to(points[{i}]);"
        x, y = json.loads(page.evaluate(f"{place} return JSON.stringify([box.left + x, box.top + y]); }})()"))
        page.click(x, y)
        shown = page.evaluate("state.image")
        found = vae.transform(digits.test_images[shown : shown + 1])[0]
        np.testing.assert_allclose(code(page), found, atol=1e-5)
        assert_shows(page, vae.decode([found])[0])
    box = json.loads(page.evaluate("JSON.stringify(element('map').getBoundingClientRect())"))
    page.click(box["left"] + 5, box["top"] + 5)  # where no image is
    assert page.evaluate("state.image") == -1
    u, v = json.loads(page.evaluate("JSON.stringify(inPlane(state.z))"))
    assert u < -2
    assert v > 2


def test_interpolation_goes_from_one_image_to_the_other(page, vae, digits):
    a, b = json.loads(page.evaluate("JSON.stringify(set.ends)"))
    for share in (0, 0.25, 1):
        set_slider(page, "#share", share)
        expected = vae.interpolate(digits.test_images[a], digits.test_images[b], 5)
        assert_shows(page, expected[round(share * 4)])
    page.evaluate("goToImage(7); document.getElementById('end-b').click()")
    set_slider(page, "#share", 1)
    assert_shows(page, vae.reconstruct(digits.test_images[7:8])[0])
    page.evaluate("new Promise((done) => setTimeout(done, 200))")
    last = picture(page, "document.querySelector('#strip canvas:last-child')")
    np.testing.assert_array_equal(last, picture(page))


def test_random_and_mean(page, vae):
    page.evaluate("document.getElementById('random').click()")
    assert_shows(page, vae.decode([code(page)])[0])
    page.evaluate("document.getElementById('reset').click()")
    assert code(page) == [0, 0, 0, 0]
    assert_shows(page, vae.decode(np.zeros((1, 4)))[0])


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (320, 568), (1280, 900)])
def test_it_fits_the_window_of_a_phone_in_light_and_dark(page, width, height, is_dark):
    page.resize(width, height, touch=width < 500, dark=is_dark)
    page.settle()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(value) for value in ground[4:-1].split(",")) < 200) == is_dark
    assert picture(page).shape == (28, 28, 3)


def test_labels_of_a_conditional_model(browser, tmp_path):
    X, y = random_images(30, (8, 8, 3)), np.array(["<b>cat", "dog", "emu"])[np.arange(30) % 3]
    vae = VAE("mlp", T=1, condition="classes", n_epochs=3, random_state=0, verbose=False).fit(X, y)
    cvae.explorer.write(vae, tmp_path / "e.html", X, y)
    browser.open(tmp_path / "e.html")
    names = json.loads(browser.evaluate("JSON.stringify([...element('class').options].map((each) => each.text))"))
    assert names == ["<b>cat", "dog", "emu"]
    for i, name in enumerate(names):
        browser.evaluate(f"element('class').value = {i}; element('class').dispatchEvent(new Event('change'))")
        assert_shows(browser, vae.decode([code(browser)], name)[0])


def test_five_channels_and_values_as_labels_without_images(browser, tmp_path):
    X, y = random_images(30, (8, 9, 5)), np.random.default_rng(0).normal(size=(30, 2))
    vae = VAE("mlp", T=2, condition="values", n_epochs=1, random_state=0, verbose=False).fit(X, y)
    cvae.explorer.write(vae, tmp_path / "e.html")
    browser.open(tmp_path / "e.html")
    browser.evaluate("""[...element('values').children].forEach((input, i) => {
      input.value = i + 0.5;
      input.dispatchEvent(new Event('input'));
    })""")
    expected = vae.decode([[0, 0]], [0.5, 1.5])[0]
    found = picture(browser)
    assert found.shape == (8, 5 * 10 - 1, 3)
    for channel in range(5):
        part = found[:, channel * 10 : channel * 10 + 9]
        assert np.abs(part / 255 - expected[..., channel : channel + 1]).max() <= 1 / 255


@pytest.mark.parametrize("image_shape", [(1, 196), (196, 1), (2, 300)])
def test_flat_images_can_be_seen_and_stay_on_the_page(browser, image_shape, tmp_path):
    X = random_images(12, (*image_shape, 1))
    vae = VAE("mlp", T=2, n_epochs=1, random_state=0, verbose=False).fit(X)
    cvae.explorer.write(vae, tmp_path / "flat.html", X)
    browser.resize(1280, 1400)
    browser.open(tmp_path / "flat.html")
    browser.settle()
    assert browser.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    for name in ("image", "original"):
        box = f"element('{name}').getBoundingClientRect()"
        width, height = json.loads(browser.evaluate(f"JSON.stringify([{box}.width, {box}.height])"))
        assert min(width, height) >= 40
