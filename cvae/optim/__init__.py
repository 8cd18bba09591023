"""Optimizers and schedules of their rates."""
