"""How much longer a training step takes where weights, images or optimizers' states are denormal numbers.

    python benchmarks/denormals.py

prints the time of an epoch and, for each kind, the ratio of the smallest of five times to that with ordinary numbers,
taken in turn. A learning rate of 0 keeps the weights as they are.
"""

import time

import numpy as np

import cvae
from cvae._kernels import dispatch

DENORMAL = {"float32": 1e-40, "float64": 1e-310}
RNG = np.random.default_rng(0)
X = RNG.random((256, 28, 28, 1))


def model(dtype: str, optimizer: str, kind: str) -> cvae.BernoulliVAE:
    """Return a trained model, some of whose numbers are denormal."""
    vae = cvae.BernoulliVAE(
        T=5, latent_dim=64, enc_conv1_out_ch=16, enc_conv2_out_ch=16, dtype=dtype, optimizer=optimizer, batchsize=64,
        random_state=0, n_epochs=1, verbose=False, n_threads=1,
    ).fit(X)  # fmt: skip
    for layer in [*vae.encoder.values(), *vae.decoder.values()]:
        arrays = list(layer.parameters.values()) if kind == "weights" else []
        for cache in layer.optimizer.cache.values() if kind == "states" else ():
            arrays += list(cache.values()) if isinstance(cache, dict) else [cache]
        for array in arrays:
            if isinstance(array, np.ndarray):
                array[...] = DENORMAL[dtype] * RNG.random(array.shape)
    return vae


def main() -> None:
    kinds = ("ordinary", "weights", "images", "states")
    for dtype, denormal in DENORMAL.items():
        for optimizer in ("SGD(lr=0, momentum=0.9)", "RMSProp(lr=0)", "Adam(lr=0)"):
            models = {kind: model(dtype, optimizer, kind) for kind in kinds}
            times: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(5):
                for kind, vae in models.items():
                    images = X * denormal if kind == "images" else X
                    start = time.perf_counter()
                    vae.partial_fit(images)
                    times[kind].append(time.perf_counter() - start)
            least = min(times["ordinary"])
            ratios = ", ".join(f"{kind} {min(times[kind]) / least:.2f}" for kind in kinds[1:])
            print(f"{dispatch.instruction_set()} {dtype} {optimizer}: {1000 * least:.0f} ms; {ratios}", flush=True)


if __name__ == "__main__":
    main()
