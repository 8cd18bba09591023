"""Models for other programs: ONNX and C.

Each target translates a layer in one place: ``LAYERS`` in `onnx_layers` and `c_layers`.
"""

from cvae.export.c import to_c
from cvae.export.onnx import to_onnx

__all__ = ["to_c", "to_onnx"]
