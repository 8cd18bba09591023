"""Each allocation of more than 512 bytes in training and inference fails once: MemoryError, and the model is as it was
or, if its training had begun, goes on.

    python -m pytest tests/long/failing_allocations.py

Takes a C compiler and Linux, whose loader puts another malloc before that of the C library.
"""

import subprocess
import sys

import pytest
from small_vae import subprocess_environment

MALLOC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
static long left = -1, seen;
void fail_at(long n) { left = n; seen = 0; }
long counted(void) { return seen; }
static int fails(size_t size) {
    if (size <= 512) return 0;
    __atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
    return left > 0 && __atomic_sub_fetch(&left, 1, __ATOMIC_RELAXED) == 0;
}
static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }
void *malloc(size_t size) {
    static void *(*real)(size_t);
    if (!real) real = next("malloc");
    return fails(size) ? NULL : real(size);
}
extern void *__libc_calloc(size_t, size_t);
void *calloc(size_t n, size_t size) { return fails(n * size) ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t size) {
    static void *(*real)(void *, size_t);
    if (!real) real = next("realloc");
    return fails(size) ? NULL : real(old, size);
}
"""
PROGRAM = """
import ctypes, gc, sys
import numpy as np
import cvae

lib = ctypes.CDLL(sys.argv[1])
lib.fail_at.argtypes, lib.counted.restype = [ctypes.c_long], ctypes.c_long
X = np.random.default_rng(0).random((20, 9, 8, 1), np.float32)

def model():
    return cvae.BernoulliVAE(
        T=2, latent_dim=8, enc_conv1_out_ch=4, enc_conv2_out_ch=6, enc_conv1_kernel_shape=3, enc_conv2_kernel_shape=2,
        optimizer="Adam", batchsize=8, n_epochs=1, random_state=0, verbose=False, n_threads=1,
    )

def bits(vae):
    layers = vae._layers().values() if "encoder_" in vars(vae) else ()
    arrays = [array for layer in layers for array in layer.parameters.values() if array is not None]
    return [array.tobytes() for array in arrays]

OPERATIONS = {
    "fit": lambda vae: vae.fit(X),
    "encode": lambda vae: vae.encode(X),
    "reconstruct": lambda vae: vae.reconstruct(X),
    "log_likelihood": lambda vae: vae.log_likelihood(X[:3], n_samples=4),
    "sample": lambda vae: vae.sample(5, random_state=0),
}
name, state = sys.argv[2:4]
operation = OPERATIONS[name]

def start():
    return model() if state == "new" else model().fit(X[:10])

def outcome(vae):
    result = operation(vae)
    return bits(vae) if result is vae else np.concatenate([np.ravel(each) for each in np.atleast_1d(result)]).tobytes()

for _ in range(3):
    expected = outcome(start())
    vae = start()
    lib.fail_at(0)
    operation(vae)
    total = lib.counted()
errors = others = 0
k = 0
while k < total + 20:
    k += 1
    vae = start()
    before = bits(vae)
    gc.disable()
    lib.fail_at(k)
    try:
        operation(vae)
        failed = False
    except (MemoryError, SystemError):  # SystemError: the interpreter's own parser
        failed = True
    finally:
        lib.fail_at(0)
        gc.enable()
    if not failed:
        others += 1
        continue
    errors += 1
    if bits(vae) == before:
        if (state == "new" or name != "fit") and outcome(vae) != expected:
            print("another result after the failure", k)
    elif name != "fit":
        print("changed", k)
    elif not any(layer.optimizer.cur_step for layer in vae._layers().values()):
        print("changed before the first step", k)
    elif not np.isfinite(vae.fit(X).elbo(X)).all():
        print("cannot go on", k)
print("end", errors, others)
"""


OPERATIONS = [
    ("fit", "new"),
    *((name, "trained") for name in ("fit", "encode", "reconstruct", "log_likelihood", "sample")),
]


@pytest.fixture(scope="module")
def malloc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("malloc")
    (folder / "malloc.c").write_text(MALLOC)
    command = ["cc", "-O1", "-shared", "-fPIC", "-fno-builtin", "-o", folder / "malloc.so", folder / "malloc.c", "-ldl"]
    subprocess.run(command, check=True)
    return str(folder / "malloc.so")


@pytest.mark.skipif(sys.platform != "linux", reason="the loader of Linux")
@pytest.mark.parametrize(("operation", "state"), OPERATIONS)
def test_a_failed_allocation_is_a_memory_error_and_changes_nothing(malloc, operation, state):
    environment = {**subprocess_environment(), "LD_PRELOAD": malloc, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PROGRAM, malloc, operation, state], env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *wrong, end = done.stdout.splitlines()
    assert wrong == []
    assert int(end.split()[1]) > 2  # of which a sample of few images has three
    print(end)
