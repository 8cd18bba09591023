"""The file of reference results is complete, and the tests use all of its cases."""

import ast
from pathlib import Path

import numpy as np
import pytest
from reference_cases import TESTED_IN, cases, groups, index, right_array


def groups_visited_by(module: str) -> set[str]:
    """Return the groups that a test module uses: the literals in its calls `cases("...")`."""
    tree = ast.parse((Path(__file__).parents[1] / f"{module}.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "cases"]
    return {call.args[0].value for call in named if isinstance(call.args[0], ast.Constant)}


def test_the_groups_together_hold_every_case_of_the_index():
    assert index()["cases"] == [name for group in index_groups() for name, _, _ in cases(group)]
    assert len(index()["cases"]) == 129


def test_the_file_holds_no_array_outside_of_its_cases():
    arrays = sum(len(arrays) + 1 for group in groups() for _, _, arrays in cases(group))
    assert arrays + 1 == 1519  # including the meta_json of each case and the index


def test_every_group_has_a_test_module():
    assert sorted(TESTED_IN) == groups()


@pytest.mark.parametrize("group", groups())
def test_the_test_modules_of_a_group_visit_it(group):
    for module in TESTED_IN[group]:
        assert group in groups_visited_by(module), f"{module}.py does not call cases({group!r})"


def test_a_case_is_float64_read_only_and_has_its_tuples_back():
    name, meta, arrays = cases("conv2d")[2]
    assert name == "conv2d/02"
    assert meta["kernel_shape"] == (5, 5)
    assert meta["pad"] == (1, 2)
    assert meta["numpy_ml_is_wrong"] == []
    assert arrays["X"].dtype == np.float64
    assert not arrays["X"].flags.writeable


def test_right_array_prefers_the_right_one_where_numpy_ml_is_wrong():
    _, meta, arrays = cases("pool2d")[7]
    assert right_array(meta, arrays, "Y") is arrays["Y"]
    assert right_array(meta, arrays, "dX") is arrays["dX_torch"]


def test_an_unknown_group_is_an_error():
    with pytest.raises(ValueError, match="group must be one of"):
        cases("conv3d")


def index_groups() -> list[str]:
    """Return the groups in the order of the index."""
    return list(dict.fromkeys(name.split("/")[0] for name in index()["cases"]))
