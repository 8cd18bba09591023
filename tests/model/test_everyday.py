"""What people do with a model in their first month: copies, second runs of a cell, data as programs leave them."""

import copy
import pickle
import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.preprocessing import MinMaxScaler
from small_vae import assert_same_bits, parameters, random_images, small_vae, subprocess_environment

import cvae
from cvae.callbacks import Callback, EarlyStopping, LambdaCallback


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


@pytest.mark.parametrize("argument", ["sample_weight", "y"])
def test_values_whose_index_has_another_order_are_named(argument):
    frame = pd.DataFrame(np.random.default_rng(0).random((6, 4)), index=[*"abcdef"])
    values = pd.Series([1, 2, 1, 2, 1, 2], index=[*"fedcba"])
    vae = dense_vae(condition="classes" if argument == "y" else None)
    with pytest.warns(UserWarning, match=rf"{argument} has the index of X in another order.*{argument}.loc\[X.index\]"):
        vae.fit(frame, **{argument: values})
    vae.fit(frame, **{argument: values.loc[frame.index]})  # nothing is said of what fits, or has nothing in common
    vae.fit(frame, **{argument: values.set_axis([0, "x", 2, 3, 4, 5])})


def uses_of_rows_and_labels(vae, frame, labels, folder):
    codes = pd.DataFrame(vae.transform(frame, "a"), index=frame.index)
    detector = cvae.VAEOutlierDetector(vae, prefit=True, n_samples=1).fit(frame, labels.loc[frame.index])
    return {
        "transform": lambda: vae.transform(frame, labels),
        "encode": lambda: vae.encode(frame, labels),
        "elbo": lambda: vae.elbo(frame, y=labels),
        "log_likelihood": lambda: vae.log_likelihood(frame, 2, y=labels),
        "reconstruct": lambda: vae.reconstruct(frame, labels),
        "score_samples": lambda: vae.score_samples(frame, labels),
        "fit_prior": lambda: vae.fit_prior(frame, 2, y=labels),
        "active_units": lambda: vae.active_units(frame, y=labels),
        "error_map": lambda: vae.error_map(frame, y=labels),
        "forward": lambda: vae.forward(frame, y=labels, retain_derived=False),
        "decode": lambda: vae.decode(codes, labels),
        "validation": lambda: dense_vae(condition="classes").fit(
            frame, labels.loc[frame.index], validation_data=(frame, labels)
        ),
        "predict": lambda: detector.predict(frame, labels),
        "best_and_worst": lambda: cvae.plotting.best_and_worst(frame, vae, n=2, y=labels),
        "error_maps": lambda: cvae.plotting.error_maps(frame, vae, y=labels),
        "outliers": lambda: cvae.plotting.outliers(frame, vae, n=2, y=labels),
        "reconstructions": lambda: cvae.plotting.reconstructions(frame, vae, y=labels),
        "latent": lambda: cvae.plotting.latent(codes, labels),
        "explorer": lambda: cvae.explorer.write(vae, folder / "page.html", frame, labels),
    }


def test_labels_in_another_order_are_named_wherever_images_or_codes_come_with_them(tmp_path):
    frame = pd.DataFrame(np.random.default_rng(0).random((6, 16)), index=[*"abcdef"]).rename(columns=str)
    labels = pd.Series([*"abcabc"], index=[*"fedcba"])
    vae = dense_vae(condition="classes", image_shape=(4, 4)).fit(frame, labels.loc[frame.index])
    for use, call in uses_of_rows_and_labels(vae, frame, labels, tmp_path).items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        messages = {str(warning.message) for warning in caught}
        expected = r"(\S+) has the index of (\S+) in another order, and counts by place: pass \1\.loc\[\2\.index\]"
        assert any(re.fullmatch(expected, message) for message in messages), use
    for call in uses_of_rows_and_labels(vae, frame, labels.loc[frame.index], tmp_path).values():
        call()  # without a warning, which would be an error


def test_weights_of_a_score_in_another_order_are_named():
    frame = pd.DataFrame(np.random.default_rng(0).random((6, 4)), index=[*"abcdef"])
    weights = pd.Series([1, 2, 1, 2, 1, 2], index=[*"fedcba"])
    vae = dense_vae().fit(frame)
    with pytest.warns(UserWarning, match="sample_weight has the index of X in another order"):
        vae.score(frame, sample_weight=weights)


BATCH_NORM = ["Flatten()", "FullyConnected(n_out=4)", "BatchNorm1D()"]


@pytest.mark.parametrize(("batchsize", "n"), [(1, 4), (4, 1)])
def test_batches_of_one_image_teach_nothing_behind_batch_normalization(batchsize, n):
    vae = cvae.VAE(BATCH_NORM, ["FullyConnected(n_out=4)"], T=2, n_epochs=1, verbose=False)
    with pytest.warns(UserWarning, match="BatchNorm1D puts out the same for all images in batches of one"):
        vae.fit(random_images(n), batchsize=batchsize)
    vae.fit(random_images(4), batchsize=3)  # the last one of which is alone


def test_numpy_s_own_state_is_a_random_state():
    X, trained = random_images(8), []
    for random_state in (np.random, np.random.RandomState(3)):
        np.random.seed(3)  # noqa: NPY002
        trained.append(parameters(dense_vae(random_state=random_state).fit(X)))
    assert_same_bits(*trained)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_dim": 2}, "VAE got an unexpected keyword argument 'latent_dim', which is T here"),
        ({"T": 2, "epochs": 3}, "'epochs', which is n_epochs here"),
        ({"batch_size": 3}, "'batch_size', which is batchsize here"),
        ({"learning_rate": 3}, "'learning_rate', which is lr here"),
        ({"hidden_dims": [3]}, "'hidden_dims', which is encoder and decoder, lists of layers, here"),
        ({"nonsense": 3}, "unexpected keyword argument 'nonsense'$"),
    ],
)
def test_arguments_of_other_libraries_are_translated(arguments, message):
    with pytest.raises(TypeError, match=message):
        cvae.VAE(**arguments)


def test_an_argument_that_a_model_has_is_its_own():
    assert cvae.BernoulliVAE(latent_dim=3).latent_dim == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [("predict", "reconstruct"), ("generate", "sample"), ("load_weights", "cvae.load"), ("cuda", "CPU"), ("x", "'x'$")],
)
def test_methods_of_other_libraries_are_translated(name, message):
    vae = dense_vae()
    assert not hasattr(vae, name)
    with pytest.raises(AttributeError, match=f"'VAE' object has no attribute '{name}'.*{message}|attribute {message}"):
        getattr(vae, name)


class Passing(cvae.VAE):
    """A subclass that passes on what it does not take itself."""

    def __init__(self, extra=1, **others):
        super().__init__(**others)
        self.extra = extra


def test_a_subclass_may_pass_arguments_on():
    X, vae = random_images(8), Passing(encoder="mlp", T=2, n_epochs=1, extra=5, random_state=0, verbose=False)
    other = clone(vae).set_params(T=3, extra=6)
    assert (other.T, other.extra, other.encoder) == (3, 6, "mlp")
    assert other.fit(X).transform(X).shape == (8, 3)
    assert repr(vae) == "Passing(encoder='mlp', T=2, n_epochs=1, random_state=0, verbose=False, extra=5)"
    assert vae.fit(X).transform(X).shape == (8, 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'epochs'"):
        Passing(epochs=3)


@pytest.mark.parametrize("callback", [EarlyStopping("loss"), print])
def test_a_callback_alone_belongs_in_a_list(callback):
    with pytest.raises(TypeError, match=r"callbacks must be a sequence of callables, got a single one, .*in a list"):
        dense_vae().fit(random_images(4), callbacks=callback)


def test_the_backend_of_another_environment_s_notebook_is_no_reason_to_fail(tmp_path):
    draw = "cvae.plotting.samples(numpy.zeros((2, 4, 4)), 'x.png')"
    code = f"import cvae, numpy, os; {draw}; print(os.environ['MPLBACKEND'])"
    environment = subprocess_environment() | {"MPLBACKEND": "module://not_installed_here.backend_inline"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert (done.stderr, done.stdout) == ("", "module://not_installed_here.backend_inline\n")
    assert (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"likelihood": "mse"}, r"got 'mse': its loss is that of 'Gaussian\(scale=1\)'"),
        ({"likelihood": "BCE_loss"}, "its loss is that of 'Bernoulli'"),
        ({"likelihood": cvae.likelihoods.Gaussian}, r"pass Gaussian\(\), an instance"),
        ({"optimizer": cvae.optimizers.Adam}, r"pass Adam\(\), an instance"),
    ],
)
def test_losses_and_classes_come_with_what_to_pass(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        dense_vae(**arguments).fit(random_images(4))


def test_losses_mean_nothing_elsewhere():
    with pytest.raises(ValueError, match=r"got 'mse'$"):
        cvae.VAE(objective="mse").fit(random_images(4))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (pickle.dumps([1]), "it is a pickle, which could run any code$"),
        (b"PK\x03\x04" + bytes(90), "it is a ZIP archive$"),
        (b"", "it is an empty file$"),
        (b"epoch,loss\n", "it is text that starts with 'epoch,loss'$"),
        (b"\x07\0\0\0\0\0\0\0\0\0", "is not a model file of cvae: "),
    ],
)
def test_files_that_are_no_models_are_called_by_their_names(tmp_path, content, found):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=f"is not a model file of cvae.*{found}|{found}"):
        cvae.load(tmp_path / "x")


def test_a_missing_folder_is_named_and_the_model_stays(tmp_path):
    vae = dense_vae().fit(random_images(4))
    with pytest.raises(FileNotFoundError, match=r"The folder .*absent does not exist: '.*model'"):
        vae.save(tmp_path / "absent" / "model")
    vae.save(tmp_path / "model")


def test_the_home_is_found_in_names_of_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # Windows' name of it
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    dense_vae().fit(random_images(4)).save("~/model")
    assert (tmp_path / "model").exists()
    assert cvae.load("~/model").T == 2
    (tmp_path / "elsewhere" / "~").mkdir()  # a folder of that name is what is meant
    with pytest.raises(FileNotFoundError):
        cvae.load("~/model")


@pytest.mark.parametrize("name", ["labels_", "decision_scores_", "threshold_", "predict_proba", "save"])
def test_attributes_of_other_detectors_are_translated(name):
    detector = cvae.VAEOutlierDetector(dense_vae()).fit(random_images(8))
    assert not hasattr(detector, name)
    with pytest.raises(AttributeError, match=f"no attribute '{name}': .* (returns|is|writes) "):
        getattr(detector, name)
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        _ = detector.nonsense


class ForKeras(Callback):
    """A callback with the signature of Keras' callbacks."""

    def on_epoch_end(self, epoch, logs=None):
        raise AssertionError("not called")


@pytest.mark.parametrize(
    "callback",
    [lambda entry: None, ForKeras(), LambdaCallback(on_epoch_end=lambda epoch, logs: None)],
    ids=["function", "subclass", "lambda"],
)
def test_callbacks_that_take_other_arguments_are_refused_before_training(callback):
    vae = dense_vae()
    with pytest.raises(TypeError, match=r"on_epoch_end of a callback is called with vae, epoch, entry, but .*argument"):
        vae.fit(random_images(4), callbacks=[callback])
    assert vae.history_ == {}


def test_callbacks_may_take_more_than_they_are_given():
    seen = []

    def note(vae, *rest, **others):
        seen.append(rest)

    dense_vae().fit(random_images(4), callbacks=[note, LambdaCallback(on_batch_end=note)], n_epochs=1)
    assert [len(rest) for rest in seen] == [2, 2]


@pytest.mark.parametrize("kind", [float, str])
def test_classes_that_are_probably_values_are_named(kind):
    X, labels = random_images(24), np.random.default_rng(0).random(24)
    with pytest.warns(UserWarning, match="y holds 24 classes for 24 images.*" + "condition='values'" * (kind is float)):
        dense_vae(condition="classes").fit(X, labels.astype(kind))
    dense_vae(condition="classes").fit(X, np.arange(24) // 2)


def test_columns_of_text_are_named():
    frame = pd.DataFrame({"a": [0.5, 1], "name": ["x", "y"], "b": [1, 0.5]})
    with pytest.raises(TypeError, match="X must have columns of numbers, got text in 'name': drop or encode them"):
        dense_vae().fit(frame)


def test_all_threads_are_none():
    with pytest.raises(ValueError, match="n_threads must be from 1 to 4096, got -1: None takes all"):
        dense_vae(n_threads=-1).fit(random_images(4))


def test_a_map_of_codes_takes_codes():
    with pytest.raises(TypeError, match=r"means must be an array of numbers, .*vae.transform\(images\), got .* VAE"):
        cvae.plotting.latent(dense_vae())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("batch_size", "batch_size of this VAE has been assigned, but does nothing: it is batchsize here"),
        ("n_epoch", "n_epoch of this VAE .*: it is n_epochs here"),
        ("trainable", "trainable of this VAE .*: freeze keeps the parameters of a layer"),
    ],
)
def test_assigning_what_is_no_argument_is_noticed(name, message):
    X, vae = random_images(4), dense_vae()
    setattr(vae, name, 3)
    with pytest.warns(UserWarning, match=message) as caught:
        vae.fit(X)
    assert caught[0].filename == __file__
    delattr(vae, name)
    vae.fit(X).note = "users may keep what they like with a model"
    vae.partial_fit(X)


def test_a_callback_that_sets_what_stops_other_libraries_is_told_what_to_return():
    vae, stop = dense_vae(), LambdaCallback(on_epoch_end=lambda vae, epoch, entry: setattr(vae, "stop_training", True))
    with pytest.warns(UserWarning, match="stop_training .* does nothing: a callback that returns True ends the"):
        vae.fit(random_images(4), callbacks=[stop])


def test_a_subclass_has_attributes_of_its_own():
    vae = Passing(encoder="mlp", T=2, n_epochs=1, verbose=False)
    vae.batch_size = vae.n_epoch = 3
    vae.fit(random_images(4))


def test_names_of_other_libraries_are_translated_where_a_model_has_none():
    vae = dense_vae()
    with pytest.raises(AttributeError, match="no attribute 'latent_dim': it is T here"):
        _ = vae.latent_dim
    with pytest.raises(ValueError, match="set_params must get arguments of VAE, got 'latent_dim', which is T here"):
        vae.set_params(latent_dim=3)


def rates(vae):
    return {layer.optimizer.lr for layers in (vae.encoder_, vae.decoder_) for layer in layers.values()}


def test_a_change_within_the_optimizer_that_a_model_was_given_counts():
    X, optimizer = random_images(8), cvae.optimizers.Adam(lr=0.01)
    vae = dense_vae(optimizer=optimizer).fit(X)
    optimizer.lr = 0.0
    before = parameters(vae)
    assert_same_bits(parameters(vae.partial_fit(X)), before)
    optimizer.set_params({"lr": 0.01})
    other = dense_vae(optimizer="Adam(lr=0.01)").fit(X).set_params(lr=0.0).partial_fit(X).set_params(lr=None)
    assert_same_bits(parameters(vae.partial_fit(X)), parameters(other.partial_fit(X)))  # with the state of Adam


def test_a_callback_may_change_the_rate_of_the_optimizer_that_a_model_was_given():
    def fall(vae, epoch, entry):
        vae.optimizer.lr *= 0.5

    given = dense_vae(optimizer=cvae.optimizers.Adam(lr=0.01)).fit(random_images(8), n_epochs=3, callbacks=[fall])
    assert rates(given) == {0.0025}
    as_dict = dense_vae(optimizer={"hyperparameters": {"id": "SGD", "lr": 0.01}}).fit(random_images(8))
    as_dict.optimizer["hyperparameters"]["lr"] = 0.02
    assert rates(as_dict.partial_fit(random_images(8))) == {0.02}


def test_a_rate_that_is_changed_before_saving_is_that_of_the_file(tmp_path):
    vae = dense_vae(optimizer=cvae.optimizers.Adam(lr=0.01)).fit(random_images(8))
    vae.optimizer.lr = 0.5
    vae.save(tmp_path / "m.safetensors")
    other = cvae.load(tmp_path / "m.safetensors")
    assert rates(other) == {0.5}
    assert_same_bits(parameters(other.partial_fit(random_images(8))), parameters(vae.partial_fit(random_images(8))))


def test_the_rate_of_an_optimizer_has_one_name():
    optimizer = cvae.optimizers.Adam()
    with pytest.raises(AttributeError, match="Adam has no learning_rate: lr is its rate"):
        optimizer.learning_rate = 0.1
    assert not hasattr(optimizer, "learning_rate")


@pytest.mark.parametrize("change", [lambda X: 1 - X, lambda X: X[:3], lambda X: list(1 - X), lambda X: X[:5, 0, 0, 0]])
def test_targets_that_a_model_does_not_learn_are_no_silent_argument(change):
    X = random_images(8)
    with pytest.warns(UserWarning, match="y is ignored: a model without condition learns to put out X; .*validation"):
        dense_vae().fit(X, change(X))


@pytest.mark.parametrize("change", [lambda X: X, np.copy, list, lambda X: range(8), lambda X: X.reshape(8, -1)[:, :3]])
def test_targets_that_others_need_are_no_reason_to_warn(change):
    X = random_images(8)
    assert_same_bits(parameters(dense_vae().fit(X, change(X))), parameters(dense_vae().fit(X)))


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_pair_of_images_and_labels_comes_with_how_to_pass_it(kind):
    for X in (random_images(8), random_images(8)[..., 0], random_images(8).reshape(8, -1)):
        with pytest.raises(TypeError, match=r"X .*it is a pair of images and labels: pass X\[0\], and X\[1\] as y"):
            dense_vae().fit(kind((X, np.arange(8))))


def test_the_first_call_of_partial_fit_may_name_all_classes():
    X, y = random_images(8), np.arange(8) // 4
    vae = dense_vae(condition="classes").partial_fit(X, y, classes=[2, 0, 1]).partial_fit(X, y + 1, classes=[0, 1, 2])
    assert vae.classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"classes must be those of the first call, \[0, 1, 2\], got \[0, 1\]"):
        vae.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="classes must be None for a model with condition=None"):
        dense_vae().partial_fit(X, classes=[0, 1])
    fresh = dense_vae(condition="classes")
    with pytest.raises(ValueError, match="y must hold labels"):
        fresh.partial_fit(X, y + 7, classes=[0, 1])
    assert fresh.fit(X, y + 7).classes_.tolist() == [7, 8]


def test_partial_fit_says_what_fit_takes():
    with pytest.raises(TypeError, match=r"partial_fit got an unexpected .*'callbacks', which fit takes: .*warm_start"):
        dense_vae().partial_fit(random_images(4), callbacks=[])
    with pytest.raises(TypeError, match="fit got an unexpected keyword argument 'eval_set', which is validation_data"):
        dense_vae().fit(random_images(4), eval_set=[])


def test_files_are_read_in_a_known_encoding():
    options = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]
    code = "import cvae; print(cvae.VAE('mlp', T=2).summary((8, 8)))"
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        env=subprocess_environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == ""
    assert "Flatten" in done.stdout
