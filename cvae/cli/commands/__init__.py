"""The subcommands of `cvae`, a module each: its arguments, and `run`."""
