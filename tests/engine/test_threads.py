"""Threads: equal bits for any number, the choice of the number, and concurrent calls."""

import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_vae import random_images, small_vae

import cvae
from cvae._kernels import conv2d, dense, dispatch, elementwise, losses, optimizers, pool2d
from cvae._kernels.program import MAX_THREADS
from cvae.layers import Conv2D, FullyConnected
from cvae.runtime import threads
from cvae.runtime.programs import run as run_kernel
from cvae.runtime.threads import _container_cpus, _is_number_of_threads, check_num_threads, limit_threads
from cvae.runtime.workspace import workspace

needs_openmp = pytest.mark.skipif(not dispatch.has_openmp(), reason="the kernels were built without OpenMP")


@pytest.fixture(autouse=True)
def default_number_of_threads():
    yield
    cvae.set_num_threads(None)


def run(code, **environment):
    """Return what a Python program prints when run as a subprocess."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    env |= {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# ---------------------------------------------------------------- the same bits

RNG_SEED = 7


def convolution(dtype, n_threads):
    rng = np.random.default_rng(RNG_SEED)
    x, w = rng.standard_normal((21, 13, 14, 5)).astype(dtype), rng.standard_normal((3, 3, 5, 37)).astype(dtype)
    b, dy = rng.standard_normal(37).astype(dtype), rng.standard_normal((21, 7, 7, 37)).astype(dtype)
    how = {"stride": 2, "dilation": 0, "pad_top": 1, "pad_left": 1, "n_threads": n_threads}
    y, dx, dw, db = np.empty_like(dy), np.empty_like(x), np.empty_like(w), np.empty_like(b)
    run_kernel(conv2d.conv2d_forward, y, x, w, b, relu=True, **how)
    run_kernel(conv2d.conv2d_grad_input, dx, dy, w, **how)
    run_kernel(conv2d.conv2d_grad_weight, dw, db, x, dy, **how)
    return y, dx, dw, db


def pooling(dtype, n_threads):
    rng = np.random.default_rng(RNG_SEED)
    x, dy = rng.standard_normal((11, 13, 14, 5)).astype(dtype), rng.standard_normal((11, 12, 13, 5)).astype(dtype)
    how = {"kernel_shape": (3, 3), "stride": 1, "pad_top": 1, "pad_left": 1, "n_threads": n_threads}
    y, average, argmax = np.empty_like(dy), np.empty_like(dy), np.empty(dy.shape, np.int32)
    dx, d_average = np.empty_like(x), np.empty_like(x)
    run_kernel(pool2d.max_forward, y, argmax, x, **how)
    run_kernel(pool2d.max_backward, dx, dy, argmax, **how)
    run_kernel(pool2d.average_forward, average, x, **how)
    run_kernel(pool2d.average_backward, d_average, dy, **how)
    return y, argmax, dx, average, d_average


def dense_layer(dtype, n_threads):
    rng = np.random.default_rng(RNG_SEED)
    x, w = rng.standard_normal((520, 300)).astype(dtype), rng.standard_normal((300, 131)).astype(dtype)
    b, dy = rng.standard_normal(131).astype(dtype), rng.standard_normal((520, 131)).astype(dtype)
    dy[:, ::3] = 0
    how = {"n_threads": n_threads}
    y, dx, dw, db = np.empty_like(dy), np.empty_like(x), np.empty_like(w), np.empty_like(b)
    run_kernel(dense.dense_forward, y, x, w, b, relu=True, **how)
    run_kernel(dense.dense_backward, dx, dw, db, x, dy, w, skip_dead=True, **how)
    step = "rmsprop", (np.zeros(w.size, dtype),), np.array([0.1, 1, 0.9, 1e-7])
    run_kernel(dense.dense_backward, dx, None, db, x, dy, w, skip_dead=True, update=step, **how)
    return y, dx, dw, db, w, step[1][0]


def flat_arrays(dtype, n_threads):
    rng = np.random.default_rng(RNG_SEED)
    x, y = (rng.standard_normal(50_001).astype(dtype) for _ in range(2))
    dz, p = np.empty_like(x), np.empty_like(x)
    run_kernel(elementwise.relu_backward, dz, x, y, n_threads=n_threads)
    run_kernel(elementwise.sigmoid, p, x, n_threads=n_threads)
    results = [dz, p, np.zeros(2)]
    run_kernel(optimizers.clip, x, results[2], 1.0, n_threads=n_threads)
    for rule, n_states, constants in (
        ("sgd", 1, (0.9,)),
        ("adagrad", 1, (1e-7,)),
        ("rmsprop", 1, (0.9, 1e-7)),
        ("adam", 2, (0.9, 0.999, 1e-7, 0.1, 0.001)),
    ):
        param, states = y.copy(), tuple(np.zeros_like(x) for _ in range(n_states))
        scalars = np.array([0.1, 0.5, *constants])
        run_kernel(optimizers.update, rule, param, states, x, scalars, n_threads=n_threads)
        results += [param, *states]
    return results


def loss(dtype, n_threads):
    rng = np.random.default_rng(RNG_SEED)
    logits, y = rng.standard_normal((33, 784)).astype(dtype), rng.random((33, 784)).astype(dtype)
    reconstruction, dlogits = np.empty(33), np.empty_like(y)
    run_kernel(losses.bce_with_logits, reconstruction, dlogits, logits, y, np.full(33, 1 / 33), n_threads=n_threads)
    return reconstruction, dlogits


@pytest.mark.parametrize("compute", [convolution, pooling, dense_layer, flat_arrays, loss])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_kernels_give_the_same_bits_with_any_number_of_threads(compute, dtype):
    expected = compute(dtype, 1)
    for n_threads in (2, 3, 7, 64):
        for got, array in zip(compute(dtype, n_threads), expected, strict=True):
            np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_gives_the_same_bits_with_any_number_of_threads(dtype):
    images = np.random.default_rng(1).random((50, 12, 12, 1))

    def fit(n_threads):
        vae = cvae.BernoulliVAE(
            T=3, latent_dim=40, enc_conv1_out_ch=8, enc_conv2_out_ch=8, enc_conv1_kernel_shape=3,
            enc_conv2_kernel_shape=3, n_epochs=2, batchsize=32, dtype=dtype, n_threads=n_threads, random_state=0,
            optimizer="Adam(clip_norm=1.0)", verbose=False,
        ).fit(images)  # fmt: skip
        return [vae.elbo(images), *(layer.W for layer in vae.encoder.values() if hasattr(layer, "W"))]

    expected = fit(1)
    for n_threads in (2, 3, 7):
        for got, array in zip(fit(n_threads), expected, strict=True):
            np.testing.assert_array_equal(got, array)


# ------------------------------------------------------------ how many there are


@needs_openmp
def test_set_num_threads():
    default = cvae.get_num_threads()
    assert default >= 1
    for n in (1, 3, np.int64(2), 4096):
        cvae.set_num_threads(n)
        assert cvae.get_num_threads() == n
        assert type(cvae.get_num_threads()) is int
    cvae.set_num_threads(None)
    assert cvae.get_num_threads() == default


def test_numbers_of_threads_that_are_none_are_refused():
    before = cvae.get_num_threads()
    for n in (0, -1, 4097, 2**70):
        with pytest.raises(ValueError, match=f"n must be from 1 to 4096, got {n}"):
            cvae.set_num_threads(n)
    for n in (1.0, "2", True, np.True_, [1]):
        with pytest.raises(TypeError, match="n must be an int >= 1 or None, got"):
            cvae.set_num_threads(n)
    assert cvae.get_num_threads() == before
    with pytest.raises(ValueError, match="n_threads must be from 1"):
        check_num_threads("n_threads", 0)


@needs_openmp
def test_limit_threads_holds_within_its_block_and_its_python_thread():
    cvae.set_num_threads(3)
    with limit_threads(5):
        assert cvae.get_num_threads() == 5
        with limit_threads(None):
            assert cvae.get_num_threads() == 5
        with limit_threads(2):
            assert cvae.get_num_threads() == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(cvae.get_num_threads).result() == 3
        assert cvae.get_num_threads() == 5
    assert cvae.get_num_threads() == 3
    with pytest.raises(KeyError), limit_threads(5):
        raise KeyError
    assert cvae.get_num_threads() == 3


@needs_openmp
def test_all_that_a_model_does_uses_its_own_number_of_threads(monkeypatch):
    used = set()

    def observed():
        used.add(cvae.get_num_threads())
        return cvae.get_num_threads()

    monkeypatch.setattr(cvae.runtime.programs, "get_num_threads", observed)
    X = random_images()
    vae = small_vae(n_threads=5, optimizer="SGD(clip_norm=1.0)").fit(X, validation_data=random_images(3, seed=2))
    vae.decode(vae.encode(X)[0])
    vae.log_likelihood(X, n_samples=2)
    vae.score(X)
    vae.sample()
    vae.backward(X, vae.forward(X))
    vae.update()
    assert used == {5}


@needs_openmp
@pytest.mark.parametrize("n", [1, 3, 5])
def test_omp_num_threads_is_respected(n):
    count = "import cvae; print(cvae.get_num_threads())"
    assert run(count, OMP_NUM_THREADS=str(n)) == [str(n)]
    assert run(count + "; cvae.set_num_threads(4); print(cvae.get_num_threads())", OMP_NUM_THREADS=str(n))[1] == "4"


@needs_openmp
def test_limits_of_threadpoolctl_are_respected():
    pytest.importorskip("threadpoolctl", reason="threadpoolctl is what sets the limits here")
    code = """
import threadpoolctl, cvae
print(cvae.get_num_threads())
with threadpoolctl.threadpool_limits(2):
    print(cvae.get_num_threads())
    cvae.set_num_threads(3)
    print(cvae.get_num_threads())
    cvae.set_num_threads(1)
    print(cvae.get_num_threads())
cvae.set_num_threads(3)
print(cvae.get_num_threads())
cvae.set_num_threads(None)
print(cvae.get_num_threads())
"""
    assert run(code, OMP_NUM_THREADS="4") == ["4", "2", "2", "1", "3", "4"]


@pytest.mark.parametrize("text", ["", " ", "many", "0", "-2", "1.5", "²"])
def test_a_number_of_threads_that_is_none_counts_as_unset(text):
    assert not _is_number_of_threads(text)


@pytest.mark.parametrize("text", ["1", " 4 ", "4,2", "9" * 5000])
def test_numbers_of_threads_count(text):
    assert _is_number_of_threads(text)


@needs_openmp
def test_more_threads_than_the_kernels_can_use_are_no_error():
    count = "import cvae; n = cvae.get_num_threads(); print(n); cvae.set_num_threads(n)"
    assert run(count, OMP_NUM_THREADS="5000") == [str(MAX_THREADS)]


WITHOUT_THREADS = """
import os, resource
import numpy as np, cvae
X = np.random.default_rng(0).random((300, 28, 28))
def fit(**arguments):
    return cvae.VAE("mlp", T=2, n_epochs=1, verbose=False, random_state=0, **arguments).fit(X).history_["loss"]
before = fit(n_threads=1)
if os.getuid() == 0:  # whom the limit does not bind
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
print(fit(n_threads=16) == before)
"""


@needs_openmp
@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts the threads of a user on Linux only")
def test_training_goes_on_where_no_thread_can_be_created():
    assert run(WITHOUT_THREADS, OPENBLAS_NUM_THREADS="1") == ["True"]


def test_fewer_threads_where_so_many_cannot_be_created(monkeypatch):
    start, count = threading.Thread.start, [0]

    def limited(thread):
        count[0] += 1
        if count[0] > 9:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threads, "_known", 1)
    monkeypatch.setattr(threads, "_most", MAX_THREADS)
    monkeypatch.setattr(threading.Thread, "start", limited)
    before = threading.active_count()
    assert threads.startable(1) == 1
    assert threads.startable(3) == 3
    with pytest.warns(RuntimeWarning, match="only 3 threads can be created here: the kernels use 3 instead of 16"):
        assert threads.startable(16) == 3
    assert [threads.startable(n) for n in (16, 3, 1)] == [3, 3, 1]  # without trying again
    assert threading.active_count() == before


def test_no_container_no_limit(tmp_path):
    assert _container_cpus(tmp_path) is None
    assert _container_cpus(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000\n", None),
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1 100000\n", 1),
        ("800000 100000\n", 8),
        ("100000 0\n", None),
        ("-1 100000\n", None),
        ("0 100000\n", None),
        ("many 100000\n", None),
        ("100000\n", None),
        ("", None),
    ],
)
def test_limits_of_control_groups_version_2(text, cpus, tmp_path):
    (tmp_path / "cpu.max").write_text(text)
    assert _container_cpus(tmp_path) == cpus


@pytest.mark.parametrize(
    ("quota", "period", "cpus"),
    [
        ("-1\n", "100000\n", None),
        ("250000\n", "100000\n", 3),
        ("5000\n", "100000\n", 1),
        ("x", "y", None),
        ("1", None, None),
    ],
)
def test_limits_of_control_groups_version_1(quota, period, cpus, tmp_path):
    folder = tmp_path / "cpu"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text(quota)
    if period is not None:
        (folder / "cpu.cfs_period_us").write_text(period)
    assert _container_cpus(tmp_path) == cpus


# ----------------------------------------------------------- Python's threads


def test_python_threads_may_call_kernels_at_the_same_time():
    cvae.set_num_threads(2)
    rng = np.random.default_rng(2)
    convolution_weights, head_weights = rng.normal(size=(3, 3, 2, 24)), rng.normal(size=(12 * 12 * 24, 80))
    batches = [rng.random((2 + i, 14, 14, 2)) for i in range(6)]

    def compute(X):
        layer = Conv2D(24, 3, act_fn="ReLU").set_params({"W": convolution_weights})
        head = FullyConnected(80).set_params({"W": head_weights})
        hidden = layer.forward(X)
        Y = head.forward(hidden.reshape(len(X), -1))
        dX = layer.backward(head.backward(np.cos(Y)).reshape(hidden.shape))
        return Y, dX, *layer.gradients.values(), *head.gradients.values()

    expected = [compute(X) for X in batches]
    start = threading.Barrier(4)

    def work(_):
        start.wait()
        return [compute(X) for _ in range(5) for X in batches]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(work, range(4)):
            for got, arrays in zip(results, expected * 5, strict=True):
                for array, right in zip(got, arrays, strict=True):
                    np.testing.assert_array_equal(array, right)


def test_python_threads_may_train_two_models_at_the_same_time():
    X = random_images(40)

    def train(seed):
        return small_vae(random_state=seed, n_threads=2).fit(X).elbo(X)

    expected = [train(seed) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            for got, right in zip(pool.map(train, (0, 1)), expected, strict=True):
                np.testing.assert_array_equal(got, right)


@pytest.mark.skipif(sys.platform != "linux", reason="where Linux lists the threads of a process")
def test_what_python_threads_have_caused_ends_with_them():
    X, buffers = random_images(40), []
    vae = small_vae(n_threads=3).fit(X)

    def work():
        vae.encode(X)
        small_vae(n_threads=3).fit(X)
        buffers.append(weakref.ref(workspace.buffer))

    before, most = len(os.listdir("/proc/self/task")), 0
    for _ in range(5):
        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        most = max(most, len(os.listdir("/proc/self/task")))
    deadline = time.monotonic() + 20
    while len(os.listdir("/proc/self/task")) > before and time.monotonic() < deadline:
        time.sleep(0.01)  # OpenMP's threads end a moment later
    assert len(os.listdir("/proc/self/task")) <= before
    assert most <= before + 4 * 3
    assert len(buffers) == 20
    assert [buffer for buffer in buffers if buffer() is not None] == []


@needs_openmp
def test_a_limit_of_threadpoolctl_holds_in_its_own_thread_and_set_num_threads_in_all():
    pytest.importorskip("threadpoolctl", reason="threadpoolctl is what sets the limits here")
    code = """
import threading, threadpoolctl, cvae
def in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(cvae.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]
with threadpoolctl.threadpool_limits(2):
    print(cvae.get_num_threads(), in_thread())
    cvae.set_num_threads(1)
    print(cvae.get_num_threads(), in_thread())
"""
    assert run(code, OMP_NUM_THREADS="4") == ["2", "4", "1", "1"]
