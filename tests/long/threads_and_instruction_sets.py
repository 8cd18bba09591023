"""The same bits on 1, 2, 3, 7 and 16 threads, for every public part of a model and every instruction set.

    python -m pytest tests/long/threads_and_instruction_sets.py

Not part of the usual run, which takes the best instruction set and fewer numbers of threads.
"""

import json
import subprocess
import sys

import pytest
from small_vae import subprocess_environment
from thread_cases import cases

from cvae._kernels import dispatch

PROGRAM = """
import json, sys
from thread_cases import differing
print(json.dumps(differing([sys.argv[1]], ["float32", "float64"], (1, 2, 3, 7, 16))))
"""


@pytest.mark.parametrize("isa", dispatch.available())
@pytest.mark.parametrize("name", cases())
def test_the_bits_do_not_depend_on_the_number_of_threads(name, isa):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], env={**subprocess_environment(), "CVAE_SIMD": isa}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
