"""`cvae train` in the hands of people and service managers: signals, existing files, resuming, memory, streams."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from command_line import ENVIRONMENT, SMALL, run, start, wait_for_epoch_1
from PIL import Image

import cvae
from cvae import steps
from cvae.cli import main as cli
from cvae.cli import output, streams
from cvae.cli.commands import train as command
from cvae.interruption import StopHandler
from cvae.io.files import is_model
from cvae.progress import Progress

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 12, 10), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with data, a picture folder and a good model, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x_train=IMAGES[:32], x_test=IMAGES[32:])
    np.save("more.npy", IMAGES[:8])
    Path("grey").mkdir()
    for number in range(3):
        Image.fromarray(IMAGES[number]).save(f"grey/{number:03d}.png")
    model = cvae.VAE("mlp", T=2, random_state=0, verbose=False).fit(IMAGES[:32], n_epochs=1)
    model.save("keep.safetensors")
    return tmp_path


def main(*arguments):
    try:
        return cli.main([*map(str, arguments)])
    except SystemExit as error:
        return error.code


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------ nothing is lost


def test_an_existing_file_is_not_replaced_unasked(folder, capsys):
    before = files(folder)
    assert main("train", "data.npz", "-o", "keep.safetensors", *SMALL, "--epochs", "1") == 2
    hint = "the file keep.safetensors exists; --resume goes on training it, --force replaces it"
    assert capsys.readouterr().err == f"cvae: error: {hint}\n"
    Path("labels.csv").write_text("name,label\n")
    assert main("train", "data.npz", "-o", "new", "--history", "labels.csv", "--encoder", "mlp") == 2
    assert "the file labels.csv exists; --force replaces it" in capsys.readouterr().err
    assert main("train", "data.npz", "-o", "more.npy", "--resume", "keep.safetensors") == 2
    assert {**files(folder), "labels.csv": None} == {**before, "labels.csv": None}
    assert main("train", "data.npz", "-o", "keep.safetensors", "--force", "--encoder", "mlp", "--epochs", "2") == 0
    assert len(cvae.load("keep.safetensors").history_["loss"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        "export model --torch keep.safetensors",
        "train data.npz -o m --history keep.safetensors --force",
        *(f"{each} -o keep.csv" for each in ("encode model data.npz", "outliers model data.npz")),
        "evaluate model data.npz --scores keep.csv",
        "explore model -o keep.html",
        "sample model -o keep.png",
    ],
)
def test_only_a_model_takes_the_place_of_a_model(folder, arguments, capsys):
    path = Path("keep.safetensors")
    path.with_name("model").write_bytes(path.read_bytes())
    output = next(word for word in arguments.split() if word.startswith("keep."))
    path = path.rename(output)
    before = files(folder)
    assert main(*arguments.split()) == 2
    message = f"cvae: error: the output must not take the place of a model, got {output!r}\n"
    assert capsys.readouterr().err == message
    assert files(folder) == before
    path.write_bytes(b"another file")
    assert is_model("model")
    assert not is_model(path)


@pytest.mark.parametrize(
    ("arguments", "ending"),
    [
        ("explore model -o model.safetensors", ".html or .htm"),
        ("evaluate model data.npz --scores s.npz", ".csv"),
        ("outliers model data.npz -o s.npz", ".csv"),
    ],
)
def test_outputs_have_the_ending_of_what_they_are(folder, arguments, ending, capsys):
    Path("keep.safetensors").rename("model")
    before = files(folder)
    assert main(*arguments.split()) == 2
    assert f"must end with {ending}, got " in capsys.readouterr().err
    assert files(folder) == before


@pytest.mark.parametrize("name", ["model.safetensors", "history.png"])
def test_the_demo_does_not_replace_files_unasked(folder, name, capsys):
    Path(name).write_bytes(Path("keep.safetensors").read_bytes() if name == "model.safetensors" else b"a picture")
    before = files(folder)
    assert main("demo", "--out", ".", "--epochs", "1") == 2
    hint = "--out names another folder, --force replaces it"
    assert capsys.readouterr().err == f"cvae: error: the file {name} exists; {hint}\n"
    assert files(folder) == before
    assert main("demo", "--out", ".", "--epochs", "1", "--force") == 0
    assert files(folder)[name] != before[name]


@pytest.mark.parametrize("flags", [(), ("--checkpoint-every", "3b")], ids=["end", "checkpoint"])
def test_a_model_that_cannot_be_written_is_saved_elsewhere(folder, flags, monkeypatch, capsys):
    def refuse(vae, path, **options):
        if path == "m":
            raise OSError(errno.ENOSPC, "No space left on device", path)
        save(vae, path, **options)

    save = cvae.VAE.save
    (folder / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
    monkeypatch.setattr(cvae.VAE, "save", refuse)
    epochs = ("--batchsize", "16", "--epochs", "2")  # of two batches: the third is in the second epoch
    assert main("train", "data.npz", "-o", "m", "--encoder", "mlp", *epochs, *flags) == 2
    (path,) = (folder / "temporary").iterdir()
    lines = capsys.readouterr().err.splitlines()
    assert f"cvae: m cannot be written; the model was saved to {path}" in lines
    assert lines[-1] == "cvae: error: m: No space left on device"
    assert len(cvae.load(path).history_["loss"]) == (1 if flags else 2)


def test_where_nothing_can_be_written_no_temporary_file_is_left(folder, monkeypatch, capsys):
    def refuse(vae, path, **options):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    (folder / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
    monkeypatch.setattr(cvae.VAE, "save", refuse)
    assert main("train", "data.npz", "-o", "m", "--encoder", "mlp", "--epochs", "1") == 2
    assert capsys.readouterr().err.endswith("cvae: error: m: No space left on device\n")
    assert not [*(folder / "temporary").iterdir()]


def test_a_resumed_model_and_its_history_may_be_replaced(folder):
    flags = ("--encoder", "mlp", "--T", "2", "--history", "h.csv")
    assert main("train", "data.npz", "-o", "m", *flags, "--epochs", "2") == 0
    assert main("train", "data.npz", "-o", "m", "--resume", "m", "--epochs", "1", "--history", "h.csv") == 0
    with open("h.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


OVERWRITING = [
    "train grey -o grey/000.png --force",
    "train grey -o linked.png --force",
    "train links -o grey/000.png --force",
    "train more.npy -o hard.npy --force",
    "train data.npz --validation grey -o grey/000.png --force",
    "reconstruct keep.safetensors grey -o grey/000.png",
    "reconstruct keep.safetensors grey -o grey/new.png",
    "reconstruct keep.safetensors grey -o linked.png",
    "reconstruct keep.safetensors links -o grey/000.png",
    "encode keep.safetensors grey -o grey/000.png",
]


@pytest.mark.parametrize("arguments", OVERWRITING)
def test_no_output_takes_the_place_of_a_picture_of_the_data(folder, capsys, arguments):
    os.symlink("grey/000.png", "linked.png")
    os.mkdir("links")
    os.symlink("../grey/000.png", "links/a.png")
    os.link("more.npy", "hard.npy")
    before = files(folder)
    assert main(*arguments.split()) == 2
    err = capsys.readouterr().err
    assert (
        "inputs and outputs must be different files" in err or "must not be a picture in the folder of the data" in err
    )
    assert files(folder) == before


@pytest.mark.parametrize("command", ["train data.npz --force", "encode keep.safetensors data.npz"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "the output must be the name of a file, got ''"),
        ("new/", "the output must be a regular file, got 'new/'"),
        ("grey", "the output must be a regular file, got 'grey'"),
        ("loop", "loop: Too many levels of symbolic links"),
        ("missing/x", "cannot write to the folder"),
        ("a" * 256, "File name too long"),
        ("fifo", "the output must be a regular file, got 'fifo'"),
    ],
)
def test_what_cannot_be_written_is_known_before_any_work(folder, capsys, monkeypatch, command, name, message):
    os.symlink("loop", "loop")
    os.mkfifo("fifo")
    monkeypatch.setattr(cvae.datasets, "load", None)  # not called
    assert main(*command.split(), "-o", name) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a" * 255, os.fsdecode(b"mod\xe8le.safetensors"), "\U0001f600{0}", "with\nline"])
def test_a_file_may_have_any_name(folder, name):
    run("train", "data.npz", "-o", name, "--encoder", "mlp", "--epochs", "1", cwd=folder)
    for arguments in (("sample", name, "-o", "s.png"), ("evaluate", name, "data.npz", "--json"), ("info", name)):
        run(*arguments, cwd=folder)
    assert len(cvae.load(name).history_["loss"]) == 1


def test_interrupted_at_once_a_good_model_stays(folder):
    before = (folder / "keep.safetensors").read_bytes()
    arguments = ("-o", "keep.safetensors", "--force", "--encoder", "mlp", "--batchsize", "1", "--epochs", "100000")
    process = start("train", "mnist-sample", *arguments, "--checkpoint-every", "1b", cwd=folder)
    while "parameters" not in process.stderr.readline():
        pass
    time.sleep(0.5)  # within the first epoch, of 5,000 batches
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (130, "")
    last = err.splitlines()[-1]
    assert last.startswith("cvae: interrupted after 0 complete epochs; ")
    assert last.endswith(("keep.safetensors was left as it was", "nothing was saved"))
    assert (folder / "keep.safetensors").read_bytes() == before


# -------------------------------------------------------------------------- signals

LONG = ("train", "mnist-sample", "-o", "m", "--encoder", "mlp", "--T", "2", "--batchsize", "64")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_each_signal_saves_and_resuming_gives_the_same_bits(folder, number):
    process = start(*LONG, "--epochs", "40", cwd=folder)
    wait_for_epoch_1(process)
    process.send_signal(number)
    process.send_signal(number)  # as `timeout` and terminals do
    _, err = process.communicate(timeout=100)
    assert process.returncode == 128 + number
    assert "the model was saved to m" in err.splitlines()[-1]
    n = len(cvae.load("m").history_["loss"])
    assert 1 <= n < 40
    run("train", "mnist-sample", "-o", "m", "--resume", "m", "--epochs", 2, cwd=folder)
    run(*LONG[:2], "-o", "whole", *LONG[4:], "--epochs", n + 2, cwd=folder)
    assert (folder / "m").read_bytes() == (folder / "whole").read_bytes().replace(
        f'n_epochs\\": {n + 2}'.encode(), b'n_epochs\\": 2'
    ) or cvae.load("m").history_ == cvae.load("whole").history_


def test_without_epochs_resuming_finishes_what_was_interrupted(folder):
    vae = cvae.VAE("mlp", T=2, random_state=2, n_epochs=5)

    def interrupt(vae, epoch, entry):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vae.fit(IMAGES[:32], validation_data=IMAGES[32:], callbacks=[interrupt], verbose=False)
    vae.save("m")
    assert main("train", "data.npz", "-o", "m", "--resume", "m") == 0
    assert main("train", "data.npz", "-o", "whole", "--encoder", "mlp", "--T", "2", "--epochs", "5") == 0
    assert Path("m").read_bytes() == Path("whole").read_bytes()


def test_a_second_signal_ends_at_once_without_harm(folder, capsys, monkeypatch):
    before = files(folder)
    take, batches = steps.Steps.take, []

    def interrupted(steps, indices):
        batches.append(1)
        if len(batches) == 3:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            pytest.fail("not reached")
        return take(steps, indices)

    monkeypatch.setattr(steps.Steps, "take", interrupted)
    monkeypatch.setattr(StopHandler, "GRACE", 0)
    arguments = ("--resume", "keep.safetensors", "--batchsize", "4", "--epochs", "9")
    assert main("train", "data.npz", "-o", "keep.safetensors", *arguments) == 128 + signal.SIGHUP
    assert capsys.readouterr().err.endswith("cvae: interrupted after 1 complete epochs; nothing was saved\n")
    assert files(folder) == before


def test_an_ignored_hangup_stays_ignored(folder):
    process = start(*LONG, "--epochs", "8", cwd=folder, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for_epoch_1(process)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=100)
    assert process.returncode == 0
    assert len(cvae.load("m").history_["loss"]) == 8


def test_a_killed_process_leaves_its_last_checkpoint(folder):
    process = start(*LONG, "--epochs", "100000", "--checkpoint-every", "20b", cwd=folder)
    wait_for_epoch_1(process)
    process.kill()
    process.communicate(timeout=100)
    vae = cvae.load("m")
    assert vae._position.batches % 20 in (0, *range(20))
    run("train", "mnist-sample", "-o", "m", "--resume", "m", "--epochs", 1, cwd=folder)
    assert len(cvae.load("m").history_["loss"]) >= 1
    assert not [name for name in os.listdir() if name.startswith(".cvae")]


def test_the_end_of_a_terminal_ends_no_training():
    class Gone:
        def write(self, *_):
            raise OSError(5, "Input/output error")

        flush = isatty = write

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", Gone())
        progress = Progress(10, shown=True)
        progress.begin_epoch("epoch 1/1", 0)
        progress.update(10, 1.0)
        progress.end_epoch({"loss": 1.0})
        progress.close()
        output.log("no error")


# ----------------------------------------------------------------- what is asked for


def test_checkpoints_change_no_bits(folder):
    for name, interval in (("a", "1b"), ("b", "never"), ("c", "0.001s")):
        flags = ("--encoder", "mlp", "--epochs", "2", "--batchsize", "8", "--checkpoint-every", interval)
        assert main("train", "data.npz", "-o", name, *flags) == 0
    assert Path("a").read_bytes() == Path("b").read_bytes() == Path("c").read_bytes()


@pytest.mark.parametrize("text", ["5", "0m", "1.5b", "-1s", "m", "1d", "nan"])
def test_an_interval_has_a_unit(capsys, text):
    assert main("train", "data.npz", "-o", "m", f"--checkpoint-every={text}") == 2
    assert "must be a number with its unit, such as 10m, 90s, 1h or 500b" in capsys.readouterr().err


def test_images_to_validate_with(folder, capsys):
    flags = ("--encoder", "mlp", "--epochs", "1")
    assert main("train", "data.npz", "-o", "a", *flags, "--validation", "more.npy") == 0
    out, err = capsys.readouterr()
    assert "validation negative ELBO" in out
    assert "more.npy: 8 images of 12x10x1, uint8 from" in err
    vae = cvae.load("a")
    loss = -vae.elbo(IMAGES[:8]).mean()
    assert vae.history_["val_loss"] == [pytest.approx(loss)]
    assert main("train", "data.npz", "-o", "b", *flags, "--val-split", "0.25") == 0
    assert "25% of them to validate with" in capsys.readouterr().err
    expected = cvae.VAE("mlp", random_state=2, verbose=False).fit(IMAGES[:32], n_epochs=1, validation_fraction=0.25)
    assert cvae.load("b").history_["val_loss"] == expected.history_["val_loss"]
    assert main("train", "data.npz", "-o", "c", "--val-split", "0.25", "--validation", "more.npy") == 2
    for value in ("0", "1", "x", "nan"):
        assert main("train", "data.npz", "-o", "c", "--val-split", value) == 2


def test_a_file_without_optimizer_state_is_smaller(folder):
    for name, flags in (("a", []), ("b", ["--no-optimizer-state"])):
        assert main("train", "data.npz", "-o", name, "--encoder", "mlp", "--epochs", "1", *flags) == 0
    assert os.path.getsize("b") < 0.4 * os.path.getsize("a")


def test_too_little_memory_or_disk_is_known_before_the_training(folder, capsys, monkeypatch):
    monkeypatch.setattr(cvae.VAE, "_fit", None)  # not called
    monkeypatch.setattr(command, "available_bytes", lambda: 1_000_000)
    assert main("train", "data.npz", "-o", "m", "--encoder", "mlp") == 2
    err = capsys.readouterr().err
    assert "cvae: error: training takes about 2." in err
    assert "MB, and 1 MB are available; a smaller --batchsize or smaller layers take less" in err
    monkeypatch.setattr(command, "available_bytes", lambda: None)
    monkeypatch.setattr(output.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    assert main("train", "data.npz", "-o", "m", "--encoder", "mlp") == 2
    assert "cvae: error: m: the model needs 1." in capsys.readouterr().err


def test_large_images_are_refused_within_moments(folder):
    """No weights are drawn for that."""
    np.save("huge.npy", np.zeros((1, 4000, 4000), np.uint8))
    process = start("train", "huge.npy", "-o", "m", cwd=folder)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "are available; a smaller --batchsize or smaller layers take less" in err.splitlines()[-1]


# -------------------------------------------------------------------------- streams


@pytest.mark.parametrize("redirection", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "command", ["train data.npz -o m --encoder mlp --epochs 1", "info", "", "sample keep.safetensors -o s.png"]
)
def test_closed_streams_are_no_obstacle(folder, command, redirection):
    line = f'exec "{sys.executable}" -m cvae {command} {redirection}'
    done = subprocess.run(["sh", "-c", line], env=ENVIRONMENT, timeout=100, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" or "2>&-" not in redirection
    if command.startswith("train"):
        assert len(cvae.load("m").history_["loss"]) == 1


def test_a_full_standard_output_is_an_error(folder):
    with open("/dev/full", "w") as full:
        process = start("info", cwd=folder, stdout=full)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert err == "cvae: error: standard output: No space left on device\n"


def test_a_warning_that_is_turned_into_an_error_is_one_line(folder):
    np.save(folder / "ones.npy", np.ones((8, 8, 8), np.uint8))
    line = [sys.executable, "-W", "error", "-m", "cvae", "train", "ones.npy", "-o", "ones", "--encoder", "mlp"]
    done = subprocess.run(line, cwd=folder, env=ENVIRONMENT, timeout=100, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("cvae: error: X has dtype uint8 and holds only 0 and 1")
    assert done.stderr.count("\n") == 1
    assert not (folder / "ones").exists()


def test_a_working_directory_that_was_deleted_is_an_error(folder):
    (folder / "gone").mkdir()
    line = f'rmdir ../gone; exec "{sys.executable}" -m cvae train data.npz -o m'
    done = subprocess.run(
        ["sh", "-c", line], cwd=folder / "gone", env=ENVIRONMENT, timeout=100, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "cvae: error: the working directory does not exist any more; give full names\n"


def test_without_arguments_the_help_is_printed(folder):
    out, err = run(cwd=folder)
    assert out.startswith("usage: cvae ")
    assert err == ""


def test_each_sample_is_another_one_and_says_how_to_repeat_it(folder, capsys):
    pictures, seeds = [], []
    for name in ("a.png", "b.png"):
        assert main("sample", "keep.safetensors", "-o", name) == 0
        seeds.append(capsys.readouterr().out.splitlines()[0].removeprefix("drawn with --seed "))
        pictures.append(Path(name).read_bytes())
    assert pictures[0] != pictures[1]
    assert main("sample", "keep.safetensors", "-o", "c.png", "--seed", seeds[0]) == 0
    assert Path("c.png").read_bytes() == pictures[0]


def test_warnings_are_one_line(capsys):
    with streams.logged_warnings(), pytest.MonkeyPatch.context():
        warnings.simplefilter("always")
        warnings.warn("of the\ntest", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().err == "cvae: warning: of the test\n"


def test_numbers_that_are_not_finite_are_null_in_json(capsys):
    output.print_json({"a": float("nan"), "b": -float("inf"), "c": 1.5, "d": "x"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": None, "c": 1.5, "d": "x"}
