"""fit: history, validation, callbacks, progress, continued training, and learning."""

import math
import re
import sys

import numpy as np
import pytest
from small_vae import (
    assert_same_bits,
    assert_same_model,
    initialized,
    mean_is_enough,
    parameters,
    random_images,
    small_vae,
    without_times,
)

from cvae import datasets
from cvae.callbacks import LambdaCallback
from cvae.feeding import split
from cvae.layers import FullyConnected

# -------------------------------------------------------------------- history


def test_history_has_an_entry_for_each_epoch():
    vae = small_vae(beta=2.0)
    assert vae.history_ == {}
    assert vae.fit(random_images(), n_epochs=3) is vae
    assert vae.history_.keys() == {"loss", "reconstruction", "kl", "seconds", "images_per_second"}
    assert all(len(column) == 3 for column in vae.history_.values())
    assert all(type(value) is float and value > 0 for column in vae.history_.values() for value in column)
    h = vae.history_
    for loss, reconstruction, kl in zip(h["loss"], h["reconstruction"], h["kl"], strict=True):
        assert loss == reconstruction + 2.0 * kl
    for seconds, rate in zip(h["seconds"], h["images_per_second"], strict=True):
        assert rate == 10 / seconds


def test_an_epochs_loss_weights_a_short_last_batch_by_its_images():
    """Three equal images and a fourth with a higher loss, in batches of 3 and 1, at a learning rate of 0."""
    vae = mean_is_enough(initialized(small_vae(optimizer="SGD(lr=0)", dtype="float64")))
    vae.decoder["FC2"].set_params({"parameters": {"b": np.full((1, 72), -2.0)}})
    X = np.zeros((4, 9, 8, 1))
    X[3] = 1
    vae.fit(X, n_epochs=1, batchsize=3)
    each = -vae.elbo(X)
    assert each[3] > each[0] + 50
    assert vae.history_["loss"] == [pytest.approx(each.mean(), rel=1e-12)]
    vae.fit(X, n_epochs=5, batchsize=3)  # with the odd image in different batches
    assert vae.history_["loss"] == pytest.approx([each.mean()] * 6, rel=1e-12)


def test_the_loss_of_an_epoch_is_that_before_each_step():
    """With a single batch, the epoch's loss is that of the initial parameters."""
    vae = mean_is_enough(initialized(small_vae(dtype="float64")))
    X = random_images()
    before = -vae.score(X)
    vae.fit(X, n_epochs=1, batchsize=10)
    assert vae.history_["loss"] == [pytest.approx(before, rel=1e-12)]


def test_n_epochs_and_batchsize_of_fit_come_before_the_constructors():
    vae = small_vae(n_epochs=2, batchsize=4).fit(random_images(), n_epochs=3, batchsize=5)
    assert len(vae.history_["loss"]) == 3
    assert vae.encoder["Conv1"].optimizer.cur_step == 6
    assert (vae.n_epochs, vae.batchsize) == (2, 4)
    vae.fit(random_images())
    assert len(vae.history_["loss"]) == 5
    assert vae.encoder["Conv1"].optimizer.cur_step == 12


# ----------------------------------------------------------------- validation


def test_validation_changes_no_bit_of_the_training():
    X, held_out = random_images(), random_images(133, seed=5)
    plain, validated = small_vae().fit(X), small_vae().fit(X, validation_data=held_out)
    assert_same_model(validated, plain, X)
    assert validated.history_["loss"] == plain.history_["loss"]


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: (a,), lambda a: (a, np.zeros(7))], ids=["X", "(X,)", "(X, y)"])
def test_validation_loss_is_that_of_the_model_after_the_epoch(wrap):
    held_out, scores = random_images(7, seed=5), []
    vae = small_vae(beta=1.0)
    vae.fit(
        random_images(), validation_data=wrap(held_out), callbacks=[lambda vae, *_: scores.append(-vae.score(held_out))]
    )
    assert vae.history_["val_loss"] == pytest.approx(scores, rel=1e-14)
    assert vae.history_["val_loss"] == pytest.approx(
        np.add(vae.history_["val_reconstruction"], vae.history_["val_kl"]), rel=1e-14
    )


def test_a_weight_of_any_number_type_leaves_plain_numbers_in_the_history(tmp_path):
    vae = small_vae(beta=np.float32(0.3)).fit(random_images(), n_epochs=3)
    for loss, reconstruction, kl in zip(
        *(vae.history_[name] for name in ("loss", "reconstruction", "kl")), strict=True
    ):
        assert {type(number) for number in (loss, reconstruction, kl)} == {float}
        assert loss == reconstruction + float(np.float32(0.3)) * kl
    vae.save(tmp_path / "model.safetensors")


def test_validation_loss_has_the_weight_beta():
    vae = small_vae(beta=3.0).fit(random_images(), validation_data=random_images(7))
    h = vae.history_
    expected = np.add(h["val_reconstruction"], 3.0 * np.array(h["val_kl"]))
    np.testing.assert_allclose(h["val_loss"], expected, rtol=1e-14)


def test_epochs_without_validation_count_as_nan():
    X = random_images()
    vae = small_vae().fit(X, n_epochs=1).fit(X, n_epochs=1, validation_data=X).fit(X, n_epochs=1)
    missing = [math.isnan(value) for value in vae.history_["val_loss"]]
    assert missing == [True, False, True]
    assert {len(column) for column in vae.history_.values()} == {3}


# ------------------------------------------------------------------ callbacks


def test_callbacks_get_the_model_the_epoch_and_its_entry():
    seen = []
    record, spoil = lambda *args: seen.append(args), lambda vae, epoch, entry: entry.clear()
    vae = small_vae().fit(random_images(), callbacks=[spoil, record, record])
    assert [epoch for _, epoch, _ in seen] == [1, 1, 2, 2]
    assert all(model is vae for model, _, _ in seen)
    assert [entry for _, _, entry in seen[::2]] == [
        {name: column[i] for name, column in vae.history_.items()} for i in (0, 1)
    ]


def test_the_epochs_numbers_go_on_in_a_second_fit():
    seen = []
    vae = small_vae().fit(random_images(), n_epochs=2)
    vae.fit(random_images(), n_epochs=2, callbacks=[lambda vae, epoch, entry: seen.append(epoch)])
    assert seen == [3, 4]


@pytest.mark.parametrize(
    ("answer", "epochs"), [(True, 1), (np.True_, 1), (False, 4), (None, 4), (1, 4), ("stop", 4)], ids=str
)
def test_only_true_stops_the_training(answer, epochs):
    called = []
    callbacks = [lambda *_: answer, lambda *_: called.append(1)]
    vae = small_vae().fit(random_images(), n_epochs=4, callbacks=callbacks)
    assert len(vae.history_["loss"]) == epochs
    assert len(called) == epochs  # all callbacks are called
    assert_same_model(vae, small_vae().fit(random_images(), n_epochs=epochs), random_images())


def test_using_the_model_in_a_callback_changes_no_bit_of_the_training():
    X = random_images()

    def use(vae, epoch, entry):
        vae.sample(3)
        vae.reconstruct(X)
        vae.elbo(random_images(140, seed=2))
        vae.log_likelihood(X[:2], n_samples=3)
        vae.forward(X, noise=np.zeros((10, 2)))
        entry.clear()

    used, plain = small_vae().fit(X, callbacks=[use]), small_vae().fit(X)
    assert_same_model(used, plain, X)
    assert used.history_["loss"] == plain.history_["loss"]


def after_an_epoch(change):
    """Return a callback that changes the model after the first epoch."""
    return lambda vae, epoch, entry: change(vae) if epoch == 1 else None


def unfreeze(vae):
    vae.encoder["Conv1"].unfreeze()


def set_bias(vae):
    vae.encoder["FC4"].set_params({"b": np.full((1, 8), 0.1)})


def replace_layer(vae):
    replaced = FullyConnected(n_out=8, act_fn="ReLU", optimizer="SGD(lr=0.1)", random_state=7)
    replaced.initialize((1, 2))
    vae.decoder["FC1"] = replaced


@pytest.mark.parametrize("change", [unfreeze, set_bias, replace_layer])
def test_what_a_callback_changes_holds_from_the_next_epoch(change):
    X = random_images()
    in_one, in_two = (initialized(small_vae()) for _ in range(2))
    for vae in (in_one, in_two):
        vae.encoder["Conv1"].freeze()
    frozen = parameters(in_one)["encoder/Conv1/W"]
    in_one.fit(X, n_epochs=3, callbacks=[after_an_epoch(change)])
    in_two.fit(X, n_epochs=1)
    change(in_two)
    in_two.fit(X, n_epochs=2)
    assert_same_model(in_one, in_two, X)
    assert np.array_equal(parameters(in_one)["encoder/Conv1/W"], frozen) == (change is not unfreeze)


def test_an_error_in_a_callback_leaves_a_model_that_goes_on():
    def fail(vae, epoch, entry):
        if epoch == 2:
            raise LookupError("of the test")

    vae, X = small_vae(), random_images()
    with pytest.raises(LookupError, match="of the test"):
        vae.fit(X, n_epochs=3, callbacks=[fail])
    assert_same_model(vae, small_vae().fit(X, n_epochs=2), X)


@pytest.mark.parametrize("callbacks", [print, 5, [5], [print, None], "stop"], ids=str)
def test_callbacks_are_checked_before_the_training(callbacks):
    vae = small_vae()
    with pytest.raises(TypeError, match="callbacks must be a sequence of callables, got"):
        vae.fit(random_images(), callbacks=callbacks)
    assert vae.history_ == {}


# ------------------------------------------------------------------- progress


def test_a_validation_loss_that_is_not_finite_is_a_warning():
    def spoil(vae, epoch):
        if epoch == 2:
            b = parameters(vae)["decoder/FC2/b"] * np.nan
            vae.decoder["FC2"].set_params({"parameters": {"b": b}})

    vae, X = small_vae(), random_images()
    late = LambdaCallback(on_batch_end=lambda vae, batch, loss: spoil(vae, 2) if batch == 3 else None)
    with pytest.warns(RuntimeWarning, match=r"val_loss is nan in epoch 1/1"), pytest.raises(FloatingPointError):
        vae.fit(X, n_epochs=1, validation_data=X, callbacks=[late])


def test_validation_data_may_be_a_share_of_the_images():
    X = random_images(20)
    seen, vae = [], small_vae(batchsize=20)
    vae.fit(X, validation_fraction=0.25, callbacks=[lambda vae, epoch, entry: seen.append(entry["val_loss"])])
    train, others = split(20, 0.25, vae.random_state)
    assert (len(train), len(others)) == (15, 5)
    assert sorted([*train, *others]) == list(range(20))
    assert not np.array_equal(others, np.arange(15, 20))
    expected = small_vae(batchsize=20).fit(X[train], validation_data=X[others])
    assert without_times(vae.history_) == without_times(expected.history_)
    assert_same_bits(parameters(vae), parameters(expected))
    for seed in (1, None):  # other images, or the same in every call
        assert len(split(20, 0.25, seed)[1]) == 5
    assert not np.array_equal(split(20, 0.25, 1)[1], others)
    np.testing.assert_array_equal(split(20, 0.25, None)[1], split(20, 0.25, np.random.default_rng(3))[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_fraction": 0}, r"validation_fraction must be a number in \(0, 1\), got 0"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be a number in \(0, 1\), got 1.0"),
        ({"validation_fraction": 0.01}, "validation_fraction must leave images on both sides, got 0.01 of 10 images"),
        ({"validation_fraction": 0.5, "validation_data": random_images()}, "must be left out with validation_data"),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(arguments, message):
    vae = small_vae()
    with pytest.raises(ValueError, match=message):
        vae.fit(random_images(), **arguments)
    assert vae.history_ == {}


def test_a_silent_fit_needs_no_tqdm(monkeypatch):
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    small_vae(verbose=False).fit(random_images())


def test_a_silent_fit_prints_nothing(capfd):
    small_vae(verbose=False).fit(random_images(), validation_data=random_images(3))
    small_vae(verbose=True).fit(random_images(), verbose=False)
    small_vae(verbose=True).partial_fit(random_images())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [({"verbose": True}, {}), ({"verbose": False}, {"verbose": True})], ids=str)
def test_a_verbose_fit_shows_one_bar_for_all_epochs(capfd, arguments):
    of_constructor, of_fit = arguments
    vae = small_vae(**of_constructor)
    vae.fit(random_images(), validation_data=random_images(3), **of_fit).fit(random_images(), n_epochs=1, **of_fit)
    out, err = capfd.readouterr()
    assert out == ""
    for epoch, share in (("1/2", 50), ("2/2", 100), ("3/3", 100)):
        losses = (vae.history_[name][int(epoch[0]) - 1] for name in ("loss", "val_loss"))
        shown = ", ".join(f"{name} {x:.2f}" for name, x in zip(("loss", "val_loss"), losses, strict=True) if x == x)
        line = rf"epoch {epoch}, {shown}: +{share}%\|.*\| \d\d:\d\d<"
        assert re.search(line, err), err
    assert err.count("\n") == 2
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]", err))


# --------------------------------------------------------------- going on


def test_a_second_fit_goes_on_where_the_first_ended():
    X = random_images()
    at_once = small_vae().fit(X, n_epochs=4)
    in_parts = small_vae().fit(X, n_epochs=1).fit(X, n_epochs=3)
    assert_same_model(in_parts, at_once, X)
    assert in_parts.history_["loss"] == at_once.history_["loss"]


def test_partial_fit_is_one_silent_epoch():
    X = random_images()
    vae = small_vae(verbose=True, n_epochs=5)
    assert vae.partial_fit(X, np.zeros(10)) is vae
    vae.partial_fit(X)
    assert_same_model(vae, small_vae().fit(X, n_epochs=2), X)


@pytest.mark.parametrize("image_shape", [(8, 9, 1), (9, 8, 3), (18, 16, 1)], ids=str)
def test_images_of_another_shape_are_refused_after_training(image_shape):
    vae = small_vae().fit(random_images())
    before = parameters(vae)
    with pytest.raises(ValueError, match=r"^X must hold images of shape \(9, 8, 1\), got "):
        vae.fit(random_images(4, image_shape))
    assert_same_bits(parameters(vae), before)


def test_images_must_fit_the_constructors_image_shape():
    vae = small_vae(image_shape=(8, 9))
    with pytest.raises(ValueError, match=r"^X must hold images of shape \(8, 9, 1\), got \(9, 8, 1\)"):
        vae.fit(random_images())
    vae.fit(random_images().reshape(10, 72))
    assert vae.reconstruct(random_images().reshape(10, 72)).shape == (10, 8, 9, 1)


def test_other_numbers_of_images_and_batch_sizes_may_follow():
    vae = small_vae()
    for n, batchsize in ((10, 4), (3, 2), (40, 32), (1, 1), (10, 64)):
        vae.fit(random_images(n), batchsize=batchsize, n_epochs=1)
    assert vae.encoder["Conv1"].optimizer.cur_step == 3 + 2 + 2 + 1 + 1
    assert np.isfinite(vae.score(random_images()))


def test_the_number_of_threads_does_not_matter():
    X = random_images(70, (19, 23, 3))
    wide = {"enc_conv1_out_ch": 17, "enc_conv2_out_ch": 33, "latent_dim": 70, "batchsize": 64, "n_epochs": 1}
    one, three = (small_vae(n_threads=n, **wide).fit(X) for n in (1, 3))
    assert_same_model(one, three, X)
    np.testing.assert_array_equal(one.encode(X), three.encode(X))


# -------------------------------------------------------------------- learning


@pytest.fixture(scope="module")
def digits():
    return datasets.load("mnist-sample")


@pytest.mark.parametrize("seed", [0, 1])
def test_training_learns_digits(digits, seed):
    """A second of training must clearly beat the best model that ignores the code.

    The latter predicts each pixel's mean over the training digits, with a negative ELBO of 207 nats per test digit,
    which is also the result of training without learning in the encoder. An untrained model has 543 = 784 log 2. Seeds
    0 to 9 reach 146.5 to 152.9, or 158 if only the decoder's first layer does not learn.
    """
    p = np.clip(digits.images.mean(0, dtype=np.float64) / 255, 1e-3, 1 - 1e-3)
    y = digits.test_images / 255
    ignoring_the_code = -(y * np.log(p) + (1 - y) * np.log1p(-p)).sum((1, 2, 3)).mean()
    assert 200 < ignoring_the_code < 215

    # One thread, because several wait for one another if the machine is busy.
    vae = small_vae(
        T=8,
        latent_dim=128,
        enc_conv1_out_ch=8,
        enc_conv2_out_ch=16,
        optimizer="Adam(lr=0.003)",
        random_state=seed,
        n_threads=1,
    )
    assert -initialized(vae, (28, 28, 1)).score(digits.test_images) > 500
    vae.fit(digits.images[:2000], n_epochs=4, batchsize=32)
    assert -vae.score(digits.test_images) < 157
