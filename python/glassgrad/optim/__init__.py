"""Optimizers, whose step is one call of the core for all parameters of a group, and learning-rate schedules."""

from glassgrad.optim import lr_scheduler
from glassgrad.optim.optimizer import Optimizer
from glassgrad.optim.rules import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
]
