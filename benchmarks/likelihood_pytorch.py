"""Training of one row of benchmarks/likelihood.py by PyTorch, in a process of its own.

The network, the starting weights' distribution, Adam and its schedule, the batches and the number of threads are those
of the row. The fastest of PyTorch's implementations of Adam is used, and `torch.compile` if it trains faster.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from likelihood_rows import DENSE, ROWS, Row
from likelihood_training import WAY_IMAGES, WAY_SAMPLES, way_points
from peers import KEEP_MEMORY
from torch import Tensor, nn

import cvae

EVALUATED = 100  # images whose codes are decoded at once


class Autoencoder(nn.Module):
    """The networks of a row."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        make = dense if row.layers == DENSE else deconvolutional
        self.encoder, self.decoder = make(row.T)
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def log_weights(self, x: Tensor, codes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return log p(x | z), its sum with log p(z) - log q(z | x), both (n, codes), and the KL divergence (n,)."""
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn(len(x), codes, mean.shape[1])
        z = mean[:, None] + noise * torch.exp(0.5 * log_var)[:, None]
        logits = self.decoder(z.flatten(0, 1)).flatten(1)
        targets = x.flatten(1).repeat_interleave(codes, 0) if codes > 1 else x.flatten(1)
        likelihood = -F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).view(-1, codes)
        prior_to_posterior = 0.5 * (noise.square() - z.square() + log_var[:, None]).sum(2)
        kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1)
        return likelihood, likelihood + prior_to_posterior, kl

    def loss(self, x: Tensor, codes: int, importance_weighted: bool) -> Tensor:
        likelihood, weights, kl = self.log_weights(x, codes)
        if importance_weighted:
            return (math.log(codes) - torch.logsumexp(weights, 1)).mean()
        return (kl - likelihood.mean(1)).mean()

    def log_likelihood(self, x: Tensor, samples: int) -> float:
        with torch.inference_mode():
            parts = [self.log_weights(part, samples)[1] for part in x.split(EVALUATED)]
            return float(torch.cat([torch.logsumexp(part, 1) - math.log(samples) for part in parts]).mean())


def dense(T: int) -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 2 * T)
    )
    return encoder, nn.Sequential(nn.Linear(T, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784))


def deconvolutional(T: int) -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1), nn.ELU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ELU(),
        nn.Flatten(), nn.Linear(3136, 256), nn.ELU(), nn.Linear(256, 2 * T),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(T, 256), nn.ELU(), nn.Linear(256, 3136), nn.ELU(), nn.Unflatten(1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ELU(), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ELU(),
        nn.ConvTranspose2d(16, 1, 3, 1, 1),
    )  # fmt: skip
    return encoder, decoder


class Training:
    """Training steps of a row."""

    def __init__(self, row: Row, steps: int, seed: int, images: Tensor, compiled: bool) -> None:
        torch.manual_seed(seed)
        self.row, self.images, self.model = row, images, Autoencoder(row)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=row.lr, eps=1e-7, fused=True)
        warm_up = min(1000, steps // 20)

        def factor(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            falling = (1 + math.cos(math.pi * min(1.0, (step - warm_up) / (steps - warm_up)))) / 2
            return row.final_lr / row.lr + (1 - row.final_lr / row.lr) * falling

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.loss: Callable[..., Tensor] = self.model.loss
        if compiled:
            self.loss = torch.compile(self.model.loss)

    def epoch(self, n: int | None = None) -> None:
        for indices in torch.randperm(len(self.images) if n is None else n).split(self.row.batchsize):
            x = torch.bernoulli(self.images[indices].float().div_(255))
            self.optimizer.zero_grad(set_to_none=True)
            self.loss(x, self.row.codes, self.row.objective.startswith("IWAE")).backward()
            self.optimizer.step()
            self.schedule.step()

    def images_per_second(self, seconds: float = 5.0) -> float:
        n = 20 * self.row.batchsize
        self.epoch(n)
        started, seen = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            self.epoch(n)
            seen += n
        return seen / (time.perf_counter() - started)


def as_tensor(images: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("data")
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, required=True, help="of training, to which the schedule is fitted")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data, row = cvae.datasets.load(args.data), ROWS[args.row]
    images, test = as_tensor(data.images), as_tensor(data.test_images[:WAY_IMAGES]).float() / 255
    rates = {compiled: Training(row, 10_000, 0, images, compiled).images_per_second() for compiled in (False, True)}
    compiled = rates[True] > rates[False]
    epochs = max(1, int(args.seconds * rates[compiled] / len(images)))
    training = Training(row, epochs * math.ceil(len(images) / row.batchsize), args.seed, images, compiled)
    points, seconds, curve = set(way_points(epochs)), 0.0, []
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        training.epoch()
        seconds += time.perf_counter() - started
        if epoch in points:
            torch.manual_seed(args.seed + epoch)
            curve.append((epoch, seconds, -training.model.log_likelihood(torch.bernoulli(test), WAY_SAMPLES)))
            print(f"pytorch {args.row}: epoch {epoch}/{epochs}, {seconds:.0f} s, NLL {curve[-1][2]:.2f}", flush=True)
            result = {"curve": curve, "images_per_second": rates[compiled], "compiled": compiled, "epochs": epochs}
            args.output.write_text(json.dumps(result | {"version": torch.__version__}))


if __name__ == "__main__":
    for name, value in KEEP_MEMORY.items():
        if os.environ.get(name) != value:
            raise SystemExit(f"{name}={value} must be set: likelihood.py starts this file with it")
    main()
