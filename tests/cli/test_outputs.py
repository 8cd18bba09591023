"""What subcommands write: existing files, endings, the home folder, and options that have no effect."""

import os
from pathlib import Path

import numpy as np
import pytest

import cvae
from cvae.cli import main as cli

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 6), dtype=np.uint8)
WRITING = {  # what each subcommand writes, by option
    "evaluate model data.npz --scores": "s.csv",
    "encode model data.npz -o": "z.npy",
    "encode model data.npz --output": "z.csv",
    "reconstruct model data.npz -o": "r.png",
    "sample model -n 4 --seed 0 -o": "s.npy",
    "outliers model data.npz -o": "o.csv",
    "outliers model data.npz --picture": "o.png",
    "plot history model -o": "h.png",
    "explore model -o": "e.html",
    "export model --c": "m.c",
    "export model --torch": "t.safetensors",
    "export model --npz": "m.npz",
    "train data.npz --encoder mlp --epochs 1 --quiet -o": "m.safetensors",
    "train data.npz --encoder mlp --epochs 1 --quiet -o m --history": "h.csv",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model and data."""
    folder = tmp_path_factory.mktemp("made")
    labels = np.arange(12) % 2
    np.savez(folder / "data.npz", x_train=IMAGES[:8], x_test=IMAGES[8:], y_train=labels[:8], y_test=labels[8:])
    vae = cvae.VAE(["Flatten()"], [], T=2, random_state=0, verbose=False)
    vae.fit(IMAGES, n_epochs=1).save(folder / "model")
    vae.set_params(condition="classes").fit(IMAGES, labels, n_epochs=1).save(folder / "classes")
    return folder


@pytest.fixture(autouse=True)
def folder(made, tmp_path, monkeypatch):
    """A folder of its own with them, in which the test runs."""
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def main(*words):
    try:
        return cli.main(words)
    except SystemExit as error:
        return error.code


def error_of(capsys, *words):
    """Run a command that must fail with one line, and return it."""
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    assert main(*words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before
    return err.removeprefix("cvae: error: ").strip()


@pytest.mark.parametrize("command", WRITING)
def test_an_existing_file_is_replaced_with_force_alone(command, capsys):
    words = [*command.split(), WRITING[command]]
    Path(words[-1]).write_bytes(b"somebody's")
    message = error_of(capsys, *words)
    assert message.startswith(f"the file {words[-1]} exists; ")
    assert message.endswith("--force replaces it")
    assert main(*words, "--force") == 0
    assert Path(words[-1]).read_bytes() != b"somebody's"


@pytest.mark.parametrize("command", WRITING)
def test_force_replaces_no_input(command, capsys):
    """The output is another name of the data, or of the model where no data are read."""
    name = "data.npz" if "data.npz" in command.split() else "model"
    copy = f"copy{Path(WRITING[command]).suffix}"
    os.link(name, copy)
    message = error_of(capsys, *command.split(), copy, "--force")
    assert "inputs and outputs must be different files" in message


def test_force_makes_no_folder_of_files_one_of_pictures(capsys):
    Path("folder").mkdir()
    Path("folder/a.txt").write_text("somebody's")
    expected = "--separate must be a new or an empty folder, got 'folder'"
    assert expected in error_of(capsys, "sample", "model", "--separate", "folder", "--force")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train data.npz -o model.png", "a model file must end with .safetensors or have no ending, got 'model.png'"),
        ("train data.npz -o m --history h.png", "--history must end with .csv, got 'h.png'"),
        ("sample model -o x.csv", "the output of sample must end with .png, .jpg, .jpeg, .pdf, .svg, .webp or .npy"),
        ("reconstruct model data.npz -o x.safetensors", "the output of reconstruct must end with .png"),
        ("plot history model -o h.csv", "the output of plot must end with .png"),
        ("outliers model data.npz -o o.png", "the output of outliers must end with .csv, got 'o.png'"),
        ("outliers model data.npz --picture o.csv", "--picture must end with .png"),
        ("sample model --separate s.png", "--separate must be a folder, got 's.png', which has the ending of a file"),
        ("demo --out m.safetensors", "--out must be a folder, got 'm.safetensors', which has the ending of a file"),
    ],
)
def test_an_ending_of_another_kind_of_file_is_refused(arguments, message, capsys):
    assert message in error_of(capsys, *arguments.split())


USELESS = {
    "plot history model": ["-n 3", "--label 1", "--method pca", "--seed 1", "--part all", "--resize 6", "--no-grey"],
    "plot samples model": ["--method umap", "--crop 4", "--background white", "--part test"],
    "plot plane model": ["--seed 1", "--method pca"],
    "plot latent model data.npz": ["-n 3", "--label 1", "--seed 0"],
    "plot ranking model data.npz": ["--label 1", "--method pca", "--seed 0"],
    "explore model": ["--part test", "--crop 4", "--resize 6", "--grey", "--background white"],
}


@pytest.mark.parametrize(("command", "option"), [(key, each) for key, options in USELESS.items() for each in options])
def test_an_option_that_would_have_no_effect_is_refused(command, option, capsys):
    kind = "without --data" if command.startswith("explore") else f"for {command.split()[1]}"
    output = "new.html" if command.startswith("explore") else "new.png"
    message = error_of(capsys, *command.split(), *option.split(), "-o", output)
    assert message == f"{option.split()[0]} must be left out {kind}"


def test_several_options_without_effect_are_named_together(capsys):
    message = error_of(capsys, "plot", "history", "model", "-n", "3", "--seed", "1", "--resize", "6", "-o", "h.png")
    assert message == "--resize, --seed, -n must be left out for history"


@pytest.mark.parametrize("flag", ["-o=", "-o", "--output="])
def test_a_home_that_the_shell_has_left_is_the_home(flag, monkeypatch, folder):
    monkeypatch.setenv("HOME", str(folder / "home"))
    (folder / "home").mkdir()
    (folder / "model").rename(folder / "home" / "m")
    assert main("sample", "~/m", "-n", "2", f"{flag}~/s.png") == 0
    assert main("sample", "~/m", "-n", "2", f"{flag}~/s.png") == 2
    assert sorted(path.name for path in (folder / "home").iterdir()) == ["m", "s.png"]
    assert not (folder / "~").exists()


def test_a_folder_of_that_name_is_no_home(monkeypatch, folder):
    (folder / "~").mkdir()
    assert main("sample", "model", "-n", "2", "-o=~/s.png") == 0
    assert (folder / "~" / "s.png").exists()
