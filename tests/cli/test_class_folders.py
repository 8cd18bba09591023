"""Conditional models of folders with a subfolder for each class: a class is its name, whatever else a folder holds."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.cli.main import main

GREYS = {"apple": 10, "banana": 120, "pear": 240, "é": 60}


@pytest.fixture(scope="module")
def fruit(tmp_path_factory):
    """Folders of pictures, a grey for each class, and a model that has learnt these greys from all of them."""
    place = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)

    def write(folder, names):
        for name in names:
            (place / folder / name).mkdir(parents=True)
            for i in range(8):
                pixels = GREYS.get(unicodedata.normalize("NFC", name), 0) + rng.integers(-9, 9, (4, 4))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / folder / name / f"{i}.png")

    write("all", GREYS)
    write("some", ["apple", "pear"])
    write("mac", [unicodedata.normalize("NFD", "é")])
    write("other", ["apple", "plum"])
    write("digits", ["3", "7"])
    write("sevens", ["7"])
    options = ["--latent", "1", "--condition", "classes", "--epochs", "60", "--batchsize", "8", "--lr", "0.01"]
    train = ["train", str(place / "all"), "-o", str(place / "m"), "--encoder", "mlp", "--quiet", *options]
    assert main([*train, "--likelihood", "Gaussian(scale=0.1)"]) == 0
    return place


@pytest.fixture(autouse=True)
def in_folder(fruit, monkeypatch):
    monkeypatch.chdir(fruit)


def test_a_folder_without_some_classes_has_the_labels_of_the_others(capsys):
    vae, data = cvae.load("m"), cvae.datasets.load("some")
    assert vae.classes_.tolist() == ["apple", "banana", "pear", "é"]
    assert main(["evaluate", "m", "some", "--scores", "s.csv"]) == 0
    expected = vae.elbo(data.images, y=np.repeat(["apple", "pear"], 8))
    np.testing.assert_allclose(np.loadtxt("s.csv", delimiter=",", skiprows=1, usecols=2), expected, rtol=1e-5)
    assert main(["encode", "m", "some", "-o", "z.npy"]) == 0
    np.testing.assert_array_equal(np.load("z.npy"), vae.transform(data.images, np.repeat(["apple", "pear"], 8)))


def test_names_are_compared_as_they_are_read(capsys):
    assert main(["evaluate", "m", "mac"]) == 0
    assert main(["evaluate", "m", "other"]) == 2
    assert "labels of the first fit, 'apple', 'banana', 'pear', 'é', got 'plum'" in capsys.readouterr().err


def test_labels_are_asked_for_by_name(capsys):
    assert main(["sample", "m", "--label", "pear", "--seed", "0", "-n", "9", "-o", "pears.npy"]) == 0
    np.testing.assert_allclose(255 * np.load("pears.npy").mean(), 240, atol=25)
    assert main(["sample", "m", "--label", "2", "-o", "p.npy"]) == 2
    assert "--label must be one of apple, banana, pear, é, got '2'" in capsys.readouterr().err
    assert main(["sample", "m", "-n", "8", "--separate", "drawn"]) == 0
    assert cvae.datasets.load("drawn").class_names == ("apple", "banana", "pear", "é")


def test_names_that_are_numbers_are_labels_of_other_data_too(tmp_path):
    options = ["--encoder", "mlp", "--condition", "classes", "--latent", "1", "--epochs", "1", "--quiet"]
    assert main(["train", "digits", "-o", str(tmp_path / "m"), *options]) == 0
    vae = cvae.load(tmp_path / "m")
    assert vae.classes_.tolist() == [3, 7]
    np.savez(tmp_path / "d.npz", images=cvae.datasets.load("sevens").images, labels=np.full(8, 7))
    scores = []
    for data in ("sevens", str(tmp_path / "d.npz")):
        assert main(["evaluate", str(tmp_path / "m"), data, "--scores", str(tmp_path / "s.csv"), "--force"]) == 0
        scores.append(np.loadtxt(tmp_path / "s.csv", delimiter=",", skiprows=1, usecols=2).tolist())
    assert scores[0] == scores[1]


def test_values_are_the_names_or_refused(tmp_path, capsys):
    options = ["--encoder", "mlp", "--condition", "values", "--latent", "1", "--epochs", "1", "--quiet"]
    assert main(["train", "all", "-o", str(tmp_path / "m"), *options]) == 2
    assert "all must have folders whose names are numbers for a model with values as labels" in capsys.readouterr().err
    assert main(["train", "digits", "-o", str(tmp_path / "m"), *options]) == 0
    vae, data = cvae.load(tmp_path / "m"), cvae.datasets.load("digits")
    assert main(["encode", str(tmp_path / "m"), "digits", "-o", str(tmp_path / "z.npy")]) == 0
    expected = vae.transform(data.images, np.repeat([3.0, 7.0], 8))
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), expected)


@pytest.mark.filterwarnings("default:the model knows its classes by numbers")
def test_a_model_that_knows_numbers_says_what_it_takes_them_for(tmp_path, capsys):
    data = cvae.datasets.load("some")
    vae = cvae.VAE("mlp", T=1, condition="classes", random_state=0, n_epochs=1).fit(data.images, data.labels)
    vae.save(tmp_path / "m")
    assert main(["encode", str(tmp_path / "m"), "some", "-o", str(tmp_path / "z.npy")]) == 0
    assert "knows its classes by numbers, which are taken to be 0 apple, 1 pear" in capsys.readouterr().err
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), vae.transform(data.images, data.labels))
    assert main(["encode", str(tmp_path / "m"), "all", "-o", str(tmp_path / "z.npy")]) == 2


def test_training_says_which_classes_are_read(tmp_path, capsys):
    options = ["--encoder", "mlp", "--latent", "1", "--epochs", "1", "--force", "-o", str(tmp_path / "m")]
    assert main(["train", "all", *options]) == 0
    assert "cvae: all: 32 images of 4x4x1, uint8 from" in (err := capsys.readouterr().err)
    assert ", in 4 classes: apple, banana, pear, é\n" in err
    data = cvae.datasets.load("all")
    np.savez(tmp_path / "d.npz", images=data.images, labels=data.labels / 2)
    assert main(["train", str(tmp_path / "d.npz"), *options]) == 0
    assert ", labels from " in capsys.readouterr().err
    assert main(["train", "sevens", *options, "--condition", "classes"]) == 0
    err = capsys.readouterr().err
    assert ", in 1 class: 7\n" in err
    assert "warning: all images of sevens have the same label, by which a model learns nothing" in err
