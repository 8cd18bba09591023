"""Atomic replacement of files."""

import contextlib
import os

import pytest

from cvae.io.files import replaced_file


def test_a_file_is_replaced_only_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a file.png"
    path.write_bytes(b"old")
    with contextlib.suppress(KeyboardInterrupt), replaced_file(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with replaced_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_older_file_keeps_its_mode_and_what_is_no_file_is_refused(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with replaced_file(path) as file:
        file.write(b"new")
    assert path.stat().st_mode & 0o777 == 0o600
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"), replaced_file(tmp_path / "pipe"):
        pass
    with pytest.raises(FileNotFoundError, match=r"nowhere/x'"), replaced_file(tmp_path / "nowhere" / "x"):
        pass
