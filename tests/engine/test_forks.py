"""Forked processes: children train on several threads, with the same bits, and nothing hangs."""

import os
import subprocess
import sys

import pytest
from small_vae import subprocess_environment

from cvae._kernels import dispatch

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this operating system has no fork")

# `same` trains a model, large enough for threads to share the work, and compares it with what the parent got.
START = """
import ctypes, os, signal, sys, threading, time
import numpy as np
import cvae

signal.alarm(100)  # a process that hangs ends here
cvae.set_num_threads(3)
X = np.random.default_rng(0).random((64, 12, 12, 1))

def model(**changes):
    how = {"T": 2, "latent_dim": 64, "enc_conv1_out_ch": 8, "enc_conv2_out_ch": 8, "enc_conv1_kernel_shape": 3}
    how |= {"enc_conv2_kernel_shape": 3, "n_epochs": 2, "batchsize": 32, "random_state": 0, "verbose": False}
    return cvae.BernoulliVAE(**how | changes)

def bits(vae):
    return vae.elbo(X).tobytes()

def fitted():
    return bits(model().fit(X))

expected = fitted()

def same(_=0):
    return fitted() == expected

def in_child(function, fork=os.fork):
    pid = fork()
    if pid == 0:
        signal.alarm(60)
        result = False
        try:
            result = function()
        finally:
            os._exit(0 if result else 1)
    return pid

def ended_well(pid):
    return os.waitpid(pid, 0)[1] == 0
"""


def run(code):
    """Return what a program that begins with START prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START + code], env=subprocess_environment(), capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_child_has_its_parents_number_of_threads_and_its_bits():
    code = """
def train():
    return same() and cvae.get_num_threads() == THREADS and same()
print(ended_well(in_child(train)), same(), ended_well(in_child(train)))
"""
    assert run(code.replace("THREADS", "3" if dispatch.has_openmp() else "1")) == ["True"] * 3


@pytest.mark.skipif(sys.platform != "linux" or not dispatch.has_openmp(), reason="where Linux lists OpenMP's threads")
def test_a_child_uses_several_threads():
    code = """
def threads():
    return same() and len(os.listdir("/proc/self/task")) >= 3
print(ended_well(in_child(threads)))
"""
    assert run(code) == ["True"]


def test_children_of_children_and_threads_of_children():
    code = """
def threads():
    results = []
    workers = [threading.Thread(target=lambda: results.append(same())) for _ in range(2)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    return results == [True, True] and same()
def grandchild():
    return same() and ended_well(in_child(lambda: same() and ended_well(in_child(threads)) and same())) and same()
print(ended_well(in_child(grandchild)), same())
"""
    assert run(code) == ["True", "True"]


def test_a_fork_that_python_does_not_know_of():
    code = """
print(ended_well(in_child(same, ctypes.CDLL(None).fork)), same())
"""
    assert run(code) == ["True", "True"]


def test_a_child_of_a_thread_and_one_that_forks_within_fit():
    code = """
children, others = [], []
thread = threading.Thread(target=lambda: others.append((same(), ended_well(in_child(same)), same())))
thread.start()
thread.join()
parent = os.getpid()
def fork(vae, *_):
    if os.getpid() == parent: children.append(os.fork())
ok = bits(model().fit(X, callbacks=[fork])) == expected  # the children go on with this very training
if os.getpid() != parent: os._exit(0 if ok and same() else 1)
print(*others[0], ok, len(children), all(map(ended_well, children)))
"""
    assert run(code) == ["True"] * 4 + ["2", "True"]


def test_a_child_trains_what_another_thread_of_its_parent_was_training():
    """Whose generator may be locked at that moment, and which counts as being trained."""
    code = """
rng = np.random.default_rng(0)
vae, started, ends = model(random_state=rng, T=500, batchsize=64), threading.Event(), threading.Event()
def train():
    vae.fit(X, n_epochs=10**6, callbacks=[lambda *_: (started.set(), ends.is_set())[1]])
thread = threading.Thread(target=train)
thread.start()
started.wait()
def again():
    vae.partial_fit(X)
    vae.sample(3)
    return np.isfinite(vae.fit(X, n_epochs=1).elbo(X)).all() and same()
results = []
for _ in range(15):
    time.sleep(0.003)
    results.append(ended_well(in_child(again)))
with rng.bit_generator.lock:  # as in the middle of a draw, by another thread
    locked = threading.Thread(target=lambda: results.append(ended_well(in_child(again))))
    locked.start()
    locked.join()
ends.set()
thread.join()
print(results.count(True), np.isfinite(vae.elbo(X)).all(), same())
"""
    assert run(code) == ["16", "True", "True"]


def test_pools_of_processes():
    code = """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(all(pool.map(same, range(4))))
print(same())
"""
    assert run(code) == ["True", "True"]


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_backends_of_joblib(backend):
    pytest.importorskip("joblib", reason="scikit-learn brings it")
    code = f"""
import joblib
def elbo(vae):
    return bits(vae.fit(X))
for _ in range(2):
    got = joblib.Parallel(2, backend="{backend}")(joblib.delayed(elbo)(model()) for _ in range(3))
    print(set(got) == {{expected}}, same())
"""
    assert run(code) == ["True"] * 4
