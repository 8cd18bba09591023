"""The command `cvae`."""
