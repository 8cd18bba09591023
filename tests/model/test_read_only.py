"""Models whose arrays cannot be written to, as joblib loads them with a `mmap_mode` and passes them to workers."""

import copy

import joblib
import numpy as np
import pytest
from small_vae import assert_same_bits, parameters, random_images, small_vae

import cvae

X = random_images(12)


def model(kind):
    if kind == "BernoulliVAE":
        return small_vae()
    layers = ["Conv2D(4, 3)", "BatchNorm2D()", "Residual([Conv2D(4, 3, pad='same'), BatchNorm2D()])", "Flatten()"]
    arguments = {"T": 2, "n_epochs": 1, "batchsize": 5, "random_state": 0, "warm_start": True, "verbose": False}
    return cvae.VAE(layers, ["FullyConnected(5)"], "Gaussian('shared')", optimizer=kind, **arguments)


def arrays(vae):
    found = {}
    for path, layer in vae._layers().items():
        found |= {f"{path}/{name}": array for name, array in layer.parameters.items()}
        for name in layer.optimizer.cache:
            found |= {f"{path}/{name}/{i}": array for i, array in enumerate(layer.optimizer.states(name))}
    return found


def fit(vae):
    vae.fit(X)


def partial_fit(vae):
    vae.partial_fit(X, sample_weight=np.arange(12))


def step_by_hand(vae):
    vae.backward(X, vae.forward(X))
    vae.update()


def step_of_each_layer(vae):
    for layer in vae._layers().values():
        layer.update()


def cast(vae):
    vae.set_params(dtype="float64").partial_fit(X)


@pytest.mark.parametrize("kind", ["BernoulliVAE", "Adam(lr=0.01)", "SGD(momentum=0.5)"])
@pytest.mark.parametrize("use", [fit, partial_fit, step_by_hand, step_of_each_layer, cast])
def test_training_goes_on_with_the_same_bits(kind, use, tmp_path):
    vae = model(kind).fit(X)
    joblib.dump(vae, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    before = arrays(loaded)
    assert not any(array.flags.writeable for array in before.values())
    kept = {path: array.copy() for path, array in before.items()}
    np.testing.assert_array_equal(loaded.transform(X), vae.transform(X))
    assert arrays(loaded)["encoder/Code/W" if kind != "BernoulliVAE" else "encoder/FC5/W"].flags.writeable is False
    use(loaded)
    use(vae)
    assert_same_bits(arrays(loaded), arrays(vae))
    assert_same_bits(before, kept)  # the file


def test_flushing_needs_no_training(tmp_path):
    joblib.dump(small_vae().fit(X), tmp_path / "model.joblib")
    joblib.load(tmp_path / "model.joblib", mmap_mode="r").flush_gradients()


def test_a_gradient_that_was_read_only_still_counts(tmp_path):
    vae = small_vae().fit(X)
    vae.backward(X, vae.forward(X))
    joblib.dump(vae, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    loaded.update()
    vae.update()
    assert_same_bits(parameters(loaded), parameters(vae))


def test_workers_train_what_they_get_read_only():
    def train_on(vae, images):  # within the test, so that workers need not import this module
        return parameters(vae.partial_fit(images))

    vae = small_vae().fit(X)
    jobs = (joblib.delayed(train_on)(vae, X) for _ in range(2))
    found = joblib.Parallel(n_jobs=2, max_nbytes=10)(jobs)
    expected = parameters(copy.deepcopy(vae).partial_fit(X))
    for each in found:
        assert_same_bits(each, expected)
