"""numpy-ml's loss of a Bernoulli VAE, computed from probabilities."""

from cvae.compat.losses import VAELoss

__all__ = ["VAELoss"]
