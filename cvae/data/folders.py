"""Folders of pictures: their files in order, subfolders as classes, and parts for training, validation and testing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from cvae.data.dataset import PARTS
from cvae.data.pictures import SUFFIXES
from cvae.data.signatures import check_regular, kind

_IGNORED = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}
_PART_NAMES = {  # prefixes of the fields of Dataset
    "train": "", "training": "",
    "val": "val_", "valid": "val_", "validation": "val_", "dev": "val_",
    "test": "test_", "testing": "test_",
}  # fmt: skip


class Part(NamedTuple):
    """The pictures of a part, by the names of their classes, or of "" if they have none."""

    classes: dict[str, list[Path]]

    @property
    def files(self) -> list[Path]:
        return [path for files in self.classes.values() for path in files]


class Tree(NamedTuple):
    """The parts of a folder by prefix, "" for training, and what else is in it."""

    parts: dict[str, Part]
    unread: list[Path]


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
    subfolders = [path for path in _visible(root) if path.is_dir()]
    named: dict[str, list[Path]] = {}
    for path in subfolders:
        if path.name.lower() in _PART_NAMES:
            named.setdefault(_PART_NAMES[path.name.lower()], []).append(path)
    others = [path for path in subfolders if path.name.lower() not in _PART_NAMES]
    if named and ("" in named or not others) and (len(named) > 1 or not others):
        parts = _parts(root, named, unread)
        unread += [path for path in _visible(root) if path in others or not path.is_dir()]
    else:
        parts = {"": _classes(root, unread)}
    if not parts[""].files:
        raise ValueError(f"{root}: {_nothing(unread)}")
    return Tree(parts, unread)


def relative_name(path: Path, root: Path) -> str:
    """Return the name of a file of a folder, or of the file itself."""
    return path.relative_to(root).as_posix() if path != root else path.name


def _parts(root: Path, named: dict[str, list[Path]], unread: list[Path]) -> dict[str, Part]:
    for folders in named.values():
        if len(folders) > 1:
            raise ValueError(f"{root}: must have one folder for each part, got {folders[0].name} and {folders[1].name}")
    if "" not in named:
        names = " and ".join(folders[0].name for folders in named.values())
        raise ValueError(f"{root}: holds {names} but no training images; load one of its folders alone")
    parts = {}
    for prefix in (prefix for prefix in PARTS if prefix in named):
        folder = named[prefix][0]
        parts[prefix] = _classes(folder, unread)
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
        raise ValueError(f"{folder}: is a link to a folder that it is in")
    found, subfolders = [], []
    for path in _visible(folder):
        if path.is_dir():
            subfolders.append(path)
            found += _all_pictures(path, unread, (*above, real))
        elif _is_picture(path):
            found.append(path)
        else:
            unread.append(path)
    if {"", "test_"} <= {_PART_NAMES.get(path.name.lower()) for path in subfolders}:
        raise ValueError(f"{folder}: holds parts for training and testing; load this folder itself")
    return found


def _visible(folder: Path) -> list[Path]:
    """Return what is in a folder, in natural order, without what systems and programs leave there."""
    names = [name for name in os.listdir(folder) if not name.startswith((".", "~$")) and name.lower() not in _IGNORED]
    paths = [folder / name for name in sorted(names, key=natural)]
    for path in paths:
        if path.is_symlink() and not path.exists():
            check_regular(path)
    return paths


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
