"""Objects that write the call string from which `cvae.parsing` makes an equal one."""

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Self

from cvae.checking import check_mapping
from cvae.hints import of_argument
from cvae.parsing import constructed, signature_of, unknown_argument


class Named:
    """Base of classes whose constructors name their arguments where one is unknown, and what it is called here."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        name = unknown_argument(cls, kwargs)
        if name is not None:
            known = signature_of(cls).parameters
            takes = ", ".join(known) or "no arguments"
            hint = of_argument(name, known)
            raise TypeError(f"{cls.__name__} got an unexpected keyword argument {name!r}{hint}; it takes {takes}")
        if args and cls.__init__ is object.__init__:  # which ignores them where `__new__` takes them
            raise TypeError(f"{cls.__name__} takes no arguments, got {', '.join(map(repr, args))}")
        return super().__new__(cls)


class Parsable(Named):
    """Base class of objects whose ``str()`` is a call string that builds an equal object.

    A subclass stores each constructor argument in an attribute of the same name and is listed in the table
    in which its call strings are looked up. Two objects are equal if they have the same class and equal
    arguments; state that accumulates with use is ignored.

    Attributes
    ----------
    label : str or None
        The name used by ``str()``; the name of the class if None.

    Examples
    --------
    >>> class Line(Parsable):
    ...     def __init__(self, slope=1):
    ...         self.slope = slope
    >>> Line(slope=2)
    Line(slope=2)
    """

    label: str | None = None

    @classmethod
    def argument_names(cls) -> tuple[str, ...]:
        """Return the names of the constructor arguments, in the order used by ``str()``."""
        return tuple(signature_of(cls).parameters)

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor arguments by name."""
        return {name: getattr(self, name) for name in self.argument_names()}

    def __str__(self) -> str:
        label = self.label or type(self).__name__
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{label}({arguments})" if arguments else label

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parsable):
            return NotImplemented
        return type(self) is type(other) and self.arguments == other.arguments


class Constant(Parsable):
    """A `Parsable` whose arguments cannot be changed, so that what was made with it stays right."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            raise AttributeError(f"{name} of {type(self).__name__} cannot change; make another one")
        super().__setattr__(name, value)


class Configurable(Parsable):
    """A `Parsable` whose arguments can be changed after construction.

    Attributes
    ----------
    hyperparameters : Hyperparameters
        A live view of the arguments and the name of the class (``"id"``).

    Examples
    --------
    >>> class Line(Configurable):
    ...     def __init__(self, slope=1):
    ...         self.slope = slope
    >>> line = Line().set_params({"slope": 3})
    >>> line.hyperparameters["slope"] += 1
    >>> line
    Line(slope=4)
    """

    @property
    def hyperparameters(self) -> "Hyperparameters":
        """A live view of the arguments and the name of the class; assigning an item calls `set_params`."""
        return Hyperparameters(self)

    def set_params(self, hparam_dict: Mapping[str, Any] | None = None) -> Self:
        """Change some arguments, with the constructor's checks.

        Parameters
        ----------
        hparam_dict : mapping, optional
            New values by name; ``"id"``, if present, must be the name of this class.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a name is unknown or a value is invalid; nothing is changed in that case.
        """
        changes = check_mapping("hparam_dict", hparam_dict)
        own_id = type(self).__name__
        if (given_id := changes.pop("id", own_id)) != own_id:
            raise ValueError(f"id must be {own_id!r}, got {given_id!r}")
        changed = constructed(type(self), (), self.arguments | changes)
        for name in self.argument_names():
            setattr(self, name, getattr(changed, name))
        return self

    def copy(self) -> Self:
        """Return a deep copy of the object, including its state."""
        return copy.deepcopy(self)


class Hyperparameters(MutableMapping[str, Any]):
    """A live view of the arguments of a `Configurable`: reads and writes go to the object.

    The items are the name of the class under ``"id"`` and the arguments; an argument that is itself
    `Parsable` appears as its call string. ``dict(hyperparameters)`` takes a snapshot.
    """

    def __init__(self, owner: Configurable) -> None:
        self._owner = owner

    def _snapshot(self) -> dict[str, Any]:
        arguments = {
            name: str(value) if isinstance(value, Parsable) else value for name, value in self._owner.arguments.items()
        }
        return {"id": type(self._owner).__name__, **arguments}

    def __getitem__(self, key: str) -> Any:
        return self._snapshot()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._owner.set_params({key: value})

    def __delitem__(self, key: str) -> None:
        raise TypeError(f"a hyperparameter can be changed but not deleted, got {key!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshot())

    def __len__(self) -> int:
        return len(self._snapshot())

    def __repr__(self) -> str:
        return repr(self._snapshot())
