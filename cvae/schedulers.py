"""Learning-rate schedulers."""

from cvae.optim.schedulers import *  # noqa: F403 - the names in its __all__
from cvae.optim.schedulers import __all__ as __all__
