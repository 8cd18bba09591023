"""Atomic replacement of files."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_vae import random_images, subprocess_environment

import cvae
from cvae import explorer, export, plotting
from cvae.io.files import is_model, replaced_file


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


def test_names_of_the_greatest_length_and_of_any_bytes_are_written(tmp_path):
    for name in (b"a" * 255, b"mod\xe8le", b"with\nline"):
        path = os.path.join(os.fsencode(tmp_path), name)
        with replaced_file(path) as file:
            file.write(b"new")
        with open(path, "rb") as file:
            assert file.read() == b"new"
    assert len(os.listdir(tmp_path)) == 3


def names_that_cannot_be_written(folder):
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "to long").symlink_to("a" * 256)
    (folder / "file").write_bytes(b"")
    os.mkfifo(folder / "fifo")
    return {
        "": FileNotFoundError,
        f"{folder}/new/": IsADirectoryError,
        f"{folder}": IsADirectoryError,
        f"{folder}/loop": OSError,
        f"{folder}/to long": OSError,
        f"{folder}/{'a' * 256}": OSError,
        f"{folder}/file/x": NotADirectoryError,
        f"{folder}/missing/x": FileNotFoundError,
        f"{folder}/fifo": OSError,
        "/dev/null": OSError,
        "/proc/x": OSError,
    }


def test_what_cannot_be_written_is_an_error_that_names_it(tmp_path):
    names = names_that_cannot_be_written(tmp_path)
    before = sorted(os.listdir(tmp_path))
    for name, kind in names.items():
        with pytest.raises(kind) as caught, replaced_file(name):
            pytest.fail("entered")
        assert caught.value.filename == name
        assert ".tmp" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before
    for number in (1, True, None, 2.0):
        with pytest.raises(TypeError, match="path must be a str or path, got"), replaced_file(number):
            pytest.fail("entered")


def test_a_dangling_link_leads_to_the_new_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with replaced_file(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_a_refused_chmod_is_no_failure(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replaced_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("sync"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    with replaced_file(tmp_path / "file") as file:
        file.write(b"new")
    assert calls[:2] == ["sync", "replace"]


def test_errors_of_the_disk_name_the_file(tmp_path):
    path = tmp_path / "file"
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left") as caught, replaced_file(path):
        raise full
    assert caught.value.filename == os.fspath(path)
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError) as caught, replaced_file(path):
        os.stat("/nowhere")  # an error of something else
    assert caught.value.filename == "/nowhere"


def test_a_write_within_a_write_of_the_same_file_disturbs_nothing(tmp_path):
    """As in a signal handler."""
    path = tmp_path / "file"
    with replaced_file(path) as outer:
        outer.write(b"outer")
        with replaced_file(path) as inner:
            inner.write(b"inner")
        assert path.read_bytes() == b"inner"
    assert path.read_bytes() == b"outer"
    assert os.listdir(tmp_path) == ["file"]


KILLED = """
import os, signal, sys
from cvae.io.files import replaced_file
with replaced_file(sys.argv[1]) as file:
    file.write(b"new" * 1000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, path], env=subprocess_environment(), timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 2
    (tmp_path / ".cvae-strange.tmp").mkdir()
    os.mkfifo(tmp_path / ".cvae-fifo.tmp")
    with replaced_file(path) as file:
        file.write(b"newer")
    assert sorted(os.listdir(tmp_path)) == [".cvae-fifo.tmp", ".cvae-strange.tmp", "file"]


def test_only_a_model_takes_the_place_of_a_model(tmp_path):
    """From Python as on the command line; any other file is replaced, as `numpy.save` does."""
    X = random_images()
    vae = cvae.VAE(["Flatten()"], [], T=2, random_state=0, verbose=False).fit(X, n_epochs=1)
    path = tmp_path / "model.safetensors"
    vae.save(path)
    before = path.read_bytes()
    link = tmp_path / "page.png"
    link.symlink_to(path)
    writers = [
        lambda: export.to_torch_file(vae, path), lambda: export.to_npz(vae, path), lambda: export.to_c(vae, path),
        lambda: export.to_onnx(vae, path), lambda: explorer.write(vae, path), lambda: plotting.samples(vae, link),
    ]  # fmt: skip
    for write in writers:
        with pytest.raises(ValueError, match=r"path must not be a model, which would be lost, got '.*/"):
            write()
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["model.safetensors", "page.png"]
    assert is_model(path)
    path.write_bytes(b"anything else")
    export.to_torch_file(vae, path)
    assert not is_model(path)
    vae.save(path)
    vae.save(path)
    assert is_model(path)


def test_a_name_with_a_null_character_is_named(tmp_path):
    vae = cvae.VAE(["Flatten()"], [], T=2, random_state=0, verbose=False).fit(random_images(), n_epochs=1)
    for call in (vae.save, cvae.load, lambda path: export.to_npz(vae, path), lambda path: plotting.samples(vae, path)):
        for path in ("x\0y.png", b"x\0y.png", Path("x\0y.png")):
            with pytest.raises(ValueError, match=r"path must be the name of a file, .* got 'x\\x00y.png'"):
                call(path)
