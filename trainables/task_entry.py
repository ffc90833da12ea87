"""The facts about a task. Cheap to import (no torch)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.registry import Entry, imported

MEASURED_COSTS = ("peak_gib", "seconds_per_sample")
"""Costs that are measured in every task."""
CLASS, SPAN = "class", "span"
"""Questions that a model answers, each with an output layer of its own: the class of a text, and a span of it."""
NATIVE, PLAIN = "native", "cls"
"""Values of ``head.pooling``: the head that transformers defines for a family, and the default."""
CLASSES = frozenset({"head.pooling", "task.threshold"})
"""Settings that are read by tasks that choose a class of a text."""
SPANS = frozenset({"tok.doc_stride", "task.null_threshold", "task.max_answer_length", "task.n_best"})
"""Settings that are read by tasks that find a span in a text."""


@dataclass(frozen=True, kw_only=True)
class TaskEntry(Entry):
    """The facts about a task that planning and searching need.

    Attributes:
        implementation: ``module:Class`` of its ``tasks.protocol.Task``, which is imported when a trial needs it.
        objectives: metrics that a search may improve, larger being better; the first is the default.
        costs: costs that a search may lower beside improving a metric; smaller is better.
        finds_spans: whether it finds a span in a text: the data must hold evidence, and texts are read in windows.
        encoders: number of its encoders, 1 or 2; the second is ``model.criteria_name``.
        native_head: question, ``CLASS`` or ``SPAN``, whose head of transformers can replace ours by ``head.pooling:
            native``; None if none can.
        baselines: returns the scores of answers that need no model, by answer, in a metric of its own. It is given the
            metric, the share of each class, and the share of rows without evidence. None knows none.
    """

    implementation: str
    objectives: tuple[str, ...]
    costs: tuple[str, ...] = MEASURED_COSTS
    finds_spans: bool = False
    encoders: int = 1
    native_head: str | None = None
    baselines: Callable[[str, Sequence[float], float], Mapping[str, float]] | None = None

    @property
    def chooses_class(self) -> bool:
        """True if it pools a text's tokens and chooses a class."""
        return "head.pooling" in self.reads and self.native_head != SPAN

    def takes_pooling(self, pooling: str) -> bool:
        """Return whether a value of ``head.pooling`` differs from all others that the task takes.

        A task of spans alone pools nothing, so it takes ``native`` and the default alone.
        """
        if pooling == NATIVE:
            return self.native_head is not None
        return self.chooses_class or pooling == PLAIN

    def load(self) -> Any:
        """Import and return the class that trains it."""
        return imported(self.implementation)
