"""BernoulliVAE's arguments, layers and gradients."""

import inspect

import numpy as np
import pytest
from oracles import vae_forward
from small_vae import (
    IMAGE_SHAPE,
    architecture,
    assert_same_bits,
    by_path,
    checked,
    initialized,
    layers,
    parameters,
    random_images,
    set_parameters,
    small_vae,
)

from cvae import BernoulliVAE, NotFittedError
from cvae.optimizers import SGD, AdaGrad, Adam, RMSProp

# ------------------------------------------------------------------ arguments


def test_the_first_sixteen_arguments_are_numpy_mls_in_their_order():
    names_and_defaults = {
        "T": 5,
        "latent_dim": 256,
        "enc_conv1_pad": 0,
        "enc_conv2_pad": 0,
        "enc_conv1_out_ch": 32,
        "enc_conv2_out_ch": 64,
        "enc_conv1_stride": 1,
        "enc_pool1_stride": 2,
        "enc_conv2_stride": 1,
        "enc_pool2_stride": 1,
        "enc_conv1_kernel_shape": (5, 5),
        "enc_pool1_kernel_shape": (2, 2),
        "enc_conv2_kernel_shape": (5, 5),
        "enc_pool2_kernel_shape": (2, 2),
        "optimizer": "RMSProp(lr=0.0001)",
        "init": "glorot_uniform",
    }
    arguments = inspect.signature(BernoulliVAE).parameters.values()
    positional = {a.name: a.default for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD}
    assert list(positional.items()) == list(names_and_defaults.items())
    by_keyword = {a.name for a in arguments if a.kind is a.KEYWORD_ONLY}
    assert by_keyword >= {
        "n_epochs", "batchsize", "beta", "image_shape", "dtype", "n_threads", "random_state", "verbose",
    }  # fmt: skip
    vae = BernoulliVAE()
    assert {name: getattr(vae, name) for name in names_and_defaults} == names_and_defaults


def test_sixteen_positional_arguments_reach_their_layers():
    vae = initialized(
        BernoulliVAE(3, 7, 1, "same", 4, 6, 2, 2, 1, 1, (3, 3), (2, 3), (2, 2), (1, 2), "SGD(lr=0.5)", "he_normal"),
        (12, 10, 3),
    )
    conv1, pool1, conv2, pool2 = (vae.encoder[name].hyperparameters for name in ("Conv1", "Pool1", "Conv2", "Pool2"))
    of_conv = ("pad", "out_ch", "stride", "kernel_shape", "init", "in_ch", "act_fn")
    assert [conv1[key] for key in of_conv] == [1, 4, 2, (3, 3), "he_normal", 3, "ReLU"]
    assert [conv2[key] for key in of_conv] == ["same", 6, 1, (2, 2), "he_normal", 4, "ReLU"]
    of_pool = ("kernel_shape", "stride", "mode", "pad")
    assert [pool1[key] for key in of_pool] == [(2, 3), 2, "max", 0]
    assert [pool2[key] for key in of_pool] == [(1, 2), 1, "max", 0]
    dense = {name: vae.encoder[name].hyperparameters for name in ("FC4", "FC5")}
    dense |= {name: vae.decoder[name].hyperparameters for name in ("FC1", "FC2")}
    assert {name: h["n_out"] for name, h in dense.items()} == {"FC4": 7, "FC5": 6, "FC1": 7, "FC2": 360}
    activations = {"FC4": "ReLU", "FC5": "Affine(slope=1, intercept=0)", "FC1": "ReLU", "FC2": "Sigmoid"}
    assert {name: h["act_fn"] for name, h in dense.items()} == activations


def test_the_default_model_has_the_documented_layers_and_shapes():
    vae = initialized(BernoulliVAE(), (28, 28, 1))
    assert list(vae.encoder) == ["Conv1", "Pool1", "Conv2", "Pool2", "Flatten3", "FC4", "FC5"]
    assert list(vae.decoder) == ["FC1", "FC2"]
    shapes = {path: array.shape for path, array in parameters(vae).items() if path.endswith("/W")}
    assert shapes == {
        "encoder/Conv1/W": (5, 5, 1, 32),
        "encoder/Conv2/W": (5, 5, 32, 64),
        "encoder/FC4/W": (3136, 256),
        "encoder/FC5/W": (256, 10),
        "decoder/FC1/W": (5, 256),
        "decoder/FC2/W": (256, 784),
    }
    assert all(array.dtype == np.float32 for array in parameters(vae).values())


WRONG_ARGUMENTS = [
    ("T", 0, ValueError), ("T", 2.0, TypeError), ("T", None, TypeError),
    ("latent_dim", -1, ValueError), ("latent_dim", "8", TypeError), ("latent_dim", True, TypeError),
    ("enc_conv1_pad", -1, ValueError), ("enc_conv2_pad", (1, 2, 3), ValueError), ("enc_conv2_pad", "full", ValueError),
    ("enc_conv1_out_ch", 0, ValueError), ("enc_conv2_out_ch", 1.5, TypeError),
    ("enc_conv1_stride", 0, ValueError), ("enc_pool1_stride", -2, ValueError),
    ("enc_conv2_stride", (1, 2), ValueError), ("enc_pool2_stride", 0, ValueError),
    ("enc_conv1_kernel_shape", 0, ValueError), ("enc_pool1_kernel_shape", (1, 2, 3), ValueError),
    ("enc_conv2_kernel_shape", (0, 1), ValueError), ("enc_pool2_kernel_shape", -3, ValueError),
    ("optimizer", "Lion", ValueError), ("optimizer", 5, TypeError), ("optimizer", {}, ValueError),
    ("optimizer", {"hyperparameters": {"id": "Foo"}}, ValueError),
    ("algorithm", "fft", ValueError), ("algorithm", None, ValueError),
    ("init", "zeros", ValueError), ("init", None, ValueError),
    ("n_epochs", 0, ValueError), ("n_epochs", 1.5, TypeError),
    ("batchsize", 0, ValueError), ("batchsize", None, TypeError),
    ("beta", -0.1, ValueError), ("beta", np.nan, ValueError), ("beta", np.inf, ValueError), ("beta", "1", TypeError),
    ("image_shape", (28,), ValueError), ("image_shape", (28, 0), ValueError), ("image_shape", 28, TypeError),
    ("dtype", "float16", ValueError), ("dtype", "int32", ValueError), ("dtype", None, ValueError),
    ("dtype", "single precision", ValueError),
    ("n_threads", 0, ValueError), ("n_threads", 1.0, TypeError),
    ("random_state", -1, ValueError), ("random_state", 1.5, ValueError), ("random_state", "seed", ValueError),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "error"), WRONG_ARGUMENTS)
def test_a_wrong_argument_is_refused_by_name(name, value, error):
    with pytest.raises(error, match=name) as caught:
        checked(small_vae(**{name: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("Lion(lr=0.1)", "must be one of SGD, AdaGrad, RMSProp, Adam, .*got 'Lion'"),
        ("SGD(rate=1)", "SGD takes lr, momentum, clip_norm, lr_scheduler: .*'rate'"),
        ("SGD(lr=-1)", r"lr must be a number in \[0, inf\), got -1"),
    ],
)
def test_an_optimizer_text_is_read_to_its_end(optimizer, message):
    with pytest.raises(ValueError, match=message):
        checked(small_vae(optimizer=optimizer))


# ------------------------------------------------------- optimizers, starting weights


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("RMSProp(lr=0.25)", RMSProp(lr=0.25)),
        ("adagrad(lr=0.25)", AdaGrad(lr=0.25)),
        (Adam(lr=0.25, decay1=0.5), Adam(lr=0.25, decay1=0.5)),
        ({"hyperparameters": {"id": "Adam", "lr": 0.25}}, Adam(lr=0.25)),
        (None, SGD()),
    ],
)
def test_every_layer_has_its_own_optimizer(optimizer, expected):
    own = [layer.optimizer for layer in layers(small_vae(optimizer=optimizer)).values()]
    assert all(one == expected and type(one) is type(expected) for one in own)
    assert len({id(one) for one in own}) == 9
    assert optimizer not in own or all(one is not optimizer for one in own)


@pytest.mark.parametrize("optimizer", [SGD(lr=0.1, momentum=0.9), AdaGrad(), RMSProp(), Adam()], ids=str)
def test_an_optimizer_instance_trains_as_its_text_does(optimizer):
    X = random_images()
    from_instance, from_text = (small_vae(optimizer=o).fit(X) for o in (optimizer, str(optimizer)))
    assert_same_bits(parameters(from_instance), parameters(from_text))
    assert optimizer.cur_step == 0
    assert optimizer.cache == {}


def test_the_learning_rate_of_a_dict_is_obeyed():
    X, before = random_images(), parameters(initialized(small_vae()))
    standing = small_vae(optimizer={"hyperparameters": {"id": "Adam", "lr": 0.0}}).fit(X)
    assert_same_bits(parameters(standing), before)
    moving = small_vae(optimizer={"hyperparameters": {"id": "Adam", "lr": 0.01}}).fit(X)
    assert_same_bits(parameters(moving), parameters(small_vae(optimizer="Adam(lr=0.01)").fit(X)))


def test_the_learning_rate_can_be_changed_between_fits():
    X = random_images()
    vae = small_vae(optimizer="Adam(lr=0.01)").fit(X)
    before = parameters(vae)
    for layer in layers(vae).values():
        layer.optimizer.set_params({"lr": 0.0})
    assert_same_bits(parameters(vae.fit(X)), before)


def test_all_six_weighted_layers_obey_init():
    vae = initialized(small_vae(init="std_normal", latent_dim=64, random_state=3))
    for path, W in parameters(vae).items():
        if path.endswith("/W"):  # the weights of glorot_uniform would all be below 1.4
            assert np.abs(W).max() > 1.5, path
    other = initialized(small_vae(latent_dim=64, random_state=3))
    assert max(np.abs(W).max() for path, W in parameters(other).items()) < 1.5


def test_float32_and_float64_start_from_the_same_numbers():
    single, double = (parameters(initialized(small_vae(dtype=dtype))) for dtype in ("float32", "float64"))
    assert_same_bits(single, {path: array.astype(np.float32) for path, array in double.items()})


# -------------------------------------------------------------------- gradients

TINY = {
    "T": 2,
    "latent_dim": 4,
    "enc_conv1_out_ch": 2,
    "enc_conv2_out_ch": 3,
    "enc_conv1_kernel_shape": (2, 3),
    "enc_conv2_kernel_shape": (2, 1),
    "enc_pool1_stride": 1,
    "enc_conv1_pad": (0, 1, 1, 0),
    "dtype": "float64",
    "random_state": 4,
    "verbose": False,
}
STEP = 1e-6


def loss_of(vae, X, noise, y):
    """Return the loss of images X for targets y (n, N), through the public interface."""
    X_recon = vae.forward(X, noise=noise)
    derived = vae.derived_variables
    vae.flush_gradients()
    return vae.loss(y, X_recon, derived["t_mean"], derived["t_log_var"], beta=vae.beta)


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.5])
def test_all_gradients_are_the_central_differences_of_the_loss(beta):
    vae = initialized(BernoulliVAE(**TINY, beta=beta), (5, 6, 2))
    # With biases of 0, units whose inputs are all 0 would be at ReLU's kink.
    biases = {path: b for path, b in parameters(vae).items() if path.endswith("/b")}
    set_parameters(vae, {path: np.full_like(b, 0.05) for path, b in biases.items()})
    X = 0.1 + 0.8 * random_images(3, (5, 6, 2), dtype=np.float64)
    y, noise = X.reshape(3, -1).copy(), np.random.default_rng(5).standard_normal((3, 2))
    dX = vae.backward(X, vae.forward(X, noise=noise))
    gradients = by_path(vae.gradients)
    live = {f"{path}/{name}": layer.parameters[name] for path, layer in layers(vae).items() for name in layer.gradients}
    assert live.keys() == gradients.keys()

    for array, gradient in [*((live[path], gradients[path]) for path in live), (X, dX)]:
        for place in np.ndindex(array.shape):
            middle, losses = array[place], []
            for shift in (STEP, -STEP):
                array[place] = middle + shift
                losses.append(loss_of(vae, X, noise, y))  # y is fixed: dX is the gradient through the encoder only
            array[place] = middle
            difference = (losses[0] - losses[1]) / (2 * STEP)
            assert gradient[place] == pytest.approx(difference, rel=1e-6, abs=2e-7)


def test_codes_are_drawn_with_the_standard_deviation():
    """z = mean + noise * exp(log_var / 2): for log_var = 1, the standard deviation is 1.6487, not e."""
    vae = initialized(small_vae(dtype="float64"))
    zeros = {path: np.zeros_like(array) for path, array in parameters(vae).items()}
    zeros["encoder/FC5/b"][0] = [3.0, -2.0, 1.0, 1.0]
    set_parameters(vae, zeros)
    noise = np.random.default_rng(0).standard_normal((4, 2))
    vae.forward(random_images(4), noise=noise)
    np.testing.assert_allclose(vae.decoder["FC1"].X[0], [3.0, -2.0] + noise * np.exp(0.5), rtol=1e-14)


def test_saturated_pixels_keep_their_gradient():
    """A pixel of 0 at logit 50 and one of 1 at -1000 have the full gradients of 1 and -1."""
    vae = initialized(small_vae(dtype="float64"))
    logits = np.where(np.arange(72) % 2, -1000.0, 50.0)
    changed = {path: np.zeros_like(array) for path, array in parameters(vae).items()}
    changed["decoder/FC2/b"] = logits[np.newaxis]
    set_parameters(vae, changed)
    X = (np.arange(72) % 2).reshape(1, *IMAGE_SHAPE).astype(np.float64)
    vae.backward(X, vae.forward(X))
    np.testing.assert_allclose(vae.decoder["FC2"].gradients["b"][0], np.sign(logits), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_also_sees_the_full_slope_of_saturated_pixels(dtype):
    """An SGD step from logit 50 with target 0 changes the bias by the learning rate."""
    vae = initialized(small_vae(dtype=dtype, optimizer="SGD(lr=0.5)"))
    changed = {path: np.zeros_like(array) for path, array in parameters(vae).items()}
    changed["decoder/FC2/b"] += 50
    set_parameters(vae, changed)
    vae.fit(np.zeros((4, *IMAGE_SHAPE)), n_epochs=1)
    np.testing.assert_array_equal(parameters(vae)["decoder/FC2/b"], np.full((1, 72), 49.5, dtype))
    assert vae.history_["reconstruction"] == [72 * 50.0]


# ------------------------------------------------------------------------ errors


def test_images_too_small_for_the_layers_are_refused_before_anything_is_made():
    vae = small_vae()
    with pytest.raises(ValueError, match=r"^encoder/Pool1: Dimension mismatch during pooling.*2x2.*encoder='auto'"):
        vae.fit(random_images(4, (3, 8, 1)))
    with pytest.raises(NotFittedError):
        vae.encode(random_images())
    X = random_images(4, (9, 8, 3))
    assert_same_bits(parameters(vae.fit(X)), parameters(small_vae().fit(X)))


def test_a_number_of_outputs_that_is_not_that_of_the_pixels_is_refused():
    vae = small_vae()
    vae.decoder["FC2"].set_params({"n_out": 5})
    with pytest.raises(ValueError, match=r"decoder must put out 72 numbers for Bernoulli.*, got the shape \(5,\)"):
        vae.fit(random_images())


def test_changed_activations_and_poolings_are_those_of_training_and_inference():
    """A user's changes of a layer affect fit, encode and forward alike."""
    X, vae = random_images(dtype=np.float64), small_vae(dtype="float64").fit(random_images())
    relu = vae_forward(X, parameters(vae), np.zeros((10, 2)), architecture(vae))["t_mean"]
    np.testing.assert_allclose(vae.encode(X)[0], relu, rtol=1e-12)
    for layer, change in (("Pool2", {"mode": "average"}), ("Conv1", {"act_fn": "Tanh"})):
        before = vae.encode(X)[0]
        vae.encoder[layer].set_params(change)
        vae.forward(X)
        changed = vae.derived_variables["t_mean"]
        assert np.abs(changed - before).max() > 1e-3
        np.testing.assert_array_equal(vae.encode(X)[0], changed)


def test_a_layer_whose_geometry_changed_is_not_used_with_old_buffers():
    X = random_images()
    vae = small_vae(enc_conv1_stride=1).fit(X)
    vae.encode(X)
    vae.encoder["Conv1"].set_params({"pad": 2})
    for use in (vae.encode, vae.fit, vae.elbo):
        with pytest.raises(ValueError, match="X must have"):
            use(X)


@pytest.mark.parametrize(("part", "name", "act_fn"), [("encoder", "FC5", "Tanh"), ("decoder", "FC2", "HardSigmoid")])
def test_other_output_activations_are_refused(part, name, act_fn):
    vae = small_vae().fit(random_images())
    getattr(vae, part)[name].set_params({"act_fn": act_fn})
    for use in (vae.encode, vae.fit, vae.forward, vae.elbo, vae.reconstruct):
        with pytest.raises(ValueError, match=f"{name} must have the activation"):
            use(random_images())


def test_setting_equal_arguments_keeps_what_was_learnt():
    vae = small_vae().fit(random_images())
    before = vae.encode(random_images())[0]
    vae.set_params(**vae.get_params())
    np.testing.assert_array_equal(vae.encode(random_images())[0], before)
