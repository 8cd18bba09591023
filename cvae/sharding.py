"""Training steps whose batches are taken in parts, on any number of processes, with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import elementwise
from cvae._kernels.program import Program
from cvae.checking import check_size
from cvae.engine.tree import Plan, total
from cvae.optim.updates import Optimized, Updates
from cvae.reduction import Reduction
from cvae.runtime.programs import execute
from cvae.runtime.workspace import empty
from cvae.steps import Steps
from cvae.team import Team

Array = npt.NDArray[Any]

N_SHARDS = 8  # parts of a batch where processes train together and nobody asks for another number
_STRETCH = 1 << 16  # elements, at least, that travel together while the backward pass goes on
_MAX_PROGRAMS = 256  # kept for different parts and sizes of them


@dataclass(frozen=True)
class Sharding:
    """How batches are taken in parts.

    Attributes
    ----------
    n_shards : int
        Parts of a batch. The gradient of each is computed for itself; they are added up in a fixed order.
    accumulate : int
        Batches that go into a step.
    team : Team or None
        The processes that share the parts.
    """

    n_shards: int
    accumulate: int = 1
    team: Team | None = None

    @property
    def n_parts(self) -> int:
        """Parts of all batches of a step."""
        return self.n_shards * self.accumulate

    def largest_part(self, n: int) -> int:
        """Return how many of the n images of a step are in memory together."""
        return -(-n // self.n_parts)


def resolve_sharding(team: Team | None, n_shards: Any, accumulate: Any, interrupted: Sequence[int]) -> Sharding | None:
    """Return how a call of `fit` takes its batches in parts; None if it takes them whole.

    Parameters
    ----------
    team : Team or None
    n_shards, accumulate
        The arguments of `fit`, None by default.
    interrupted : sequence of int
        Those of a training that goes on, if it took batches in parts.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or there are more processes than parts.
    """
    if n_shards is None and accumulate is None:
        if not interrupted and team is None:
            return None
        n_shards, accumulate = interrupted or (None, None)
    if n_shards is None:
        n_shards = 1 if team is None else N_SHARDS
    n_shards = check_size("n_shards", n_shards)
    if n_shards & (n_shards - 1):
        raise ValueError(f"n_shards must be a power of 2, got {n_shards}")
    if team is not None and team.size > n_shards:
        raise ValueError(f"n_shards must be at least the number of processes, {team.size}, got {n_shards}")
    return Sharding(n_shards, check_size("accumulate", 1 if accumulate is None else accumulate), team)


class _Gradients(Updates):
    """In the place of the optimizers' steps: adds the gradients of a part of a batch to those of parts before it.

    Parameters
    ----------
    layers : sequence of layers
        Those that are trained.
    """

    def __init__(self, layers: Sequence[Optimized]) -> None:
        super().__init__()
        self._ranges: dict[tuple[int, str], slice] = {}
        self.arrays: list[tuple[Array, slice]] = []
        size = 0
        for layer in layers:
            for name, gradient in layer.gradients.items():
                if layer.parameters.get(name) is not None:
                    self._ranges[id(layer.parameters), name] = place = slice(size, size + gradient.size)
                    self.arrays.append((gradient, place))
                    size += gradient.size
        self.size = size
        self.sums: list[Array] = []  # one for each place of a plan
        self._added: list[Array] = []
        self._result: Array | None = None
        self._share, self._known = 1.0, 0
        self._advance: Callable[[int], None] | None = None

    def ends(self, least: int) -> list[int]:
        """Return where stretches of whole arrays end, of at least so many elements but for the last one."""
        ends = [0]
        for _, place in self.arrays:
            if place.stop - ends[-1] >= least or place.stop == self.size:
                ends.append(place.stop)
        return ends[1:]

    def begin(
        self, share: float, added: Iterable[int], place: int | None, advance: Callable[[int], None] | None
    ) -> None:
        """Have the next recording multiply gradients by `share`, add sums to them and leave them at a place.

        Without a place they stay in the layers' `gradients`. `advance`, if given, is called after each layer with the
        number of elements that are known.
        """
        self._share, self._added = share, [self.sums[i] for i in added]
        self._result = None if place is None else self.sums[place]
        self._advance, self._known = advance, 0

    def record(self, program: Program, layer: Optimized, names: Sequence[str] | None = None) -> None:
        """Record what becomes of a layer's gradients."""
        for name in layer.gradients if names is None else names:
            if layer.parameters.get(name) is None:
                continue
            place, gradient = self._ranges[id(layer.parameters), name], layer.gradients[name].reshape(-1)
            if self._share != 1:
                elementwise.scale(program, gradient, gradient, self._share)
            for sums in self._added:
                elementwise.add(program, gradient, sums[place], gradient, relu=False)
            if self._result is not None:
                elementwise.copy(program, self._result[place], gradient)
            if place.start == self._known:  # as it is where layers come in the order of their backward passes
                self._known = place.stop
        if self._advance is not None:
            program.call(self._advance, self._known)

    def of(self, layer: Optimized, name: str) -> None:
        """Return None, for whole gradients are needed."""

    def put(self, values: Array) -> None:
        """Write values of all parameters, shape (size,), to the layers' `gradients`."""
        for gradient, place in self.arrays:
            gradient.reshape(-1)[:] = values[place]


@dataclass(frozen=True)
class _Division:
    """Who does what of a step of so many parts.

    Attributes
    ----------
    n_parts : int
    plans : sequence of Plan
        Those of all processes.
    plan : Plan
        That of this one.
    sums : list of arrays
        Where the sums of the nodes are that this process has in the end.
    reduction : Reduction or None
        Adds up those of all processes, if there are several.
    """

    n_parts: int
    plans: Sequence[Plan]
    plan: Plan
    sums: list[Array]
    reduction: Reduction | None

    @property
    def ends_in_gradients(self) -> bool:
        """Whether the last part leaves the sum of all in the layers' `gradients`."""
        return self.reduction is None and len(self.sums) == 1


class ShardedSteps:
    """The training steps of an epoch, each the sum of its parts.

    Part s of a step has noise of its own, drawn by a Philox generator with the key (number of the step, s), where the
    number is one of the model's generator.

    Parameters
    ----------
    steps : Steps
    sharding : Sharding
    layers : sequence of layers
        All layers that are trained, from the last to the first.
    parts : sequence of layers
        The same with those inside of them.
    """

    loss = 0.0  # per image, of the last step

    @property
    def images(self) -> Any:
        """The images that batches are taken from."""
        return self._steps.images

    def __init__(self, steps: Steps, sharding: Sharding, layers: Sequence[Any], parts: Sequence[Any]) -> None:
        self._steps, self._sharding, self._layers = steps, sharding, layers
        self._statistics = [array for layer in parts if layer.trainable for array in layer.batch_statistics()]
        self._gradients, self._updates = _Gradients(layers), Updates()
        self._programs: dict[tuple[int, int], Program] = {}
        self._divisions: dict[int, _Division] = {}  # by the number of parts, which a small batch has fewer of

    def take(self, indices: Array) -> list[float] | None:
        """Take a step and return the objective's terms before it, summed over the batch.

        Return None without a step if the loss is not finite.
        """
        n, team, objective = len(indices), self._sharding.team, self._steps.objective
        division = self._division(min(self._sharding.n_parts, n))
        n_parts, plans, reduction = division.n_parts, division.plans, division.reduction
        key, error = self._steps.draw(), None
        width = len(objective.terms) + sum(array.size for array in self._statistics)
        rows = np.zeros((len(division.plan.steps), width))
        if reduction is not None:
            reduction.begin()
        self._steps.exchange([indices[slice(*_rows(n, n_parts, each))] for each in plans])
        try:
            for i in range(len(rows)):
                rows[i] = self._part(indices, division, i, key)
        except BaseException as caught:
            if team is None:
                raise
            error = caught
        if reduction is not None:  # also after an error: what others have begun must come to an end
            gradients = reduction.finish(division.sums)
        if team is not None:
            team.agree(error)
            rows = team.all_rows(rows, [len(each.steps) for each in plans])
        sums = total({(0, part): row for part, row in enumerate(rows)}, n_parts, np.add)
        terms: list[float] = sums[: len(objective.terms)].tolist()
        self.loss = objective.loss(terms) / n
        if not self.loss < self._steps.limit:
            return None
        if reduction is not None:
            self._gradients.put(gradients)
        elif not division.ends_in_gradients:
            own = dict(zip(division.plan.places, division.sums, strict=True))
            self._gradients.put(total(own, n_parts, lambda left, right: np.add(left, right, out=left)))
        end = len(terms)
        for array in self._statistics:
            array.reshape(-1)[:] = sums[end : end + array.size]
            end += array.size
        self._updates.apply(self._layers, self.loss, self._steps.norm_limit)
        self._steps.passes.clock.steps += 1
        return terms

    def _division(self, n_parts: int) -> _Division:
        """Return who does what: each process takes the same parts of each batch, of which a small one has fewer."""
        if n_parts not in self._divisions:
            n, team, dtype = self._sharding.n_parts, self._sharding.team, self._steps.passes.images.dtype
            of_all = [range(n)] if team is None else [team.leaves(n, rank) for rank in range(team.size)]
            plans = [Plan.of(min(each.start, n_parts), min(each.stop, n_parts)) for each in of_all]
            plan, reduction = plans[0 if team is None else team.rank], None
            if team is not None and team.size > 1:
                nodes = [[*each.places] for each in plans]
                reduction = team.reduction(nodes, n_parts, self._gradients.ends(_STRETCH), dtype)
            places = self._gradients.sums
            while len(places) < plan.n_places:
                places.append(empty((self._gradients.size,), dtype))
            sums = [places[place] for place in plan.places.values()]
            self._divisions[n_parts] = _Division(n_parts, plans, plan, sums, reduction)
        return self._divisions[n_parts]

    def _part(self, indices: Array, division: _Division, i: int, key: int) -> Array:
        """Compute the gradients of the i-th part of this process; return its terms and weighted statistics."""
        n, n_parts, plan, reduction = len(indices), division.n_parts, division.plan, division.reduction
        part = plan.first + i
        rows = indices[_start(n, n_parts, part) : _start(n, n_parts, part + 1)]
        self._steps.load(rows, np.random.Generator(np.random.Philox(key=[key, part])))
        terms, share = self._steps.loss_of(rows), len(rows) / n
        if (n, part) not in self._programs:
            if len(self._programs) >= _MAX_PROGRAMS:
                self._programs.clear()
            step, is_last = plan.steps[i], i == len(plan.steps) - 1
            place = None if is_last and division.ends_in_gradients else step.place
            advance = partial(reduction.advance, division.sums) if is_last and reduction is not None else None
            self._gradients.begin(share, step.added, place, advance)
            self._programs[n, part] = self._steps.passes.backward_into(len(rows), self._gradients)
        execute(self._programs[n, part])
        return np.concatenate([terms, *(share * np.float64(array.reshape(-1)) for array in self._statistics)])


def _start(n: int, n_parts: int, part: int) -> int:
    """Return where a part of n images begins; the first parts are larger by one if n is no multiple."""
    size, larger = divmod(n, n_parts)
    return part * size + min(part, larger)


def _rows(n: int, n_parts: int, plan: Plan) -> tuple[int, int]:
    """Return where the images of a process begin and end."""
    return _start(n, n_parts, plan.first), _start(n, n_parts, plan.first + len(plan.steps))
