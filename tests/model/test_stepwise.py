"""Training as in numpy-ml by forward, backward and update: properties, and equality with fit."""

import copy
import gc
import pickle
import weakref
from collections import OrderedDict

import numpy as np
import pytest
from small_vae import (
    SMALL,
    assert_same_bits,
    by_path,
    initialized,
    layers,
    parameters,
    random_images,
    small_vae,
    steps_by_hand,
)

from cvae import datasets
from cvae.activations import Tanh
from cvae.losses import VAELoss
from cvae.optimizers import SGD
from cvae.schedulers import SchedulerBase

# ---------------------------------------------------------------- the same as fit

OPTIMIZERS = [
    "SGD(lr=0.01)",
    "SGD(lr=0.01, momentum=0.9, clip_norm=0.5)",
    "AdaGrad(lr=0.05)",
    "RMSProp(lr=0.002)",
    "Adam(lr=0.01, clip_norm=1.0)",
    "Adam(lr_scheduler=ExponentialScheduler(initial_lr=0.05, stage_length=3, staircase=True, decay=0.5))",
    "RMSProp(lr_scheduler=NoamScheduler(model_dim=8, scale_factor=0.1, warmup_steps=4))",
    "SGD(lr_scheduler=KingScheduler(initial_lr=0.05, patience=3, decay=0.5))",
]


def assert_by_hand_equals_fit(X, prepare=lambda vae: None, **changes):
    """Train by fit and by hand, each model with its own generator, and return the models."""
    rngs = [np.random.default_rng(7) for _ in range(2)]
    by_hand, fitted = (initialized(small_vae(random_state=rng, **changes), X.shape[1:]) for rng in rngs)
    for vae in (by_hand, fitted):
        prepare(vae)
    batchsize, n_epochs = by_hand.batchsize, by_hand.n_epochs
    for _ in steps_by_hand(by_hand, X, rngs[0], batchsize=batchsize, n_epochs=n_epochs):
        pass
    fitted.fit(X)
    assert_same_bits(parameters(by_hand), parameters(fitted))
    return by_hand, fitted


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_by_hand_give_the_bits_of_fit(optimizer, dtype):
    X = random_images(10)  # in batches of 4, 4 and 2
    by_hand, fitted = assert_by_hand_equals_fit(X, optimizer=optimizer, dtype=dtype, n_epochs=3)
    for one, other in zip(layers(by_hand).values(), layers(fitted).values(), strict=True):
        assert one.optimizer.cur_step == other.optimizer.cur_step == 9


def test_king_lowers_the_same_rates_by_hand_as_in_fit():
    king = "SGD(lr_scheduler=KingScheduler(initial_lr=0.01, patience=3, decay=0.5))"
    models = assert_by_hand_equals_fit(random_images(8), optimizer=king, n_epochs=12)
    rates = [[layer.optimizer.lr_scheduler.current_lr for layer in layers(vae).values()] for vae in models]
    assert rates[0] == rates[1]
    weighted = [layer.optimizer.lr_scheduler.current_lr for layer in layers(models[1]).values() if layer.parameters]
    assert len(set(weighted)) == 1  # one loss per step, for any number of parameters
    assert weighted[0] < 0.01


@pytest.mark.parametrize(
    "changes",
    [
        {"batchsize": 1},
        {"batchsize": 100},
        {"beta": 0.25},
        {"beta": 0.0},
        {"T": 1, "latent_dim": 1},
        {"enc_conv1_pad": "same", "enc_conv2_pad": (1, 0), "enc_conv2_stride": 2, "enc_pool2_kernel_shape": 1},
        {"enc_pool1_stride": 1, "enc_pool1_kernel_shape": (3, 2)},
        {"init": "he_normal", "n_threads": 1},
        {"init": "he_normal", "n_threads": 3},
    ],
    ids=str,
)
def test_steps_by_hand_give_the_bits_of_fit_for_other_arguments(changes):
    assert_by_hand_equals_fit(random_images(7), **changes)


def test_steps_by_hand_give_the_bits_of_fit_over_many_batches():
    assert_by_hand_equals_fit(random_images(2 * 40 + 1), batchsize=2)


class Alternating(SchedulerBase):
    """Two alternating rates."""

    def __call__(self, step=None, cur_loss=None):
        return (0.01, 0.03)[step % 2]


def test_a_rate_may_change_at_every_step():
    def alternate(vae):
        vae.encoder["FC4"].optimizer.lr_scheduler = Alternating()

    assert_by_hand_equals_fit(random_images(), prepare=alternate, optimizer="SGD(lr=0.01)", batchsize=2)


class Accelerating(SGD):
    """A third-party optimizer whose momentum increases with each step."""

    def _constants(self, state):
        return (self.cur_step / (self.cur_step + 1),)


def test_an_optimizer_of_somebody_elses_is_asked_at_every_step():
    def accelerate(vae):
        for layer in layers(vae).values():
            layer.optimizer = Accelerating(lr=0.01)

    assert_by_hand_equals_fit(random_images(), prepare=accelerate, batchsize=2)


def test_steps_by_hand_give_the_bits_of_fit_on_larger_coloured_images():
    changes = {"enc_conv1_out_ch": 17, "enc_conv2_out_ch": 33, "latent_dim": 70, "T": 20, "batchsize": 64}
    assert_by_hand_equals_fit(random_images(70, (19, 23, 3)), n_epochs=1, **changes)


def test_steps_by_hand_give_the_bits_of_fit_where_most_gradients_of_the_second_convolution_are_zero():
    changes = {"enc_conv2_kernel_shape": (5, 5), "enc_pool2_stride": 2, "algorithm": "winograd", "batchsize": 20}
    assert_by_hand_equals_fit(random_images(40, (28, 28, 1)), n_epochs=1, **changes)


@pytest.mark.parametrize("frozen", [("encoder/Conv1", "decoder/FC1"), ("encoder/Conv2", "encoder/FC4")], ids=str)
def test_frozen_layers_stay_and_the_others_train_as_by_hand(frozen):
    def freeze(vae):
        for path in frozen:
            layers(vae)[path].freeze()

    before = parameters(initialized(small_vae(random_state=np.random.default_rng(7))))
    _, fitted = assert_by_hand_equals_fit(random_images(), prepare=freeze)
    for path, array in parameters(fitted).items():
        stays = path.rpartition("/")[0] in frozen
        assert np.array_equal(array, before[path]) == stays, path


def test_a_layer_trains_again_after_unfreeze():
    vae = small_vae()
    vae.encoder["Conv1"].freeze()
    W = parameters(vae.fit(random_images()))["encoder/Conv1/W"]
    vae.encoder["Conv1"].unfreeze()
    assert np.abs(parameters(vae.fit(random_images()))["encoder/Conv1/W"] - W).max() > 1e-3


@pytest.mark.parametrize("act_fn", ["Tanh", "Leaky ReLU(alpha=0.1)", "Affine(slope=2, intercept=0.5)", "Identity"])
def test_other_activations_train_as_by_hand(act_fn):
    def change(vae):
        for layer in (vae.encoder["Conv1"], vae.encoder["FC4"], vae.decoder["FC1"]):
            layer.set_params({"act_fn": act_fn})
        vae.encoder["Pool1"].set_params({"mode": "average"})

    assert_by_hand_equals_fit(random_images(), prepare=change, optimizer="Adam(lr=0.002)")


def without_a_fused_second_block(vae):
    vae.encoder["Conv2"].set_params({"act_fn": "Tanh"})
    vae.encoder["Pool2"].set_params({"mode": "average"})


def test_a_block_below_a_convolution_of_another_kind_trains_as_by_hand():
    # Winograd's backward pass clears the gradient of its input before reading the input.
    assert_by_hand_equals_fit(random_images(), prepare=without_a_fused_second_block, algorithm="winograd")


@pytest.mark.parametrize("algorithm", ["winograd", "auto"])
@pytest.mark.parametrize("prepare", [without_a_fused_second_block, lambda vae: None])
def test_the_parameters_gradients_are_those_of_each_layer_alone(prepare, algorithm):
    X, vae = random_images(dtype=np.float64), initialized(small_vae(dtype="float64", algorithm=algorithm))
    prepare(vae)
    vae.backward(X, vae.forward(X))
    for name, layer in vae.encoder.items():
        alone = copy.deepcopy(layer)
        alone.flush_gradients()
        alone.forward(layer.X[0])
        alone.backward(vae.derived_variables[f"dEncoder_{name}_out"])
        for of, gradient in alone.gradients.items():
            np.testing.assert_allclose(layer.gradients[of], gradient, rtol=1e-9, atol=1e-12, err_msg=f"{name}/{of}")


def test_steps_by_hand_lower_the_loss_of_real_digits():
    rng = np.random.default_rng(0)
    vae = small_vae(random_state=rng)
    X = (datasets.load("mnist-sample").images[:64] / 255).astype(np.float32)
    losses = list(steps_by_hand(vae, X, rng, batchsize=16, n_epochs=5))
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 100


# --------------------------------------------------------------------- forward


def test_forward_works_before_any_fit():
    vae, X = small_vae(), random_images(3)
    X_recon = vae.forward(X)
    assert X_recon.shape == (3, 72)
    assert X_recon.dtype == np.float32
    assert X_recon.min() > 0
    assert X_recon.max() < 1
    assert vae.decoder["FC2"].hyperparameters["n_out"] == 72


def test_forward_with_the_same_noise_gives_the_same_images():
    vae, X = small_vae(), random_images(3)
    noise = np.random.default_rng(0).standard_normal((3, 2))
    first = vae.forward(X, noise=noise)
    np.testing.assert_array_equal(vae.forward(X, noise=noise.tolist()), first)
    assert not np.array_equal(vae.forward(X), first)
    assert vae.derived_variables["noise"].dtype == np.float32


def test_forward_draws_its_noise_from_the_random_state():
    first, second = (small_vae(random_state=3) for _ in range(2))
    np.testing.assert_array_equal(first.forward(random_images()), second.forward(random_images()))
    noise = first.derived_variables["noise"]
    assert noise.shape == (10, 2)
    assert np.abs(noise).max() < 5
    assert len(np.unique(noise)) == 20


def test_forward_without_retaining_leaves_no_trace():
    vae, X = small_vae(), random_images()
    X_recon = vae.forward(X)
    kept = vae.derived_variables
    vae.forward(random_images(6, seed=9), retain_derived=False)
    assert [len(layer.X) for layer in layers(vae).values()] == [1] * 9
    assert vae.derived_variables["t_mean"] is kept["t_mean"]
    vae.backward(X, X_recon)


def test_looking_at_reconstructions_between_fits_changes_nothing():
    X = random_images()
    plain, looked = (initialized(small_vae(random_state=s)) for s in (5, 5))
    noise = np.zeros((10, 2))
    plain.fit(X).fit(X)
    looked.forward(X, noise=noise)
    looked.fit(X)
    looked.forward(X, noise=noise)
    looked.forward(X, noise=noise)
    looked.fit(X)
    assert_same_bits(parameters(looked), parameters(plain))


def test_noise_of_another_shape_is_refused_and_retains_nothing():
    vae, X = small_vae(), random_images()
    with pytest.raises(ValueError, match=r"noise must have the shape \(10, 2\), got \(3, 2\)"):
        vae.forward(X, noise=np.zeros((3, 2)))
    vae.backward(X, vae.forward(X))


def test_uint8_images_are_scaled():
    vae = small_vae(random_state=0)
    X = np.random.default_rng(0).integers(0, 256, (3, 9, 8, 1), dtype=np.uint8)
    noise = np.zeros((3, 2))
    of_bytes, of_floats = vae.forward(X, noise=noise), vae.forward(X / np.float32(255), noise=noise)
    np.testing.assert_array_equal(of_bytes, of_floats)


# -------------------------------------------------------------------- backward


def test_backward_needs_exactly_one_retained_forward():
    vae, X = small_vae(), random_images()
    with pytest.raises(RuntimeError, match="exactly one retained forward since the last flush, got 0"):
        vae.backward(X, np.zeros((10, 72)))
    vae.forward(X, retain_derived=False)
    with pytest.raises(RuntimeError, match="got 0"):
        vae.backward(X, np.zeros((10, 72)))
    X_recon = vae.forward(X)
    vae.forward(X)
    with pytest.raises(RuntimeError, match="got 2"):
        vae.backward(X, X_recon)
    vae.flush_gradients()
    vae.backward(X, vae.forward(X))


@pytest.mark.parametrize(("n_images", "n_reconstructions"), [(9, 10), (10, 9), (9, 9)])
def test_backward_refuses_another_batch(n_images, n_reconstructions):
    vae = small_vae()
    vae.forward(random_images(10))
    with pytest.raises(ValueError, match=r"X_train and X_recon must be those of the last forward.*\(10, 9, 8, 1\)"):
        vae.backward(random_images(n_images), np.zeros((n_reconstructions, 72)))
    assert all(not gradient.any() for gradient in by_path(vae.gradients).values())


def test_gradients_add_up_until_they_are_flushed():
    vae, X = small_vae(dtype="float64"), random_images()
    X_recon = vae.forward(X)
    first = vae.backward(X, X_recon)
    once = by_path(vae.gradients)
    np.testing.assert_array_equal(vae.backward(X, X_recon), first)
    assert first.shape == X.shape
    for path, gradient in by_path(vae.gradients).items():
        np.testing.assert_allclose(gradient, 2 * once[path], rtol=1e-14)
    before = parameters(vae)
    vae.flush_gradients()
    assert all(not gradient.any() for gradient in by_path(vae.gradients).values())
    assert all(layer.X == [] for layer in layers(vae).values())
    assert_same_bits(parameters(vae), before)


def test_update_moves_the_parameters_and_flushes():
    vae, X = small_vae(optimizer="SGD(lr=0.5)", dtype="float64"), random_images()
    vae.backward(X, vae.forward(X))
    before, gradients = parameters(vae), by_path(vae.gradients)
    vae.update()
    for path, array in parameters(vae).items():
        np.testing.assert_allclose(array, before[path] - 0.5 * gradients[path], rtol=1e-12, atol=1e-15)
    assert all(not gradient.any() for gradient in by_path(vae.gradients).values())
    assert all(layer.X == [] for layer in layers(vae).values())
    assert all(layer.optimizer.cur_step == 1 for layer in layers(vae).values())


def test_frozen_layers_pass_gradients_on():
    X, noise = random_images(), np.zeros((10, 2))
    free, frozen = (small_vae(random_state=0) for _ in range(2))
    for path in ("encoder/FC4", "decoder/FC2"):
        layers(frozen)[path].freeze()
    dX = [vae.backward(X, vae.forward(X, noise=noise)) for vae in (free, frozen)]
    np.testing.assert_array_equal(dX[0], dX[1])
    assert dX[0].any()


def gradients_by_hand(between=lambda vae: None, before=lambda vae: None):
    """Return all gradients of a step by hand, with something done before it and between forward and backward."""
    X, vae = random_images(), initialized(small_vae(dtype="float64"))
    before(vae)
    X_recon = vae.forward(X, noise=np.ones((10, 2)))
    between(vae)
    vae.backward(X, X_recon)
    return by_path(vae.gradients)


def freeze(vae):
    vae.encoder["FC5"].freeze()
    vae.encoder["Conv1"].freeze()


def unfreeze(vae):
    vae.encoder["FC5"].unfreeze()
    vae.encoder["Conv1"].unfreeze()


def other_weights(vae):
    for layer in vae.encoder.values():
        layer.set_params({"parameters": {name: 0.5 * array for name, array in layer.parameters.items()}})


def other_activation(vae):
    vae.encoder["FC4"].act_fn = Tanh()


def other_beta(vae):
    vae.beta = 50.0


@pytest.mark.parametrize("change", [freeze, other_weights, other_activation, other_beta])
def test_what_changes_between_forward_and_backward_counts(change):
    """The gradients are those of a step that finds everything changed."""
    changed, expected = gradients_by_hand(between=change), gradients_by_hand(before=change)
    assert_same_bits(changed, expected)


def test_a_layer_that_thaws_between_forward_and_backward_gets_its_gradients():
    thawed = gradients_by_hand(before=freeze, between=unfreeze)
    assert_same_bits(thawed, gradients_by_hand())


def test_layers_may_be_updated_one_by_one():
    X, together, one_by_one = random_images(), *(initialized(small_vae()) for _ in range(2))
    noise = np.ones((10, 2))
    for _ in range(2):
        for vae in (together, one_by_one):
            vae.backward(X, vae.forward(X, noise=noise))
        together.update()
        for layer in layers(one_by_one).values():
            layer.update()
    assert_same_bits(parameters(one_by_one), parameters(together))


def test_gradients_of_outputs_are_not_computed_with_changed_weights():
    X, vae = random_images(), initialized(small_vae())
    vae.backward(X, vae.forward(X))
    vae.encoder["FC5"].update()
    assert vae.derived_variables["dEncoder_FC4_out"] is None
    assert vae.derived_variables["t_mean"] is not None


def test_a_step_by_hand_in_a_callback_starts_without_gradients():
    X, noise, seen = random_images(), np.ones((10, 2)), []

    def step(vae, *_):
        vae.backward(X, vae.forward(X, noise=noise))
        seen.append((by_path(vae.gradients), parameters(vae)))
        vae.flush_gradients()

    vae = small_vae().fit(X, n_epochs=1, callbacks=[step])
    vae.backward(X, vae.forward(X, noise=noise))
    assert_same_bits(parameters(vae), seen[0][1])
    assert_same_bits(by_path(vae.gradients), seen[0][0])


def test_a_model_is_freed_after_a_forward_and_copied_without_it():
    vae = initialized(small_vae())
    vae.forward(random_images())
    copied = pickle.loads(pickle.dumps(copy.deepcopy(vae)))
    with pytest.raises(RuntimeError, match="got 0"):
        copied.backward(random_images(), np.zeros((10, 72)))
    assert copied.encoder["Conv1"].X == []
    dead = weakref.ref(vae)
    del vae
    gc.collect()
    assert dead() is None


# ------------------------------------------------------------------ properties


def test_the_nested_dictionaries_are_live_and_named_as_numpy_mls():
    vae, X = small_vae(), random_images()
    assert vae.parameters["components"]["encoder"]["Conv1"] == {"W": None, "b": None}
    vae.backward(X, vae.forward(X))
    for components in (vae.parameters, vae.gradients, vae.derived_variables):
        assert list(components["components"]) == ["encoder", "decoder"]
        assert list(components["components"]["encoder"]) == list(vae.encoder)
        assert list(components["components"]["decoder"]) == list(vae.decoder)
    assert vae.parameters["components"]["encoder"]["Pool1"] == {}
    assert vae.parameters["components"]["decoder"]["FC1"] is vae.decoder["FC1"].parameters
    assert vae.gradients["components"]["encoder"]["FC4"]["W"].shape == vae.encoder["FC4"].parameters["W"].shape
    assert isinstance(vae.encoder, OrderedDict)
    assert isinstance(vae.decoder, OrderedDict)


DERIVED_SHAPES = {
    "noise": (10, 2),
    "t_mean": (10, 2),
    "t_log_var": (10, 2),
    "dDecoder_FC1_in": (10, 2),
    "dDecoder_t_mean": (10, 2),
    "dDecoder_t_log_var": (10, 2),
    "dDecoder_FC1_out": (10, 8),
    "dEncoder_FC5_out": (10, 4),
    "dEncoder_FC4_out": (10, 8),
    "dEncoder_Flatten3_out": (10, 6),
    "dEncoder_Pool2_out": (10, 1, 1, 6),
    "dEncoder_Conv2_out": (10, 2, 2, 6),
    "dEncoder_Pool1_out": (10, 3, 3, 4),
    "dEncoder_Conv1_out": (10, 7, 6, 4),
}


def test_derived_variables_have_numpy_mls_names_and_their_shapes():
    vae, X = small_vae(), random_images()
    before = dict(vae.derived_variables)
    assert before.pop("components").keys() == {"encoder", "decoder"}
    assert before == dict.fromkeys(DERIVED_SHAPES)
    vae.backward(X, vae.forward(X))
    after = vae.derived_variables
    assert {name: after[name].shape for name in DERIVED_SHAPES} == DERIVED_SHAPES
    vae.update()
    assert vae.derived_variables["t_mean"] is after["t_mean"]  # valid until the next step


def test_hyperparameters_are_there_before_and_after_the_first_forward():
    vae = small_vae(enc_conv2_pad=1)
    before = vae.hyperparameters
    assert before["enc_conv1_in_ch"] is None
    vae.forward(random_images())
    after = vae.hyperparameters
    assert after["enc_conv1_in_ch"] == 1
    assert after["layer"] == "BernoulliVAE"
    assert after["loss"] == "VAELoss"
    assert after["encoder_ids"] == list(vae.encoder)
    assert after["decoder_ids"] == ["FC1", "FC2"]
    given = {name: value for name, value in SMALL.items() if name.startswith("enc_") or name in ("T", "latent_dim")}
    assert {name: after[name] for name in given} == given
    assert after["optimizer"] == "Adam(lr=0.01)"
    assert after["init"] == "glorot_uniform"
    assert after["enc_conv2_pad"] == 1
    assert after["components"]["decoder"]["FC2"]["n_out"] == 72
    assert before.keys() == after.keys()


def test_the_model_has_its_loss():
    vae = small_vae()
    assert isinstance(vae.loss, VAELoss)
    assert str(vae.loss) == "VAELoss"
