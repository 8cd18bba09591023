"""The ONNX graphs of a model's parts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from cvae.export import onnx_graph
from cvae.export.onnx_graph import Examples, Graph, Term
from cvae.export.onnx_layers import translate
from cvae.export.onnx_likelihoods import LIKELIHOODS
from cvae.export.parts import Parts, translation_of
from cvae.version import __version__


def part_of(parts: Parts, part: str, pixels: str, description: str) -> Any:
    """Return the ``onnx.ModelProto`` of a part, for images of the dtype `pixels`; see `cvae.export.to_onnx`."""
    whole = _Whole(parts, pixels)
    getattr(whole, part)()
    metadata = {"cvae": __version__, "image_shape": json.dumps(parts.image_shape), "T": str(parts.T)}
    if parts.classes is not None:
        metadata["classes"] = json.dumps(parts.classes.tolist())
    proto = whole.graph.model(part, description, metadata)
    onnx_graph.check(proto)
    return proto


class _Whole:
    """The graph of a model, of which each method adds a part with its inputs and outputs."""

    def __init__(self, parts: Parts, pixels: str) -> None:
        self.parts, self.pixels, self.graph = parts, pixels, Graph()
        self.formulas = translation_of(LIKELIHOODS, parts.likelihood, "ONNX", "likelihood")

    def encoder(self) -> None:
        mean, log_var = self._encoded(self._images(), self._labels())
        self.graph.output("mean", mean, (self.parts.T,))
        self.graph.output("log_var", log_var, (self.parts.T,))

    def decoder(self) -> None:
        z = self.graph.input("z", np.float32, (self.parts.T,))
        self._output_images("images", self._decoded(z, self._labels()))

    def reconstruction(self) -> None:
        images, labels = self._images(), self._labels()
        self._output_images("reconstructions", self._decoded(self._encoded(images, labels)[0], labels))

    def score(self) -> None:
        parts, images, labels = self.parts, self._images(), self._labels()
        mean, log_var = self._encoded(images, labels)
        outputs = self._decoded(mean, labels).cast(np.float64)
        x = images.reshape(-1, parts.pixels).cast(np.float64)
        losses = self.formulas.loss(parts.likelihood, outputs, x).sum(1)
        reconstruction = losses + (parts.pixels * self.formulas.constant(parts.likelihood) + parts.log_unit)
        mean, log_var = mean.cast(np.float64), log_var.cast(np.float64)
        kl = ((mean * mean + log_var.exp() - 1 - log_var) * 0.5).sum(1)
        for name, term in (("elbo", -(reconstruction + kl)), ("reconstruction", reconstruction), ("kl", kl)):
            self.graph.output(name, term, ())

    def _images(self) -> Term:
        """Add the images as an input, and return their mapped pixels (n, rows, cols, channels)."""
        parts, mapping = self.parts, self.parts.mapping
        x = self.graph.input("images", self.pixels, parts.image_shape)
        if self.pixels == "uint8" and mapping.divides_bytes:
            x = x.cast(np.float32) / 255
        if not mapping.is_identity:
            x = (x.cast(np.float64) - mapping.offset) / mapping.scale
        x = x.cast(np.float32)
        if parts.threshold is not None:
            x = (self.graph.constant(parts.threshold, np.float64) < x.cast(np.float64)).cast(np.float32)
        return x

    def _labels(self) -> Term | None:
        """Add the labels as an input, and return the numbers that layers read (n, L)."""
        parts = self.parts
        if parts.classes is not None:
            one_hot = self.graph.constant(np.eye(parts.n_labels), np.float32)
            labels = self.graph.input("labels", np.int64, ())
            # Gather would count negative ones from the end, and fails beyond it.
            beyond = self.graph.constant(parts.n_labels, np.int64)
            return one_hot.node("Gather", (labels < 0).choose(beyond, labels))
        return self.graph.input("labels", np.float32, (parts.n_labels,)) if parts.n_labels else None

    def _encoded(self, images: Term, labels: Term | None) -> tuple[Term, Term]:
        T = self.parts.T
        code = translate(self.parts.encoder, Examples(images, self.parts.image_shape), labels).term
        return code.columns(0, T), code.columns(T, 2 * T)

    def _decoded(self, z: Term, labels: Term | None) -> Term:
        """Return the outputs that the likelihood takes, (n, their number)."""
        outputs = translate(self.parts.decoder, Examples(z, (self.parts.T,)), labels)
        return outputs.channels_last().term.node("Flatten", axis=1)

    def _output_images(self, name: str, outputs: Term) -> None:
        """Add the mean images of outputs, in the units of the model's images, as an output."""
        mapping, image_shape = self.parts.mapping, self.parts.image_shape
        images = self.formulas.mean(self.parts.likelihood, outputs.cast(np.float64)).reshape(-1, *image_shape)
        if not mapping.is_identity:
            images = images * mapping.scale + mapping.offset
        self.graph.output(name, images.cast(np.float32), image_shape)
