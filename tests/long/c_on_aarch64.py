"""Exported C files on AArch64: compiled by a cross compiler and run by an emulator.

    apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
    python -m pytest tests/long/c_on_aarch64.py

Not part of the usual run, which need not have these packages.
"""

import subprocess

import numpy as np
import pytest
from export_cases import CASES, images, terms_at_the_mean, trained

from cvae.export import to_c

PROGRAM = """
#include <stdio.h>
#define CVAE_DECLARATIONS
#include "model.c"
enum { PIXELS = CVAE_ROWS * CVAE_COLS * CVAE_CHANNELS };
static REAL image[PIXELS], out[PIXELS], mean[CVAE_T], log_var[CVAE_T], scratch[CVAE_SCRATCH];
int main(void) {
    while (fread(image, sizeof(REAL), PIXELS, stdin) == PIXELS) {
        REAL elbo;
        cvae_encode(image, mean, log_var, scratch);
        cvae_reconstruct(image, out, scratch);
        elbo = (REAL)cvae_elbo(image, NULL, scratch);
        fwrite(mean, sizeof(REAL), CVAE_T, stdout);
        fwrite(log_var, sizeof(REAL), CVAE_T, stdout);
        fwrite(out, sizeof(REAL), PIXELS, stdout);
        fwrite(&elbo, sizeof(REAL), 1, stdout);
    }
    return 0;
}
"""


def assert_close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.labels is None and name != "auto"])
def test_an_emulated_processor_computes_what_the_model_does(name, tmp_path):
    vae, X = trained(name), images(CASES[name])
    if X.dtype == np.uint8:
        X = (X / 255 if vae.value_range is None else X).astype(vae.dtype)
    to_c(vae, tmp_path / "model.c")
    (tmp_path / "main.c").write_text(PROGRAM)
    real = "float" if vae.dtype == "float32" else "double"
    command = ["aarch64-linux-gnu-gcc", "-std=c99", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-DREAL={real}"]
    subprocess.run([*command, "main.c", "model.c", "-static", "-o", "run", "-lm"], cwd=tmp_path, check=True)
    finished = subprocess.run(
        ["qemu-aarch64", tmp_path / "run"], input=X.astype(vae.dtype).tobytes(), capture_output=True, check=True
    )
    rows = np.frombuffer(finished.stdout, vae.dtype).reshape(len(X), -1)
    mean, log_var, out, elbo = np.split(rows, [vae.T, 2 * vae.T, 2 * vae.T + X[0].size], axis=1)
    for got, expected in zip((mean, log_var), vae.encode(X), strict=True):
        assert_close(got, expected)
    assert_close(out.reshape(X.shape), vae.reconstruct(X))
    assert_close(elbo[:, 0], -sum(terms_at_the_mean(vae, X)))
