"""A process that reads changed files until its time is over: `python fuzz_worker.py FOLDER MINUTES [KIND ...]`.

Kinds of files take turns, each in a forked process for some seconds of the processor.
Inputs are made by atheris (coverage-guided; `pip install atheris`), or, where that is missing, from the sound files by
chance. The folder keeps what was learnt, so that a later run goes on; in its folder of a kind

- ``corpus/`` holds the inputs that reached new code,
- ``count`` the numbers of inputs read and refused so far,
- ``findings/`` the inputs whose errors were none of those allowed, each with its traceback,
- ``now/`` the input that is being read: if the process dies, that is what killed it.

Allowed are ValueErrors of one line that name the file, OSErrors, and files that are read. An input may take ten seconds
of the processor and one gigabyte; it may open no file but its own, start nothing and connect to nothing.
"""

import contextlib
import hashlib
import itertools
import os
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
try:
    import atheris
except ImportError:
    atheris = None

import h5py  # noqa: F401
import numpy as np
import zarr  # noqa: F401

INSTRUMENTED = ["cvae.data", "cvae.io", "cvae.parsing", "cvae.checking", "cvae.cli.models", "PIL", "zipfile", "tomllib"]
with atheris.instrument_imports(include=INSTRUMENTED) if atheris else contextlib.nullcontext():
    import tomllib  # noqa: F401
    import zipfile  # noqa: F401

    from damage import CONFIGS, SOUND, changed, models, seeded

    import cvae
    from cvae.cli.models import new_model

PICTURES = [name for name in SOUND if not name.endswith((".png", ".tif")) and not name.startswith("idx")]
# By kind: the name of the file, and the sound contents. A picture's format is told by its content.
KINDS = {
    "model": ("a.safetensors", list(models().values())),
    "png": ("a.png", [SOUND["a.png"], SOUND["deep.png"]]),
    "tiff": ("a.tif", [SOUND["a.tif"], SOUND["lzw.tif"], SOUND["deep.tif"]]),
    "pictures": ("a.jpg", [SOUND[name] for name in PICTURES[: PICTURES.index("a.npy")]]),
    "npy": ("a.npy", [SOUND["a.npy"]]),
    "npz": ("a.npz", [SOUND["a.npz"], SOUND["deflated.npz"]]),
    "idx": ("idx", [SOUND["idx"]]),
    "idx-gz": ("idx.gz", [SOUND["idx.gz"]]),
    "table": ("a.csv", [SOUND["a.csv"], SOUND["words.tsv"]]),
    "hdf5": ("a.h5", [SOUND["a.h5"]]),
    "zarr": ("a.zarr.zip", [SOUND["a.zarr.zip"]]),
    "config": ("a.toml", list(CONFIGS)),
}
SLICE, SECONDS, BYTES = 5, 10, 1 << 30  # of a turn, of an input
FORBIDDEN = (  # events of Python's audit hooks, by their beginnings
    "subprocess", "os.system", "os.exec", "os.fork", "os.spawn", "os.posix_spawn", "socket.connect", "socket.bind",
    "socket.getaddrinfo", "pickle", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink",
    "os.truncate", "os.chmod", "shutil", "ctypes",
)  # fmt: skip


class Escaped(BaseException):
    """An input made the process do something that no file is to do; no handler of exceptions takes it."""


class Worker:
    def __init__(self, kind, folder):
        name, self.seeds = KINDS[kind]
        self.kind, self.folder, self.name = kind, Path(folder), name
        for each in ("corpus", "findings", "now"):
            (self.folder / each).mkdir(parents=True, exist_ok=True)
        for seed in self.seeds:
            (self.folder / "corpus" / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
        self.path = self.folder / "now" / name
        self._allowed = (
            str(self.path),
            *map(os.path.realpath, (sys.prefix, sys.base_prefix, cvae.__path__[0])),
            "/usr",
            "/proc",
            "/sys",
        )
        self._descriptor = os.open(self.folder / "count", os.O_RDWR | os.O_CREAT, 0o666)
        content = os.pread(self._descriptor, 16, 0)
        self.read, self.refused = struct.unpack("<QQ", content) if len(content) == 16 else (0, 0)
        self._watched, self.until = False, 0.0
        sys.addaudithook(self._audit)

    def _audit(self, event, arguments):
        if not self._watched:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = (mode and any(letter in mode for letter in "wax+")) or (flags or 0) & (
                os.O_WRONLY | os.O_RDWR | os.O_CREAT
            )
            name = path if isinstance(path, int) else os.fsdecode(path)
            if isinstance(name, str) and (writes or not name.startswith(self._allowed)) and name != os.devnull:
                self._escaped(event, arguments)
        elif event.startswith(FORBIDDEN):
            self._escaped(event, arguments)

    def _escaped(self, event, arguments):
        self._watched = False
        raise Escaped(f"{event} {arguments}")

    def take(self, content):
        """Read one input, and keep it if the outcome is none of those allowed."""
        self.path.unlink(missing_ok=True)  # as an array that was mapped to memory may still exist
        self.path.write_bytes(content)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)  # whose signal ends the process
        if self.until and time.process_time() > self.until:
            os._exit(0)
        self._watched = True
        try:
            self._use()
            self.read += 1
        except Exception as error:
            self._watched = False
            self.refused += 1
            if not self._is_allowed(error):
                self._keep(content, traceback.format_exc())
        except Escaped:
            self._keep(content, traceback.format_exc())
        finally:
            self._watched = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        os.pwrite(self._descriptor, struct.pack("<QQ", self.read, self.refused), 0)

    def _use(self):
        if self.kind == "model":
            vae = cvae.load(self.path)
            if vae.T * vae.batchsize < 1e6:
                vae.decode(np.zeros((1, vae.T)), None if vae.condition is None else self._label(vae))
            return
        if self.kind == "config":
            new_model({}, str(self.path))
            return
        dataset = cvae.datasets.load(self.path)
        assert dataset.images.ndim == 4
        assert dataset.images.size
        dataset.images.max()

    def _label(self, vae):
        return vae.classes_[:1] if vae.condition == "classes" else np.zeros((1, vae._label_kind.n_labels))

    def _is_allowed(self, error):
        if isinstance(error, OSError):
            return True
        message = str(error)
        named = message.startswith(str(self.path)) or self.kind == "config"
        return type(error) is ValueError and named and "\n" not in message

    def _keep(self, content, trace):
        *_, last = trace.strip().splitlines()
        places = [line for line in trace.splitlines() if line.startswith("  File ")]
        key = hashlib.sha1(f"{places[-1:]}{last.partition(':')[0]}".encode()).hexdigest()[:12]
        (self.folder / "findings" / key).write_bytes(content)
        (self.folder / "findings" / f"{key}.txt").write_text(trace, errors="backslashreplace")


def limit_memory():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES,) * 2)


def by_chance(worker):
    rng = seeded(time.time_ns())
    while True:
        worker.take(changed(worker.name, rng.choice(worker.seeds), rng))


def by_coverage(worker):
    def mutate(content, max_size, seed):
        rng = seeded(seed)
        if rng.random() < 0.5 and content:
            return changed(worker.name, content, rng)[:max_size]
        return atheris.Mutate(content, max_size)

    options = ["-timeout=1000000", "-rss_limit_mb=0", "-max_len=32768", "-print_final_stats=0", "-verbosity=0"]
    options += [f"-handle_{name}=0" for name in ("segv", "bus", "abrt", "fpe", "ill", "term")]
    atheris.Setup([sys.argv[0], *options, str(worker.folder / "corpus")], worker.take, custom_mutator=mutate)
    atheris.Fuzz()


def run(kind, folder):
    """Read files of a kind for a slice of time, in a process that a file may kill."""
    worker = Worker(kind, folder)
    for seed in worker.seeds:  # which also imports all that is imported at the first use
        worker.take(seed)
    limit_memory()
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    worker.until = time.process_time() + SLICE
    (by_coverage if atheris else by_chance)(worker)


def keep_culprit(folder, status):
    """Keep the input that a process was reading when it ended by a signal, or otherwise than its time."""
    (culprit,) = (folder / "now").iterdir()
    path = folder / "findings" / f"ended-{os.waitstatus_to_exitcode(status)}-{time.time_ns()}"
    shutil.copy(culprit, path)
    path.with_suffix(".txt").write_text(f"the process ended with {os.waitstatus_to_exitcode(status)}")


def main():
    folder, minutes, *kinds = sys.argv[1:]
    warnings.simplefilter("ignore")
    cvae.set_num_threads(1)
    until = time.monotonic() + 60 * float(minutes)
    for kind in itertools.cycle(kinds or KINDS):
        child = os.fork()
        if not child:
            run(kind, Path(folder, kind))
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            time.sleep(0.2)
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return
        if ended[1] != 0:
            keep_culprit(Path(folder, kind), ended[1])


if __name__ == "__main__":
    main()
