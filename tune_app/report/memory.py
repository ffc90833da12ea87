"""Memory of the trials: predicted against measured, and which model, length and batch ran or was rejected."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from tune_app.outcomes import Outcome
from tune_app.report.source import Source
from tune_app.study.reporting import outcome_of
from tune_app.study.times import facts_of


@dataclass(frozen=True)
class Need:
    """Memory that a trial was predicted to need and took, in GiB."""

    number: int
    state: str
    predicted_gib: float
    peak_gib: float
    recoveries: int


@dataclass(frozen=True)
class Cell:
    """Trials of one model, length and effective batch.

    Attributes:
        ran: trials that reported a value.
        rejected: samples that a rule rejected before launch.
        recovered: trials that ran out of memory and went on in smaller passes.
        oom: trials that ran out of memory even at one row a pass.
    """

    ran: int = 0
    rejected: int = 0
    recovered: int = 0
    oom: int = 0


@dataclass(frozen=True)
class Row:
    """Trials of one model and length, by effective batch."""

    model: str
    length: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Memory:
    """Memory of the trials.

    Attributes:
        allowed_gib: what plans may use of each budget that occurs, ascending.
        error: median of |predicted − measured| / measured; None without a measurement.
        batches: effective batches, ascending: the columns of ``rows``.
    """

    needs: tuple[Need, ...]
    allowed_gib: tuple[float, ...]
    error: float | None
    batches: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def worst(self) -> Need | None:
        """The trial whose measured memory exceeds its prediction most; None if none exceeds it."""
        above = [need for need in self.needs if need.peak_gib > need.predicted_gib]
        return max(above, key=lambda need: need.peak_gib / need.predicted_gib, default=None)


def memory(source: Source) -> Memory:
    needs, budgets = [], set[float]()
    for trial in source.launched:
        facts = facts_of(trial)
        predicted, peak, budget = (facts.get(name) for name in ("predicted_gib", "peak_gib", "budget_gib"))
        if budget:
            budgets.add(round(float(budget), 6))
        if predicted and peak:
            recoveries = int(facts.get("recoveries") or 0)
            needs.append(Need(trial.number, source.state(trial), float(predicted), float(peak), recoveries))
    batches, rows = _table(source)
    headroom = source.config.memory.headroom
    return Memory(
        tuple(needs),
        tuple(budget * (1 - headroom) for budget in sorted(budgets)),
        statistics.median(abs(need.predicted_gib - need.peak_gib) / need.peak_gib for need in needs) if needs else None,
        batches,
        rows,
    )


def _table(source: Source) -> tuple[tuple[int, ...], tuple[Row, ...]]:
    counted: dict[tuple[str, str], dict[int, Counter[str]]] = {}
    for trial in source.trials:
        batch = _effective_batch(source, trial)
        what = _counted_as(trial)
        if batch is None or not what:
            continue
        model, length = (source.setting(trial, name) for name in ("model.name", "tok.max_length"))
        counted.setdefault((str(model), str(length)), {}).setdefault(batch, Counter()).update(what)
    batches = tuple(sorted({batch for row in counted.values() for batch in row}))
    rows = [
        Row(model, length, tuple(Cell(**row[batch]) if batch in row else None for batch in batches))
        for (model, length), row in counted.items()
    ]
    return batches, tuple(sorted(rows, key=lambda row: (row.model, len(row.length), row.length)))


def _counted_as(trial: FrozenTrial) -> Sequence[str]:
    """Return the counts of a cell that a trial adds to."""
    outcome = outcome_of(trial)
    if outcome is Outcome.INFEASIBLE:
        return ["rejected"]
    if outcome is Outcome.OOM:
        return ["oom"]
    ran = ["ran"] if trial.intermediate_values or outcome is Outcome.COMPLETE else []
    return [*ran, *(["recovered"] if facts_of(trial).get("recoveries") else [])]


def _effective_batch(source: Source, trial: FrozenTrial) -> int | None:
    stored: Any = facts_of(trial).get("effective_batch")
    if stored is not None:
        return int(stored)
    batch, accumulation = (source.setting(trial, name) for name in ("train.batch_size", "train.grad_accum"))
    return None if batch is None else int(batch) * int(accumulation or 1)
