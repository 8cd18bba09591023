"""Gradient-descent optimizers."""

from cvae.optim.base import OptimizerBase
from cvae.optim.optimizers import OPTIMIZERS, SGD, AdaGrad, Adam, AdamW, RMSProp

__all__ = ["OPTIMIZERS", "SGD", "AdaGrad", "Adam", "AdamW", "OptimizerBase", "RMSProp"]
