"""save and load, pickle and copies: complete state, atomic writing, and errors that name the file."""

import copy
import json
import math
import os
import pickle
import resource
import stat
import tracemalloc

import joblib
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from small_vae import (
    assert_same_bits,
    assert_same_model,
    initialized,
    layers,
    parameters,
    random_images,
    small_vae,
    without_times,
)

import cvae
from cvae import NotFittedError
from cvae.io.serialization import read
from cvae.optimizers import SGD, Adam
from cvae.schedulers import SchedulerBase


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def saved_and_loaded(vae, path):
    vae.save(path)
    return cvae.load(path)


# ------------------------------------------------------------------ all is kept

OPTIMIZERS = [
    "SGD(lr=0.01)",
    "SGD(lr=0.01, momentum=0.9, clip_norm=0.5)",
    "AdaGrad(lr=0.05)",
    "RMSProp(lr=0.002)",
    "Adam(lr=0.01)",
    "Adam(lr_scheduler=ExponentialScheduler(initial_lr=0.05, stage_length=3, staircase=True, decay=0.5))",
    "RMSProp(lr_scheduler=NoamScheduler(model_dim=8, scale_factor=0.1, warmup_steps=4))",
    "SGD(lr_scheduler=KingScheduler(initial_lr=0.05, patience=5, decay=0.5))",
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_with_the_same_bits(path, optimizer, dtype):
    X = random_images()
    vae = small_vae(optimizer=optimizer, dtype=dtype).fit(X, validation_data=X)
    loaded = saved_and_loaded(vae, path)
    assert loaded.history_ == without_times(vae.history_)
    for one, other in zip(layers(loaded).values(), layers(vae).values(), strict=True):
        assert one.optimizer == other.optimizer
    assert_same_model(loaded, vae, X)
    # King's losses and rates, and Noam's and Exponential's steps, must still agree after further training.
    loaded.fit(X, n_epochs=5, validation_data=X)
    vae.fit(X, n_epochs=5, validation_data=X)
    assert_same_bits(parameters(loaded), parameters(vae))
    assert loaded.history_["loss"] == vae.history_["loss"]


def test_a_loaded_model_gives_the_same_results(path):
    X = random_images(140)
    vae = small_vae(T=3).fit(X)
    loaded = saved_and_loaded(vae, path)
    assert type(loaded) is cvae.BernoulliVAE
    for result, expected in (
        (loaded.encode(X)[1], vae.encode(X)[1]),
        (loaded.reconstruct(X), vae.reconstruct(X)),
        (loaded.elbo(X), vae.elbo(X)),
        (loaded.log_likelihood(X[:3]), vae.log_likelihood(X[:3])),
        (loaded.sample(4), vae.sample(4)),  # the stream of samples continues as well
        (loaded.forward(X), vae.forward(X)),
    ):
        np.testing.assert_array_equal(result, expected)


def test_all_arguments_are_kept(path):
    arguments = {
        "T": 3,
        "latent_dim": 7,
        "enc_conv1_pad": "same",
        "enc_conv2_pad": (1, 0, 2, 1),
        "enc_conv1_out_ch": 3,
        "enc_conv2_out_ch": np.int64(5),
        "enc_conv2_stride": 2,
        "enc_pool1_stride": 1,
        "enc_conv1_kernel_shape": (3, 2),
        "enc_pool2_kernel_shape": 1,
        "init": "he_normal",
        "n_epochs": 2,
        "batchsize": 5,
        "beta": np.float64(0.5),
        "image_shape": (9, 8, 1),
        "dtype": "float64",
        "n_threads": 1,
        "random_state": np.int64(3),
        "verbose": False,
    }
    vae = small_vae(**arguments).fit(random_images())
    loaded = saved_and_loaded(vae, path)
    expected = vae.get_params()
    found = loaded.get_params()
    assert str(layers(loaded)["encoder/FC4"].optimizer) == str(layers(vae)["encoder/FC4"].optimizer)
    assert found == expected
    assert "[" not in repr(loaded)  # tuples have not become lists
    assert_same_model(loaded, vae, random_images())


@pytest.mark.parametrize("dtype", [np.float32, "f4", np.dtype("float64"), float])
def test_all_names_of_a_dtype_are_kept(path, dtype):
    loaded = saved_and_loaded(small_vae(dtype=dtype).fit(random_images()), path)
    assert np.dtype(loaded.dtype) == np.dtype(dtype)
    assert loaded.transform(random_images()).dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    "random_state",
    [
        None,
        5,
        np.random.default_rng(5),
        np.random.RandomState(5),
        np.random.Generator(np.random.MT19937(5)),
        np.random.Generator(np.random.Philox(5)),
        np.random.Generator(np.random.SFC64(5)),
        np.random.Generator(np.random.PCG64DXSM(5)),
    ],
    ids=str,
)
def test_random_numbers_go_on_from_any_generator(path, random_state):
    vae = small_vae(random_state=random_state).fit(random_images())
    vae.sample(3)
    loaded = saved_and_loaded(vae, path)
    np.testing.assert_array_equal(loaded.sample(3), vae.sample(3))
    assert_same_model(loaded, vae, random_images())


def test_frozen_layers_stay_frozen(path):
    vae = small_vae().fit(random_images())
    vae.encoder["Conv1"].freeze()
    vae.decoder["FC1"].freeze()
    loaded = saved_and_loaded(vae, path)
    assert [name for name, layer in layers(loaded).items() if not layer.trainable] == ["encoder/Conv1", "decoder/FC1"]
    before = parameters(loaded)
    assert_same_model(loaded, vae, random_images())
    np.testing.assert_array_equal(parameters(loaded)["encoder/Conv1/W"], before["encoder/Conv1/W"])


def test_changes_to_single_layers_are_kept(path):
    """A layer's activation, pooling, optimizer or rate may have been changed since the model's construction."""
    vae = small_vae().fit(random_images())
    vae.encoder["Conv1"].set_params({"act_fn": "Leaky ReLU(alpha=0.25)"})
    vae.encoder["Pool2"].set_params({"mode": "average"})
    vae.encoder["FC4"].set_params({"optimizer": "SGD(lr=0.125, momentum=0.5)"})
    vae.decoder["FC2"].optimizer.lr = 0.25
    vae.fit(random_images())
    loaded = saved_and_loaded(vae, path)
    np.testing.assert_array_equal(loaded.elbo(random_images()), vae.elbo(random_images()))
    assert_same_model(loaded, vae, random_images())


def test_a_model_that_only_went_forward_can_be_saved(path):
    vae = initialized(small_vae())
    assert_same_model(saved_and_loaded(vae, path), vae, random_images())


def test_an_epoch_that_ended_can_be_resumed(path):
    """A model saved by a callback after the second of five epochs reaches the same state when it continues."""

    def save(vae, epoch, entry):
        if epoch == 2:
            vae.save(path)

    X = random_images()
    vae = small_vae().fit(X, n_epochs=5, callbacks=[save])
    resumed = cvae.load(path).fit(X, n_epochs=3)
    assert resumed.history_["loss"] == vae.history_["loss"]
    assert_same_model(resumed, vae, X)


def test_missing_values_of_the_history_are_kept(path):
    X = random_images()
    vae = small_vae().fit(X, n_epochs=1).fit(X, n_epochs=1, validation_data=X)
    history = saved_and_loaded(vae, path).history_
    assert math.isnan(history["val_loss"][0])
    assert history["val_loss"][1] == vae.history_["val_loss"][1]
    assert {type(value) for column in history.values() for value in column} == {float}


def test_changed_arguments_of_training_are_kept(path):
    vae = small_vae().fit(random_images()).set_params(beta=3.0, n_epochs=7)
    loaded = saved_and_loaded(vae, path)
    assert (loaded.beta, loaded.n_epochs) == (3.0, 7)
    assert_same_model(loaded, vae, random_images())


def test_saving_changes_nothing(path):
    X = random_images()
    vae, plain = small_vae().fit(X), small_vae().fit(X)
    vae.save(path)
    first = path.read_bytes()
    vae.save(path)
    assert path.read_bytes() == first
    assert_same_model(vae, plain, X)


def test_the_file_holds_the_parameters_by_path(path):
    vae = small_vae().fit(random_images())
    vae.save(path)
    arrays = load_file(path)
    expected = parameters(vae)
    assert_same_bits({name: arrays[name] for name in expected}, expected)


# ------------------------------------------------------------------ whole or not


def test_all_kinds_of_paths_are_taken(tmp_path, monkeypatch):
    vae = small_vae().fit(random_images())
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "a.safetensors", str(tmp_path / "b"), "c.d", tmp_path / "with space é"):
        assert_same_bits(parameters(saved_and_loaded(vae, path)), parameters(vae))
    assert len(list(tmp_path.iterdir())) == 4


def test_an_older_file_is_replaced(path):
    path.write_text("something else")
    vae = small_vae().fit(random_images())
    assert_same_bits(parameters(saved_and_loaded(vae, path)), parameters(vae))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_has_the_usual_permissions(path):
    before = os.umask(0o027)
    try:
        small_vae().fit(random_images()).save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_failed_save_leaves_the_older_file_and_no_other(path, monkeypatch):
    vae = small_vae().fit(random_images())
    vae.save(path)
    before = path.read_bytes()

    def fail(*args):
        raise PermissionError("of the test")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PermissionError, match="of the test"):
        vae.fit(random_images()).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_full_disk_is_an_os_error_and_leaves_the_older_file(path):
    """A limit on the size of files simulates a full disk."""
    vae = small_vae().fit(random_images())
    vae.save(path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            vae.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    vae = small_vae().fit(random_images())
    with pytest.raises(FileNotFoundError):
        vae.save(tmp_path / "nowhere" / "model.safetensors")
    with pytest.raises(IsADirectoryError):
        vae.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_parameters_is_not_saved(path):
    with pytest.raises(NotFittedError):
        small_vae().save(path)
    assert not path.exists()


# ------------------------------------------------------------------ wrong files

NOT_A_MODEL = r"model\.safetensors is not a model file of cvae: "
NOT_COMPLETE = r"model\.safetensors is not a complete model file of cvae: "


def test_a_missing_file_is_named(path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        cvae.load(path)
    with pytest.raises(IsADirectoryError):
        cvae.load(path.parent)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\x89PNG\r\n", b"a text\n" * 100, b"\xff" * 64], ids=repr)
def test_a_file_of_another_kind_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=NOT_A_MODEL):
        cvae.load(path)


def test_a_truncated_file_is_named(path):
    small_vae().fit(random_images()).save(path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=NOT_A_MODEL):
            cvae.load(path)


FOREIGN = [None, {}, {"format": "pt"}, {"cvae": ""}, {"cvae": "{"}, {"cvae": "{}"}, {"cvae": "[1]"}, {"cvae": "null"}]


@pytest.mark.parametrize("metadata", FOREIGN, ids=str)
def test_a_safetensors_file_of_another_program_is_named(path, metadata):
    save_file({"encoder/Conv1/W": np.zeros(3)}, path, metadata=metadata)
    with pytest.raises(ValueError, match=NOT_A_MODEL):
        cvae.load(path)


@pytest.mark.parametrize("version", [6, 1000, "1", None, 1.5])
def test_a_file_of_a_newer_version_is_named(path, version):
    save_file({"a": np.zeros(3)}, path, metadata={"cvae": json.dumps({"format": version})})
    with pytest.raises(ValueError, match=rf"model\.safetensors has the model format {version}, but .* reads up to 5"):
        cvae.load(path)


def tampered(path, change, **arguments):
    """Save a model, modify its arrays and description with `change`, and write it again."""
    small_vae(**arguments).fit(random_images()).save(path)
    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["cvae"])
    arrays = load_file(path)
    change(arrays, description)
    save_file(arrays, path, metadata={"cvae": json.dumps(description)})


PAIRS = ["Gaussian('pixel')", "Laplace('pixel')", "DiscretizedLogistic"]


def write_as_format_2(path, name):
    """Write a model file as format 2 did: without a mapping of pixels, and with all means before all scales."""
    arrays, description = read(path)
    del description["pixels"]
    for key, array in arrays.items():
        if f"decoder/{name}/" in key:
            arrays[key] = np.concatenate([array[..., 0::2], array[..., 1::2]], axis=-1)
    history = {key: arrays.pop(f"history/{key}").tolist() for key in description["history"]}
    save_file(arrays, path, metadata={"cvae": json.dumps(description | {"format": 2, "history": history})})


@pytest.mark.parametrize("likelihood", PAIRS)
def test_means_and_scales_of_an_older_file_are_put_side_by_side(path, likelihood):
    X = (random_images() > 0.5) * 1.0
    vae = cvae.VAE("mlp", T=2, likelihood=likelihood, value_range=None, binarize=0.5, random_state=0, verbose=False)
    vae.fit(X, n_epochs=2).save(path)
    write_as_format_2(path, "Output")
    older = cvae.load(path)
    np.testing.assert_array_equal(older.elbo(X), vae.elbo(X))
    np.testing.assert_array_equal(older.fit(X, n_epochs=1).elbo(X), vae.fit(X, n_epochs=1).elbo(X))


def test_an_older_file_whose_images_cannot_be_reordered_is_refused(path):
    decoder = ["FullyConnected(18)", "Reshape((9, 2, 1))", "Upsample2D((1, 4))", "Conv2D(2, 3, pad='same')"]
    likelihood = "DiscretizedLogistic"
    vae = cvae.VAE(["Flatten()"], decoder, likelihood, T=2, random_state=0, verbose=False)
    vae.fit((random_images() > 0.5), n_epochs=1).save(path)
    write_as_format_2(path, "Conv2D_4")
    with pytest.raises(ValueError, match="decoder must end with a dense layer in a file of an older format, got Conv"):
        cvae.load(path)


def test_a_schedule_of_beta_goes_on_in_files_of_an_older_format(path):
    vae = cvae.VAE("mlp", objective="ELBO(beta=Linear(end=1, steps=16))", T=2, random_state=0, verbose=False)
    vae.fit(random_images(), n_epochs=2).save(path)
    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["cvae"])
    assert description.pop("clock") == {"steps": 2, "begun": 1, "settled": None}
    description["format"] = 4
    for state in description["optimizers"].values():
        state |= {"step": 3, "steps_before": 5}
    save_file(load_file(path), path, metadata={"cvae": json.dumps(description)})
    vae = cvae.load(path).partial_fit(random_images())
    assert vae.history_["penalty"][-1] == pytest.approx(vae.history_["kl"][-1] / 2)


def test_every_missing_part_is_noticed(path):
    small_vae().fit(random_images()).save(path)
    with safe_open(path, framework="numpy") as file:
        keys = set(json.loads(file.metadata()["cvae"])) - {"format"}
    for key in keys:
        tampered(path, lambda arrays, description, key=key: description.pop(key))
        with pytest.raises(ValueError, match=NOT_COMPLETE):
            cvae.load(path)
    for name in load_file(path):
        if name.startswith("optimizer/"):
            continue
        tampered(path, lambda arrays, description, name=name: arrays.pop(name))
        with pytest.raises(ValueError, match=NOT_COMPLETE):
            cvae.load(path)


CHANGES = {
    "a parameter of another shape": lambda a, d: a.update({"encoder/FC4/W": np.zeros((3, 8), np.float32)}),
    "a parameter of another kind": lambda a, d: a.update({"decoder/FC2/b": np.zeros((72, 1), np.float32)}),
    "an argument too many": lambda a, d: d["arguments"].update(dropout=0.5),
    "a wrong argument": lambda a, d: d["arguments"].update(T=0),
    "a list of arguments": lambda a, d: d.update(arguments=[]),
    "another image shape": lambda a, d: d.update(image_shape=[28, 28, 1]),
    "two numbers of an image shape": lambda a, d: d.update(image_shape=[9, 8]),
    "a layer that is not there": lambda a, d: d["frozen"].append("encoder/Conv3"),
    "an unknown generator": lambda a, d: d["rng"][0].update(bit_generator="SeedlessNoise"),
    "a function for a generator": lambda a, d: d["rng"][0].update(bit_generator="seed"),
    "one generator": lambda a, d: d["rng"].pop(),
    "text for a column": lambda a, d: d.update(history=["low"]),
    "a ragged history": lambda a, d: a.update({"history/loss": np.zeros(7)}),
    "a history of two axes": lambda a, d: a.update({"history/loss": np.zeros((2, 2))}),
    "a layer of another dtype": lambda a, d: d["layers"]["encoder/Conv1"].update(dtype="float64"),
    "a parameter that is NaN": lambda a, d: a["encoder/Conv1/W"].fill(np.nan),
    "a parameter too many": lambda a, d: a.update({"encoder/FC4/gain": np.zeros(3, np.float32)}),
    "more channels than weights": lambda a, d: d["layers"]["encoder/Conv1"].update(out_ch=10**8),
    "more outputs than weights": lambda a, d: d["layers"]["encoder/FC4"].update(n_out=1 << 62),
    "an enormous stride": lambda a, d: d["layers"]["encoder/Conv1"].update(stride=1 << 63),
    "the state of another shape": lambda a, d: a.update(
        {"optimizer/encoder/Conv1/W/mean": np.zeros((3, 3), np.float32)}
    ),
    "the state of another dtype": lambda a, d: a.update({"optimizer/encoder/Conv1/W/mean": np.zeros((3, 3, 1, 4))}),
    "the state of no parameter": lambda a, d: unknown_state(a, d),
    "attributes of a scheduler": lambda a, d: scheduler_of(d).update(__dict__={"a": 1}),
    "a class of a scheduler": lambda a, d: scheduler_of(d).update(__class__=3),
    "a method of a scheduler": lambda a, d: scheduler_of(d).update(state=3),
    "an argument of a scheduler": lambda a, d: scheduler_of(d).update(lr="a"),
    "steps that are negative": lambda a, d: d["optimizers"]["encoder/Conv1"].update(step=-1),
    "steps of beta that are negative": lambda a, d: d["clock"].update(steps=-1),
    "half a step of beta": lambda a, d: d["clock"].update(steps=0.5),
    "text for an epoch": lambda a, d: d["clock"].update(settled="1"),
    "a clock that knows more": lambda a, d: d["clock"].update(hours=3),
    "an enormous step": lambda a, d: d["optimizers"]["encoder/Conv1"].update(step=1 << 63),
    "half a step": lambda a, d: d["optimizers"]["encoder/Conv1"].update(step=0.5),
    "a generator without numbers": lambda a, d: d["rng"][0].update(bit_generator="BitGenerator"),
}


def unknown_state(arrays, description):
    counts = description["optimizers"]["encoder/Conv1"]["counts"]
    counts["V"] = counts["W"]
    arrays |= {f"optimizer/encoder/Conv1/V/{key}": np.zeros(3, np.float32) for key in ("mean", "var")}


def scheduler_of(description):
    return description["optimizers"]["encoder/Conv1"]["scheduler"]


@pytest.mark.parametrize("change", CHANGES)
def test_parts_that_do_not_fit_together_are_noticed(path, change):
    tampered(path, CHANGES[change])
    with pytest.raises(ValueError, match=NOT_COMPLETE) as caught:
        cvae.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, d: d["layers"]["encoder/Conv1"].update(act_fn="Swish"), "the activation must be .*, got 'Swish'"),
        (lambda a, d: d["optimizers"]["encoder/Conv1"].update(call="Lion()"), "the optimizer must be .*, got 'Lion'"),
    ],
)
def test_a_class_that_is_not_defined_is_named(path, change, message):
    tampered(path, change)
    with pytest.raises(ValueError, match=rf"model\.safetensors is of a class that is not defined here: {message}; imp"):
        cvae.load(path)


KING = "Adam(lr_scheduler=KingScheduler(patience=3))"
WRONG_KINGS = [
    {"loss_history": 3},
    {"loss_history": ["a"]},
    {"current_lr": "x"},
    {"current_lr": -1},
    {"last_step": 0.5},
]


@pytest.mark.parametrize("state", WRONG_KINGS, ids=str)
def test_the_state_of_a_scheduler_is_checked(path, state):
    tampered(path, lambda a, d: scheduler_of(d).update(state), optimizer=KING)
    with pytest.raises(ValueError, match=f"{NOT_COMPLETE}{next(iter(state))} must be"):
        cvae.load(path)


def test_numbers_of_updates_are_not_negative(path):
    def change(arrays, description):
        description["optimizers"]["encoder/Conv1"]["counts"]["W"]["t"] = -3

    tampered(path, change, optimizer=KING)
    with pytest.raises(ValueError, match=NOT_COMPLETE):
        cvae.load(path)


WIDE = ["FullyConnected(n_out=20_000)", "FullyConnected(n_out=20_000)"]
HUGE = {
    "a code": (["Flatten()"], {"T": 10**8}),
    "an image": (["Flatten()"], {"image_shape": (8000, 8000, 1)}),
    "dense layers": (["Flatten()", *WIDE], {}),
    "channels": (["Conv2D(5000, 3)", "Conv2D(5000, 3)", "Flatten()"], {}),
    "a kernel": (["Conv2D(5, 9999, pad=9999)", "Flatten()"], {}),
    "a residual block": (["Flatten()", f"Residual({WIDE}, shortcut='FullyConnected(20_000)')"], {}),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_small_file_takes_little_memory(path, name):
    """A description of a few bytes describes layers of gigabytes."""
    encoder, arguments = HUGE[name]
    small_vae(optimizer="SGD").fit(random_images(), n_epochs=1).save(path)
    arrays, description = read(path)
    image_shape = arguments.get("image_shape", (9, 8, 1))
    huge = cvae.VAE(encoder, [], **arguments)
    description["layers"] = {path: {} for path in huge._layers()}
    description |= {"model": "VAE", "arguments": huge.get_params() | {"dtype": "float32"}, "image_shape": image_shape}
    description["optimizers"] = {}
    save_file(arrays, path, metadata={"cvae": json.dumps(description)})
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{NOT_COMPLETE}.* must have [0-9]* parameters, got"):
        cvae.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


def test_a_file_of_another_program_is_refused_before_its_tensors_are_read(path):
    save_file({"a": np.zeros(10_000_000)}, path, metadata={"format": "pt"})
    tracemalloc.start()
    with pytest.raises(ValueError, match=NOT_A_MODEL):
        cvae.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


NO_JSON = {"deep": "[" * 100_000, "a deep value": '{"format": 4, "a": ' + "[" * 100_000, "digits": "1" * 5000}


@pytest.mark.parametrize("name", NO_JSON)
def test_json_that_python_does_not_read_is_a_value_error(path, name):
    save_file({"a": np.zeros(3)}, path, metadata={"cvae": NO_JSON[name]})
    with pytest.raises(ValueError, match=NOT_A_MODEL):
        cvae.load(path)


def test_an_untouched_description_loads(path):
    """This shows that the tests above fail because of the change, not of the writing."""
    tampered(path, lambda arrays, description: None)
    assert_same_model(cvae.load(path), small_vae().fit(random_images()), random_images())


# ------------------------------------------------------------- pickle and copies


def joblib_copy(vae, tmp_path):
    joblib.dump(vae, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib")


COPIES = {
    "pickle": lambda vae, _: pickle.loads(pickle.dumps(vae)),
    "deepcopy": lambda vae, _: copy.deepcopy(vae),
    "joblib": joblib_copy,
}


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("optimizer", ["Adam(lr=0.01)", OPTIMIZERS[-1]])
def test_copies_go_on_alone_with_the_same_bits(kind, optimizer, tmp_path):
    X = random_images()
    vae = small_vae(optimizer=optimizer).fit(X)
    vae.encoder["Conv1"].freeze()
    vae.encode(X)
    other = COPIES[kind](vae, tmp_path)
    before = parameters(vae)
    np.testing.assert_array_equal(other.sample(3), vae.sample(3))
    other.fit(X)
    assert_same_bits(parameters(vae), before)
    assert other.history_["loss"][:2] == vae.history_["loss"]
    assert_same_model(other, vae.fit(X), X)


@pytest.mark.parametrize("kind", COPIES)
def test_an_untrained_model_can_be_copied(kind, tmp_path):
    vae = small_vae(random_state=np.random.default_rng(3))
    other = COPIES[kind](vae, tmp_path)
    with pytest.raises(NotFittedError):
        other.encode(random_images())
    assert_same_model(other.fit(random_images()), vae.fit(random_images()), random_images())


def test_buffers_are_not_pickled():
    """The size of a batch must not affect that of the file."""
    vae = small_vae().fit(random_images())
    before = len(pickle.dumps(vae))
    vae.fit(random_images(2000), batchsize=2000, n_epochs=1)
    vae.encode(random_images(2000))
    assert len(pickle.dumps(vae)) < before + 1000


class Halving(SchedulerBase):
    """A scheduler of the user's own."""

    def __init__(self, lr=0.5):
        self.lr = lr

    def __call__(self, step=None, cur_loss=None):
        return self.lr ** (step or 0)


class Clipped(Adam):
    """An optimizer of the user's own."""


@pytest.mark.parametrize("optimizer", [SGD(lr_scheduler=Halving(0.25)), Clipped(lr=0.01)], ids=str)
def test_a_scheduler_or_optimizer_of_the_users_own_is_kept(path, optimizer):
    vae = small_vae(optimizer=optimizer).fit(random_images())
    loaded = saved_and_loaded(vae, path)
    assert type(layers(loaded)["encoder/FC4"].optimizer) is type(optimizer)
    assert_same_model(loaded, vae, random_images())


def set_layer(vae, name, value):
    setattr(vae.encoder["FC4"].optimizer, name, value)


UNREADABLE = {
    "history": lambda vae: vae.history_.update(note=["good", "bad"]),
    "n_epochs": lambda vae: setattr(vae, "n_epochs", 0),
    "beta": lambda vae: setattr(vae, "beta", math.nan),
    "batchsize": lambda vae: setattr(vae, "batchsize", "many"),
    "a rate": lambda vae: set_layer(vae, "clip_norm", -1.0),
    "a scheduler": lambda vae: set_layer(vae, "lr_scheduler", "Best()"),
    "an activation": lambda vae: setattr(vae.encoder["FC4"], "init", "none"),
    "a layer": lambda vae: vae.encoder.update(More=vae.encoder["FC4"]),
    "a ragged history": lambda vae: vae.history_.update(val_loss=[1.0]),
    "a parameter": lambda vae: vae.encoder["FC4"].W.fill(math.inf),
    "a state": lambda vae: vae.encoder["FC4"].optimizer.cache["W"].update(mean=np.zeros(3)),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_could_not_be_read_is_not_written(path, name):
    vae = small_vae().fit(random_images())
    vae.save(path)
    before = path.read_bytes()
    UNREADABLE[name](vae)
    with pytest.raises((ValueError, TypeError)):
        vae.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_without_the_state_of_the_optimizers_training_begins_anew(path):
    vae = small_vae(optimizer="Adam(lr=0.01)").fit(random_images())
    vae.save(path)
    size = path.stat().st_size
    vae.save(path, optimizer_state=False)
    arrays = load_file(path)
    assert not any(name.startswith("optimizer/") for name in arrays)
    assert path.stat().st_size < size
    loaded = cvae.load(path)
    assert_same_bits(parameters(loaded), parameters(vae))
    assert {layer.optimizer.cur_step for layer in layers(loaded).values()} == {0}
    loaded.fit(random_images())


def test_equal_models_give_equal_files(tmp_path):
    X = random_images()
    for name in "ab":
        small_vae().fit(X, validation_data=X).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_long_history_is_kept(path):
    vae = small_vae().fit(random_images(), n_epochs=1)
    columns = {name: np.random.default_rng(0).normal(size=100_000).tolist() for name in without_times(vae.history_)}
    vae.history_ = dict(columns)
    assert saved_and_loaded(vae, path).history_ == columns


def test_arrays_are_aligned_and_written_without_a_copy_of_them_all(path):
    vae = small_vae(latent_dim=60_000).fit(random_images(), n_epochs=1)
    vae.save(path)
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    entries = json.loads(whole[8 : 8 + header])
    assert header % 8 == 0
    sizes = {"F32": 4, "F64": 8}
    assert all(e["data_offsets"][0] % sizes[e["dtype"]] == 0 for name, e in entries.items() if name[0] != "_")
    tracemalloc.start()
    vae.save(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(whole) / 4


def test_numbers_of_open_files_are_refused(tmp_path):
    vae = small_vae().fit(random_images(), n_epochs=1)
    for number in (1, True, 0.5, None):
        with pytest.raises(TypeError, match="path must be a str or path, got"):
            cvae.load(number)
        with pytest.raises(TypeError, match="path must be a str or path, got"):
            vae.save(number)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="Not a regular file"):
        cvae.load(tmp_path / "fifo")
    with pytest.raises(IsADirectoryError):
        vae.save(f"{tmp_path}/new/")


WRONG_POSITIONS = [{"batches": -1}, {"data": [1]}, {"sums": ["a"]}, {"order": {}}, {"more": 1}]


@pytest.mark.parametrize("value", WRONG_POSITIONS, ids=str)
def test_a_position_that_is_none_is_noticed(path, value):
    vae = small_vae()
    vae.fit(random_images(), n_epochs=2, callbacks=[lambda vae, epoch, entry: vae.save(path) if epoch == 1 else None])
    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["cvae"])
    description["position"] |= value
    save_file(load_file(path), path, metadata={"cvae": json.dumps(description)})
    with pytest.raises(ValueError, match=NOT_COMPLETE):
        cvae.load(path)
