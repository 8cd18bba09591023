"""Call strings such as ``"RMSProp(lr=0.0001)"`` and the objects that they describe.

Activations, schedulers and optimizers are given as text on the command line, in saved models and
in numpy-ml's interface. This is the one place that reads such text, checks the arguments in it
and writes it back.
"""

import ast
import copy
import inspect
import numbers
import operator
import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple, Self, TypeVar

T = TypeVar("T")

# A name (letters, digits, spaces, "_" and "-"), then perhaps arguments in parentheses.
_CALL = re.compile(r"\s*([A-Za-z][\w -]*?)\s*(?:\((.*)\))?\s*", re.DOTALL)


class Call(NamedTuple):
    """A call string taken apart: the name, positional and keyword arguments."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def parse_call(text: str) -> Call:
    """Take a call string apart.

    Parameters
    ----------
    text : str
        A name alone, or a name with arguments in parentheses. The arguments are Python literals
        or further calls.

    Returns
    -------
    Call
        ``name``, ``args`` and ``kwargs``. A nested call comes back as its text: whatever takes
        the argument parses it in turn.

    Raises
    ------
    TypeError
        If `text` is not a string.
    ValueError
        If `text` is not a call string, to its last character.

    Examples
    --------
    >>> parse_call("RMSProp(1e-3, lr_scheduler=KingScheduler(patience=20))")
    Call(name='RMSProp', args=(0.001,), kwargs={'lr_scheduler': 'KingScheduler(patience=20)'})
    >>> parse_call("Leaky ReLU")
    Call(name='Leaky ReLU', args=(), kwargs={})
    """
    if not isinstance(text, str):
        raise TypeError(f"a call string must be a str, got {text!r}")
    match = _CALL.fullmatch(text)
    if match is None:
        raise _not_a_call(text)
    name, arguments = match.groups()
    source = f"call({arguments or ''})"
    try:
        node = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _not_a_call(text) from None
    # "f(1)(2)" and "f(1) + (2)" also end in parentheses, but are not one call by name.
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise _not_a_call(text)
    args = tuple(_value(argument, source) for argument in node.args)
    kwargs: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in kwargs:
            raise ValueError(f"each argument must be named once, got {text!r}")
        kwargs[keyword.arg] = _value(keyword.value, source)
    return Call(name, args, kwargs)


def _not_a_call(text: str) -> ValueError:
    return ValueError(f"a call string must look like 'Name' or 'Name(argument=1)', got {text!r}")


def _value(node: ast.expr, source: str) -> Any:
    written = ast.get_source_segment(source, node)
    if isinstance(node, ast.Call):
        return written
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(
            "an argument must be a number, a quoted string, True, False, None or a call such as "
            f"'Name(argument=1)', got {written}"
        ) from None


def object_from_call(text: str, table: Mapping[str, type[T]], kind: str) -> T:
    """Build the object that a call string describes.

    Parameters
    ----------
    text : str
        The call string, see `parse_call`.
    table : mapping of str to class
        The classes to choose from, by name. Case, spaces, ``_`` and ``-`` do not matter.
    kind : str
        What the classes are ("optimizer"), for the error messages.

    Returns
    -------
    object
        An instance of one of the classes.

    Raises
    ------
    TypeError
        If `text` is not a string.
    ValueError
        If the text is malformed, the name or an argument is unknown, or a value is not allowed.

    Examples
    --------
    >>> from fractions import Fraction
    >>> object_from_call("fraction(3, denominator=4)", {"Fraction": Fraction}, "number")
    Fraction(3, 4)
    """
    name, args, kwargs = parse_call(text)
    return _construct(_find_class(name, table, kind), args, kwargs)


def object_from_hyperparameters(hyperparameters: Mapping[str, Any], table: Mapping[str, type[T]], kind: str) -> T:
    """Build the object that a dict of hyperparameters describes.

    Parameters
    ----------
    hyperparameters : mapping
        The name of the class under ``"id"`` and its arguments by name, all of them optional.
    table, kind
        As in `object_from_call`.

    Returns
    -------
    object
        An instance of one of the classes.

    Raises
    ------
    ValueError
        If ``"id"`` is missing, the id or an argument is unknown, or a value is not allowed.

    Examples
    --------
    >>> from fractions import Fraction
    >>> object_from_hyperparameters({"id": "Fraction", "numerator": 3}, {"Fraction": Fraction}, "")
    Fraction(3, 1)
    """
    arguments = dict(hyperparameters)
    if not isinstance(name := arguments.pop("id", None), str):
        raise ValueError(f"hyperparameters must name the {kind} under 'id', got {name!r} there")
    return _construct(_find_class(name, table, kind), (), arguments)


def subclasses_by_name(base: type) -> dict[str, type[Any]]:
    """Return all subclasses of a class that can be made, by name: the library's own, and those defined elsewhere.

    Where several have one name, the one that was defined first counts.
    """
    found: dict[str, type[Any]] = {}
    subclasses: list[type[Any]] = base.__subclasses__()
    for subclass in subclasses:
        if not inspect.isabstract(subclass):
            found.setdefault(subclass.__name__, subclass)
        for name, further in subclasses_by_name(subclass).items():
            found.setdefault(name, further)
    return found


def _normalized(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _find_class(name: str, table: Mapping[str, type[T]], kind: str) -> type[T]:
    for known, cls in table.items():
        if _normalized(known) == _normalized(name):
            return cls
    raise ValueError(f"the {kind} must be one of {', '.join(table)}, got {name!r}")


def _construct(cls: type[T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    signature = inspect.signature(cls)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        allowed = ", ".join(signature.parameters) or "no arguments"
        raise ValueError(f"{cls.__name__} takes {allowed}: {error}") from None
    try:
        return cls(*args, **kwargs)
    except TypeError as error:  # in text and dicts, a value of the wrong type is a wrong value
        raise ValueError(str(error)) from error


def check_number(name: str, value: Any, interval: str = "(-inf, inf)") -> float:
    """Return `value` as a Python number, if it is a real number in `interval`.

    Parameters
    ----------
    name : str
        The argument's name, for the error message.
    value : real number
        Python or NumPy; bool does not count as a number.
    interval : str
        Bounds in the usual notation: ``"[0, 1)"`` includes 0 and excludes 1.

    Returns
    -------
    int or float
        An int for integers, a float otherwise, so that `repr` is plain Python.

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If it lies outside the interval, or is NaN.

    Examples
    --------
    >>> check_number("decay", 0.9, "[0, 1)")
    0.9
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number in {interval}, got {value!r}")
    try:
        number = int(value) if isinstance(value, numbers.Integral) else float(value)
        float(number)
    except OverflowError:
        raise ValueError(f"{name} must be a number in {interval}, got one that no float can hold") from None
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = number >= low if interval.startswith("[") else number > low
    below = number <= high if interval.endswith("]") else number < high
    if not (above and below):
        raise ValueError(f"{name} must be a number in {interval}, got {value!r}")
    return number


def check_size(value: Any, name: str) -> int:
    """`value` as an int of at least 1, or TypeError or ValueError."""
    message = f"{name} must be an int >= 1, got {value!r}"
    try:
        if isinstance(value, bool):
            raise TypeError
        size = operator.index(value)
    except TypeError:
        raise TypeError(message) from None
    if size < 1:
        raise ValueError(message)
    return size


def check_bool(name: str, value: Any) -> bool:
    """Return `value` if it is True or False.

    Raises
    ------
    TypeError
        If it is anything else.

    Examples
    --------
    >>> check_bool("staircase", True)
    True
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


class Parsable:
    """Base of the objects whose ``str()`` is a call string that builds an equal object.

    A subclass keeps every argument of its constructor in an attribute of the same name, and
    stands in the table that its call strings are looked up in. Two objects are equal if they have
    the same class and equal arguments; state that grows with use does not count.

    Attributes
    ----------
    label : str
        The name in ``str()``, if that is not the name of the class.

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
        """Return the names of the constructor's arguments, in the order of ``str()``."""
        return tuple(inspect.signature(cls).parameters)

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name."""
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


class Configurable(Parsable):
    """A `Parsable` whose arguments can be changed after construction.

    Attributes
    ----------
    hyperparameters : Hyperparameters
        The arguments and the name of the class (``"id"``), live.

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
        """The arguments and the name of the class, live: writing an item calls `set_params`."""
        return Hyperparameters(self)

    def set_params(self, hparam_dict: Mapping[str, Any] | None = None) -> Self:
        """Change some arguments, under the same checks as in the constructor.

        Parameters
        ----------
        hparam_dict : mapping, optional
            New values by name; ``"id"``, if there, must be the name of this class.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a name is unknown or a value is not allowed; nothing has changed then.
        """
        changes = dict(hparam_dict or {})
        own_id = type(self).__name__
        if (given_id := changes.pop("id", own_id)) != own_id:
            raise ValueError(f"id must be {own_id!r}, got {given_id!r}")
        changed = _construct(type(self), (), self.arguments | changes)
        for name in self.argument_names():
            setattr(self, name, getattr(changed, name))
        return self

    def copy(self) -> Self:
        """Return a deep copy: arguments and state, sharing nothing."""
        return copy.deepcopy(self)


class Hyperparameters(MutableMapping[str, Any]):
    """The arguments of a `Configurable` as a mapping: reads and writes go to the object.

    The items are the name of the class under ``"id"`` and the arguments; an argument that is
    itself `Parsable` appears as its call string. ``dict(hyperparameters)`` takes a snapshot.
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
