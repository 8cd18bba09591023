"""Data sets: the built-in sample, and files."""

from cvae.data.blocks import Blocks
from cvae.data.loading import Dataset, load, names

__all__ = ["Blocks", "Dataset", "load", "names"]
