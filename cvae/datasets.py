"""Data sets: the built-in sample, and files."""

from cvae.data.loading import Dataset, load, names

__all__ = ["Dataset", "load", "names"]
