"""What parsers of damaged files raise, as one kind of error."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

# What OSErrors have that tell of a file's content: none, or that of a jump to where no file goes.
_OF_CONTENT = (None, errno.EINVAL, errno.EOVERFLOW)


def one_line(error: BaseException | str) -> str:
    """Return what an error says as one line that can be printed, whatever of a hostile file it quotes."""
    return printable(" ".join(str(error).split()))


def printable(text: str) -> str:
    """Return text without what a terminal would take for commands, such as the escape sequences of a hostile file."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


class Refused(ValueError):
    """A file is sound, but not what is taken; the message says what would be."""


@contextlib.contextmanager
def named_errors(path: Path, expected: str) -> Iterator[None]:
    """Turn what foreign parsers raise, from struct.error to RecursionError, into a ValueError that names the file.

    What the system says (permission denied, no memory) stays as it is. All others become one line.
    """
    try:
        yield
    except ImportError:
        raise
    except MemoryError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise MemoryError(f"{path}: does not fit in memory{f': {error}' if str(error) else ''}") from None
    except Refused as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    except Exception as error:
        if isinstance(error, OSError) and (error.errno not in _OF_CONTENT or str(error).startswith(f"{path}: ")):
            raise
        if str(error).startswith(f"{path}: "):  # with which file's it is said already
            raise ValueError(f"{path}: {one_line(str(error).removeprefix(f'{path}: '))}") from None
        raise ValueError(f"{path}: not a valid {expected}: {one_line(error) or type(error).__name__}") from None
