"""The tasks that a trial can learn: one module per task behind one protocol."""

from trainables.tasks.criteria import CriteriaTask
from trainables.tasks.evidence import EvidenceTask
from trainables.tasks.joint import JointTask
from trainables.tasks.protocol import Task
from trainables.tasks.share import ShareTask

TASKS: dict[str, type[Task]] = {
    "criteria": CriteriaTask,
    "evidence": EvidenceTask,
    "share": ShareTask,
    "joint": JointTask,
}

__all__ = ["TASKS", "Task"]
