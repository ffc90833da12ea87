"""The registry of tasks, by ``task.name``. Cheap to import (no torch)."""

from trainables import known_tasks
from trainables.registry import Registry, entries_of
from trainables.task_entry import TaskEntry

TASKS = Registry("headroom.tasks", TaskEntry, entries_of(known_tasks, "TASK"), section="task")
"""Tasks by ``task.name``; ours are the modules of ``trainables.known_tasks``."""
