"""Many models at once, in Python threads and joblib's workers: each with its share of the CPUs, and the same bits."""

import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import threadpoolctl
from sklearn.model_selection import GridSearchCV, cross_val_score
from small_vae import assert_same_bits, parameters, random_images, small_vae

import cvae
from cvae._kernels import dispatch
from cvae.callbacks import Callback
from cvae.runtime import programs, threads

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # from Python 3.12 on
needs_openmp = pytest.mark.skipif(not dispatch.has_openmp(), reason="the kernels were built without OpenMP")
GRID = {"T": [1, 2], "lr": [0.01, 0.02]}
LOKY = {"backend": "loky", "n_jobs": 2, "inner_max_num_threads": 3}  # of all tests here, which so share the workers


@pytest.fixture
def eight_cpus(monkeypatch):
    monkeypatch.setattr(threads, "_cpus", lambda: 8)
    cvae.set_num_threads(8)
    yield
    cvae.set_num_threads(None)


class Rendezvous(Callback):
    """Lets trainings wait for each other before and after the second of their three epochs."""

    def __init__(self, barrier):
        self.barrier, self.epoch = barrier, 0

    def on_epoch_begin(self, vae, epoch):
        if epoch in (2, 3):
            self.barrier.wait()
        self.epoch = epoch


def numbers_in_second_epoch(monkeypatch, *models):
    """Train models at the same time; return the numbers of threads that each used while all were training."""
    barrier = threading.Barrier(len(models))
    waiting = threading.local()
    used = [set() for _ in models]

    def observed():
        if waiting.callback.epoch == 2:
            used[waiting.index].add(cvae.get_num_threads())
        return 1

    def train(i):
        waiting.index, waiting.callback = i, Rendezvous(barrier)
        models[i].fit(random_images(), n_epochs=3, callbacks=[waiting.callback])

    monkeypatch.setattr(programs, "get_num_threads", observed)
    with ThreadPoolExecutor(len(models)) as pool:
        list(pool.map(train, range(len(models))))
    return used


@needs_openmp
@pytest.mark.parametrize(("n_models", "share"), [(1, 8), (2, 4), (3, 2)])
def test_models_in_python_threads_share_the_cpus(n_models, share, eight_cpus, monkeypatch):
    models = [small_vae() for _ in range(n_models)]
    assert numbers_in_second_epoch(monkeypatch, *models) == n_models * [{share}]
    assert cvae.get_num_threads() == 8


@needs_openmp
def test_a_models_own_number_of_threads_is_not_shared(eight_cpus, monkeypatch):
    models = small_vae(n_threads=7), small_vae()
    assert numbers_in_second_epoch(monkeypatch, *models) == [{7}, {4}]


@needs_openmp
def test_a_share_is_no_more_than_the_default(monkeypatch):
    monkeypatch.setattr(threads, "_cpus", lambda: 64)
    cvae.set_num_threads(3)
    try:
        assert numbers_in_second_epoch(monkeypatch, small_vae(), small_vae()) == [{3}, {3}]
    finally:
        cvae.set_num_threads(None)


@needs_openmp
def test_a_failed_use_of_a_model_takes_no_share(eight_cpus):
    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(small_vae().fit, random_images(), callbacks=[lambda *_: 1 / 0])
        assert isinstance(failed.exception(), ZeroDivisionError)
    with threads.limit_threads(None):
        assert cvae.get_num_threads() == 8


@needs_openmp
def test_limits_of_threadpoolctl_hold_in_the_python_thread_that_sets_them():
    def limited(n):
        with threadpoolctl.threadpool_limits(n):
            return cvae.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(limited, 1).result() == 1
        assert pool.submit(cvae.get_num_threads).result() == cvae.get_num_threads()


@needs_openmp
def test_inner_limits_of_joblib_hold_in_its_workers():
    def used(vae, images):  # within the test, so that workers need not import this module
        import cvae

        seen = []
        vae.fit(images, callbacks=[lambda *_: seen.append(cvae.get_num_threads())])
        return seen[-1]

    with joblib.parallel_config(**LOKY):
        found = joblib.Parallel()(joblib.delayed(used)(small_vae(), random_images()) for _ in range(2))
    assert found == [3, 3]


@pytest.fixture(scope="module")
def sequential_search():
    return GridSearchCV(small_vae(), GRID, cv=2).fit(random_images(20))


BACKENDS = [LOKY, {"backend": "threading", "n_jobs": 2}, {"backend": "multiprocessing", "n_jobs": 2}]


@pytest.mark.parametrize("config", BACKENDS, ids=lambda config: config["backend"])
def test_a_search_finds_the_same_scores_with_every_backend(config, sequential_search):
    with joblib.parallel_config(**config):
        search = GridSearchCV(small_vae(), GRID, cv=2).fit(random_images(20))
    expected = sequential_search.cv_results_
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], expected[name])
    assert_same_bits(parameters(search.best_estimator_), parameters(sequential_search.best_estimator_))


@pytest.mark.parametrize("config", BACKENDS, ids=lambda config: config["backend"])
def test_images_in_a_file_that_is_mapped_train_in_workers(config, tmp_path):
    X = random_images(12)
    np.save(tmp_path / "images.npy", X)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    with joblib.parallel_config(**config):
        scores = cross_val_score(small_vae(), mapped, cv=2)
    np.testing.assert_array_equal(scores, cross_val_score(small_vae(), X, cv=2))
