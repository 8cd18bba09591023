"""The loss of a Bernoulli VAE from probabilities, as numpy-ml has it."""

from cvae.compat.losses import VAELoss

__all__ = ["VAELoss"]
