"""Models that make grey images black and white."""

import numpy as np
import pytest
from small_vae import assert_same_bits, checked, initialized, parameters, random_images, small_vae, steps_by_hand

import cvae
from cvae.data.binarization import Binarization

KINDS = ["dynamic", "fixed", 0.5]
IMAGES = random_images(24)


def flat_vae(**changes):
    layers = ["Flatten()", "FullyConnected(8, act_fn='ReLU')"], ["FullyConnected(8, act_fn='ReLU')"]
    return cvae.VAE(
        *layers, **{"T": 2, "batchsize": 8, "random_state": 0, "verbose": False, "warm_start": True, **changes}
    )


@pytest.mark.parametrize("how", ["Dynamic", "", 1, 1.0, -0.1, np.nan, np.inf])
def test_other_values_are_refused(how):
    with pytest.raises(ValueError, match=r"binarize must be None, 'dynamic', 'fixed' or a threshold in \[0, 1\), got"):
        checked(flat_vae(binarize=how))


@pytest.mark.parametrize("how", [True, ["dynamic"], (0.5,)])
def test_other_types_are_refused(how):
    with pytest.raises(TypeError, match=r"binarize must be None, 'dynamic', 'fixed' or a threshold"):
        checked(flat_vae(binarize=how))


@pytest.mark.parametrize("how", KINDS)
def test_a_model_sees_black_and_white(how):
    """The likelihood of a grey image is that of a drawn one."""
    vae = flat_vae(binarize=how).fit(IMAGES, n_epochs=1)
    black_and_white = Binarization(how).apply(IMAGES.copy(), Binarization(how).new_key(np.random.default_rng(5)))
    assert set(np.unique(black_and_white)) == {0, 1}
    noise_after_key = np.random.default_rng(5)
    Binarization(how).new_key(noise_after_key)
    plain = flat_vae().fit(IMAGES, n_epochs=1)
    for name, layer in vae._layers().items():
        plain._layers()[name].set_params({"parameters": layer.parameters})
    expected = plain.elbo_terms(black_and_white, noise_after_key)
    np.testing.assert_array_equal(vae.elbo_terms(IMAGES, np.random.default_rng(5)), expected)


def test_dynamic_draws_differ_in_each_epoch_and_fixed_ones_do_not():
    def losses(how):
        vae = flat_vae(binarize=how, optimizer="SGD(lr=0)", batchsize=24)
        vae.fit(IMAGES, n_epochs=1)
        for layer in vae._layers().values():  # the encoder's variance vanishes, so that only the images can differ
            for parameter in layer.parameters.values():
                parameter[...] = 0
        vae.encoder_["Code"].parameters["b"][..., 2:] = -100
        rng = np.random.default_rng(1)
        vae.decoder_["Output"].parameters["b"][...] = rng.standard_normal(vae.decoder_["Output"].b.shape)
        return vae.fit(IMAGES, n_epochs=3).history_["reconstruction"][1:]

    fixed, dynamic = losses("fixed"), losses("dynamic")
    np.testing.assert_allclose(fixed, fixed[0], rtol=1e-6)
    assert min(np.diff(np.sort(dynamic))) > 0.01


@pytest.mark.parametrize("how", KINDS)
def test_scores_are_repeatable_and_follow_from_the_image_alone(how):
    vae = flat_vae(binarize=how).fit(IMAGES, n_epochs=1)
    np.testing.assert_array_equal(vae.transform(IMAGES), vae.transform(IMAGES))
    np.testing.assert_array_equal(vae.transform(IMAGES[::-1]), vae.transform(IMAGES)[::-1])
    np.testing.assert_array_equal(vae.elbo(IMAGES[::-1]), vae.elbo(IMAGES)[::-1])
    np.testing.assert_array_equal(vae.log_likelihood(IMAGES[::-1], 7), vae.log_likelihood(IMAGES, 7)[::-1])


def test_another_random_state_draws_other_pixels_if_dynamic():
    for how, may_differ in (("dynamic", True), ("fixed", False), (0.5, False)):
        vae = flat_vae(binarize=how).fit(IMAGES, n_epochs=1)
        vae.decoder_["FullyConnected_1"].parameters["W"][...] = 0  # so that codes do not matter
        reconstruction = [vae.elbo_terms(IMAGES, seed)[0] for seed in (0, 1)]
        assert (np.abs(reconstruction[0] - reconstruction[1]).max() > 1e-3) == may_differ


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_by_hand_equals_fit(how, n_threads):
    rngs = [np.random.default_rng(3) for _ in range(2)]
    by_hand, fitted = (small_vae(random_state=rng, binarize=how, n_threads=n_threads) for rng in rngs)
    for _ in steps_by_hand(by_hand, IMAGES, rngs[0], batchsize=4, n_epochs=2):
        pass
    initialized(fitted).fit(IMAGES, n_epochs=2)
    assert_same_bits(parameters(by_hand), parameters(fitted))


@pytest.mark.parametrize("how", KINDS)
def test_a_loaded_model_goes_on_with_the_same_draws(how, tmp_path):
    vae = flat_vae(binarize=how).fit(IMAGES, n_epochs=1)
    vae.save(tmp_path / "model")
    again = cvae.load(tmp_path / "model")
    assert again.binarize == how
    np.testing.assert_array_equal(again.elbo(IMAGES), vae.elbo(IMAGES))
    losses = [each.fit(IMAGES, n_epochs=1).history_["loss"] for each in (vae, again)]
    assert losses[0] == losses[1]


def test_bytes_and_floats_are_drawn_alike():
    grey = np.random.default_rng(0).integers(0, 256, (16, 9, 8, 1), dtype=np.uint8)
    vae = flat_vae(binarize="dynamic").fit(grey, n_epochs=1)
    np.testing.assert_array_equal(vae.elbo(grey), vae.elbo(grey.astype(np.float32) / np.float32(255)))


def test_fixed_pixels_are_the_same_in_models_of_both_dtypes():
    grey = np.arange(256, dtype=np.uint8)[np.random.default_rng(0).integers(0, 256, (16, 9, 8, 1))]
    for images in (grey, grey / 255, random_images(16), random_images(16, dtype=np.float64)):
        drawn = []
        for dtype in ("float32", "float64"):
            vae = flat_vae(binarize="fixed", dtype=dtype)
            vae.forward(images)
            drawn.append(vae._retained[0].images)
        np.testing.assert_array_equal(*drawn)


def test_it_can_be_changed_without_losing_parameters():
    vae = flat_vae(binarize="dynamic").fit(IMAGES, n_epochs=1)
    before = vae.encoder_["Code"].W.copy()
    vae.set_params(binarize=0.5)
    np.testing.assert_array_equal(vae.encoder_["Code"].W, before)
    np.testing.assert_array_equal(vae.elbo(IMAGES), vae.elbo((IMAGES > 0.5).astype(np.float32)))
    vae.binarize = "static"
    with pytest.raises(ValueError, match="binarize must be"):
        vae.elbo(IMAGES)


def test_only_probabilities_can_be_drawn():
    vae = flat_vae(binarize="dynamic", likelihood="Gaussian()")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        vae.fit(IMAGES * 3)
