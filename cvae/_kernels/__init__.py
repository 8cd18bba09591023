"""The compiled kernels, one module per operation (sources in csrc/); `dispatch` chooses the instruction set for all."""

try:
    from cvae._kernels import dispatch
except ModuleNotFoundError as error:
    raise ImportError(
        "cvae's compiled modules are missing: this is a source tree that has not been built; "
        'run \'pip install -e ".[test]"\' in it, or import cvae from another folder'
    ) from error

__all__ = ["dispatch"]
