"""What people do with a model in their first month: copies, second runs of a cell, data as programs leave them."""

import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import MinMaxScaler
from small_vae import assert_same_bits, parameters, random_images, small_vae

import cvae
from cvae.callbacks import LambdaCallback


def dense_vae(**changes):
    return cvae.VAE("mlp", **{"T": 2, "n_epochs": 2, "batchsize": 4, "random_state": 0, "verbose": False, **changes})


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy])
def test_a_copy_shares_nothing_with_its_model(make_copy):
    X = random_images(8)
    vae = small_vae().fit(X)
    before, history = parameters(vae), copy.deepcopy(vae.history_)
    other = make_copy(vae)
    other.partial_fit(X)
    other.set_params(beta=3.0).encoder["FC4"].freeze()
    assert_same_bits(parameters(vae), before)
    assert vae.history_ == history
    assert (vae.beta, vae.encoder["FC4"].trainable) == (1.0, True)
    assert_same_bits(parameters(vae.partial_fit(X)), parameters(small_vae().fit(X, n_epochs=3)))


def test_a_copy_within_training_goes_on_as_the_model_does():
    X, copies = random_images(10), []
    note = LambdaCallback(on_batch_end=lambda vae, batch, loss: copies.append(copy.copy(vae)))
    vae = dense_vae().fit(X, callbacks=[note])
    for other in copies:
        epochs = 2 - len(other.history_.get("loss", ()))
        assert_same_bits(parameters(other.set_params(warm_start=True).fit(X, n_epochs=epochs)), parameters(vae))


def interrupt_at(batch):
    def interrupt(vae, number, loss):
        if number == batch:
            raise KeyboardInterrupt

    return LambdaCallback(on_batch_end=interrupt)


def test_a_second_fit_after_an_interruption_says_that_it_starts_anew():
    X, vae = random_images(10), dense_vae()
    with pytest.raises(KeyboardInterrupt):
        vae.fit(X, callbacks=[interrupt_at(2)])
    with pytest.warns(UserWarning, match=r"fit starts anew.* partial_fit, or fit after set_params\(warm_start=True\)"):
        vae.fit(X)
    vae.fit(X)  # without a warning, as after any training that ended
    with pytest.raises(KeyboardInterrupt):
        vae.fit(X, callbacks=[interrupt_at(2)])
    vae.set_params(warm_start=True).fit(X)
    assert_same_bits(parameters(vae), parameters(dense_vae().fit(X)))


@pytest.mark.filterwarnings("error")
def test_where_warnings_are_errors_the_interrupted_model_stays():
    X, vae = random_images(10), dense_vae()
    with pytest.raises(KeyboardInterrupt):
        vae.fit(X, callbacks=[interrupt_at(2)])
    before = parameters(vae)
    with pytest.raises(UserWarning, match="fit starts anew"):
        vae.fit(X)
    assert_same_bits(parameters(vae), before)
    assert_same_bits(parameters(vae.set_params(warm_start=True).fit(X)), parameters(dense_vae().fit(X)))


def test_new_images_beyond_a_scalers_range_name_the_scalers_remedy():
    rows = np.random.default_rng(0).normal(size=(40, 16))
    scaler, clipping = MinMaxScaler().fit(rows[:20]), MinMaxScaler(clip=True).fit(rows[:20])
    vae = dense_vae(image_shape=(4, 4)).fit(scaler.transform(rows[:20]))
    with pytest.raises(ValueError, match=r"in \[0, 1\].*MinMaxScaler\(clip=True\)"):
        vae.transform(scaler.transform(rows))
    assert vae.transform(clipping.transform(rows)).shape == (40, 2)
    with pytest.raises(ValueError, match=r"in \[0, 1\]") as untrained:
        dense_vae().fit(rows)
    assert "MinMaxScaler" not in str(untrained.value)


@pytest.mark.parametrize("name", ["Unnamed: 0", "", "label"])
def test_a_column_that_is_probably_no_pixel_is_named_once(name):
    frame = pd.DataFrame(np.random.default_rng(0).random((8, 4)), columns=[name, "a", "b", "c"])
    with pytest.warns(UserWarning, match=f"X has a column '{name}', which counts as a pixel"):
        vae = dense_vae().fit(frame)
    vae.fit(frame.drop(columns=name))
    assert vae.transform(frame.drop(columns=name)).shape == (8, 2)


@pytest.mark.parametrize("kind", ["S", object, list])
def test_labels_of_bytes_come_with_what_makes_strings_of_them(kind):
    X, names = random_images(4), ["ä", "b", "ä", "b"]
    labels = [name.encode() for name in names]
    y = labels if kind is list else np.array(labels, kind)
    with pytest.raises(TypeError, match=r"y must hold .*; np\.char\.decode\(np\.asarray\(y, 'S'\), 'utf-8'\)"):
        dense_vae(condition="classes").fit(X, y)
    vae = dense_vae(condition="classes").fit(X, np.char.decode(np.asarray(y, "S"), "utf-8"))
    assert vae.classes_.tolist() == ["b", "ä"]
