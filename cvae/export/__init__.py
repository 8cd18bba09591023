"""Models for other programs: ONNX, C, PyTorch's state dicts and NumPy's files.

Each target translates a layer in one place: ``LAYERS`` in `onnx_layers`, `c_layers` and `state_dict`.
"""

from cvae.export.c import to_c
from cvae.export.onnx import to_onnx
from cvae.export.state_dict import from_state_dict, to_state_dict, to_torch_file
from cvae.export.weights import from_npz, to_npz

__all__ = ["from_npz", "from_state_dict", "to_c", "to_npz", "to_onnx", "to_state_dict", "to_torch_file"]
