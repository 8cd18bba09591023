"""Arguments under the names of other libraries: the error says what each is called here."""

import pytest

import cvae
from cvae.callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau, TensorBoard
from cvae.layers import BatchNorm2D, Conv2D, ConvTranspose2D, FullyConnected, GroupNorm, Pool2D, Upsample2D
from cvae.likelihoods import Bernoulli, Gaussian
from cvae.nn.initializers import OptimizerInitializer
from cvae.objectives import ELBO
from cvae.optimizers import SGD, Adam

NAMES = [
    (Conv2D, "filters", "which is out_ch here"),
    (Conv2D, "kernel_size", "which is kernel_shape here"),
    (ConvTranspose2D, "padding", "which is pad here"),
    (Conv2D, "in_channels", "which is found from the images here"),
    (FullyConnected, "units", "which is n_out here"),
    (FullyConnected, "activation", "which is act_fn here"),
    (BatchNorm2D, "eps", "which is epsilon here"),
    (GroupNorm, "num_groups", "which is groups here"),
    (Pool2D, "pool_size", "which is kernel_shape here"),
    (Upsample2D, "scale_factor", "which is factor here"),
    (Adam, "learning_rate", "which is lr here"),
    (Adam, "beta_1", "which is decay1 here"),
    (Adam, "weight_decay", "which is an argument of AdamW here"),
    (SGD, "momentun", "which is momentum here"),
    (Gaussian, "sigma", "which is scale here"),
    (ELBO, "kl_weight", "which is beta here"),
    (EarlyStopping, "restore_best_weights", "which is restore_best here"),
    (EarlyStopping, "mode", "which is left out: the smallest loss is the best here"),
    (ReduceLROnPlateau, "threshold", "which is min_delta here"),
    (ModelCheckpoint, "filepath", "which is path here"),
    (TensorBoard, "log_dir", "which is folder here"),
    (cvae.VAE, "n_epoch", "which is n_epochs here"),
    (cvae.BernoulliVAE, "epochs", "which is n_epochs here"),
    (Bernoulli, "whatever", ""),
]


@pytest.mark.parametrize(("made", "name", "hint"), NAMES, ids=[f"{made.__name__}-{name}" for made, name, _ in NAMES])
def test_an_unknown_argument_is_named_with_what_it_is_called_here(made, name, hint):
    with pytest.raises(TypeError) as caught:
        made(**{name: 1})
    message = str(caught.value)
    expected = f"{made.__name__} got an unexpected keyword argument {name!r}{', ' if hint else ''}{hint}"
    assert message.startswith(expected)
    assert made in (cvae.VAE, cvae.BernoulliVAE) or message.removeprefix(expected).startswith("; it takes ")


def test_so_does_that_of_a_call_string():
    with pytest.raises(ValueError, match=r"Adam takes lr, .*'learning_rate', which is lr here"):
        OptimizerInitializer("Adam(learning_rate=0.1)")()


def test_classes_that_pass_arguments_on_take_any():
    class Mine(EarlyStopping):
        def __init__(self, **options):
            super().__init__(patience=options["epochs"])

    assert Mine(epochs=3).patience == 3


def test_so_does_set_params():
    with pytest.raises(ValueError, match="set_params must get arguments of VAE, got 'n_epoch', which is n_epochs here"):
        cvae.VAE().set_params(n_epoch=3)
