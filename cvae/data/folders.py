"""Folders of pictures: their files in order, subfolders as classes, and parts for training, validation and testing.

Folders with nothing in them but one folder, as archives often have, are gone through.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from cvae.data.dataset import PARTS
from cvae.data.parts import accompanies_images, is_of_others, parts_among, prefix_of, says_nothing, uses
from cvae.data.pictures import SUFFIXES
from cvae.data.signatures import check_regular, kind

_IGNORED = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}
_LOOP = "is a link to a folder that it is in"


class Part(NamedTuple):
    """The pictures of a part, by the names of their classes, or of "" if they have none."""

    classes: dict[str, list[Path]]

    @property
    def files(self) -> list[Path]:
        return [path for files in self.classes.values() for path in files]


class Tree(NamedTuple):
    """The parts of a folder by prefix, "" for training, what else is in it, and what its names were taken for."""

    parts: dict[str, Part]
    unread: list[Path]
    notes: list[str]


def scan(root: Path) -> Tree:
    """Find the pictures of a folder.

    Names are sorted naturally: runs of digits count as numbers, so that 2.png comes before 10.png.

    Raises
    ------
    FileNotFoundError
        If a link leads nowhere.
    ValueError
        If there are no pictures, pictures beside subfolders of pictures, a subfolder is empty, or links form a loop.
    """
    unread: list[Path] = []
    notes: list[str] = []
    place = _place(root, unread)
    inside = _visible(place)
    named = parts_among([path.name for path in inside if path.is_dir()])
    if named:
        parts = _parts(place, named, unread)
        notes.append(uses({prefix: named[prefix][0] for prefix in parts}))
        used = {name for names in named.values() for name in names}
        unread += [path for path in inside if path.name not in used]
    else:
        parts = {"": _classes(place, unread)}
        notes += _doubts([*parts[""].classes])
    if not parts[""].files:
        raise ValueError(f"{root}: {_nothing(unread)}")
    return Tree(parts, unread, [*filter(None, notes)])


def relative_name(path: Path, root: Path) -> str:
    """Return the name of a file of a folder, or of the file itself."""
    return path.relative_to(root).as_posix() if path != root else path.name


def _doubts(classes: list[str]) -> list[str]:
    """Say which classes have the names of parts; among many, of which none is a part's, one may be of trains."""
    are_parts = len(classes) == 2 or any(map(is_of_others, classes))
    odd = [name for name in classes if says_nothing(name) and prefix_of(name) is not None]
    doubtful = [name for name in odd if prefix_of(name) or are_parts]
    return [f"{name} is taken for a class, as there are no other parts beside it" for name in doubtful]


def _place(folder: Path, unread: list[Path], part: str = "", above: tuple[str, ...] = ()) -> Path:
    """Return the folder with classes, parts or pictures: the first one, from `folder` on, with more than one folder.

    A folder of pictures whose name says something is a class of the one that it is in. `part` is the prefix of the part
    that all of them are in.
    """
    real = os.path.realpath(folder)
    if real in above:
        raise ValueError(f"{folder}: {_LOOP}")
    inside = _visible(folder)
    inner = _only_one([path for path in inside if path.is_dir() and _holds_pictures(path)])
    if inner is None or prefix_of(inner.name) not in (None, "", part):
        return folder
    if any(not path.is_dir() and _is_picture(path) for path in inside):
        return folder
    further = _visible(inner)
    if not says_nothing(inner.name) and any(not path.is_dir() and _is_picture(path) for path in further):
        return folder
    if not further:
        return folder
    unread += [path for path in inside if path != inner]
    return _place(inner, unread, part, (*above, real))


def _only_one(folders: list[Path]) -> Path | None:
    """Return the only folder, or the only one of images beside those of masks and the like."""
    images = [path for path in folders if not accompanies_images(path.name)]
    if len(folders) > 1 and not (len(images) == 1 and says_nothing(images[0].name)):
        return None
    return images[0] if images else folders[0] if folders else None


def _holds_pictures(folder: Path, above: tuple[str, ...] = ()) -> bool:
    """Return whether there is a picture in a folder or below, or nothing at all."""
    real = os.path.realpath(folder)
    names = [name for name in os.listdir(folder) if _is_visible(name)]
    if real in above or not names or any(os.path.splitext(name)[1].lower() in SUFFIXES for name in names):
        return True
    paths = [folder / name for name in names]
    return any(_holds_pictures(path, (*above, real)) if path.is_dir() else _is_picture(path) for path in paths)


def _parts(root: Path, named: dict[str, list[str]], unread: list[Path]) -> dict[str, Part]:
    for names in named.values():
        if len(names) > 1:
            raise ValueError(f"{root}: must have one folder for each part, got {names[0]} and {names[1]}")
    if "" not in named:
        found = " and ".join(names[0] for names in named.values())
        raise ValueError(f"{root}: holds {found} but no training images; load one of its folders alone")
    folders = {prefix: root / named[prefix][0] for prefix in PARTS if prefix in named}
    below = {prefix: [path.name for path in _visible(folder) if path.is_dir()] for prefix, folder in folders.items()}
    several = {name for names in below.values() if len(names) > 1 for name in names}
    parts = {}
    for prefix, folder in folders.items():
        is_class = len(below[prefix]) == 1 and below[prefix][0] in several  # of which another part has more
        parts[prefix] = _classes(folder if is_class else _place(folder, unread, prefix), unread)
        if not parts[prefix].files:
            raise ValueError(f"{folder}: {_nothing(unread)}")
    return parts


def _classes(folder: Path, unread: list[Path]) -> Part:
    """Return the pictures of a folder, or those of its subfolders as classes."""
    own, below = [], {}
    for path in _visible(folder):
        if path.is_dir():
            aside: list[Path] = []
            found = _all_pictures(path, aside, (os.path.realpath(folder),))
            if not found and not aside:
                raise ValueError(f"{path}: holds no pictures: it is empty")
            if found:
                below[path.name] = found
            unread += aside
        elif _is_picture(path):
            own.append(path)
        else:
            unread.append(path)
    if own and below:
        raise ValueError(
            f"{folder}: must hold pictures or subfolders of them, got {len(own)} pictures such as {own[0].name} and "
            f"{len(below)} subfolders such as {next(iter(below))}"
        )
    return Part(below or {"": own})


def _all_pictures(folder: Path, unread: list[Path], above: tuple[str, ...]) -> list[Path]:
    """Return the pictures of a folder and all folders below it."""
    real = os.path.realpath(folder)
    if real in above:
        raise ValueError(f"{folder}: {_LOOP}")
    found, subfolders = [], []
    for path in _visible(folder):
        if path.is_dir():
            subfolders.append(path)
            found += _all_pictures(path, unread, (*above, real))
        elif _is_picture(path):
            found.append(path)
        else:
            unread.append(path)
    if len(parts_among([path.name for path in subfolders])) > 1:
        raise ValueError(f"{folder}: holds parts for training and testing; load this folder itself")
    return found


def _visible(folder: Path) -> list[Path]:
    """Return what is in a folder, in natural order, without what systems and programs leave there."""
    paths = [folder / name for name in sorted(filter(_is_visible, os.listdir(folder)), key=natural)]
    for path in paths:
        if path.is_symlink() and not path.exists():
            check_regular(path)
    return paths


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "~$")) and name.lower() not in _IGNORED


def natural(name: str) -> tuple[list[tuple[int, int, str]], ...]:
    """Return a key that sorts runs of digits as numbers, a.png before a1.png, and equal ones by their spelling."""
    stem, suffix = os.path.splitext(name)
    return *map(_pieces, (stem, suffix)), [(1, 0, name)]


def _pieces(text: str) -> list[tuple[int, int, str]]:
    pieces = filter(None, re.split(r"([0-9]+)", text))
    return [(0, int(piece), "") if piece[0] in "0123456789" else (1, 0, piece) for piece in pieces]


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() in SUFFIXES:
        return True
    check_regular(path)
    return kind(path).reader == "picture"


def _nothing(unread: list[Path]) -> str:
    """Say that there are no pictures, and what there is."""
    message = f"holds no pictures ({' '.join(suffix[1:] for suffix in SUFFIXES)})"
    if unread:
        readable = next((path for path in unread if path.is_file() and _is_data(path)), None)
        shown = readable or unread[0]
        message += f", got {shown.name}, {kind(shown).name}" if shown.is_file() else ""
        message += f", and {len(unread) - 1} more" * (len(unread) > 1)
        if shown.suffix.lower() == ".npy":
            message += "; put arrays of an image each into one file by numpy.stack and numpy.save"
        elif readable:
            message += "; load such a file itself"
    return message


def _is_data(path: Path) -> bool:
    return bool(kind(path).reader) or path.suffix.lower() in (".csv", ".tsv")
