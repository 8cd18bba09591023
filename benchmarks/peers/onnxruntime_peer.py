"""ONNX Runtime, which encodes and decodes but does not train, with all of its graph optimizations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
from cases import Model, Network
from layers import Layer, Layers, channels_first
from onnx import TensorProto, helper, numpy_helper

from peers import Array, Images, Peer

OPSET, IR_VERSION = 17, 8
ACTIVATIONS = {"ReLU": "Relu", "Tanh": "Tanh", "Sigmoid": "Sigmoid"}


class OnnxRuntimePeer(Peer):
    """A session for each of the encoder and the decoder, of NCHW images that are in memory before the clock starts.

    Parameters
    ----------
    model, batch, threads, images, seed
        See `Peer`.
    layers : Layers
        cvae's, with the weights.
    """

    def __init__(
        self, model: Model | Network, batch: int, threads: int, images: Images, seed: int, layers: Layers
    ) -> None:
        super().__init__(model, batch, threads, images, seed)
        self.first_batch = as_stored(images[:batch])
        self.codes = np.random.default_rng(seed).normal(size=(batch, model.n_codes)).astype(model.dtype)
        layers = layers.rearranged(channels_first)
        self.encoder = session(layers.encoder, threads)
        last = replace(layers.decoder[-1], activation="Sigmoid")
        self.decoder = session((*layers.decoder[:-1], last), threads)

    def train(self, n_steps: int) -> None:
        raise NotImplementedError("ONNX Runtime does not train")

    def loss(self, images: Array, noise: Array) -> float:
        raise NotImplementedError("ONNX Runtime does not compute the loss")

    def encode(self) -> tuple[Array, Array]:
        return self._encoded(self.first_batch)

    def decode(self) -> Array:
        return self._decoded(self.codes)

    def outputs(self, images: Array, codes: Array) -> tuple[Array, Array, Array]:
        rows, cols, channels = self.model.image_shape
        pixels = self._decoded(codes).reshape(-1, channels, rows, cols)
        return *self._encoded(as_stored(images)), pixels.transpose(0, 2, 3, 1)

    def _encoded(self, images: Array) -> tuple[Array, Array]:
        (code,) = self.encoder.run(None, {"input": images})
        return code[:, : self.model.n_codes], code[:, self.model.n_codes :]

    def _decoded(self, codes: Array) -> Array:
        (pixels,) = self.decoder.run(None, {"input": codes})
        return pixels


def as_stored(images: Images) -> Images:
    """Return images (n, rows, cols, channels) in the layout that the convolutions read."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def session(part: Sequence[Layer], threads: int) -> onnxruntime.InferenceSession:
    """Return the session of a part of a model with channels first, from "input" to its only output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(graph(part), options, providers=["CPUExecutionProvider"])


def graph(part: Sequence[Layer]) -> bytes:
    """Return the ONNX model of layers, for any batch."""
    nodes, weights = [], []
    value = "input"
    for i, layer in enumerate(part):
        inputs, attributes = [value], {}
        operator = layer.kind
        match layer.kind:
            case "Conv2D" | "ConvTranspose2D":
                operator, attributes = convolution(layer)
                tensors = layer.W.transpose(3, 2, 0, 1), layer.b.reshape(-1)
            case "FullyConnected":
                operator, tensors = "Gemm", (layer.W, layer.b.reshape(-1))
            case "Pool2D":
                operator, tensors = "MaxPool", ()
                attributes = {"kernel_shape": layer.kernel, "strides": (layer.stride, layer.stride)}
            case "Reshape":
                tensors = (np.array([-1, *_channels_first_shape(layer.out_shape)], np.int64),)
            case "Flatten":
                tensors = ()
        for j, tensor in enumerate(tensors):
            weights.append(numpy_helper.from_array(np.ascontiguousarray(tensor), f"weight_{i}_{j}"))
            inputs.append(weights[-1].name)
        value = f"output_{i}"
        nodes.append(helper.make_node(operator, inputs, [value], **attributes))
        if layer.activation:
            nodes.append(helper.make_node(ACTIVATIONS[layer.activation], [value], [f"active_{i}"]))
            value = f"active_{i}"
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("input", ["n", *_channels_first_shape(part[0].in_shape)]), (value, None))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "part", *ends, weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return model.SerializeToString()


def convolution(layer: Layer) -> tuple[str, dict[str, Any]]:
    """Return the operator and the attributes of a convolution or transposed convolution."""
    attributes = {
        "kernel_shape": layer.kernel,
        "strides": (layer.stride, layer.stride),
        "pads": (*layer.pad, *(max(after, 0) for after in layer.pad_after)),
    }
    if layer.kind == "Conv2D":
        return "Conv", attributes
    return "ConvTranspose", attributes | {"output_padding": [max(-after, 0) for after in layer.pad_after]}


def _channels_first_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[-1], *shape[:-1])
