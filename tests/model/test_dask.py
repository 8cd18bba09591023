"""Dask: arrays in and out, models as tasks on a cluster, searches; a cluster of threads and one of processes."""

import logging
import pickle

import dask
import dask.array as da
import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV
from small_vae import assert_same_bits, assert_same_model, parameters, random_images, small_vae

import cvae

CHUNKS = (5, 9, 8, 1)


@pytest.fixture(scope="module", params=["threads", "processes"])
def client(request):
    kind = {"threads": {"n_workers": 1, "threads_per_worker": 2}, "processes": {"n_workers": 2}}[request.param]
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(
            processes=request.param == "processes",
            dashboard_address=None,
            silence_logs=logging.ERROR,
            **kind,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def trained():
    return small_vae().fit(random_images())


# --------------------------------------------------------------------- arrays


class Lazy:
    """A lazily computed array of images in two chunks, with the number of chunks that have been computed."""

    def __init__(self, images):
        self.computed = 0
        self.array = da.from_array(images, chunks=(len(images) // 2, *images.shape[1:])).map_blocks(
            self.count, dtype=images.dtype, meta=np.empty((0,) * images.ndim, images.dtype)
        )

    def count(self, block):
        self.computed += 1
        return block


USES = {
    "fit": lambda vae, X: small_vae().fit(X),
    "partial_fit": lambda vae, X: small_vae().partial_fit(X),
    "fit with a part to validate with": lambda vae, X: small_vae().fit(X, validation_fraction=0.3),
    "fit to validate with": lambda vae, X: small_vae().fit(random_images(), validation_data=X),
    "fit_transform": lambda vae, X: small_vae().fit_transform(X),
    "transform": lambda vae, X: vae.transform(X),
    "reconstruct": lambda vae, X: vae.reconstruct(X),
    "score": lambda vae, X: vae.score(X),
    "log_likelihood": lambda vae, X: vae.log_likelihood(X, n_samples=2),
    "error_map": lambda vae, X: vae.error_map(X),
    "outliers": lambda vae, X: cvae.VAEOutlierDetector(small_vae()).fit_predict(X),
}


@pytest.mark.parametrize("use", USES)
def test_lazy_arrays_are_computed_once_and_give_the_same(use, trained):
    X = random_images()
    lazy = Lazy(X)
    found, expected = USES[use](trained, lazy.array), USES[use](trained, X)
    assert lazy.computed == 2  # chunks
    if isinstance(found, cvae.VAE):
        assert_same_model(found, expected, X)
    else:
        np.testing.assert_array_equal(found, expected)


def test_lazy_labels_and_weights_count():
    X, labels = random_images(), np.arange(10) % 2
    vae = cvae.VAE("mlp", T=2, condition="classes", random_state=0, n_epochs=1, verbose=False)
    expected = parameters(vae.fit(X, labels, sample_weight=np.arange(1, 11)))
    lazy = da.from_array(labels, chunks=5), da.arange(1, 11, chunks=5)
    assert_same_bits(parameters(vae.fit(X, lazy[0], sample_weight=lazy[1])), expected)


def test_images_of_unknown_number_train():
    X = random_images()
    lazy = da.from_array(X, chunks=CHUNKS)
    lazy = lazy[lazy[:, 0, 0, 0] > 0.3]  # whose length is not known before it is computed
    assert_same_model(small_vae().fit(lazy), small_vae().fit(X[X[:, 0, 0, 0] > 0.3]), X)


def test_what_was_computed_of_a_lazy_frame_keeps_its_columns():
    class LazyFrame:
        def __dask_graph__(self):
            return {}

        def compute(self):
            return pandas.DataFrame(random_images().reshape(10, 72), columns=[f"pixel {i}" for i in range(72)])

    pandas = pytest.importorskip("pandas")
    vae = small_vae(image_shape=(9, 8))
    assert vae.fit_transform(LazyFrame()).shape == (10, 2)
    assert vae.feature_names_in_[1] == "pixel 1"


# -------------------------------------------------------------------- clusters


def test_blocks_are_encoded_and_decoded_on_a_cluster(client, trained):
    X = random_images(20, seed=3)
    sent = trained.copy(optimizer_state=False)
    lazy = da.from_array(X, chunks=CHUNKS)
    codes = lazy.map_blocks(sent.transform, dtype="float32", chunks=(5, 2), drop_axis=(2, 3))
    np.testing.assert_array_equal(codes.compute(), trained.transform(X))
    images = codes.map_blocks(sent.decode, dtype="float32", chunks=CHUNKS, new_axis=(2, 3))
    np.testing.assert_array_equal(images.compute(), trained.reconstruct(X))
    scores = lazy.map_blocks(sent.score_samples, dtype="float64", chunks=(5,), drop_axis=(1, 2, 3))
    np.testing.assert_array_equal(scores.compute(), trained.score_samples(X))


def test_models_train_as_tasks(client):
    X = random_images()
    tasks = [client.submit(small_vae(random_state=seed).fit, X, n_epochs=2) for seed in range(3)]
    for seed, vae in enumerate(client.gather(tasks)):
        assert_same_model(vae, small_vae(random_state=seed).fit(X, n_epochs=2), X)


def test_a_model_trains_on_an_array_of_the_cluster(client):
    X = random_images()
    lazy = client.persist(da.from_array(X, chunks=CHUNKS))
    assert_same_model(small_vae().fit(lazy), small_vae().fit(X), X)


def test_a_search_on_a_cluster_finds_the_same_scores(client):
    def search():
        return GridSearchCV(small_vae(), {"T": [1, 2]}, cv=2).fit(random_images(12))

    with joblib.parallel_config("dask"):
        found = search()
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], search().cv_results_["mean_test_score"])


# --------------------------------------------------------------------- pickles


def nbytes(vae):
    return sum(array.nbytes for layer in vae._layers().values() for array in layer.parameters.values())


@pytest.fixture(scope="module")
def large():
    encoder = ["Flatten()", "FullyConnected(64)", "Residual(['FullyConnected(64)', 'BatchNorm1D()'])"]
    vae = cvae.VAE(encoder, ["FullyConnected(64)"], T=2, random_state=0, n_epochs=1, verbose=False)
    return vae.fit(random_images().reshape(10, -1), validation_fraction=0.2)


def test_a_pickle_of_a_trained_model_has_parameters_and_the_state_of_their_optimizer(large):
    overhead = 20_000  # of layers, generators, history
    assert nbytes(large) * 3 < len(pickle.dumps(large)) < nbytes(large) * 3 + overhead  # Adam keeps two arrays for each
    without = pickle.dumps(large.copy(optimizer_state=False))
    assert nbytes(large) < len(without) < nbytes(large) + overhead


def test_a_copy_goes_on_as_the_model_does(large):
    X = random_images().reshape(10, -1)
    one, other = large.copy(), pickle.loads(pickle.dumps(large))
    before = {name: array.copy() for name, array in parameters_of(large).items()}
    for vae in (one, other):
        assert_same_bits(parameters_of(vae), before)
        vae.partial_fit(X)
    assert_same_bits(parameters_of(one), parameters_of(other))
    assert_same_bits(parameters_of(large), before)


def test_a_copy_without_optimizer_state_is_that_of_a_file_without_it(large, tmp_path):
    X = random_images().reshape(10, -1)
    large.save(tmp_path / "model.safetensors", optimizer_state=False)
    loaded, copied = cvae.load(tmp_path / "model.safetensors"), large.copy(optimizer_state=False)
    np.testing.assert_array_equal(copied.transform(X), large.transform(X))
    assert_same_bits(parameters_of(copied.partial_fit(X)), parameters_of(loaded.partial_fit(X)))
    assert copied.history_["val_loss"] == loaded.history_["val_loss"]


def parameters_of(vae):
    found = {path: layer.parameters.items() for path, layer in vae._layers().items()}
    return {f"{path}/{name}": array for path, arrays in found.items() for name, array in arrays}


def test_gradients_that_are_not_zero_are_in_a_pickle():
    X, vae = random_images(), small_vae()
    vae.backward(X, vae.forward(X))
    other = pickle.loads(pickle.dumps(vae))
    vae.update()
    other.update()
    assert_same_bits(parameters(other), parameters(vae))
