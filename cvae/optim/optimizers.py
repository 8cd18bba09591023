"""Gradient-descent optimizers: SGD with momentum, AdaGrad, RMSProp, Adam and AdamW.

The classes hold the arguments and the state of each parameter; the arithmetic is in the compiled
kernels. Definitions and names are numpy-ml's: the learning rate is inside SGD's velocity, epsilon
is added outside the square root, and `clip_norm` applies to each parameter on its own.

Sources: Duchi et al. 2011 (AdaGrad), Tieleman and Hinton 2012 (RMSProp), Kingma and Ba 2015 (Adam),
Loshchilov and Hutter 2019, "Decoupled weight decay regularization" (AdamW).
"""

from typing import Any

from cvae.checking import check_number
from cvae.optim.base import OptimizerBase, SchedulerLike
from cvae.parsing import with_subclasses


class SGD(OptimizerBase):
    """Stochastic gradient descent with momentum.

    velocity = momentum * velocity + lr * grad; param = param - velocity.

    Parameters
    ----------
    lr, clip_norm, lr_scheduler
        See `OptimizerBase`.
    momentum : float
        In [0, 1).

    Examples
    --------
    >>> SGD(lr=0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, clip_norm=None, lr_scheduler=ConstantScheduler(lr=0.1))
    """

    rule, is_constant = "sgd", True

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.0,
        clip_norm: float | None = None,
        lr_scheduler: SchedulerLike = None,
    ) -> None:
        super().__init__(lr, clip_norm, lr_scheduler)
        self.momentum = check_number("momentum", momentum, "[0, 1)")

    def _constants(self, state: Any) -> tuple[float, ...]:
        return (self.momentum,)


class AdaGrad(OptimizerBase):
    """Adaptive gradient descent: rates shrink with the gradients seen so far.

    sum = sum + grad^2; param = param - lr * grad / (sqrt(sum) + eps).

    Parameters
    ----------
    lr, clip_norm, lr_scheduler
        See `OptimizerBase`.
    eps : float
        Keeps the denominator from 0, > 0.

    Examples
    --------
    >>> AdaGrad().hyperparameters["eps"]
    1e-07
    """

    rule, is_constant = "adagrad", True

    def __init__(
        self, lr: float = 0.01, eps: float = 1e-7, clip_norm: float | None = None, lr_scheduler: SchedulerLike = None
    ) -> None:
        super().__init__(lr, clip_norm, lr_scheduler)
        self.eps = check_number("eps", eps, "(0, inf)")

    def _constants(self, state: Any) -> tuple[float, ...]:
        return (self.eps,)


class RMSProp(OptimizerBase):
    """Gradient descent with each element divided by the running root mean square of its gradient.

    mean = decay * mean + (1 - decay) * grad^2; param = param - lr * grad / (sqrt(mean) + eps).

    Parameters
    ----------
    lr, clip_norm, lr_scheduler
        See `OptimizerBase`.
    decay : float
        Share of the old mean that is kept, in [0, 1).
    eps : float
        Keeps the denominator from 0, > 0.

    Examples
    --------
    >>> RMSProp(lr=0.0001).hyperparameters["decay"]
    0.9
    """

    rule, is_constant = "rmsprop", True

    def __init__(
        self,
        lr: float = 0.001,
        decay: float = 0.9,
        eps: float = 1e-7,
        clip_norm: float | None = None,
        lr_scheduler: SchedulerLike = None,
    ) -> None:
        super().__init__(lr, clip_norm, lr_scheduler)
        self.decay = check_number("decay", decay, "[0, 1)")
        self.eps = check_number("eps", eps, "(0, inf)")

    @classmethod
    def argument_names(cls) -> tuple[str, ...]:
        """Return the names in the order of numpy-ml's ``str()``, which is not the signature's."""
        return ("lr", "eps", "decay", "clip_norm", "lr_scheduler")

    def _constants(self, state: Any) -> tuple[float, ...]:
        return (self.decay, self.eps)


class Adam(OptimizerBase):
    """Gradient descent along the running mean over the running root mean square (Adam).

    At a parameter's update number t: mean = decay1 * mean + (1 - decay1) * grad;
    var = decay2 * var + (1 - decay2) * grad^2;
    param = param - lr * mean / (1 - decay1^t) / (sqrt(var / (1 - decay2^t)) + eps).

    Parameters
    ----------
    lr, clip_norm, lr_scheduler
        See `OptimizerBase`.
    decay1, decay2 : float
        Shares of the old mean and of the old variance that are kept, in [0, 1).
    eps : float
        Keeps the denominator from 0, > 0.

    Examples
    --------
    >>> import numpy as np
    >>> optimizer = Adam(lr=0.1)
    >>> optimizer.update(np.ones(2), np.array([3.0, -4.0]), "b").round(6)
    array([0.9, 1.1])
    >>> optimizer.cache["b"]["t"]
    1
    """

    rule, state_names = "adam", ("mean", "var")

    def __init__(
        self,
        lr: float = 0.001,
        decay1: float = 0.9,
        decay2: float = 0.999,
        eps: float = 1e-7,
        clip_norm: float | None = None,
        lr_scheduler: SchedulerLike = None,
    ) -> None:
        super().__init__(lr, clip_norm, lr_scheduler)
        self.decay1 = check_number("decay1", decay1, "[0, 1)")
        self.decay2 = check_number("decay2", decay2, "[0, 1)")
        self.eps = check_number("eps", eps, "(0, inf)")

    def _constants(self, state: Any) -> tuple[float, ...]:
        t, decays = state["t"] + 1, (self.decay1, self.decay2)
        return (*decays, self.eps, *(1 - decay**t for decay in decays))


class AdamW(Adam):
    """Adam with decoupled weight decay, which also moves each parameter towards 0 by lr * weight_decay of itself.

    All parameters of a layer decay, biases too.

    Parameters
    ----------
    lr, clip_norm, lr_scheduler
        See `OptimizerBase`.
    weight_decay : float
        At least 0; with 0 the optimizer is Adam.
    decay1, decay2, eps
        See `Adam`.

    Examples
    --------
    >>> import numpy as np
    >>> AdamW(lr=0.1, weight_decay=0.5).update(np.ones(2), np.array([3.0, -4.0]), "b").round(6)
    array([0.85, 1.05])
    """

    rule = "adamw"

    def __init__(
        self,
        lr: float = 0.001,
        weight_decay: float = 0.01,
        decay1: float = 0.9,
        decay2: float = 0.999,
        eps: float = 1e-7,
        clip_norm: float | None = None,
        lr_scheduler: SchedulerLike = None,
    ) -> None:
        super().__init__(lr, decay1, decay2, eps, clip_norm, lr_scheduler)
        self.weight_decay = check_number("weight_decay", weight_decay, "[0, inf)")

    def _constants(self, state: Any) -> tuple[float, ...]:
        return (*super()._constants(state), self.weight_decay)


OPTIMIZERS: dict[str, type[OptimizerBase]] = {cls.__name__: cls for cls in (SGD, AdaGrad, RMSProp, Adam, AdamW)}


def known_optimizers() -> dict[str, type[OptimizerBase]]:
    """Return the optimizers by name: those of the library, and subclasses defined elsewhere."""
    return with_subclasses(OPTIMIZERS, OptimizerBase)
