"""All instruction sets of this CPU: equal results up to rounding, and a clear error for an unknown name."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cvae._kernels import dispatch

TESTS = Path(__file__).parents[1]
# Those whose inner loops depend on the vector width.
KERNEL_TESTS = ["conv2d", "conv_transpose2d", "winograd", "dense", "pool2d", "activations", "normalization"]

# Computations with sizes that end within vectors, panels, tiles and blocks, written to an .npz file.
COMPUTE = """
import sys
import numpy as np
import cvae
from cvae._kernels import dispatch
from cvae.layers import BatchNorm2D, Conv2D, ConvTranspose2D, Flatten, FullyConnected, GroupNorm, Pool2D, Residual
from cvae.layers import Upsample2D

results = {"name": dispatch.instruction_set()}
rng = np.random.default_rng(0)
images, digits = rng.normal(size=(5, 17, 15, 3)), rng.random((40, 12, 12, 1))
for dtype in ("float32", "float64"):
    kind = {"dtype": dtype, "random_state": 0}
    X = images
    layers = [
        Conv2D(19, (3, 4), pad=(1, 0, 2, 1), act_fn="ReLU", algorithm="winograd", **kind),
        Pool2D((2, 3), stride=2, pad=1, dtype=dtype),
        BatchNorm2D(act_fn="ReLU", dtype=dtype),
        Residual([GroupNorm(1, act_fn="ReLU"), "Conv2D(19, 3, pad='same')"], **kind),
        Conv2D(37, 2, act_fn="ReLU", algorithm="winograd", **kind),
        Conv2D(33, 2, stride=2, dilation=1, act_fn="ReLU", **kind),
        ConvTranspose2D(21, (3, 2), 2, (1, 0), act_fn="ReLU", **kind),
        ConvTranspose2D(3, (2, 3), act_fn="ReLU", algorithm="winograd", **kind),
        Upsample2D((1, 2), "bilinear", dtype=dtype),
        Pool2D(2, mode="average", dtype=dtype),
        Flatten(dtype=dtype),
        FullyConnected(21, act_fn="Sigmoid", **kind),
    ]
    for i, layer in enumerate(layers):
        X = results[f"{dtype}/output {i}"] = layer.forward(X)
    dY = np.cos(X)
    for i, layer in reversed(list(enumerate(layers))):
        dY = results[f"{dtype}/input gradient {i}"] = layer.backward(dY)
        for name, gradient in layer.gradients.items():
            results[f"{dtype}/gradient of {name} {i}"] = gradient
    vae = cvae.BernoulliVAE(
        T=3, latent_dim=20, enc_conv1_out_ch=5, enc_conv2_out_ch=7, enc_conv1_kernel_shape=3, enc_conv2_kernel_shape=3,
        optimizer="Adam(lr=0.001)", n_epochs=3, batchsize=16, dtype=dtype, random_state=0, verbose=False,
    ).fit(digits)
    results[f"{dtype}/losses of fit"] = np.array(vae.history_["loss"])
    results[f"{dtype}/codes after fit"] = vae.transform(digits)
    results[f"{dtype}/ELBO after fit"] = vae.elbo(digits)
np.savez(sys.argv[1], **results)
"""


def run_with(instruction_set, *arguments):
    environment = {**os.environ, "CVAE_SIMD": instruction_set, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=300
    )


def computed_with(instruction_set, folder):
    path = folder / f"{instruction_set}.npz"
    done = run_with(instruction_set, "-W", "error", "-c", COMPUTE, path)
    assert done.returncode == 0, done.stderr
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    return computed_with("baseline", tmp_path_factory.mktemp("baseline"))


def test_the_names_and_their_order():
    names = dispatch.available()
    assert names == ("baseline", "avx2", "avx512")[: len(names)]
    assert dispatch.instruction_set() == (os.environ.get("CVAE_SIMD") or names[-1])


@pytest.mark.parametrize("instruction_set", dispatch.available())
def test_results_agree_to_rounding(instruction_set, baseline, tmp_path):
    results = computed_with(instruction_set, tmp_path)
    assert results.pop("name") == instruction_set
    assert results.keys() == baseline.keys() - {"name"}
    for name, array in results.items():
        # Relative to the largest element; Winograd's algorithm has larger rounding errors than the others.
        tolerance = {"float32": 3e-5, "float64": 5e-14}[name.split("/")[0]]
        limit = tolerance * np.abs(baseline[name]).max()
        np.testing.assert_allclose(array, baseline[name], rtol=0, atol=limit, err_msg=name)


@pytest.mark.parametrize(
    "instruction_set", [name for name in dispatch.available() if name != dispatch.instruction_set()]
)
def test_the_other_instruction_sets_pass_the_tests_of_the_kernels(instruction_set):
    """Corner cases, because the sizes of panels and tiles depend on the instruction set, and rounding errors."""
    files = [TESTS / "kernels" / f"test_{name}.py" for name in KERNEL_TESTS]
    selected = ["-k", "corners or all_passes or formula", "-q", "-p", "no:cacheprovider"]
    done = run_with(instruction_set, "-m", "pytest", *selected, *files)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx2 ", "0"])
def test_an_unknown_name_is_an_import_error_of_one_sentence(name):
    done = run_with(name, "-c", "import cvae")
    assert done.returncode == 1
    names = ", ".join(dispatch.available())
    expected = f"ImportError: CVAE_SIMD must be one of {names} on this CPU, got {name!r}"
    assert done.stderr.splitlines()[-1] == expected


def test_an_empty_name_means_the_best():
    done = run_with("", "-c", "from cvae._kernels import dispatch; print(dispatch.instruction_set())")
    assert done.stdout.strip() == dispatch.available()[-1], done.stderr
