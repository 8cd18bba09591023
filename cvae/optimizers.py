"""Gradient-descent optimizers."""

from cvae.optim.base import OptimizerBase
from cvae.optim.optimizers import OPTIMIZERS, SGD, AdaGrad, Adam, RMSProp

__all__ = ["OPTIMIZERS", "SGD", "AdaGrad", "Adam", "OptimizerBase", "RMSProp"]
