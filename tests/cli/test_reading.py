"""The flags for reading images, in each subcommand that takes data, and the parts of data."""

import json
import shutil
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.cli.main import main

RNG = np.random.default_rng(0)
TINY = (
    "--latent-dim",
    "4",
    "--enc-conv1-kernel-shape",
    "3",
    "--enc-conv2-kernel-shape",
    "3",
    "--T",
    "2",
    "--epochs",
    "1",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Parts of pictures of unequal sizes, some grey, and a model of 12x12x1 trained on them."""
    folder = tmp_path_factory.mktemp("reading")
    for part, n in (("train", 5), ("val", 3), ("test", 2)):
        (folder / "photos" / part).mkdir(parents=True)
        for i in range(n):
            shape = (14 + i, 15, 3)[: 2 + i % 2]
            Image.fromarray(RNG.integers(0, 256, shape, np.uint8)).save(folder / "photos" / part / f"{i}.png")
    command = ["train", str(folder / "photos"), "-o", str(folder / "m"), "--quiet", *TINY]
    assert main([*command, "--resize", "12", "--crop", "fit", "--gray"]) == 0
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_a_model_has_the_shape_that_was_asked_for(folder):
    assert cvae.load("m")._require_fitted() == (12, 12, 1)


@pytest.mark.parametrize("subcommand", ["evaluate", "encode", "reconstruct"])
def test_every_subcommand_with_data_takes_the_flags(subcommand, capsys):
    flags = ["--resize", "12x12", "--crop", "fit", "--grey", "--background", "white"]
    output = [] if subcommand == "evaluate" else ["-o", {"encode": "z.npy", "reconstruct": "r.png"}[subcommand]]
    assert main([subcommand, "m", "photos", *flags, *output]) == 0
    assert main([subcommand, "m", "photos", *output, "--force"]) == 2
    assert "--no-grey" in capsys.readouterr().err


def test_parts_are_chosen_by_name(capsys):
    flags = ["--resize", "12", "--crop", "fit", "--grey"]
    for part, n in (("train", 5), ("val", 3), ("test", 2), (None, 2)):
        chosen = [] if part is None else ["--part", part]
        assert main(["evaluate", "m", "photos", *flags, *chosen, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["images"] == n
    for part, n in ((None, 5), ("val", 3)):
        chosen = [] if part is None else ["--part", part]
        assert main(["encode", "m", "photos", *flags, *chosen, "-o", "z.npy", "--force"]) == 0
        assert np.load("z.npy").shape == (n, 2)
    assert main(["evaluate", "m", "photos/test", *flags, "--part", "val"]) == 2
    assert "--part must be one of train for photos/test, got val" in capsys.readouterr().err


@pytest.mark.parametrize(("parts", "name", "n"), [(("val", "test"), "validation", 3), (("test",), "test", 2)])
def test_training_validates_with_the_part_for_it(tmp_path, folder, capsys, parts, name, n):
    (tmp_path / "photos").mkdir()
    for part in ("train", *parts):
        shutil.copytree(folder / "photos" / part, tmp_path / "photos" / part)
    command = ["train", str(tmp_path / "photos"), "-o", str(tmp_path / "m"), "--resize", "12", "--grey", *TINY]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert f"{n} {name} images to validate with" in captured.err
    assert f"{name} negative ELBO" in captured.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--resize", "12xx"], "--resize: must be ints joined by x"),
        (["--resize", "0"], "resize must be rows, cols, or one int for squares"),
        (["--crop", "middle"], "--crop: must be ints joined by x"),
        (["--crop", "fit"], "crop='fit' needs resize"),
        (["--crop", "99", "--grey"], "crop must fit into images of 14x15"),
        (["--background", "nope"], "background must be a colour"),
        (["--grey"], "pass resize=(14, 15) or another size to scale all of them (--resize 14x15 on the command line)"),
        (["--resize", "12"], "grey=False makes all RGB (--no-grey on the command line)"),
    ],
)
def test_mistakes_are_one_line(flags, message, capsys):
    try:
        code = main(["evaluate", "m", "photos", *flags])
    except SystemExit as stopped:
        code = stopped.code
    err = capsys.readouterr().err
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_what_was_not_read_is_one_line(folder, capsys):
    (folder / "some").mkdir()
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(folder / "some" / "a.png")
    (folder / "some" / "notes.txt").write_text("not a picture")
    assert main(["evaluate", "m", "some"]) == 0
    assert capsys.readouterr().err == "cvae: warning: some: 1 in it not read, as no images: notes.txt\n"


def test_reading_pictures_needs_pillow_alone(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert main(["evaluate", "m", "photos"]) == 2
    assert capsys.readouterr().err == "cvae: error: reading pictures needs Pillow: pip install pillow\n"


@pytest.mark.parametrize("kind", ["npy", "floats", "h5", "pictures"])
def test_large_files_are_read_block_by_block(kind, tmp_path, monkeypatch, capsys):
    images = RNG.integers(0, 256, (9 if kind == "pictures" else 1040, 8, 8, 1), np.uint8)
    path = tmp_path / f"data.{kind}"
    if kind == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("images", data=images, chunks=(100, 8, 8, 1))
    elif kind == "pictures":
        path.mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image[..., 0]).save(path / f"{i}.png")
    else:
        path = tmp_path / "data.npy"
        np.save(path, images / np.float32(255) if kind == "floats" else images)
    monkeypatch.setattr("cvae.data.blocks.LARGE", 100)
    monkeypatch.setattr("cvae.data.loading.LARGE", 100)
    model, codes, means = (str(tmp_path / name) for name in ("m", "z.npy", "r.npy"))
    options = ["--encoder", "mlp", "--T", "2", "--epochs", "1", "--seed", "0"]
    assert main(["train", str(path), "-o", model, *options]) == 0
    dtype = "float32" if kind == "floats" else "uint8"
    assert f"{len(images):,} images of 8x8x1, {dtype}, read block by block" in capsys.readouterr().err
    assert main(["encode", model, str(path), "-o", codes]) == 0
    assert main(["reconstruct", model, str(path), "-o", means]) == 0
    assert main(["evaluate", model, str(path)]) == 0
    vae = cvae.load(model)
    given = images / np.float32(255) if kind == "floats" else images
    np.testing.assert_array_equal(np.load(codes), vae.transform(given))
    np.testing.assert_array_equal(np.load(means), vae.reconstruct(given))
