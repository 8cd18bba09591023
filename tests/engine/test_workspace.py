"""Memory aligned to cache lines, and the kernels' workspace."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cvae import BernoulliVAE, load
from cvae.optimizers import Adam
from cvae.runtime.workspace import ALIGNMENT, Workspace, aligned_empty, copy_of, empty, zeros_like


@pytest.mark.parametrize("nbytes", [1, 63, 64, 65, 100_000])
def test_memory_starts_at_a_cache_line(nbytes):
    for _ in range(5):
        memory = aligned_empty(nbytes)
        assert memory.size == nbytes
        assert memory.ctypes.data % ALIGNMENT == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5, 7)])
def test_arrays_start_at_a_cache_line(shape, dtype):
    values = np.array(np.random.default_rng(0).normal(size=shape), order="F")
    for array, expected in (
        (empty(shape, dtype), None),
        (zeros_like(values.astype(dtype)), np.zeros(shape)),
        (copy_of(values, dtype), values.astype(dtype)),
        (copy_of(values.tolist(), dtype), values.astype(dtype)),
    ):
        assert array.shape == shape
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        assert array.ctypes.data % ALIGNMENT == 0
        if expected is not None:
            np.testing.assert_array_equal(array, expected)


def test_parameters_and_states_of_optimizers_start_at_a_cache_line(tmp_path):
    images = np.random.default_rng(0).random((4, 20, 20))
    vae = BernoulliVAE(T=3, optimizer=Adam(), batchsize=4, random_state=0, verbose=False).fit(images, n_epochs=1)
    vae.save(tmp_path / "model.safetensors")
    for each in (vae, load(tmp_path / "model.safetensors")):
        for layer in each._layers().values():
            arrays = [value for value in layer.parameters.values() if value is not None]
            arrays += [state[name] for state in layer.optimizer.cache.values() for name in ("mean", "var")]
            assert all(array.ctypes.data % ALIGNMENT == 0 for array in arrays)


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
