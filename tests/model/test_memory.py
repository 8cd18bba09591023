"""Estimates of memory before it is taken, and of how much there is."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from small_vae import random_images

import cvae
from cvae.memory import available_bytes

LAYERS = [
    "Conv2D(4, 3, pad='same')",
    "BatchNorm2D()",
    "Residual(['Conv2D(8, 3, stride=2, pad=1)', 'GroupNorm(2)'], shortcut='Conv2D(8, 1, stride=2)')",
    "Flatten()",
]
MODELS = [
    {"encoder": LAYERS, "decoder": ["FullyConnected(12)", "Reshape((2, 2, 3))", "ConvTranspose2D(2, (5, 4), 4)"],
     "likelihood": "Gaussian('pixel')"},
    {"encoder": "auto", "likelihood": "Gaussian('shared')"},
    {"encoder": "mlp", "condition": "classes", "objective": "IWAE(k=3)"},
]  # fmt: skip


@pytest.mark.parametrize("arguments", MODELS, ids=lambda arguments: str(arguments["encoder"])[:5])
def test_the_numbers_of_parameters_are_known_before_they_are_drawn(arguments):
    X, y = random_images(), list("ababababab")
    vae = cvae.VAE(T=2, random_state=0, verbose=False, **arguments)
    before = vae.summary((9, 8), y=y)
    assert not any(layer.is_initialized for layer in vae._layers().values() if layer.parameters)
    vae.fit(X, y, n_epochs=1)
    sizes = {path: sum(a.size for a in layer.parameters.values()) for path, layer in vae._layers().items()}
    assert {row.layer: row.parameters for row in before.rows} == sizes
    assert (before.parameters, before.file_bytes) == (vae.summary().parameters, vae.summary().file_bytes)


@pytest.mark.parametrize("encoder", ["auto", "mlp"])
@pytest.mark.parametrize("batchsize", [1, 200])
def test_training_takes_about_as_much_as_was_said(encoder, batchsize, tmp_path):
    X = random_images(200, (28, 28, 1))
    vae = cvae.VAE(encoder, T=8, random_state=0, batchsize=batchsize, verbose=False)
    summary = vae.summary((28, 28))
    tracemalloc.start()
    vae.fit(X, n_epochs=1, callbacks=[lambda *_: True])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.4 * peak < summary.training_bytes < 1.5 * peak
    vae.save(tmp_path / "model")
    assert summary.file_bytes == pytest.approx((tmp_path / "model").stat().st_size, rel=0.05)


def test_the_batch_size_counts():
    vae = cvae.VAE(T=2)
    assert vae.summary((64, 64), batchsize=512).training_bytes > 2 * vae.summary((64, 64), batchsize=128).training_bytes
    with pytest.raises(ValueError, match="batchsize must be an int >= 1, got 0"):
        vae.summary((64, 64), batchsize=0)


def test_the_least_of_machine_and_container_is_available(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    assert available_bytes(tmp_path) is None
    write("proc/meminfo", "MemTotal:   900 kB\nMemAvailable:   100 kB\nSwapFree:   20 kB\n")
    assert available_bytes(tmp_path) == 120 * 1024
    write("sys/fs/cgroup/memory.max", "max\n")
    write("sys/fs/cgroup/memory.current", "40000\n")
    write("sys/fs/cgroup/memory.stat", "anon 10000\ninactive_file 5000\n")
    assert available_bytes(tmp_path) == 120 * 1024
    write("sys/fs/cgroup/memory.max", "60000\n")
    assert available_bytes(tmp_path) == 60000 - 40000 + 5000
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "30000\n")
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "29000\n")
    write("sys/fs/cgroup/memory/memory.stat", "total 1\n")
    assert available_bytes(tmp_path) == 1000


def test_this_machine_says_how_much_there_is():
    available = available_bytes()
    assert available is None or available > 10**6
    assert np.isfinite(available or 0)


KEEPS_NOTHING = {
    "fit": ({}, lambda vae, X: vae.fit(X, n_epochs=1)),
    "binarized": ({"binarize": "dynamic"}, lambda vae, X: vae.fit(X, n_epochs=1)),
    "labels": ({"condition": "classes"}, lambda vae, X: vae.fit(X, np.arange(len(X)) % 2, n_epochs=1)),
    "validation": ({}, lambda vae, X: vae.fit(X, n_epochs=1, validation_data=X)),
    "parts of batches": ({}, lambda vae, X: vae.fit(X, n_epochs=1, n_shards=2)),
    "blocks": ({}, lambda vae, X: vae.fit(cvae.datasets.Blocks(X), n_epochs=1)),
    "a batch": ({}, lambda vae, X: vae.partial_fit(X)),
    "forward": ({}, lambda vae, X: vae.forward(X)),
    "backward": ({}, lambda vae, X: vae.backward(X, vae.forward(X)).sum() + vae.derived_variables["dDecoder_t_mean"]),
    "update": ({}, lambda vae, X: (vae.backward(X, vae.forward(X)), vae.update())),
}
METHODS = ("transform", "reconstruct", "elbo", "score", "log_likelihood")


@pytest.mark.parametrize("how", [*KEEPS_NOTHING, *METHODS])
def test_images_and_model_are_freed_as_soon_as_the_user_lets_go_of_them(how):
    arguments, use = KEEPS_NOTHING.get(how, ({}, lambda vae, X: getattr(vae, how)(X)))
    vae = cvae.VAE("mlp", T=2, batchsize=8, random_state=0, verbose=False, **arguments)
    vae.fit(np.zeros((8, 4, 4, 1), np.uint8), *([[0, 1] * 4] if how == "labels" else []), n_epochs=1)
    X = np.zeros((32, 4, 4, 1), np.uint8)
    images = weakref.ref(X)
    gc.collect()
    gc.disable()
    try:
        use(vae, X)
        del X
        assert images() is None
        model = weakref.ref(vae)
        del vae
        assert model() is None
    finally:
        gc.enable()
