"""Page of ``headroom status --watch``: one screen that says how a search is doing, from its study alone."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tune_app.durations import duration_text
from tune_app.outcomes import Outcome
from tune_app.step_scale import StepScale
from tune_app.study.lines import study_line, summary_lines, what_of
from tune_app.study.occupancy import Occupancy, occupancy
from tune_app.study.remaining import Course, remaining_s
from tune_app.study.reporting import (
    RUNNING,
    WAITING,
    StudyStatus,
    leaderboard,
    outcome_of,
    reason_of,
    state_of,
    varying,
    waits_at_rung,
)
from tune_app.study.store import StudyStore
from tune_app.study.times import Doing, clock_of, facts_of, working_s

if TYPE_CHECKING:
    from trainables.devices.facts import NvmlGpu

_TOP = 5
_MOST_ERRORS = 3
_MOST_RUNNING = 12
_UNKNOWN = "–"


@dataclass
class GpuMeter:
    """Use of this machine's GPUs, averaged over the readings since the meter was made.

    Attributes:
        gpus: the last reading.
    """

    gpus: Sequence["NvmlGpu"] = ()
    _sums: Counter[int] = field(default_factory=Counter)
    _readings: int = 0

    def read(self) -> None:
        """Read every GPU once."""
        from trainables.devices.facts import nvml_facts

        self.gpus = nvml_facts().gpus
        self._readings += 1
        for index, gpu in enumerate(self.gpus):
            self._sums[index] += gpu.busy_percent or 0

    def lines(self) -> Iterator[str]:
        """Yield a line for each GPU, such as ``GPU 0 (NVIDIA L4): 83 % busy, 71 % since this page opened; …``."""
        for index, gpu in enumerate(self.gpus):
            parts = []
            if gpu.busy_percent is not None:
                mean = self._sums[index] / self._readings
                parts.append(f"{gpu.busy_percent} % busy, {mean:.0f} % since this page opened")
            if gpu.used_gib is not None and gpu.total_gib is not None:
                parts.append(f"{gpu.used_gib:.1f} of {gpu.total_gib:.1f} GiB in use")
            if parts:
                yield f"GPU {index} ({gpu.name}): {'; '.join(parts)}"


def watch_page(
    store: StudyStore,
    status: StudyStatus,
    course: Course,
    *,
    is_running: bool,
    version: str,
    gpus: GpuMeter,
    ending: str | None = None,
) -> RenderableType:
    """Return the page's current content.

    Args:
        status: the study's status.
        version: text on the version of the study; empty if there is only one.
        gpus: meter of this machine's GPUs, already read.
        ending: line on what will end the study first; None without one.
    """
    now = time.time()
    trials = store.trials()
    left = remaining_s(trials, status.target, course, now=now) if is_running else None
    lines = [
        study_line(status.study, "running" if is_running else "not running", version),
        *summary_lines(status, left),
        *filter(None, [ending]),
        *_time_lines(occupancy(trials, course.slots, now if is_running else None)),
        *(gpus.lines() if is_running else []),
    ]
    parts: list[RenderableType] = [*map(Text, lines)]
    at_work = [trial for trial in trials if state_of(trial, is_running=is_running) in (RUNNING, WAITING)]
    if at_work:
        parts += [Text(), _running_table(at_work, store, varying(trials), now)]
    ranked = leaderboard(trials, store.record.objectives)
    if ranked:
        parts += [Text(), _best_table(ranked[:_TOP], store, varying(trials))]
    problems = list(_problem_lines(trials))
    return Group(*parts, *([Text(), *map(Text, problems)] if problems else []))


def _time_lines(used: Occupancy) -> list[str]:
    if used.idle is None:
        return []
    slots = "1 slot" if used.slots == 1 else f"{used.slots} slots"
    line = f"{slots}: {1 - used.idle:.0%} at work, {used.idle:.0%} idle; trials worked {duration_text(used.worked_s)}"
    if used.waited_s >= 1:
        line += f" and waited {duration_text(used.waited_s)}"
        line += f" ({duration_text(used.starting_s)} of it for a worker)" if used.starting_s >= 1 else ""
    return [line]


def _running_table(trials: Sequence[FrozenTrial], store: StudyStore, names: set[str], now: float) -> Table:
    scale, metric = store.record.step_scale, store.record.metric
    table = _table(
        "trial", "state", scale.noun, metric, "peak GiB", "batch", "tokens/s", "worked", "waited", "configuration"
    )
    for trial in trials[:_MOST_RUNNING]:
        facts, clock = facts_of(trial), clock_of(trial)
        table.add_row(
            str(trial.number),
            _state(trial, clock.doing),
            _step(trial, scale),
            _value(trial, scale),
            _memory(facts),
            _batch(facts),
            _rate(facts),
            duration_text(working_s(trial, now)),
            duration_text(clock.at(now)[Doing.WAITING]),
            Text(what_of(trial, names), no_wrap=True, overflow="ellipsis"),
        )
    if len(trials) > _MOST_RUNNING:
        table.add_row(f"and {len(trials) - _MOST_RUNNING} more")
    return table


def _best_table(trials: Sequence[FrozenTrial], store: StudyStore, names: set[str]) -> Table:
    objectives = store.record.objectives
    table = _table("best", *(objective.name for objective in objectives), "peak GiB", "worked", "configuration")
    for trial in trials:
        peak = facts_of(trial).get("peak_gib")
        table.add_row(
            str(trial.number),
            *(objective.shown(value) for objective, value in zip(objectives, trial.values or [], strict=False)),
            _UNKNOWN if peak is None else f"{peak:.2f}",
            duration_text(working_s(trial)),
            Text(what_of(trial, names), no_wrap=True, overflow="ellipsis"),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # Where the terminal is narrow, the last column gives way alone.
        table.add_column(column, no_wrap=column != columns[-1], overflow="ellipsis")
    return table


def _state(trial: FrozenTrial, doing: Doing) -> str:
    if doing is Doing.WORKING:
        return "at work"
    return "waits at a rung" if waits_at_rung(trial) else "waits for a worker"


def _step(trial: FrozenTrial, scale: StepScale) -> str:
    done = max(trial.intermediate_values, default=0)
    return f"{scale.shown(done) if done else 0} of {scale.shown(scale.count)}"


def _value(trial: FrozenTrial, scale: StepScale) -> str:
    value = scale.last_value(trial.intermediate_values)
    return _UNKNOWN if value is None else f"{value:.4f}"


def _memory(facts: Mapping[str, object]) -> str:
    """Return the peak so far beside the budget; both are known from the first report on."""
    peak, budget = facts.get("peak_gib"), facts.get("budget_gib")
    return f"{peak:.2f} of {budget:.2f}" if isinstance(peak, float) and isinstance(budget, float) else _UNKNOWN


def _batch(facts: Mapping[str, object]) -> str:
    micro, steps = facts.get("micro_batch"), facts.get("accumulation_steps")
    return f"{micro} × {steps}" if micro and steps else _UNKNOWN


def _rate(facts: Mapping[str, object]) -> str:
    rate = facts.get("tokens_per_s")
    return f"{rate:,.0f}" if isinstance(rate, float) else _UNKNOWN


def _problem_lines(trials: Sequence[FrozenTrial]) -> Iterator[str]:
    """Yield how many samples each rule rejected, then the last distinct reasons of trials without a value."""
    rejected = Counter(
        rule for trial in trials if outcome_of(trial) is Outcome.INFEASIBLE for rule in list(trial.constraints)[:1]
    )
    if rejected:
        yield "rejected: " + ", ".join(f"{count} by {rule}" for rule, count in rejected.most_common())
    for outcome in (Outcome.FAILED, Outcome.OOM):
        ended = [trial for trial in trials if outcome_of(trial) is outcome]
        times = Counter(map(reason_of, ended))
        last = {reason_of(trial): trial.number for trial in ended}
        newest = sorted(last, key=lambda reason: last[reason], reverse=True)
        for reason in newest[:_MOST_ERRORS]:
            count = f"{times[reason]} × " if times[reason] > 1 else ""
            yield f"{outcome}: {count}{reason} (last: trial {last[reason]})"
        if len(newest) > _MOST_ERRORS:
            yield f"{outcome}: {len(newest) - _MOST_ERRORS} other reasons; headroom status --all lists them"
