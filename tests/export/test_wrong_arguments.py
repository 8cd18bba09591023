"""Exports of what is no model, and weights from what are none."""

import pathlib
import pickle

import numpy as np
import pytest

import cvae
from cvae import export

X = np.random.default_rng(0).integers(0, 256, (24, 6, 6, 1), dtype=np.uint8)
CALLS = {
    "to_c": lambda model, path: export.to_c(model, path),
    "to_onnx": lambda model, path: export.to_onnx(model, path),
    "to_npz": lambda model, path: export.to_npz(model, path),
    "to_state_dict": lambda model, path: export.to_state_dict(model),
    "to_torch_file": lambda model, path: export.to_torch_file(model, path),
    "from_npz": lambda model, path: export.from_npz(model, path),
    "from_state_dict": lambda model, path: export.from_state_dict(model, {}),
}


@pytest.fixture(scope="module")
def vae():
    return cvae.VAE("mlp", T=2, random_state=0, verbose=False).fit(X, n_epochs=1)


@pytest.mark.parametrize("name", CALLS)
def test_a_model_is_one(vae, name, tmp_path):
    detector = cvae.VAEOutlierDetector()
    layer = next(iter(vae.encoder_.values()))
    for model in ("m.safetensors", pathlib.Path("m"), None, layer, cvae.VAE, 5, detector):
        with pytest.raises(
            TypeError, match=f"^model must be a VAE, got an object of type {type(model).__name__}"
        ) as caught:
            CALLS[name](model, tmp_path / "out")
        assert str(caught.value).endswith("; cvae.load reads one") == isinstance(model, str | pathlib.Path)
    assert not list(tmp_path.iterdir())


def test_other_files_are_no_npz(vae, tmp_path):
    before = vae.transform(X)
    np.save(tmp_path / "x.npy", X)
    vae.save(tmp_path / "m.safetensors")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"W": X}))
    (tmp_path / "empty").write_bytes(b"")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=f"{path.name} is not an .npz file of weights, as to_npz writes them$"):
            export.from_npz(vae, path)
    with pytest.raises(TypeError, match="path must be a str or path, got None"):
        export.from_npz(vae, None)
    np.testing.assert_array_equal(vae.transform(X), before)


@pytest.mark.parametrize("state", [None, [1], "weights.pt"])
def test_a_state_is_a_mapping(vae, state):
    with pytest.raises(TypeError, match=f"^state must be a mapping of names to tensors, got a {type(state).__name__}$"):
        export.from_state_dict(vae, state)


def test_a_module_has_the_state(vae):
    class Module:
        def state_dict(self):
            return {}

    with pytest.raises(TypeError, match=r"got a Module, whose state_dict\(\) is one$"):
        export.from_state_dict(vae, Module())
