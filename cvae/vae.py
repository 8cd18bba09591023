"""The convolutional variational autoencoder with Bernoulli outputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae.inference import Inference
from cvae.io import checkpoint
from cvae.model import Array
from cvae.parsing import check_size
from cvae.stepwise import Stepwise
from cvae.training import Callback, train


class BernoulliVAE(Stepwise, Inference):
    """Convolutional variational autoencoder with Bernoulli outputs, trained on the CPU.

    Encoder: Conv1 (ReLU), Pool1 (max), Conv2 (ReLU), Pool2 (max), Flatten3, FC4 (ReLU), FC5, whose 2T outputs are the
    mean and the log variance of the code z.  Decoder: FC1 (ReLU), FC2, whose sigmoid is the probability of each
    pixel.  The loss is the binary cross-entropy summed over the pixels plus `beta` times the KL divergence of the
    code to N(0, I), averaged over the images (Kingma & Welling 2014), in nats per image.  Arguments, layers and
    methods up to `init` are those of numpy-ml's class of this name; those after it go by keyword.

    Parameters
    ----------
    T : int
        Size of the latent code.
    latent_dim : int
        Width of the hidden dense layers, FC4 and FC1.
    enc_conv1_pad, enc_conv2_pad : int, "same", "valid", (rows, cols) or (top, bottom, left, right)
        Zeros around the inputs of the convolutions.
    enc_conv1_out_ch, enc_conv2_out_ch : int
        Output channels of the convolutions.
    enc_conv1_stride, enc_pool1_stride, enc_conv2_stride, enc_pool2_stride : int
    enc_conv1_kernel_shape, enc_pool1_kernel_shape, enc_conv2_kernel_shape, enc_pool2_kernel_shape : (rows, cols) or int
    optimizer : str, dict, optimizer or None
        For example "Adam(lr=0.001)"; each layer gets its own copy.  See `cvae.optim.optimizers`.
    init : str
        How the weights start, see `cvae.nn.initializers.WeightInitializer`.
    n_epochs : int
        Passes over the data in a `fit` that does not say otherwise.
    batchsize : int
        Images in a batch.
    beta : float
        Weight of the KL divergence, at least 0 (Higgins et al. 2017).
    image_shape : (rows, cols) or (rows, cols, channels), optional
        Needed only where images come as rows (n, features), as in scikit-learn's pipelines.
    algorithm : {"auto", "direct", "winograd"}
        How to convolve, see `cvae.layers.Conv2D`.
    dtype : {"float32", "float64"}
    n_threads : int, optional
        None follows `cvae.get_num_threads`.  Results do not depend on it.
    random_state : int, numpy.random.Generator or None
        Start of the weights, the order of the images and the noise: the same seed gives the same bits.
    verbose : bool
        Whether `fit` shows its progress.

    Attributes
    ----------
    encoder, decoder : OrderedDict
        The layers by name.
    history_ : dict of lists
        An entry for each epoch: loss, reconstruction, kl (nats per image), seconds, images_per_second, and val_loss,
        val_reconstruction, val_kl where there was validation data.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid.

    Examples
    --------
    >>> import cvae
    >>> digits = cvae.data.loading.load("mnist-sample")
    >>> vae = cvae.BernoulliVAE(T=2, latent_dim=32, optimizer="Adam(lr=0.001)", random_state=0, verbose=False)
    >>> vae.fit(digits.images[:256], n_epochs=1).transform(digits.test_images[:3]).shape
    (3, 2)
    """

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
            Images in [0, 1]; uint8 means 0..255 and is scaled batch by batch.  (Black and white as 0 and 1 is for bool:
            as uint8 it would be 0 and 1/255.)
        y : ignored
        n_epochs, batchsize, verbose : optional
            Instead of the constructor's.
        validation_data : array, or tuple that starts with one, optional
            Images whose loss is computed after each epoch.
        callbacks : sequence of callables
            Called after each epoch as ``callback(vae, epoch, entry)``, with the epoch's number from 1 and its entry
            of the history; if one returns True, training ends. This is where layers, optimizers and the number of
            threads may be changed: within an epoch they are taken to stay as they are.

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
        n_epochs = check_size(self.n_epochs if n_epochs is None else n_epochs, "n_epochs")
        batchsize = check_size(self.batchsize if batchsize is None else batchsize, "batchsize")
        if not isinstance(callbacks, Sequence) or not all(callable(callback) for callback in callbacks):
            raise TypeError(f"callbacks must be a sequence of callables, got {callbacks!r}")
        images = self._as_images(X)
        validation = None
        if validation_data is not None:
            first = next(iter(validation_data), ()) if isinstance(validation_data, tuple) else validation_data
            validation = self._as_images(first, "validation_data", images.shape[1:])
        self._initialize_like(images)
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

    def _initialize_like(self, images: Array) -> None:
        rows, cols, channels = images.shape[1:]
        self._initialize((rows, cols, channels))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole state (parameters, optimizers, random numbers, history) to one safetensors file.

        Raises
        ------
        NotFittedError
            If the model has no parameters yet.
        OSError
            If the file cannot be written; an older file of that name is then still there.
        """
        checkpoint.save(self, path)

    def __sklearn_is_fitted__(self) -> bool:
        return self._image_shape is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags, TransformerTags  # an optional extra

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float32", "float64"]),
        )

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the columns of `transform`: bernoullivae0, bernoullivae1, ..."""
        return np.array([f"bernoullivae{i}" for i in range(self.T)], dtype=object)


def load(path: str | os.PathLike[str]) -> BernoulliVAE:
    """Read a model that `BernoulliVAE.save` wrote; it goes on training where that one stopped.

    Parameters
    ----------
    path : path
        A safetensors file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a model file of cvae.
    """
    return checkpoint.load(BernoulliVAE, path)
