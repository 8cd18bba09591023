"""The text of a C file: its functions for others, around the networks of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cvae.export.c_layers import translate
from cvae.export.c_likelihoods import LIKELIHOODS
from cvae.export.c_source import CHUNK, Buffer, Program, Source, number
from cvae.export.parts import Parts, Step, translation_of
from cvae.version import __version__

_COMMENT = """\
/* A {model} of {rows}x{cols}x{channels} images, written by cvae {version}.
 *
 * C99 without dependencies; link with -lm. No function allocates memory or keeps any state, so all can be called from
 * several threads, each with its own scratch memory. Compile with optimization, for example -O3 -march=native.
 *
 * image: {upper}_ROWS x {upper}_COLS x {upper}_CHANNELS numbers, channels innermost, {units}.
 * mean, log_var, z: {upper}_T numbers each.
{label} * noise: {upper}_T standard normal numbers with which the code is drawn, or NULL, for its mean.
 * scratch: {upper}_SCRATCH numbers of type {real}, which need not be initialized or aligned.
 *
 * {name}_encode         mean and logarithm of the variance of the code of an image
 * {name}_decode         the mean image of a code
 * {name}_reconstruct    the decoded mean of an image's code
 * {name}_elbo           the evidence lower bound of an image, in nats; larger is more probable
 * {name}_from_bytes     pixels of 8 bits as the numbers that the other functions take
 *
 * Compile the file once. Other files include it after #define {upper}_DECLARATIONS. */"""


class CFile:
    """The text of a file for a model.

    Parameters
    ----------
    parts : Parts
    model : str
        The name of its class.
    prefix : str
        Of the names that the file defines for others.
    """

    def __init__(self, parts: Parts, model: str, prefix: str) -> None:
        self._parts, self._model, self._name, self._upper = parts, model, prefix, prefix.upper()
        self._real = "float" if parts.dtype == "float32" else "double"
        self._source = Source(parts.dtype)
        self._source.use("vectors")
        self._likelihood = translation_of(LIKELIHOODS, parts.likelihood, "C", "likelihood")
        sizes = {
            "pixels": parts.pixels, "code": 2 * parts.T, "z": parts.T, "labels": parts.n_labels,
            "outputs": math.prod(parts.decoder[-1].out_shape),
        }  # fmt: skip
        # The places of arrays in the scratch memory, before that of the networks.
        self._places: dict[str, str] = {}
        self._kept = 0
        for name, size in sizes.items():
            self._places[name] = f"scratch + {self._kept}"
            self._kept += -(-size // CHUNK) * CHUNK

    def text(self) -> str:
        """Return the whole file."""
        parts = self._parts
        networks = [self._network("encoder", parts.encoder, parts.pixels)]
        networks.append(self._network("decoder", parts.decoder, parts.T))
        functions = self._functions()
        declarations = "\n".join(f"{signature};" for signature in self._signatures().values())
        return "\n\n".join(
            [
                self._comment(),
                "#include <stddef.h> /* NULL */",
                '#ifdef __cplusplus\nextern "C" {\n#endif',
                self._constants(self._kept + max(scratch for _, scratch in networks)),
                declarations,
                "#ifdef __cplusplus\n}\n#endif",
                f"#ifndef {self._upper}_DECLARATIONS",
                "#include <math.h>\n#include <string.h>",
                f"#define REAL_IS_FLOAT {int(self._real == 'float')}\ntypedef {self._real} real;",
                self._source.functions(),
                self._source.arrays(),
                *(text for text, _ in networks),
                functions,
                "#endif\n",
            ]
        )

    def _comment(self) -> str:
        parts, label = self._parts, ""
        rows, cols, channels = parts.image_shape
        if parts.classes is not None:
            known = ", ".join(f"{i} is {str(each)[:20]!r}" for i, each in enumerate(parts.classes[:10].tolist()))
            label = f" * label: the index of a class: {known}{', ...' if len(parts.classes) > 10 else ''}.\n"
            label = label.replace("*/", "* /").replace("\\", "/")  # which would end the comment or the line
        elif parts.n_labels:
            label = f" * label: {self._upper}_LABEL numbers.\n"
        is_unit = parts.mapping.is_identity and parts.likelihood.pixels == "unit"
        return _COMMENT.format(
            model=self._model, rows=rows, cols=cols, channels=channels, version=__version__, upper=self._upper,
            name=self._name, real=self._real, label=label,
            units="from 0 to 1" if is_unit else "in the units of the images that the model was trained on",
        )  # fmt: skip

    def _constants(self, scratch: int) -> str:
        rows, cols, channels = self._parts.image_shape
        values = {"ROWS": rows, "COLS": cols, "CHANNELS": channels, "T": self._parts.T}
        if self._parts.n_labels:
            values["LABEL" if self._parts.classes is None else "CLASSES"] = self._parts.n_labels
        values["SCRATCH"] = scratch
        return "\n".join(f"#define {self._upper}_{name} {value}" for name, value in values.items())

    def _signatures(self) -> dict[str, str]:
        real, name, label = self._real, self._name, ""
        if self._parts.n_labels:
            label = "int label, " if self._parts.classes is not None else f"const {real} *label, "
        image = f"const {real} *image, {label}"
        return {
            "encode": f"void {name}_encode({image}{real} *mean, {real} *log_var, {real} *scratch)",
            "decode": f"void {name}_decode(const {real} *z, {label}{real} *image, {real} *scratch)",
            "reconstruct": f"void {name}_reconstruct({image}{real} *reconstruction, {real} *scratch)",
            "elbo": f"double {name}_elbo({image}const {real} *noise, {real} *scratch)",
            "from_bytes": f"void {name}_from_bytes(const unsigned char *bytes, {real} *image)",
        }

    def _network(self, name: str, row: list[Step], inputs: int) -> tuple[str, int]:
        """Return the function of layers in a row, and how many numbers of scratch memory it needs."""
        program, x = Program(self._source), Buffer(inputs, "x")
        labels = Buffer(self._parts.n_labels, "labels") if self._parts.n_labels else None
        y = translate(program, row, x, labels)
        scratch = program.scratch()
        label = "" if labels is None else "const real *labels, "
        statements = [*program.statements(), f"memcpy(y, {y}, {math.prod(row[-1].out_shape)} * sizeof(real));"]
        return _function(f"static void {name}(const real *x, {label}real *y, real *scratch)", statements), scratch

    def _functions(self) -> str:
        """Return the functions for others."""
        parts, at, T = self._parts, self._places, self._parts.T
        code = at["code"]
        encode, labels = [*self._map_pixels(), self._run("encoder", self._pixels(), code)], self._read_label()
        copies = [f"memcpy(mean, {code}, {T} * sizeof(real));", f"memcpy(log_var, {code} + {T}, {T} * sizeof(real));"]
        bodies = {
            "encode": [*labels, *encode, *copies],
            "decode": [*labels, self._run("decoder", "z", at["outputs"]), *self._mean_image("image")],
            "reconstruct": [
                *labels, *encode, self._run("decoder", code, at["outputs"]), *self._mean_image("reconstruction"),
            ],
            "elbo": [f"const real *code = {code}, *z = code;", *labels, *encode, *self._draw(), *self._bound()],
            "from_bytes": [
                "int i;",
                f"for (i = 0; i < {parts.pixels}; i++) image[i] = "
                f"(real)bytes[i]{' / 255' if parts.mapping.divides_bytes else ''};",
            ],
        }  # fmt: skip
        return "\n\n".join(_function(self._signatures()[name], statements) for name, statements in bodies.items())

    def _run(self, network: str, x: str, y: str) -> str:
        labels = f"{self._places['labels']}, " if self._parts.n_labels else ""
        return f"{network}({x}, {labels}{y}, scratch + {self._kept});"

    def _read_label(self) -> list[str]:
        """Return the statements that write the numbers that layers read."""
        n, labels = self._parts.n_labels, self._places["labels"]
        if self._parts.classes is not None:
            return ["int i;", f"for (i = 0; i < {n}; i++) ({labels})[i] = i == label;"]
        return [f"memcpy({labels}, label, {n} * sizeof(real));"] if n else []

    def _pixels(self) -> str:
        """Return where the mapped pixels are."""
        is_image = self._parts.mapping.is_identity and self._parts.threshold is None
        return "image" if is_image else self._places["pixels"]

    def _map_pixels(self) -> list[str]:
        parts, statements, x, y = self._parts, [], "image", self._places["pixels"]
        if not parts.mapping.is_identity:
            statements.append(self._call("map_pixels", y, x, *self._mapping()))
            x = y
        if parts.threshold is not None:
            statements.append(self._call("threshold", y, x, number(parts.threshold), parts.pixels))
        return statements

    def _mapping(self) -> tuple[object, ...]:
        """Return the arguments of a function that maps pixels."""
        rows, cols, channels = self._parts.image_shape
        mapping = self._parts.mapping
        arrays = (self._source.array(values, "float64") for values in (mapping.offset, mapping.scale))
        return *arrays, rows * cols, channels

    def _mean_image(self, image: str) -> list[str]:
        """Return the statements that turn outputs into an image."""
        parts = self._parts
        function, *constants = self._likelihood.mean(parts.likelihood)
        statements = [self._call(function, image, self._places["outputs"], parts.pixels, *map(number, constants))]
        if not parts.mapping.is_identity:
            statements.append(self._call("unmap_pixels", image, *self._mapping()))
        return statements

    def _draw(self) -> list[str]:
        """Return the statements that draw a code if there is noise."""
        T, z = self._parts.T, self._places["z"]
        return [f"if (noise) z = {self._call('draw_code', z, 'code', 'noise', T)}"]

    def _bound(self) -> list[str]:
        """Return the statements that decode z and return the evidence lower bound."""
        parts, T = self._parts, self._parts.T
        function, *constants = self._likelihood.loss(parts.likelihood)
        arguments = self._places["outputs"], self._pixels(), parts.pixels, *map(number, constants)
        terms = [self._call(function, *arguments), self._call("gaussian_kl", "code", f"code + {T}", T)]
        constant = parts.pixels * self._likelihood.constant(parts.likelihood) + parts.log_unit
        added = "".join(f" - {term.removesuffix(';')}" for term in terms)
        return [self._run("decoder", "z", self._places["outputs"]), f"return {number(-constant)}{added};"]

    def _call(self, function: str, *arguments: object) -> str:
        """Return the call of a function of `kernels.c`."""
        return f"{self._source.use(function)}({', '.join(map(str, arguments))});"


def _function(signature: str, statements: Sequence[str]) -> str:
    return "\n".join([f"{signature} {{", *(f"    {statement}" for statement in statements), "}"])
