"""numpy-ml's derived variables of a whole model: what training does not keep, computed when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy.typing as npt

from cvae.assembly import Layers
from cvae.passes import Passes

Array = npt.NDArray[Any]


class Derived(Mapping[str, Any]):
    """Values by name; those that are not known yet are computed together, when one of them is first asked for.

    Parameters
    ----------
    names : sequence of str
        All names. What is neither known nor computed is None.
    known : dict
        Values by name.
    components : callable
        Returns the derived variables of all layers, the value of "components".
    """

    def __init__(self, names: list[str], known: dict[str, Any], components: Callable[[], dict[str, Any]]) -> None:
        self._names, self._known, self._components = [*names, "components"], known, components
        self._compute: Callable[[], dict[str, Any]] | None = None

    def compute_with(self, compute: Callable[[], dict[str, Any]]) -> None:
        """Have `compute` return further values by name, when one is asked for."""
        self._compute = compute

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name == "components":
            return self._components()
        if name not in self._known and self._compute is not None:
            compute, self._compute = self._compute, None
            self._known |= compute()
        return self._known.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def settle(self) -> None:
        """Compute nothing any more: the parameters are about to change."""
        self._compute = None


def derived_names(encoder: Layers, decoder: Layers) -> list[str]:
    """Return numpy-ml's names: dEncoder_X_out is the gradient with respect to the output of layer X."""
    first, *_ = decoder
    return [
        "noise", "t_mean", "t_log_var",
        f"dDecoder_{first}_in", "dDecoder_t_mean", "dDecoder_t_log_var",
        *(f"dDecoder_{name}_out" for name in list(decoder)[:-1]),
        *(f"dEncoder_{name}_out" for name in encoder),
    ]  # fmt: skip


def run_one_by_one(layers: Layers, X: Array) -> None:
    """Run layers forward, each by itself, so that each retains what numpy-ml's retains."""
    for layer in layers.values():
        X = layer.forward(X)


def output_gradients(
    passes: Passes, encoder: Layers, decoder: Layers, target: Array, noise: Array, deviation: Array
) -> dict[str, Array]:
    """Return the gradients with respect to the layers' outputs, under numpy-ml's names.

    The layers, which have retained one forward pass, run one by one, so that values are those of `passes` up to
    rounding. `target`, `noise` and `deviation` are those of that pass.
    """
    derived, dz = _backward(decoder, passes.output_gradient(target), "dDecoder_{}_out")
    derived.pop(f"dDecoder_{next(reversed(decoder))}_out")
    derived[f"dDecoder_{next(iter(decoder))}_in"] = dz
    # Through the decoder alone, without the direct gradients of the KL divergence.
    by_code = len(target), passes.codes, passes.T
    derived["dDecoder_t_mean"] = dz.reshape(by_code).sum(1)
    derived["dDecoder_t_log_var"] = 0.5 * (dz * noise).reshape(by_code).sum(1) * deviation
    return derived | _backward(encoder, passes.code_gradient(dz), "dEncoder_{}_out")[0]


def _backward(layers: Layers, grad: Array, name_format: str) -> tuple[dict[str, Array], Array]:
    """Run layers backward; returns the gradient of each one's output, and that of the first one's input.

    The last layer's is with respect to its pre-activation.
    """
    gradients = {}
    for name, layer in reversed(layers.items()):
        gradients[name_format.format(name)] = grad
        is_last = name == next(reversed(layers))
        # Sharing the list of what is retained, too.
        each = (layer.without_activation() if is_last else None) or layer
        grad = each.backward(grad.reshape(each.output_shape(each.X[0].shape)), retain_grads=False)
    return gradients, grad
