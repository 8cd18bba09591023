"""Noticing changes: recorded programs hold on to objects and arrays, which may be replaced afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import is_
from typing import Any


class Revised:
    """Base of objects that count their changes: assigning a public attribute moves `revision` on."""

    revision = 0

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if not name.startswith("_"):
            object.__setattr__(self, "revision", self.revision + 1)


class Snapshot:
    """The revisions of some objects, and the values of some dictionaries, at the time it is taken.

    Parameters
    ----------
    objects : iterable of Revised
    dictionaries : iterable of mappings
        Their values are compared by identity: what arrays hold may change. Numbers are left out: counts grow.
    """

    def __init__(self, objects: Iterable[Revised], dictionaries: Iterable[Mapping[str, Any]]) -> None:
        self._objects, self._dictionaries = list(objects), list(dictionaries)
        self._revisions = [each.revision for each in self._objects]
        self._keys = [*map(list, self._dictionaries)]
        self._values = self._current_values()

    def _current_values(self) -> list[Any]:
        return [value for each in self._dictionaries for value in each.values() if not isinstance(value, int)]

    def holds(self) -> bool:
        """Return whether nothing has been assigned, replaced, added or removed since."""
        # Called for each image that is encoded alone: no generators, no lookups by key.
        return (
            [each.revision for each in self._objects] == self._revisions
            and [*map(list, self._dictionaries)] == self._keys
            and all(map(is_, self._current_values(), self._values))
        )
