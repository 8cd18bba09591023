"""Completion of the command's words: in bash itself, and what other shells are told."""

import os
import subprocess
import sys

import pytest
from command_line import ENVIRONMENT, refuse, run

from cvae.cli import completion, main

# Asks as readline does when the Tab key is pressed after each line.
ASK = """
eval "$(cvae completion bash)"
while read -r line; do
    COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=9 COMPREPLY=()
    _python_argcomplete cvae
    printf '%s\\n' "${COMPREPLY[*]}"
done
"""


def completed(folder, *lines):
    """Return the words that bash offers at the end of each line."""
    command = folder / "bin" / "cvae"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cvae "$@"\n')
    command.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    asked = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK],
        input=asked,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=100,
    )
    assert done.stderr == ""
    return [line.split() for line in done.stdout.splitlines()]


def test_bash_completes_commands_options_their_values_data_and_files(tmp_path):
    (tmp_path / "mnemonic.npy").touch()
    (tmp_path / "model.safetensors").touch()
    command, data, option, network, model = completed(
        tmp_path,
        "cvae ev",
        "cvae train mn",
        "cvae train mnist --global-c",
        "cvae train mnist --encoder wo",
        "cvae info mod",
    )
    assert command == ["evaluate"]
    assert {*data} == {"mnist", "mnist-sample", "mnemonic.npy"}
    assert option == ["--global-clip-norm"]
    assert network == ["world-models"]
    assert model == ["model.safetensors"]


@pytest.mark.parametrize(("shell", "line"), [("zsh", "#compdef cvae"), ("fish", "complete --command cvae")])
def test_other_shells_get_their_own_scripts(tmp_path, shell, line):
    out, err = run("completion", shell, cwd=tmp_path)
    assert line in out
    assert err == ""


def test_other_shells_are_refused(tmp_path):
    assert "invalid choice: 'csh'" in refuse("completion", "csh", cwd=tmp_path)


def test_without_argcomplete_the_command_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    assert main.main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == "cvae: error: completion needs argcomplete: pip install argcomplete\n"
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    assert completion.answer(main.make_parser()) is None
