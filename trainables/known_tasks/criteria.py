"""Task ``criteria``: whether a text meets a criterion, or which of several classes it is."""

from trainables.task_entry import CLASS, CLASSES, MEASURED_COSTS, TaskEntry

TASK = TaskEntry(
    implementation="trainables.tasks.criteria:CriteriaTask",
    objectives=("macro_f1", "accuracy", "binary_f1", "auc"),
    costs=("calibration_error", *MEASURED_COSTS),
    native_head=CLASS,
    reads=CLASSES,
)
