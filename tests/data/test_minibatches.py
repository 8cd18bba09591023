"""Splitting a set of examples into minibatches."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import cases

from cvae.data.minibatches import minibatch


def test_the_batches_equal_numpy_ml():
    [_, (_, meta, arrays)] = cases("utils")
    batches, n_batches = minibatch(np.zeros(meta["N"]), meta["batchsize"], shuffle=False)
    batches = list(batches)
    assert n_batches == arrays["n_batches"]
    assert [len(batch) for batch in batches] == arrays["sizes"].tolist()
    # numpy-ml's order comes from NumPy's legacy generator, so only the set of indices can be compared.
    assert sorted(arrays["order"]) == np.concatenate(batches).tolist()


@given(st.integers(0, 50), st.integers(1, 60), st.booleans())
def test_every_index_comes_once_and_only_the_last_batch_is_short(n, batchsize, shuffle):
    batches, n_batches = minibatch(range(n), batchsize, shuffle, np.random.default_rng(1))
    batches = list(batches)
    assert len(batches) == n_batches == -(-n // batchsize)
    assert all(len(batch) == batchsize for batch in batches[:-1])
    assert sorted(i for batch in batches for i in batch) == list(range(n))
    assert all(batch.dtype == np.intp for batch in batches)


def test_without_shuffling_the_order_is_kept():
    batches, _ = minibatch(range(10), 4, shuffle=False)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_the_generator_alone_decides_the_order():
    def order(seed):
        return np.concatenate(list(minibatch(range(100), 30, rng=np.random.default_rng(seed))[0]))

    np.testing.assert_array_equal(order(1), order(1))
    assert (order(1) != order(2)).any()
    assert (order(1) != np.arange(100)).any()


def test_without_a_generator_two_calls_differ():
    first, second = (np.concatenate(list(minibatch(range(1000))[0])) for _ in range(2))
    assert (first != second).any()


def test_the_order_is_drawn_at_the_call():
    rng = np.random.default_rng(1)
    batches, _ = minibatch(range(8), 8, rng=rng)
    rng.random(5)
    [drawn_before] = batches
    [drawn_at_once] = minibatch(range(8), 8, rng=np.random.default_rng(1))[0]
    np.testing.assert_array_equal(drawn_before, drawn_at_once)


@pytest.mark.parametrize("X", [[1, 2, 3], "abc", np.zeros((3, 2, 2, 1)), {1: 2, 3: 4, 5: 6}])
def test_anything_with_a_length_will_do(X):
    assert minibatch(X, 2)[1] == 2


def test_the_batchsize_may_be_any_integer_type():
    assert minibatch(range(10), np.int64(4))[1] == 3


@pytest.mark.parametrize("batchsize", [0, -2])
def test_a_batchsize_below_one_is_a_value_error(batchsize):
    with pytest.raises(ValueError, match=f"batchsize must be an int >= 1, got {batchsize}"):
        minibatch(range(10), batchsize)


@pytest.mark.parametrize("batchsize", [2.5, 4.0, "4", None, True])
def test_a_batchsize_that_is_no_integer_is_a_type_error(batchsize):
    with pytest.raises(TypeError, match=re.escape(f"batchsize must be an int >= 1, got {batchsize!r}")):
        minibatch(range(10), batchsize)


@pytest.mark.parametrize("X", [3, None, np.array(3.0), iter([1])])
def test_something_without_a_length_is_a_type_error(X):
    with pytest.raises(TypeError, match="X must have a length, got"):
        minibatch(X)


def test_a_seed_is_not_a_generator():
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random.Generator or None, got 0"):
        minibatch(range(10), rng=0)
