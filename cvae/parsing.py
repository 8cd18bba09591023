"""Call strings such as ``"RMSProp(lr=0.0001)"`` and the objects they describe.

The command line, saved models and numpy-ml's interface specify layers, activations, optimizers, schedulers,
likelihoods, objectives and schedules of beta as text. It is parsed and checked only here; the objects write it
themselves (`cvae.parsable`).
"""

import ast
import inspect
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from cvae.hints import of_argument, of_class

T = TypeVar("T")


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
    return constructed(_find_class(name, table, kind), args, kwargs)


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
    return constructed(_find_class(name, table, kind), (), arguments)


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


def with_subclasses(table: Mapping[str, type[T]], base: type[Any]) -> dict[str, type[T]]:
    """Return a table of the library's classes by name, and after them the subclasses that are defined elsewhere.

    The library's own come first and win: a class of the user's with the same name, or one that differs in case alone,
    does not change what a call string means, that in a model file for example.
    """
    return {**table, **{name: cls for name, cls in subclasses_by_name(base).items() if name not in table}}


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


def normalized(name: str) -> str:
    """Return a name without what does not matter in names: case, whitespace, ``_`` and ``-``."""
    return "".join(name.split()).replace("_", "").replace("-", "").lower()


def _find_class(name: str, table: Mapping[str, type[T]], kind: str) -> type[T]:
    for known, cls in table.items():
        if normalized(known) == normalized(name):
            return cls
    hint = of_class(kind, normalized(name))
    raise ValueError(f"the {kind} must be one of {', '.join(table)}, got {name!r}{hint}")


_signatures: weakref.WeakKeyDictionary[type[Any], inspect.Signature] = weakref.WeakKeyDictionary()


def signature_of(cls: type[Any]) -> inspect.Signature:
    """Return the signature of a class, which takes longer to find than most objects to make.

    It is that of `__init__`, or of `__new__` if that alone has named arguments; which of both it is otherwise, where a
    base has the other, depends on the version of Python.
    """
    found = _signatures.get(cls)
    if found is None:
        init: Any = cls.__init__
        makes = cls.__new__ if init is object.__init__ else init
        parameters = [*inspect.signature(makes).parameters.values()][1:]
        if makes is not init:
            parameters = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        found = _signatures[cls] = inspect.Signature(parameters)
    return found


def unknown_argument(cls: type[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return the first of these keyword arguments that a class does not take."""
    known = signature_of(cls).parameters
    unknown = (name for name in kwargs if name not in known)
    return None if any(each.kind is each.VAR_KEYWORD for each in known.values()) else next(unknown, None)


def constructed(cls: type[T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Return an object with these arguments, those of a call string or a dict.

    Raises
    ------
    ValueError
        If the class does not take them, or they are invalid, of a wrong type too: what the caller was given, text or a
        dict, is of the right type.
    """
    signature = signature_of(cls)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        allowed = ", ".join(signature.parameters) or "no arguments"
        unknown = unknown_argument(cls, kwargs)
        hint = "" if unknown is None else of_argument(unknown, signature.parameters)
        raise ValueError(f"{cls.__name__} takes {allowed}: {error}{hint}") from None
    try:
        return cls(*args, **kwargs)
    except TypeError as error:
        raise ValueError(str(error)) from error
