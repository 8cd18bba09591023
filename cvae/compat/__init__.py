"""numpy-ml's other names."""
