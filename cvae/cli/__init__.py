"""The `cvae` command."""
