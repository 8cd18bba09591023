"""The command line: every subcommand as a process, its output, its errors and Ctrl-C."""

import csv
import inspect
import json
import os
import pty
import re
import signal
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from command_line import ENVIRONMENT, SMALL, refuse, run, start, wait_for_epoch_1
from PIL import Image
from small_vae import without_times

import cvae
from cvae.cli import main as cli

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (48, 12, 10), dtype=np.uint8)


def table(out):
    """Parse a printed table into a dict."""
    return dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines() if "  " in line)


def nats(text):
    number, unit = text.split(" ", 1)
    assert unit == "nats per image"
    return float(number)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data and a model trained on it; tests must not change it."""
    folder = tmp_path_factory.mktemp("cli")
    np.savez(folder / "data.npz", x_train=IMAGES[:32], x_test=IMAGES[32:])
    np.save(folder / "grey.npy", IMAGES[:32])
    np.save(folder / "flat.npy", IMAGES.reshape(48, -1))
    np.savez(folder / "flat.npz", x=IMAGES.reshape(48, -1), y=np.arange(48) % 3)
    np.save(folder / "rgb.npy", RNG.random((8, 12, 10, 3)))
    np.save(folder / "large.npy", RNG.random((8, 12, 10)) * 255)
    (folder / "damaged.safetensors").write_bytes(b"no model")
    (folder / "folder").mkdir()
    arguments = ("train", "data.npz", "-o", "model.safetensors", "--history", "history.csv")
    out, err = run(*arguments, "--epochs", "2", "--T", "3", *SMALL, cwd=folder)
    (folder / "train.out").write_text(out)
    (folder / "train.err").write_text(err)
    return folder


@pytest.fixture(scope="module")
def vae(folder):
    return cvae.load(folder / "model.safetensors")


def test_train_prints_each_epoch_and_the_results(folder, vae):
    history = vae.history_
    elbo = np.add(history["reconstruction"], history["kl"])
    test_elbo = np.add(history["val_reconstruction"], history["val_kl"])
    data, test_data, sizes, *lines = (folder / "train.err").read_text().splitlines()
    assert data == f"cvae: data.npz: 32 images of 12x10x1, uint8 from {IMAGES[:32].min()} to {IMAGES[:32].max()}"
    assert test_data == "cvae: 16 test images to validate with"
    n, size = vae.summary().parameters, (folder / "model.safetensors").stat().st_size / 1000
    found = re.fullmatch(
        rf"cvae: {n:,} parameters; training takes about [\d.]+ [kM]B of memory, the file ([\d.]+) kB", sizes
    )
    assert 0.5 * size < float(found[1]) < size
    assert len(lines) == 2
    for epoch, line in enumerate(lines):
        assert re.fullmatch(
            rf"cvae: epoch {epoch + 1}: negative ELBO training {elbo[epoch]:.2f}, "
            rf"test {test_elbo[epoch]:.2f} nats per image, [\d,]+ images/s",
            line,
        )
    out = (folder / "train.out").read_text()
    rows = table(out)
    assert nats(rows["training negative ELBO"]) == pytest.approx(elbo[-1], abs=0.006)
    assert nats(rows["test negative ELBO"]) == pytest.approx(test_elbo[-1], abs=0.006)
    speed, unit = rows["training speed"].split()
    assert unit == "images/s"
    with (folder / "history.csv").open(newline="") as file:
        seconds = sum(float(row["seconds"]) for row in csv.DictReader(file))
    assert float(speed.replace(",", "")) == pytest.approx(64 / seconds, rel=0.01)
    assert out.endswith("wrote model.safetensors\nwrote history.csv\n")


def test_history_has_a_row_for_each_epoch(folder, vae):
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("epoch") for row in rows] == ["1", "2"]
    columns = {name: [float(row[name]) for row in rows] for name in rows[0]}
    assert without_times(columns) == vae.history_
    assert len(columns) == len(vae.history_) + 2


SETTINGS = {  # by argument of the constructor: the text on the command line, the expected value
    "T": ("2", 2),
    "condition": ("classes", "classes"),
    "latent_dim": ("5", 5),
    "enc_conv1_pad": ("1x2", [1, 2]),
    "enc_conv2_pad": ("same", "same"),
    "enc_conv1_out_ch": ("3", 3),
    "enc_conv2_out_ch": ("4", 4),
    "enc_conv1_stride": ("2", 2),
    "enc_pool1_stride": ("1", 1),
    "enc_conv2_stride": ("2", 2),
    "enc_pool2_stride": ("2", 2),
    "enc_conv1_kernel_shape": ("3x4", [3, 4]),
    "enc_pool1_kernel_shape": ("1", 1),
    "enc_conv2_kernel_shape": ("2X3", [2, 3]),
    "enc_pool2_kernel_shape": ("1x2", [1, 2]),
    "optimizer": ("SGD(lr=0.001, momentum=0.5)", None),  # compared below
    "lr": ("0.003", 0.003),
    "global_clip_norm": ("0.5", 0.5),
    "init": ("he_normal", "he_normal"),
    "binarize": ("0.25", 0.25),
    "value_range": ("0:255", [0.0, 255.0]),
    "n_epochs": ("1", 1),
    "batchsize": ("7", 7),
    "beta": ("2.5", 2.5),
    "image_shape": ("12x10x1", [12, 10, 1]),
    "algorithm": ("direct", "direct"),
    "dtype": ("float64", "float64"),
    "random_state": ("3", 3),
}
# --threads and --quiet belong to the run, not to the model; the command goes on with a model by --resume.
NOT_SETTINGS = {"n_threads", "verbose", "warm_start"}


def flag(name):
    renamed = {"n_epochs": "epochs", "random_state": "seed"}
    return "--" + renamed.get(name, name).replace("_", "-")


def test_settings_reach_the_model(folder, tmp_path):
    arguments = [word for name, (text, _) in SETTINGS.items() for word in (flag(name), text)]
    arguments += ["--quiet", "--threads", "2"]
    _, err = run("train", folder / "flat.npz", "-o", "m", *arguments, cwd=tmp_path)
    assert err == ""
    vae = cvae.load(tmp_path / "m")
    assert str(vae.optimizer).startswith("SGD(lr=0.001, momentum=0.5")
    assert str(vae.encoder["FC4"].optimizer).startswith("SGD(lr=0.003, momentum=0.5")
    found = {name: list(v) if isinstance(v, tuple) else v for name, v in vae.get_params().items()}
    expected = {name: value for name, (_, value) in SETTINGS.items()}
    assert found == {
        **expected,
        "optimizer": found["optimizer"],
        "n_threads": None,
        "verbose": True,
        "warm_start": True,
    }


def test_help_tells_the_constructor_s_defaults(folder):
    out, _ = run("train", "--help", cwd=folder)
    entries = [entry.split() for entry in re.split(r"\n  (?=-)", out)]
    help_of = {words[0]: " ".join(words) for words in entries}
    parameters = inspect.signature(cvae.BernoulliVAE).parameters
    assert set(parameters) == set(SETTINGS) | NOT_SETTINGS
    for name in SETTINGS:
        default = parameters[name].default
        text = "x".join(map(str, default)) if isinstance(default, tuple) else str(default)
        assert (f"(default: {text})" in help_of[flag(name)]) is (default is not None)


def test_resume_goes_on_with_the_same_bits(folder, vae, tmp_path):
    data = folder / "data.npz"
    run("train", data, "-o", "a", "--epochs", 1, "--T", 3, *SMALL, cwd=tmp_path)
    run("train", data, "-o", "a", "--resume", "a", "--epochs", 1, cwd=tmp_path)
    resumed = cvae.load(tmp_path / "a")
    assert resumed.history_["loss"] == vae.history_["loss"]
    np.testing.assert_array_equal(resumed.transform(IMAGES), vae.transform(IMAGES))
    message = refuse("train", data, "-o", "b", "--resume", "a", "--T", 4, *SMALL[:2], cwd=tmp_path)
    assert message == "--T, --latent-dim cannot be changed with --resume"


def test_evaluate_agrees_with_the_model(folder, vae):
    out, err = run("evaluate", "model.safetensors", "data.npz", "--json", cwd=folder)
    assert err == ""
    results = json.loads(out)
    assert (results["data"], results["images"]) == ("data.npz", 16)
    assert results["elbo"] == pytest.approx(vae.elbo(IMAGES[32:]).mean(), rel=1e-6)
    history = vae.history_  # computed differently, in float32
    assert results["reconstruction"] == pytest.approx(history["val_reconstruction"][-1], rel=1e-5)
    assert results["kl"] == pytest.approx(history["val_kl"][-1], rel=1e-3)
    assert "log_likelihood" not in results


def test_evaluate_prints_units(folder, vae):
    arguments = ("evaluate", "model.safetensors", "flat.npy", "--log-likelihood", "20")
    rows = table(run(*arguments, cwd=folder)[0])
    assert rows["data"] == "48 images of flat.npy"
    elbo = nats(rows["ELBO"])
    assert elbo == pytest.approx(vae.elbo(IMAGES).mean(), abs=0.006)
    reconstruction, kl = nats(rows["reconstruction loss"]), nats(rows["KL divergence"])
    assert -elbo == pytest.approx(reconstruction + kl, abs=0.02)
    expected = vae.log_likelihood(IMAGES, n_samples=20).mean()
    assert nats(rows["log-likelihood (20 samples)"]) == pytest.approx(expected, abs=0.006)


def test_sample_draws_a_picture_that_the_seed_decides(folder, tmp_path):
    model = folder / "model.safetensors"
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        out, err = run("sample", model, "-o", name, "-n", 9, "--seed", seed, cwd=tmp_path)
        assert (out, err) == (f"wrote {name}\n", "")
    a, b, c = (pixels(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert a.shape[1] >= 400
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_models_whose_means_leave_the_range_of_pictures_are_drawn(tmp_path):
    images = (RNG.random((12, 6, 5)) > 0.5).astype(np.uint8) * 255
    np.save(tmp_path / "bw.npy", images)
    vae = cvae.VAE(["Flatten()"], [], "Gaussian(scale=0.1)", T=2, random_state=0, verbose=False).fit(images, n_epochs=1)
    vae.decoder_["Output"].set_params({"parameters": {"b": np.linspace(-9, 9, 30)[np.newaxis]}})
    vae.save(tmp_path / "gaussian.safetensors")
    run("sample", "gaussian.safetensors", "-o", "s.png", "-n", 4, cwd=tmp_path)
    run("reconstruct", "gaussian.safetensors", "bw.npy", "-o", "r.png", cwd=tmp_path)
    assert {0, 255} <= set(pixels(tmp_path / "s.png").ravel().tolist())


@pytest.mark.parametrize("likelihood", ["Bernoulli", "Gaussian('optimal')"])
def test_pictures_of_images_in_other_units(likelihood, tmp_path):
    images = (RNG.random((12, 6, 5)) > 0.5).astype(np.uint16) * 1000 + 5000
    np.save(tmp_path / "bw.npy", images)
    value_range = "data" if likelihood == "Bernoulli" else None
    vae = cvae.VAE(["Flatten()"], [], likelihood, T=2, value_range=value_range, random_state=0, verbose=False)
    vae.fit(images, n_epochs=1)
    vae.decoder_["Output"].set_params({"parameters": {"b": np.linspace(-9, 9, 30)[np.newaxis]}})
    vae.save(tmp_path / "units.safetensors")
    run("sample", "units.safetensors", "-o", "s.png", "-n", 4, cwd=tmp_path)
    run("reconstruct", "units.safetensors", "bw.npy", "-o", "r.png", cwd=tmp_path)
    assert {0, 255} <= set(pixels(tmp_path / "s.png").ravel().tolist())
    np.testing.assert_array_equal(vae._as_pictures(images), (images - 5000) / 1000)
    np.testing.assert_array_equal(vae._as_pictures(np.array([0, 5500, 6500])), [0, 0.5, 1])


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_reconstruct_draws_the_test_images(folder, tmp_path):
    run(
        "reconstruct",
        folder / "model.safetensors",
        folder / "data.npz",
        "-o",
        "r.png",
        cwd=tmp_path,
    )
    picture = pixels(tmp_path / "r.png")
    assert 800 < picture.shape[1] < 1200
    assert 300 < picture.shape[0] < 1200
    grey = picture[(picture == picture[..., :1]).all(axis=2)][:, 0]
    assert np.isin(IMAGES[32], grey).all()


def test_encode_writes_the_means_of_all_images(folder, vae, tmp_path):
    arguments = ("encode", folder / "model.safetensors", folder / "data.npz", "-o")
    out, _ = run(*arguments, "codes.npy", cwd=tmp_path)
    assert out == "wrote codes.npy\n"
    means = np.load(tmp_path / "codes.npy")
    assert means.shape == (32, 3)
    np.testing.assert_array_equal(means, vae.transform(IMAGES[:32]))
    run(*arguments, "codes.CSV", cwd=tmp_path)
    with open(tmp_path / "codes.CSV", newline="") as file:
        names, *rows = csv.reader(file)
    assert names == ["image", "part", "z1", "z2", "z3"]
    assert [row[:2] for row in rows[:2]] == [["0", "train"], ["1", "train"]]
    np.testing.assert_array_equal(np.array([row[2:] for row in rows], np.float32), means)
    run(*arguments, "codes.npz", cwd=tmp_path)
    with np.load(tmp_path / "codes.npz") as arrays:
        np.testing.assert_array_equal(arrays["mean"], means)
        np.testing.assert_array_equal(arrays["log_var"], vae.encode(IMAGES[:32])[1])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder with labelled data, and models conditional on the classes and on the labels as values."""
    folder = tmp_path_factory.mktemp("labelled")
    labels = np.array([2, 0, 5, 5] * 12)
    np.savez(folder / "data.npz", x_train=IMAGES[:32], y_train=labels[:32], x_test=IMAGES[32:], y_test=labels[32:])
    np.savez(folder / "half.npz", x_train=IMAGES[:32], y_train=labels[:32], x_test=IMAGES[32:])
    np.save(folder / "bare.npy", IMAGES)
    for kind in ("classes", "values"):
        run("train", "data.npz", "-o", kind, "--condition", kind, "--epochs", "1", "--T", "3", *SMALL, cwd=folder)
    return folder


def test_conditional_models_take_the_labels_of_the_data(labelled, tmp_path):
    labels = np.array([2, 0, 5, 5] * 12)
    for kind in ("classes", "values"):
        vae = cvae.load(labelled / kind)
        assert vae.condition == kind
        assert len(vae.history_["val_loss"]) == 1
        out, _ = run("evaluate", kind, "data.npz", "--json", "--log-likelihood", "5", cwd=labelled)
        found = json.loads(out)
        assert found["elbo"] == pytest.approx(vae.score(IMAGES[32:], labels[32:]))
        expected = vae.log_likelihood(IMAGES[32:], n_samples=5, y=labels[32:]).mean()
        assert found["log_likelihood"] == pytest.approx(expected)
        run("encode", kind, "data.npz", "-o", tmp_path / "codes.npy", "--force", cwd=labelled)
        np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), vae.transform(IMAGES[:32], labels[:32]))
        run("reconstruct", kind, "data.npz", "-n", "5", "-o", tmp_path / "r.png", "--force", cwd=labelled)
        run("reconstruct", kind, "data.npz", "-n", "5", "-o", tmp_path / "r.npy", "--force", cwd=labelled)
        means = vae.reconstruct(IMAGES[32:37], labels[32:37])
        np.testing.assert_array_equal(np.load(tmp_path / "r.npy"), means)


def test_a_conditional_model_of_named_networks(labelled, tmp_path):
    run("train", "data.npz", "-o", tmp_path / "mlp", "--condition", "classes", "--encoder", "mlp", "--T", "3",
        "--epochs", "1", cwd=labelled)  # fmt: skip
    vae = cvae.load(tmp_path / "mlp")
    assert (vae.encoder, vae.condition, list(vae.classes_)) == ("mlp", "classes", [0, 2, 5])


def test_samples_of_all_classes_of_one_and_of_values(labelled, tmp_path):
    pictures = {}
    for name, model, *arguments in (
        ("all", "classes", "-n", "12"), ("again", "classes", "-n", "12"), ("two", "classes", "--label", "2"),
        ("five", "classes", "--label", "5"), ("low", "values", "--label", "0.5"), ("high", "values", "--label", "40"),
    ):  # fmt: skip
        run("sample", model, *arguments, "--seed", "1", "-o", tmp_path / f"{name}.png", cwd=labelled)
        pictures[name] = (tmp_path / f"{name}.png").read_bytes()
    assert pictures["all"] == pictures["again"]
    assert len(set(pictures.values())) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "bare.npy", "--condition", "classes"), "bare.npy must hold labels of all images"),
        (("train", "half.npz", "--condition", "classes", *SMALL), "half.npz must hold labels of all images"),
        (("train", "data.npz", "--condition", "colour"), "condition must be 'classes', 'values' or None, got 'colour'"),
        (("encode", "classes", "bare.npy"), "bare.npy must hold labels of all images for a conditional model"),
        (("sample", "classes", "--label", "3"), "--label must be one of 0, 2, 5, got '3'"),
        (("sample", "values", "--label", "a"), "--label must be numbers joined by commas, got 'a'"),
        (("sample", "values", "--label", "1,2"), "y must be a number, or a number for each of 64"),
        (("sample", "values"), "--label must be given for this model: 1 number"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, tuple) else "",
)
def test_labels_that_are_missing_or_wrong_are_errors(labelled, tmp_path, arguments, message):
    output = {"train": "out", "encode": "out.npy", "sample": "out.png"}[arguments[0]]
    assert message in refuse(*arguments, "-o", tmp_path / output, cwd=labelled)
    assert not (tmp_path / "out.png").exists()


def test_values_may_be_negative_however_they_are_given(labelled, tmp_path):
    for i, label in enumerate((["--label", "-1.5"], ["--label=-1.5"])):
        run("sample", "values", *label, "-n", "2", "--seed", "1", "-o", tmp_path / f"{i}.npy", cwd=labelled)
    np.testing.assert_array_equal(np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy"))
    message = refuse("sample", "values", "--label", "-1,-2", "-o", tmp_path / "x.npy", cwd=labelled)
    assert "y must be a number, or a number for each of 64" in message
    message = refuse("train", "data.npz", "-o", tmp_path / "m", "--value-range", "-1:1", *SMALL, cwd=labelled)
    assert "X must hold values in the value_range from -1.0 to 1.0" in message


def test_models_without_condition_take_no_label(folder, tmp_path):
    arguments = ("sample", "model.safetensors", "--label", "3", "-o", tmp_path / "out.png")
    assert "--label must be left out for a model without condition, got '3'" in refuse(*arguments, cwd=folder)


def test_info_tells_versions_and_settings(folder):
    out, _ = run("info", "--threads", "2", cwd=folder)
    rows = table(out)
    assert rows["cvae"] == cvae.__version__
    assert rows["instruction set"] in rows["available"].split(", ")
    assert rows["threads"] == "2"
    assert rows["OpenMP"] in ("yes", "no")
    assert rows["NumPy"] == np.__version__
    assert rows["Python"].startswith(sys.version.split()[0])
    rows = table(run("info", "model.safetensors", cwd=folder)[0])
    assert rows["images"] == "12x10x1"
    assert rows["T"] == "3"
    assert rows["epochs trained"] == "2"


def test_what_files_hold_is_printed_without_escape_sequences(tmp_path, capfd):
    vae = cvae.VAE("mlp", T=2, optimizer="SGD(lr=0.01 #\x1b[2J\n)", random_state=0, verbose=False)
    vae.fit(RNG.random((8, 4, 4)), n_epochs=1).save(tmp_path / "model")
    assert cli.main(["info", str(tmp_path / "model")]) == 0
    (tmp_path / "\x1b[2J").write_text("no model")
    assert cli.main(["info", str(tmp_path / "\x1b[2J")]) == 2
    printed = capfd.readouterr()
    assert "\ufffd[2J" in printed.out
    assert "\ufffd[2J" in printed.err
    assert "\x1b" not in printed.out + printed.err


def test_version(folder):
    assert run("--version", cwd=folder)[0] == f"cvae {cvae.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fly", "unknown command 'fly'"),
        ("train grey.npy", "arguments are required: -o/--output"),
        ("train grey.npy -o x --fast", "unrecognized arguments: --fast"),
        ("train grey.npy -o x --epochs 0", "--epochs: must be an int >= 1, got '0'"),
        ("train grey.npy -o x --seed -1", "--seed: must be an int >= 0, got '-1'"),
        ("train grey.npy -o x --beta two", "--beta: invalid float value: 'two'"),
        ("train grey.npy -o x --beta nan", "beta must be a number in [0, inf), got nan"),
        ("train grey.npy -o x --threads 9999", "--threads must be from 1 to 4096, got 9999"),
        ("train grey.npy -o x --optimizer Best", "the optimizer must be one of SGD, "),
        ("train grey.npy -o x --init none", "init must be one of glorot_uniform, "),
        ("train grey.npy -o x --dtype int8", "dtype must be 'float32' or 'float64'"),
        ("train grey.npy -o x --image-shape 12", "--image-shape must be 2 or 3 ints >= 1"),
        ("train grey.npy -o x --image-shape 1xy", "must be ints joined by x, such as 28x28"),
        ("train grey.npy -o x --image-shape 9x9", "must hold images of shape (9, 9, 1)"),
        ("train grey.npy -o x --enc-conv1-pad all", "'same', 'valid' or 2 or 4 ints"),
        ("train grey.npy -o x --enc-conv1-kernel-shape 1x2x3", "--enc-conv1-kernel-shape must be an int or 2"),
        ("train grey.npy -o x --enc-conv1-kernel-shape 50", "(--encoder auto) makes layers for the images"),
        ("train flat.npy -o x", "needs image_shape"),
        ("train large.npy -o x", "must hold values in [0, 1]"),
        ("train missing.npy -o x", "'missing.npy', which does not exist"),
        ("train damaged.safetensors -o x", "got text that starts with 'no model'"),
        ("train folder -o x", "folder: holds no pictures"),
        ("train grey.npy -o missing/x", "cannot write to the folder"),
        ("train grey.npy -o x --history missing/x", "cannot write to the folder"),
        ("train grey.npy -o folder", "the output must be a regular file, got 'folder'"),
        ("train grey.npy -o /dev/null", "the output must be a regular file, got '/dev/null'"),
        ("train grey.npy -o grey.npy/x", "cannot write to the folder"),
        ("train grey.npy -o /proc/x", "cannot write to the folder /proc"),
        ("train grey.npy -o x --resume missing", "missing: No such file or directory"),
        ("evaluate missing grey.npy", "missing: No such file or directory"),
        ("evaluate folder grey.npy", "folder: Is a directory"),
        ("evaluate damaged.safetensors grey.npy", "damaged.safetensors is not a model file"),
        ("evaluate model.safetensors missing", "'missing', which does not exist"),
        ("evaluate model.safetensors rgb.npy", "must hold images of shape (12, 10, 1)"),
        ("evaluate model.safetensors grey.npy --log-likelihood 0", "must be an int >= 1, got '0'"),
        ("sample model.safetensors -o x.txt", "the output of sample must end with .png, .jpg, .jpeg, .pdf, .svg"),
        ("sample model.safetensors -o missing/x.png", "cannot write to the folder"),
        ("sample missing -o x.png", "missing: No such file or directory"),
        ("sample model.safetensors -o x.png -n 0", "-n: must be an int >= 1, got '0'"),
        ("reconstruct model.safetensors grey.npy -o x", ".webp or .npy, got 'x'"),
        ("encode model.safetensors grey.npy -o folder", "the output must be a regular file"),
        ("encode model.safetensors grey.npy -o codes", "must end with .npy, .csv or .npz, got 'codes'"),
        ("encode model.safetensors grey.npy -o x.json", "must end with .npy, .csv or .npz, got 'x.json'"),
        ("train grey.npy -o m.pt", "must end with .safetensors or have no ending, got 'm.pt'; cvae export writes"),
        ("export model.safetensors", "one of --onnx, --c, --torch and --npz must be given"),
        ("export model.safetensors --onnx x.pt", "--onnx must end with .onnx, got 'x.pt'"),
        ("export model.safetensors --c x.onnx --onnx y.onnx", "--c must end with .c, got 'x.onnx'"),
        ("export model.safetensors --torch x.pt", "--torch must end with .safetensors, got 'x.pt'"),
        ("export model.safetensors --torch model.safetensors", "inputs and outputs must be different files"),
        ("export model.safetensors --npz missing/x.npz", "cannot write to the folder"),
        ("export model.safetensors --c x.c --prefix 2x", "prefix must be a C identifier, got '2x'"),
        ("export model.safetensors --c x.c --part decoder", "--part must be left out without --onnx"),
        ("export model.safetensors --npz x.npz --prefix x", "--prefix must be left out without --c"),
        ("export model.safetensors --onnx x.onnx --part all", "--part: invalid choice: 'all'"),
        ("export missing --npz x.npz", "missing: No such file or directory"),
        ("info missing", "missing: No such file or directory"),
        ("demo --out grey.npy", "--out must be a folder, got 'grey.npy'"),
        ("demo --out /proc/x", "cannot write to the folder /proc: No such file or directory"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing_behind(folder, arguments, message):
    before = sorted(folder.iterdir())
    assert message in refuse(*arguments.split(), cwd=folder)
    assert sorted(folder.iterdir()) == before


def test_a_diverging_loss_is_an_error_and_keeps_the_older_model(folder, tmp_path):
    (tmp_path / "model").write_bytes(b"older")
    arguments = ("--force", "--optimizer", "SGD(lr=1e30)", "--batchsize", "4", "--quiet", *SMALL)
    message = refuse("train", folder / "grey.npy", "-o", "model", *arguments, cwd=tmp_path)
    assert message.startswith("the loss became ")
    assert (tmp_path / "model").read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


@pytest.mark.parametrize("error", [MemoryError("too large"), MemoryError(), OSError(28, "No space")])
def test_errors_of_the_machine_are_one_line(monkeypatch, capsys, error):
    monkeypatch.setattr(cvae, "load", raiser(error))
    assert cli.main(["info", "model"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("cvae: error: ")
    assert len(err) > len("cvae: error: \n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [TypeError("a"), KeyError("b"), AssertionError(), ImportError("c", name="cvae.d")])
def test_programming_errors_are_not_hidden(monkeypatch, error):
    monkeypatch.setattr(cvae, "load", raiser(error))
    with pytest.raises(type(error)):
        cli.main(["info", "model"])


def raiser(error):
    def load(path):
        raise error

    return load


def test_interrupt_elsewhere_is_a_line(monkeypatch, capsys):
    monkeypatch.setattr(cvae, "load", raiser(KeyboardInterrupt()))
    assert cli.main(["evaluate", "model", "mnist-sample"]) == 130
    assert capsys.readouterr().err == "cvae: interrupted\n"


@pytest.mark.parametrize("command", ["train", "demo"])
def test_interrupt_saves_what_was_trained(command, tmp_path):
    if command == "train":
        model, arguments = "m.safetensors", ("mnist-sample", "-o", "m.safetensors", *SMALL)
        arguments += ("--history", "history.csv", "--epochs", 1000)
    else:
        model, arguments = "out/model.safetensors", ("--out", "out", "--epochs", 1000)
    process = start(command, *arguments, cwd=tmp_path)
    wait_for_epoch_1(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (130, "")
    last = err.splitlines()[-1]
    n_epochs = int(re.match(r"cvae: interrupted after (\d+) complete epochs; ", last)[1])
    assert last.endswith(f"; --resume goes on to 1000; the model was saved to {model}")
    vae = cvae.load(tmp_path / model)
    assert len(vae.history_["loss"]) == n_epochs >= 1
    rows = (tmp_path / model).with_name("history.csv").read_text().splitlines()
    assert len(rows) == 1 + n_epochs
    out, _ = run("evaluate", model, "mnist-sample", "--json", cwd=tmp_path)
    assert -600 < json.loads(out)["elbo"] < -100
    assert not list(tmp_path.rglob("*tmp*"))


def test_demo_writes_model_history_and_pictures(tmp_path):
    out, _ = run("demo", "--epochs", "1", cwd=tmp_path)
    rows = table(out)
    assert 100 < nats(rows["test negative ELBO"]) < 300
    assert rows["training speed"].endswith(" images/s")
    names = [line.removeprefix("wrote ") for line in out.splitlines() if line.startswith("wrote ")]
    assert {Path(name).name for name in names} == {
        *("model.safetensors", "history.csv", "history.png"),
        *("reconstructions.png", "samples.png", "latent.png"),
    }
    assert {tmp_path / name for name in names} == set((tmp_path / "cvae-demo").iterdir())
    for name in names:
        if name.endswith(".png"):
            picture = pixels(tmp_path / name)
            assert 900 < picture.shape[1] < 1100
            assert picture.std() > 20
    assert len(cvae.load(tmp_path / "cvae-demo" / "model.safetensors").history_["loss"]) == 1
    before = (tmp_path / "cvae-demo" / "model.safetensors").read_bytes()
    out, _ = run("demo", "--epochs", "1", "--seed", "5", cwd=tmp_path)
    assert "wrote cvae-demo-2/model.safetensors" in out
    assert (tmp_path / "cvae-demo" / "model.safetensors").read_bytes() == before


def test_without_matplotlib_demo_says_so_first_and_writes_the_rest(folder, tmp_path):
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise ImportError('none here')")
    path = os.pathsep.join([str(tmp_path), ENVIRONMENT["PYTHONPATH"]])
    env = {**ENVIRONMENT, "PYTHONPATH": path}
    out, err = run("demo", "--epochs", "1", "--out", "out", cwd=tmp_path, env=env)
    first, *others = err.splitlines()
    hint = "plotting needs matplotlib: pip install matplotlib"
    pictures = "reconstructions.png, samples.png, latent.png, history.png"
    assert first == f"cvae: no {pictures}: {hint}"
    assert all(line.startswith("cvae: epoch ") for line in others)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.safetensors",
        "history.csv",
    }
    assert "out/history.csv" in out
    arguments = ("sample", folder / "model.safetensors", "-o", "s.png")
    assert refuse(*arguments, cwd=tmp_path, env=env) == hint


def test_nobody_reads_the_output(folder):
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = start("info", cwd=folder, stdout=write_end)
    os.close(write_end)
    assert process.communicate(timeout=100)[1] == ""
    assert process.returncode == 141


def test_a_terminal_shows_a_progress_bar(folder, tmp_path):
    terminal, process_end = pty.openpty()
    termios.tcsetwinsize(process_end, (40, 80))
    arguments = ("train", folder / "data.npz", "-o", "m", "--epochs", "2", *SMALL)
    process = start(*arguments, cwd=tmp_path, stderr=process_end)
    os.close(process_end)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "test negative ELBO" in out
    assert re.search(r"epoch 2/2, loss \d+\.\d\d, val_loss \d+\.\d\d: 100%\|.*\| \d\d:\d\d<00:00", shown)


def test_no_output_takes_the_place_of_an_input_or_of_another_output(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for arguments in (
        "train grey.npy -o grey.npy",
        "train grey.npy -o x --history ./x",
        "train grey.npy -o x --history grey.npy",
        "train data.npz -o x --validation grey.npy --history grey.npy",
        "encode model.safetensors grey.npy -o ./model.safetensors",
        "encode model.safetensors grey.npy -o grey.npy",
    ):
        assert "inputs and outputs must be different files" in refuse(*arguments.split(), cwd=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_loss_that_diverges_later_keeps_what_was_trained(folder, tmp_path, monkeypatch, capsys):
    def diverge(vae, *args, **kwargs):
        trained(vae, *args, **kwargs)
        raise FloatingPointError("the loss became nan")

    trained = cvae.BernoulliVAE._fit
    monkeypatch.setattr(cvae.BernoulliVAE, "_fit", diverge)
    model = tmp_path / "\x1bmodel"
    assert cli.main(["train", str(folder / "grey.npy"), "-o", str(model), "--quiet", *SMALL]) == 2
    saved = f"training failed after 20 complete epochs; the model was saved to {tmp_path}/\ufffdmodel\n"
    assert saved in capsys.readouterr().err
    assert cvae.load(model).history_["loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("info --threads=--", "argument --threads: expected one argument"),
        ("evaluate model.safetensors images.npy --log-likelihood=--", "argument --log-likelihood: expected one"),
        (
            f"evaluate model.safetensors images.npy --log-likelihood={1 << 63}",
            "argument --log-likelihood: must be an int",
        ),
        (f"sample model.safetensors -n {10**400}", "argument -n: must be an int >= 1"),
    ],
)
def test_values_that_are_none_are_named(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("train", "mnist-sample", "-o", "x", "--epoch", "1"),
            "--epoch 1, did you mean --epochs? (see cvae train --help)",
        ),
        (("evaluate", "x", "y", "--jsn"), "--jsn, did you mean --json? (see cvae evaluate --help)"),
        (("info", "--part=test", "x"), "--part=test (see cvae info --help)"),
    ],
)
def test_unknown_options_come_with_the_one_they_resemble(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"cvae: error: unrecognized arguments: {message}\n"


def test_pixels_of_0_and_1_are_named_once_with_the_option_that_helps(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 2, (8, 4, 4)).astype(np.uint8))
    train = ("train", "x.npy", "-o", "model", "--encoder", "mlp", "--epochs", "1", "--quiet")
    _, err = run(*train, cwd=tmp_path)
    assert err.count("warning") == 1
    assert "--value-range 0:1 on the command line" in err
    _, err = run(*train, "--value-range", "0:1", "--force", cwd=tmp_path)
    assert err == ""
