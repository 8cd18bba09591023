"""The package's version, here alone; the build reads it, so this file must not import anything."""

__version__ = "0.1.0"
