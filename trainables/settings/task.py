"""Settings of the task, and the metrics of each task. Nothing here imports torch."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar, Literal

from trainables import cells
from trainables.declaration import Extensible, setting
from trainables.settings.data import SettingError
from trainables.task_registry import TASKS


def numbered(classes: int) -> tuple[str, ...]:
    """Return class names that are the classes' numbers."""
    return tuple(map(str, range(classes)))


def class_names(value: object) -> object:
    """Convert class names as the data's labels are converted: 1.0 becomes 1.

    Raises:
        ValueError: the value is no list of at least two different names.
    """
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of the classes' names, such as [no, yes]")
    names = tuple(map(cells.label, value))
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError("expected two names or more, no name twice")
    return names


_NAMES_SCHEMA = {
    "anyOf": [
        {"type": "array", "items": {"type": ["string", "integer", "number", "boolean"]}, "minItems": 2},
        {"type": "null"},
    ]
}
_ELSEWHERE = "set it outside the space"


@dataclass(frozen=True)
class TaskSettings(Extensible):
    """The task to learn.

    ``labels`` are the names of the ``classes`` in their order; without them the data determines the names.
    ``threshold`` (criteria of two classes) and ``null_threshold`` (spans) decide between yes and no: a number, or
    ``tuned`` on validation. Spans are at most ``max_answer_length`` tokens long and combine the ``n_best`` likeliest
    starts and ends of each window. ``criteria_weight`` is the share of the criteria's loss beside the spans'.
    """

    section: ClassVar[str] = "task"

    name: str = setting(
        "criteria",
        "Task to learn. criteria classifies a text; evidence finds a span in it; share does both with one encoder;"
        " joint does both with two encoders.",
        choices=lambda: TASKS,
        same_in_study="another task is another study; set it outside the space",
    )
    classes: int | None = setting(
        None,
        "Number of classes. null counts the classes of the data.",
        at_least=2,
        at_most=1000,
        same_in_study=_ELSEWHERE,
    )
    labels: tuple[str, ...] | None = setting(
        None,
        "Names of the classes, in their order. null takes them from the data, sorted.",
        parse=class_names,
        accepts=_NAMES_SCHEMA,
        same_in_study=_ELSEWHERE,
    )
    objective: str | None = setting(
        None,
        "Metric that a training and its search improve. null takes the task's first metric.",
        same_in_study="values of different metrics cannot be compared; set it outside the space",
        compared=False,
    )
    threshold: float | Literal["tuned"] = setting(
        "tuned", "Probability above which a text belongs to the second of two classes. tuned chooses it on validation."
    )
    null_threshold: float | Literal["tuned"] = setting(
        "tuned",
        "Margin by which a span must score above no span to be reported. tuned chooses it on validation.",
    )
    max_answer_length: int = setting(64, "Maximum length of a span in tokens.", above=0, at_most=8192)
    n_best: int = setting(
        20,
        "Number of likeliest starts, and of likeliest ends, that are combined in each window.",
        above=0,
        at_most=1000,
    )
    criteria_weight: float = setting(
        0.5, "Weight of the criteria's loss. The evidence's loss has the remaining weight.", at_least=0, at_most=1
    )

    @property
    def count(self) -> int:
        """Number of classes; two until the data is read."""
        return self.classes or len(self.labels or ()) or 2

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes: their labels, or their numbers."""
        return self.labels or numbered(self.count)

    @property
    def finds_spans(self) -> bool:
        """True if the data must hold evidence."""
        return TASKS[self.name].finds_spans

    @property
    def metric(self) -> str:
        """Name of the metric that a search improves; larger is better."""
        return self.objective or TASKS[self.name].objectives[0]

    def check(self) -> None:
        """Require a metric of the task, and settings that suit the number of classes.

        Raises:
            SettingError: a setting does not fit.
        """
        known = TASKS[self.name].objectives
        if self.objective is not None and self.objective not in known:
            close = get_close_matches(self.objective, known, n=1, cutoff=0.6)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SettingError(
                "objective", self.objective, f"is not a metric of task {self.name}{hint} (known: {', '.join(known)})"
            )
        if self.labels is not None and self.classes not in (None, len(self.labels)):
            raise SettingError("classes", self.classes, f"labels are {len(self.labels)}; leave classes out")
        if self.count > 2:
            self._check_for_several()
        if isinstance(self.threshold, float) and not 0 <= self.threshold <= 1:
            raise SettingError("threshold", self.threshold, "is not a probability; give one from 0 to 1, or tuned")

    def _check_for_several(self) -> None:
        problem = f"is for two classes, and there are {self.count}; leave it out"
        if self.objective == "binary_f1":
            raise SettingError("objective", self.objective, problem)
        if self.threshold != "tuned":
            raise SettingError("threshold", self.threshold, problem)
