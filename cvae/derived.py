"""numpy-ml's derived variables of a whole model: values that training does not keep, computed on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy.typing as npt

from cvae.nn.sequence import Layers
from cvae.passes import Passes

Array = npt.NDArray[Any]


class Values:
    """What is known of a pass, and the arguments of what computes the rest.

    Parameters
    ----------
    known : dict
        Values by name.

    Attributes
    ----------
    inputs : tuple or None
        None if nothing can be computed: there was no backward pass, its values are known, or parameters have changed.
    """

    def __init__(self, known: dict[str, Any]) -> None:
        self.known = known
        self.inputs: tuple[Array, Array] | None = None


class Derived(Mapping[str, Any]):
    """Values by name; those not known yet are computed together when one of them is first requested.

    Parameters
    ----------
    names : list of str
        All names but "components". A value that is neither known nor computed is None.
    values : Values
    components : callable
        Returns the value of "components", the derived variables of all layers.
    compute : callable
        Returns values by name, given `values.inputs`.
    """

    def __init__(
        self,
        names: list[str],
        values: Values,
        components: Callable[[], dict[str, Any]],
        compute: Callable[[Array, Array], dict[str, Array]],
    ) -> None:
        self._names, self._values, self._components, self._compute = [*names, "components"], values, components, compute

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name == "components":
            return self._components()
        values = self._values
        if name not in values.known and values.inputs is not None:
            inputs, values.inputs = values.inputs, None
            values.known |= self._compute(*inputs)
        return values.known.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def derived_names(encoder: Layers, decoder: Layers) -> list[str]:
    """Return numpy-ml's names; dEncoder_X_out is the gradient with respect to the output of layer X."""
    return [
        "noise", "t_mean", "t_log_var",
        *(f"dDecoder_{name}_in" for name in list(decoder)[:1]), "dDecoder_t_mean", "dDecoder_t_log_var",
        *(f"dDecoder_{name}_out" for name in list(decoder)[:-1]),
        *(f"dEncoder_{name}_out" for name in encoder),
    ]  # fmt: skip


def run_one_by_one(layers: Layers, X: Array, labels: Array) -> None:
    """Run the layers forward one at a time, so that each retains what numpy-ml's layer would."""
    for layer in layers.values():
        X = layer.reading(labels).forward(X)


def output_gradients(
    passes: Passes, encoder: Layers, decoder: Layers, target: Array, noise: Array, deviation: Array
) -> dict[str, Array]:
    """Return the gradients with respect to the layers' outputs, under numpy-ml's names.

    The layers, each with one retained forward pass, run one at a time, so the values equal those of `passes` up to
    rounding. `target`, `noise` and `deviation` are those of that pass.
    """
    derived, dz = _backward(decoder, passes.output_gradient(target), "dDecoder_{}_out")
    derived.pop(f"dDecoder_{next(reversed(decoder))}_out")
    derived[f"dDecoder_{next(iter(decoder))}_in"] = dz
    # Only what came through the decoder, without the gradients of the KL divergence.
    by_code = len(target), passes.codes, passes.T
    derived["dDecoder_t_mean"] = dz.reshape(by_code).sum(1)
    derived["dDecoder_t_log_var"] = 0.5 * (dz * noise).reshape(by_code).sum(1) * deviation
    return derived | _backward(encoder, passes.code_gradient(dz), "dEncoder_{}_out")[0]


def _backward(layers: Layers, grad: Array, name_format: str) -> tuple[dict[str, Array], Array]:
    """Run the layers backward and return the gradients of their outputs and of the first one's input.

    `grad` is with respect to the pre-activation of the last layer.
    """
    gradients: dict[str, Array] = {}
    for name, layer in reversed(layers.items()):
        is_last = not gradients
        gradients[name_format.format(name)] = grad
        # The copy without activation shares the retained passes.
        layer = (layer.without_activation() if is_last else None) or layer
        grad = layer.backward(grad.reshape(layer.output_shape(layer.X[0].shape)), retain_grads=False)
    return gradients, grad
