"""C source text: functions of `kernels.c`, arrays of numbers, and programs whose buffers share memory."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_UNNEEDED_ZEROS = re.compile(r"^(-?)0\.(\d+)$")
CHUNK = 16  # buffers are of a multiple of so many numbers, so that functions may write whole vectors of the last one


class Section(NamedTuple):
    """A part of `kernels.c` with the names of those that it needs."""

    needs: list[str]
    text: str


@cache
def _sections() -> dict[str, Section]:
    text = (Path(__file__).parent / "kernels.c").read_text(encoding="utf-8")
    _, *parts = re.split(r"^/\* ---- (.*) \*/\n", text, flags=re.MULTILINE)
    found = {}
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        name, _, needs = heading.partition(": ")
        found[name] = Section(needs.split(", ") if needs else [], body.strip())
    return found


class Source:
    """A file under construction: the numbers that it holds, and the functions that it calls.

    Parameters
    ----------
    dtype : dtype
        Of all numbers: float32 or float64.
    """

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._names: set[str] = set()
        self._arrays: dict[str, str] = {}

    def use(self, name: str) -> str:
        """Have the file include a function of `kernels.c`, and return its name."""
        for needed in _sections()[name].needs:
            self.use(needed)
        self._names.add(name)
        return name

    def array(self, values: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        """Have the file hold an array, once, and return its name."""
        numbers = np.asarray(values, dtype or self.dtype).ravel()
        text = f"{{\n{_wrapped(_texts(numbers))}}}"
        c_type = "real" if dtype is None else "double"
        name = f"numbers_{len(self._arrays)}"
        # The name comes first in the file's order, the text is what equal arrays share.
        return self._arrays.setdefault(f"static const {c_type} %s[{numbers.size}] ALIGNED = {text};", name)

    def functions(self) -> str:
        """Return the text of the functions, in their order in `kernels.c`."""
        return "\n\n".join(section.text for name, section in _sections().items() if name in self._names)

    def arrays(self) -> str:
        return "\n".join(text % name for text, name in self._arrays.items())


def _texts(numbers: Array) -> list[str]:
    """Return the shortest texts that C reads as these numbers; ValueError unless they are finite."""
    if not np.isfinite(numbers).all():
        raise ValueError("parameters must be finite to be exported to C, got infinite values or NaN")
    texts = numbers.astype(str)
    if numbers.dtype == np.float32:
        # A compiler rounds twice, to double and to float, which may matter in rare cases.
        wrong = texts.astype(np.float64).astype(np.float32) != numbers
        texts[wrong] = numbers[wrong].astype(np.float64).astype(str)
    return [_UNNEEDED_ZEROS.sub(r"\1.\2", text) for text in texts.tolist()]


def _wrapped(texts: list[str]) -> str:
    """Return numbers separated by commas in lines of about 120 characters."""
    lines, line, length = [], [], 0
    for text in texts:
        line.append(text)
        length += len(text) + 1
        if length > 110:
            lines.append(",".join(line) + ",\n")
            line, length = [], 0
    return "".join(lines) + (",".join(line) + "\n" if line else "")


class Buffer:
    """Numbers in the scratch memory of a function, or what one of its arguments points to.

    Attributes
    ----------
    size : int
    argument : str
        The name of the argument; empty for scratch memory.
    first, last : int
        The statements that write it first and use it last.
    offset : int
        Its place in the scratch memory.
    """

    def __init__(self, size: int, argument: str = "") -> None:
        self.size, self.argument = -(-size // CHUNK) * CHUNK, argument
        self.first, self.last, self.offset = -1, -1, 0

    def __str__(self) -> str:
        return self.argument or f"scratch + {self.offset}"


class Program:
    """The statements of a function, which read and write buffers.

    Parameters
    ----------
    source : Source
        Of the file that the function belongs to.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._statements: list[tuple[str, tuple[Any, ...]]] = []
        self._buffers: list[Buffer] = []

    def buffer(self, size: int) -> Buffer:
        buffer = Buffer(size)
        self._buffers.append(buffer)
        return buffer

    def call(self, function: str, *arguments: Any) -> None:
        """Add the call of a function of `kernels.c`."""
        self.source.use(function)
        for argument in arguments:
            buffer = argument.buffer if isinstance(argument, Place) else argument
            if isinstance(buffer, Buffer):
                buffer.first = len(self._statements) if buffer.first < 0 else buffer.first
                buffer.last = len(self._statements)
        self._statements.append((function, arguments))

    def scratch(self) -> int:
        """Give all buffers their places, and return how many numbers of scratch memory they need."""
        placed: list[Buffer] = []
        for buffer in sorted(self._buffers, key=lambda each: each.first):
            beside = [each for each in placed if each.last >= buffer.first]
            ends = sorted({0, *(each.offset + each.size for each in beside)})
            buffer.offset = next(
                offset
                for offset in ends
                if all(offset + buffer.size <= each.offset or offset >= each.offset + each.size for each in beside)
            )
            placed.append(buffer)
        return max((buffer.offset + buffer.size for buffer in placed), default=0)

    def statements(self) -> list[str]:
        """Return the statements in C; `scratch` comes before."""
        return [f"{name}({', '.join(map(_as_text, arguments))});" for name, arguments in self._statements]


class Place(NamedTuple):
    """Somewhere in a buffer."""

    buffer: Buffer
    start: int

    def __str__(self) -> str:
        return f"{self.buffer} + {self.start}" if self.start else str(self.buffer)


def _as_text(argument: Any) -> str:
    if isinstance(argument, (bool, np.bool_)):
        return str(int(argument))
    return number(float(argument)) if isinstance(argument, (float, np.floating)) else str(argument)


def number(value: float) -> str:
    """Return a double in C."""
    if math.isinf(value):
        return "HUGE_VAL" if value > 0 else "-HUGE_VAL"
    text = repr(float(value))
    return text if any(sign in text for sign in ".e") else f"{text}.0"
