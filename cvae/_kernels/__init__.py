"""The compiled kernels, one module per operation (sources in csrc/); `dispatch` chooses the instruction set for all."""

import os

# GNU's OpenMP lets a thread that waits for others spin for milliseconds before it sleeps. Where other processes want
# the CPU, that time is taken from the very thread that is waited for, and training runs at a fraction of its speed.
# A shorter spin costs little on an idle machine. The library reads the variable when it is loaded, so it is set just
# for that.
_SPIN = "GOMP_SPINCOUNT"
_short_spin = "OMP_WAIT_POLICY" not in os.environ and _SPIN not in os.environ
if _short_spin:
    os.environ[_SPIN] = "2000"
try:
    import cvae._kernels.dispatch  # noqa: F401 - the other modules take their kernels from it
except ModuleNotFoundError as error:
    raise ImportError(
        "cvae's compiled modules are missing: this is a source tree that has not been built; "
        "run 'pip install -e \".[test]\"' in it, or import cvae from another folder"
    ) from error
finally:
    if _short_spin:
        del os.environ[_SPIN]
