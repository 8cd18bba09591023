"""Files of every format with bytes and values changed, moved and cut: they are read, or one sentence names the file.

`python tests/long/run.py fuzz` does the same with millions.
"""

import re
import resource
import zipfile

import numpy as np
import pytest
import zarr
from damage import CONFIGS, SOUND, changed, models, seeded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cvae
from cvae.cli.models import new_model
from cvae.datasets import load

SEEDS = given(seed=st.integers(0, 2**32))
SETTINGS = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def sound_models():
    return models()


def outcome(path, content, read):
    """Return what a reader makes of a file of this content: what it returns, or the message of its ValueError."""
    path.unlink(missing_ok=True)  # as an image that was mapped to memory may still exist
    path.write_bytes(content)
    try:
        return read(path), None
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.filterwarnings("ignore")
@SETTINGS
@SEEDS
def test_damaged_files_are_read_or_refused_by_name(folder, capfd, name, seed):
    path = folder / name
    dataset, message = outcome(path, changed(name, SOUND[name], seeded(seed)), load)
    if message is None:
        assert dataset.images.ndim == 4
        assert dataset.images.size
    else:
        assert message.startswith(f"{path}: ")
        assert "\n" not in message


@pytest.mark.filterwarnings("ignore")
@SETTINGS
@SEEDS
@pytest.mark.parametrize("kind", ["numpy-ml", "layers", "conditional"])
def test_damaged_models_are_loaded_or_refused_by_name(folder, sound_models, kind, seed):
    path = folder / "model.safetensors"
    content = changed(path.name, sound_models[kind], seeded(seed))
    vae, message = outcome(path, content, cvae.load)
    if message is None:
        assert np.isfinite(vae.summary().parameters)
    else:
        assert message.startswith(str(path))
        assert "\n" not in message


@SETTINGS
@SEEDS
@pytest.mark.parametrize("i", range(len(CONFIGS)))
def test_damaged_configuration_files_are_read_or_refused(folder, i, seed):
    path = folder / "config.toml"
    vae, message = outcome(path, changed(path.name, CONFIGS[i], seeded(seed)), lambda path: new_model({}, str(path)))
    assert message or isinstance(vae, cvae.VAE)


@pytest.mark.parametrize("name", SOUND)
def test_the_sound_files_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(SOUND[name])
    assert load(tmp_path / name).images.ndim == 4


# ---------------------------------------------------------------- what was found by that


@pytest.mark.parametrize("text", ["T = " + "[" * 5000, "T = " + "{a=" * 5000, "a." * 5000])
def test_configurations_nested_too_deeply_are_no_recursion_error(tmp_path, text):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.toml must be a TOML file: "):
        new_model({}, str(tmp_path / "config.toml"))


@pytest.mark.parametrize("name", ["a\nb\x1b[2J.txt", "a\nb\x1b[2J.npy"])
def test_what_messages_quote_of_a_file_is_one_printable_line(tmp_path, name):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, SOUND["a.npy"][:-1])
        archive.writestr(f"2{name}", SOUND["a.npy"][:-1])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: must hold ") as caught:
        load(path)
    assert str(caught.value).isprintable()
    assert "a b" in str(caught.value)


def test_what_messages_quote_of_a_model_is_one_printable_line(tmp_path, sound_models):
    path = tmp_path / "model.safetensors"
    for old, new in ((b'"dtype":"F32"', b'"dtype":"\\n\\u001b"'), (b'\\"T\\": 2', b'\\"T\\": \\"\\n\\"')):
        content = sound_models["layers"]
        n = int.from_bytes(content[:8], "little")
        header = content[8 : 8 + n].replace(old, new)
        assert header != content[8 : 8 + n]
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + n :])
        with pytest.raises(ValueError, match=r"model\.safetensors is not a ") as caught:
            cvae.load(path)
        assert str(caught.value).isprintable()


def test_a_foreign_file_of_gigabytes_is_refused_without_memory_for_it(tmp_path):
    """A sparse file, of which the disk holds the header alone."""
    path = tmp_path / "large.safetensors"
    size = 3 << 30
    for metadata in ('{"format":"pt"}', '{"cvae":"{\\"format\\": 99}"}', '{"cvae":"{}"}'):
        header = f'{{"__metadata__":{metadata},"a":{{"dtype":"F32","shape":[{size // 4}],"data_offsets":[0,{size}]}}}}'
        with open(path, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header.encode())
            file.truncate(8 + len(header) + size)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ValueError, match=r"large\.safetensors "):
            cvae.load(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_chunks_of_zarr_that_the_file_cannot_hold_are_refused(tmp_path):
    content = zarr.open_group(tmp_path / "a.zarr", mode="w")
    content.create_array("images", shape=(3, 4, 5), chunks=(1 << 20, 1 << 10, 5), dtype="uint8")
    with pytest.raises(ValueError, match=r"images has chunks of 5,368,709,120 bytes, which the file of .* cannot hold"):
        load(tmp_path / "a.zarr")
