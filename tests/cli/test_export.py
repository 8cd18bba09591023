"""`cvae export` writes what the functions of `cvae.export` write, and says what it wrote."""

import filecmp

import numpy as np
import pytest
from export_cases import CASES, images, trained
from safetensors.numpy import load_file

import cvae
from cvae.cli import main as cli
from cvae.export import to_c, to_npz, to_onnx, to_state_dict


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch):
    """A model file in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    trained("numpy-ml").save("model")
    return cvae.load("model")


def test_all_kinds_of_files_are_written_at_once(model, capsys):
    arguments = ["--onnx", "e.onnx", "--c", "e.c", "--torch", "e.safetensors", "--npz", "e.npz"]
    assert cli.main(["export", "model", *arguments]) == 0
    assert capsys.readouterr().out == "wrote e.onnx\nwrote e.c\nwrote e.safetensors\nwrote e.npz\n"
    to_onnx(model, "own.onnx")
    to_c(model, "own.c")
    to_npz(model, "own.npz")
    for name in ("onnx", "c"):
        assert filecmp.cmp(f"e.{name}", f"own.{name}", shallow=False)
    for got, expected in ((load_file("e.safetensors"), to_state_dict(model)), (np.load("e.npz"), np.load("own.npz"))):
        assert set(got) == set(expected)
        for key in expected:
            np.testing.assert_array_equal(got[key], expected[key])


def test_options_are_passed_on(model):
    arguments = ["--onnx", "s.onnx", "--part", "score", "--pixels", "uint8", "--c", "s.c", "--prefix", "digits"]
    assert cli.main(["export", "model", *arguments]) == 0
    to_onnx(model, "own.onnx", "score", pixels="uint8")
    to_c(model, "own.c", prefix="digits")
    assert filecmp.cmp("s.onnx", "own.onnx", shallow=False)
    assert filecmp.cmp("s.c", "own.c", shallow=False)


@pytest.mark.filterwarnings("default:the exported network")
def test_what_the_network_does_not_do_is_said_in_a_line(capsys):
    X = images(CASES["numpy-ml"])
    cvae.VAE("mlp", T=2, binarize="dynamic", random_state=0, verbose=False).fit(X, n_epochs=1).save("drawn")
    assert cli.main(["export", "drawn", "--onnx", "e.onnx"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("cvae: warning: the exported network takes pixels as they come")
    assert error.count("\n") == 1


def test_a_missing_package_is_named_before_anything_is_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["export", "model", "--npz", "e.npz", "--onnx", "e.onnx"]) == 2
    assert capsys.readouterr().err == "cvae: error: exporting to ONNX needs the package onnx: pip install onnx\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_wrong_prefix_is_known_before_anything_is_written(capsys, tmp_path):
    assert cli.main(["export", "model", "--onnx", "e.onnx", "--c", "e.c", "--prefix", "1a"]) == 2
    assert capsys.readouterr().err == "cvae: error: --prefix must be a C identifier, got '1a'\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_weights_alone_are_no_model(capsys):
    assert cli.main(["export", "model", "--torch", "weights.safetensors"]) == 0
    assert cli.main(["info", "weights.safetensors"]) == 2
    message = (
        "weights.safetensors is not a model file of cvae: it is a safetensors file of another program, or of weights"
    )
    assert message in capsys.readouterr().err
