"""Building an ONNX graph from formulas: terms with Python's operators, and examples whose layout is known."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from cvae.nn.protocol import Shape

Array = npt.NDArray[Any]

OPSET, IR_VERSION = 17, 8  # of 2022: also for runtimes that are not the latest


class Graph:
    """Nodes and constants under construction."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._nodes: list[Any] = []
        self._constants: dict[tuple[Any, ...], Any] = {}

    def node(self, operator: str, *inputs: Term, dtype: npt.DTypeLike | None = None, **attributes: Any) -> Term:
        """Add a node with one output, of the first input's dtype unless another one is given."""
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, [each.name for each in inputs], [name], name=name, **attributes))
        return Term(self, name, np.dtype(dtype or inputs[0].dtype))

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> Term:
        """Return an array of the file, which holds equal ones once."""
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return Term(self, self._constants[key].name, array.dtype)

    def input(self, name: str, dtype: npt.DTypeLike, shape: Shape) -> Term:
        """Add an input (n, *shape)."""
        self.inputs.append(helper.make_tensor_value_info(name, _element(dtype), ["n", *shape]))
        return Term(self, name, np.dtype(dtype))

    def output(self, name: str, term: Term, shape: Shape) -> None:
        """Add an output (n, *shape) of this name."""
        self._nodes.append(helper.make_node("Identity", [term.name], [name], name=name))
        self.outputs.append(helper.make_tensor_value_info(name, _element(term.dtype), ["n", *shape]))

    def model(self, name: str, description: str, metadata: dict[str, str]) -> Any:
        """Return the complete model."""
        graph = helper.make_graph(self._nodes, name, self.inputs, self.outputs, list(self._constants.values()))
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="cvae")
        model.doc_string = description
        helper.set_model_props(model, metadata)
        return model


class Term:
    """An array in a graph; numbers beside it count as arrays of its dtype."""

    def __init__(self, graph: Graph, name: str, dtype: np.dtype[Any]) -> None:
        self.graph, self.name, self.dtype = graph, name, dtype

    def node(self, operator: str, *others: Term | npt.ArrayLike, **attributes: Any) -> Term:
        """Return the output of a node with this term as its first input."""
        return self.graph.node(operator, self, *map(self._as_term, others), **attributes)

    def _as_term(self, value: Term | npt.ArrayLike) -> Term:
        return value if isinstance(value, Term) else self.graph.constant(value, self.dtype)

    def __add__(self, other: Term | npt.ArrayLike) -> Term:
        return self.node("Add", other)

    def __sub__(self, other: Term | npt.ArrayLike) -> Term:
        return self.node("Sub", other)

    def __rsub__(self, other: float) -> Term:
        return self._as_term(other) - self

    def __mul__(self, other: Term | npt.ArrayLike) -> Term:
        return self.node("Mul", other)

    def __truediv__(self, other: Term | npt.ArrayLike) -> Term:
        return self.node("Div", other)

    def __rtruediv__(self, other: float) -> Term:
        return self._as_term(other) / self

    def __neg__(self) -> Term:
        return self.node("Neg")

    def __abs__(self) -> Term:
        return self.node("Abs")

    def __lt__(self, other: Term | npt.ArrayLike) -> Term:
        return self.node("Less", other, dtype=bool)

    __radd__, __rmul__ = __add__, __mul__

    def exp(self) -> Term:
        return self.node("Exp")

    def log(self) -> Term:
        return self.node("Log")

    def tanh(self) -> Term:
        return self.node("Tanh")

    def at_least(self, low: float) -> Term:
        return self.node("Max", low)

    def choose(self, if_true: Term, if_false: Term) -> Term:
        """Return one of two terms where this one, of bools, is true, and the other one elsewhere."""
        return self.node("Where", if_true, if_false, dtype=if_true.dtype)

    def softplus(self) -> Term:
        """Return log(1 + exp(x)), without overflow."""
        return self.at_least(0) + (1 + (-abs(self)).exp()).log()

    def cast(self, dtype: npt.DTypeLike) -> Term:
        if self.dtype == dtype:
            return self
        return self.node("Cast", dtype=dtype, to=_element(dtype))

    def reshape(self, *shape: int) -> Term:
        return self.node("Reshape", self.graph.constant(shape, np.int64))

    def mean(self, axis: int) -> Term:
        return self.node("ReduceMean", axes=[axis], keepdims=1)

    def sum(self, axis: int) -> Term:
        """Return the sums along an axis, which goes."""
        return self.node("ReduceSum", self.graph.constant([axis], np.int64), keepdims=0)

    def columns(self, start: int, stop: int, axis: int = 1) -> Term:
        """Return a part of an axis."""
        ends = (self.graph.constant([number], np.int64) for number in (start, stop, axis))
        return self.node("Slice", *ends)


class Examples(NamedTuple):
    """The output of a layer.

    Attributes
    ----------
    term : Term
        Shape (n, *shape), or (n, channels, rows, cols).
    shape : tuple of int
        Of an example, in the order of cvae: (rows, cols, channels) or (features,).
    is_channels_first : bool
    """

    term: Term
    shape: Shape
    is_channels_first: bool = False

    def channels_first(self) -> Examples:
        """Return images in the layout of ONNX's operators."""
        if self.is_channels_first or len(self.shape) != 3:
            return self
        return Examples(self.term.node("Transpose", perm=[0, 3, 1, 2]), self.shape, True)

    def channels_last(self) -> Examples:
        """Return images in cvae's layout."""
        if not self.is_channels_first:
            return self
        return Examples(self.term.node("Transpose", perm=[0, 2, 3, 1]), self.shape)

    def in_layout_of(self, other: Examples) -> Examples:
        return self.channels_first() if other.is_channels_first else self.channels_last()


def _element(dtype: npt.DTypeLike) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def check(model: Any) -> None:
    """Raise onnx.checker.ValidationError unless a model is a valid one, shapes included."""
    onnx.checker.check_model(model, full_check=True)
