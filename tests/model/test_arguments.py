"""Arguments take effect however they are changed, as a whole or not at all; and those of subclasses."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from small_vae import SMALL, assert_same_bits, checked, initialized, layers, parameters, random_images, small_vae

import cvae
from cvae import NotFittedError
from cvae.nn.initializers import WeightInitializer
from cvae.undo import undone_on_error

# ---------------------------------------------------------------- assigned


def test_a_wrong_value_is_refused_by_the_next_call():
    X, vae = random_images(), small_vae().fit(random_images())
    before = parameters(vae)
    for name, value, message in (
        ("beta", -3, r"beta must be a number in \[0, inf\), got -3"),
        ("beta", np.nan, "beta must be a number"),
        ("n_epochs", 0, "n_epochs must be an int >= 1, got 0"),
        ("batchsize", -1, "batchsize must be an int >= 1"),
        ("T", 0, "T must be an int >= 1"),
        ("enc_conv1_stride", 0, "enc_conv1_stride must be an int >= 1"),
        ("optimizer", "Lion", "the optimizer must be one of"),
        ("dtype", "int8", "dtype must be"),
        ("n_threads", 0, "n_threads must be from 1"),
    ):
        good = getattr(vae, name)
        setattr(vae, name, value)
        uses = (vae.fit, vae.encode, vae.forward, vae.partial_fit, lambda X: vae.update(), lambda X: vae.backward(X, X))
        for use in uses:
            with pytest.raises(ValueError, match=message):
                use(X)
        setattr(vae, name, good)
        assert_same_bits(parameters(vae), before)
    assert vae.encode(X)[0].shape == (10, 2)


def test_a_wrong_weight_from_a_callback_is_refused_before_the_next_epoch():
    def spoil(vae, epoch, entry):
        vae.beta = -3

    vae = small_vae()
    with pytest.raises(ValueError, match=r"beta must be a number in \[0, inf\), got -3"):
        vae.fit(random_images(), n_epochs=3, callbacks=[spoil])
    assert len(vae.history_["loss"]) == 1
    vae.beta = 1.0
    expected = small_vae().fit(random_images(), n_epochs=1)
    assert_same_bits(parameters(vae), parameters(expected))


def test_a_callback_may_change_the_weight_from_epoch_to_epoch():
    def warm_up(vae, epoch, entry):
        vae.beta = epoch / 2

    X = random_images()
    vae = small_vae(beta=0.0).fit(X, n_epochs=3, callbacks=[warm_up])
    by_hand = small_vae(beta=0.0)
    for epoch in (1, 2, 3):
        by_hand.fit(X, n_epochs=1)
        by_hand.set_params(beta=epoch / 2)
    assert_same_bits(parameters(vae), parameters(by_hand))
    history = {name: np.array(values) for name, values in vae.history_.items()}
    np.testing.assert_allclose(history["loss"], history["reconstruction"] + [0, 0.5, 1] * history["kl"])


@pytest.mark.parametrize("change", [{"T": 7}, {"latent_dim": 3}, {"enc_conv1_out_ch": 2}], ids=str)
@pytest.mark.parametrize("fitted", [False, True])
def test_an_argument_of_the_layers_that_is_assigned_makes_them_anew(change, fitted):
    X, vae = random_images(), small_vae()
    if fitted:
        vae.fit(X)
    for name, value in change.items():
        setattr(vae, name, value)
    with pytest.raises(NotFittedError):
        vae.encode(X)
    assert_same_bits(parameters(vae.fit(X)), parameters(small_vae(**change).fit(X)))
    assert vae.transform(X).shape == (10, change.get("T", 2))


def test_an_optimizer_that_is_assigned_takes_the_next_steps_and_is_saved(tmp_path):
    X, vae = random_images(), small_vae().fit(random_images())
    before = parameters(vae)
    vae.optimizer = "SGD(lr=0)"
    vae.fit(X, n_epochs=1)
    assert_same_bits(parameters(vae), before)
    assert len(vae.history_["loss"]) == 3
    vae.save(tmp_path / "model.safetensors")
    loaded = cvae.load(tmp_path / "model.safetensors")
    assert loaded.optimizer == "SGD(lr=0)"
    assert {str(layer.optimizer) for layer in layers(loaded).values()} == {
        "SGD(lr=0, momentum=0.0, clip_norm=None, lr_scheduler=ConstantScheduler(lr=0))"
    }


@pytest.mark.parametrize("optimizer", ["SGD(lr=0.1)", "Adam(lr=0.02)"])
def test_another_optimizer_keeps_what_was_learnt_and_its_own_state(optimizer):
    X = random_images()
    vae, expected = small_vae(random_state=0).fit(X), small_vae(random_state=0).fit(X)
    vae.set_params(optimizer=optimizer)
    for layer in layers(expected).values():
        cache = layer.optimizer.cache if optimizer.startswith("Adam") else {}
        layer.set_params({"optimizer": optimizer})
        layer.optimizer.set_params(cache_dict=cache)
    for _ in range(2):
        assert_same_bits(parameters(vae.fit(X)), parameters(expected.fit(X)))
    assert len(vae.history_["loss"]) == 6


@pytest.mark.parametrize("assign", [setattr, lambda vae, name, value: vae.set_params(**{name: value})])
def test_an_optimizer_takes_effect_once(assign):
    X, vae = random_images(), small_vae().fit(random_images())
    assign(vae, "optimizer", "Adam(lr=0.02)")
    vae.fit(X, n_epochs=1, batchsize=10).fit(X, n_epochs=1, batchsize=10)
    assert {layer.optimizer.cur_step for layer in layers(vae).values()} == {6 + 2}


def test_a_list_of_layers_that_changes_in_the_callers_hands_is_taken_at_the_next_start(tmp_path):
    encoder, decoder = ["Flatten()", "FullyConnected(n_out=6, act_fn='ReLU')"], ["FullyConnected(n_out=6)"]
    X = random_images()
    vae = cvae.VAE(encoder, decoder, T=2, n_epochs=1, random_state=0, verbose=False).fit(X)
    before = vae.transform(X)
    encoder.append("FullyConnected(n_out=5)")
    decoder.clear()
    np.testing.assert_array_equal(vae.transform(X), before)
    vae.save(tmp_path / "model")
    loaded = cvae.load(tmp_path / "model")
    assert len(loaded.encoder) == 2
    np.testing.assert_array_equal(loaded.transform(X), before)
    with pytest.raises(cvae.NotFittedError, match=r"encoder has changed from .* since this VAE was fitted: call fit"):
        vae.partial_fit(X)
    np.testing.assert_array_equal(vae.transform(X), before)
    assert [*vae.fit(X).encoder_] == ["Flatten_1", "FullyConnected_2", "FullyConnected_3", "Code"]


def test_equal_values_change_nothing():
    X, vae = random_images(), small_vae().fit(random_images())
    before = vae.transform(X)
    vae.enc_conv1_kernel_shape = (3, 3)
    vae.T = int("2")
    vae.optimizer = "".join(["Adam", "(lr=0.01)"])
    np.testing.assert_array_equal(vae.transform(X), before)
    assert layers(vae)["encoder/FC4"].optimizer.cur_step > 0


# ------------------------------------------------------------ all or nothing


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_a_fit_with_wrong_arguments_leaves_a_shared_generator_alone(make):
    rng = make(0)
    vae = small_vae(random_state=rng).fit(random_images())
    before, state, right = parameters(vae), repr(state_of(rng)), vae.get_params()
    for wrong in (
        {"T": 3, "optimizer": "Lion"}, {"enc_pool1_stride": 0}, {"latent_dim": 4, "init": "zeros"}, {"dtype": "int8"},
        {"T": 3, "n_threads": 0}, {"image_shape": (9, 0)}, {"T": 3, "beta": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            vae.set_params(**wrong).fit(random_images())
        assert repr(state_of(rng)) == state
        vae.set_params(**right)
        assert_same_bits(parameters(vae), before)


def state_of(rng):
    if isinstance(rng, np.random.RandomState):
        return rng.get_state()
    return rng.bit_generator.state, rng.bit_generator.seed_seq.n_children_spawned


def test_a_fit_without_memory_leaves_the_generators_of_layers_alone(monkeypatch):
    encoder = ["Flatten()", cvae.layers.FullyConnected(4, random_state=5)]
    vae, fresh = (cvae.VAE(encoder, [], T=2, random_state=0, verbose=False) for _ in range(2))
    X = random_images(4)
    with monkeypatch.context() as patch:
        fail_in_passes(patch)
        for use in (vae.fit, vae.forward):
            with pytest.raises(MemoryError):
                use(X)
    with pytest.raises(NotFittedError):
        vae.encode(X)
    assert_same_bits(parameters(vae.fit(X, n_epochs=1)), parameters(fresh.fit(X, n_epochs=1)))


def test_a_forward_that_is_refused_creates_nothing():
    vae = small_vae()
    with pytest.raises(ValueError, match="noise must have the shape"):
        vae.forward(random_images(4, (9, 8, 3)), noise=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="noise must be an array of real numbers"):
        vae.forward(random_images(4, (9, 8, 3)), noise=np.full((4, 2), "loud"))
    vae.encoder["Flatten3"].set_params({"keep_dim": -1})
    with pytest.raises(ValueError, match="must"):
        vae.forward(random_images(4))
    vae.encoder["Flatten3"].set_params({"keep_dim": "first"})
    assert_same_bits(parameters(vae.fit(random_images())), parameters(small_vae().fit(random_images())))


@pytest.mark.parametrize(("name", "value"), [("init", "zeros"), ("dtype", "int8"), ("optimizer", "Lion")])
def test_a_failed_first_use_leaves_a_shared_generator_alone(name, value):
    rng = np.random.default_rng(0)
    before = repr(state_of(rng))
    with pytest.raises(ValueError, match=f"{name} must be"):
        checked(small_vae(random_state=rng, **{name: value}))
    assert repr(state_of(rng)) == before


def fail_in_fc4(monkeypatch):
    draw = WeightInitializer.__call__

    def fail(self, shape, **arguments):
        if len(shape) == 2:
            raise MemoryError
        return draw(self, shape, **arguments)

    monkeypatch.setattr(WeightInitializer, "__call__", fail)


def fail_in_passes(monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr("cvae.passes.empty", fail)


@pytest.mark.parametrize("spoil", [fail_in_fc4, fail_in_passes])
@pytest.mark.parametrize("seed", [0, "generator"])
def test_a_fit_without_memory_leaves_the_model_as_it_was(spoil, seed, monkeypatch):
    vae, fresh = (small_vae(random_state=np.random.default_rng(0) if seed == "generator" else seed) for _ in range(2))
    with monkeypatch.context() as patch:
        spoil(patch)
        with pytest.raises(MemoryError):
            vae.fit(random_images(4, (9, 8, 3)))
    with pytest.raises(NotFittedError):
        vae.encode(random_images())
    assert all(not layer.is_initialized for layer in layers(vae).values() if layer.parameters)
    X = random_images()  # of one channel
    assert_same_bits(parameters(vae.fit(X)), parameters(fresh.fit(X)))


def test_a_trained_model_without_memory_for_larger_batches_stays_as_it_was(monkeypatch):
    X, vae = random_images(), small_vae().fit(random_images())
    before = parameters(vae)
    with monkeypatch.context() as patch:
        fail_in_passes(patch)
        with pytest.raises(MemoryError):
            vae.fit(random_images(64), batchsize=64)
    assert_same_bits(parameters(vae), before)
    assert_same_bits(parameters(vae.fit(X)), parameters(small_vae().fit(X).fit(X)))


def test_an_attribute_that_a_failed_block_adds_is_gone():
    changed = SimpleNamespace(kept=1)

    @undone_on_error([changed])
    def fail():
        changed.kept, changed.added = 2, 3
        raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert vars(changed) == {"kept": 1}


# -------------------------------------------------------------------- subclasses


class Wide(cvae.BernoulliVAE):
    """A model with another constructor, whose arguments are some of the base's."""

    def __init__(self, width=8, random_state=0):
        super().__init__(**{**SMALL, "latent_dim": width, "enc_conv2_out_ch": width, "random_state": random_state})
        self.width = width


def test_a_subclass_may_have_a_constructor_of_its_own():
    X, vae = random_images(), Wide(6)
    assert vae.encoder["Conv2"].out_ch == 6
    assert vae.get_params() == {"width": 6, "random_state": 0}
    assert repr(vae) == "Wide(width=6)"
    assert_same_bits(parameters(vae.fit(X)), parameters(small_vae(latent_dim=6, enc_conv2_out_ch=6).fit(X)))
    vae.beta = -1
    with pytest.raises(ValueError, match="beta must be"):
        vae.fit(X)


def test_set_params_of_a_subclass_makes_what_its_constructor_makes(tmp_path):
    X, vae = random_images(), Wide(8).fit(random_images())
    vae.set_params(width=3)
    assert_same_bits(parameters(vae.fit(X)), parameters(Wide(3).fit(X)))
    assert vae.encoder["FC4"].n_out == 3
    scores = GridSearchCV(Shallow(), {"units": [1, 40]}, cv=2).fit(random_images(20)).cv_results_["mean_test_score"]
    assert scores[0] != scores[1]
    vae.save(tmp_path / "model.safetensors")
    loaded = cvae.load(tmp_path / "model.safetensors", cvae.BernoulliVAE)  # as the class of the package that it is
    assert type(loaded) is cvae.BernoulliVAE
    assert_same_bits(parameters(loaded.fit(X)), parameters(vae.fit(X)))


class Shallow(cvae.VAE):
    """A model whose layers follow from its own arguments."""

    def __init__(self, units=5, T=2):
        super().__init__(["Flatten()"], [f"FullyConnected(n_out={units})"], T=T, random_state=0, verbose=False)
        self.units = units


def test_a_subclass_may_choose_the_layers():
    X = random_images()
    vae = Shallow(units=4).fit(X, n_epochs=1)
    assert parameters_of(vae)["decoder/FullyConnected_1/W"] == (2, 4)
    assert vae.get_params() == {"units": 4, "T": 2}


def parameters_of(vae):
    return {path: array.shape for path, array in parameters(vae).items()}


def test_using_the_model_leaves_the_arguments_as_they_were_given():
    vae = small_vae()
    given = vae.get_params()
    initialized(vae).fit(random_images())
    assert all(vae.get_params()[name] is value for name, value in given.items())
