"""docs/architecture.md is true: it names the folders there are, and a batch's way through `fit` in its order."""

import re
import sys
from pathlib import Path

from small_vae import random_images, small_vae

import cvae

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = Path(cvae.__file__).parent

# The walk's stations are the functions of these rooms, apart from the helpers of each.
ROOMS = {"model", "fitting", "core", "inputs", "passes", "training", "objectives", "likelihoods"}
HELPERS = {
    "_check_parameters", "_check_spike", "_has_own", "_layers", "_parts", "_record_codes", "_record_down",
    "_record_encode", "_require_fitted", "_known_shape", "_learnt", "batch_of", "begin_epoch", "loss", "n_outputs",
    "_prepare_objective", "__init__", "_check_monitors", "together", "share_changes", "_check_validation",
    "_warn_of_surprises", "kept_for",
}  # fmt: skip


def functions_called_by(action):
    """Return room and name of the package's functions that an action calls, in the order of their first call."""
    called = {}

    def note(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents and "<" not in frame.f_code.co_name:
            called.setdefault((path.relative_to(PACKAGE).with_suffix("").as_posix(), frame.f_code.co_name))

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return list(called)


def section(title):
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_walk_names_what_fit_passes_through_in_its_order():
    walk = section("A batch on its way through `fit`")
    named = [match.group(1) for match in re.finditer(r"`(?:\w+\.)?(\w+)`", walk)]
    vae = small_vae()
    called = functions_called_by(lambda: vae.fit(random_images(8)))
    stations = [name for room, name in called if room in ROOMS and name not in HELPERS]
    assert len(stations) >= 15
    assert [name for name in stations if name not in named] == []
    places = [named.index(name) for name in stations]
    assert [named[place] for place in places] == [named[place] for place in sorted(places)]


def test_every_folder_and_module_has_its_place_on_the_map():
    table = section("Folders")
    for path in sorted(PACKAGE.iterdir()):
        if (path / "__init__.py").is_file():
            assert f"`cvae/{path.name}/`" in table
        elif path.suffix == ".py" and not path.name.startswith("_") and path.stem != "version":
            only_imports = not re.search(r"^(def|class) ", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert only_imports or path.name in table, f"{path.name} is not on the map"


def test_what_the_map_names_exists():
    names = re.findall(r"`((?:cvae|csrc|tests|benchmarks)/[\w/.]*)`", TEXT)
    assert len(names) > 20
    for name in names:
        assert (ROOT / name).exists(), name
