"""Passes: what makes them anew, which programs they keep, and what they are made of."""

import copy

import numpy as np
import pytest
from small_vae import assert_same_bits, initialized, layers, parameters, random_images, small_vae

from cvae import VAE
from cvae.activations import LeakyReLU, Tanh
from cvae.layers import Flatten, FullyConnected
from cvae.objectives import ELBO
from cvae.optimizers import SGD
from cvae.passes import MAX_PROGRAMS


def made(*, training=False, **changes):
    """Return a model whose FC4 has an activation with an argument, and its passes, by default for inference."""
    vae = initialized(small_vae(**changes))
    vae.encoder["FC4"].act_fn = LeakyReLU(alpha=0.5)
    vae.encode(random_images())
    return vae, vae._passes(1, training=training)


def is_current(vae, passes):
    return passes.is_current(vae.encoder, vae.decoder, vae._likelihood, vae._objective, vae._clock)


def test_using_a_model_keeps_its_passes():
    vae, passes = made()
    vae.elbo(random_images(7))
    vae.sample(10)
    vae.fit(random_images(), validation_data=random_images(3))
    vae.decoder["FC2"].W[:] = 0  # what is in the arrays is read when programs run
    X_recon = vae.forward(random_images())
    vae.backward(random_images(), X_recon)
    vae.update()
    assert is_current(vae, passes)
    assert vae._passes(1, training=False) is passes


@pytest.mark.parametrize("decoder", ["mlp", ["Residual([Condition(), FullyConnected(2)])"]], ids=["mlp", "block"])
def test_a_conditional_model_keeps_its_passes(decoder):
    X, y = random_images(), [0, 1] * 5
    vae = VAE("mlp", decoder, T=2, condition="classes", batchsize=4, n_epochs=2, warm_start=True, verbose=False).fit(
        X, y
    )
    vae.encode(X, y)
    passes = [vae._passes(1, training=training) for training in (False, True)]
    vae.fit(X, y, validation_data=(X, y)).sample(3, y=1)
    assert [vae._passes(1, training=training) for training in (False, True)] == passes


def test_training_twice_uses_the_same_memory():
    vae = small_vae().fit(random_images())
    passes = vae._passes(4, training=True)
    vae.fit(random_images()).partial_fit(random_images())
    assert vae._passes(4, training=True) is passes


def set_attribute(layer, name, value):
    def change(vae):
        setattr(vae.encoder[layer], name, value)

    return pytest.param(change, id=f"{layer}.{name}")


def new_array(of):
    def change(vae):
        arrays = getattr(vae.encoder["Conv2"], of)
        arrays["b"] = arrays["b"].copy()

    return pytest.param(change, id=f"Conv2.{of}[b]")


def new_arrays(of):
    def change(vae):
        layer = vae.encoder["FC4"]
        setattr(layer, of, dict(getattr(layer, of)))

    return pytest.param(change, id=f"FC4.{of}")


def an_array_more(vae):
    vae.encoder["FC4"].parameters["scale"] = np.ones(3)


def an_array_less(vae):
    del vae.encoder["FC4"].gradients["b"]


def another_layer(vae):
    vae.decoder["FC1"] = copy.deepcopy(vae.decoder["FC1"])


def a_layer_less(vae):
    del vae.encoder["Pool2"]


def a_layer_more(vae):
    vae.decoder["FC3"] = copy.deepcopy(vae.decoder["FC2"])


def the_layers_order(vae):
    vae.encoder.move_to_end("Pool1")


def a_layer_from_one_end_to_the_other(vae):
    vae.decoder["FC5"] = vae.encoder.pop("FC5")
    vae.decoder.move_to_end("FC5", last=False)


def another_objective(vae):
    vae._objective = ELBO()


@pytest.mark.parametrize(
    "change",
    [
        set_attribute("FC4", "act_fn", Tanh()),
        set_attribute("Pool2", "mode", "average"),
        set_attribute("Flatten3", "keep_dim", "last"),
        set_attribute("Pool2", "kernel_shape", (1, 1)),
        set_attribute("Conv2", "stride", 2),
        set_attribute("Conv2", "pad", 1),
        set_attribute("Conv2", "dilation", 1),
        set_attribute("Conv2", "algorithm", "winograd"),
        set_attribute("Pool1", "dtype", np.dtype("float64")),
        set_attribute("Conv1", "trainable", False),
        set_attribute("Conv1", "something_of_a_subclass", 1),
        new_array("parameters"),
        new_arrays("parameters"),
        an_array_more,
        another_layer,
        a_layer_less,
        a_layer_more,
        the_layers_order,
        a_layer_from_one_end_to_the_other,
        another_objective,
    ],
)
def test_passes_notice(change):
    vae, passes = made()
    assert is_current(vae, passes)
    change(vae)
    assert not is_current(vae, passes)


@pytest.mark.parametrize("change", [new_array("gradients"), new_arrays("gradients"), an_array_less])
def test_passes_for_training_notice_gradients(change):
    vae, passes = made(training=True)
    assert is_current(vae, passes)
    change(vae)
    assert not is_current(vae, passes)


@pytest.mark.parametrize(("layer", "name"), [("FC5", "slope"), ("FC5", "intercept"), ("FC4", "alpha")])
def test_an_activation_does_not_change(layer, name):
    """So that its hash is one value, and recordings that were made with it stay right."""
    vae, _ = made()
    before = vae.encode(random_images())[0]
    with pytest.raises(AttributeError, match=f"^{name} of .* cannot change"):
        setattr(vae.encoder[layer].act_fn, name, 0.25)
    np.testing.assert_array_equal(vae.encode(random_images())[0], before)


def test_an_activation_that_is_no_longer_the_identity_is_applied():
    X = random_images()
    vae = initialized(small_vae(dtype="float64"))
    vae.encoder["FC4"].set_params({"act_fn": "Affine(slope=1, intercept=0)"})
    plain = vae.encode(X)[0]
    vae.encoder["FC4"].set_params({"act_fn": "Affine(slope=3, intercept=0)"})
    np.testing.assert_allclose(vae.encode(X)[0], 3 * plain, rtol=1e-12)


# -------------------------------------------------------------------- programs


def test_programs_of_many_batch_sizes_are_not_kept_for_ever():
    X, vae = random_images(3 * MAX_PROGRAMS), initialized(small_vae())
    codes = vae.transform(X)
    passes = vae._passes(1, training=False)
    for n in range(1, len(X)):
        np.testing.assert_allclose(vae.transform(X[:n]), codes[:n], rtol=1e-5, atol=1e-6)
        assert 1 <= len(passes._programs) <= MAX_PROGRAMS
    assert vae._passes(1, training=False) is passes


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_optimizer_that_is_replaced_takes_the_next_step(n_threads):
    """No program of the old one is left."""
    X, vae = random_images(8), small_vae(optimizer="Adam(lr=0.01)", n_threads=n_threads)
    vae.fit(X, n_epochs=1)
    for layer in layers(vae).values():
        layer.optimizer = SGD(lr=0)
    before = parameters(vae)
    vae.fit(X, n_epochs=2)
    assert_same_bits(parameters(vae), before)


def test_an_optimizer_that_is_replaced_inside_its_layer_takes_the_next_step():
    X, vae = random_images(8), small_vae(optimizer="Adam(lr=0.01)").fit(random_images(8), n_epochs=1)
    for layer in layers(vae).values():
        layer.optimizer.set_params({"lr": 0.0})
        layer.optimizer.cache.clear()
    before = parameters(vae)
    vae.fit(X, n_epochs=1)
    assert_same_bits(parameters(vae), before)
    assert all(layer.optimizer.cache["W"]["t"] == 2 for layer in layers(vae).values() if layer.parameters)


def two_steps_of_fit(vae, X):
    vae.fit(X, n_epochs=2, batchsize=len(X))


def two_steps_by_hand(vae, X):
    for _ in range(2):
        vae.backward(X, vae.forward(X))
        vae.update()


@pytest.mark.parametrize("train", [two_steps_of_fit, two_steps_by_hand])
def test_frozen_layers_count_no_step(train):
    vae = initialized(small_vae())
    vae.encoder["FC4"].freeze()
    vae.encoder["Pool1"].freeze()
    train(vae, random_images())
    steps = {path: layer.optimizer.cur_step for path, layer in layers(vae).items()}
    assert {path for path, count in steps.items() if count == 0} == {"encoder/FC4", "encoder/Pool1"}
    assert {count for count in steps.values() if count} == {2}
    assert vae.encoder["FC4"].optimizer.cache == {}


@pytest.mark.parametrize("train", [two_steps_of_fit, two_steps_by_hand])
def test_a_model_whose_layers_are_all_frozen_stays_as_it_was(train):
    vae = initialized(small_vae())
    for layer in layers(vae).values():
        layer.freeze()
    before = parameters(vae)
    train(vae, random_images())
    assert_same_bits(parameters(vae), before)


# ---------------------------------------------------------- what layers are put together


def test_a_layer_that_does_not_fit_behind_the_output_is_refused_in_every_way():
    X = random_images()
    vae = small_vae().fit(X)
    vae.decoder["FC3"] = copy.deepcopy(vae.decoder["FC2"])
    for use in (vae.encode, vae.fit, vae.elbo, vae.forward, vae.reconstruct, lambda X: vae.decode(np.zeros((1, 2)))):
        with pytest.raises(ValueError, match="X must have 8 columns, got 72"):
            use(X)


def test_a_layer_more_behind_the_output_counts_in_every_way():
    """The last layer gives the logits, the one below it is a hidden layer."""
    X = random_images(dtype=np.float64)
    vae = small_vae(dtype="float64").fit(X)
    vae.decoder["FC3"] = FullyConnected(72, random_state=5, dtype="float64")
    Z, noise = vae.transform(X), np.zeros((10, 2))
    images = vae.decode(Z).reshape(10, -1)
    hidden = 1 / (1 + np.exp(-vae.decoder["FC2"].without_activation().forward(vae.decoder["FC1"].forward(Z))))
    W, b = vae.decoder["FC3"].W, vae.decoder["FC3"].b
    np.testing.assert_allclose(images, 1 / (1 + np.exp(-(hidden @ W + b))), rtol=1e-10)
    np.testing.assert_allclose(vae.forward(X, noise=noise), images, rtol=1e-12)
    vae.flush_gradients()
    before = vae.history_["loss"][-1]
    vae.fit(X, n_epochs=30)
    assert vae.history_["loss"][-1] < before


def test_a_last_layer_without_an_activation_is_run_as_it_is():
    vae = initialized(small_vae())
    vae.decoder["FC2"].set_params({"act_fn": "Identity"})
    Z = np.random.default_rng(0).normal(size=(3, 2))
    before = vae.decode(Z)
    vae.decoder["Flatten3"] = Flatten()
    np.testing.assert_array_equal(vae.decode(Z), before)
