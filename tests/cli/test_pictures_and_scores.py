"""What the command says about single images: scores, outliers, samples as files, pictures and the explorer."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image
from small_vae import random_images

import cvae
from cvae.cli import main as cli

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (24, 12, 10), dtype=np.uint8)
SETTINGS = {"T": 3, "n_epochs": 1, "batchsize": 8, "random_state": 0, "verbose": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data in two parts, pictures and models; tests must not change it."""
    folder = tmp_path_factory.mktemp("scores")
    np.savez(folder / "data.npz", x_train=X[:16], y_train=np.arange(16) % 2, x_test=X[16:], y_test=np.arange(8) % 2)
    for name in ("a", "b"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(X[i]).save(folder / "photos" / name / f"{i}.png")
    cvae.VAE("mlp", **SETTINGS).fit(X[:16]).save(folder / "model")
    cvae.VAE("mlp", condition="classes", **SETTINGS).fit(X[:16], np.arange(16) % 2).save(folder / "classes")
    five = random_images(16, (12, 10, 5))
    cvae.VAE("mlp", **SETTINGS).fit(five).save(folder / "five")
    return folder


@pytest.fixture(scope="module")
def vae(folder):
    return cvae.load(folder / "model")


@pytest.fixture(autouse=True)
def _in_the_folder(folder, tmp_path, monkeypatch):
    """Run in an empty folder with links to the data."""
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    assert cli.main([str(argument) for argument in arguments]) == 0


def refuse(capsys, *arguments):
    """Run a command that must fail, and return its one line."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err.removeprefix("cvae: error: ").strip()


def table(path):
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------ scores


def test_evaluate_writes_the_numbers_of_each_image(vae, capsys):
    run("evaluate", "model", "data.npz", "--scores", "s.csv", "--log-likelihood", 4)
    assert capsys.readouterr().out.endswith("wrote s.csv\n")
    rows = table("s.csv")
    assert list(rows[0]) == ["image", "part", "elbo", "reconstruction", "kl", "log_likelihood"]
    assert [(row["image"], row["part"]) for row in rows] == [(str(i), "test") for i in range(8)]
    np.testing.assert_array_equal([float(row["elbo"]) for row in rows], vae.elbo(X[16:]))
    found = [float(row["log_likelihood"]) for row in rows]
    np.testing.assert_array_equal(found, vae.log_likelihood(X[16:], 4))


def test_parts_of_the_data(vae, capsys):
    for part, expected in (("train", 16), ("test", 8), ("all", 24)):
        run("evaluate", "model", "data.npz", "--part", part, "--scores", "s.csv", "--force", "--json")
        assert json.loads(capsys.readouterr().out)["images"] == len(table("s.csv")) == expected
    assert [row["part"] for row in table("s.csv")] == ["train"] * 16 + ["test"] * 8
    run("encode", "model", "data.npz", "--part", "all", "-o", "z.npy")
    np.testing.assert_array_equal(np.load("z.npy"), vae.transform(X))
    run("reconstruct", "model", "data.npz", "--part", "train", "-o", "r.png")
    capsys.readouterr()
    message = refuse(capsys, "outliers", "model", "photos", "--part", "test")
    assert message == "--part must be one of train for photos, got test"


def test_images_have_the_names_of_their_files(vae):
    run("evaluate", "model", "photos", "--scores", "s.csv")
    assert [row["image"] for row in table("s.csv")] == [f"{name}/{i}.png" for name in "ab" for i in range(3)]
    run("encode", "model", "photos", "-o", "z.csv")
    rows = table("z.csv")
    assert list(rows[0]) == ["image", "part", "z1", "z2", "z3"]
    np.testing.assert_allclose([float(row["z2"]) for row in rows[:3]], vae.transform(X[:3])[:, 1], rtol=1e-6)


def test_names_that_are_no_text(capsys, tmp_path):
    """A file whose name is Latin-1, as old archives have them, in each thing that names files."""
    name = os.fsdecode(b"mod\xe8le")
    (tmp_path / "odd").mkdir()
    for i in range(3):
        Image.fromarray(X[i]).save(tmp_path / "odd" / f"{name}{i}.png")
    cvae.load("model").save(name)
    run("outliers", name, "odd", "-o", "s.csv", "--picture", "w.png", "--top", 2)
    assert {row["image"] for row in table("s.csv")} == {f"{name}{i}.png" for i in range(3)}
    assert b"mod\xe8le0.png" in (tmp_path / "s.csv").read_bytes()
    assert "mod\ufffdle" in capsys.readouterr().out
    run("outliers", name, "odd", "--json")
    assert json.loads(capsys.readouterr().out)["worst"][0]["image"].startswith(name)
    run("sample", name, "-o", f"{name}.png")
    assert capsys.readouterr().out.endswith("wrote mod\ufffdle.png\n")
    run("plot", "ranking", name, "odd", "-o", "r.png")
    run("explore", name, "--data", "odd", "-o", "e.html")
    assert "mod?le" in (tmp_path / "e.html").read_text()


# ---------------------------------------------------------------------------- outliers


def test_outliers_are_those_of_the_detector(vae, capsys):
    strange = X[:16].copy()
    strange[5] = np.where(strange[5] > 127, 0, 255)
    np.save("strange.npy", strange)
    run("outliers", "model", "strange.npy", "-o", "s.csv", "--picture", "w.png", "--top", 3, "--contamination", 0.25)
    rows = table("s.csv")
    detector = cvae.VAEOutlierDetector(vae, prefit=True, contamination=0.25).fit(strange)
    np.testing.assert_array_equal([float(row["score"]) for row in rows], detector.score_samples(strange))
    np.testing.assert_array_equal([row["is_outlier"] == "1" for row in rows], detector.predict(strange) == -1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data      16 images of strange.npy"
    assert lines[1] == f"outliers  4, below {detector.offset_:.2f} nats per image"
    order = np.argsort(detector.score_samples(strange), kind="stable")
    assert [line.split()[0] for line in lines[3:6]] == [str(i) for i in order[:3]]
    assert lines[6:] == ["wrote s.csv", "wrote w.png"]
    with Image.open("w.png") as picture:
        assert picture.size[0] >= 500


@pytest.mark.parametrize("score", ["elbo", "reconstruction", "likelihood"])
def test_each_score_and_json(score, vae, capsys):
    run("outliers", "model", "data.npz", "--score", score, "--samples", 2, "--top", 2, "--json")
    found = json.loads(capsys.readouterr().out)
    detector = cvae.VAEOutlierDetector(vae, prefit=True, score_type=score, n_samples=2).fit(X)
    assert (found["images"], found["threshold"]) == (24, pytest.approx(detector.offset_))
    worst = int(detector.score_samples(X).argmin())
    expected = {"image": str(worst % 16 if worst < 16 else worst - 16), "part": "train" if worst < 16 else "test"}
    assert {name: found["worst"][0][name] for name in expected} == expected


def test_scores_that_are_not_finite_are_null_in_json(capsys, monkeypatch):
    scores = np.where(np.arange(24) == 21, -np.inf, -np.arange(24.0))
    monkeypatch.setattr("cvae.cli.commands.outliers.image_scores", lambda *_: scores)
    run("outliers", "model", "data.npz", "--top", 2, "--contamination", 0.25, "--json")
    worst = json.loads(capsys.readouterr().out)["worst"]
    assert worst == [{"image": "5", "part": "test", "score": None}, {"image": "7", "part": "test", "score": -23}]


def test_normal_images_set_the_threshold(vae, capsys):
    np.save("normal.npy", X[:10])
    run("outliers", "model", "data.npz", "--normal", "normal.npy", "--contamination", 0.5, "--json")
    found = json.loads(capsys.readouterr().out)
    detector = cvae.VAEOutlierDetector(vae, prefit=True, contamination=0.5).fit(X[:10])
    assert found["threshold"] == pytest.approx(detector.offset_)
    assert found["outliers"] == int((detector.predict(X) == -1).sum())


def test_conditional_models_score_by_label(capsys):
    run("outliers", "classes", "data.npz", "-o", "s.csv", "--picture", "w.png")
    vae = cvae.load("classes")
    y = np.concatenate([np.arange(16) % 2, np.arange(8) % 2])
    detector = cvae.VAEOutlierDetector(vae, prefit=True).fit(X, y)
    np.testing.assert_array_equal([float(row["score"]) for row in table("s.csv")], detector.score_samples(X, y))


# ----------------------------------------------------------------------------- samples


def test_samples_as_an_array_and_as_files(vae, capsys):
    run("sample", "model", "-n", 12, "--seed", 3, "-o", "s.npy", "--separate", "out/new")
    assert capsys.readouterr().out == "wrote s.npy\nwrote out/new\n"
    expected = vae.sample(12, random_state=3)
    np.testing.assert_array_equal(np.load("s.npy"), expected)
    assert sorted(os.listdir("out/new")) == [f"{i:02}.png" for i in range(12)]
    read = cvae.datasets.load("out/new").images
    np.testing.assert_array_equal(read, np.rint(expected * 255))


def test_samples_of_classes_become_folders():
    run("sample", "classes", "-n", 6, "--seed", 3, "-o", "s.npy", "--separate", "new")
    vae = cvae.load("classes")
    expected = np.concatenate([vae.sample(3, random_state=3, y=label) for label in (0, 1)])
    np.testing.assert_array_equal(np.load("s.npy"), expected)
    read = cvae.datasets.load("new")
    np.testing.assert_array_equal(read.images, np.rint(expected * 255))
    assert read.class_names == ("0", "1")


@pytest.mark.parametrize(("n", "drawn", "said"), [(6, 6, ""), (5, 4, "4 images instead of 5: 2 of each of 2 classes")])
def test_another_number_of_samples_than_asked_for_is_said(n, drawn, said, capsys):
    run("sample", "classes", "-n", n, "--seed", 3, "-o", "s.npy")
    assert len(np.load("s.npy")) == drawn
    assert capsys.readouterr().out.partition("wrote")[0].strip() == said


# ---------------------------------------------------------------- pictures and explorer

KINDS = {
    "history": [], "samples": ["-n", "3"], "traversals": ["-n", "3"], "plane": ["-n", "3"],
    "latent": ["data.npz"], "reconstructions": ["data.npz", "-n", "3"], "ranking": ["data.npz", "-n", "3"],
    "errors": ["photos", "-n", "3"],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture(kind, capsys):
    run("plot", kind, "model", *KINDS[kind], "-o", "p.png")
    assert capsys.readouterr().out == "wrote p.png\n"
    with Image.open("p.png") as picture:
        assert len(picture.convert("L").getcolors(100_000)) > 2


@pytest.mark.filterwarnings("default:the model knows its classes by numbers")
def test_pictures_of_conditional_models():
    run("plot", "samples", "classes", "-o", "p.png")
    run("plot", "plane", "classes", "--label", "1", "-n", "2", "-o", "p.png", "--force")
    run("plot", "ranking", "classes", "data.npz", "-o", "p.png", "--force")
    run("plot", "latent", "classes", "photos", "-o", "p.png", "--force")


def test_explore_writes_a_page(capsys):
    run("explore", "model", "-o", "e.html")
    assert capsys.readouterr().out == "wrote e.html\n"
    with open("e.html", encoding="utf-8") as file:
        assert "<title>model</title>" in file.read()
    run("explore", "model", "--data", "photos", "-o", "e.html", "--force")
    with open("e.html", encoding="utf-8") as file:
        text = file.read()
    assert '"b/2.png: b"' in text
    assert '"legend":["a","b"]' in text
    run("explore", "classes", "--data", "data.npz", "--part", "all", "-o", "e.html", "--force")


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample model", "-o/--output or --separate must be given"),
        ("sample model --separate photos", "--separate must be a new or an empty folder, got 'photos'"),
        ("sample model --separate data.npz", "--separate must be a folder, got 'data.npz'"),
        ("sample five --separate new", "--separate needs grey or RGB images, got 5 channels; -o FILE.npy takes any"),
        ("sample model -o s.txt", "the output of sample must end with .png"),
        ("outliers model photos --contamination 0.6", "must be auto or a number in (0, 0.5], got '0.6'"),
        ("outliers model photos --contamination lots", "must be auto or a number in (0, 0.5], got 'lots'"),
        ("outliers model photos --score mse", "invalid choice: 'mse'"),
        ("outliers model photos -o model", "inputs and outputs must be different files"),
        ("outliers model photos -o x.csv --picture x.png.txt", "--picture must end with .png"),
        ("outliers model photos --picture missing/x.png", "cannot write to the folder"),
        ("outliers classes five", "got a safetensors file"),
        ("plot rankings model -o p.png", "invalid choice: 'rankings'"),
        ("plot ranking model -o p.png", "DATA must be given for ranking"),
        ("plot history model photos -o p.png", "DATA must be left out for history, got 'photos'"),
        ("plot plane classes -n 2 -o p.png", "--label must be given for this model of classes: one of 0, 1"),
        ("plot history model -o new", "the output of plot must end with .png"),
        ("evaluate model data.npz --scores data.npz", "inputs and outputs must be different files"),
        ("explore model -o data.npz --data data.npz", "inputs and outputs must be different files"),
        ("explore model -o e.html --part test", "--part must be left out without --data"),
        ("explore classes -o e.html --data photos/a", "must hold labels of all images for a conditional model"),
    ],
    ids=str,
)
def test_mistakes_are_one_line_and_change_nothing(arguments, message, capsys, tmp_path):
    before = sorted(os.listdir(tmp_path))
    assert message in refuse(capsys, *arguments.split())
    assert sorted(os.listdir(tmp_path)) == before
