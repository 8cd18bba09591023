"""What the processes of `test_processes.py` run: a function by its name. The first process prints its result."""

import hashlib
import json
import os
import signal
import sys
import time

import numpy as np
from mpi4py import MPI

import cvae
from cvae.callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau

WORLD = MPI.COMM_WORLD
DIGITS = cvae.datasets.load("mnist-sample")
X, Y = DIGITS.images[:90], DIGITS.labels[:90]  # a last batch of 10 with batches of 40, fewer than 4 * 8 parts
DENSE = {"encoder": ["Flatten()", "FullyConnected(n_out=16, act_fn='Tanh')"], "decoder": ["FullyConnected(n_out=16)"]}
BATCHES = {"encoder": ["Conv2D(out_ch=4, kernel_shape=3, stride=2)", "BatchNorm2D(act_fn='ReLU')", "Flatten()"]}
MODELS = {
    "default": (cvae.BernoulliVAE, {}),
    "auto": (cvae.VAE, {"T": 4}),
    "conditional": (cvae.VAE, {**DENSE, "condition": "classes", "binarize": "dynamic"}),
    "double": (cvae.VAE, {**DENSE, "dtype": "float64", "objective": "IWAE(k=3)", "optimizer": "Adam(clip_norm=0.1)"}),
    "statistics": (cvae.VAE, {**BATCHES, "decoder": DENSE["decoder"], "likelihood": "Gaussian(scale='optimal')"}),
}


def made(name, **changes):
    cls, arguments = MODELS[name]
    return cls(**{"T": 3, "random_state": 0, "verbose": False, "n_epochs": 2, "batchsize": 40, **arguments, **changes})


def fingerprint(vae):
    """Return a hash of all parameters, optimizer states and losses."""
    digest = hashlib.sha256(json.dumps(vae.history_["loss"]).encode())
    for layer in vae._parts():
        optimizer = layer.optimizer
        arrays = [*layer.parameters.values(), *(array for name in optimizer.cache for array in optimizer.states(name))]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def answer(value):
    if WORLD.rank == 0:
        print(json.dumps(value), flush=True)


def labels_of(name):
    return Y if name == "conditional" else None


def same_bits():
    """Print the fingerprints that all models have in all processes."""
    found = {}
    for name in MODELS:
        everywhere = WORLD.allgather(fingerprint(made(name).fit(X, labels_of(name), comm=WORLD)))
        assert len(set(everywhere)) == 1, name
        found[name] = everywhere[0]
    answer(found)


def parts():
    """Train on parts of the images, of very different sizes."""
    ends = np.linspace(0, 1, WORLD.size + 1) ** 2 * 90
    mine = slice(*ends.astype(int)[WORLD.rank : WORLD.rank + 2])
    vae = made("conditional", likelihood="Gaussian", binarize=None)
    weights = np.arange(1.0, 91.0)
    vae.fit(X[mine], Y[mine], sample_weight=weights[mine], comm=WORLD, parts=True)
    answer(fingerprint(vae))


def accumulate():
    answer(fingerprint(made("auto", batchsize=20).fit(X, comm=WORLD, n_shards=4, accumulate=2)))


def callbacks():
    """Have callbacks of the first process change the model: all processes have it afterwards."""
    seen = []
    vae = made("auto", n_epochs=6)
    stopping = [
        EarlyStopping(patience=3, min_delta=1e6, restore_best=True),
        ReduceLROnPlateau(patience=1, min_delta=1e6),
    ]
    count = [lambda vae, epoch, entry: seen.append(epoch)]
    vae.fit(X[:60], validation_data=X[60:], callbacks=stopping + count, comm=WORLD)
    everywhere = WORLD.allgather((fingerprint(vae), vae.history_["val_loss"], vae._parts()[0].optimizer.lr))
    called = WORLD.allgather(len(seen))
    same, epochs = all(each == everywhere[0] for each in everywhere), len(vae.history_["loss"])
    answer({"same": same, "called": called, "epochs": epochs, "lr": everywhere[0][2]})


def seedless():
    """Without a seed the first process's model counts."""
    vae = made("auto", random_state=None).fit(X, comm=WORLD)
    answer(len(set(WORLD.allgather(fingerprint(vae)))))


def interrupted(path):
    """End in the second epoch, in the last process, at which all stop, and save where training stands."""
    vae = made("auto")

    class Signal(cvae.callbacks.Callback):
        def on_batch_begin(self, vae, batch):
            if batch == 2 and len(vae.history_.get("loss", ())) == 1:
                os.kill(others[-1], signal.SIGINT)
                time.sleep(0.2)

    others = WORLD.allgather(os.getpid())
    try:
        vae.fit(X, comm=WORLD, callbacks=[Signal()])
    except KeyboardInterrupt:
        if WORLD.rank == 0:
            vae.save(path)
    assert all(WORLD.allgather(len(vae.history_["loss"]) == 1))
    answer(vae._position.batches)


def resumed(path):
    vae = cvae.load(path)
    answer(
        fingerprint(
            vae.partial_fit(X) if WORLD.size == 1 else vae._fit(X, None, {}, anew=False, n_epochs=1, comm=WORLD)
        )
    )


def failing(where):
    """Fail in one process; print what each process gets."""
    vae, images = made("auto"), X

    class Failing(cvae.callbacks.Callback):
        def on_batch_end(self, vae, batch, loss):
            if batch == 2:
                raise OSError("the disk is full")

    watch = [Failing()] if where == "callback" else []
    if WORLD.rank == WORLD.size - 1:
        if where == "argument":
            vae.batchsize = -1
        elif where == "data":
            images = X[:80]
        elif where == "step":
            load = cvae.steps.Steps.load

            def failing(self, indices, rng):
                if len(vae.history_.get("loss", ())) == 1:
                    raise MemoryError("no memory left")
                load(self, indices, rng)

            cvae.steps.Steps.load = failing
    if where == "loss":
        vae.lr, vae.optimizer = 1e30, "SGD"
    try:
        vae.fit(images, comm=WORLD, callbacks=watch)
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
    answer(WORLD.gather(got))


def checkpoints(path, fails_in="-1", after="0"):
    """Save at every batch, until somebody ends this, or one process fails some seconds after the first checkpoint."""
    load, since = cvae.steps.Steps.load, []

    def failing(self, indices, rng):
        if WORLD.rank == int(fails_in) and (since or os.path.exists(path)):
            since.append(time.monotonic())
            if since[-1] - since[0] >= float(after):
                raise MemoryError("no memory left")
        load(self, indices, rng)

    cvae.steps.Steps.load = failing
    made("auto", n_epochs=10_000).fit(X, comm=WORLD, callbacks=[ModelCheckpoint(path, every_batches=1)])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
