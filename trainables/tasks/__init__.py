"""What a trial is asked to learn: one module per task behind one protocol."""

from trainables.tasks.criteria import CriteriaTask
from trainables.tasks.evidence import EvidenceTask
from trainables.tasks.protocol import Task

TASKS: dict[str, type[Task]] = {"criteria": CriteriaTask, "evidence": EvidenceTask}

__all__ = ["TASKS", "CriteriaTask", "EvidenceTask", "Task"]
