"""Plans: they are rebuilt when layers have changed."""

import copy

import numpy as np
import pytest
from small_vae import initialized, random_images, small_vae

from cvae.activations import LeakyReLU, Tanh
from cvae.optimizers import SGD


def made(**changes):
    """Return a model whose FC4 has an activation with an argument, and its plan for inference."""
    vae = initialized(small_vae(**changes))
    vae.encoder["FC4"].act_fn = LeakyReLU(alpha=0.5)
    vae.encode(random_images())
    return vae, vae._plan(1, training=False)


def is_current(vae, plan):
    return plan.is_current(vae.encoder, vae.decoder)


def test_using_a_model_keeps_its_plans():
    vae, plan = made()
    vae.elbo(random_images(7))
    vae.sample(10)
    vae.fit(random_images(), validation_data=random_images(3))
    vae.decoder["FC2"].W[:] = 0  # programs read the arrays when they run
    vae.encoder["Conv1"].optimizer = SGD()
    assert is_current(vae, plan)
    assert vae._plan(1, training=False) is plan


def set_attribute(layer, name, value):
    def change(vae):
        setattr(vae.encoder[layer], name, value)

    return pytest.param(change, id=f"{layer}.{name}")


def new_array(of):
    def change(vae):
        arrays = getattr(vae.encoder["Conv2"], of)
        arrays["b"] = arrays["b"].copy()

    return pytest.param(change, id=f"Conv2.{of}[b]")


def new_arrays(of):
    def change(vae):
        layer = vae.encoder["FC4"]
        setattr(layer, of, dict(getattr(layer, of)))

    return pytest.param(change, id=f"FC4.{of}")


def slope(vae):
    vae.encoder["FC5"].act_fn.slope = 2


def intercept(vae):
    vae.encoder["FC5"].act_fn.intercept = 0.5


def alpha(vae):
    vae.encoder["FC4"].act_fn.alpha = 0.25


def another_layer(vae):
    vae.decoder["FC1"] = copy.deepcopy(vae.decoder["FC1"])


def a_layer_less(vae):
    del vae.encoder["Pool2"]


def a_layer_more(vae):
    vae.decoder["FC3"] = copy.deepcopy(vae.decoder["FC2"])


def the_layers_order(vae):
    vae.encoder.move_to_end("Pool1")


def a_layer_from_one_end_to_the_other(vae):
    vae.decoder["FC5"] = vae.encoder.pop("FC5")
    vae.decoder.move_to_end("FC5", last=False)


@pytest.mark.parametrize(
    "change",
    [
        set_attribute("FC4", "act_fn", Tanh()),
        set_attribute("Pool2", "mode", "average"),
        set_attribute("Flatten3", "keep_dim", "last"),
        set_attribute("Pool2", "kernel_shape", (1, 1)),
        set_attribute("Conv2", "stride", 2),
        set_attribute("Conv2", "pad", 1),
        set_attribute("Conv2", "dilation", 1),
        set_attribute("Conv2", "algorithm", "winograd"),
        set_attribute("Pool1", "dtype", np.dtype("float64")),
        set_attribute("Conv1", "trainable", False),
        *map(new_array, ("parameters", "gradients")),
        *map(new_arrays, ("parameters", "gradients")),
        slope,
        intercept,
        alpha,
        another_layer,
        a_layer_less,
        a_layer_more,
        the_layers_order,
        a_layer_from_one_end_to_the_other,
    ],
)
def test_a_plan_notices(change):
    vae, plan = made()
    assert is_current(vae, plan)
    change(vae)
    assert not is_current(vae, plan)


def test_an_output_whose_activation_changes_in_place_is_refused():
    vae, _ = made()
    slope(vae)
    with pytest.raises(ValueError, match=r"^FC5 must have the activation Affine\(slope=1, intercept=0\), got "):
        vae.encode(random_images())


def test_an_activation_that_is_no_longer_the_identity_is_applied():
    X = random_images()
    vae = initialized(small_vae(dtype="float64"))
    vae.encoder["FC4"].set_params({"act_fn": "Affine(slope=1, intercept=0)"})
    plain = vae.encode(X)[0]
    vae.encoder["FC4"].act_fn.slope = 3
    np.testing.assert_allclose(vae.encode(X)[0], 3 * plain, rtol=1e-12)
