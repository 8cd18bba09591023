"""Schedules of learning rates."""

from cvae.optim.schedulers import (
    SCHEDULERS,
    ConstantScheduler,
    ExponentialScheduler,
    KingScheduler,
    NoamScheduler,
    SchedulerBase,
    make_scheduler,
)

__all__ = [
    "SCHEDULERS",
    "ConstantScheduler",
    "ExponentialScheduler",
    "KingScheduler",
    "NoamScheduler",
    "SchedulerBase",
    "make_scheduler",
]
