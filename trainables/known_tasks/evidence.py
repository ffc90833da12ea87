"""Task ``evidence``: which words of a text show a criterion, if any."""

from trainables.task_entry import SPAN, SPANS, TaskEntry

TASK = TaskEntry(
    implementation="trainables.tasks.evidence:EvidenceTask",
    objectives=("token_f1", "exact_match"),
    finds_spans=True,
    native_head=SPAN,
    reads=SPANS | {"head.pooling"},
)
