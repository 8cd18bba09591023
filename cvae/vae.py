"""numpy-ml's convolutional variational autoencoder with Bernoulli outputs, and loading of saved models."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from cvae.checking import check_number, check_size
from cvae.compat.losses import VAELoss
from cvae.inputs import ImageShape
from cvae.likelihoods import Bernoulli, Likelihood
from cvae.model import VAE
from cvae.nn.conv2d import Conv2D
from cvae.nn.flatten import Flatten
from cvae.nn.fully_connected import FullyConnected
from cvae.nn.geometry import IntOrPair, Pad, resolve_kernel_shape, resolve_pad, resolve_stride
from cvae.nn.pool2d import Pool2D
from cvae.nn.sequence import Layers
from cvae.objectives import ELBO, Objective
from cvae.optim.base import OptimizerBase

AnyVAE = TypeVar("AnyVAE", bound=VAE)


class BernoulliVAE(VAE):
    """Convolutional variational autoencoder with Bernoulli outputs, trained on the CPU.

    Encoder: Conv1 (ReLU), Pool1 (max), Conv2 (ReLU), Pool2 (max), Flatten3, FC4 (ReLU), FC5, whose 2T outputs are the
    mean and log variance of the code z. Decoder: FC1 (ReLU), FC2, whose sigmoid is the probability of each pixel. The
    loss is the binary cross-entropy summed over the pixels plus `beta` times the KL divergence from the code's
    posterior to N(0, I), averaged over the images (Kingma & Welling 2014), in nats per image. Layers, methods and the
    arguments up to `init` are those of numpy-ml's class of this name; later arguments are keyword-only.

    Parameters
    ----------
    T : int
        Size of the latent code.
    latent_dim : int
        Width of the hidden dense layers, FC4 and FC1.
    enc_conv1_pad, enc_conv2_pad : int, "same", "valid", (rows, cols) or (top, bottom, left, right)
        Zero padding of the convolutions' inputs.
    enc_conv1_out_ch, enc_conv2_out_ch : int
        Output channels of the convolutions.
    enc_conv1_stride, enc_pool1_stride, enc_conv2_stride, enc_pool2_stride : int
    enc_conv1_kernel_shape, enc_pool1_kernel_shape, enc_conv2_kernel_shape, enc_pool2_kernel_shape : (rows, cols) or int
    optimizer : str, dict, optimizer or None
        For example "Adam(lr=0.001)"; each layer gets its own copy. See `cvae.optimizers`.
    init : str
        Distribution of the starting weights; see `cvae.initializers.WeightInitializer`.
    lr : float, optional
        Learning rate, in the place of the optimizer's own.
    global_clip_norm : float, optional
        Largest L2 norm, at least 0, of the gradients of all parameters together, which are scaled down to it before
        the optimizers' steps. An optimizer's own `clip_norm`, that of each parameter alone, must then be None.
    binarize : None, "dynamic", "fixed" or float
        Makes grey images black and white: "dynamic" draws each pixel anew at each use in training, white with the
        probability that its grey value is; "fixed" draws each image once, the same way in all models; a number is a
        threshold. `encode` always draws the same, `elbo` and `log_likelihood` by their `random_state`.
    n_epochs : int
        Default number of passes over the data in `fit`.
    batchsize : int
        Images per batch.
    warm_start : bool
        Whether `fit` goes on with a trained model, as in numpy-ml, rather than starting anew; `partial_fit` always goes
        on.
    beta : float
        Weight of the KL divergence, at least 0 (Higgins et al. 2017).
    image_shape : (rows, cols) or (rows, cols, channels), optional
        Of images that come as rows (n, features), as in scikit-learn's pipelines. Without it rows are images of a
        single row of pixels, (1, features, 1).
    value_range : (low, high) or "data", optional
        Range of the pixels that is mapped to [0, 1] within the model, batch by batch; "data" means that of all pixels
        of the first `fit`. All numbers count as they are, those of uint8 too, and images come back in the same range.
        None: pixels are in [0, 1], those of uint8 in 0..255.
    condition : {"classes", "values"}, optional
        Train a conditional model, of p(x | y), to which `fit` and all that encodes or decodes are given labels y:
        "classes", such as ints or strings, of which the first `fit` must show all; or "values", a number or a vector
        for each image, which layers read as it is, so it is best scaled to about unit size. Encoder and decoder read
        labels in their `cvae.layers.Condition` layers; one is added where there is none.
    algorithm : {"auto", "direct", "winograd"}
        Algorithm of the convolutions; see `cvae.layers.Conv2D`.
    dtype : {"float32", "float64"}
    n_threads : int, optional
        None follows `cvae.get_num_threads`. Results do not depend on it.
    random_state : int, numpy.random.Generator or None
        Source of the starting weights, the order of the images and the noise: the same seed gives the same bits, also
        when `fit` starts anew, where a generator goes on.
    verbose : bool
        Whether `fit` shows a progress bar.

    Attributes
    ----------
    encoder, decoder : OrderedDict
        The layers by name.
    history_ : dict of lists
        One entry per epoch: loss, reconstruction, kl (nats per image), seconds, images_per_second and, with validation
        data, val_loss, val_reconstruction and val_kl.
    classes_ : array
        The sorted classes of a model with condition="classes", from its first `fit` on.
    n_features_in_ : int
        The number of pixels of an image, over all channels.
    feature_names_in_ : array of str, shape (n_features,)
        The names of the columns, if the first images were the rows of a data frame.

    Notes
    -----
    Arguments are checked by the first method that needs them, with a TypeError or ValueError, and may change later; see
    `set_params`.

    Examples
    --------
    >>> import cvae
    >>> digits = cvae.datasets.load("mnist-sample")
    >>> vae = cvae.BernoulliVAE(T=2, latent_dim=32, optimizer="Adam(lr=0.001)", random_state=0, verbose=False)
    >>> vae.fit(digits.images[:256], n_epochs=1).transform(digits.test_images[:3]).shape
    (3, 2)
    """

    loss = VAELoss()
    _describes_objective = frozenset({"beta"})
    _keeps_parameters = VAE._keeps_parameters | _describes_objective | {"algorithm"}

    def __init__(
        self,
        T: int = 5,
        latent_dim: int = 256,
        enc_conv1_pad: Pad = 0,
        enc_conv2_pad: Pad = 0,
        enc_conv1_out_ch: int = 32,
        enc_conv2_out_ch: int = 64,
        enc_conv1_stride: int = 1,
        enc_pool1_stride: int = 2,
        enc_conv2_stride: int = 1,
        enc_pool2_stride: int = 1,
        enc_conv1_kernel_shape: IntOrPair = (5, 5),
        enc_pool1_kernel_shape: IntOrPair = (2, 2),
        enc_conv2_kernel_shape: IntOrPair = (5, 5),
        enc_pool2_kernel_shape: IntOrPair = (2, 2),
        optimizer: str | dict[str, Any] | OptimizerBase | None = "RMSProp(lr=0.0001)",
        init: str = "glorot_uniform",
        *,
        lr: float | None = None,
        global_clip_norm: float | None = None,
        n_epochs: int = 20,
        batchsize: int = 128,
        warm_start: bool = True,
        beta: float = 1.0,
        binarize: float | str | None = None,
        image_shape: Sequence[int] | None = None,
        value_range: Sequence[float] | str | None = None,
        condition: str | None = None,
        algorithm: str = "auto",
        dtype: npt.DTypeLike = "float32",
        n_threads: int | None = None,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        verbose: bool = True,
    ) -> None:
        self.T, self.latent_dim = T, latent_dim
        self.enc_conv1_pad, self.enc_conv2_pad = enc_conv1_pad, enc_conv2_pad
        self.enc_conv1_out_ch, self.enc_conv2_out_ch = enc_conv1_out_ch, enc_conv2_out_ch
        self.enc_conv1_stride, self.enc_pool1_stride = enc_conv1_stride, enc_pool1_stride
        self.enc_conv2_stride, self.enc_pool2_stride = enc_conv2_stride, enc_pool2_stride
        self.enc_conv1_kernel_shape, self.enc_pool1_kernel_shape = enc_conv1_kernel_shape, enc_pool1_kernel_shape
        self.enc_conv2_kernel_shape, self.enc_pool2_kernel_shape = enc_conv2_kernel_shape, enc_pool2_kernel_shape
        self.optimizer, self.init, self.lr, self.global_clip_norm = optimizer, init, lr, global_clip_norm
        self.n_epochs, self.batchsize, self.beta, self.warm_start = n_epochs, batchsize, beta, warm_start
        self.binarize, self.image_shape, self.value_range = binarize, image_shape, value_range
        self.condition, self.algorithm = condition, algorithm
        self.dtype, self.n_threads, self.random_state = dtype, n_threads, random_state
        self.verbose = verbose

    @property
    def encoder(self) -> Layers:  # type: ignore[override]
        """The encoder's layers by name."""
        return self.encoder_

    @property
    def decoder(self) -> Layers:  # type: ignore[override]
        """The decoder's layers by name."""
        return self.decoder_

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_size("latent_dim", self.latent_dim)
        check_number("beta", self.beta, "[0, inf)")
        for i in (1, 2):
            check_size(f"enc_conv{i}_out_ch", getattr(self, f"enc_conv{i}_out_ch"))
            for layer in (f"enc_conv{i}", f"enc_pool{i}"):
                resolve_kernel_shape(getattr(self, f"{layer}_kernel_shape"), f"{layer}_kernel_shape")
                resolve_stride(getattr(self, f"{layer}_stride"), f"{layer}_stride")
            resolve_pad(getattr(self, f"enc_conv{i}_pad"), (1, 1), 1, 1, name=f"enc_conv{i}_pad")

    def _take_effect(self, changed: set[str]) -> None:
        super()._take_effect(changed)
        if "algorithm" in changed:
            for name in ("Conv1", "Conv2"):
                self.encoder_[name].set_params({"algorithm": self.algorithm})

    def _arguments_of(self, layer: str) -> dict[str, Any]:
        """Return a layer's arguments: those whose names start with `layer`, by the rest of the name."""
        names = [name for name in BernoulliVAE._argument_names() if name.startswith(layer)]
        return {name.removeprefix(layer): getattr(self, name) for name in names}

    def _make_likelihood(self) -> Likelihood:
        return Bernoulli()

    def _make_objective(self) -> Objective:
        return ELBO(self.beta)

    def _make_encoder(self, image_shape: ImageShape | None) -> Layers:
        encoder: Layers = OrderedDict()
        for i in (1, 2):
            encoder[f"Conv{i}"] = Conv2D(
                **self._arguments_of(f"enc_conv{i}_"), act_fn="ReLU", algorithm=self.algorithm, init=self.init
            )
            encoder[f"Pool{i}"] = Pool2D(**self._arguments_of(f"enc_pool{i}_"))
        encoder["Flatten3"] = Flatten()
        encoder["FC4"] = FullyConnected(self.latent_dim, act_fn="ReLU", init=self.init)
        encoder["FC5"] = FullyConnected(2 * self.T, act_fn="Affine(slope=1, intercept=0)", init=self.init)
        return encoder

    def _make_decoder(self, image_shape: ImageShape | None, likelihood: Likelihood) -> Layers:
        decoder: Layers = OrderedDict()
        decoder["FC1"] = FullyConnected(self.latent_dim, act_fn="ReLU", init=self.init)
        decoder["FC2"] = FullyConnected(None, act_fn="Sigmoid", init=self.init)
        return decoder

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """numpy-ml's hyperparameters: the arguments, the number of input channels and those of the layers."""
        return {
            "layer": "BernoulliVAE",
            "loss": str(self.loss),
            **{name: getattr(self, name) for name in ("T", "init", "optimizer", "latent_dim")},
            "enc_conv1_in_ch": self.encoder["Conv1"].hyperparameters["in_ch"],
            **{f"enc_{name}": value for name, value in self._arguments_of("enc_").items()},
            "encoder_ids": list(self.encoder),
            "decoder_ids": list(self.decoder),
            **self._components("hyperparameters"),
        }


@overload
def load(path: str | os.PathLike[str], cls: None = None) -> VAE: ...
@overload
def load(path: str | os.PathLike[str], cls: type[AnyVAE]) -> AnyVAE: ...
def load(path: str | os.PathLike[str], cls: type[Any] | None = None) -> Any:
    """Load a saved model; `partial_fit`, or `fit` with `warm_start`, goes on training where the saved one stopped.

    Parameters
    ----------
    path : path
        A safetensors file.
    cls : type, optional
        A class of your own, derived from that of the model, which gets the arguments of its constructor that were saved
        with it: numbers, text, lists and dicts. Other attributes are not in a file. None returns a model of this
        package, and warns if it was saved from a class of your own.

    Returns
    -------
    VAE
        Of the class that was saved, such as `BernoulliVAE`, or `cls`.

    Raises
    ------
    TypeError
        If `cls` is not such a class.
    OSError
        If the file cannot be read.
    ValueError
        If it is not a cvae model file, or of a model that is no `cls`.
    """
    from cvae.io import checkpoint  # here, for it takes a tenth of the time of `import cvae`

    classes: dict[str, type[Any]] = {"BernoulliVAE": BernoulliVAE, "VAE": VAE}
    return checkpoint.load(classes, path, cls)
