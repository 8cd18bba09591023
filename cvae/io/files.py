"""Atomic writing of files: an existing file is replaced only by a complete new one, which is on the disk by then."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

fcntl: Any  # a module that Windows does not have
try:
    import fcntl
except ImportError:
    fcntl = None

_PREFIX, _SUFFIX = ".cvae-", ".tmp"  # of temporary files; short, so that any name of a file can be written
KEY = "cvae"  # of the description in the metadata of a model's file
_MODEL = b'{"__metadata__":{"%b":' % KEY.encode()  # how `serialization.write` begins it, after 8 bytes
_ONLY_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EROFS}  # what `fsync` says on some file systems


def as_path(path: str | os.PathLike[str]) -> str:
    """Return a path as text, ~/ as the home; raise TypeError for anything else, such as the number of an open file.

    A null character, which no name of a file holds, is a ValueError.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path must be a str or path, got {path!r}")
    name = os.fsdecode(path)
    if "\0" in name:
        raise ValueError(f"path must be the name of a file, which holds no null character, got {name!r}")
    is_home = name.startswith("~/") and not os.path.lexists("~")
    return os.path.expanduser(name) if is_home else name


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise OSError unless `path` is a file that can be read to its end: no folder, fifo or device, which may block."""
    name = as_path(path)
    mode = os.stat(name).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", name)


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Return where a file of this name is written, after links; raise OSError if that is known to be impossible.

    A name that is too long, ends with a slash or is a loop of links is such a case, and so is a folder that is missing
    or read-only.
    """
    name = as_path(path)
    if not name:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    if name.endswith(tuple(filter(None, (os.sep, os.altsep)))):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    with contextlib.suppress(FileNotFoundError):
        check_regular(name)
    target = Path(os.path.realpath(name))
    try:
        os.stat(target)
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"The folder {target.parent} does not exist", name) from None
    except OSError as error:  # of the name at the end of the links
        raise OSError(error.errno, error.strerror, name) from None
    return target


def is_model(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as a model's."""
    with open(path, "rb") as file:
        return file.read(8 + len(_MODEL))[8:] == _MODEL


@contextlib.contextmanager
def replaced_file(path: str | os.PathLike[str], *, by_model: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file for writing that replaces `path` when the block ends without an exception.

    The new file keeps the permissions of the old one where the file system has any. An exception leaves the old file
    unchanged, and so does the end of the process: what it was writing is removed when the next file is written to the
    same folder. Errors name `path`.

    Parameters
    ----------
    path : str or path
        The file to replace or create; a symbolic link is followed.
    by_model : bool
        Whether the new file is a model. Nothing else takes the place of a model.

    Yields
    ------
    binary file

    Raises
    ------
    TypeError
        If `path` is neither.
    ValueError
        If `path` is a model, and what is written is none.
    OSError
        If `path` is a folder or not a regular file, or cannot be written.
    """
    target = check_writable(path)
    if not by_model and target.exists() and is_model(target):
        raise ValueError(f"path must not be a model, which would be lost, got {as_path(path)!r}")
    temporary: Path | None = None
    descriptor = -1
    try:
        remove_leftovers(target.parent)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        temporary, descriptor = _new_file(target.parent, 0o666 if mode is None else mode)
        if mode is not None:
            with contextlib.suppress(OSError):  # on a file system without permissions, such as CIFS
                os.chmod(temporary, mode)
        with open(descriptor, "wb", closefd=False) as file:
            yield file
        _sync(descriptor)
        if os.name == "nt":  # where an open file cannot be renamed; elsewhere it stays locked until it has its name
            os.close(descriptor)
            descriptor = -1
        os.replace(temporary, target)
        temporary = None
        _sync_folder(target.parent)
    except OSError as error:
        if error.errno is None or (temporary is not None and error.filename not in (None, os.fspath(temporary))):
            raise
        raise OSError(error.errno, error.strerror, as_path(path)) from None
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _new_file(folder: Path, mode: int) -> tuple[Path, int]:
    """Create a file of a random name, locked as long as it is open, and return its path and descriptor."""
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(6)}{_SUFFIX}"
        try:
            descriptor = os.open(path, _ONLY_NEW, mode)
        except FileExistsError:
            continue
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks, where nobody takes it for a leftover
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():  # otherwise somebody took it for a leftover before it was locked
            return path, descriptor
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that ended while writing, which have no lock on them any more."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_if_unlocked(entry.path)


def _remove_if_unlocked(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError if its process still writes
            os.unlink(path)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    """Wait until a file's contents are on the disk, so that no crash of the machine leaves an empty file."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def _sync_folder(folder: Path) -> None:
    """Have the file's new name written to the disk as well, where that is possible."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
