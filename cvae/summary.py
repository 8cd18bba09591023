"""Tables of a model's layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self

from cvae.memory import n_states, training_bytes
from cvae.nn.base import LayerBase
from cvae.nn.protocol import Layer, Shape

_HEADINGS = "layer", "output", "parameters", "multiplications"


class Row(NamedTuple):
    """A layer for one image: its path, the shape of its output, its parameters, and multiplications by weights."""

    layer: str
    output_shape: Shape
    parameters: int
    multiplications: int


class Summary:
    """The layers of a model, from images to codes and from codes to images; ``str()`` is a table.

    Parameters
    ----------
    rows : list of Row
    image_shape : (rows, cols, channels)
    T : int
        Size of the code.
    training_bytes, file_bytes : int

    Attributes
    ----------
    rows : list of Row
    parameters : int
        Of all layers.
    multiplications : int
        By weights, for encoding and decoding an image, as the layers are defined: algorithms such as Winograd's need
        fewer, training about three times as many.
    training_bytes : int
        About how much memory training takes, without the images.
    file_bytes : int
        About the size of the file that `save` writes.
    """

    def __init__(
        self, rows: list[Row], image_shape: tuple[int, int, int], T: int, training_bytes: int, file_bytes: int
    ) -> None:
        self.rows, self.image_shape, self.T = rows, image_shape, T
        self.training_bytes, self.file_bytes = training_bytes, file_bytes
        self.parameters = sum(row.parameters for row in rows)
        self.multiplications = sum(row.multiplications for row in rows)

    @classmethod
    def of(
        cls,
        encoder: Mapping[str, LayerBase],
        decoder: Mapping[str, LayerBase],
        image_shape: tuple[int, int, int],
        T: int,
        batchsize: int,
        codes: int,
    ) -> Self:
        """Return the summary of networks of known sizes, trained in batches with so many codes for each image."""
        rows = [*_rows("encoder", encoder, (1, *image_shape)), *_rows("decoder", decoder, (1, T))]
        layers, counts = [*encoder.values(), *decoder.values()], [row.parameters for row in rows]
        batch, batch_codes = (batchsize, *image_shape), (batchsize * codes, T)
        training = training_bytes(layers, counts, len(encoder), batch, batch_codes)
        file = sum(
            count * layer.dtype.itemsize * (1 + n_states(layer)) for layer, count in zip(layers, counts, strict=True)
        )
        return cls(rows, image_shape, T, training, file)

    def __str__(self) -> str:
        cells = [
            (row.layer, _text(row.output_shape), f"{row.parameters:,}", f"{row.multiplications:,}") for row in self.rows
        ]
        total = "total", "", f"{self.parameters:,}", f"{self.multiplications:,}"
        widths = [max(map(len, column)) for column in zip(_HEADINGS, *cells, total, strict=True)]
        lines = [_line(each, widths) for each in (_HEADINGS, *cells, total)]
        rule = "-" * max(map(len, lines))
        title = f"images {_text(self.image_shape)}, codes of {self.T}"
        return "\n".join([title, rule, lines[0], rule, *lines[1:-1], rule, lines[-1]])

    __repr__ = __str__


def _rows(part: str, layers: Mapping[str, Layer], shape: Shape) -> list[Row]:
    rows = []
    for name, layer in layers.items():
        size, work = layer.n_parameters(shape), layer.multiplications(shape)
        shape = layer.output_shape(shape)
        rows.append(Row(f"{part}/{name}", shape[1:], size, work))
    return rows


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _line(cells: tuple[str, str, str, str], widths: list[int]) -> str:
    """Return text left and numbers right aligned in their columns."""
    name, shape, *numbers = cells
    left = f"{name:{widths[0]}}  {shape:{widths[1]}}"
    return "  ".join([left, *(f"{number:>{width}}" for number, width in zip(numbers, widths[2:], strict=True))])
