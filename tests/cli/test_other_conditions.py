"""`cvae train` and its models where something has changed: other programs' files, other data, other units."""

import signal
from pathlib import Path

import numpy as np
import pytest

import cvae
from cvae import steps
from cvae.cli.main import main

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 6, 5), dtype=np.uint8)
MLP = ("--encoder", "mlp", "--latent", "2", "--batchsize", "16", "--quiet")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", IMAGES)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def before_batch(monkeypatch, number, action):
    """Have something happen before the batch of this number, counted from 1, is trained on."""
    take, taken = steps.Steps.take, []

    def watched(self, *arguments):
        taken.append(1)
        if len(taken) == number:
            action()
        return take(self, *arguments)

    monkeypatch.setattr(steps.Steps, "take", watched)


@pytest.mark.parametrize("resumes", [False, True])
def test_what_another_program_writes_meanwhile_is_kept(monkeypatch, capsys, resumes):
    other = cvae.VAE("mlp", T=2, random_state=5, verbose=False).fit(IMAGES, n_epochs=1)
    options = ["-o", "m.safetensors", "--history", "h.csv", "--epochs", "2", "--checkpoint-every", "2b"]
    if resumes:
        assert main(["train", "data.npy", *MLP, *options]) == 0
        options += ["--resume", "m.safetensors"]
    settings = () if resumes else MLP[:-1]

    def write():
        other.save("m.safetensors")
        Path("h.csv").write_text("epoch,of another program\n")

    before_batch(monkeypatch, 5, write)
    assert main(["train", "data.npy", *settings, *options, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert cvae.load("m.safetensors").history_["loss"] == other.history_["loss"]
    assert Path("h.csv").read_text() == "epoch,of another program\n"
    assert len(cvae.load("m-2.safetensors").history_["loss"]) == (4 if resumes else 2)
    assert len(Path("h-2.csv").read_text().splitlines()) == (5 if resumes else 3)
    assert out.splitlines()[-2:] == ["wrote m-2.safetensors", "wrote h-2.csv"]
    assert err.splitlines() == [
        "cvae: warning: another program has written m.safetensors; this one writes m-2.safetensors",
        "cvae: warning: another program has written h.csv; this one writes h-2.csv",
    ]


def test_a_file_that_was_moved_away_is_written_again(monkeypatch):
    options = ["-o", "m", "--epochs", "2", "--checkpoint-every", "2b"]
    before_batch(monkeypatch, 4, lambda: Path("m").rename("moved"))
    assert main(["train", "data.npy", *MLP, *options]) == 0
    assert sorted(path.name for path in Path().iterdir()) == ["data.npy", "m", "moved"]


@pytest.mark.parametrize(
    ("changed", "is_told"), [([], False), (["--val-split", "0.25"], True), (["--accumulate", "2"], True)]
)
def test_an_interrupted_epoch_that_cannot_go_on_begins_anew_and_says_so(monkeypatch, capsys, changed, is_told):
    with monkeypatch.context() as patch:
        before_batch(patch, 4, interrupt)
        assert main(["train", "data.npy", *MLP, "-o", "m", "--epochs", "2"]) == 130
    capsys.readouterr()
    assert main(["train", "data.npy", "-o", "m", "--resume", "m", "--quiet", *changed]) == 0
    warning = "the epoch that was interrupted after 1 batches begins anew: its images, batch size"
    assert (warning in capsys.readouterr().err) == is_told


@pytest.mark.filterwarnings("default:.*are they in the same units")
@pytest.mark.parametrize(
    ("pixels", "is_told"),
    [
        *((IMAGES, False), (IMAGES / 255, False), (IMAGES // 2, False), (np.full_like(IMAGES, 7), False)),
        (IMAGES / 255**2, True),
        *((IMAGES * np.uint16(257), True), (IMAGES / 255 - 9, True)),
    ],
    ids=["same", "as floats", "darker", "constant", "of 1/255", "16 bits", "elsewhere"],
)
def test_pixels_in_other_units_than_those_of_training_are_told_of(capsys, pixels, is_told):
    assert main(["train", "data.npy", *MLP, "-o", "m", "--epochs", "1", "--likelihood", "Gaussian('optimal')"]) == 0
    np.save("other.npy", pixels)
    assert main(["evaluate", "m", "other.npy"]) == 0
    assert capsys.readouterr().err.count("the model was trained on pixels from 0 to 1: are they in") == is_told


def test_pixels_of_255_where_those_of_training_were_of_1_are_refused(capsys):
    assert main(["train", "data.npy", *MLP, "-o", "m", "--epochs", "1", "--likelihood", "Laplace('optimal')"]) == 0
    np.save("other.npy", IMAGES.astype(float))
    assert main(["evaluate", "m", "other.npy"]) == 2
    assert "trained on pixels from 0 to 1, got float64 up to 255: divide by 255" in capsys.readouterr().err


def test_a_code_of_one_number_has_no_plane(capsys):
    assert main(["train", "data.npy", *MLP, "--latent", "1", "-o", "m", "--epochs", "1"]) == 0
    assert main(["plot", "plane", "m", "-o", "plane.png"]) == 2
    assert "codes of at least two numbers for a plane, got T=1; traversals draw one" in capsys.readouterr().err
    assert main(["plot", "traversals", "m", "-o", "t.png"]) == 0
