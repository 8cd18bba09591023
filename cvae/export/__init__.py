"""Models for other programs.

Each target translates a layer in one place: ``LAYERS`` in `onnx_layers`.
"""

from cvae.export.onnx import to_onnx

__all__ = ["to_onnx"]
