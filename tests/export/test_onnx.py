"""ONNX files, run in ONNX Runtime beside the models that they were written from."""

import numpy as np
import onnxruntime
import pytest
from export_cases import CASES, images, terms_at_the_mean, trained

from cvae import VAE, NotFittedError
from cvae.export import onnx_layers, to_onnx
from cvae.export.onnx import onnx_model
from cvae.layers import FullyConnected


def run(proto, **inputs):
    """Run a model in ONNX Runtime and return its outputs by name."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert {each.name for each in session.get_inputs()} == inputs.keys()
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def as_labels(vae, labels):
    """Return the labels' input of a graph, by name."""
    if vae.condition is None:
        return {}
    if vae.condition == "classes":
        return {"labels": np.searchsorted(vae.classes_, labels)}
    return {"labels": labels.astype(np.float32)}


def assert_close(got, expected):
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", CASES)
def test_every_part_computes_what_the_model_does(name):
    vae, X, y = trained(name), images(CASES[name]), CASES[name].labels
    pixels, labels = X.dtype.name, as_labels(vae, y)
    encoded = run(onnx_model(vae, "encoder", pixels=pixels), images=X, **labels)
    mean, log_var = vae.encode(X, y)
    assert_close(encoded["mean"], mean)
    assert_close(encoded["log_var"], log_var)
    decoded = run(onnx_model(vae, "decoder"), z=mean.astype(np.float32), **labels)
    assert_close(decoded["images"], vae.decode(mean, y))
    whole = run(onnx_model(vae, "reconstruction", pixels=pixels), images=X, **labels)
    assert_close(whole["reconstructions"], vae.reconstruct(X, y))
    score = run(onnx_model(vae, "score", pixels=pixels), images=X, **labels)
    reconstruction, kl = terms_at_the_mean(vae, X, y)
    assert_close(score["reconstruction"], reconstruction)
    assert_close(score["kl"], kl)
    assert_close(score["elbo"], -(reconstruction + kl))


@pytest.mark.parametrize("label", [-1, -2, 77])
def test_labels_that_no_class_has_fail(label):
    vae = trained("classes")
    with pytest.raises(Exception, match="out of data bounds"):
        run(onnx_model(vae, "decoder"), z=np.zeros((1, vae.T), np.float32), labels=np.array([label]))


@pytest.mark.parametrize("n", [1, 3])
def test_batches_may_be_of_any_size(n):
    vae, X = trained("normalization"), images(CASES["normalization"])[:n]
    assert_close(run(onnx_model(vae, "reconstruction"), images=X)["reconstructions"], vae.reconstruct(X))


def test_float64_images_are_taken_and_mapped_in_double():
    vae, X = trained("Gaussian"), images(CASES["Gaussian"]).astype(np.float64)
    assert_close(run(onnx_model(vae, pixels="float64"), images=X)["mean"], vae.encode(X)[0])


def test_a_file_replaces_another_one_and_names_the_classes(tmp_path):
    path = tmp_path / "encoder.onnx"
    path.write_text("old")
    to_onnx(trained("classes"), path)
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert metadata["classes"] == '["a", "b", "c"]'
    assert metadata["image_shape"] == "[6, 5, 2]"


def test_wrong_arguments_are_refused(tmp_path):
    vae = trained("numpy-ml")
    with pytest.raises(ValueError, match="part must be one of encoder, decoder, reconstruction, score, got 'both'"):
        to_onnx(vae, tmp_path / "x.onnx", "both")
    with pytest.raises(ValueError, match="pixels must be one of float32, float64, uint8, got 'int8'"):
        to_onnx(vae, tmp_path / "x.onnx", pixels="int8")
    with pytest.raises(NotFittedError):
        to_onnx(VAE(), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["dynamic", "fixed"])
def test_a_model_that_draws_its_pixels_warns_that_the_graph_does_not(how):
    X = (images(CASES["numpy-ml"]) > 0.5).astype(np.float32)  # which the model leaves as they are
    vae = VAE("mlp", T=2, binarize=how, random_state=0, verbose=False).fit(X, n_epochs=1)
    with pytest.warns(UserWarning, match=f"binarize='{how}'"):
        proto = onnx_model(vae)
    assert_close(run(proto, images=X)["mean"], vae.transform(X))


def test_an_unknown_layer_is_named(monkeypatch):
    vae = trained("auto")
    monkeypatch.delitem(onnx_layers.LAYERS, FullyConnected)
    with pytest.raises(ValueError, match=r"a layer must be one of .* got FullyConnected"):
        onnx_model(vae)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs the package onnx"):
        to_onnx(trained("numpy-ml"), tmp_path / "x.onnx")
