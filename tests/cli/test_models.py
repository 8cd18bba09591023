"""Models that `cvae train` makes from flags and from files, and the tables that it and `cvae info` print."""

import re

import numpy as np
import pytest
from sklearn.base import clone

import cvae
from cvae.cli import main as cli
from cvae.cli.models import new_model, read_config

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 12, 10), dtype=np.uint8)
CONFIG = """
encoder = ["Conv2D(out_ch=4, kernel_shape=3, stride=2, act_fn='ReLU')", "Flatten()"]
decoder = "auto"
likelihood = "gaussian(scale=0.5)"
objective = "ELBO(beta=0.5)"
T = 3
image_shape = [12, 10]
optimizer = "Adam(lr=0.01)"
n_epochs = 1
random_state = 5
"""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", IMAGES)
    np.save("flat.npy", IMAGES.reshape(16, -1))
    (tmp_path / "model.toml").write_text(CONFIG)


def train(*arguments, data="data.npy"):
    assert cli.main(["train", data, "-o", "model", "--force", "--epochs", "1", *arguments]) == 0
    return cvae.load("model")


def without_sizes(err):
    """Return what `train` prints of the model and the epochs, after what it reads and the sizes of that."""
    lines = err.splitlines(keepends=True)
    data = r"cvae: [\w.]+: 16 images of 12x10x1, uint8 from 0 to 255(, in 3 classes: a, b, c)?\n"
    assert re.fullmatch(data, lines.pop(0))
    sizes = re.compile(r"cvae: [\d,]+ parameters; training takes about [\d.]+ .B of memory, the file [\d.]+ .B\n")
    assert sum(bool(sizes.fullmatch(line)) for line in lines) == 1
    return "".join(line for line in lines if not sizes.fullmatch(line))


def refuse(capsys, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cvae.VAE, "_fit", None)  # not called
        try:
            code = cli.main(["train", "data.npy", "-o", "model", *arguments])
        except SystemExit as error:
            code = error.code
    assert code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cvae: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("cvae: error: ").strip()


def test_a_likelihood_alone_makes_the_automatic_model():
    vae = train("--likelihood", "gaussian", "--encoder", "auto", "--latent", "6", "--objective", "IWAE(k=5)")
    call = "VAE(likelihood='gaussian', objective='IWAE(k=5)', T=6, n_epochs=1, random_state=2)"
    assert repr(vae) == f"<{call} trained for 1 epoch on images of 12x10x1>"
    assert repr(train("--likelihood", "GAUSSIAN('pixel')")).startswith("<VAE(likelihood=\"GAUSSIAN('pixel')\"")
    assert train("--objective", "IWAE(k=2)", "--binarize", "dynamic").binarize == "dynamic"
    assert repr(train("--objective", "elbo(beta=2)")).startswith("<VAE(objective='elbo(beta=2)'")


def test_nothing_of_these_makes_numpy_mls_model():
    vae = train("--latent", "2", "--latent-dim", "8", "--enc-conv2-kernel-shape", "1")
    assert type(vae) is cvae.BernoulliVAE
    assert vae.T == 2


@pytest.mark.parametrize(
    ("arguments", "encoder", "decoder"),
    [
        (["--encoder", "keras"], "keras", "auto"),
        (["--decoder", "mlp"], "auto", "mlp"),
        (["--encoder", "Flatten()"], ["Flatten()"], "auto"),
        (["--encoder", "flatten"], ["flatten"], "auto"),
        (["--encoder", "auto", "--decoder", "FullyConnected(4)", "FullyConnected(5)"], "auto", None),
    ],
    ids=str,
)
def test_networks_are_names_or_layers(arguments, encoder, decoder):
    vae = train(*arguments)
    assert vae.encoder == encoder
    assert vae.decoder == (decoder or ["FullyConnected(4)", "FullyConnected(5)"])


def test_a_file_holds_the_arguments():
    vae = train("--config", "model.toml", data="flat.npy")
    expected = cvae.VAE(
        ["Conv2D(out_ch=4, kernel_shape=3, stride=2, act_fn='ReLU')", "Flatten()"], "auto", "gaussian(scale=0.5)",
        "ELBO(beta=0.5)", 3, image_shape=(12, 10), optimizer="Adam(lr=0.01)", n_epochs=1, random_state=5,
    )  # fmt: skip
    assert repr(clone(vae)) == repr(expected)
    np.testing.assert_array_equal(vae.transform(IMAGES), expected.fit(IMAGES, verbose=False).transform(IMAGES))


def test_flags_override_the_file():
    vae = train("--config", "model.toml", "--encoder", "keras", "--T", "2", "--seed", "1")
    assert (vae.encoder, vae.T, vae.random_state, vae.likelihood) == ("keras", 2, 1, "gaussian(scale=0.5)")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_may_begin_with_a_mark(encoding):
    with open("marked.toml", "w", encoding=encoding, newline="\r\n") as file:
        file.write("# Größe\nencoder = 'mlp'\nT = 2\n")
    vae = train("--config", "marked.toml")
    assert (vae.encoder, vae.T) == ("mlp", 2)


def test_a_file_may_hold_the_arguments_of_numpy_mls_model():
    path = "numpy_ml.toml"
    with open(path, "w") as file:
        file.write("latent_dim = 8\nenc_conv1_pad = [1, 2]\nenc_conv2_kernel_shape = 2\nn_threads = 1\n")
    vae = train("--config", path)
    assert type(vae) is cvae.BernoulliVAE
    assert (vae.latent_dim, vae.enc_conv1_pad, vae.enc_conv2_kernel_shape, vae.n_threads) == (8, (1, 2), 2, 1)
    assert vae.random_state == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth = 3", "c.toml must hold arguments of a model such as T or encoder, got 'depth'"),
        ("[model]\nT = 3", "c.toml must hold arguments of a model such as T or encoder, got 'model'"),
        ("epochs = 3", "c.toml must hold arguments of a model such as n_epochs, got 'epochs'"),
        ("latent = 3", "c.toml must hold arguments of a model such as T, got 'latent'"),
        ("value-range = 'data'", "c.toml must hold arguments of a model such as value_range, got 'value-range'"),
        ("batch_size = 3", "c.toml must hold arguments of a model such as batchsize, got 'batch_size'"),
        ("T = ", "c.toml must be a TOML file: Invalid value"),
        ("T = 1\nT = 2", "c.toml must be a TOML file: Cannot overwrite a value"),
        ("# \xff", "c.toml must be a TOML file: 'utf-8' codec"),
        ("\xff\xfea", "c.toml must be a TOML file: 'utf-16-le' codec"),
        ("T = '3'", "T must be an int >= 1, got '3'"),
        ("T = true", "T must be an int >= 1, got True"),
        ("encoder = [5]", "encoder[0]: layer must be a layer or its call string, got 5"),
        ("encoder = 5", "encoder must be a sequence of layers or their call strings, got 5"),
        ("encoder = 'resnet'", "encoder must be a sequence of layers or their call strings, or one of 'auto', 'keras'"),
        ("likelihood = 3", "likelihood must be a likelihood or its call string, got 3"),
        ("image_shape = ['a', 2]", "image_shape must be 2 or 3 ints >= 1, got ('a', 2)"),
        ("dtype = 2020-01-01", "dtype must be 'float32' or 'float64'"),
        ("random_state = -1", "random_state must be an int >= 0"),
        ("latent_dim = 8\nlikelihood = 'gaussian'", "latent_dim in c.toml must be left out with likelihood in c.toml"),
        ("encoder = 'world-models'", "'world-models' must get images of 64x64 pixels, got 12x10"),
    ],
)
def test_a_wrong_file_is_an_error_of_one_line(text, message, tmp_path, capsys):
    (tmp_path / "c.toml").write_bytes(text.encode("latin-1"))
    assert message in refuse(capsys, "--config", "c.toml")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--config missing.toml", "missing.toml: No such file or directory"),
        ("--config .", ".: Is a directory"),
        ("--config data.npy", "data.npy must be a TOML file"),
        ("--encoder resnet", "or one of 'auto', 'keras', 'world-models', 'mlp', 'numpy-ml', got 'resnet'"),
        ("--encoder world-models", "'world-models' must get images of 64x64 pixels, got 12x10"),
        ("--encoder keras --latent-dim 8", "--latent-dim must be left out with --encoder"),
        ("--config model.toml --latent-dim 8", "--latent-dim must be left out with encoder in model.toml"),
        ("--objective elbow", "the objective must be one of ELBO, IWAE"),
        ("--binarize sometimes", "binarize must be None, 'dynamic', 'fixed' or a threshold in [0, 1), got 'sometimes'"),
        ("--binarize nan", "binarize must be None, 'dynamic', 'fixed' or a threshold in [0, 1), got nan"),
        ("--latent 0", "--T/--latent: must be an int >= 1, got '0'"),
        ("-o -", "the output must be the name of a file, got '-': nothing is written to standard output"),
        ("--resume data.npy --config model.toml", "--config must be left out with --resume"),
    ],
)
def test_wrong_flags_are_errors_of_one_line(arguments, message, capsys):
    assert message in refuse(capsys, *arguments.split())


def test_the_output_does_not_take_the_place_of_the_file(capsys, tmp_path):
    assert cli.main(["train", "data.npy", "-o", "model.toml", "--config", "model.toml"]) == 2
    assert "inputs and outputs must be different files" in capsys.readouterr().err
    assert (tmp_path / "model.toml").read_text() == CONFIG


def test_train_prints_what_it_made_by_name(capsys):
    vae = train("--encoder", "keras")
    out, err = capsys.readouterr()
    assert without_sizes(err).startswith(f"cvae: the model\n{vae.summary()}\ncvae: epoch 1: ")
    assert "Conv2D" not in out
    train("--encoder", "keras", "--quiet")
    assert capsys.readouterr().err == ""
    for arguments in (["--encoder", "Flatten()", "--decoder"], ["--latent-dim", "4", "--enc-conv2-kernel-shape", "1"]):
        train(*arguments)
        assert without_sizes(capsys.readouterr().err).startswith("cvae: epoch 1: ")


def test_train_prints_conditional_models_too(capsys):
    np.savez("data.npz", images=IMAGES, labels=list("abca" * 4))
    vae = train("--encoder", "auto", "--condition", "classes", data="data.npz")
    shown = without_sizes(capsys.readouterr().err)
    assert shown.startswith(f"cvae: the model\n{vae.summary()}\ncvae: epoch 1: ")


def test_labels_may_be_vectors_of_values(capsys):
    labels = np.random.default_rng(0).normal(size=(16, 2))
    np.savez("data.npz", images=IMAGES, labels=labels)
    vae = train("--encoder", "mlp", "--condition", "values", data="data.npz")
    assert cli.main(["encode", "model", "data.npz", "-o", "z.npy"]) == 0
    np.testing.assert_array_equal(np.load("z.npy"), vae.transform(IMAGES, labels))
    assert cli.main(["sample", "model", "-n", "2", "--label", "1,-1", "-o", "s.png"]) == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (list("abca" * 4), "the labels of data.npz must hold real numbers, got dtype <U1"),
        (np.full(16, np.nan), "the labels of data.npz must be finite in float32, got infinite values or NaN"),
    ],
    ids=["strings", "NaN"],
)
@pytest.mark.parametrize("decoder", ["auto", "mlp"])
def test_labels_that_are_no_values_are_an_error_of_one_line(labels, message, decoder, capsys):
    np.savez("data.npz", images=IMAGES, labels=labels)
    flags = ["--decoder", decoder, "--condition", "values"]
    assert cli.main(["train", "data.npz", "-o", "model", *flags]) == 2
    assert capsys.readouterr().err == f"cvae: error: {message}\n"


def test_info_prints_the_summary(capsys):
    vae = train("--likelihood", "gaussian")
    capsys.readouterr()
    assert cli.main(["info", "model"]) == 0
    out = capsys.readouterr().out
    assert out.endswith(f"\n\n{vae.summary()}\n")
    assert f"parameters {vae.summary().parameters:,}" in [" ".join(line.split()) for line in out.splitlines()]


def test_a_resumed_automatic_model_goes_on(capsys):
    first = train("--likelihood", "gaussian")
    resumed = train("--resume", "model")
    np.testing.assert_array_equal(resumed.transform(IMAGES), first.partial_fit(IMAGES).transform(IMAGES))


def test_values_of_a_file_have_the_types_of_the_constructor():
    assert read_config("model.toml")["image_shape"] == (12, 10)
    assert read_config("model.toml")["encoder"][1] == "Flatten()"
    assert type(new_model({})) is cvae.BernoulliVAE


def test_pixels_of_any_range():
    np.save("wide.npy", IMAGES.astype(np.int16) * 100 - 5000)
    assert train("--value-range=-5000:20500", "--encoder", "mlp", data="wide.npy").pixel_offset_.tolist() == [-5000]
    vae = train("--value-range", "data", "--likelihood", "bernoulli", data="wide.npy")
    assert vae.value_range == "data"
    assert vae.pixel_scale_.tolist() == [float(IMAGES.max() - IMAGES.min()) * 100]


@pytest.mark.parametrize("text", ["1", "a:b", "1:2:3", ""])
def test_a_range_is_two_numbers(capsys, text):
    message = "argument --value-range: must be data, or two numbers joined by a colon, such as 0:65535, got"
    assert refuse(capsys, f"--value-range={text}").startswith(f"{message} {text!r}")


def test_a_range_goes_up(capsys):
    assert refuse(capsys, "--value-range", "5:1") == "--value-range must be (low, high) with low < high, got (5.0, 1.0)"
