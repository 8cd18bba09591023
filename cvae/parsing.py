"""Call strings such as ``"RMSProp(lr=0.0001)"`` and the objects they describe.

The command line, saved models and numpy-ml's interface specify activations, schedulers and optimizers
as text. Such text is parsed, checked and written back only here.
"""

import ast
import copy
import inspect
import numbers
import operator
import weakref
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

T = TypeVar("T")
MAX_COUNT = (1 << 63) - 1  # the largest number of anything that compiled code can count to
MAX_AXIS = (1 << 31) - 1  # the largest size of an axis of weights or images, products of two of which can be counted


class Call(NamedTuple):
    """A parsed call string: the name, the positional and the keyword arguments."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def parse_call(text: str) -> Call:
    """Parse a call string.

    Parameters
    ----------
    text : str
        A name, optionally followed by arguments in parentheses. The name starts with an ASCII letter and
        consists of letters, digits, spaces, ``_`` and ``-``. The arguments are Python literals or nested
        calls.

    Returns
    -------
    Call
        ``name``, ``args`` and ``kwargs``. A nested call is returned as text, to be parsed by whatever
        takes the argument, as are the calls in a list.

    Raises
    ------
    TypeError
        If `text` is not a string.
    ValueError
        If `text` as a whole is not a call string.

    Examples
    --------
    >>> parse_call("RMSProp(1e-3, lr_scheduler=KingScheduler(patience=20))")
    Call(name='RMSProp', args=(0.001,), kwargs={'lr_scheduler': 'KingScheduler(patience=20)'})
    >>> parse_call("Leaky ReLU")
    Call(name='Leaky ReLU', args=(), kwargs={})
    """
    if not isinstance(text, str):
        raise TypeError(f"a call string must be a str, got {text!r}")
    message = f"a call string must look like 'Name' or 'Name(argument=1)', got {text!r}"
    name, parenthesis, arguments = text.strip().partition("(")
    name = name.rstrip()
    first = name[:1]
    if not (first.isascii() and first.isalpha() and all(c.isalnum() or c in " _-" for c in name)):
        raise ValueError(message)
    if parenthesis and not arguments.endswith(")"):
        raise ValueError(message)
    source = f"call({arguments[:-1]})"
    try:
        node = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise ValueError(message) from None
    except MemoryError:  # also what the parser says of nesting that is too deep
        if len(source) < 500:
            raise
        raise ValueError(message) from None
    # "f(1)(2)" and "f(1) + (2)" also end in a parenthesis, but are not a single call by name.
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise ValueError(message)
    args = tuple(_value(argument, source) for argument in node.args)
    kwargs: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in kwargs:
            raise ValueError(f"each argument must be named once, got {text!r}")
        kwargs[keyword.arg] = _value(keyword.value, source)
    return Call(name, args, kwargs)


def _value(node: ast.expr, source: str) -> Any:
    """Return the value of a literal, or the text of a nested call."""
    if isinstance(node, ast.Call):
        return ast.get_source_segment(source, node)
    if isinstance(node, ast.List) and any(isinstance(element, ast.Call) for element in node.elts):
        return [_value(element, source) for element in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(
            "an argument must be a number, a quoted string, True, False, None or a call such as "
            f"'Name(argument=1)', got {ast.get_source_segment(source, node)}"
        ) from None


def object_from_call(text: str, table: Mapping[str, type[T]], kind: str) -> T:
    """Build the object that a call string describes.

    Parameters
    ----------
    text : str
        A call string, see `parse_call`.
    table : mapping of str to class
        The available classes by name. Case, whitespace, ``_`` and ``-`` are ignored.
    kind : str
        What the classes are, such as "optimizer", for error messages.

    Returns
    -------
    object
        An instance of one of the classes.

    Raises
    ------
    TypeError
        If `text` is not a string.
    ValueError
        If `text` is malformed, the name or an argument is unknown, or a value is invalid.

    Examples
    --------
    >>> from fractions import Fraction
    >>> object_from_call("fraction(3, denominator=4)", {"Fraction": Fraction}, "number")
    Fraction(3, 4)
    """
    try:
        name, args, kwargs = parse_call(text)
    except ValueError as error:
        raise ValueError(f"{kind}: {error}") from None
    return _construct(_find_class(name, table, kind), args, kwargs)


def object_from_hyperparameters(hyperparameters: Mapping[str, Any], table: Mapping[str, type[T]], kind: str) -> T:
    """Build the object that a dict of hyperparameters describes.

    Parameters
    ----------
    hyperparameters : mapping
        The name of the class under ``"id"`` and, optionally, its arguments by name.
    table, kind
        As in `object_from_call`.

    Returns
    -------
    object
        An instance of one of the classes.

    Raises
    ------
    ValueError
        If ``"id"`` is missing, the id or an argument is unknown, or a value is invalid.

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
    """Return all public subclasses of a class that can be made, by name: the library's own, and those from elsewhere.

    Where several have one name, the one that was defined first counts.
    """
    found: dict[str, type[Any]] = {}
    subclasses: list[type[Any]] = base.__subclasses__()
    for subclass in subclasses:
        if not inspect.isabstract(subclass) and not subclass.__name__.startswith("_"):
            found.setdefault(subclass.__name__, subclass)
        for name, further in subclasses_by_name(subclass).items():
            found.setdefault(name, further)
    return found


def made(value: Any, base: type[Any], kind: str) -> Any:
    """Return an instance of a class as it is, or make one of a subclass from its call string.

    Raises
    ------
    TypeError
        If `value` is neither; `kind` is what the messages call it.
    ValueError
        If the string names no subclass, or its arguments are not valid.
    """
    if isinstance(value, base):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{kind} must be {_with_article(kind)} or its call string, got {value!r}{instance_of(value)}")
    return object_from_call(value, subclasses_by_name(base), kind)


def instance_of(value: Any) -> str:
    """Return what to pass in the place of a class, for the end of a message."""
    return f": pass {value.__name__}(), an instance" if isinstance(value, type) else ""


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


_MEANT = {  # by the names of losses: the likelihood that each is the logarithm of
    **dict.fromkeys(("mse", "mseloss", "l2", "meansquarederror", "normal"), "Gaussian(scale=1)"),
    **dict.fromkeys(("mae", "l1", "l1loss", "meanabsoluteerror"), "Laplace(scale=1)"),
    **dict.fromkeys(("bce", "bceloss", "bcewithlogits", "binarycrossentropy", "crossentropy"), "Bernoulli"),
}


def normalized(name: str) -> str:
    """Return a name without what does not matter in names: case, whitespace, ``_`` and ``-``."""
    return "".join(name.split()).replace("_", "").replace("-", "").lower()


def _find_class(name: str, table: Mapping[str, type[T]], kind: str) -> type[T]:
    for known, cls in table.items():
        if normalized(known) == normalized(name):
            return cls
    meant = _MEANT.get(normalized(name)) if kind == "likelihood" else None
    hint = "" if meant is None else f": its loss is that of {meant!r}"
    raise ValueError(f"the {kind} must be one of {', '.join(table)}, got {name!r}{hint}")


_signatures: weakref.WeakKeyDictionary[type[Any], inspect.Signature] = weakref.WeakKeyDictionary()


def signature_of(cls: type[Any]) -> inspect.Signature:
    """Return the signature of a class, which takes longer to find than most objects to make."""
    found = _signatures.get(cls)
    if found is None:
        found = _signatures[cls] = inspect.signature(cls)
    return found


def _construct(cls: type[T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    signature = signature_of(cls)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        allowed = ", ".join(signature.parameters) or "no arguments"
        raise ValueError(f"{cls.__name__} takes {allowed}: {error}") from None
    try:
        return cls(*args, **kwargs)
    except TypeError as error:  # the text or dict itself has the right type; a value inside it is wrong
        raise ValueError(str(error)) from error


def check_number(name: str, value: Any, interval: str = "(-inf, inf)") -> float:
    """Return `value` as a Python number after checking that it is a real number in `interval`.

    Parameters
    ----------
    name : str
        The argument's name, for error messages.
    value : real number
        A Python or NumPy number; a bool does not count.
    interval : str
        Bounds in the usual notation: ``"[0, 1)"`` includes 0 and excludes 1.

    Returns
    -------
    int or float
        An int for integers of up to 63 bits, otherwise a float; its `repr` is a Python literal.

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If `value` is outside the interval, NaN or too large for a float.

    Examples
    --------
    >>> check_number("decay", 0.9, "[0, 1)")
    0.9
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number in {interval}, got {value!r}")
    try:
        number = int(value) if isinstance(value, numbers.Integral) else float(value)
        as_float = float(number)
    except OverflowError:
        raise ValueError(f"{name} must be a number in {interval}, got one too large for a float") from None
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = number >= low if interval.startswith("[") else number > low
    below = number <= high if interval.endswith("]") else number < high
    if not (above and below):
        raise ValueError(f"{name} must be a number in {interval}, got {value!r}")
    return number if abs(number) <= MAX_COUNT else as_float


def check_size(value: Any, name: str, most: int = MAX_COUNT) -> int:
    """Return `value` as an int after checking that it is from 1 to `most`.

    Raises
    ------
    TypeError
        If `value` is not an integer; a bool does not count.
    ValueError
        If it is less than 1 or more than `most`.

    Examples
    --------
    >>> check_size(128, "batchsize")
    128
    """
    message = f"{name} must be an int >= 1, got {value!r}"
    try:
        if isinstance(value, bool):
            raise TypeError
        size = operator.index(value)
    except TypeError:
        raise TypeError(message) from None
    if size < 1:
        raise ValueError(message)
    if size > most:
        raise ValueError(f"{name} must be an int from 1 to {most}, got {size}")
    return size


def check_count(name: str, value: Any) -> int:
    """Return `value` after checking that it is an int from 0 to 2^63 - 1; raise TypeError or ValueError.

    Examples
    --------
    >>> check_count("step", 0)
    0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an int >= 0, got {value!r}")
    count = int(value)
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"{name} must be an int from 0 to 2^63 - 1, got {count}")
    return count


def check_bool(name: str, value: Any) -> bool:
    """Return `value` after checking that it is True or False.

    Raises
    ------
    TypeError
        If `value` is not a Python bool.

    Examples
    --------
    >>> check_bool("staircase", True)
    True
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def check_switch(name: str, value: Any) -> bool:
    """Return whether something is on: `value` is a bool, of Python or NumPy, or a level >= 0 as scikit-learn has them.

    Raises
    ------
    TypeError
        If it is none of these.

    Examples
    --------
    >>> check_switch("verbose", 2)
    True
    """
    is_level = isinstance(value, numbers.Integral) and int(value) >= 0
    if not (is_level or isinstance(value, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_mapping(name: str, value: Any) -> dict[str, Any]:
    """Return a copy of a mapping, empty for None, after checking that it is one with strings for keys.

    Raises
    ------
    TypeError
        If `value` is neither a mapping nor None, or a key is not a string.

    Examples
    --------
    >>> check_mapping("cache_dict", None)
    {}
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a dict with strings for keys, got {value!r}")
    return dict(value)


class Parsable:
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
        changed = _construct(type(self), (), self.arguments | changes)
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
