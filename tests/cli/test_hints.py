"""What the command says of classes, and what it advises where something else was meant."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.cli import main as cli

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 6, 6), dtype=np.uint8)
MLP = ["--encoder", "mlp", "--latent", "2", "--epochs", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for i, image in enumerate(IMAGES[:6]):
        path = folder / "pets" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    np.savez(folder / "many.npz", images=IMAGES, labels=np.arange(48) % 12)
    np.savez(folder / "values.npz", images=IMAGES, labels=np.ones((48, 2)))
    np.save(folder / "x.npy", IMAGES)
    vae = cvae.VAE(["Flatten()"], [], T=2, random_state=0, verbose=False)
    vae.set_params(condition="classes").fit(IMAGES, np.arange(48) % 12, n_epochs=1).save(folder / "many")
    vae.set_params(condition="values").fit(IMAGES, np.ones((48, 2)), n_epochs=1).save(folder / "values")
    return folder


@pytest.fixture(autouse=True)
def folder(made, monkeypatch):
    monkeypatch.chdir(made)


def main(*words):
    try:
        return cli.main(words)
    except SystemExit as error:
        return error.code


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("pets", "6 images of 6x6x1, uint8 from 0 to 255, in 2 classes: cat, dog"),
        ("many.npz", ", in 12 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, ..., 11"),
        ("values.npz", ", labels of 2 numbers"),
        ("x.npy", ", uint8 from 0 to 255\n"),
    ],
)
def test_train_says_which_classes_the_data_have(data, said, capsys, tmp_path):
    assert main("train", data, "-o", str(tmp_path / "m"), *MLP) == 0
    assert said in capsys.readouterr().err


def test_info_says_which_labels_a_model_knows(capsys):
    assert main("info", "many") == 0
    assert "classes           12: 0, 1, 2, 3, 4, 5, 6, 7, 8, ..., 11\n" in capsys.readouterr().out
    assert main("info", "values") == 0
    assert "labels            2 numbers, --label X,X\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        "--encoder mlp x.npy -o {}",
        "--encoder mlp pets -o {}",
        "-o {} --encoder Flatten 'FullyConnected(n_out=8)' --decoder mlp ./x.npy",
        "-o {} --encoder Flatten Flatten x.npy",
    ],
)
def test_data_may_follow_the_layers(arguments, tmp_path):
    words = shlex.split(arguments.format(tmp_path / "m"))
    assert main("train", *words, "--epochs", "1", "--quiet") == 0
    vae = cvae.load(tmp_path / "m")
    assert vae.image_shape is None
    assert vae.encoder == "mlp" or len(vae.encoder) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --encoder mlp gone.npy -o m", "DATA stands before --encoder, which takes all words that follow it"),
        ("train x.npy --encoder mlp --beta 4 -o m", "left out with --encoder; --objective 'ELBO(beta=4)' is the same"),
        ("train x.npy --objective IWAE --beta 4 -o m", "it is an argument of the objective, as in 'ELBO(beta=4)'"),
        ("train x.npy --encoder mlp --latent-dim 9 -o m", "'FullyConnected(n_out=256)'"),
        ("train x.npy --encoder mlp --enc-conv1-pad 1 -o m", "'Conv2D(out_ch=32, kernel_shape=3)'"),
        ("train '*.npy' -o m", "got the pattern '*.npy'; name the folder of the files"),
        ("train x.npy many.npz values.npz -o m", "; many files are given by the name of their folder (see cvae train"),
        ("train gone -o m", "DATA must be a file, a folder or one of mnist-sample"),
        ("train x.npy --learning-rate 1 -o m", "did you mean --lr?"),
        ("train x.npy --batch_size 1 -o m", "did you mean --batchsize?"),
        ("train x.npy --n_epochs 1 -o m", "did you mean --epochs?"),
        (
            "train x.npy --epochs 1 --encoder mlp --lr -1 -o m",
            "--lr must be a number in [0, inf), got -1",
        ),
        ("sample many --num-samples 3 -o s.png", "unrecognized arguments: --num-samples 3"),
        ("sample many --overwrite -o s.png", "did you mean --force?"),
        ("trian x.npy -o m", "unknown command 'trian', did you mean train?"),
        ("help trian", "unknown command 'trian', did you mean train?"),
        (
            "plot histroy many -o h.png",
            "(one of history, samples, plane, traversals, latent, ",
        ),
        ("plot histroy many -o h.png", "did you mean history?"),
        (
            "evaluate mnist-sample many",
            "MODEL must be a model file, got the data 'mnist-sample'; MODEL stands before DATA",
        ),
        ("explore many x.npy -o e.html", "unrecognized arguments: x.npy, did you mean --data x.npy?"),
        ("export many -o m.onnx", "-o m.onnx; --onnx, --c, --torch and --npz name what is written"),
        ("version", "unknown command 'version', did you mean --version?"),
        ("x.npy", "unknown command 'x.npy': it is one of demo, train, "),
        ("--threads 2 train x.npy -o m", "a command must stand before its options, got '--threads'"),
        ("plot plane many -o p.png", "--label must be given for this model of classes: one of 0, 1, 2"),
        ("plot plane values -o p.png", "--label must be given for this model: 2 numbers joined by commas"),
        ("sample many --label 99 -o p.png", "--label must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, ..., 11, got '99'"),
    ],
)
def test_what_was_meant_is_said(arguments, message, capsys):
    before = sorted(Path().iterdir())
    assert main(*shlex.split(arguments)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("command", [None, "train", "plot"])
def test_help_is_a_command_too(command, capsys):
    words = [command] if command else []
    assert main("help", *words) == 0
    text = capsys.readouterr().out
    assert main(*words, "--help") == 0
    assert capsys.readouterr().out == text


def test_a_warning_about_data_that_are_read_twice_is_printed_once(capsys, made, tmp_path):
    (made / "pets" / "cat" / "notes.txt").write_bytes(b"no picture")
    assert main("train", "pets", "--validation", "pets", "-o", str(tmp_path / "m"), *MLP, "--quiet") == 0
    assert capsys.readouterr().err.count("notes.txt") == 1
    (made / "pets" / "cat" / "notes.txt").unlink()
