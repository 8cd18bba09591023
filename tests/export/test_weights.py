"""Weights as .npz files, and from numpy-ml's models."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from export_cases import CASES, images, trained
from reference_cases import below, case_id, cases
from small_vae import small_vae

import cvae
from cvae.compat.numpy_ml import from_numpy_ml
from cvae.export import from_npz, to_npz

IMAGES = images(CASES["numpy-ml"])


@pytest.mark.parametrize("name", ["numpy-ml", "normalization", "Gaussian", "Gaussian optimal", "Bernoulli in a range"])
def test_a_new_model_with_the_weights_of_a_file_is_the_same(name, tmp_path):
    vae, case = trained(name), CASES[name]
    to_npz(vae, tmp_path / "weights.npz")
    again = type(vae)(**vae.get_params() | {"image_shape": case.image_shape, "random_state": 7})
    assert from_npz(again, tmp_path / "weights.npz") is again
    X = images(case)
    for method in ("transform", "reconstruct", "elbo"):
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(vae, method)(X))


def test_the_file_holds_plain_arrays(tmp_path):
    vae = trained("numpy-ml")
    to_npz(vae, tmp_path / "weights.npz")
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["encoder/Conv1/W"], vae.encoder["Conv1"].W)
        assert {name.rpartition("/")[0] for name in arrays} == {
            "", "encoder/Conv1", "encoder/Conv2", "encoder/FC4", "encoder/FC5", "decoder/FC1", "decoder/FC2",
        }  # fmt: skip


def test_a_model_goes_on_training_with_weights_of_a_file(tmp_path):
    to_npz(trained("numpy-ml"), tmp_path / "weights.npz")
    vae = from_npz(small_vae().fit(IMAGES), tmp_path / "weights.npz")
    before = vae.transform(IMAGES)
    assert np.abs(vae.fit(IMAGES, n_epochs=1).transform(IMAGES) - before).max() > 0


stream = io.BytesIO()
np.save(stream, IMAGES)
NPY = stream.getvalue()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off", NPY])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is not an \.npz file of weights"):
        from_npz(small_vae(image_shape=(9, 8)), path)
    with pytest.raises(FileNotFoundError):
        from_npz(small_vae(image_shape=(9, 8)), tmp_path / "missing.npz")


def test_weights_of_another_model_are_refused_and_change_nothing(tmp_path):
    to_npz(trained("numpy-ml"), tmp_path / "weights.npz")
    vae = small_vae(latent_dim=9, image_shape=(9, 8))
    with pytest.raises(ValueError, match=r"encoder/FC4/W must have the shape \(\d+, 9\), got \(\d+, 8\)"):
        from_npz(vae, tmp_path / "weights.npz")
    with pytest.raises(cvae.NotFittedError):
        vae.transform(IMAGES)
    np.testing.assert_array_equal(
        vae.fit(IMAGES).transform(IMAGES), small_vae(latent_dim=9).fit(IMAGES).transform(IMAGES)
    )
    with pytest.raises(cvae.NotFittedError):
        to_npz(small_vae(), tmp_path / "new.npz")
    assert not (tmp_path / "new.npz").exists()


# ------------------------------------------------------------------ numpy-ml


def nested(arrays):
    """Return parameters by path as numpy-ml nests them."""
    components = {"encoder": {"Pool1": {}, "Flatten3": {}}, "decoder": {}}
    for path, array in arrays.items():
        part, layer, name = path.split("/")
        components[part].setdefault(layer, {})[name] = array
    return {"components": components}


@pytest.mark.parametrize(("name", "meta", "arrays"), cases("vae"), ids=case_id)
def test_a_model_of_numpy_ml_puts_out_the_same(name, meta, arrays):
    X, noise = arrays["X"], arrays["step1/noise"]
    parameters = nested(below(arrays, "step0/param/"))
    vae = from_numpy_ml(parameters, meta["constructor"], image_shape=X.shape[1:], dtype="float64")
    mean, log_var = vae.encode(X)
    np.testing.assert_allclose(mean, arrays["step1/t_mean"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(log_var, arrays["step1/t_log_var"], rtol=1e-10, atol=1e-12)
    z = mean + noise * np.exp(log_var)  # as numpy-ml draws codes
    np.testing.assert_allclose(vae.decode(z).reshape(len(X), -1), arrays["step1/X_recon"], rtol=1e-10, atol=1e-12)


def test_numpy_mls_model_itself_brings_its_arguments():
    _, meta, arrays = cases("vae")[0]
    X = arrays["X"]
    sizes = dict(zip(("in_rows", "in_cols", "in_ch"), X.shape[1:], strict=True))
    parameters = nested(below(arrays, "step0/param/"))
    model = SimpleNamespace(**meta["constructor"], **sizes, parameters=parameters, verbose=False)
    got = from_numpy_ml(model, n_epochs=3)
    assert (got.n_epochs, got.dtype, got.optimizer) == (3, "float32", meta["constructor"]["optimizer"])
    np.testing.assert_allclose(got.transform(X), arrays["step1/t_mean"], rtol=1e-5, atol=1e-5)


def test_what_is_no_model_of_numpy_ml_is_refused():
    _, meta, arrays = cases("vae")[0]
    weights = below(arrays, "step0/param/")
    with pytest.raises(TypeError, match="must be a model of numpy-ml or its parameters, got 3"):
        from_numpy_ml(3)
    with pytest.raises(TypeError, match="must be nested like numpy-ml's"):
        from_numpy_ml({"encoder/Conv1/W": 1})
    fewer = nested({path: array for path, array in weights.items() if not path.startswith("encoder/FC4")})
    with pytest.raises(ValueError, match="parameters must hold encoder/FC4/W, got encoder/Conv1/W, "):
        from_numpy_ml(fewer, meta["constructor"])
    with pytest.raises(ValueError, match="must have the shape"):  # for a pool of another stride
        from_numpy_ml(nested(weights), meta["constructor"] | {"enc_pool2_stride": 3}, image_shape=arrays["X"].shape[1:])
