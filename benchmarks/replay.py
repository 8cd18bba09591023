"""Training steps replayed on any number of threads and MPI ranks, from the times of their pieces on one thread."""

import heapq
import math
from dataclasses import dataclass

from stages import Stage, Step

SUMMED = 1e10  # bytes of gradients that a rank adds up in a second


@dataclass(frozen=True)
class Network:
    """What connects the ranks: the seconds of a message of no bytes, and bytes a second."""

    name: str
    latency: float
    bandwidth: float


NETWORKS = [
    Network("10 Gb/s Ethernet", 30e-6, 10e9 / 8),
    Network("25 Gb/s Ethernet", 20e-6, 25e9 / 8),
    Network("100 Gb/s InfiniBand", 2e-6, 100e9 / 8),
    Network("one machine", 1e-6, 8e9),
]


def region_cost(region: float, n_threads: int) -> float:
    """Return what it costs to share a stage, given that cost for two threads: it grows with their logarithm."""
    return region * math.log2(n_threads) if n_threads > 1 else 0.0


def stage_seconds(stage: Stage, n_threads: int, region: float) -> float:
    """Return the seconds of a stage: threads work off their own shares, then take pieces of others (program.pyx)."""
    pieces, prepare = stage.pieces[n_threads].tolist(), stage.prepare[n_threads]
    count = len(pieces)
    if n_threads == 1 or stage.alone or count <= 1:
        return prepare + sum(pieces)
    cost = region_cost(region, n_threads)
    if stage.shares:
        return cost + max(pieces)
    nexts = [i * count // n_threads for i in range(n_threads)]
    ends = [*nexts[1:], count]
    last = 0.0
    working = [(0.0, i, i, True) for i in range(n_threads)]  # free at, thread, whose share, whether it still prepares
    while working:
        at, thread, share, prepares = heapq.heappop(working)
        turns = 0
        while nexts[share] == ends[share] and turns < n_threads:
            share, turns = (share + 1) % n_threads, turns + 1
        if turns == n_threads:
            last = max(last, at)
            continue
        piece = nexts[share]
        nexts[share] += 1
        took = pieces[piece] + (prepare if prepares else 0.0)
        heapq.heappush(working, (at + took, thread, share, False))
    return cost + last


def step_seconds(step: Step, n_threads: int, region: float) -> float:
    """Return the seconds of a step."""
    return step.outside + sum(stage_seconds(stage, n_threads, region) for stage in step.stages)


def efficiency(step: Step, n_threads: int, region: float) -> float:
    """Return the speed-up divided by the number of threads."""
    return step_seconds(step, 1, region) / (n_threads * step_seconds(step, n_threads, region))


def losses(step: Step, n_threads: int, region: float) -> list[tuple[str, float]]:
    """Return what keeps the step from being n_threads times as fast, the greatest first, as shares of its time."""
    whole = step_seconds(step, n_threads, region)
    found = [("Python and random numbers", step.outside * (1 - 1 / n_threads) / whole)]
    for stage in step.stages:
        ideal = stage_seconds(stage, 1, region) / n_threads
        found.append((stage.name, (stage_seconds(stage, n_threads, region) - ideal) / whole))
    return sorted(found, key=lambda each: -each[1])


def reduction_seconds(nbytes: float, ranks: int, network: Network) -> float:
    """Return the seconds in which all ranks get the sum of their gradients: halves sent, summed, and sent back.

    Rabenseifner 2004, "Optimization of collective reduction operations", which MPI libraries use for long messages.
    """
    if ranks == 1:
        return 0.0
    part = nbytes * (ranks - 1) / ranks
    return 2 * math.ceil(math.log2(ranks)) * network.latency + 2 * part / network.bandwidth + part / SUMMED


def rank_seconds(
    step: Step, n_threads: int, region: float, ranks: int, network: Network, *, overlaps: bool = False
) -> float:
    """Return the seconds of a step of which each rank has a batch, in phase.

    The gradients are summed after the backward pass or, if it `overlaps`, those of a layer as soon as they are known.
    """
    whole = step_seconds(step, n_threads, region)
    if not overlaps:
        return whole + reduction_seconds(sum(step.gradients.values()), ranks, network)
    known, at = {}, step.outside
    for stage in step.stages:
        at += stage_seconds(stage, n_threads, region)
        if stage.descends and stage.layer:
            known[stage.layer] = at
    free = 0.0
    for layer, begin in sorted(known.items(), key=lambda each: each[1]):
        free = max(free, begin) + reduction_seconds(step.gradients[layer], ranks, network)
    return max(whole, free)
