"""Task ``share``: whether a text meets a criterion, and which words show it, with one encoder."""

from trainables.task_entry import CLASSES, MEASURED_COSTS, SPANS, TaskEntry

TASK = TaskEntry(
    implementation="trainables.tasks.share:ShareTask",
    objectives=("mean_score", "macro_f1", "exact_match", "token_f1"),
    costs=("calibration_error", *MEASURED_COSTS),
    finds_spans=True,
    reads=CLASSES | SPANS | {"task.criteria_weight"},
)
