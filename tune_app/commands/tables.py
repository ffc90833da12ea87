"""Final output of the commands: leaderboard, counts, and next steps."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.table import Table

from trainables.reports import FOLD_DEVIATION
from tune_app.console import Console
from tune_app.durations import duration_text
from tune_app.objectives import front, shown_values, values_of
from tune_app.outcomes import Outcome
from tune_app.study.lines import (
    ahead_line,
    baseline_lines,
    best_text,
    counts_line,
    cut_lines,
    mark_of,
    study_line,
    summary_lines,
    what_of,
)
from tune_app.study.remaining import Course, remaining_s
from tune_app.study.reporting import (
    StudyStatus,
    baselines,
    is_infeasible,
    leaderboard,
    outcome_of,
    params_text,
    reason_of,
    state_of,
    varying,
)
from tune_app.study.store import StudyStore
from tune_app.study.times import working_s

if TYPE_CHECKING:
    from tune_app.experiment import SearchEnd

_TOP = 10


def print_leaderboard(console: Console, store: StudyStore, top: int = _TOP) -> None:
    """Print the best trials, and the baselines that each of them should beat.

    With several objectives, print the whole front first, and then the best of the other trials.
    """
    objectives = store.record.objectives
    ranked = leaderboard(store.trials(), objectives)
    if not ranked:
        console.say("no trial is complete yet")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    in_folds = store.record.step_scale.is_fold
    on_front = front(ranked, objectives) if len(objectives) > 1 else []
    names = [objective.name for objective in objectives]
    for column in ("rank", "trial", *names, "± over folds" if in_folds else "epoch"):
        table.add_column(column, justify="right")
    table.add_column("configuration", overflow="fold")
    for rank, trial in enumerate(ranked[: max(top, len(on_front))], start=1):
        beside = str(trial.user_attrs.get("best_epoch", ""))
        if in_folds:
            beside = f"{trial.user_attrs['metrics'][FOLD_DEVIATION]:.4f}"
        values = [objective.shown(value) for objective, value in zip(objectives, values_of(trial), strict=True)]
        number = f"{trial.number}{' ★' if rank <= len(on_front) else ''}"
        table.add_row(str(rank), number, *values, beside, what_of(trial, trial.params))
    console.print(table)
    if on_front:
        console.say(f"★ the front: no other trial is at least as good in {_all_of(names)} and better in one")
    for line in [*baseline_lines(baselines(store)), *cut_lines(ranked[0].user_attrs.get("cut_share"))]:
        console.say(line)


def print_end(console: Console, end: "SearchEnd") -> None:
    """Print how a search ended, its counts, and commands for more."""
    status = end.status
    how = "interrupted" if end.interrupted else "search stopped" if end.breakage else "search ended"
    for line in [
        *([end.breakage.traceback.rstrip()] if end.breakage and end.breakage.traceback else []),
        f"{how}: {end.why}",
        *(["fix the cause and run the same command again: it resumes the search"] if end.breakage else []),
        counts_line(status),
        *([] if status.best else ["no trial is complete: there is nothing to export yet"]),
        *(_front_lines(status) if status.has_several else _best_lines(status)),
        *filter(None, [ahead_line(status)]),
        *baseline_lines(status.baselines),
    ]:
        console.say(line)
    name = status.study
    # A path may contain a blank, and the options of a URI may contain characters that are special in a shell.
    location = shlex.quote(end.location)
    commands = {
        "report": f"headroom report {location}",
        **({"confirm": f"headroom confirm {location}"} if status.best and not status.has_several else {}),
        **({"export": f"headroom export {location} --to exports/{name}"} if status.best else {}),
        "all trials": f"headroom status {location}",
        "live pages": f"headroom dashboard {location}",
    }
    for what, command in commands.items():
        console.say(f"  {what:<11} {command}")


def _best_lines(status: StudyStatus) -> list[str]:
    best = status.best
    if best is None:
        return []
    return [f"{best_text(status)}: {params_text(best.params)}", *recommended_lines(status)]


def recommended_lines(status: StudyStatus) -> list[str]:
    """Return a comparison of the best trial with the recommended configuration; nothing without a recommended trial."""
    best, recommended = status.best, status.recommended
    if best is None or recommended is None:
        return []
    if best.number == recommended.number:
        return [f"the best trial, {best.number}, is a recommended configuration: no other trial beats it"]
    ahead = best.value - recommended.value
    return [
        f"best recommended configuration: {mark_of(recommended)}, {status.metric} {recommended.value:.4f}; the best"
        f" trial is {ahead:.4f} above it"
    ]


def _front_lines(status: StudyStatus) -> list[str]:
    """Return lines on the trials that no other beats, the best by the first objective first."""
    lines = [
        f"  {mark_of(trial)}: {shown_values(status.objectives, list(trial.values.values()))},"
        f" {params_text(trial.params)}"
        for trial in status.front[:_TOP]
    ]
    if len(status.front) > _TOP:
        lines.append(f"  and {len(status.front) - _TOP} more")
    return [f"front: {len(status.front)} that no other trial beats, by {status.metric}:", *lines] if lines else []


def _all_of(names: Sequence[str]) -> str:
    """Join names to ``a and b`` or ``a, b and c``."""
    return f"{', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True)
class SearchLine:
    """Line on one of several searches: its study, its exit code, and its end or the problem that prevented it."""

    study: str
    code: int
    end: "SearchEnd | None"
    problem: str | None


def print_searches(console: Console, ran: Sequence[SearchLine]) -> None:
    """Print the results of several searches, one line each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("study", "exit", "launched", "best", "configuration or problem"):
        table.add_column(column, justify="right" if column == "exit" else "left", overflow="fold")
    for line in ran:
        status = line.end.status if line.end else None
        best = status.best if status else None
        table.add_row(
            line.study,
            str(line.code),
            f"{status.launched} of {status.target}" if status else "",
            best_cell(status) if status else "",
            line.problem or (params_text(best.params) if best else line.end.why if line.end else ""),
        )
    console.print(table)


def best_cell(status: StudyStatus) -> str:
    """Return the best trial's value for a table with a line per study; empty without a complete trial."""
    best = status.best
    return f"{status.metric} {best.value:.4f}{' (collapsed)' if best.is_collapsed else ''}" if best else ""


def print_status(
    console: Console, store: StudyStore, status: StudyStatus, *, running: bool, course: Course, version: str
) -> None:
    """Print counts and time left, the last errors, the best trials, and an open trial that is ahead of them.

    Args:
        version: text on the version of the study; empty if there is only one.
    """
    console.say(study_line(status.study, "running" if running else "not running", version))
    trials = store.trials()
    left = remaining_s(trials, status.target, course) if running else None
    for line in summary_lines(status, left):
        console.say(line)
    for outcome in (Outcome.FAILED, Outcome.OOM, Outcome.INFEASIBLE):
        some = [trial for trial in trials if outcome_of(trial) is outcome]
        if some:
            what = "rejected" if outcome is Outcome.INFEASIBLE else outcome.value
            console.say(f"last {what}: trial {some[-1].number}: {reason_of(some[-1])}")
    print_leaderboard(console, store)
    for line in recommended_lines(status):
        console.say(line)


def print_trials(console: Console, store: StudyStore, *, running: bool) -> None:
    """Print every trial of a study, one line each, in the order of their numbers."""
    trials, record = store.trials(), store.record
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = varying(trials)
    for column in (
        "trial",
        "outcome",
        record.step_scale.noun,
        *(objective.name for objective in record.objectives),
        "time",
    ):
        table.add_column(column, no_wrap=True)
    table.add_column("configuration or reason", overflow="fold")
    now = time.time() if running else None
    for trial in trials:
        values = values_of(trial) or (record.step_scale.last_value(trial.intermediate_values),)
        steps = trial.intermediate_values
        table.add_row(
            str(trial.number),
            state_of(trial, is_running=running),
            record.step_scale.shown(max(steps)) if steps else "",
            *(
                "" if value is None else objective.shown(value)
                for objective, value in zip_longest(record.objectives, values)
            ),
            "" if is_infeasible(trial) else duration_text(working_s(trial, now)),
            what_of(trial, names),
        )
    console.print(table)
