"""Which of the folders beside each other are the parts of a data set, by the words in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PREFIXES = {  # of the fields of Dataset
    "train": "", "training": "",
    "val": "val_", "valid": "val_", "validate": "val_", "validation": "val_", "dev": "val_",
    "test": "test_", "testing": "test_", "eval": "test_", "evaluation": "test_",
}  # fmt: skip
_USES = {"": "training", "val_": "validation", "test_": "testing"}
_OF_IMAGES = (
    "set", "data", "dataset", "image", "images", "img", "imgs", "picture", "pictures", "jpeg", "jpg", "png",
    "jpegimages",
)  # fmt: skip
_COMPOUND = re.compile(f"({'|'.join(_PREFIXES)})({'|'.join([*_OF_IMAGES, 'val'])})")
_OTHER_PARTS = ("extra", "heldout", "holdout", "predict", "unlabeled", "unlabelled", "unsup", "unsupervised")
_BESIDE_IMAGES = {
    "annotation", "annotations", "groundtruth", "ground_truth", "gt", "label", "labels", "mask", "masks",
    "segmentationclass", "segmentationobject", "trimap", "trimaps",
}  # fmt: skip


def prefix_of(name: str) -> str | None:
    """Return the prefix of the part that a folder of this name may be, "" for training, None for no part."""
    return next((_PREFIXES[word] for word in _words(name) if word in _PREFIXES), None)


def says_nothing(name: str) -> bool:
    """Return whether a folder's name says of what is in it only that these are images, or of which part."""
    words = _words(name)
    return bool(words) and all(word in _OF_IMAGES or word in _PREFIXES for word in words)


def accompanies_images(name: str) -> bool:
    """Return whether a folder of this name beside one of images holds what belongs to these, such as masks."""
    return name.lower().replace("-", "_") in _BESIDE_IMAGES


def is_of_others(name: str) -> bool:
    """Return whether a folder's name is that of a part for which `Dataset` has no fields, such as holdout."""
    return "".join(_words(name)) in _OTHER_PARTS


def parts_among(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of parts by prefix; none unless it is clear that these are parts and no classes.

    It is for names that are the same but for the words for training, validation and testing, digits, and words for
    images: "train" and "test1", or "seg_train" and "seg_test", whatever is beside them, but not "bullet train" and
    "test tube". Names that differ in other words are parts if nothing else is there.
    """
    groups: dict[tuple[str, ...], dict[str, list[str]]] = {}
    found: dict[str, list[str]] = {}
    for name in names:
        prefix = prefix_of(name)
        if prefix is not None:
            groups.setdefault(_rest(name), {}).setdefault(prefix, []).append(name)
            found.setdefault(prefix, []).append(name)
    sets = [group for group in groups.values() if "" in group and len(group) > 1]
    if sets:
        plain = groups.get((), {})
        return plain if plain in sets else sets[0] if len(sets) == 1 else found
    is_all = sum(map(len, found.values())) == len(names)
    return found if is_all and (len(found) > 1 or len(groups) == 1) else {}


def uses(names_by_prefix: dict[str, str]) -> str:
    """Return which folders are taken for which parts, "" if nobody would doubt it."""
    if all(name.lower() in _PREFIXES for name in names_by_prefix.values()):
        return ""
    used = ", ".join(f"{name} for {_USES[prefix]}" for prefix, name in names_by_prefix.items())
    return f"folders are taken for parts by their names: {used}"


def _words(name: str) -> list[str]:
    words: list[str] = []
    apart = re.sub("(?<=[a-z])(?=[A-Z])", " ", name)  # TrainImages
    for word in re.findall(r"[^\W\d_]+", apart.lower()):
        compound = _COMPOUND.fullmatch(word)
        words += compound.groups() if compound else [word]
    return words


def _rest(name: str) -> tuple[str, ...]:
    """Return the words that are neither the first one for a part nor one for images."""
    words = _words(name)
    first = next(word for word in words if word in _PREFIXES)
    words.remove(first)
    return tuple(word for word in words if word not in _OF_IMAGES)
