"""The explorer's page: its data, and that nothing in it comes from elsewhere or ends up as markup."""

import base64
import json
import re

import numpy as np
import pytest
from small_vae import random_images, small_vae

import cvae
from cvae import VAE

X = random_images(30)
Y = np.array(["cat", "dog", "emu"])[np.arange(30) % 3]


@pytest.fixture(scope="module")
def vae():
    return small_vae(T=3).fit(X)


@pytest.fixture
def page(tmp_path):
    def write(vae, *arguments, **options):
        cvae.explorer.write(vae, tmp_path / "e.html", *arguments, **options)
        return (tmp_path / "e.html").read_text(encoding="utf-8")

    return write


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def array(text, dtype, *shape):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def test_the_page_is_complete_in_itself(page, vae):
    text = page(vae, X, Y)
    assert "{{" not in text
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://|fetch\(|XMLHttpRequest|import\(", text)
    assert "default-src 'none'" in text
    assert 'name="viewport"' in text


def test_the_data_are_those_of_the_images(page, vae):
    data = data_of(page(vae, X, Y))
    assert (data["T"], data["labels"]) == (3, None)
    assert data["facts"].startswith("9×8×1 pixels · code of 3 · ")
    found = data["set"]
    codes = array(found["codes"], "<f4", 30, 3)
    np.testing.assert_array_equal(codes, vae.transform(X))
    np.testing.assert_array_equal(array(found["thumbnails"], "u1", 30, 9, 8, 1), np.rint(X * 255))
    assert found["legend"] == ["cat", "dog", "emu"]
    assert [found["legend"][i] for i in found["classes"]] == Y.tolist()
    assert found["names"][:2] == ["0: cat", "1: dog"]
    np.testing.assert_allclose(found["spread"], codes.std(0), rtol=1e-5)
    plane = data["plane"]
    axes = np.array(plane["axes"])
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-6)
    variances = np.sort(np.linalg.eigvalsh(np.cov(codes.T, bias=True)))[::-1]
    np.testing.assert_allclose((codes @ axes.T).var(0), variances[:2], rtol=1e-4)
    a, b = found["ends"]
    assert np.linalg.norm(codes - codes[a], axis=1).argmax() == b


def test_without_images_there_is_the_plane_of_two_dimensions(page, vae):
    data = data_of(page(vae))
    assert data["set"] is None
    assert data["plane"]["axes"] == [[1, 0, 0], [0, 1, 0]]
    assert data_of(page(small_vae(T=1).fit(X)))["plane"]["axes"] == [[1], [0]]


def test_names_of_files_and_labels_are_text(page, vae):
    hostile = '</script><img src=x onerror="alert(1)">'
    text = page(vae, X, [hostile] * 30, names=["mod\udce8le.png"] * 30, title=f"{hostile} & co\n")
    assert "<img" not in text
    assert text.count("</script>") == 3
    assert "&lt;/script&gt;&lt;img src=x onerror=&quot;alert(1)&quot;&gt; &amp; co" in text
    found = data_of(text)["set"]
    assert found["legend"] == [hostile]
    assert found["names"][0] == f"mod?le.png: {hostile}"


def test_many_and_large_images_are_thinned_out(page):
    many = np.random.default_rng(0).random((3000, 4, 4))
    vae = VAE("mlp", T=2, n_epochs=1, random_state=0, verbose=False).fit(many)
    found = data_of(page(vae, many, np.arange(3000)))["set"]
    assert len(found["classes"]) == 2000
    assert found["legend"] == []
    assert (found["names"][0], found["names"][-1]) == ("0: 0", "2999: 2999")
    large = np.random.default_rng(0).random((3, 200, 100))
    vae = VAE("mlp", "mlp", T=2, n_epochs=1, random_state=0, verbose=False).fit(large)
    found = data_of(page(vae, large))["set"]
    assert found["thumbnail_shape"] == [50, 25, 1]
    np.testing.assert_array_equal(array(found["thumbnails"], "u1", 3, 50, 25), np.rint(large[:, 2::4, 2::4] * 255))


def test_conditional_models(page):
    vae = VAE("mlp", T=2, condition="classes", n_epochs=1, random_state=0, verbose=False).fit(X, Y)
    data = data_of(page(vae, X, Y))
    assert data["labels"] == {"n": 3, "start": [1, 0, 0], "names": ["cat", "dog", "emu"]}
    np.testing.assert_array_equal(array(data["set"]["conditions"], "<f4", 30, 3), np.eye(3)[np.arange(30) % 3])
    np.testing.assert_array_equal(array(data["set"]["codes"], "<f4", 30, 2), vae.transform(X, Y))
    assert data_of(page(vae))["labels"]["names"] == ["cat", "dog", "emu"]
    with pytest.raises(ValueError, match="this model is conditional: y must be"):
        page(vae, X)
    values = np.random.default_rng(0).normal(size=(30, 2))
    vae = VAE("mlp", T=2, condition="values", n_epochs=1, random_state=0, verbose=False).fit(X, values)
    data = data_of(page(vae, X, values))
    assert data["labels"] == {"n": 2, "start": [0, 0], "names": None}
    np.testing.assert_array_equal(array(data["set"]["conditions"], "<f4", 30, 2), values.astype("f4"))
    assert data["set"]["legend"] == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda vae: (X,), TypeError, "vae must be a trained model, got ndarray"),
        (lambda vae: (small_vae(),), ValueError, "has no parameters yet"),
        (lambda vae: (vae, X[:, :3]), ValueError, "X must"),
        (lambda vae: (vae, X, Y[:3]), ValueError, "labels must be 30, one for each image, got 3"),
        (lambda vae: (vae, X, Y, ["a"]), ValueError, "names must be 30, one for each image, got 1"),
    ],
    ids=["array", "untrained", "shape", "labels", "names"],
)
def test_wrong_arguments_leave_no_file(arguments, error, message, vae, tmp_path):
    model, images, labels, names = (*arguments(vae), None, None, None)[:4]
    with pytest.raises(error, match=message):
        cvae.explorer.write(model, tmp_path / "e.html", images, labels, names=names)
    assert list(tmp_path.iterdir()) == []
