"""Data sets with names: where they are looked for, and what is downloaded."""

import functools
import hashlib
import http.server
import sys
import threading

import numpy as np
import pooch
import pytest
from data_files import IMAGES, LABELS, assert_is_mnist, write_mnist

from cvae.data import known
from cvae.data.idx import find_idx
from cvae.datasets import load


@pytest.fixture
def no_installed_data(tmp_path, monkeypatch):
    """Hide data sets and pooch where they are installed, and point CVAE_DATA to an empty folder."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setattr(
        known, "find_idx", lambda folder, name: find_idx(folder, name) if tmp_path in folder.parents else None
    )
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("CVAE_DATA", str(data))
    return data


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("fashion-mnist", "fashion-mnist"),
        ("fashion-mnist", "FashionMNIST/raw"),
    ],
)
def test_known_names_are_found_in_cvae_data(no_installed_data, name, folder):
    write_mnist(no_installed_data / folder)
    dataset = load(name)
    assert dataset.name == name
    assert_is_mnist(dataset)


@pytest.mark.parametrize("cvae_data", [None, "", "nowhere"])
def test_known_names_are_found_where_keras_keeps_them(no_installed_data, monkeypatch, tmp_path, cvae_data):
    if cvae_data is None:
        monkeypatch.delenv("CVAE_DATA")
    else:
        monkeypatch.setenv("CVAE_DATA", cvae_data)
    keras = tmp_path / ".keras" / "datasets"
    write_mnist(keras / "fashion-mnist")
    assert_is_mnist(load("fashion-mnist"))
    np.savez(keras / "mnist.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:1], y_test=[1])
    assert len(load("mnist").test_images) == 1


def test_known_names_that_are_nowhere(no_installed_data):
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist")
    message = str(caught.value)
    assert str(no_installed_data) in message
    assert "CVAE_DATA" in message
    assert "train-images-idx3-ubyte.gz" in message
    assert "pip install pooch" in message
    assert "Debian" not in message
    with pytest.raises(FileNotFoundError, match="Debian's package dataset-fashion-mnist"):
        load("fashion-mnist")


class _Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(no_installed_data, tmp_path, monkeypatch):
    """A mirror of a data set on this machine, and pooch to download from it."""
    folder = write_mnist(tmp_path / "mirror")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Server, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    sums = {name: sums[name] for name in known._KNOWN["mnist"].sha256}
    addresses = ("http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/")  # the first refuses
    monkeypatch.setitem(known._KNOWN, "mnist", known._Known("MNIST", addresses, sums))
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    yield folder
    server.shutdown()
    server.server_close()


def test_what_is_nowhere_is_downloaded_once(mirror, no_installed_data):
    assert_is_mnist(load("mnist"))
    kept = no_installed_data / "mnist"
    assert {path.name for path in kept.iterdir()} == {path.name for path in mirror.iterdir()}
    for path in mirror.iterdir():
        path.unlink()
    assert_is_mnist(load("mnist"))


def test_downloads_go_to_the_users_cache(mirror, monkeypatch, tmp_path):
    monkeypatch.delenv("CVAE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    assert_is_mnist(load("mnist"))
    if sys.platform != "darwin":
        assert (tmp_path / "cache" / "cvae" / "mnist" / "train-images-idx3-ubyte.gz").is_file()


def test_a_wrong_checksum_is_an_error_that_leaves_nothing(mirror, no_installed_data):
    for path in mirror.iterdir():
        path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(OSError, match=r"mnist is not on this machine and could not be downloaded \(.*hash.*CVAE_DATA"):
        load("mnist")
    assert not list((no_installed_data / "mnist").glob("*ubyte*"))


def test_without_a_network_the_error_says_what_to_do(mirror, monkeypatch):
    monkeypatch.setitem(known._KNOWN, "mnist", known._KNOWN["mnist"]._replace(mirrors=("http://127.0.0.1:9/",)))
    with pytest.raises(OSError, match=r"could not be downloaded \(http://127.0.0.1:9/: .*put its four IDX files"):
        load("mnist")


@pytest.mark.parametrize("name", known._KNOWN)
def test_the_training_images_are_downloaded_last(name):
    sums = known._KNOWN[name].sha256
    assert len(sums) == 4
    assert list(sums)[-1] == "train-images-idx3-ubyte.gz"
    assert all(len(sum) == 64 for sum in sums.values())
    assert all(address.endswith("/") for address in known._KNOWN[name].mirrors)
