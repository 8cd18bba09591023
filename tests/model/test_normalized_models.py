"""Models with layers that normalize and with residual blocks: training, running statistics, saving, steps by hand."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from small_vae import assert_same_bits, by_path, random_images

import cvae
from cvae.io.serialization import read
from cvae.layers import BatchNorm1D, GroupNorm, Residual

IMAGE_SHAPE = (8, 6, 2)
ENCODER = [
    "Conv2D(out_ch=5, kernel_shape=3, pad='same')", "BatchNorm2D(act_fn='ReLU')",
    "Residual([Conv2D(4, 3, pad='same', act_fn='ReLU'), GroupNorm(2), Conv2D(5, 1)], act_fn='Tanh')",
    "Residual([BatchNorm2D(), Conv2D(6, 3, pad=1, stride=2)], Conv2D(6, 1, stride=2))", "Flatten()",
]  # fmt: skip
DECODER = [
    "FullyConnected(n_out=24)", "BatchNorm1D(act_fn='ReLU')", "Residual([FullyConnected(24, act_fn='SoftPlus')])",
    "Reshape((4, 3, 2))", "ConvTranspose2D(out_ch=6, kernel_shape=3, stride=2, pad='same')",
    "GroupNorm(3, act_fn='GELU')", "Conv2D(2, 3, pad='same')",
]  # fmt: skip
ENDS = {
    "usual": (ENCODER, DECODER),
    "first": (["BatchNorm2D()", "Flatten()"], [BatchNorm1D(act_fn="ReLU")]),
    "residual first": ([Residual(["Conv2D(2, 3, pad='same', act_fn='ReLU')", "BatchNorm2D()"]), "Flatten()"], []),
    "last": (ENCODER, [*DECODER, "BatchNorm2D()"]),
    "group last": (ENCODER, [*DECODER, GroupNorm(2, act_fn="Sigmoid")]),
    "residual last": (ENCODER, [*DECODER, "Residual(['Conv2D(2, 3, pad=1)'], act_fn='Sigmoid')"]),
}
each_model = pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS.keys())
ARGUMENTS = {"T": 2, "optimizer": "Adam(lr=0.01)", "batchsize": 4, "n_epochs": 2, "random_state": 0, "verbose": False}


def make(ends=ENDS["usual"], **changes):
    return cvae.VAE(*ends, **{"warm_start": True, **ARGUMENTS, **changes})


def arrays(vae):
    return by_path(vae.parameters)


def running(vae):
    return {path: array for path, array in arrays(vae).items() if "running" in path}


def loss_of(vae, X, noise):
    """The loss of images with given noise, as training computes it."""
    passes = vae._passes(len(X), training=True)
    passes.images[: len(X)], passes.noise[: len(noise)] = X, noise
    return vae._objective.loss(passes.loss(len(X))) / len(X)


@pytest.mark.parametrize("objective", ["ELBO", "IWAE(k=3)"])
def test_forward_without_a_backward_pass_uses_the_running_statistics(objective):
    X = random_images(9, IMAGE_SHAPE)
    vae = make(objective=objective).fit(X)
    codes = vae._objective.codes
    recon = vae.forward(X, retain_derived=False, noise=np.zeros((9 * codes, 2)))
    expected = vae.reconstruct(X).reshape(9, -1).repeat(codes, axis=0)
    np.testing.assert_allclose(recon, expected, rtol=1e-6)
    noise = np.random.default_rng(0).standard_normal((codes, 2))
    one_by_one = [vae.forward(X[i : i + 1], retain_derived=False, noise=noise) for i in range(9)]
    together = vae.forward(X, retain_derived=False, noise=np.tile(noise, (9, 1)))
    np.testing.assert_allclose(together, np.concatenate(one_by_one), rtol=1e-6)


@each_model
def test_all_gradients_are_finite_differences_of_the_loss(ends):
    X = random_images(3, IMAGE_SHAPE, dtype=np.float64)
    noise = np.random.default_rng(0).standard_normal((3, 2))
    vae = make(ends, dtype="float64")
    dX = vae.backward(X, vae.forward(X, noise=noise))
    rng, h = np.random.default_rng(1), 1e-6
    checked = {path: vae._layers()["/".join(path.split("/")[:2])].parameters for path in by_path(vae.gradients)}
    assert len(checked) >= 4
    for path, parameters in checked.items():
        array, gradient = parameters["/".join(path.split("/")[2:])], by_path(vae.gradients)[path]
        for index in rng.permutation(array.size)[:6]:
            before, losses = array.flat[index], []
            for sign in (1, -1):
                array.flat[index] = before + sign * h
                losses.append(loss_of(vae, X, noise))
            array.flat[index] = before
            difference = (losses[0] - losses[1]) / (2 * h)
            assert gradient.flat[index] == pytest.approx(difference, rel=1e-5, abs=2e-7), path
    assert dX.shape == X.shape
    assert dX.any()


@each_model
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("objective", ["ELBO(beta=0.5)", "IWAE(k=3)"])
def test_fit_takes_the_steps_of_forward_backward_and_update(ends, dtype, objective):
    X = random_images(5, IMAGE_SHAPE, dtype=dtype)
    rngs = [np.random.default_rng(3) for _ in range(2)]
    by_hand, fitted = (make(ends, random_state=rng, dtype=dtype, objective=objective) for rng in rngs)
    for vae in (by_hand, fitted):
        noise = np.zeros((5 * vae._objective.codes, 2))
        vae.forward(X, retain_derived=False, noise=noise)  # creates the parameters
    fitted.fit(X, n_epochs=3, batchsize=2)
    for _ in range(3):
        for indices in cvae.minibatch(X, 2, rng=rngs[0])[0]:
            by_hand.backward(X[indices], by_hand.forward(X[indices]))
            by_hand.update()
    assert_same_bits(arrays(by_hand), arrays(fitted))


@each_model
@pytest.mark.parametrize("objective", ["ELBO()", "ELBO(n_samples=3)", "IWAE(k=3)"])
def test_a_forward_pass_that_retains_nothing_is_that_of_inference(ends, objective):
    X = random_images(8, IMAGE_SHAPE)
    vae = make(ends, objective=objective).fit(X)
    codes = vae._objective.codes
    noise = np.random.default_rng(0).standard_normal((8 * codes, 2)).astype(np.float32)
    before = arrays(vae)
    means = vae.forward(X, retain_derived=False, noise=noise)
    assert_same_bits(arrays(vae), before)
    mean, log_var = (half.repeat(codes, 0) for half in vae.encode(X))
    expected = vae.decode(mean + noise * np.exp(log_var / 2)).reshape(len(noise), -1)
    np.testing.assert_allclose(means, expected, rtol=1e-5, atol=1e-6)


@each_model
def test_the_number_of_threads_does_not_matter(ends):
    X = random_images(16, IMAGE_SHAPE)
    one = make(ends, n_threads=1, batchsize=16).fit(X)
    for n_threads in (2, 3, 7):
        other = make(ends, n_threads=n_threads, batchsize=16).fit(X)
        assert_same_bits(arrays(other), arrays(one))
        np.testing.assert_array_equal(other.elbo(X), one.elbo(X))


@each_model
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", ["saved", "copied", "pickled", "dumped"])
def test_a_copy_goes_on_with_the_same_bits(ends, dtype, how, tmp_path):
    X = random_images(8, IMAGE_SHAPE)
    vae = make(ends, dtype=dtype).fit(X)
    if how == "saved":
        vae.save(tmp_path / "model.safetensors")
        other = cvae.load(tmp_path / "model.safetensors")
    elif how == "dumped":
        joblib.dump(vae, tmp_path / "model.joblib")
        other = joblib.load(tmp_path / "model.joblib")
    else:
        other = copy.deepcopy(vae) if how == "copied" else pickle.loads(pickle.dumps(vae))
    assert_same_bits(arrays(other), arrays(vae))
    np.testing.assert_array_equal(other.elbo(X), vae.elbo(X))
    assert_same_bits(arrays(other.fit(X)), arrays(vae.fit(X)))


def test_a_file_names_the_arrays_within_blocks(tmp_path):
    vae = make().fit(random_images(8, IMAGE_SHAPE))
    vae.save(tmp_path / "model.safetensors")
    names = set(read(tmp_path / "model.safetensors")[0])
    assert {
        "encoder/BatchNorm2D_2/running_mean", "encoder/Residual_3/Conv2D_1/W", "encoder/Residual_4/shortcut/b",
        "encoder/Residual_4/BatchNorm2D_1/running_var", "optimizer/encoder/Residual_4/shortcut/b/mean",
    } <= names  # fmt: skip
    assert not any(name.startswith("optimizer") and "running" in name for name in names)


@each_model
def test_a_loaded_model_keeps_what_was_frozen(ends, tmp_path):
    X = random_images(8, IMAGE_SHAPE)
    vae = make(ends).fit(X)
    frozen = [name for name, layer in vae._layers().items() if layer.parameters][0::2]
    for name in frozen:
        vae._layers()[name].freeze()
    vae.save(tmp_path / "model.safetensors")
    loaded = cvae.load(tmp_path / "model.safetensors")
    before = arrays(vae)
    assert_same_bits(arrays(loaded.fit(X)), arrays(vae.fit(X)))
    for path, array in arrays(vae).items():
        if "/".join(path.split("/")[:2]) in frozen:
            np.testing.assert_array_equal(array, before[path])


@each_model
def test_inference_uses_the_running_statistics_and_leaves_them(ends):
    X = random_images(7, IMAGE_SHAPE)
    vae = make(ends).fit(X)
    before = arrays(vae)
    together = vae.encode(X)[0]
    for i in range(7):
        np.testing.assert_allclose(vae.encode(X[i : i + 1])[0][0], together[i], rtol=1e-4, atol=1e-5)
    vae.elbo(X), vae.log_likelihood(X, 3), vae.sample(2), vae.reconstruct(X)
    vae.backward(X, vae.forward(X))
    vae.derived_variables["dDecoder_t_mean"]
    vae.flush_gradients()
    assert_same_bits(arrays(vae), before)
    vae.fit(X, n_epochs=1, validation_data=X)
    assert all((array != before[path]).any() for path, array in running(vae).items())


@each_model
def test_a_batch_whose_loss_is_not_finite_leaves_the_model(ends):
    X = random_images(8, IMAGE_SHAPE)
    vae = make(ends).fit(X)
    vae.encoder_["Code"].W[:] = np.nan
    before = arrays(vae)
    with pytest.raises(FloatingPointError):
        vae.fit(X)
    assert_same_bits(arrays(vae), before)


def test_running_statistics_are_those_of_the_batches():
    X = random_images(8, IMAGE_SHAPE, dtype=np.float64)
    vae = make(ENDS["first"], dtype="float64").fit(X, n_epochs=2, batchsize=8)
    mean, variance = X.mean((0, 1, 2)), X.var((0, 1, 2))
    np.testing.assert_allclose(running(vae)["encoder/BatchNorm2D_1/running_mean"], mean * 0.19, rtol=1e-12)
    np.testing.assert_allclose(running(vae)["encoder/BatchNorm2D_1/running_var"], 0.81 + variance * 0.19, rtol=1e-12)


def test_no_python_runs_within_a_training_step():
    programs = make().fit(random_images(8, IMAGE_SHAPE))._passes(4, training=True)._programs
    assert len(programs) == 2
    assert not any(program.calls for program in programs.values())


def test_a_model_that_does_not_fit_its_images_is_left_as_it_was():
    vae = make()
    with pytest.raises(ValueError, match="decoder must put out"):
        vae.fit(random_images(4, (8, 8, 2)))
    assert all(array is None for layer in vae._layers().values() for array in layer.parameters.values())
    parts = [part for layer in vae._layers().values() for part in layer.parts()]
    assert not any(part.is_initialized for part in parts if part.parameters)
    vae.fit(random_images(4, IMAGE_SHAPE))


def test_passes_notice_what_changes_within_a_block():
    X = random_images(4, IMAGE_SHAPE)
    vae = make().fit(X)
    before = vae.encode(X)[0]
    vae.encoder_["Residual_3"].layers[0].set_params({"act_fn": "Tanh"})
    assert (vae.encode(X)[0] != before).any()


def test_a_residual_model_learns_digits():
    digits = cvae.datasets.load("mnist-sample")
    encoder = [
        "Conv2D(16, 3, stride=2)", "BatchNorm2D(act_fn='ReLU')",
        "Residual([Conv2D(16, 3, pad='same'), BatchNorm2D(act_fn='ReLU'), Conv2D(16, 3, pad='same')])",
        "GroupNorm(4, act_fn='ReLU')", "Conv2D(16, 3, stride=2, act_fn='ReLU')", "Flatten()",
    ]  # fmt: skip
    decoder = [
        "FullyConnected(784)", "BatchNorm1D(act_fn='ReLU')", "Reshape((7, 7, 16))",
        "ConvTranspose2D(16, 3, 2, pad='same', act_fn='ReLU')", "ConvTranspose2D(1, 3, 2, pad='same')",
    ]  # fmt: skip
    vae = cvae.VAE(encoder, decoder, T=10, random_state=0, verbose=False, batchsize=64)
    vae.fit(digits.images, n_epochs=3)
    assert -vae.elbo(digits.test_images[:500]).mean() < 220
