"""The variational autoencoder of any layers, and how it is trained and saved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae import assembly
from cvae.by_hand import ByHand
from cvae.core import Array
from cvae.io import checkpoint
from cvae.likelihoods import Likelihood
from cvae.nn.base import LayerBase
from cvae.nn.fully_connected import FullyConnected
from cvae.objectives import Objective
from cvae.optim.base import OptimizerBase
from cvae.parsing import check_size, made
from cvae.training import Callback, train


class VAE(ByHand):
    """Variational autoencoder of any layers, trained on the CPU.

    The encoder's layers and a dense layer, which is added, give the mean and the log variance of each image's code z;
    the decoder's layers and a dense layer, which is added, give what the likelihood needs for each pixel.

    Parameters
    ----------
    encoder, decoder : sequences of layers or their call strings
        For example ``["Conv2D(out_ch=32, kernel_shape=3, act_fn='ReLU')", "Flatten()"]``; see `cvae.layers`. Layers are
        copied. The encoder gets images (n, rows, cols, channels) and must put out rows (n, features); the decoder gets
        codes (n, T) and must put out rows, too.
    likelihood : str or Likelihood
        Of a pixel given the decoder's output, see `cvae.likelihoods`.
    objective : str or Objective
        What training minimizes, see `cvae.objectives`.
    T : int
        Size of the latent code.
    image_shape : (rows, cols) or (rows, cols, channels), optional
        Needed only where images come as rows (n, features), as in scikit-learn's pipelines.
    optimizer : str, dict, optimizer or None
        For example "Adam(lr=0.001)"; each layer that has not been given one gets its own copy. See `cvae.optimizers`.
    n_epochs : int
        Passes over the data in a `fit` that does not say otherwise.
    batchsize : int
        Images in a batch.
    dtype : {"float32", "float64"}
    n_threads : int, optional
        None follows `cvae.get_num_threads`. Results do not depend on it.
    random_state : int, numpy.random.Generator or None
        Start of the weights, the order of the images and the noise: the same seed gives the same bits.
    verbose : bool
        Whether `fit` shows its progress.

    Attributes
    ----------
    encoder_, decoder_ : OrderedDict
        The model's own layers by name.
    history_ : dict of lists
        An entry for each epoch: loss and the objective's terms (nats per image), seconds, images_per_second, and
        val_loss, val_reconstruction, val_kl where there was validation data.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid.

    Examples
    --------
    >>> import cvae
    >>> digits = cvae.datasets.load("mnist-sample")
    >>> encoder = ["Conv2D(out_ch=8, kernel_shape=3, stride=2, act_fn='ReLU')", "Flatten()"]
    >>> vae = cvae.VAE(encoder, ["FullyConnected(n_out=32, act_fn='ReLU')"], T=2, random_state=0, verbose=False)
    >>> vae.fit(digits.images[:256], n_epochs=1).transform(digits.test_images[:3]).shape
    (3, 2)
    """

    def __init__(
        self,
        encoder: Sequence[LayerBase | str],
        decoder: Sequence[LayerBase | str],
        likelihood: str | Likelihood = "Bernoulli",
        objective: str | Objective = "ELBO(beta=1)",
        T: int = 32,
        *,
        image_shape: Sequence[int] | None = None,
        optimizer: str | dict[str, Any] | OptimizerBase | None = "Adam(lr=0.001)",
        n_epochs: int = 20,
        batchsize: int = 128,
        dtype: npt.DTypeLike = "float32",
        n_threads: int | None = None,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        verbose: bool = True,
    ) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.objective = objective
        self.T = T
        self.image_shape = image_shape
        self.optimizer = optimizer
        self.n_epochs = n_epochs
        self.batchsize = batchsize
        self.dtype = dtype
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose
        self._start()

    def _make_layers(self) -> tuple[assembly.Layers, assembly.Layers]:
        """Return new layers of encoder and decoder, which draw no random numbers yet."""
        encoder = assembly.make_layers(self.encoder, "encoder")
        encoder["Code"] = FullyConnected(2 * self.T)
        decoder = assembly.make_layers(self.decoder, "decoder")
        decoder["Output"] = FullyConnected(None)
        return encoder, decoder

    def _make_likelihood(self) -> Likelihood:
        likelihood: Likelihood = made(self.likelihood, Likelihood, "likelihood")
        return likelihood

    def _make_objective(self) -> Objective:
        objective: Objective = made(self.objective, Objective, "objective")
        return objective

    def fit(
        self,
        X: npt.ArrayLike,
        y: Any = None,
        *,
        n_epochs: int | None = None,
        batchsize: int | None = None,
        verbose: bool | None = None,
        validation_data: Any = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Train on images; a second call goes on from where the first ended.

        Parameters
        ----------
        X : array, shape (n, rows, cols, channels), (n, rows, cols), or (n, features) with `image_shape`
            Images that the likelihood takes; uint8 means 0..255 and is scaled to [0, 1] batch by batch. (Black and
            white as 0 and 1 is for bool: as uint8 it would be 0 and 1/255.)
        y : ignored
        n_epochs, batchsize, verbose : optional
            Instead of the constructor's.
        validation_data : array, or tuple that starts with one, optional
            Images whose loss is computed after each epoch.
        callbacks : sequence of callables
            Called after each epoch as ``callback(vae, epoch, entry)``, with the epoch's number from 1 and its entry of
            the history; if one returns True, training ends. This is where arguments, layers, optimizers and the number
            of threads may be changed: within an epoch they are taken to stay as they are.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument is not valid, or images have another shape than before.
        FloatingPointError
            If the loss is no longer finite; the parameters from before that batch are kept.
        KeyboardInterrupt
            After Ctrl-C, when the batch under way is finished; the model can be used and saved.
        """
        self._sync()
        n_epochs = check_size(self.n_epochs if n_epochs is None else n_epochs, "n_epochs")
        batchsize = check_size(self.batchsize if batchsize is None else batchsize, "batchsize")
        if not isinstance(callbacks, Sequence) or not all(callable(callback) for callback in callbacks):
            raise TypeError(f"callbacks must be a sequence of callables, got {callbacks!r}")
        images = self._as_images(X)
        validation = None
        if validation_data is not None:
            first = next(iter(validation_data), ()) if isinstance(validation_data, tuple) else validation_data
            validation = self._as_images(first, "validation_data", images.shape[1:])
        self._prepare(images, min(batchsize, len(images)), training=True)
        train(
            self,
            images,
            n_epochs=n_epochs,
            batchsize=batchsize,
            verbose=bool(self.verbose if verbose is None else verbose),
            validation=validation,
            callbacks=callbacks,
        )
        return self

    def partial_fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Train on images for one pass, silently; returns self."""
        return self.fit(X, n_epochs=1, verbose=False)

    def fit_transform(self, X: npt.ArrayLike, y: Any = None, **fit_params: Any) -> Array:
        """`fit` with its arguments by keyword, then `transform` of the same images."""
        return self.fit(X, **fit_params).transform(X)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole state (parameters, optimizers, random numbers, history) to one safetensors file.

        Raises
        ------
        NotFittedError
            If the model has no parameters yet.
        OSError
            If the file cannot be written; an older file of that name is then still there.
        """
        self._require_fitted()
        checkpoint.save(self, path)
