"""Fault drills: `python tests/long/run.py drills --minutes 10`. Those that mount file systems need root.

Processes are killed while they train and save, disks are full, there is no /dev/shm, home and the working directory
cannot be written, and processes get few files, threads and little memory.
"""

import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import ENVIRONMENT

import cvae

MINUTES = float(os.environ.get("CVAE_LONG_MINUTES", 6))
IMAGES = np.random.default_rng(0).integers(0, 256, (400, 12, 12), dtype=np.uint8)
AGAIN = ("train", "data.npz", "-o", "model", "--batchsize", "16", "--quiet")
TRAIN = (*AGAIN, "--encoder", "mlp", "--T", "2")
ON = (*AGAIN, "--resume", "model")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
NOBODY = 65534


@pytest.fixture
def folder(tmp_path):
    np.savez(tmp_path / "data.npz", x_train=IMAGES[:320], x_test=IMAGES[320:])
    for parent in (tmp_path, *tmp_path.parents[:2]):  # for a user without rights
        parent.chmod(0o755)
    return tmp_path


def start(*arguments, cwd, prefix=(), **options):
    options = {"env": ENVIRONMENT} | options
    python = sys.executable
    if options.get("user") == NOBODY and os.path.realpath(python).startswith("/root/"):
        python = "/usr/bin/python3"  # which others may start
        options["env"] = options["env"] | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(cvae.__path__[0])[:-5], *sys.path)))
        }
    command = [*prefix, python, "-m", "cvae", *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finished(*arguments, **options):
    """Run a command and return its exit code, output and errors; none of them is a traceback."""
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=600)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def assert_one_line(err):
    assert err.startswith("cvae: error: "), err
    assert err.count("\n") == 1, err


def test_killed_again_and_again_training_goes_on(folder):
    """A model is there after the first checkpoint, is whole after each kill, and never goes back."""
    rng, until, kills, batches = random.Random(0), time.monotonic() + 60 * MINUTES / 2, 0, 0
    while time.monotonic() < until or not kills:
        command = ON if (folder / "model").exists() else TRAIN
        process = start(*command, "--epochs", "1000000", "--checkpoint-every", "1b", cwd=folder)
        time.sleep(rng.uniform(0.5, 4))
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err
        kills += 1
        if not (folder / "model").exists():
            continue
        vae = cvae.load(folder / "model")
        trained = len(vae.history_.get("loss", ())) * 20 + (vae._position.batches if vae._position else 0)
        assert trained >= batches
        batches = trained
    code, _, err = finished(*ON, "--epochs", "1", cwd=folder)
    assert code == 0, err
    assert sorted(os.listdir(folder)) == ["data.npz", "model"]
    print(f"{kills} kills, {batches} batches")


def test_each_signal_at_any_time_leaves_a_model_that_goes_on(folder):
    rng, until, n = random.Random(1), time.monotonic() + 60 * MINUTES / 4, 0
    while time.monotonic() < until or not n:
        number = rng.choice((signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
        command = ON if (folder / "model").exists() else TRAIN
        process = start(*command, "--epochs", "1000000", "--checkpoint-every", "1b", cwd=folder)
        while not (folder / "model").exists():
            time.sleep(0.05)
        time.sleep(rng.uniform(1.5, 3))  # the signals are handled from the start of `main`
        process.send_signal(number)
        _, err = process.communicate(timeout=100)
        assert process.returncode == 128 + number, err
        cvae.load(folder / "model")
        n += 1
    print(f"{n} signals")


@needs_root
@pytest.mark.parametrize("kilobytes", [0, 4, 64, 1000])
def test_a_full_disk_keeps_the_older_model_and_saves_elsewhere(folder, kilobytes):
    """A tmpfs of 8 MB, in a mount namespace of its own, of which so much is left."""
    code, _, err = finished(*TRAIN, "--epochs", "1", cwd=folder)
    assert code == 0, err
    (folder / "full").mkdir()
    (folder / "elsewhere").mkdir()
    script = (
        'mount -t tmpfs -o size=8m none full && cp data.npz model full && cp model older && cd full && '
        'free=$(df --output=avail -k . | tail -1) && head -c $(( (free - $1) * 1024 )) /dev/zero > filler; shift; '
        '"$@"; code=$?; rm filler; cmp model ../older && ls -A > ../names; exit $code'
    )  # fmt: skip
    prefix = ("unshare", "-m", "bash", "-c", script, "drill", str(kilobytes))
    code, _, err = finished(
        *ON, "--epochs", "1", prefix=prefix, cwd=folder, env={**ENVIRONMENT, "TMPDIR": f"{folder}/elsewhere"}
    )
    assert code == 2, err
    assert (folder / "names").read_text().split() == ["data.npz", "model"], err
    saved = list((folder / "elsewhere").iterdir())
    if "the model needs" in err:  # said before the training
        assert saved == []
    else:
        assert len(cvae.load(saved[0]).history_["loss"]) == 2


@needs_root
@pytest.mark.parametrize(
    "script",
    [
        "umount -l /dev/shm",
        "mount -t tmpfs -o ro none $HOME",
        "umount -l /dev/shm; umount -l /sys",
    ],
)
def test_without_shared_memory_or_a_home_that_can_be_written(folder, script):
    prefix = ("unshare", "-m", "bash", "-c", f'{script}; exec "$@"', "drill")
    (folder / "home").mkdir()
    environment = {**ENVIRONMENT, "HOME": f"{folder}/home"}
    code, _, err = finished(*TRAIN, "--epochs", "1", prefix=prefix, cwd=folder, env=environment)
    assert code == 0, err
    assert cvae.load(folder / "model").history_["loss"]


@needs_root
def test_a_user_without_rights_gets_one_line_and_loses_nothing(folder):
    code, _, err = finished(*TRAIN, "--epochs", "1", cwd=folder)
    assert code == 0, err
    (folder / "model").chmod(0o600)
    options = {
        "user": NOBODY,
        "cwd": folder,
        "env": {**ENVIRONMENT, "HOME": "/nonexistent", "MPLCONFIGDIR": "/tmp"},  # Matplotlib says where it writes
    }
    before = (folder / "model").read_bytes()
    for arguments in (
        (*TRAIN, "--force"), (*TRAIN[:2], "-o", "other", *TRAIN[4:]), ("evaluate", "model", "data.npz"),
        ("info", "model"), ("demo", "--out", "new"), ("sample", "model", "-o", "new.png"),
    ):  # fmt: skip
        code, out, err = finished(*arguments, **options)
        assert code == 2, (out, err)
        assert_one_line(err)
    assert (folder / "model").read_bytes() == before
    assert sorted(os.listdir(folder)) == ["data.npz", "model"]
    (folder / "model").chmod(0o644)
    code, out, err = finished("evaluate", "model", "data.npz", **options)
    assert code == 0, err


LIMITS = [
    *(("RLIMIT_AS", megabytes << 20) for megabytes in (150, 200, 250, 300, 400, 600, 1000)),
    *(("RLIMIT_NOFILE", n) for n in (4, 6, 8, 12, 16)),
    *(("RLIMIT_STACK", n << 10) for n in (64, 128, 512)),
    *(("RLIMIT_DATA", megabytes << 20) for megabytes in (50, 100, 200)),
]


@pytest.mark.parametrize(("name", "value"), LIMITS)
def test_small_limits_end_in_a_model_or_without_harm(folder, name, value):
    """What cannot even import NumPy ends as the interpreter and its libraries have it; the older model stays."""
    (folder / "older").write_bytes(b"somebody's")

    def before():
        resource.setrlimit(getattr(resource, name), (value, value))

    process = start(
        *TRAIN, "--epochs", "1", cwd=folder, preexec_fn=before, env={**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"}
    )
    _, err = process.communicate(timeout=600)
    print(f"{name} {value}: exit code {process.returncode}: {err.strip().splitlines()[-1:] or ''}")
    names = sorted(os.listdir(folder))
    if process.returncode == 0:
        assert cvae.load(folder / "model").history_["loss"]
    else:
        assert names == ["data.npz", "older"]
        if "cvae: error" in err:
            assert_one_line(err)
        else:
            assert "Error" in err or process.returncode < 0 or "libgomp" in err or "cannot" in err


@needs_root
@pytest.mark.parametrize("n", [1, 2, 3])
def test_where_no_threads_can_be_started(folder, n):
    """`ulimit -u`, which holds for users without rights; OpenMP's library ends the process, or one thread does all."""
    folder.chmod(0o777)
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "2", "HOME": "/nonexistent", "OPENBLAS_NUM_THREADS": "1"}

    def before():
        resource.setrlimit(resource.RLIMIT_NPROC, (n, n))

    process = start(*TRAIN, "--epochs", "1", cwd=folder, user=NOBODY, preexec_fn=before, env=environment)
    _, err = process.communicate(timeout=600)
    print(f"RLIMIT_NPROC {n}: exit code {process.returncode}: {err.strip()}")
    assert "Traceback" not in err
    if process.returncode == 0:
        assert cvae.load(folder / "model").history_["loss"]
    else:
        assert os.listdir(folder) == ["data.npz"]
