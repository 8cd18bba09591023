"""The compiled kernels, one module per operation (sources in csrc/); `dispatch` chooses the instruction set for all."""

try:
    import cvae._kernels.dispatch  # noqa: F401 - the other modules take their kernels from it
except ModuleNotFoundError as error:
    raise ImportError(
        "cvae's compiled modules are missing: this is a source tree that has not been built; "
        "run 'pip install -e \".[test]\"' in it, or import cvae from another folder"
    ) from error
