"""The callbacks of scikit-learn, from its version 1.9 on."""

import numpy as np
import pytest
from sklearn.base import clone
from small_vae import assert_same_bits, parameters, random_images, small_vae

callback = pytest.importorskip("sklearn.callback")
X = random_images()


class Record:
    """Notes what happens, and asks to stop after some epochs."""

    def __init__(self, stop_after=99, fail=False):
        self.events, self.stop_after, self.fail = [], stop_after, fail

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"{context.task_name} begins")

    def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
        self.events.append(f"{context.task_name} {context.task_id} ends")
        if self.fail:
            raise RuntimeError("failed")
        self.scores = [*getattr(self, "scores", []), fitted_estimator.score(X)]
        np.testing.assert_array_equal(fitted_estimator.transform(X), estimator.transform(X))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


def test_each_epoch_is_a_task_of_fit():
    record = Record()
    vae = small_vae().set_callbacks(record).fit(X)
    assert record.events == [
        "setup", "fit begins", "epoch begins", "epoch 0 ends", "epoch begins", "epoch 1 ends", "fit 0 ends", "teardown",
    ]  # fmt: skip
    assert_same_bits(parameters(vae), parameters(small_vae().fit(X)))
    assert len(set(record.scores)) == 2
    assert clone(vae).fit(X) is not vae
    assert record.events[8:] == record.events[:8]


def test_a_callback_may_stop_the_training():
    record = Record(stop_after=1)
    assert len(small_vae().set_callbacks(record).fit(X).history_["loss"]) == 1
    assert record.events[-3:] == ["epoch 0 ends", "fit 0 ends", "teardown"]


def test_callbacks_are_torn_down_after_an_error():
    record, vae = Record(fail=True), small_vae()
    with pytest.raises(RuntimeError, match="failed"):
        vae.set_callbacks(record).fit(X)
    assert record.events[-1] == "teardown"
    assert len(vae.set_callbacks().fit(X).history_["loss"]) == 3


def test_scores_are_monitored():
    monitor = callback.ScoringMonitor(scoring=lambda vae, X, y=None: vae.score(X))
    small_vae().set_callbacks(monitor).fit(X)
    scores = monitor.get_logs().data_as_pandas
    assert len(scores) >= 2
