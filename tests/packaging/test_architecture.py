"""docs/architecture.md is true: it names the folders there are, and a batch's way through `fit` in its order."""

import re
import sys
from pathlib import Path

import pytest
from small_vae import random_images, small_vae

import cvae

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8") if (ROOT / "docs").is_dir() else ""
PACKAGE = Path(cvae.__file__).parent

# Helpers that other functions of the walk use, as against stations on the way.
ROOMS = {
    "model",
    "core",
    "assembly",
    "passes",
    "training",
    "objectives",
    "likelihoods",
    "engine/network",
    "engine/batch",
}
LEFT_OUT = {
    "by_path", "_layers", "_shape_through", "_initialize_through", "_fused", "_node", "_outputs", "_gradients", "head",
    "saved_for", "_arrays_of", "_require_fitted", "deferred_interrupt", "n_outputs", "__init__", "check_shapes",
    "_record_codes", "_record_encode", "_record_down", "_first", "begin_epoch", "_check_parameters", "_epoch",
    "_allocate_gradients", "loss", "_sync", "_prepare",
}  # fmt: skip


def functions_called_by(action):
    """Return the functions of the package that an action calls, each once, in the order of their first call."""
    called = {}

    def note(frame, event, argument):
        if event == "call":
            path = Path(frame.f_code.co_filename)
            if PACKAGE in path.parents and "<" not in frame.f_code.co_name:
                room = path.relative_to(PACKAGE).with_suffix("").as_posix()
                called.setdefault((room, frame.f_code.co_name))

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return list(called)


def section(title):
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.skipif(not TEXT, reason="the documentation is not here")
def test_the_walk_names_what_fit_passes_through_in_its_order():
    walk = section("A batch on its way through `fit`")
    named = [match.group(1) for match in re.finditer(r"`(?:\w+\.)?(\w+)`", walk)]
    called = functions_called_by(lambda: small_vae().fit(random_images(8)))
    stations = [name for room, name in called if room in ROOMS and name not in LEFT_OUT]
    assert len(stations) > 12
    places = []
    for name in stations:
        assert name in named, f"{name} is not in the walk"
        places.append(named.index(name))
    in_order = sorted(places)
    assert [named[place] for place in places] == [named[place] for place in in_order]


@pytest.mark.skipif(not TEXT, reason="the documentation is not here")
def test_every_folder_and_module_has_its_place_on_the_map():
    table = section("Folders")
    for path in sorted(PACKAGE.iterdir()):
        if path.is_dir() and (path / "__init__.py").is_file():
            assert f"`cvae/{path.name}/`" in table
        elif path.suffix == ".py" and not path.name.startswith("_") and path.stem != "version":
            public = len(path.read_text(encoding="utf-8").splitlines()) < 40 and path.stem not in ("undo", "random")
            assert public or path.name in table, f"{path.name} is not on the map"


@pytest.mark.skipif(not TEXT, reason="the documentation is not here")
def test_what_the_map_names_exists():
    for name in re.findall(r"`((?:cvae|csrc|tests|benchmarks)/[\w/.]*)`", TEXT):
        assert (ROOT / name).exists(), name
