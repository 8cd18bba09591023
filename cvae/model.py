"""The variational autoencoder from any layers, with training and saving."""

from __future__ import annotations

import copy
import inspect
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Self, Unpack

import numpy as np
import numpy.typing as npt

from cvae import assembly, conditions
from cvae.architectures import architectures_of
from cvae.checking import check_size
from cvae.conditions import Classes
from cvae.data.images import resolve_image_shape
from cvae.data.intake import computed
from cvae.data.weights import Weights, check_names
from cvae.fitting import Fitting
from cvae.inputs import Array, ImageShape
from cvae.likelihoods import Likelihood
from cvae.nn.base import LayerBase
from cvae.nn.sequence import Layers
from cvae.objectives import Objective
from cvae.optim.base import OptimizerBase
from cvae.parsing import made
from cvae.summary import Summary
from cvae.training import AnyCallback


class VAE(Fitting):
    """Variational autoencoder from any layers, trained on the CPU.

    The encoder is the given layers followed by a dense layer for the mean and log variance of each image's code z. The
    decoder is the given layers followed by a dense layer for the outputs that the likelihood needs, unless the last one
    is a convolution, or another layer with weights, that puts out images itself. Without arguments, both are made from
    the shape of the images; `summary` shows them.

    Parameters
    ----------
    encoder, decoder : sequences of layers or their call strings, or names
        "auto" makes convolutions and transposed convolutions of stride 2, or dense layers for images of fewer than 8
        rows or cols, as soon as the shape of the images is known: from `image_shape`, or at the first `fit`, before
        which `encoder_` and `decoder_` are empty. "keras", "world-models" (64x64 pixels), "mlp" and "numpy-ml" are
        networks to compare with; see `cvae.architectures`, which also says which T they have there. The name of one
        network goes for both if the other is "auto".

        Layers are given as objects or strings, for example
        ``["Conv2D(out_ch=32, kernel_shape=3, act_fn='ReLU')", "Flatten()"]``; see `cvae.layers`. They are copied. The
        encoder maps images (n, rows, cols, channels) to rows (n, features), the decoder codes (n, T) to rows, or ends
        with a layer such as ``"ConvTranspose2D(out_ch=1, kernel_shape=3, stride=2, pad='same')"`` that puts out images
        of the right size. These have a channel for each of the images' or, for a likelihood that needs several numbers,
        as many: for RGB images and "Gaussian(scale='pixel')" a mean and a scale for red, for green and for blue.
    likelihood : str or Likelihood
        Distribution of the pixels given the decoder's output; see `cvae.likelihoods`.
    objective : str or Objective
        What training minimizes; see `cvae.objectives`.
    T : int
        Size of the latent code.
    image_shape : (rows, cols) or (rows, cols, channels), optional
        Of images that come as rows (n, features), as in scikit-learn's pipelines, or to make layers at once. Without it
        rows are images of a single row of pixels, (1, features, 1).
    condition : {"classes", "values"}, optional
        Train a conditional model, of p(x | y), to which `fit` and all that encodes or decodes are given labels y:
        "classes", such as ints or strings, of which the first `fit` must show all; or "values", a number or a vector
        for each image, which layers read as it is, so it is best scaled to about unit size. Encoder and decoder read
        labels in their `cvae.layers.Condition` layers; one is added where there is none.
    value_range : (low, high) or "data", optional
        Range of the pixels that is mapped to [0, 1] within the model, batch by batch; "data" means that of all pixels
        of the first `fit`. For likelihoods of pixels in [0, 1], such as Bernoulli, all images must be in the range; for
        Gaussian and Laplace it is only a unit. All numbers count as they are, those of uint8 too. None: pixels are in
        [0, 1] (uint8: 0..255), or standardized within the model, as for `cvae.likelihoods.Gaussian`.
        Outputs and densities are those of pixels as they are given. See `pixel_offset_`.
    optimizer : str, dict, optimizer or None
        For example "Adam(lr=0.001)"; each layer without an optimizer gets its own copy. See `cvae.optimizers`.
    lr : float, optional
        Learning rate, in the place of the optimizer's own.
    global_clip_norm : float, optional
        Largest L2 norm, at least 0, of the gradients of all parameters together, which are scaled down to it before
        the optimizers' steps. An optimizer's own `clip_norm`, that of each parameter alone, must then be None.
    binarize : None, "dynamic", "fixed" or float
        Makes grey images black and white: "dynamic" draws each pixel anew at each use in training, white with the
        probability that its grey value is; "fixed" draws each image once, the same way in all models; a number is a
        threshold. `encode` always draws the same, `elbo` and `log_likelihood` by their `random_state`. Pixels are in
        [0, 1], or mapped to it by `value_range`; they are not standardized.
    n_epochs : int
        Default number of passes over the data in `fit`.
    batchsize : int
        Images per batch.
    warm_start : bool
        Whether `fit` goes on with a trained model rather than starting anew; `partial_fit` always goes on.
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
    encoder_, decoder_ : OrderedDict
        The model's own layers by name; empty while they depend on images of unknown shape.
    pixel_offset_, pixel_scale_ : arrays, shape (channels,)
        The model works with ``(pixel - pixel_offset_) / pixel_scale_``. Set by the first images, and saved.
    history_ : dict of lists
        One entry per epoch: loss and the objective's terms (nats per image), seconds, images_per_second and, with
        validation data, val_loss, val_reconstruction and val_kl.
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
    >>> encoder = ["Conv2D(out_ch=8, kernel_shape=3, stride=2, act_fn='ReLU')", "Flatten()"]
    >>> vae = cvae.VAE(encoder, ["FullyConnected(n_out=32, act_fn='ReLU')"], T=2, random_state=0, verbose=False)
    >>> vae.fit(digits.images[:256], n_epochs=1).transform(digits.test_images[:3]).shape
    (3, 2)
    """

    _describes_objective = frozenset({"objective"})
    _keeps_parameters = Fitting._keeps_parameters | _describes_objective

    # Metadata for `fit` that scikit-learn does not find in the signature, where it would expect images that are
    # weighted and images that are repeated to give equal results, which no training with random batches does.
    __metadata_request__fit = {"sample_weight": None}  # noqa: RUF012
    __metadata_request__partial_fit = {"sample_weight": None}  # noqa: RUF012
    # Labels, with which a conditional model encodes, are a target to scikit-learn otherwise, and Z is the data.
    __metadata_request__transform = {"y": None, "out": "$UNUSED$"}  # noqa: RUF012
    __metadata_request__inverse_transform = {"y": None, "Z": "$UNUSED$"}  # noqa: RUF012

    def __init__(
        self,
        encoder: Sequence[LayerBase | str] | str = "auto",
        decoder: Sequence[LayerBase | str] | str = "auto",
        likelihood: str | Likelihood = "Bernoulli",
        objective: str | Objective = "ELBO(beta=1)",
        T: int = 32,
        *,
        image_shape: Sequence[int] | None = None,
        condition: str | None = None,
        value_range: Sequence[float] | str | None = None,
        optimizer: str | dict[str, Any] | OptimizerBase | None = "Adam(lr=0.001)",
        lr: float | None = None,
        global_clip_norm: float | None = None,
        binarize: float | str | None = None,
        n_epochs: int = 20,
        batchsize: int = 128,
        warm_start: bool = False,
        dtype: npt.DTypeLike = "float32",
        n_threads: int | None = None,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        verbose: bool = True,
    ) -> None:
        self.encoder, self.decoder = encoder, decoder
        self.likelihood, self.objective = likelihood, objective
        self.T, self.image_shape, self.condition = T, image_shape, condition
        self.value_range = value_range
        self.optimizer, self.lr, self.global_clip_norm = optimizer, lr, global_clip_norm
        self.binarize = binarize
        self.n_epochs, self.batchsize, self.warm_start = n_epochs, batchsize, warm_start
        self.dtype, self.n_threads, self.random_state = dtype, n_threads, random_state
        self.verbose = verbose

    def _make_encoder(self, image_shape: ImageShape | None) -> Layers:
        layers, (architecture, _) = self.encoder, architectures_of(self.encoder, self.decoder)
        if architecture is not None:
            if image_shape is None:
                return OrderedDict()
            layers = architecture.encoder(image_shape)
        return assembly.make_encoder(layers, self.T)

    def _make_decoder(self, image_shape: ImageShape | None, likelihood: Likelihood) -> Layers:
        layers, (_, architecture) = self.decoder, architectures_of(self.encoder, self.decoder)
        if architecture is not None:
            if image_shape is None:
                return OrderedDict()
            rows, cols, _ = image_shape
            layers = architecture.decoder(image_shape, likelihood.n_outputs(image_shape) // (rows * cols))
        return assembly.make_decoder(layers, self.T, likelihood)

    def _make_likelihood(self) -> Likelihood:
        likelihood: Likelihood = made(self.likelihood, Likelihood, "likelihood")
        return likelihood

    def _make_objective(self) -> Objective:
        objective: Objective = made(self.objective, Objective, "objective")
        return objective

    @property
    def classes_(self) -> Array:
        """The sorted classes that labels are out of, shape (n_classes,), learnt by the first `fit`."""
        kind = self._label_kind
        if not isinstance(kind, Classes):
            raise AttributeError(f"this {type(self).__name__} has no classes: it needs condition='classes' and fit")
        return kind.classes

    def fit(
        self,
        X: npt.ArrayLike,
        y: Any = None,
        *,
        n_epochs: int | None = None,
        batchsize: int | None = None,
        verbose: bool | None = None,
        validation_data: Any = None,
        validation_fraction: float | None = None,
        callbacks: Sequence[AnyCallback] = (),
        accumulate: int | None = None,
        n_shards: int | None = None,
        comm: Any = None,
        parts: bool = False,
        **weights: Unpack[Weights],
    ) -> Self:
        """Train on images, from the start or, with `warm_start`, from where the last training ended.

        Parameters
        ----------
        X : array, shape (n, rows, cols, channels), (n, rows, cols) or (n, features)
            Images in the range of the likelihood, or of `value_range`. Without it uint8 means 0..255 and is scaled to
            [0, 1] batch by batch. Store black and white as bool: 0 and 1 in uint8 would mean 0 and 1/255. Rows of
            features are images of `image_shape` or, without it, of a single row of pixels.

            Or images that are read block by block: `cvae.datasets.Blocks`; memory maps, HDF5 datasets and Zarr arrays
            of more than 1 GiB, lists of sets of images, and functions that return an iterator over blocks, all of which
            are taken as these; or an iterable or sequence of batches, images or pairs (images, labels), such as a
            PyTorch ``DataLoader``, which is gone through anew for each epoch and whose batches are trained on as they
            are. Their values are checked as they are read. What pixels are standardized by is learnt from up to 16
            evenly spaced blocks or, where blocks come one after another, the first one.
        y : array, shape (n,), or (n, d) for values
            The labels of a conditional model, learnt from those of the first call: later ones must be out of the same
            classes, or of as many values. Other models ignore them. For batches with labels: all classes.
        n_epochs, batchsize, verbose : optional
            Override those of the constructor.
        validation_data : array, or tuple or list (images, labels), optional
            Images whose loss is computed after each epoch, of any kind that X may be. Models without condition do not
            need the labels.
        validation_fraction : float, optional
            Share of X, in (0, 1), to use as `validation_data` instead of training on it. The images are drawn by
            `random_state` if that is an int, and otherwise always the same way: further calls with the same X use the
            same ones. They are copied; of images that are read block by block, whole blocks are left out instead.
        callbacks : sequence of cvae.callbacks.Callback or callables
            A callable is called after each epoch as ``callback(vae, epoch, entry)``, with the epoch number, counted
            from 1, and its history entry; if one returns True, training ends. Arguments, layers, optimizers and the
            number of threads may be changed here, but not within an epoch. See `cvae.callbacks`.
        accumulate : int, optional
            Batches that go into a step, which takes the memory of one.
        n_shards : int, optional
            A power of 2: parts of each batch whose gradients are computed one by one and added up in a fixed order, so
            that as many processes can share them, with the same bits on any number of processes and threads. 8 with
            `comm`. Layers and objectives that look at a batch as a whole, such as `BatchNorm2D` and free bits, look
            at each part. An interrupted training goes on with that of its own.
        comm : mpi4py.MPI.Intracomm, optional
            The processes that train the model together: all call `fit` with the same arguments, and have the same model
            afterwards, that of the first one. It alone validates, calls back and shows progress. A model with
            `n_threads` None shares the CPUs with the processes beside it.
        parts : bool
            Whether the images, labels and weights of a process are only a part of all, which follow one another in the
            order of the processes.
        sample_weight : array, shape (n,), optional
            How much each image counts in the loss, at least 0; only the proportions matter. The history has weighted
            means of the training images, and plain ones of those to validate with.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid, also one of the constructor; or, when going on, if the images differ in shape or
            columns from earlier ones, or a label is a new one. The model stays as it was, as after any error before
            the first step, such as that of a callback which cannot write its file.
        RuntimeError
            If the model is being trained already, by another thread or the `fit` that has called a callback.
        FloatingPointError
            If the loss is no longer finite; the parameters from before that batch are kept.
        KeyboardInterrupt
            After Ctrl-C, once the current batch is finished; the model can be used and saved. `partial_fit`, or another
            call with `warm_start`, with the same images and batch size finishes the epoch first, as the first of its
            `n_epochs`, with the bits of a run that was not interrupted.
        cvae.team.ProcessFailed
            If another process of `comm` has failed; all of them end then.
        """
        return self._fit(
            X,
            y,
            weights,
            anew=self.warm_start is not True or self._waits_for_fit(),
            n_epochs=n_epochs,
            batchsize=batchsize,
            verbose=verbose,
            validation_data=validation_data,
            validation_fraction=validation_fraction,
            callbacks=callbacks,
            accumulate=accumulate,
            n_shards=n_shards,
            comm=comm,
            parts=parts,
        )

    def partial_fit(self, X: npt.ArrayLike, y: Any = None, *, classes: Any = None, **weights: Unpack[Weights]) -> Self:
        """Go on training, silently and for one pass over the images, and return self.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array, shape (n_classes,), optional
            All labels that there will be, where y of the first call does not have them all. Later calls may repeat
            them.
        """
        check_names(weights, "partial_fit", inspect.signature(VAE.fit).parameters)
        return self._fit(X, y, weights, anew=False, n_epochs=1, verbose=False, classes=classes)

    def fit_transform(self, X: npt.ArrayLike, y: Any = None, **fit_params: Any) -> Array:
        """Fit the model with the keyword arguments of `fit` and return `transform` of the same images."""
        X, y = computed(X), computed(y)
        return self.fit(X, y, **fit_params).transform(X, self._if_conditional(y))

    def summary(
        self, image_shape: Sequence[int] | None = None, *, y: Any = None, batchsize: int | None = None
    ) -> Summary:
        """Return the layers with their output shapes, parameters and multiplications; printing it shows a table.

        It also estimates the memory of training and the size of the model's file, and makes nothing of that size.

        Parameters
        ----------
        image_shape : (rows, cols) or (rows, cols, channels), optional
            Of the images to show the model for, as long as it has no parameters and the constructor got no
            `image_shape`. The model itself does not change.
        y : array, optional
            Labels as for `fit`, which a conditional model needs here as long as it has no parameters.
        batchsize : int, optional
            Images per batch, on which the memory of training depends; None means the model's own.

        Raises
        ------
        TypeError, ValueError
            If the shape of the images is not known, differs from the model's own, or does not fit the layers, or if
            labels are missing or invalid.

        Examples
        --------
        >>> import cvae
        >>> cvae.VAE("mlp", T=2).summary((4, 4)).parameters
        88420
        """
        self._sync()
        self._adopt_parameters()
        batchsize = check_size("batchsize", self.batchsize if batchsize is None else batchsize)
        known = self._image_shape or (None if self.image_shape is None else resolve_image_shape(self.image_shape))
        given = known if image_shape is None else resolve_image_shape(image_shape)
        if given is None:
            raise ValueError("summary needs image_shape, (rows, cols) or (rows, cols, channels), before the first fit")
        if known is not None and given != known:
            raise ValueError(f"image_shape must be that of the model, {known}, got {given}")
        kind = self._label_kind
        if self.condition is not None and kind is None:
            if y is None:
                raise ValueError("summary of a conditional model needs labels y before the first fit, got None")
            kind = conditions.KINDS[self.condition].learn(y, "y")
        n_labels = 0 if kind is None else kind.n_labels
        encoder = self.encoder_ or self._joined(self._new_encoder(given))
        decoder = self.decoder_ or self._joined(self._new_decoder(given, self._likelihood))
        encoder, decoder = assembly.sized_copies(encoder, decoder, self._likelihood, given, self.T, n_labels)
        return Summary.of(encoder, decoder, given, self.T, batchsize, self._objective.codes)

    def copy(self, *, optimizer_state: bool = True) -> Self:
        """Return a copy of the model that shares nothing with it, as `copy.deepcopy` does.

        Parameters
        ----------
        optimizer_state : bool
            Whether the copy has the state of the optimizers. Without it, a copy takes a third to half of the memory,
            and so does its pickle, which is what goes to other processes; it encodes, decodes and scores with the same
            bits, and training goes on as if it had just begun.

        Returns
        -------
        copy : a model of the same class
        """
        self._adopt_parameters()
        known = (
            {} if optimizer_state else {id(each.optimizer): each.optimizer.without_state() for each in self._parts()}
        )
        other = copy.deepcopy(self, known)
        if not optimizer_state:
            other._position, other._clock = None, self._clock.without_state(self._objective.beta)
        return other

    def save(self, path: str | os.PathLike[str], *, optimizer_state: bool = True) -> None:
        """Write the complete state (parameters, optimizers, random generators, history) to a safetensors file.

        Models of the same bits give files of the same bits: the times in the history are left out. A callback that
        saves the model within an epoch, or a model whose training was interrupted there, has `partial_fit`, or
        `fit` with `warm_start`, go on from there.

        Parameters
        ----------
        path : path
        optimizer_state : bool
            Whether to write the state of the optimizers, without which the file has a third to a half of the size and
            training goes on as if it had just begun.

        Raises
        ------
        NotFittedError
            If the model has no parameters yet.
        ValueError
            If `load` could not restore the model.
        OSError
            If the file cannot be written; an existing file of that name is then left unchanged.
        """
        from cvae.io import checkpoint  # here, for it takes a tenth of the time of `import cvae`

        self._require_fitted()
        self._sync_training()  # a rate may have been changed within the optimizer
        self._adopt_parameters()
        checkpoint.save(self, path, optimizer_state=optimizer_state)
