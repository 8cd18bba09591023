"""What parsers of damaged files raise, as one kind of error."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

# What OSErrors have that tell of a file's content: none, or that of a jump to where no file goes.
_OF_CONTENT = (None, errno.EINVAL, errno.EOVERFLOW)


class Refused(ValueError):
    """A file is sound, but not what is taken; the message says what would be."""


@contextlib.contextmanager
def named_errors(path: Path, expected: str) -> Iterator[None]:
    """Turn what foreign parsers raise, from struct.error to RecursionError, into a ValueError that names the file.

    What the system says (permission denied, no memory) and what names the file already stays as it is.
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
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:
        if str(error).startswith(f"{path}: ") or (isinstance(error, OSError) and error.errno not in _OF_CONTENT):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a valid {expected}: {message}") from None
