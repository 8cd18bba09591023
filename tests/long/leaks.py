"""Resident memory and numbers of objects stay flat over 1,000 trainings.

python -m pytest tests/long/leaks.py
"""

import gc
import os
import sys

import numpy as np
import pytest
from small_vae import random_images, small_vae


def resident():
    """Return the resident memory of this process in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="where Linux tells the resident memory")
def test_a_thousand_fits_leave_nothing():
    X, measured = random_images(40), []
    for i in range(1000):
        vae = small_vae(n_threads=2).fit(X)
        vae.sample(2, random_state=0)
        vae.log_likelihood(X[:2], n_samples=2)
        del vae
        if i % 100 == 99:
            gc.collect()
            measured.append((resident(), len(gc.get_objects())))
    memory, objects = np.transpose(measured)
    print(memory.round(1), objects)
    assert memory[-1] - memory[1] < 3
    assert objects[-1] - objects[1] < 50
