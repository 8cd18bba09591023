"""Two threads never train one model at the same time."""

import threading

import pytest
from small_vae import assert_same_model, random_images, small_vae


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
def test_a_second_thread_that_trains_a_model_is_refused(method):
    X, vae = random_images(), small_vae()
    training, refused, errors = threading.Event(), threading.Event(), []

    def wait(vae, epoch, entry):
        training.set()
        assert refused.wait(30)

    def train():
        try:
            vae.fit(X, callbacks=[wait])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    assert training.wait(30)
    with pytest.raises(RuntimeError, match="this BernoulliVAE is being trained by another thread"):
        getattr(vae, method)(X)
    vae.encode(X)  # which several threads may do
    refused.set()
    thread.join()
    assert errors == []
    assert_same_model(vae, small_vae().fit(X), X)


def test_a_callback_may_train_the_model_further():
    X = random_images()
    vae = small_vae().fit(X, n_epochs=1, callbacks=[lambda vae, epoch, entry: vae.partial_fit(X) and None])
    assert len(vae.history_["loss"]) == 2
    vae.partial_fit(X)


def test_a_failed_training_leaves_the_model_free():
    vae = small_vae()
    with pytest.raises(ValueError, match="X must"):
        vae.fit([])
    thread = threading.Thread(target=vae.fit, args=(random_images(),))
    thread.start()
    thread.join()
    assert len(vae.history_["loss"]) == 2
