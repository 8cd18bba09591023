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


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((1, 65), np.s_[:, :, 1::2]),
        ((1, 196), np.s_[:, :, 2::4]),
        ((2, 200), np.s_[:, 1:, 2::4]),
        ((5, 600), np.s_[:, 2:3, 5::10]),
        ((100, 1), np.s_[:, 1::2]),
        ((300, 2), np.s_[:, 2::5, 1:]),
    ],
)
def test_flat_images_keep_a_line(page, shape, shown):
    flat = np.random.default_rng(0).random((3, *shape))
    vae = VAE("mlp", "mlp", T=2, n_epochs=1, random_state=0, verbose=False).fit(flat)
    found = data_of(page(vae, flat))["set"]
    expected = np.rint(flat[shown] * 255)
    assert found["thumbnail_shape"] == [*expected.shape[1:], 1]
    np.testing.assert_array_equal(array(found["thumbnails"], "u1", *expected.shape), expected)


@pytest.mark.parametrize("transform", ["pandas", "polars"])
def test_frames_as_outputs_of_the_model(page, transform):
    pytest.importorskip("sklearn")
    pytest.importorskip(transform)
    import sklearn

    vae = small_vae(T=3).fit(X)
    expected = page(vae, X, Y)
    with sklearn.config_context(transform_output=transform):
        assert page(vae, X, Y) == expected
    assert page(vae.set_output(transform=transform), X, Y) == expected


def test_labels_that_are_missing_are_a_class(page, vae):
    missing = {"None": None, "nan": float("nan")}
    for name, value in missing.items():
        labels = np.array(["cat", value, "dog"] * 10, object)
        found = data_of(page(vae, X, labels))["set"]
        assert found["legend"] == sorted(["cat", "dog", name])
        assert [found["legend"][i] for i in found["classes"]] == ["cat", name, "dog"] * 10
        assert found["names"][:2] == ["0: cat", f"1: {name}"]
    pandas = pytest.importorskip("pandas")
    found = data_of(page(vae, X, pandas.Categorical(["cat", None, "dog"] * 10)))["set"]
    assert found["legend"] == ["cat", "dog", "nan"]


def test_names_stand_in_the_order_of_the_images_whatever_their_index(page, vae):
    pandas = pytest.importorskip("pandas")
    names = pandas.Series([f"{i}.png" for i in range(30)], index=np.arange(30)[::-1])
    assert data_of(page(vae, X, names=names))["set"]["names"] == names.tolist()


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
        (lambda vae: (vae, X, 3), ValueError, "labels must be 30, one for each image, got a single one"),
        (lambda vae: (vae, X, np.ma.masked_equal(np.arange(30), 4)), ValueError, "labels must not have masked elem"),
        (lambda vae: (vae, X, [{}] * 30), TypeError, "labels must be numbers, strings or None, got {}"),
        (lambda vae: (vae, X, Y, ["a"]), ValueError, "names must be 30, one for each image, got 1"),
        (lambda vae: (vae, X, Y, 3), TypeError, "names must be a sequence with one for each image, got int"),
    ],
    ids=["array", "untrained", "shape", "labels", "label", "masked", "objects", "names", "name"],
)
def test_wrong_arguments_leave_no_file(arguments, error, message, vae, tmp_path):
    model, images, labels, names = (*arguments(vae), None, None, None)[:4]
    with pytest.raises(error, match=message):
        cvae.explorer.write(model, tmp_path / "e.html", images, labels, names=names)
    assert list(tmp_path.iterdir()) == []
