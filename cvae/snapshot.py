"""Detection of changes to the objects and arrays that recorded programs depend on."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Number
from typing import Any

from cvae._kernels.program import is_unchanged


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
    objects : iterable of Revised
    dictionaries : iterable of dict
        Their values are compared by identity: the contents of arrays may change. Numbers, which count, are ignored.
    """

    def __init__(self, objects: Iterable[Revised], dictionaries: Iterable[dict[str, Any]]) -> None:
        self._entries = [(vars(each), "revision", vars(each).get("revision")) for each in objects]
        self._sizes = []
        for each in dictionaries:
            self._entries += [(each, name, value) for name, value in each.items() if not isinstance(value, Number)]
            self._sizes.append((each, len(each)))

    def holds(self) -> bool:
        """Return whether nothing has been assigned, replaced, added or removed since."""
        return is_unchanged(self._entries, self._sizes)
