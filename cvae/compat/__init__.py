"""numpy-ml's helper functions and loss, under numpy-ml's names."""
