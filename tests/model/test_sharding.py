"""Steps whose batches are taken in parts, on one process."""

import itertools

import numpy as np
import pytest

import cvae
from cvae.engine.tree import Plan, total

DENSE = {"encoder": ["Flatten()", "FullyConnected(n_out=8)"], "decoder": ["FullyConnected(n_out=8, act_fn='Tanh')"]}


def small(**arguments):
    how = {"T": 2, "random_state": 0, "verbose": False, "n_epochs": 1, "batchsize": 12, "optimizer": "SGD(lr=0.01)"}
    return cvae.VAE(**DENSE, **how | arguments)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((30, 4, 4, 1))


def parameters(vae):
    return {(path, name): array for path, layer in vae._layers().items() for name, array in layer.parameters.items()}


def assert_same(one, other):
    for key, array in parameters(one).items():
        np.testing.assert_array_equal(array, parameters(other)[key], err_msg=str(key))


@pytest.mark.parametrize("n", range(1, 20))
def test_the_order_of_a_sum_does_not_depend_on_who_adds(n):
    def added(ends):
        sums = {}
        for first, last in itertools.pairwise(ends):
            plan, places = Plan.of(first, last), {}
            for leaf, step in zip(range(first, last), plan.steps, strict=True):
                value = str(leaf)
                for place in step.added:
                    value = f"({places[place]}+{value})"
                places[step.place] = value
            assert len(places) <= plan.n_places <= 2 * n.bit_length()
            sums |= {node: places[place] for node, place in plan.places.items()}
        return total(sums, n, lambda left, right: f"({left}+{right})")

    cuts = [(0, n), (0, n // 2, n), (0, n // 3, 2 * n // 3, n), tuple(range(n + 1))]
    assert len({added(cut) for cut in cuts}) == 1


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_in_parts_is_that_of_the_whole_batch(images, weighted):
    """With the noise of the parts, `forward`, `backward` and `update` by hand give the same parameters."""
    whole, parts = small(dtype="float64", objective="ELBO(beta=2)"), small(dtype="float64", objective="ELBO(beta=2)")
    weights = {"sample_weight": np.arange(1.0, 11.0)} if weighted else {}
    whole.forward(images[:1], retain_derived=False)  # creates the parameters
    parts.forward(images[:1], retain_derived=False)
    # An epoch draws the order of the images, and each step a key.
    rng = np.random.default_rng()
    rng.bit_generator.state = whole._rng.bit_generator.state
    order = np.arange(10)
    rng.shuffle(order)
    key = int(rng.integers(2**64, dtype=np.uint64))
    sizes = [3, 3, 2, 2]
    noise = [np.random.Generator(np.random.Philox(key=[key, s])).standard_normal((n, 2)) for s, n in enumerate(sizes)]
    batch = images[:10][order]
    if weighted:  # by hand, images count as often as they are given
        repeats = np.arange(1, 11)[order]
        batch, noise = batch.repeat(repeats, 0), [np.concatenate(noise).repeat(repeats, 0)]
    whole.backward(batch, whole.forward(batch, noise=np.concatenate(noise)))
    whole.update()
    parts._fit(images[:10], None, weights, anew=False, n_shards=4)
    for key, array in parameters(whole).items():
        np.testing.assert_allclose(parameters(parts)[key], array, rtol=1e-12, atol=1e-14, err_msg=str(key))


def test_parts_of_an_accumulated_batch_are_those_of_a_larger_one(images):
    accumulated = small(batchsize=6).fit(images, n_shards=2, accumulate=2)
    assert_same(accumulated, small(batchsize=12).fit(images, n_shards=4))
    assert accumulated.history_["loss"] == small(batchsize=12).fit(images, n_shards=4).history_["loss"]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_parts_have_the_same_bits_on_any_number_of_threads(images, threads):
    assert_same(small(n_threads=threads).fit(images, n_shards=4), small(n_threads=7).fit(images, n_shards=4))


def test_running_statistics_move_by_the_mean_of_the_parts(images):
    layers = {"encoder": ["Flatten()", "BatchNorm1D(momentum=0)"], "decoder": DENSE["decoder"]}
    how = {"T": 2, "random_state": 0, "verbose": False, "n_epochs": 1, "batchsize": 8, "dtype": "float64"}
    vae = cvae.VAE(**layers, **how, optimizer="SGD(lr=0)").fit(images[:8], n_shards=4)
    norm = next(layer for layer in vae.encoder_.values() if type(layer).__name__ == "BatchNorm1D")
    np.testing.assert_allclose(norm.parameters["running_mean"], images[:8].reshape(8, -1).mean(0), rtol=1e-12)


def test_resuming_takes_the_parts_of_the_interrupted_training(images, tmp_path):
    stops = []

    class Stop(cvae.callbacks.Callback):
        def on_batch_end(self, vae, batch, loss):
            if batch == 2 and not stops:
                stops.append(batch)
                raise KeyboardInterrupt

    vae = small(n_epochs=2)
    with pytest.raises(KeyboardInterrupt):
        vae.fit(images, n_shards=4, accumulate=1, callbacks=[Stop()])
    vae.save(tmp_path / "model.safetensors")
    again = cvae.load(tmp_path / "model.safetensors")
    again._fit(images, None, {}, anew=False, n_epochs=2)
    assert_same(again, small(n_epochs=2).fit(images, n_shards=4))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_shards": 3}, ValueError, "n_shards must be a power of 2, got 3"),
        ({"n_shards": 0}, ValueError, "n_shards must be"),
        ({"n_shards": 2.0}, TypeError, "n_shards must be"),
        ({"accumulate": 0}, ValueError, "accumulate must be"),
        ({"accumulate": "2"}, TypeError, "accumulate must be"),
        ({"comm": "world"}, TypeError, "comm must be a communicator of mpi4py"),
        ({"parts": True}, ValueError, "parts must be False without comm"),
        ({"parts": 1}, TypeError, "parts must be"),
    ],
)
def test_wrong_arguments(images, arguments, error, message):
    vae = small()
    with pytest.raises(error, match=message):
        vae.fit(images, **arguments)
    assert vae._image_shape is None
