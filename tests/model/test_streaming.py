"""Training on images that are read block by block, and all that a model does with such images."""

import itertools
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr
from small_vae import assert_same_bits, parameters, random_images, small_vae, subprocess_environment, without_times

import cvae
from cvae import callbacks, steps
from cvae.datasets import Blocks
from cvae.runtime import threads

X = random_images(50)
LAYOUT = {"block": 7, "buffer": 24}


def mapped(images, folder):
    np.save(folder / "images.npy", images)
    return np.load(folder / "images.npy", mmap_mode="r")


def hdf5(images, folder):
    with h5py.File(folder / "images.h5", "w") as file:
        file.create_dataset("images", data=images, chunks=(3, *images.shape[1:]), compression="gzip")
    return h5py.File(folder / "images.h5")["images"]


def zarr_array(images, folder):
    zarr.save(str(folder / "images.zarr"), images)
    return zarr.open(str(folder / "images.zarr"), mode="r")


SOURCES = {
    "memory map": mapped,
    "HDF5": hdf5,
    "Zarr": zarr_array,
    "list": lambda images, folder: [images[:20], mapped(images[20:], folder)],
    "rows": lambda images, folder: images.reshape(len(images), -1),
    "byte-swapped": lambda images, folder: images.astype(images.dtype.newbyteorder()),
}


@pytest.fixture(scope="module")
def trained():
    return small_vae().fit(Blocks(X, **LAYOUT))


@pytest.mark.parametrize("kind", SOURCES)
def test_the_same_blocks_give_the_same_bits_wherever_they_lie(tmp_path, kind, trained):
    given = Blocks(SOURCES[kind](X, tmp_path), **LAYOUT)
    vae = small_vae(image_shape=(9, 8) if kind == "rows" else None).fit(given)
    assert_same_bits(parameters(vae), parameters(trained))
    assert without_times(vae.history_) == without_times(trained.history_)


def test_a_function_that_returns_the_blocks_in_their_order_gives_what_it_has():
    def blocks():
        opened.append(len(opened))
        return (X[start : start + 7] for start in range(0, 50, 7))

    opened = []
    vae = small_vae().fit(blocks, n_epochs=3)
    assert opened == [0, 1, 2]
    same = small_vae().fit(Blocks(lambda: iter([X[:1], X[1:30], X[30:]])), n_epochs=3)
    assert_same_bits(parameters(vae), parameters(same))  # windows do not depend on how blocks are cut


@pytest.mark.parametrize("n_threads", [1, 3])
def test_bits_do_not_depend_on_threads(n_threads, trained):
    vae = small_vae(n_threads=n_threads).fit(Blocks(X, **LAYOUT))
    assert_same_bits(parameters(vae), parameters(trained))


def seen_by(vae, given, **options):
    """Return the numbers of the images of each batch of `fit`, given `numbered` images."""
    found, take = [], steps.Steps.take

    def noted(steps, indices):
        found.append((steps.images[indices].reshape(len(indices), -1)[:, 0] * 64).round().astype(int).tolist())
        return take(steps, indices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps.Steps, "take", noted)
        vae.fit(given, **options)
    return found


def numbered(n=50):
    images = random_images(n)
    images[:, 0, 0, 0] = np.arange(n) / 64
    return images


def test_an_epoch_has_each_image_once_in_another_order_in_batches():
    batches = seen_by(small_vae(), Blocks(numbered(), **LAYOUT), n_epochs=2)
    assert [len(batch) for batch in batches] == 2 * (12 * [4] + [2])
    epochs = [[*itertools.chain(*part)] for part in (batches[:13], batches[13:])]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[0][:12] != sorted(epochs[0][:12])
    assert len({number // 7 for number in epochs[0][:12]}) <= 3  # half of the buffer


def test_a_buffer_for_all_images_shuffles_all():
    (first, *_), *_ = seen_by(small_vae(batchsize=50), Blocks(numbered(), block=5, buffer=100), n_epochs=1), None
    assert len({number // 5 for number in first[:10]}) > 4


class Loader:
    """Batches that are made anew at each iteration, as those of PyTorch's DataLoader."""

    def __init__(self, *batches):
        self.batches, self.iterations = batches, 0

    def __iter__(self):
        self.iterations += 1
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def test_an_iterable_gives_the_batches_as_they_are():
    images = numbered()
    loader = Loader(images[:3], images[3:10], images[10:12], images[12:])
    batches = seen_by(small_vae(), loader, n_epochs=2)
    assert batches == 2 * [[*range(3)], [*range(3, 10)], [10, 11], [*range(12, 50)]]
    assert loader.iterations == 2


def test_batches_of_a_data_loader():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.arange(50))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    vae = small_vae().fit(loader)
    same = small_vae().fit(Blocks(X, block=8, buffer=0))
    assert_same_bits(parameters(vae), parameters(same))
    assert len(vae.history_["loss"]) == 2


def test_a_generator_is_good_for_one_epoch_and_refused_for_more_before_it_is_read():
    def images():
        read.append(True)
        yield X[:8]
        yield X[8:]

    read = []
    vae = small_vae()
    with pytest.raises(ValueError, match=r"X must be iterable anew for each of 2 epochs, got a generator.*n_epochs=1"):
        vae.fit(images())
    assert read == []
    vae.fit(images(), n_epochs=1)
    same = small_vae().partial_fit(images())
    assert_same_bits(parameters(vae), parameters(same))


def test_a_function_that_returns_an_iterator_that_has_ended_is_an_error_after_the_first_epoch():
    once = iter([X])
    with pytest.raises(
        ValueError, match="X must give images at each iteration, got none in epoch 2/2: pass a function"
    ):
        small_vae().fit(lambda: once)


WRONG = {
    "no block": (lambda: iter([]), ValueError, "X must hold at least one image, got an iterator without blocks"),
    "no iterator": (lambda: 3, TypeError, "X must return an iterator over blocks of images, got int"),
    "mappings": (Loader({"image": X}), TypeError, "pairs .images, labels., got a mapping of image"),
    "three": (Loader((X, X, X)), TypeError, "pairs .images, labels., got a tuple of 3"),
    "other shape": (Loader(X, X[:, 1:]), ValueError, r"X must hold images of shape \(9, 8, 1\), got \(8, 8, 1\)"),
    "other dtype": (Loader(X, X > 0.5), ValueError, "X must hold images of one dtype, got float32 and later bool"),
    "text": (Loader(np.full((4, 9, 8, 1), "0")), TypeError, "X must be an array of bool, int or float"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_blocks_are_refused(kind):
    given, error, message = WRONG[kind]
    with pytest.raises(error, match=message):
        small_vae().fit(given)


@pytest.mark.parametrize("given", [lambda X: Blocks(X, block=7, buffer=0), lambda X: lambda: iter([X[:20], X[20:]])])
def test_an_error_in_the_middle_names_the_image_and_keeps_the_steps_before(given):
    wrong = X.copy()
    wrong[33, 2, 1, 0] = 1.5
    vae, losses = small_vae(warm_start=False), []
    noted = callbacks.LambdaCallback(on_batch_end=lambda vae, batch, loss: losses.append(parameters(vae)))
    with pytest.raises(ValueError, match=r"X must hold values in \[0, 1\].*got 1.5 in image 33 at row 2, column 1"):
        vae.fit(given(wrong), callbacks=[noted])
    if losses:
        assert_same_bits(parameters(vae), losses[-1])
    else:  # it was in the first window
        with pytest.raises(cvae.NotFittedError):
            vae.encode(X)


def test_values_that_miss_the_range_by_rounding_are_clipped():
    almost = X.astype(np.float64)
    almost[40, 0, 0, 0] = 1 + 1e-16
    almost[41, 0, 0, 0] = 1.0000000000000002
    vae = small_vae().fit(Blocks(almost, **LAYOUT))
    same = small_vae().fit(Blocks(np.minimum(almost, 1), **LAYOUT))
    assert_same_bits(parameters(vae), parameters(same))


class _Press(callbacks.Callback):
    """Presses Ctrl-C after a batch."""

    def __init__(self, batch, epoch=2):
        self.batch, self.epoch = batch, epoch

    def on_batch_end(self, vae, batch, loss):
        if batch == self.batch and len(vae.history_.get("loss", ())) == self.epoch - 1:
            raise KeyboardInterrupt


RESUMABLE = {
    "blocks": lambda: Blocks(X, **LAYOUT),
    "blocks as batches": lambda: Blocks(X, block=4, buffer=0),
    "function": lambda: Blocks(lambda: iter([X[:11], X[11:40], X[40:]]), buffer=24),
    "loader": lambda: Loader(*np.split(X, 10)),
    "one batch before the end": lambda: Blocks(X[:28], **LAYOUT),
}


@pytest.mark.parametrize("kind", RESUMABLE)
def test_what_was_interrupted_goes_on_with_the_same_bits(tmp_path, kind):
    given = RESUMABLE[kind]
    whole = small_vae(n_epochs=3).fit(given())
    vae = small_vae(n_epochs=3)
    with pytest.raises(KeyboardInterrupt):
        vae.fit(given(), callbacks=[_Press(5)])
    vae.save(tmp_path / "model")
    vae = cvae.load(tmp_path / "model").set_params(warm_start=True)
    vae.fit(given(), n_epochs=2)
    assert_same_bits(parameters(vae), parameters(whole))
    assert without_times(vae.history_) == without_times(whole.history_)


def test_going_on_reads_no_block_that_was_trained_on(tmp_path):
    class Noted:
        shape, dtype = X.shape, X.dtype

        def __getitem__(self, rows):
            read.append(rows)
            return X[rows]

    vae, read = small_vae(n_epochs=1), []
    with pytest.raises(KeyboardInterrupt):
        vae.fit(Blocks(Noted(), block=4, buffer=16), n_epochs=1, callbacks=[_Press(9, epoch=1)])
    read.clear()
    vae.partial_fit(Blocks(Noted(), block=4, buffer=16))
    assert len([rows for rows in read if rows.stop - rows.start > 1]) == 1 + 13 - 8  # the first, and what is left


@pytest.mark.parametrize("likelihood", ["Gaussian('optimal')", "Laplace('optimal')"])
def test_pixels_are_standardized_by_evenly_spaced_blocks(likelihood):
    images = 5 + 3 * random_images(50)
    vae = cvae.VAE("mlp", T=2, likelihood=likelihood, random_state=0, n_epochs=1, verbose=False)
    vae.fit(Blocks(images, block=4))  # fewer than 16 blocks: all
    np.testing.assert_allclose(vae.pixel_offset_, images.mean(), rtol=1e-5)
    np.testing.assert_allclose(vae.pixel_scale_, images.std(), rtol=1e-5)
    vae.fit(Loader(images[:10], images[10:]))
    np.testing.assert_allclose(vae.pixel_offset_, images[:10].mean(), rtol=1e-5)


def test_the_range_of_the_data_is_that_of_all_blocks():
    images = random_images(50) * 7 - 2
    images[44, 0, 0, 0] = 11
    images[3, 0, 0, 0] = -6
    for given in (Blocks(images, **LAYOUT), Loader(images[:30], images[30:])):
        vae = cvae.VAE("mlp", T=2, value_range="data", random_state=0, n_epochs=1, verbose=False).fit(given)
        assert (vae.pixel_offset_[0], vae.pixel_scale_[0]) == (-6, 17)
    with pytest.raises(ValueError, match=r"value_range must be \(low, high\) for X, which can be read once"):
        cvae.VAE("mlp", T=2, value_range="data", verbose=False).partial_fit(iter([images]))


def test_labels_and_weights_go_with_their_images():
    y = np.arange(50) % 3
    weights = np.linspace(0, 2, 50)
    arguments = {"condition": "classes", "batchsize": 50}
    blocks = small_vae(**arguments).fit(Blocks(X, block=7, buffer=100), y, sample_weight=weights)
    (order,) = seen_by(small_vae(**arguments), Blocks(numbered(), block=7, buffer=100), y=y, n_epochs=1)
    # The same order of images, whose labels and weights are put in that order by hand.
    ordered = small_vae(**arguments).fit(Blocks(X[order], block=50, buffer=0), y[order], n_epochs=1,
                                         sample_weight=weights[order])  # fmt: skip
    assert blocks.history_["loss"][0] == pytest.approx(ordered.history_["loss"][0], rel=1e-6)


@pytest.mark.parametrize("condition", ["classes", "values"])
def test_batches_may_have_labels(condition):
    y = (np.arange(50) % 3).astype(float if condition == "values" else int)
    loader = Loader((X[:20], y[:20]), (X[20:40], y[20:40]), (X[40:], y[40:]))
    vae = small_vae(condition=condition)
    vae.fit(loader, [0, 1, 2] if condition == "classes" else None, validation_data=loader)
    one = small_vae(condition=condition, batchsize=20).fit(Blocks(X, block=20, buffer=0), y, validation_data=(X, y))
    assert_same_bits(parameters(vae), parameters(one))
    np.testing.assert_allclose(vae.history_["val_loss"], one.history_["val_loss"], rtol=1e-12)
    np.testing.assert_array_equal(vae.transform(loader), vae.transform(X, y))


def test_labels_of_batches_that_cannot_be_known():
    loader = Loader((X[:20], np.arange(20) % 2), (X[20:], np.full(30, 2)))
    with pytest.raises(ValueError, match="y must be all classes of a conditional model's first batches, got None"):
        small_vae(condition="classes").fit(loader)
    with pytest.raises(ValueError, match="the labels of X must hold labels of the first fit, 0, 1, got 2"):
        small_vae(condition="classes").fit(loader, [0, 1])
    small_vae().fit(loader)  # a model without condition needs none


@pytest.mark.parametrize("name", ["validation_fraction", "sample_weight"])
def test_what_needs_the_number_of_images(name):
    with pytest.raises(ValueError, match=f"{name} must be left out where the number of images is not known"):
        small_vae().fit(Loader(X), **{name: 0.5})
    with pytest.raises(ValueError, match="batchsize must be left out for X, whose blocks are the batches"):
        small_vae().fit(Loader(X), batchsize=3)


def test_validation_on_a_share_of_the_blocks():
    images = numbered()
    vae = small_vae()
    batches = seen_by(vae, Blocks(images, block=5, buffer=24), n_epochs=1, validation_fraction=0.2)
    seen = sorted(itertools.chain(*batches))
    assert len(seen) == 40
    assert all(seen.count(number) == 1 for number in seen)
    others = np.setdiff1d(np.arange(50), seen)
    assert len(np.unique(others // 5)) == 2  # whole blocks
    expected = -vae.elbo(images[others]).mean()
    assert vae.history_["val_reconstruction"][0] + vae.history_["val_kl"][0] == pytest.approx(expected)


def test_validation_data_are_read_block_by_block(tmp_path):
    Y = random_images(20, seed=3)
    vae = small_vae().fit(X, validation_data=Y)
    for given in (Blocks(hdf5(Y, tmp_path), block=3), Loader(Y[:3], Y[3:])):
        other = small_vae().fit(X, validation_data=given)
        assert without_times(other.history_) == without_times(vae.history_)
    with pytest.raises(ValueError, match="validation_data must be iterable anew for each of 2 epochs"):
        small_vae().fit(X, validation_data=iter([Y]))


METHODS = ["transform", "encode", "reconstruct", "elbo", "elbo_terms", "score_samples", "log_likelihood",
           "active_units", "score"]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_results_of_blocks_are_those_of_all_images(tmp_path, method, trained):
    images = random_images(300, seed=5)
    of_all = getattr(trained, method)(images)
    for given in (Blocks(mapped(images, tmp_path), block=7), Loader(images[:100], images[100:])):
        found = getattr(trained, method)(given)
        np.testing.assert_array_equal(np.array(found), np.array(of_all))


@pytest.mark.parametrize("method", ["transform", "reconstruct"])
def test_results_are_written_to_a_memory_map(tmp_path, method, trained):
    images = random_images(1100, seed=5)
    of_all = getattr(trained, method)(images)
    for given in (images, Blocks(images, block=7)):
        out = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=of_all.shape)
        assert getattr(trained, method)(given, out=out) is out
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), of_all)
    for wrong, error in ((np.empty((3, 2)), ValueError), (of_all.astype(int), TypeError), ([0], TypeError)):
        with pytest.raises(error, match=r"^out must "):
            getattr(trained, method)(images, out=wrong)


def test_other_methods_take_all_images_at_once(trained):
    np.testing.assert_array_equal(trained.error_map(Blocks(X[:5])), trained.error_map(X[:5]))


def test_progress_of_an_unknown_number_of_images(capsys):
    small_vae(verbose=True).fit(Loader(X[:20], X[20:]))
    assert "epoch 2/2" in capsys.readouterr().err


CODE = """
import resource, sys
import numpy as np
import cvae

kind = sys.argv[1]
images = np.load("large.npy", mmap_mode="r")
encoder = ["Conv2D(out_ch=1, kernel_shape=16, stride=16)", "Flatten()"]
vae = cvae.VAE(encoder, [], T=2, batchsize=512, random_state=0, verbose=False)
vae.fit(images[:2048], n_epochs=1)  # what training takes without the data
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if kind == "fit":
    vae.fit(cvae.datasets.Blocks(images, buffer=4096), n_epochs=1)
else:
    vae.transform(cvae.datasets.Blocks(images))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("kind", ["fit", "transform"])
def test_memory_is_bounded_by_the_buffer(tmp_path, kind):
    n, image_bytes, buffer = 1 << 15, 64 * 64, 4096
    np.lib.format.open_memmap(tmp_path / "large.npy", mode="w+", dtype=np.uint8, shape=(n, 64, 64, 1))  # a sparse file
    done = subprocess.run(
        [sys.executable, "-c", CODE, kind],
        cwd=tmp_path, env=subprocess_environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 2 * buffer * image_bytes < n * image_bytes / 3


def test_the_thread_that_reads_takes_no_share_of_the_cpus(monkeypatch):
    seen, take = set(), steps.Steps.take

    def noted(self, indices):
        seen.add(cvae.get_num_threads())
        return take(self, indices)

    monkeypatch.setattr(steps.Steps, "take", noted)
    monkeypatch.setattr(threads, "_cpus", lambda: 2)
    cvae.set_num_threads(2)
    try:
        vae = cvae.VAE("mlp", T=2, batchsize=10, random_state=0, verbose=False)
        vae.fit(Blocks(random_images(400), block=10, buffer=40), n_epochs=2)
    finally:
        cvae.set_num_threads(None)
    assert seen == {2}
