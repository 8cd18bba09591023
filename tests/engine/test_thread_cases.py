"""Every public layer, activation, likelihood, objective and optimizer gives the same bits on any number of threads.

All instruction sets and more numbers of threads: tests/long/threads_and_instruction_sets.py.
"""

import pytest
from thread_cases import LAYERS, cases, differing, public

from cvae import layers


def test_every_public_layer_has_a_case():
    assert sorted(LAYERS) == public(layers, layers.LayerBase)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", cases())
def test_the_bits_do_not_depend_on_the_number_of_threads(name, dtype):
    assert differing([name], [dtype], (1, 7)) == []
