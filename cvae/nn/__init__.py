"""Layers, their activations and starting weights, and the geometry of windows."""
