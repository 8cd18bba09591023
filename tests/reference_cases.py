"""The reference results of numpy-ml 0.1.2 and PyTorch, as parameters of tests.

`tests/data/numpy_ml_reference.npz` contains 129 cases in 12 groups. A case consists of float64 arrays computed
by numpy-ml, the arguments they were computed with, and the correct values (from PyTorch in float64 or from a
closed form) wherever numpy-ml is wrong.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE_FILE = Path(__file__).parent / "data" / "numpy_ml_reference.npz"

# The test modules that use all cases of a group, as test_reference_cases.py checks.
TESTED_IN = {
    "activation": ("nn/test_activations",),
    "conv2d": ("kernels/test_reference_oracles", "nn/test_reference_layers"),
    "flatten": ("nn/test_reference_layers",),
    "fullyconnected": ("kernels/test_reference_oracles", "nn/test_reference_layers"),
    "initializer": ("nn/test_initializers",),
    "optimizer": ("kernels/test_reference_oracles", "optim/test_optimizers"),
    "pool2d": ("kernels/test_reference_oracles", "nn/test_reference_layers"),
    "scheduler": ("optim/test_schedulers",),
    "utils": ("nn/test_im2col", "data/test_minibatches"),
    "vae": ("kernels/test_reference_oracles", "model/test_reference_vae"),
    "vae_fit": ("kernels/test_reference_oracles", "model/test_reference_vae"),
    "vaeloss": ("kernels/test_reference_oracles", "nn/test_losses"),
}

Case = tuple[str, dict[str, Any], dict[str, np.ndarray]]


def cases(group: str) -> list[Case]:
    """Return the cases of a group as `(name, meta, arrays)`, in the order of the file.

    `name` is, for example, "conv2d/03"; `meta` contains the arguments, with lists of numbers converted to
    tuples; `arrays` maps the rest of each path, such as "dX" or "step1/grad/encoder/Conv1/W", to a read-only
    array.

    Use: `@pytest.mark.parametrize(("name", "meta", "arrays"), cases("conv2d"), ids=case_id)`.
    """
    found = [case for case in _all_cases() if case[0].startswith(group + "/")]
    if not found:
        raise ValueError(f"group must be one of {groups()}, got {group!r}")
    return found


def case_id(value: object) -> str:
    """Return a case's name for the test's id, and nothing for its dictionaries."""
    return value if isinstance(value, str) else ""


def groups() -> list[str]:
    """Return the names of all groups in the file, sorted."""
    return sorted({name.split("/")[0] for name, _, _ in _all_cases()})


def index() -> dict[str, Any]:
    """Return the file's index: the names of all cases and numpy-ml's known errors."""
    with np.load(REFERENCE_FILE) as file:
        return json.loads(str(file["index/meta_json"]))


def right_array(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return the array called `name`, or its documented correction if numpy-ml's is wrong."""
    if name not in meta["numpy_ml_is_wrong"]:
        return arrays[name]
    for suffix in ("_torch", "_correct"):
        if name + suffix in arrays:
            return arrays[name + suffix]
    raise KeyError(f"numpy-ml's {name} is wrong and the file has no right one")


def below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays below a path by the rest of their names."""
    return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}


@functools.cache
def _all_cases() -> list[Case]:
    with np.load(REFERENCE_FILE) as file:
        contents = {path: file[path] for path in file.files}
    found = []
    for name in json.loads(str(contents["index/meta_json"]))["cases"]:
        arrays = below(contents, name + "/")
        meta = _with_tuples(json.loads(str(arrays.pop("meta_json"))))
        for array in arrays.values():
            array.flags.writeable = False
        found.append((name, meta, arrays))
    return found


def _with_tuples(value: Any) -> Any:
    """Convert the lists of numbers in a value from JSON to tuples."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        numbers = value and all(isinstance(item, (int, float)) for item in value)
        return tuple(value) if numbers else [_with_tuples(item) for item in value]
    return value
