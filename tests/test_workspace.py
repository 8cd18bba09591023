"""The scratch memory of the kernels."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cvae.workspace import ALIGNMENT, Workspace, aligned_empty


@pytest.mark.parametrize("nbytes", [1, 63, 64, 65, 100_000])
def test_memory_starts_at_a_cache_line(nbytes):
    for _ in range(5):
        memory = aligned_empty(nbytes)
        assert memory.size == nbytes
        assert memory.ctypes.data % ALIGNMENT == 0


def test_the_buffer_grows_and_is_kept():
    workspace = Workspace()
    small = workspace.reserve(100)
    assert small.size >= 100
    large = workspace.reserve(5000)
    assert large.size >= 5000
    assert workspace.reserve(100) is large
    assert workspace.reserve(5000) is large


def test_each_python_thread_has_its_own_buffer():
    workspace = Workspace()
    mine = workspace.reserve(1000)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(workspace.reserve, 1000).result()
    assert other is not mine
    assert workspace.reserve(1000) is mine


def test_too_much_memory_is_an_error_after_which_the_workspace_can_be_used():
    workspace = Workspace()
    workspace.reserve(100)
    with pytest.raises(MemoryError):
        workspace.reserve(2**60)
    assert workspace.reserve(100).size >= 100
