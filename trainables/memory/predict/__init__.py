"""Prediction of a trial's memory before its launch: traced on tensors without data, replayed at any size."""

from trainables.memory.predict.plan import (
    MemoryPlan,
    confirm,
    fingerprint,
    head_facts,
    optimizer_facts,
    predict,
    task_facts,
    too_many_passes,
)
from trainables.memory.predict.trace import Workload

__all__ = [
    "MemoryPlan",
    "Workload",
    "confirm",
    "fingerprint",
    "head_facts",
    "optimizer_facts",
    "predict",
    "task_facts",
    "too_many_passes",
]
