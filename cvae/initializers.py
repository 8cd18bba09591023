"""What layers are made from, by name: activations, optimizers, schedules, starting weights."""

from cvae.nn.initializers import (
    ActivationInitializer,
    OptimizerInitializer,
    SchedulerInitializer,
    WeightInitializer,
    calc_fan,
)

__all__ = ["ActivationInitializer", "OptimizerInitializer", "SchedulerInitializer", "WeightInitializer", "calc_fan"]
