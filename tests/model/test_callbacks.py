"""Callbacks: when they are called, and what those of the library do."""

import copy
import csv
import math
import pickle
import re
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from small_vae import assert_same_bits, assert_same_model, layers, parameters, random_images, small_vae

import cvae
from cvae.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    MLflow,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
)
from cvae.optimizers import Adam
from cvae.schedulers import SchedulerBase

X = random_images()


class Noting(Callback):
    """Notes its calls."""

    def __init__(self):
        self.calls = []

    def on_train_begin(self, vae):
        self.calls.append("train begin")

    def on_epoch_begin(self, vae, epoch):
        self.calls.append(f"epoch {epoch} begin")

    def on_batch_begin(self, vae, batch):
        self.calls.append(f"batch {batch} begin")

    def on_batch_end(self, vae, batch, loss):
        assert math.isfinite(loss)
        self.calls.append(f"batch {batch} end")

    def on_epoch_end(self, vae, epoch, entry):
        assert entry["loss"] == vae.history_["loss"][-1]
        assert set(self.columns) == set(entry)
        self.calls.append(f"epoch {epoch} end")

    def on_train_end(self, vae, error):
        self.calls.append(f"train end {error!r}")


def test_callbacks_are_called_in_order():
    noting = Noting()
    small_vae().fit(X, n_epochs=1, batchsize=5, callbacks=[noting])
    batches = ["batch 1 begin", "batch 1 end", "batch 2 begin", "batch 2 end"]
    assert noting.calls == ["train begin", "epoch 1 begin", *batches, "epoch 1 end", "train end None"]


def test_the_end_of_a_failed_training_is_told():
    noting, error = Noting(), LookupError("of the test")

    def fail(vae, epoch, entry):
        raise error

    with pytest.raises(LookupError):
        small_vae().fit(X, callbacks=[fail, noting])
    assert noting.calls[-2:] == ["batch 3 end", f"train end {error!r}"]


def test_callbacks_change_no_bits():
    plain = small_vae().fit(X)
    assert_same_model(small_vae().fit(X, callbacks=[Noting(), EarlyStopping("loss", patience=9)]), plain, X)


def test_all_callbacks_are_told_of_the_end_if_one_of_them_fails_there():
    def fail(vae, error):
        raise LookupError("of the test")

    before, after = Noting(), Noting()
    with pytest.raises(LookupError, match="of the test"):
        small_vae().fit(X, callbacks=[before, LambdaCallback(on_train_end=fail), after])
    assert before.calls == after.calls
    assert after.calls[-1].startswith("train end")


def test_a_callback_may_have_a_column_of_its_own(tmp_path):
    def note(vae, epoch, entry):
        vae.history_.setdefault("own", []).append(float(epoch))

    checkpoint = ModelCheckpoint(tmp_path / "m")
    vae = small_vae().fit(X, n_epochs=2, validation_data=X, callbacks=[note, checkpoint])
    vae.fit(X, n_epochs=1, callbacks=[checkpoint, note]).fit(X, n_epochs=1, callbacks=[note, checkpoint])
    for same in (vae, cvae.load(tmp_path / "m")):
        assert same.history_["own"] == [1, 2, 3, 4]
        assert np.isnan(same.history_["val_loss"]).tolist() == [False, False, True, True]
        assert {len(column) for column in same.history_.values()} == {4}


def test_methods_that_are_never_called_are_told_of():
    class Others(Callback):
        def on_train_batch_end(self, batch, logs=None): ...

        def on_epoch_end(self, vae, epoch, entry):
            self.on_improvement()

        def on_improvement(self): ...

    with pytest.warns(UserWarning, match="fit does not call on_train_batch_end of Others: it is on_batch_end here"):
        small_vae().fit(X, callbacks=[Others()])


def test_functions_by_name():
    ends = []
    callback = LambdaCallback(on_batch_end=lambda vae, batch, loss: ends.append(batch), on_epoch_end=lambda *_: True)
    assert len(small_vae().fit(X, n_epochs=4, callbacks=[callback]).history_["loss"]) == 1
    assert ends == [1, 2, 3]
    with pytest.raises(TypeError, match=r"LambdaCallback takes on_train_begin, .*, got 'on_epoch'"):
        LambdaCallback(on_epoch=print)
    with pytest.raises(TypeError, match="on_epoch_end must be callable, got 3"):
        LambdaCallback(on_epoch_end=3)


@pytest.mark.parametrize("callback", [EarlyStopping(), ReduceLROnPlateau(), ModelCheckpoint("m", save_best_only=True)])
def test_what_is_monitored_must_be_there_before_the_training(callback):
    vae = small_vae()
    with pytest.raises(ValueError, match=r"monitor must be one of loss, .*, got 'val_loss'; validation_data or"):
        vae.fit(X, callbacks=[callback])
    assert vae.history_ == {}
    with pytest.raises(TypeError, match=r"callbacks must be instances such as EarlyStopping\(\), got the class"):
        vae.fit(X, callbacks=[EarlyStopping])


# -------------------------------------------------------------- early stopping


def ended_after(values, **arguments):
    """Return the epoch after which training ends where these are the values of a monitored column."""
    stopping = EarlyStopping("loss", **arguments)
    stopping.on_train_begin(None)
    vae = small_vae().fit(X, n_epochs=1)
    for epoch, value in enumerate(values, 1):
        if stopping.on_epoch_end(vae, epoch, {"loss": value}):
            return epoch
    return None


def test_patience_counts_epochs_without_improvement():
    assert ended_after([5, 4, 4, 4, 3], patience=2) == 4
    assert ended_after([5, 4, 4, 3, 3], patience=2) is None
    assert ended_after([5, 4.9, 4.8, 4.7], patience=2, min_delta=0.5) == 3
    assert ended_after([math.nan] * 3, patience=2) == 2


def test_the_best_parameters_are_restored():
    kept = []

    class Jumping(SchedulerBase):
        """A rate that is huge from the fourth of the epochs of a batch on."""

        def __call__(self, step=None, cur_loss=None):
            return 0.01 if step <= 3 else 3.0

    vae = small_vae(optimizer=Adam(lr_scheduler=Jumping()))
    stopping = EarlyStopping(patience=2)
    note = LambdaCallback(on_epoch_end=lambda vae, *_: kept.append(parameters(vae)))
    vae.fit(X, n_epochs=9, batchsize=10, validation_data=X, callbacks=[note, stopping])
    losses = vae.history_["val_loss"]
    assert (stopping.best_epoch, stopping.best) == (3, min(losses))
    assert stopping.stopped_epoch == len(losses) == 5
    assert_same_bits(parameters(vae), kept[2])
    assert vae.score(X) == pytest.approx(-losses[2])
    vae.fit(X, n_epochs=1)


def test_epochs_of_the_warm_up_do_not_count():
    objective = "ELBO(beta=Linear(start=0, end=50, steps=24))"  # 8 epochs, in which the loss grows

    def n_epochs(patience, objective):
        vae = cvae.VAE("mlp", T=2, objective=objective, batchsize=4, random_state=0, verbose=False)
        vae.fit(X, n_epochs=12, callbacks=[EarlyStopping("loss", patience=patience)])
        return len(vae.history_["loss"])

    assert n_epochs(1, objective) > 8
    assert EarlyStopping("loss").best == math.inf


def test_an_interrupted_training_keeps_its_last_parameters():
    vae, stopping = small_vae(), EarlyStopping("loss")

    def interrupt(vae, epoch, entry):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vae.fit(X, n_epochs=3, callbacks=[stopping, interrupt])
    assert_same_model(vae, small_vae().fit(X, n_epochs=2), X)


def test_a_training_that_diverges_leaves_the_parameters_of_the_best_epoch():
    vae, stopping, kept = small_vae(), EarlyStopping("loss"), []

    def spoil(vae, epoch, entry):
        kept.append(parameters(vae))
        if epoch == 2:
            for layer in layers(vae).values():
                layer.optimizer.lr = 1e30

    with pytest.raises(FloatingPointError) as caught:
        vae.fit(X, n_epochs=3, batchsize=4, callbacks=[stopping, spoil])
    assert stopping.best_epoch == 2
    assert_same_bits(parameters(vae), kept[1])
    assert caught.value.__notes__ == ["The parameters are those of epoch 2, restored by EarlyStopping."]
    vae.set_params(optimizer="Adam(lr=0.001)").fit(X, n_epochs=1)
    assert len(vae.history_["loss"]) == 3


@pytest.mark.parametrize("gathered", [iter, tuple, set, lambda listed: dict.fromkeys(listed).keys()])
def test_any_iterable_of_callbacks(gathered):
    noting = Noting()
    small_vae().fit(X, n_epochs=1, callbacks=gathered([noting]))
    assert noting.calls[-1] == "train end None"
    small_vae().fit(X, n_epochs=1, callbacks=None)


# ---------------------------------------------------------------- lower rates


def test_rates_fall_on_a_plateau_and_the_state_is_kept():
    vae = small_vae(optimizer="Adam(lr=0.01)")
    reduce = ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=1000, min_lr=0.0005)
    vae.fit(X, n_epochs=2, callbacks=[reduce])
    assert {layer.optimizer.lr for layer in layers(vae).values()} == {0.01 * 0.1}
    assert {layer.optimizer.cur_step for layer in layers(vae).values()} == {6}
    vae.fit(X, n_epochs=2, callbacks=[reduce])
    assert {layer.optimizer.lr for layer in layers(vae).values()} == {0.0005}
    with pytest.raises(ValueError, match="encoder/Conv1 must have a constant learning rate for ReduceLROnPlateau, got"):
        small_vae(optimizer="Adam(lr_scheduler=Cosine())").fit(X, callbacks=[reduce])


@pytest.mark.parametrize("argument", ["lr", "optimizer"])
@pytest.mark.parametrize("how", ["assigned", "set"])
def test_a_rate_that_is_set_back_to_the_value_of_the_argument_takes_effect(argument, how):
    value = {"lr": 0.01, "optimizer": "Adam(lr=0.01)"}[argument]
    vae = small_vae(**{argument: value})
    vae.fit(X, n_epochs=3, callbacks=[ReduceLROnPlateau("loss", patience=1, min_delta=1000)])
    copies = copy.deepcopy(vae), pickle.loads(pickle.dumps(vae))
    for each in copies:
        each.fit(X, n_epochs=1)
    lowered = {layer.optimizer.lr for layer in layers(copies[0]).values()}
    assert lowered == {layer.optimizer.lr for layer in layers(copies[1]).values()}
    assert max(lowered) < 0.01
    if how == "assigned":
        setattr(vae, argument, value)
    else:
        vae.set_params(**{argument: value})
    vae.fit(X, n_epochs=1)
    assert {layer.optimizer.lr for layer in layers(vae).values()} == {0.01}
    assert {layer.optimizer.cur_step for layer in layers(vae).values()} == {12}


# ---------------------------------------------------------------- checkpoints


def test_the_model_is_saved_after_each_epoch_or_the_best(tmp_path):
    every = ModelCheckpoint(tmp_path / "m-{epoch:02d}-{loss:.0f}")
    best = ModelCheckpoint(tmp_path / "best", "loss", save_best_only=True)
    small_vae().fit(X, n_epochs=3, callbacks=[every, best])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:5] for name in names] == ["best", "m-01-", "m-02-", "m-03-"]
    for epoch, name in enumerate(names[1:], 1):
        assert len(cvae.load(tmp_path / name).history_["loss"]) == epoch
    # A loaded model improves on the best of its history before it replaces the file.
    vae = cvae.load(tmp_path / "best")
    before = (tmp_path / "best").read_bytes()
    for layer in layers(vae).values():
        layer.optimizer.lr = 3.0
    vae.fit(X, n_epochs=1, callbacks=[ModelCheckpoint(tmp_path / "best", "loss", save_best_only=True)])
    assert (tmp_path / "best").read_bytes() == before


@pytest.mark.parametrize(
    ("optimizer", "random_state", "binarize"),
    [
        ("Adam(lr=0.01)", lambda: 0, None),
        ("RMSProp", lambda: np.random.Generator(np.random.MT19937(5)), "dynamic"),
        ("SGD(lr_scheduler=King(patience=5))", lambda: 1, None),
    ],
)
def test_a_checkpoint_within_an_epoch_goes_on_with_the_same_bits(tmp_path, optimizer, random_state, binarize):
    settings = {"optimizer": optimizer, "binarize": binarize, "batchsize": 3}

    class Copying(ModelCheckpoint):
        """Keeps the file of each batch."""

        def save(self, vae, path):
            super().save(vae, tmp_path / f"{len(list(tmp_path.iterdir())):03d}")

    plain = small_vae(random_state=random_state(), **settings).fit(X, n_epochs=3, validation_data=X)
    vae = small_vae(random_state=random_state(), **settings)
    vae.fit(X, n_epochs=3, validation_data=X, callbacks=[Copying("m", every_batches=1)])
    assert_same_bits(parameters(vae), parameters(plain))
    assert len(list(tmp_path.iterdir())) == 15  # after each of 4 batches and each epoch
    for number in (1, 5, 7, 8, 12):
        loaded = cvae.load(tmp_path / f"{number:03d}")
        epochs = len(loaded.history_.get("loss", []))
        loaded.fit(X, n_epochs=3 - epochs, validation_data=X)
        assert loaded.history_["loss"] == plain.history_["loss"]
        assert_same_bits(parameters(loaded), parameters(plain))
        loaded.save(tmp_path / "end")
        plain.save(tmp_path / "expected")
        assert (tmp_path / "end").read_bytes() == (tmp_path / "expected").read_bytes()


def test_with_other_images_or_batches_an_epoch_begins_anew(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path / "m", every_batches=2)
    with pytest.raises(LookupError):
        small_vae().fit(X, n_epochs=2, callbacks=[checkpoint, stop_at(epoch=2, batch=3)])
    others = {"images": (random_images(seed=7), 4), "number": (X[:9], 4), "batches": (X, 5)}
    for images, batchsize in others.values():
        vae = cvae.load(tmp_path / "m").fit(images, n_epochs=1, batchsize=batchsize)
        assert layers(vae)["encoder/Conv1"].optimizer.cur_step == 3 + 2 + math.ceil(len(images) / batchsize)


def stop_at(epoch, batch):
    """Return a callback that ends training with an error within an epoch, before a batch."""

    def stop(vae, number):
        if (len(vae.history_.get("loss", ())), number) == (epoch - 1, batch):
            raise LookupError("of the test")

    return LambdaCallback(on_batch_begin=stop)


def test_what_cannot_be_saved_is_known_before_the_training(tmp_path):
    vae = small_vae()
    for path, error in ((tmp_path / "no" / "m", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error):
            vae.fit(X, callbacks=[ModelCheckpoint(path)])
    with pytest.raises(ValueError, match="path must have fields out of epoch, loss"):
        vae.fit(X, callbacks=[ModelCheckpoint(tmp_path / "{val_loss}")])
    assert vae.history_ == {}
    with pytest.raises(ValueError, match="save_best_only must be False with every_batches"):
        ModelCheckpoint("m", save_best_only=True, every_batches=3)


def test_names_of_files_within_an_epoch_claim_no_loss(tmp_path):
    pattern = tmp_path / "m-{epoch}-{loss:.1f}-{val_loss:.1f}"
    small_vae(batchsize=3).fit(X, n_epochs=1, validation_data=X, callbacks=[ModelCheckpoint(pattern, every_batches=2)])
    within, after = sorted(path.name for path in tmp_path.iterdir())[::-1]
    assert within == "m-1-nan-nan"
    assert re.fullmatch(r"m-1-\d+\.\d-\d+\.\d", after)


def test_the_best_epoch_of_a_pattern_is_known_after_resuming(tmp_path):
    def fit(vae):
        path = tmp_path / "m-{epoch}-{val_loss:.3f}"
        vae.fit(X, n_epochs=3, validation_data=X, callbacks=[ModelCheckpoint(path, save_best_only=True)])
        return {path.name for path in tmp_path.iterdir()}

    vae = small_vae(lr=0.01)
    names = fit(vae)
    assert fit(vae.set_params(lr=3.0)) == names
    for name in names:
        (tmp_path / name).unlink()
    assert len(fit(vae)) >= 1  # where the best model is gone, others are better than none


def with_warm_up(beta, free_bits=0.0):
    objective = f"ELBO(beta={beta}, free_bits={free_bits})"
    return cvae.VAE(
        "mlp", objective=objective, T=2, lr=0.01, batchsize=3, warm_start=True, random_state=0, verbose=False
    )


@pytest.mark.parametrize("free_bits", [0.0, 5.0])
def test_the_best_model_by_the_loss_is_none_of_a_warm_up(tmp_path, free_bits):
    vae = with_warm_up("Linear(end=500, steps=16)", free_bits)  # for four epochs
    path, noted = tmp_path / "best", []
    best, stopping = ModelCheckpoint(path, "loss", save_best_only=True), EarlyStopping("loss", patience=99)
    saved = LambdaCallback(on_epoch_end=lambda vae, epoch, entry: noted.append(len(cvae.load(path).history_["loss"])))
    vae.fit(X, n_epochs=3, callbacks=[best, stopping, saved])
    assert (noted[0], stopping.best_epoch) == (1, 0)  # something is saved in any case
    vae.fit(X, n_epochs=3, callbacks=[best, stopping, saved])
    assert noted[4] == 5
    assert noted[5] == stopping.best_epoch >= 5
    vae.set_params(lr=0.2).fit(X, n_epochs=1, callbacks=[ModelCheckpoint(path, "loss", save_best_only=True)])
    assert len(cvae.load(path).history_["loss"]) == stopping.best_epoch


def test_the_best_model_is_one_of_the_objective_that_the_model_has(tmp_path):
    path = tmp_path / "best"
    vae = with_warm_up("1.0").fit(X, n_epochs=2, validation_data=X)
    for monitor in ("loss", "val_loss"):
        best = ModelCheckpoint(path, monitor, save_best_only=True)
        vae.fit(X, n_epochs=2, validation_data=X, callbacks=[best])
        vae.set_params(objective="ELBO(beta=500)").fit(X, n_epochs=1, validation_data=X, callbacks=[best])
        assert len(cvae.load(path).history_["loss"]) == len(vae.history_["loss"])
        vae.set_params(objective="ELBO(beta=1.0)")
        path.unlink()


def test_a_warm_up_that_is_over_stays_so_with_another_schedule_of_the_rate():
    vae = with_warm_up("Linear(end=1, steps=8)").fit(X, n_epochs=3)
    vae.set_params(lr=None, optimizer="Adam(lr_scheduler=CosineScheduler(0.05, 100))")
    stopping = EarlyStopping("loss", patience=1)
    vae.fit(X, n_epochs=5, callbacks=[stopping])
    assert stopping.best_epoch >= 4
    assert stopping.stopped_epoch == stopping.best_epoch + 1


# ------------------------------------------------------------------------ logs


def test_rows_of_the_history_are_written_as_they_come(tmp_path):
    path = tmp_path / "history.csv"
    vae = small_vae().fit(X, n_epochs=2, callbacks=[CSVLogger(path)]).fit(X, n_epochs=1, callbacks=[CSVLogger(path)])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["loss"]) for row in rows] == vae.history_["loss"]
    with pytest.raises(ValueError, match=r"history\.csv must have the columns epoch, .*, val_loss"):
        vae.fit(X, validation_data=X, callbacks=[CSVLogger(path)])
    vae.fit(X, n_epochs=1, callbacks=[CSVLogger(path, append=False)])
    assert len(path.read_text().splitlines()) == 2


class Recorder:
    """Takes the place of a writer of event files, or of mlflow."""

    data = type("Data", (), {"params": {}})

    def __init__(self, *arguments):
        self.calls = [("made", *arguments)]

    def __getattr__(self, name):
        return lambda *args, **options: self.calls.append((name, *args, *options.values()))

    def active_run(self):
        return None

    def start_run(self):
        self.calls.append(("start_run",))
        return self


def test_event_files_get_the_numbers_of_each_epoch(tmp_path, monkeypatch):
    writers = []

    class Module:
        @staticmethod
        def SummaryWriter(folder, filename_suffix):
            writers.append(Recorder(folder))
            return writers[-1]

    monkeypatch.setitem(sys.modules, "tensorboardX", Module)
    vae = small_vae().fit(X, n_epochs=2, callbacks=[TensorBoard(tmp_path / "logs")])
    calls = writers[0].calls
    assert calls[0] == ("made", str(tmp_path / "logs"))
    losses = [call[2:] for call in calls if call[:2] == ("add_scalar", "loss")]
    assert losses == [(loss, epoch) for epoch, loss in enumerate(vae.history_["loss"], 1)]
    assert calls[-1] == ("close",)


def event_files(folder):
    """Return the scalars in each event file, as (name, epoch) and value."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in folder.iterdir():
        content, scalars = path.read_bytes(), {}
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + size])
            scalars |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            content = content[16 + size :]
        found.append(scalars)
    return found


def test_event_files_of_the_same_second_stay_apart(tmp_path):
    vae = small_vae(warm_start=True)
    for _ in range(2):
        vae.fit(X, n_epochs=2, callbacks=[TensorBoard(tmp_path)])
    first, second = sorted(event_files(tmp_path), key=min)
    losses = [scalars["loss", epoch] for scalars, epoch in ((first, 1), (first, 2), (second, 3), (second, 4))]
    np.testing.assert_allclose(losses, vae.history_["loss"], rtol=1e-6)


class Runs:
    """Takes the place of mlflow: a run's arguments cannot change, and an active run tells those of its beginning."""

    def __init__(self):
        self.params, self.run = {}, None

    def active_run(self):
        return self.run

    def start_run(self):
        data = SimpleNamespace(params=dict(self.params))
        self.run = SimpleNamespace(data=data, info=SimpleNamespace(run_id="a"))
        return self.run

    def get_run(self, run_id):
        return SimpleNamespace(data=SimpleNamespace(params=self.params))

    def log_params(self, params):
        assert all(self.params.get(name, value) == value for name, value in params.items())
        self.params |= params

    def log_metrics(self, metrics, step):
        pass


def test_a_run_of_mlflow_may_go_on_with_other_arguments(monkeypatch):
    runs = Runs()
    monkeypatch.setitem(sys.modules, "mlflow", runs)
    runs.start_run()
    vae = small_vae().fit(X, n_epochs=1, callbacks=[MLflow()])
    vae.set_params(lr=0.5, warm_start=True).fit(X, n_epochs=1, callbacks=[MLflow()])
    assert runs.params["lr"] == "None"  # the first one's
    assert runs.run is not None


def test_a_run_of_mlflow_gets_arguments_and_numbers(monkeypatch):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", recorder)
    small_vae().fit(X, n_epochs=1, callbacks=[MLflow()])
    names = [call[0] for call in recorder.calls]
    assert names == ["made", "start_run", "log_params", "log_metrics", "end_run"]
    assert recorder.calls[2][1]["T"] == "2"


def test_missing_packages_are_named(monkeypatch):
    for name in ("tensorboardX", "torch", "torch.utils.tensorboard", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="TensorBoard needs tensorboardX"):
        TensorBoard("logs")
    with pytest.raises(ImportError, match="MLflow needs mlflow"):
        MLflow()
