"""Arrays from what users have: data frames, tensors, pictures, lists of arrays.

An object that cannot be taken gets an error that says what to pass in its place. No library is imported for it:
objects are known by what they can do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

NUMBERS = "buif"  # kinds of dtypes
MOST_CHANNELS = 4  # of pictures: what has more may be a batch of grey ones
BYTES = "?B"  # the characters of bool and uint8, which are compared faster than dtypes
_ROWS_LOOKED_AT = 100


def as_numbers(X: Any, name: str) -> np.ndarray:
    """Return an array of bool, int or float, a view of X where that is possible.

    Parameters
    ----------
    X : array_like
        An array; a data frame of pandas (nullable and Arrow types too) or polars; a tensor on the CPU, with or without
        gradients; anything else with ``__array__`` or ``__dlpack__``; a list of such arrays or of pictures, of equal
        shapes; nested lists of numbers; an array of Python objects that are numbers.
    name : str
        Of X, for error messages.

    Raises
    ------
    TypeError
        If X is none of these, or of another dtype.
    ValueError
        If X has masked or missing elements, complex numbers, or unequal shapes in it.
    """
    array = as_array(X, name)
    if array.dtype.kind == "O":
        _check_cells(X, array, name)
        array = _of_objects(array, name)
    if array.dtype.kind == "c":
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}. Complex data not supported")
    if array.dtype.kind not in NUMBERS:
        raise TypeError(f"{name} must be an array of bool, int or float, got dtype {array.dtype}")
    return array


def as_array(X: Any, name: str) -> np.ndarray:
    """Return an array of any dtype, otherwise as `as_numbers` does."""
    if type(X) is np.ndarray:
        return X
    found = remedy(X, name) or _remedy_of_iterable(X, name)
    if found:
        raise TypeError(f"{name} must be an array, got {_kind(X)}: {found}")
    check_unmasked(X, name)
    if _is_tensor(X):
        X = X.detach()  # which is what `numpy()` asks for
    if is_frame(X):
        return _of_frame(X, name)
    if is_sequence(X):
        return _of_sequence(X, name)
    if not _has(X, "__array__") and _has(X, "__dlpack__"):
        return _converted(np.from_dlpack, X, name)
    return _converted(np.asarray, X, name)


def check_unmasked(X: Any, name: str) -> None:
    """Raise ValueError if X has masked elements, which `np.asarray` would uncover."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            f"{name} must not have masked elements, got {np.count_nonzero(np.ma.getmaskarray(X))}: pass "
            f"{name}.filled(value), or only the images without them"
        )


def computed(X: Any) -> Any:
    """Return X, or what an array that is computed lazily, as Dask's are, stands for, so as to compute it only once."""
    graph = getattr(X, "__dask_graph__", None)
    return X.compute() if callable(graph) and graph() is not None else X


def images_and_labels(data: Any, name: str) -> tuple[Any, Any]:
    """Return images and labels, None if there are none, from either images or a tuple or list of one or both.

    A list of two arrays of as many dimensions is a list of two images.

    Raises
    ------
    ValueError
        If there are more than two in a tuple, or none.
    """
    if isinstance(data, tuple) and len(data) not in (1, 2):
        raise ValueError(f"{name} must be images or a pair (images, labels), got a tuple of {len(data)}")
    if isinstance(data, tuple) or (isinstance(data, list) and _is_pair(data)):
        images, labels = (*data, None)[:2]
        return images, labels
    return data, None


def _is_pair(items: list[Any]) -> bool:
    """Return whether a list holds images and their labels, or images alone, rather than being a list of images."""
    dimensions = [_dimensions(item) for item in items[:3]]
    return dimensions == [4] or is_pair(items)


def _dimensions(items: Any) -> int:
    """Return the number of dimensions of an array or of nested lists."""
    if isinstance(items, (list, tuple)):
        return 1 + (_dimensions(items[0]) if items else 0)
    return 2 if _is_picture(items) else len(getattr(items, "shape", ()))


def _has(X: Any, *attributes: str) -> bool:
    return all(hasattr(X, attribute) for attribute in attributes)


def _kind(X: Any) -> str:
    return f"an object of type {type(X).__name__}"


def is_array(X: Any) -> bool:
    """Return whether X is an array of some library, a tensor or a picture, rather than a number or a list."""
    is_known = _has(X, "__array__") or _has(X, "__array_interface__") or _has(X, "__dlpack__")
    return is_known and not isinstance(X, np.generic)


def _is_tensor(X: Any) -> bool:
    return _has(X, "detach", "cpu", "device")


def is_frame(X: Any) -> bool:
    """Return whether X is a data frame or a column of pandas."""
    return _has(X, "iloc", "to_numpy", "dtypes")


def is_sequence(X: Any) -> bool:
    """Return whether X is a list, or as good as one, but no array and nothing with a buffer."""
    return _has(X, "__len__", "__getitem__") and not is_buffer(X) and not is_array(X)


def is_buffer(X: Any) -> bool:
    """Return whether X is one of Python's own objects of bytes or numbers."""
    return isinstance(X, (bytes, bytearray, memoryview)) or _has(X, "typecode")


def remedy_of_shapeless(X: Any, name: str) -> str:
    """Return what to pass in the place of an object that cannot even be asked for its shape; "" for others."""
    if hasattr(X, "__dask_graph__") and not hasattr(type(X), "shape") and hasattr(X, "shape"):  # as any other name
        return f"it is computed later: pass {name}.compute()"
    if getattr(getattr(X, "id", None), "valid", True) in (0, False):  # a dataset of h5py
        return f"its file is closed: use it while that is open, or pass {name}[:] of then"
    return ""


def remedy(X: Any, name: str) -> str:
    """Return what to pass in the place of an object that cannot be taken; an empty string if it may be taken."""
    if found := remedy_of_shapeless(X, name):
        return found
    if isinstance(X, (str, os.PathLike)):
        return f"pass cvae.datasets.load({name}).images"
    if _has(X, "toarray", "nnz"):
        return f"{name} is sparse: use {name}.toarray()"
    if _is_tensor(X) and X.device.type != "cpu":
        return f"{name} is on the device {X.device}: pass {name}.cpu()"
    if _has(X, "collect", "lazy"):
        return f"pass {name}.collect()"
    if isinstance(X, (bytes, bytearray)) or (is_buffer(X) and np.ndim(X) < 2):
        return f"pass np.frombuffer({name}, dtype).reshape(n, rows, cols, channels)"
    if is_array(X):
        return f"it is one picture: pass [{name}]" if _is_picture(X) else ""
    if is_pair(X):
        return f"it is a pair of images and labels: pass {name}[0], and {name}[1] as y"
    if is_pair_of_sets(X):
        return f"it is a pair of sets of images, of which a model learns to put out the one it is given: pass {name}[0]"
    return _remedy_of_set(X, name)


def is_pair(X: Any) -> bool:
    """Return whether X is a tuple or list of images and their labels, of fewer dimensions."""
    if not isinstance(X, (tuple, list)) or len(X) != 2:
        return False
    of_images, of_labels = map(_dimensions, X)
    return of_images > max(of_labels, 1)


def is_pair_of_sets(X: Any) -> bool:
    """Return whether X is a tuple of as many images and targets, as other libraries take them."""
    if not isinstance(X, tuple) or len(X) != 2 or not all(map(is_array, X)):
        return False
    of_images, of_targets = map(np.shape, X)
    return of_images == of_targets and (len(of_images) == 4 or (len(of_images) == 3 and of_images[2] > MOST_CHANNELS))


def _is_picture(X: Any) -> bool:
    return _has(X, "getbands", "mode", "convert")


def _remedy_of_set(X: Any, name: str) -> str:
    """Return what to pass in the place of a data set, mapping or iterator."""
    if isinstance(X, Mapping):
        key = next((key for key in ("images", "image", "data") if key in X), None)
        return f"pass {name}[{key!r}]" if key else f"pass one of its values, {_listed(X)}"
    if _has(X, "column_names", "features"):
        column = "image" if "image" in X.column_names else "column"
        return f"pass {name}[{column!r}] of its columns {_listed(X.column_names)}"
    if _has(X, "images"):
        return f"pass {name}.images"
    return ""


def _remedy_of_iterable(X: Any, name: str) -> str:
    """Return what to pass in the place of an iterator, where only an array can be taken."""
    if is_array(X) or not _has(X, "__iter__") or _has(X, "__getitem__", "__len__"):
        return ""
    return "pass one array of all; fit takes it if it gives batches of images"


def _listed(names: Any) -> str:
    return ", ".join(map(repr, list(names)[:10]))


def _converted(convert: Callable[[Any], np.ndarray], X: Any, name: str) -> np.ndarray:
    """Return ``convert(X)``, whose errors name X."""
    try:
        return convert(X)
    except (TypeError, RuntimeError, BufferError) as error:  # of a tensor of a type unknown to NumPy, for example
        raise TypeError(f"{name} must be convertible to a NumPy array, got {_kind(X)}: {error}") from None
    except ValueError as error:  # nested lists of unequal lengths, missing values
        raise ValueError(f"{name} must be an array: {error}") from None


def _of_frame(frame: Any, name: str) -> np.ndarray:
    """Return the values of a data frame or a column of pandas, whose own types NumPy takes for objects."""
    dtypes = frame.dtypes if frame.ndim == 2 else [frame.dtype]
    plain = [getattr(dtype, "numpy_dtype", dtype) for dtype in dtypes]
    if not plain or not all(isinstance(dtype, np.dtype) and dtype.kind in NUMBERS for dtype in plain):
        array = _converted(np.asarray, frame, name)
        if frame.ndim == 2 and array.dtype.kind in "OUS":
            _check_no_text(frame, name)
        return array
    if any(dtype is not own for dtype, own in zip(plain, dtypes, strict=True)) and np.any(frame.isna()):
        raise ValueError(f"{name} must not have missing values (NaN), got {int(np.sum(frame.isna().to_numpy()))}")
    wanted = np.result_type(*plain)
    return _converted(lambda frame: frame.to_numpy(dtype=wanted), frame, name)


def _check_no_text(frame: Any, name: str) -> None:
    """Raise TypeError if columns of a data frame start with text, naming them."""
    starts = [frame.iloc[:_ROWS_LOOKED_AT, i].tolist() for i in range(frame.shape[1])]
    pairs = zip(frame.columns, starts, strict=True)
    columns = [column for column, start in pairs if any(isinstance(value, str) for value in start)]
    if columns:
        raise TypeError(f"{name} must have columns of numbers, got text in {_listed(columns)}: drop or encode them")


def _check_cells(X: Any, array: np.ndarray, name: str) -> None:
    """Raise TypeError for a table whose cells are arrays or lists, naming the first column of these."""
    cells = array[0] if array.ndim == 2 and len(array) else []
    for i, cell in enumerate(cells):
        if is_array(cell) or isinstance(cell, (list, tuple)):
            column = f"{name}[{X.columns[i]!r}]" if hasattr(X, "columns") else f"{name}[:, {i}]"
            raise TypeError(
                f"{name} must have columns of numbers, got cells of type {type(cell).__name__}: pass np.stack({column})"
            )


def _of_sequence(items: Sequence[Any], name: str) -> np.ndarray:
    """Return a list of images, or of anything that is a sequence, as one array."""
    try:
        first = items[0] if len(items) else None
    except (LookupError, TypeError, NotImplementedError):  # of a collection that has no order
        raise TypeError(f"{name} must be an array, got {_kind(items)}") from None
    remedy = _remedy_of_items(first, name)
    if remedy:
        raise TypeError(f"{name} must be an array, got a sequence of {type(first).__name__}s: {remedy}")
    if not is_array(first):
        return _converted(np.asarray, items if isinstance(items, (list, tuple)) else list(items), name)
    return _stacked([_item(items[i], f"{name}[{i}]") for i in range(len(items))], name)


def _remedy_of_items(first: Any, name: str) -> str:
    """Return what to pass in the place of a sequence that starts so; an empty string if it may be taken."""
    if isinstance(first, os.PathLike):
        return "cvae.datasets.load reads files and folders"
    if isinstance(first, Mapping):
        return f"pass [item[key] for item in {name}] with one of the keys {_listed(first)}"
    if not isinstance(first, (tuple, list)) or not first or not is_array(first[0]) or np.ndim(first[0]) < 2:
        return ""
    if any(is_array(other) and np.ndim(other) == np.ndim(first[0]) for other in first[1:]):
        return ""  # an image as a list of arrays
    items, labels = (f"[item[{i}] for item in {name}]" for i in range(2))
    if len(first) > 1 and np.ndim(first[1]) > 0:  # batches
        items, labels = f"np.concatenate({items})", f"np.concatenate({labels})"
    return f"pass {items}{f', and the labels as y={labels}' if len(first) > 1 else ''}"


def _item(item: Any, name: str) -> np.ndarray:
    """Return one image of a list as an array."""
    if not _is_picture(item):
        return as_numbers(item, name)
    if item.mode in ("P", "PA"):
        raise ValueError(f"{name} must hold pixels, got a picture with a palette: pass {name}.convert('RGB')")
    return _converted(np.asarray, item, name)


def _stacked(images: list[np.ndarray], name: str) -> np.ndarray:
    """Return arrays as one, with one dimension more."""
    for what in ("shape", "dtype"):
        first = getattr(images[0], what)
        for i, image in enumerate(images):
            other = getattr(image, what)
            # Bytes mean 0..255 and other numbers do not, so that both must not become numbers of one type.
            if other != first and (what == "shape" or np.uint8 in (first, other)):
                raise ValueError(f"{name} must hold images of one {what}, got {first} for image 0 and {other} for {i}")
    return np.stack(images)


def _of_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Return an array of Python objects, numbers or arrays of equal shape, as one of numbers."""
    if array.ndim == 0:
        raise TypeError(f"{name} must be an array of bool, int or float, got {_kind(array.item())}")
    values = array.ravel().tolist()
    if values and array.ndim == 1 and is_array(values[0]):
        return _of_sequence(values, name)
    texts = {type(value).__name__ for value in values if isinstance(value, (str, bytes))}
    if texts:
        raise TypeError(f"{name} must be an array of bool, int or float, got objects of type {min(texts)}")
    if any(value is None or type(value).__name__ == "NAType" for value in values):
        raise ValueError(f"{name} must not have missing values (NaN), got None or NA")
    numbers = np.array(values)
    try:
        return (numbers if numbers.dtype.kind in NUMBERS else array.astype(np.float64)).reshape(array.shape)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of bool, int or float, got other objects: {error}") from None
