"""The tasks that a trial can learn: one module per task behind one protocol. Their facts are in ``task_registry``."""

from trainables.settings import TrialSettings
from trainables.task_registry import TASKS
from trainables.tasks.protocol import Task

__all__ = ["Task", "build_task"]


def build_task(settings: TrialSettings) -> Task:
    """Return the task of a trial, ``task.name``."""
    task: Task = TASKS[settings.task.name].load()(settings)
    return task
