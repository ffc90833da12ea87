"""Task ``joint``: whether a text meets a criterion, and which words show it, with an encoder for each question."""

from trainables.task_entry import CLASSES, MEASURED_COSTS, SPANS, TaskEntry

TASK = TaskEntry(
    implementation="trainables.tasks.joint:JointTask",
    objectives=("mean_score", "macro_f1", "exact_match", "token_f1"),
    costs=("calibration_error", *MEASURED_COSTS),
    finds_spans=True,
    encoders=2,
    reads=CLASSES | SPANS | {"task.criteria_weight", "model.criteria_name"},
)
