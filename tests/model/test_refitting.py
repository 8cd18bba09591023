"""What another fit does, and what a trained model keeps when its arguments change."""

import copy
import math
import threading

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from small_vae import assert_same_bits, assert_same_model, layers, parameters, random_images, small_vae

import cvae
from cvae.callbacks import CSVLogger, EarlyStopping, LambdaCallback

X = random_images()


def model(**changes):
    fixed = {"T": 2, "n_epochs": 2, "batchsize": 4, "random_state": 0, "verbose": False}
    return cvae.VAE("mlp", **fixed | changes)


def bits(vae):
    """Return parameters and optimizer state by path."""
    arrays = {}
    for path, layer in vae._layers().items():
        states = {name: layer.optimizer.states(name) for name in layer.optimizer.cache}
        arrays |= {f"{path}/{name}": array.copy() for name, array in layer.parameters.items()}
        arrays |= {f"{path}/{name}/{i}": a.copy() for name, state in states.items() for i, a in enumerate(state)}
    return arrays


# -------------------------------------------------------------- anew, or going on


@pytest.mark.parametrize("make", [model, lambda **changes: small_vae(warm_start=False, **changes)])
def test_fit_starts_anew(make):
    vae = make().fit(random_images(7, seed=3)).fit(X)
    assert_same_bits(bits(vae), bits(make().fit(X)))
    assert len(vae.history_["loss"]) == 2
    assert vae.fit(random_images(6, (12, 9, 3))).n_features_in_ == 12 * 9 * 3


def test_a_new_start_that_drops_frozen_layers_is_told_of():
    vae = model().fit(X)
    vae.encoder_["Code"].freeze()
    kept = vae.copy().partial_fit(X)
    assert not kept.encoder_["Code"].trainable
    assert_same_bits(kept.encoder_["Code"].parameters, vae.encoder_["Code"].parameters)
    with pytest.warns(UserWarning, match="fit starts anew, with new parameters in the frozen layers too"):
        vae.fit(X)
    assert_same_bits(bits(vae), bits(model().fit(X)))
    assert vae.encoder_["Code"].trainable


@pytest.mark.parametrize("make", [small_vae, lambda **changes: model(warm_start=True, **changes)])
def test_a_warm_start_goes_on(make):
    vae = make().fit(X, n_epochs=1).fit(X, n_epochs=1)
    assert_same_bits(bits(vae), bits(make().fit(X)))
    with pytest.raises(ValueError, match=r"X must hold images of shape \(9, 8, 1\), got \(12, 9, 3\)"):
        vae.fit(random_images(6, (12, 9, 3)))


@pytest.mark.parametrize("make", [small_vae, model])
def test_partial_fit_goes_on(make):
    assert_same_bits(bits(make().partial_fit(X).partial_fit(X)), bits(make().fit(X)))
    assert_same_bits(bits(make().fit(X).partial_fit(X)), bits(make().fit(X, n_epochs=3)))


def test_a_generator_goes_on_where_a_seed_starts_again():
    rng = np.random.default_rng(0)
    vae = model(random_state=rng)
    first, second = (bits(vae.fit(X)) for _ in range(2))
    assert any((first[path] != second[path]).any() for path in first)
    assert vae._rng is rng


def test_a_fit_that_is_refused_leaves_the_model(monkeypatch):
    def fail(*arguments):
        raise MemoryError

    vae = model().fit(X)
    before, history = bits(vae), dict(vae.history_)
    for wrong, kwargs in (
        (X + 1, {}),
        (X, {"n_epochs": 0}),
        (X, {"validation_data": X[:, 1:]}),
        (X, {"callbacks": 3}),
        (X, {"sample_weight": [1]}),
    ):
        with pytest.raises((ValueError, TypeError)):
            vae.fit(wrong, **kwargs)
    with monkeypatch.context() as patch:
        patch.setattr("cvae.passes.empty", fail)
        with pytest.raises(MemoryError):
            vae.fit(random_images(64), batchsize=64)
    assert_same_bits(bits(vae), before)
    assert vae.history_ == history
    assert_same_bits(bits(vae.partial_fit(X)), bits(model().fit(X, n_epochs=3)))


def fail(*arguments):
    raise LookupError("of the test")


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    "callback",
    [
        EarlyStopping(),  # there is no val_loss
        CSVLogger("no/such/folder/history.csv"),
        LambdaCallback(on_train_begin=fail),
        LambdaCallback(on_epoch_begin=fail),
        LambdaCallback(on_batch_begin=fail),
    ],
)
def test_a_fit_that_ends_before_its_first_step_leaves_the_model(warm_start, callback):
    vae = model(warm_start=warm_start).fit(X)
    before, history = bits(vae), dict(vae.history_)
    with pytest.raises((ValueError, OSError, LookupError)):
        vae.fit(X, callbacks=[callback])
    assert_same_bits(bits(vae), before)
    assert vae.history_ == history
    assert_same_bits(bits(vae.fit(X)), bits(model(warm_start=warm_start).fit(X, n_epochs=4 if warm_start else 2)))


def test_a_first_fit_that_ends_before_its_first_step_leaves_a_model_and_generator_as_new():
    rng = np.random.default_rng(1)
    state, vae = rng.bit_generator.state, model(random_state=rng)
    with pytest.raises(LookupError):
        vae.fit(X, callbacks=[LambdaCallback(on_epoch_begin=fail)])
    assert rng.bit_generator.state == state
    with pytest.raises(cvae.NotFittedError):
        vae.encode(X)


def test_a_model_is_trained_once_at_a_time():
    vae, refused = model().fit(X), []

    def refuses(name, train):
        with pytest.raises(RuntimeError, match="being trained already"):
            train(X)
        refused.append(name)

    def train_it(name, *arguments):
        refuses(name, vae.fit)
        refuses(name, vae.partial_fit)
        thread = threading.Thread(target=refuses, args=("thread", vae.fit))
        thread.start()
        thread.join()
        model().fit(X)  # another one may be trained

    before = bits(model().fit(X))
    names = ("on_train_begin", "on_batch_end", "on_epoch_end", "on_train_end")
    callbacks = [LambdaCallback(**{name: lambda *arguments, name=name: train_it(name)}) for name in names]
    assert_same_bits(bits(vae.fit(X, callbacks=callbacks)), before)
    assert {*refused} == {*names, "thread"}
    copies = []
    vae.fit(X, callbacks=[lambda vae, *_: copies.append(copy.deepcopy(vae).fit(X))])
    assert_same_bits(bits(vae.fit(X)), before)
    assert_same_bits(bits(copies[0]), before)


def test_a_wrong_warm_start_is_refused():
    with pytest.raises(TypeError, match="warm_start must be True or False, got 'yes'"):
        model(warm_start="yes").fit(X)


# ------------------------------------------------------------- the learning rate


@pytest.mark.parametrize("optimizer", ["Adam(lr=5)", "SGD(momentum=0.5)", "RMSProp(lr=5)", None])
def test_lr_is_the_optimizers(optimizer):
    vae = model(optimizer=optimizer, lr=np.float64(0.02)).fit(X)
    assert {layer.optimizer.lr for layer in vae._layers().values()} == {0.02}
    name, arguments = (optimizer or "SGD()")[:-1].split("(")
    rest = ", ".join(argument for argument in arguments.split(",") if argument and "lr" not in argument)
    expected = model(optimizer=f"{name}(lr=0.02{', ' if rest else ''}{rest})").fit(X)
    assert_same_bits(bits(vae), bits(expected))


@pytest.mark.parametrize("change", [{"lr": 0.004}, {"optimizer": "Adam(lr=0.004)"}, {"optimizer": "SGD(lr=0.004)"}])
@pytest.mark.parametrize("assign", [setattr, lambda vae, name, value: vae.set_params(**{name: value})])
def test_another_rate_keeps_what_was_learnt(change, assign, tmp_path):
    vae = model(warm_start=True).fit(X)
    before = parameters_of(vae)
    for name, value in change.items():
        assign(vae, name, value)
    assert_same_bits(parameters_of(vae), before)
    assert vae.transform(X).shape == (10, 2)
    expected = model(warm_start=True).fit(X)
    for layer in expected._layers().values():
        if "SGD" in str(change):
            layer.set_params({"optimizer": "SGD(lr=0.004)"})
        else:
            layer.optimizer.lr = 0.004
    assert_same_bits(bits(vae.fit(X)), bits(expected.fit(X)))
    assert len(vae.history_["loss"]) == 4
    vae.save(tmp_path / "model")
    assert_same_bits(bits(cvae.load(tmp_path / "model").fit(X)), bits(vae.fit(X)))


def parameters_of(vae):
    return {f"{path}/{k}": a.copy() for path, layer in vae._layers().items() for k, a in layer.parameters.items()}


def test_a_rate_of_zero_keeps_all_parameters():
    vae = model(warm_start=True).fit(X)
    before = parameters_of(vae)
    vae.optimizer = "SGD(lr=0)"
    assert_same_bits(parameters_of(vae.fit(X)), before)
    vae.optimizer, vae.lr = "Adam(lr=0.1)", 0
    assert_same_bits(parameters_of(vae.fit(X)), before)
    vae.lr = None
    assert (parameters_of(vae.fit(X))["encoder/Code/W"] != before["encoder/Code/W"]).any()


def test_wrong_rates_are_refused():
    scheduled = "Adam(lr_scheduler=ExponentialScheduler())"
    for changes, error, message in (
        ({"lr": -1}, ValueError, r"lr must be a number in \[0, inf\), got -1"),
        ({"lr": "fast"}, TypeError, "lr must be a number in"),
        (
            {"lr": 0.1, "optimizer": scheduled},
            ValueError,
            "lr must be None for an optimizer with a lr_scheduler, got 0",
        ),
    ):
        with pytest.raises(error, match=message):
            model(**changes).fit(X)


def test_schedules_of_beta_go_on_with_another_optimizer_and_those_of_the_rate_begin(tmp_path):
    vae = model(objective="ELBO(beta=Linear(end=1, steps=100))", warm_start=True).fit(X)
    assert {layer.optimizer.cur_step for layer in vae._layers().values()} == {6}
    vae.set_params(optimizer="Adam(lr_scheduler=CosineScheduler(initial_lr=0.01, steps=5))").fit(X, n_epochs=1)
    vae.save(tmp_path / "model")
    for same in (vae, cvae.load(tmp_path / "model")):
        optimizer = same.encoder_["Code"].optimizer
        assert optimizer.cur_step == 3
        same.fit(X, n_epochs=1, batchsize=10)
        assert same.history_["penalty"][-1] == pytest.approx(same.history_["kl"][-1] * 0.09)  # of step 9


def weights_of_kl(vae):
    """Return the mean weight of the KL divergence in each epoch."""
    pairs = zip(vae.history_["penalty"], vae.history_["kl"], strict=True)
    return [round(penalty / kl, 6) for penalty, kl in pairs if not math.isnan(penalty)]


@pytest.mark.parametrize("former", ["ELBO(beta=0)", "ELBO(beta=Linear(end=2, steps=3))", "IWAE(k=2)"])
def test_a_schedule_of_beta_begins_when_a_trained_model_gets_it(former, tmp_path):
    vae = model(objective=former, warm_start=True, batchsize=10).fit(X, n_epochs=5)
    vae.save(tmp_path / "model")
    for same in (vae, cvae.load(tmp_path / "model")):
        same.set_params(objective="ELBO(beta=Linear(end=1, steps=4))").fit(X, n_epochs=3)
        assert weights_of_kl(same)[-3:] == [0, 0.25, 0.5]
        same.set_params(objective="ELBO(beta=Linear(end=1, steps=4), n_samples=2)").fit(X, n_epochs=3)
        assert weights_of_kl(same)[-3:] == [0.75, 1, 1]  # it is the same schedule
        assert weights_of_kl(same.fit(X, n_epochs=1))[-1] == 1


def test_a_schedule_of_beta_goes_on_whatever_becomes_of_the_layers_optimizers(tmp_path):
    vae = model(objective="ELBO(beta=Linear(end=1, steps=4))", warm_start=True, batchsize=10).fit(X, n_epochs=2)
    for layer in vae._layers().values():
        layer.optimizer = cvae.optimizers.Adam(lr=1e-4)
    vae.fit(X, n_epochs=1)
    vae.save(tmp_path / "model")
    vae = cvae.load(tmp_path / "model")
    for layer in vae._layers().values():
        layer.optimizer.reset_step()
    assert weights_of_kl(vae.fit(X, n_epochs=2)) == [0, 0.25, 0.5, 0.75, 1]
    assert weights_of_kl(vae.set_params(warm_start=False).fit(X, n_epochs=2)) == [0, 0.25]
    alone = vae.copy(optimizer_state=False).set_params(warm_start=True)
    assert weights_of_kl(alone.fit(X, n_epochs=1))[-1] == 0
    assert weights_of_kl(vae.set_params(warm_start=True).fit(X, n_epochs=1))[-1] == 0.5


def test_steps_by_hand_count_for_schedules_of_beta():
    vae = model(objective="ELBO(beta=Linear(end=1, steps=4))", warm_start=True, batchsize=10)
    for _ in range(3):
        vae.backward(X, vae.forward(X))
        vae.update()
    assert weights_of_kl(vae.fit(X, n_epochs=1)) == [0.75]
    assert weights_of_kl(vae.fit(X, n_epochs=1, n_shards=2)) == [0.75, 1]
    vae.set_params(objective="ELBO(beta=Linear(end=1, steps=5))").fit(X, n_epochs=2, n_shards=2)
    assert weights_of_kl(vae)[-2:] == [0, 0.2]


def test_searches_change_the_rate_and_survive_what_does_not_work():
    search = RandomizedSearchCV(model(), {"lr": loguniform(1e-4, 1e-2)}, n_iter=3, cv=2, random_state=0).fit(X)
    assert search.best_estimator_.encoder_["Code"].optimizer.lr == search.best_params_["lr"]
    assert len(set(search.cv_results_["mean_test_score"])) == 3
    with (
        pytest.warns(FitFailedWarning, match="T must be an int >= 1, got -1"),
        pytest.warns(UserWarning, match="One or more of the test scores are non-finite"),
    ):
        search = GridSearchCV(model(), {"T": [-1, 2]}, cv=2).fit(X)
    assert search.best_params_ == {"T": 2}
    assert np.isnan(search.cv_results_["mean_test_score"][0])


# ------------------------------------------------------- other arguments of a trained model


@pytest.mark.parametrize("make", [small_vae, model])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_another_dtype_keeps_what_was_learnt(make, dtype, tmp_path):
    other = "float64" if dtype == "float32" else "float32"
    vae = make(dtype=dtype).fit(X)
    before, codes = bits(vae), vae.transform(X)
    vae.set_params(dtype=other)
    assert vae.transform(X).dtype == other
    np.testing.assert_allclose(vae.transform(X), codes, rtol=1e-4, atol=1e-6)
    assert_same_bits(bits(vae), {path: array.astype(other) for path, array in before.items()})
    assert np.isfinite(vae.partial_fit(X).history_["loss"]).all()
    vae.save(tmp_path / "model")
    assert_same_bits(bits(cvae.load(tmp_path / "model")), bits(vae))


def test_a_block_takes_another_dtype():
    vae = cvae.VAE("mlp", ["Residual([FullyConnected(2), BatchNorm1D()])"], T=2, n_epochs=1, verbose=False).fit(X)
    before = vae.transform(X)
    np.testing.assert_allclose(vae.set_params(dtype="float64").transform(X), before, rtol=1e-5, atol=1e-6)
    assert vae.partial_fit(X).decode(np.zeros((1, 2))).dtype == np.float64


def test_another_random_state_keeps_what_was_learnt_and_makes_new_generators():
    vae = small_vae().fit(X)
    before = parameters(vae)
    vae.set_params(random_state=np.random.default_rng(5))
    assert_same_bits(parameters(vae), before)
    vae.sample()
    assert vae._rng is vae.random_state
    assert all(layer.rng is vae.random_state for layer in layers(vae).values())
    others = [small_vae().fit(X).set_params(random_state=5) for _ in range(2)]
    first, second = (parameters(other.fit(X)) for other in others)
    assert_same_bits(first, second)
    assert_same_bits(parameters(vae.fit(X)), first)
    assert (parameters(small_vae().fit(X).fit(X))["encoder/FC5/W"] != first["encoder/FC5/W"]).any()


def test_the_algorithm_changes_alone():
    vae = small_vae().fit(X)
    codes, before = vae.transform(X), parameters(vae)
    for algorithm in ("direct", "winograd", "auto"):
        vae.set_params(algorithm=algorithm)
        np.testing.assert_allclose(vae.transform(X), codes, rtol=1e-4, atol=1e-5)
        assert vae.encoder["Conv1"].algorithm == vae.encoder["Conv2"].algorithm == algorithm
    assert_same_bits(parameters(vae), before)
    with pytest.raises(ValueError, match="algorithm must be 'auto', 'direct' or 'winograd', got 'fft'"):
        vae.set_params(algorithm="fft").transform(X)
    assert vae.set_params(algorithm="auto").encoder["Conv1"].algorithm == "auto"


def test_the_shape_that_a_model_has_may_be_named():
    vae = model().fit(X)
    codes = vae.transform(X)
    for shape in ((9, 8), (9, 8, 1), None, [9, 8]):
        np.testing.assert_array_equal(vae.set_params(image_shape=shape).transform(X), codes)
    with pytest.raises(cvae.NotFittedError, match=r"image_shape has changed from \[9, 8\] to \(3, 24\) since this VAE"):
        vae.set_params(image_shape=(3, 24)).transform(X)
    with pytest.raises(TypeError, match="image_shape must be 2 or 3 ints"):
        vae.set_params(image_shape=5).transform(X)
    assert not vae.__sklearn_is_fitted__()
    assert vae.set_params(image_shape=(3, 24)).fit(X.reshape(10, -1)).decode(codes).shape == (10, 3, 24, 1)


def test_what_was_changed_by_hand_before_the_first_fit_stays():
    vae = small_vae()
    vae.encoder["Conv1"].freeze()
    vae.set_params(lr=0.5, dtype="float64", random_state=4, batchsize=3).fit(X)
    assert not vae.encoder["Conv1"].trainable
    expected = small_vae(lr=0.5, dtype="float64", random_state=4, batchsize=3)
    expected.encoder["Conv1"].freeze()
    assert_same_model(vae, expected.fit(X), X)


@pytest.mark.parametrize("make", [small_vae, model])
def test_arguments_that_are_wrong_are_kept_and_cloned(make):
    wrong = {name: object() for name in make().get_params()}
    vae = clone(make().set_params(**{name: value for name, value in wrong.items() if name != "encoder"}))
    assert type(vae.get_params()["T"]) is object
    with pytest.raises(TypeError, match="T must be an int >= 1"):
        vae.fit(X)
