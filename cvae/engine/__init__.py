"""Networks of layers, recorded and run."""
