"""Faults of the machine: processes that are killed while saving, full disks, other locales, small limits.

`python tests/long/run.py drills` has those that take longer or need root.
"""

import itertools
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from command_line import ENVIRONMENT
from small_vae import random_images, small_vae

import cvae
from cvae import explorer, export, plotting
from cvae.io import files

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 9, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def vae():
    return small_vae().fit(random_images(), n_epochs=1)


# ------------------------------------------------------------------ killed while saving


def killed_at(number, action):
    """Do something in a fork that is killed at the given one of its calls to the system; return whether it was."""
    child = os.fork()
    if not child:
        counter = itertools.count(1)

        def counted(call):
            def replacement(*arguments, **options):
                if next(counter) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **options)

            return replacement

        for name in ("open", "fsync", "replace", "close", "stat", "scandir"):
            setattr(os, name, counted(getattr(os, name)))
        action()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_killed_at_any_moment_of_saving_an_older_or_the_new_model_is_there(vae, tmp_path):
    path = tmp_path / "model.safetensors"
    small_vae(random_state=5).fit(random_images(), n_epochs=1).save(path)
    older = path.read_bytes()
    vae.save(tmp_path / "new")
    newer = (tmp_path / "new").read_bytes()
    (tmp_path / "new").unlink()
    found = []
    for number in itertools.count(1):
        path.write_bytes(older)
        was_killed = killed_at(number, lambda: vae.save(path))
        found.append(path.read_bytes())
        assert found[-1] in (older, newer)
        if not was_killed:
            break
    assert len(found) > 5
    assert found[0] == older
    assert found[-1] == newer
    assert os.listdir(tmp_path) == [path.name]  # by the last, which removed what the others left


# ------------------------------------------------------------------------- full disks

WRITERS = {
    "save": (lambda vae, path: vae.save(path), ""),
    "state dict": (export.to_torch_file, ".safetensors"),
    "npz": (export.to_npz, ".npz"),
    "c": (export.to_c, ".c"),
    "onnx": (export.to_onnx, ".onnx"),
    "page": (explorer.write, ".html"),
    "picture": (lambda vae, path: plotting.samples(vae, path, n=4), ".png"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_older_file(vae, tmp_path, name):
    """A limit on the size of files is what is full, at the first byte or later."""
    write, ending = WRITERS[name]
    path = tmp_path / f"file{ending}"
    path.write_bytes(b"older")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 1, 1000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                write(vae, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.filename == str(path)
        assert path.read_bytes() == b"older"
        assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("call", ["chmod", "fchmod", "fsync"])
def test_a_file_system_that_refuses_permissions_or_syncing_is_written_to(vae, tmp_path, monkeypatch, call):
    """As CIFS, FUSE and some network file systems do."""
    path = tmp_path / "model"
    vae.save(path)
    error = OSError(95, "Operation not supported")

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(os, call, refuse)
    monkeypatch.setattr(files, "fcntl", None)  # nor has it locks
    vae.save(path)
    assert cvae.load(path).history_["loss"]
    assert os.listdir(tmp_path) == [path.name]


# --------------------------------------------------------------- locales and small limits


@pytest.fixture(scope="module")
def place(tmp_path_factory, vae):
    """A folder whose name, like those of the files in it, is no text in any encoding."""
    folder = os.fsdecode(bytes(tmp_path_factory.mktemp("faults")) + b"/d\xe8s\xff")
    os.mkdir(folder)
    np.savez(os.path.join(folder, "d\udcff.npz"), x_train=IMAGES[:16], x_test=IMAGES[16:])
    vae.save(os.path.join(folder, "mod\udce8le"))
    return folder


def run(arguments, folder, limit=None, **environment):
    """Run a command with a limit of the process, (name, value), and return its exit code and streams."""

    def before():
        if limit:
            resource.setrlimit(getattr(resource, limit[0]), (limit[1], limit[1]))

    command = [sys.executable, "-m", "cvae", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**ENVIRONMENT, **environment}, preexec_fn=before, capture_output=True, timeout=300
    )


TRAIN = ("train", "d\udcff.npz", "-o", "new\udce8", "--encoder", "mlp", "--epochs", "1")


@pytest.mark.parametrize(
    "arguments", [TRAIN, ("evaluate", "mod\udce8le", "d\udcff.npz"), ("sample", "mod\udce8le", "-o", "p\udce8.png")]
)
def test_locales_without_letters_take_any_name(place, arguments):
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(arguments, place, **ascii_only)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout.isascii()
    assert done.stderr.isascii()
    for name in ("new\udce8", "p\udce8.png"):
        if name in arguments:
            os.unlink(os.path.join(place, name))


@pytest.mark.parametrize(
    "limit",
    [("RLIMIT_NOFILE", 12), ("RLIMIT_STACK", 256 << 10), ("RLIMIT_AS", 420 << 20), ("RLIMIT_CORE", 0)],
    ids=lambda limit: limit[0],
)
def test_small_limits_end_in_a_model_or_in_one_line(place, limit):
    done = run((*TRAIN, "--quiet"), place, limit, OPENBLAS_NUM_THREADS="1")
    path = os.path.join(place, "new\udce8")
    assert b"Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 2, done.stderr
        assert done.stderr.count(b"\n") == 1
        assert done.stderr.startswith(b"cvae: error: ")
        assert not os.path.lexists(path)
    else:
        assert cvae.load(path).history_["loss"]
        os.unlink(path)
