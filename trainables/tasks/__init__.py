"""What a trial is asked to learn: one module per task behind one protocol."""

from trainables.tasks.criteria import CriteriaTask
from trainables.tasks.protocol import Task

TASKS: dict[str, type[Task]] = {"criteria": CriteriaTask}

__all__ = ["TASKS", "CriteriaTask", "Task"]
