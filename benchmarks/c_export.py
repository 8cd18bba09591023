"""Latency of one image: an exported C file against ONNX Runtime with the exported graphs, and TensorFlow Lite.

    python benchmarks/c_export.py [--model MODEL] [--flags "-O3 -march=native"] [--rounds 40]

All run on one thread, in rounds of `CALLS` calls each, and in turn, so that a drifting machine speed favours none. They
are called from Python: the C functions through ctypes, ONNX Runtime with inputs and outputs bound beforehand,
TensorFlow Lite, where TensorFlow is installed, with inputs in place. Before they are timed, their results are compared.
The table shows the median and the 99th percentile of all calls, in microseconds, and how many times faster the C file
is in each.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import cvae
from cvae.export import to_c
from cvae.export.onnx import onnx_model

CALLS, UNTIMED = 200, 20  # of each side in a round; its first calls bring the weights into the caches
PARTS = {"encode": "encoder", "decode": "decoder", "reconstruct": "reconstruction", "elbo": "score"}

Run = Callable[[], object]


def networks() -> dict[str, cvae.VAE]:
    """Return models of digits, trained for a moment, so that activations are as sparse as usual."""
    digits = cvae.datasets.load("mnist-sample").images[:2048]
    common = {"random_state": 0, "verbose": False}
    models = {
        "numpy-ml": cvae.BernoulliVAE(optimizer="Adam(lr=0.001)", **common),
        "auto": cvae.VAE(**common),
        "mlp": cvae.VAE("mlp", T=50, **common),
    }
    return {name: model.fit(digits, n_epochs=1) for name, model in models.items()}


def c_functions(vae: cvae.VAE, image: np.ndarray, z: np.ndarray, folder: Path, command: list[str]) -> dict[str, Run]:
    """Return a call of each function of the exported file; the call returns the first array that it writes."""
    to_c(vae, folder / "model.c")
    subprocess.run([*command, "-shared", "-fPIC", folder / "model.c", "-o", folder / "model.so", "-lm"], check=True)
    library = ctypes.CDLL(str(folder / "model.so"))
    library.cvae_elbo.restype = ctypes.c_double
    size = re.search(r"#define CVAE_SCRATCH (\d+)", (folder / "model.c").read_text())
    assert size is not None
    scratch, mean, log_var = (np.zeros(int(n), np.float32) for n in (size[1], vae.T, vae.T))
    decoded, reconstruction = (np.zeros_like(image) for _ in range(2))

    def run(name: str, *arrays: np.ndarray | None, result: np.ndarray | None = None) -> Run:
        function = getattr(library, f"cvae_{name}")
        arguments = [None if each is None else ctypes.c_void_p(each.ctypes.data) for each in (*arrays, scratch)]

        def call() -> object:
            value = function(*arguments)
            return value if result is None else result

        call.arrays = arrays, scratch  # type: ignore[attr-defined]  # which the pointers do not keep alive
        return call

    return {
        "encode": run("encode", image, mean, log_var, result=mean),
        "decode": run("decode", z, decoded, result=decoded),
        "reconstruct": run("reconstruct", image, reconstruction, result=reconstruction),
        "elbo": run("elbo", image, None),
    }


class Bound:
    """A session of ONNX Runtime with its input and outputs."""

    def __init__(self, session: onnxruntime.InferenceSession, given: np.ndarray) -> None:
        self._session, self._binding = session, session.io_binding()
        self._binding.bind_cpu_input(session.get_inputs()[0].name, given)
        for output in session.get_outputs():
            self._binding.bind_output(output.name)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def result(self) -> np.ndarray:
        """Return the first output of the last call."""
        result: np.ndarray = self._binding.copy_outputs_to_cpu()[0]
        return result


def onnx_functions(vae: cvae.VAE, image: np.ndarray, z: np.ndarray) -> dict[str, Bound]:
    """Return the same with ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    runs = {}
    for name, part in PARTS.items():
        model = onnx_model(vae, part).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        runs[name] = Bound(session, z if name == "decode" else image)
    return runs


def peers_of(vae: cvae.VAE, image: np.ndarray, z: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return the functions of each peer by its name."""
    found: dict[str, dict[str, Any]] = {"ONNX Runtime": onnx_functions(vae, image, z)}
    if importlib.util.find_spec("tensorflow"):
        from peers.tflite_peer import tflite_functions

        found["TensorFlow Lite"] = dict(tflite_functions(vae, image, z))
    return found


def timed(call: Run) -> list[int]:
    """Return the nanoseconds of `CALLS` calls."""
    for _ in range(UNTIMED):
        call()
    times = []
    for _ in range(CALLS):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return times


def compare(name: str, vae: cvae.VAE, command: list[str], rounds: int) -> None:
    digits = cvae.datasets.load("mnist-sample").test_images
    image = np.ascontiguousarray(digits[:1], np.float32) / 255
    z = vae.transform(image)
    with tempfile.TemporaryDirectory() as folder:
        ours, peers = c_functions(vae, image, z, Path(folder), command), peers_of(vae, image, z)
        for function in PARTS:
            got, theirs = ours[function](), {peer: functions[function] for peer, functions in peers.items()}
            for call in theirs.values():
                call()
                np.testing.assert_allclose(np.ravel(got), np.ravel(call.result()), rtol=1e-5, atol=1e-5)
            times: dict[str, list[int]] = {"C": [], **{peer: [] for peer in peers}}
            for _ in range(rounds):
                for side, call in {"C": ours[function], **theirs}.items():
                    times[side] += timed(call)
            c, *others = (np.percentile(each, [50, 99]) / 1e3 for each in times.values())
            for peer, other in zip(peers, others, strict=True):
                print(
                    f"| {name} | {function} | {peer} | {c[0]:.1f} | {other[0]:.1f} | {other[0] / c[0]:.1f} "
                    f"| {c[1]:.1f} | {other[1]:.1f} | {other[1] / c[1]:.1f} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time an exported C file against other runtimes, one image at a time.")
    parser.add_argument("--model", metavar="FILE", help="a model of 28x28 images (default: three networks)")
    parser.add_argument("--flags", default="-O3 -march=native", help="of the compiler (default: %(default)s)")
    parser.add_argument("--compiler", default="gcc", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=40, help="default: %(default)s")
    args = parser.parse_args()
    models = networks() if args.model is None else {Path(args.model).name: cvae.load(args.model)}
    print("| model | function | peer | C, us | peer | times faster | C, p99 | peer | times faster |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, vae in models.items():
        compare(name, vae, [args.compiler, "-std=c99", *shlex.split(args.flags)], args.rounds)


if __name__ == "__main__":
    main()
