"""Wrong values for every option of every subcommand, from the parsers: exit code 2 and one line that names it.
generated from the parsers: exit code 2 and one line that names it.

`WRONG` says what is wrong for options of a kind, `_kind` of which kind an option is; one that it does not know fails a
test. All runs are within this process, in a folder whose files must be the same after each.
"""

import argparse
import os

import numpy as np
import pytest

import cvae
from cvae.cli import main as cli

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 6), dtype=np.uint8)
HUGE = "9" * 30

# What is given; a name in braces is a file of the folder.
WRONG = {
    "count": ["", "x", "0", "-1", "1.5", "nan", "inf", "1e3", HUGE, "0x10", "\udc80", "1 2", "None", "[1]"],
    "seed": ["", "x", "-1", "1.5", "nan", "1e3", "\udc80", "None"],
    "float": ["", "x", "nan", "inf", "-1", "1e999", "\udc80", "0x1p3", "None"],
    "share": ["", "x", "nan", "inf", "-1", "0", "1", "2", "\udc80"],
    "interval": ["", "x", "5", "-1s", "0m", "nanm", "1.5b", "1e3s", "m", "1d"],
    "shape": ["", "x", "0x0", "-1x2", "2x", "2x2x2x2x2", "nan", "1.5x2", f"{HUGE}x2"],
    "range": ["", "x", "1", "1:", "2:1", "1:1", "nan:1", "0:inf", "1:2:3", "a:b"],
    "word": ["", "x", "\udc80", "x(", "a" * 9000, "(" * 2000, "os.system('x')", "None", "1"],
    "pad": ["", "x", "-1", "1x2x3", "1.5", "nan", "samo"],
    "crop": ["", "x", "0", "-1", "1x2x3", "fitt", "nan", HUGE],
    "colour": ["", "x", "#12", "rgb(", "\udc80", "a" * 9000],
    "input": ["", "missing", "empty-folder", "empty", "text", "/dev/null", "fifo", "x\0y", "loop", "a" * 300,
              "text/x", "\udc80"],
    "output": ["", "folder", "missing/x{ending}", "/proc/x{ending}", "fifo{ending}", "loop{ending}", "x\0y{ending}",
               "new/",
               "a" * 300 + "{ending}", "text/x{ending}", "{input}"],
    "ending": ["x.exe", "x", "x.png.bak"],
}  # fmt: skip
FLAGS = {
    "completion": ["bash"],  # of subcommands, what makes them run without a mistake
    "demo": ["--epochs", "1", "--out", "demo"],
    "train": ["data.npz", "-o", "new", "--epochs", "1", "--quiet", "--T", "2"],
    "evaluate": ["model", "data.npz"],
    "sample": ["model", "-o", "new.png", "-n", "4"],
    "reconstruct": ["model", "data.npz", "-o", "new.png"],
    "encode": ["model", "data.npz", "-o", "new.npy"],
    "export": ["model", "--c", "new.c"],
    "outliers": ["model", "data.npz"],
    "plot": ["samples", "model", "-o", "new.png"],
    "explore": ["model", "-o", "new.html"],
    "info": ["model"],
}
OUTPUTS = {  # the endings of what options write
    ("demo", "out"): None, ("sample", "separate"): None, ("train", "output"): "", ("train", "history"): ".csv",
    ("evaluate", "scores"): ".csv", ("sample", "output"): ".png", ("reconstruct", "output"): ".png",
    ("encode", "output"): ".npy", ("export", "onnx"): ".onnx", ("export", "c"): ".c", ("export",
    "torch"): ".safetensors",
    ("export", "npz"): ".npz", ("outliers", "output"): ".csv", ("outliers", "picture"): ".png", ("plot",
    "output"): ".png",
    ("explore", "output"): ".html",
}  # fmt: skip
KINDS = {
    "data": "input", "model": "input", "resume": "input", "config": "input", "validation": "input", "normal": "input",
    "crop": "crop", "resize": "shape", "background": "colour", "image_shape": "shape", "value_range": "range",
    "val_split": "share", "contamination": "share", "checkpoint_every": "interval", "lr": "float", "beta": "float",
    "global_clip_norm": "float",
    "binarize": "word", "seed": "seed", "random_state": "seed", "label": "word", "prefix": "word",
}  # fmt: skip
# What is no mistake: (option, value), or (subcommand, option, value).
RIGHT = {
    ("crop", "6"), ("prefix", "x"), ("prefix", "None"), ("val_split", "0.5"), ("resize", ""), ("binarize", "1"),
    ("algorithm", "auto"), ("config", "empty"), ("prefix", "a" * 9000),
}  # fmt: skip


def options():
    """Yield the subcommands and the actions of their parsers that take a value."""
    parser = cli.make_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for command, subparser in commands.choices.items():
        for action in subparser._actions:
            if action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction):
                yield command, action


def _kind(command, action):
    """Return the kinds of what is wrong for an option."""
    if (command, action.dest) in OUTPUTS:
        return "folder" if OUTPUTS[command, action.dest] is None else "output"
    if action.choices is not None:
        return "word"
    if action.dest in KINDS:
        return KINDS[action.dest]
    named = {"_ints": "shape", "_int_or_ints": "shape", "_pad": "pad", "_int_from.<locals>.parse": "count"}
    if action.type in (str, None):
        return "word"
    return named[action.type.__qualname__]


def values(command, action):
    """Return wrong values of an option."""
    kind = _kind(command, action)
    if kind == "folder":
        return ["text", "missing/x\0y", "/proc/x/y", "", "full", "loop", "text/x"]
    ending = OUTPUTS.get((command, action.dest))
    found = [value.format(ending=ending, input=_input(command)) if kind == "output" else value for value in WRONG[kind]]
    if kind == "output":
        found += [value for value in WRONG["ending"] if ending or value != "x"]
    return found


def _input(command):
    return "data.npz" if command == "train" else "model"


def arguments(command, action, value):
    """Return the words of a command in which one option has a wrong value."""
    words = FLAGS[command].copy()
    if not action.option_strings:
        place = {"kind": 0, "shell": 0, "model": 1 if command == "plot" else 0, "data": 0 if command == "train" else 1}[
            action.dest
        ]
        if command == "plot" and action.dest == "data":
            words[0:2] = ["latent", "model", value]
        else:
            words[place] = value
        return [command, "--", *words[:1], *words[1:]] if value.startswith("-") else [command, *words]
    for name in action.option_strings:
        if name in words:
            at = words.index(name)
            del words[at : at + 2]
    flag = action.option_strings[-1]
    extra = {"part": ["--onnx", "new.onnx"], "pixels": ["--onnx", "new.onnx"]} if command == "export" else {}
    extra |= {"crop": ["--resize", "4x4"]} if value == "fitt" else {}
    if command == "explore" and action.dest in ("crop", "resize", "background", "part"):
        words += ["--data", "data.npz"]
    if command == "plot" and action.dest in ("crop", "resize", "background", "part", "method"):
        words[:2] = ["latent", "model", "data.npz"]
    return [command, *words, *extra.get(action.dest, ()), f"{flag}={value}"]


def cases():
    for command, action in options():
        for i, value in enumerate(values(command, action)):
            if (action.dest, value) not in RIGHT and (command, action.dest, value) not in RIGHT:
                yield pytest.param(command, action, value, id=f"{command}-{action.dest}-{i}")


CASES = list(cases())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, data, and what is neither."""
    folder = tmp_path_factory.mktemp("options")
    np.savez(folder / "data.npz", x_train=IMAGES[:8], x_test=IMAGES[8:])
    cvae.VAE(["Flatten()"], [], T=2, random_state=0, verbose=False).fit(IMAGES, n_epochs=1).save(folder / "model")
    for name in ("folder", "empty-folder", "full"):
        (folder / name).mkdir()
    (folder / "folder" / "a.bin").write_bytes(b"\1\2\3")
    (folder / "full" / "model.safetensors").write_bytes(b"somebody's")
    (folder / "text").write_text("some text\n")
    (folder / "empty").write_bytes(b"")
    for ending in {"", *filter(None, OUTPUTS.values())}:
        os.mkfifo(folder / f"fifo{ending}")
        (folder / f"loop{ending}").symlink_to(f"loop{ending}")
    return folder


def state(folder):
    """Return what is in a folder: names, kinds, sizes and times of change."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            status = os.lstat(os.path.join(parent, name))
            found[os.path.join(parent, name)] = status.st_mode, status.st_size, status.st_mtime_ns
    return found


def main(*words):
    try:
        return cli.main(words)
    except SystemExit as error:
        return error.code


def names_of(command, action, value):
    """Return what a message may call an option: its flag, the argument that it is of the model,
    or the file it names."""
    found = [*(flag.lstrip("-") for flag in action.option_strings), action.dest, action.metavar or action.dest]
    if (kind := _kind(command, action)) in ("input", "output", "folder"):
        found += [ascii(os.path.basename(value))[1:-1]] if "\0" not in value and os.path.basename(value) else []
        found += [ascii(value), "cannot write to the folder", "must be the name of a file", "must be different files"]
    return [*found, HUGE] if kind == "shape" else found


@pytest.mark.parametrize(("command", "action", "value"), CASES)
def test_a_wrong_value_is_one_line_that_names_the_option(place, monkeypatch, capsys, command, action, value):
    monkeypatch.chdir(place)
    before = state(place)
    code = main(*arguments(command, action, value))
    out, err = capsys.readouterr()
    assert code == 2, (out, err)
    assert out == ""
    assert err.startswith("cvae: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert any(name in err for name in names_of(command, action, value)), err
    assert state(place) == before


def test_the_table_is_large_and_complete():
    assert len(CASES) > 700
    assert {case.values[0] for case in CASES} == set(FLAGS)
    assert all(WRONG[_kind(*option)] if _kind(*option) != "folder" else True for option in options())


@pytest.mark.parametrize("command", FLAGS)
def test_flags_without_values_unknown_flags_and_missing_words(place, monkeypatch, capsys, command):
    monkeypatch.chdir(place)
    before = state(place)
    for words in (
        [f"{flag.option_strings[-1]}"] for name, flag in options() if name == command and flag.option_strings
    ):
        if words != ["--encoder"] and words != ["--decoder"]:
            assert main(command, *FLAGS[command], *words) == 2
            assert (
                f"argument {'/'.join(next(a.option_strings for _, a in options() if words[0] in a.option_strings))}"
                in (err := capsys.readouterr().err)
            )
            assert err.count("\n") == 1
    for words in (["--unknown"], ["--unknown=1"], ["one", "too", "many", "words"], ["--threads"]):
        assert main(command, *FLAGS[command], *words) == 2
        err = capsys.readouterr().err
        assert words[0].partition("=")[0] in err
        assert err.count("\n") == 1
    assert state(place) == before
