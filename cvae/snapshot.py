"""Detection of changes to the objects and arrays that recorded programs depend on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol


class HasRevision(Protocol):
    """An object whose `revision` differs after a change."""

    revision: int


class Revised:
    """Base of objects that count their changes: assigning a public attribute increments `revision`."""

    revision = 0

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if not name.startswith("_"):
            object.__setattr__(self, "revision", self.revision + 1)


class Snapshot:
    """The revisions of some objects and the values of some dictionaries at the time of its construction.

    Parameters
    ----------
    objects : iterable of objects with a revision
    dictionaries : iterable of mappings
        Their values are compared by identity: the contents of arrays may change. Numbers, which count, are ignored.
    """

    def __init__(self, objects: Iterable[HasRevision], dictionaries: Iterable[Mapping[str, Any]]) -> None:
        self._objects = list(objects)
        self._revisions = [each.revision for each in self._objects]
        self._dictionaries = [(each, len(each)) for each in dictionaries]
        self._entries = [
            (each, key, value)
            for each, _ in self._dictionaries
            for key, value in each.items()
            if not isinstance(value, (int, float))
        ]

    def holds(self) -> bool:
        """Return whether nothing has been assigned, replaced, added or removed since."""
        return (
            [each.revision for each in self._objects] == self._revisions
            and all(len(dictionary) == size for dictionary, size in self._dictionaries)
            and all(dictionary.get(key) is value for dictionary, key, value in self._entries)
        )
