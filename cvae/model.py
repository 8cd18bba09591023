"""The autoencoder's arguments, layers and random numbers: what training, inference and saving share."""

from __future__ import annotations

import inspect
import math
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae.data.images import as_images, check_range, gather, resolve_image_shape
from cvae.engine.plan import Plan
from cvae.nn.activations import Affine, Sigmoid
from cvae.nn.base import LayerBase, check_dtype
from cvae.nn.conv2d import Conv2D
from cvae.nn.flatten import Flatten
from cvae.nn.fully_connected import FullyConnected
from cvae.nn.geometry import IntOrPair, Pad
from cvae.nn.pool2d import Pool2D
from cvae.optim.base import OptimizerBase
from cvae.parsing import check_number, check_size
from cvae.random import make_rng
from cvae.runtime.threads import check_num_threads, limit_threads

Array = npt.NDArray[Any]

# Arguments that may change without the layers being made anew.
TRAINING_ARGUMENTS = ("n_epochs", "batchsize", "beta", "n_threads", "verbose")


class NotFittedError(ValueError, AttributeError):
    """The model has no parameters yet; scikit-learn's error of this name has the same bases."""


class _Plans(threading.local):
    """The plans of each model; each Python thread has its own, so that a model serves several at once."""

    def __init__(self) -> None:
        self.of_model: weakref.WeakKeyDictionary[Model, dict[bool, Plan]]
        self.of_model = weakref.WeakKeyDictionary()


_plans = _Plans()


class Model:
    """Arguments, layers and random numbers of a `cvae.BernoulliVAE`, whose docstring explains the arguments."""

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
        n_epochs: int = 20,
        batchsize: int = 128,
        beta: float = 1.0,
        image_shape: Sequence[int] | None = None,
        algorithm: str = "auto",
        dtype: npt.DTypeLike = "float32",
        n_threads: int | None = None,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        verbose: bool = True,
    ) -> None:
        self.T = T
        self.latent_dim = latent_dim
        self.enc_conv1_pad = enc_conv1_pad
        self.enc_conv2_pad = enc_conv2_pad
        self.enc_conv1_out_ch = enc_conv1_out_ch
        self.enc_conv2_out_ch = enc_conv2_out_ch
        self.enc_conv1_stride = enc_conv1_stride
        self.enc_pool1_stride = enc_pool1_stride
        self.enc_conv2_stride = enc_conv2_stride
        self.enc_pool2_stride = enc_pool2_stride
        self.enc_conv1_kernel_shape = enc_conv1_kernel_shape
        self.enc_pool1_kernel_shape = enc_pool1_kernel_shape
        self.enc_conv2_kernel_shape = enc_conv2_kernel_shape
        self.enc_pool2_kernel_shape = enc_pool2_kernel_shape
        self.optimizer = optimizer
        self.init = init
        self.n_epochs = n_epochs
        self.batchsize = batchsize
        self.beta = beta
        self.image_shape = image_shape
        self.algorithm = algorithm
        self.dtype = dtype
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose
        self._check_arguments()
        self._build()

    @classmethod
    def _argument_names(cls) -> tuple[str, ...]:
        return tuple(list(inspect.signature(cls.__init__).parameters)[1:])

    def _check_arguments(self) -> None:
        check_size(self.T, "T")
        check_size(self.latent_dim, "latent_dim")
        check_size(self.n_epochs, "n_epochs")
        check_size(self.batchsize, "batchsize")
        check_number("beta", self.beta, "[0, inf)")
        check_dtype(self.dtype)
        if self.n_threads is not None:
            check_num_threads(self.n_threads, "n_threads")
        if self.image_shape is not None:
            resolve_image_shape(self.image_shape)

    def _build(self) -> None:
        """Make the layers anew, without parameters, and start the random numbers and the history."""
        self._rng = make_rng(self.random_state)
        # A stream of its own, so that samples drawn while training goes on do not change the training.
        self._sampling_rng = self._rng.spawn(1)[0]
        common: dict[str, Any] = {"optimizer": self.optimizer, "dtype": self.dtype}
        weighted: dict[str, Any] = {"init": self.init, "random_state": self._rng, **common}
        self.encoder: OrderedDict[str, LayerBase] = OrderedDict()
        for i in ("1", "2"):
            self.encoder["Conv" + i] = self._make_layer(
                Conv2D, f"enc_conv{i}_", act_fn="ReLU", algorithm=self.algorithm, **weighted
            )
            self.encoder["Pool" + i] = self._make_layer(Pool2D, f"enc_pool{i}_", mode="max", **common)
        self.encoder["Flatten3"] = Flatten(keep_dim="first", **common)
        self.encoder["FC4"] = FullyConnected(n_out=self.latent_dim, act_fn="ReLU", **weighted)
        self.encoder["FC5"] = FullyConnected(n_out=2 * self.T, act_fn="Affine(slope=1, intercept=0)", **weighted)
        self.decoder: OrderedDict[str, LayerBase] = OrderedDict()
        self.decoder["FC1"] = FullyConnected(n_out=self.latent_dim, act_fn="ReLU", **weighted)
        self.decoder["FC2"] = FullyConnected(n_out=None, act_fn="Sigmoid", **weighted)
        self._image_shape: tuple[int, int, int] | None = None
        _plans.of_model.pop(self, None)
        self.history_: dict[str, list[float]] = {}

    def _make_layer(self, layer_class: type[LayerBase], prefix: str, **common: Any) -> LayerBase:
        """A layer with the arguments of the model whose names start with the prefix."""
        names = [name for name in self._argument_names() if name.startswith(prefix)]
        try:
            return layer_class(**{name.removeprefix(prefix): getattr(self, name) for name in names}, **common)
        except (TypeError, ValueError) as error:
            # The layer's message starts with its own name for the argument.
            if prefix + str(error).partition(" ")[0] in names:
                raise type(error)(f"{prefix}{error}") from None
            raise

    def _layers(self) -> dict[str, LayerBase]:
        """All layers by path, such as "encoder/Conv1", from the input to the output."""
        components = {"encoder": self.encoder, "decoder": self.decoder}
        return {f"{part}/{name}": layer for part, layers in components.items() for name, layer in layers.items()}

    def _initialize(self, image_shape: tuple[int, int, int]) -> None:
        """Create all parameters for images of this shape, unless they are there."""
        if self._image_shape is not None:
            return
        shape: tuple[int, ...] = (1, *image_shape)
        for layer in self.encoder.values():  # before any parameter is drawn: does the image go through?
            shape = layer.output_shape(shape)
        self.decoder["FC2"].set_params({"n_out": math.prod(image_shape)})
        for layers, first in ((self.encoder, (1, *image_shape)), (self.decoder, (1, self.T))):
            shape = first
            for layer in layers.values():
                layer.initialize(shape)
                shape = layer.output_shape(shape)
        self._image_shape = image_shape

    def _require_fitted(self) -> tuple[int, int, int]:
        """The images' shape, or NotFittedError."""
        if self._image_shape is None:
            raise NotFittedError("this BernoulliVAE has no parameters yet: call fit, partial_fit or forward first")
        return self._image_shape

    def _as_images(self, X: npt.ArrayLike, name: str = "X", image_shape: Sequence[int] | None = None) -> Array:
        """X as a checked view (n, rows, cols, channels) of its own dtype, see `cvae.data.images`."""
        images = as_images(X, image_shape or self._image_shape or self.image_shape, name=name)
        with limit_threads(self.n_threads):
            check_range(images, name=name)
        return images

    def _as_batch(self, X: npt.ArrayLike) -> Array:
        """X as one array (n, rows, cols, channels) of the model's dtype in [0, 1]."""
        images = self._as_images(X)
        with limit_threads(self.n_threads):
            return gather(images, slice(None), np.empty(images.shape, self.dtype))

    def _plan(self, batchsize: int, *, training: bool) -> Plan:
        """A plan for batches of at least this size, made once for each Python thread and kept."""
        plans = _plans.of_model.get(self)
        if plans is None:
            plans = _plans.of_model[self] = {}
        plan = plans.get(training)
        if plan is None or plan.batchsize < batchsize or not plan.is_current(self.encoder, self.decoder):
            image_shape = self._require_fitted()
            plan = None
            plans.pop(training, None)  # its buffers go before the new ones come
            self._check_outputs()
            plan = plans[training] = Plan(self.encoder, self.decoder, batchsize, image_shape, self.T, training=training)
        return plan

    def _check_outputs(self) -> None:
        """ValueError if the code or the images do not come from the activations that the model stands on."""
        for layers, name, wanted in ((self.encoder, "FC5", Affine()), (self.decoder, "FC2", Sigmoid())):
            if layers[name].act_fn != wanted:
                raise ValueError(f"{name} must have the activation {wanted}, got {layers[name].act_fn}")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name, as scikit-learn's estimators give them."""
        return {name: getattr(self, name) for name in self._argument_names()}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor.

        Changing how long or on how many threads to train keeps what was learnt; any other change makes new, untrained
        layers.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a name is unknown or a value is not valid; nothing has changed then.
        """
        names = self._argument_names()
        for name in params:
            if name not in names:
                raise ValueError(f"set_params must get arguments of {type(self).__name__}, got {name!r}")
        current = self.get_params()
        changed = {name: value for name, value in params.items() if not _is_same(value, current[name])}
        before = dict(self.__dict__)
        try:
            for name, value in changed.items():
                setattr(self, name, value)
            self._check_arguments()
            if any(name not in TRAINING_ARGUMENTS for name in changed):
                self._build()
        except (TypeError, ValueError):
            self.__dict__ = before
            raise
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = [f"{k}={v!r}" for k, v in self.get_params().items() if repr(v) != repr(defaults[k].default)]
        return f"{type(self).__name__}({', '.join(changed)})"


def _is_same(value: Any, other: Any) -> bool:
    return value is other or (type(value) is type(other) and bool(np.all(value == other)))
