"""Count the dimensions of the code that a model with a deep decoder and a large beta uses, with and without remedies.

    python benchmarks/collapse.py MNIST --epochs 10 --seeds 3

A KL divergence that weighs four times as much, and a decoder of four layers, make a model give up dimensions of its
code in the first epochs (Bowman et al. 2016). Warm-up raises beta from 0 over the first half of the training, and free
bits keep it from pulling a dimension below a number of nats. MNIST is a folder with the four files of the data set.
"""

from __future__ import annotations

import argparse

import cvae

T = 20
BATCH = 100
BETA = 4
FREE_BITS = 0.1
_HIDDEN = "FullyConnected(n_out=200, act_fn='ELU')"


def objectives(steps: int) -> dict[str, str]:
    """Return objectives by name; `steps` are those of the whole training."""
    warm_up = f"Linear(end={BETA}, steps={steps // 2})"
    return {
        "neither": f"ELBO(beta={BETA})",
        "warm-up": f"ELBO(beta={warm_up})",
        "free bits": f"ELBO(beta={BETA}, free_bits={FREE_BITS})",
        "both": f"ELBO(beta={warm_up}, free_bits={FREE_BITS})",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder with MNIST's files")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cvae.get_num_threads())
    args = parser.parse_args()
    data = cvae.datasets.load(args.data)
    print(f"beta {BETA}, {T} dimensions, {args.epochs} epochs; active units, and their mean KL divergence in nats")
    for name, objective in objectives(args.epochs * len(data.images) // BATCH).items():
        found = []
        for seed in range(args.seeds):
            vae = cvae.VAE(
                ["Flatten()", _HIDDEN, _HIDDEN],
                [_HIDDEN] * 4,
                objective=objective,
                T=T,
                binarize="dynamic",
                n_epochs=args.epochs,
                batchsize=BATCH,
                n_threads=args.threads,
                random_state=seed,
                verbose=False,
            ).fit(data.images)
            active = int(vae.active_units(data.test_images).sum())
            _, kl = vae.elbo_terms(data.test_images)
            found.append(f"{active} ({kl.mean():.1f})")
        print(f"{name:10} {', '.join(found)}", flush=True)


if __name__ == "__main__":
    main()
