"""What went wrong: errors grouped by their cause, out-of-memory ends, rejections by rule, and retries."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from tune_app.outcomes import PASSED_OVER_ATTRIBUTE, Outcome
from tune_app.report.source import Source
from tune_app.study.reporting import outcome_of, reason_of
from tune_app.study.times import facts_of

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:[.,]\d+)*")
_LONGEST_TRACEBACK = 4000


@dataclass(frozen=True)
class Group:
    """Trials with the same problem.

    Attributes:
        what: type of the error, or name of the rule.
        example: message of the first of them.
        trials: their numbers.
        traceback: end of the traceback of the first of them; empty without one.
    """

    what: str
    example: str
    trials: tuple[int, ...]
    traceback: str = ""


@dataclass(frozen=True)
class Problems:
    """Everything that went wrong, the most frequent first in each group of groups."""

    errors: tuple[Group, ...]
    out_of_memory: tuple[Group, ...]
    rejected: tuple[Group, ...]
    retried: tuple[Group, ...]
    passed_over: tuple[Group, ...]


def problems(source: Source) -> Problems:
    trials = source.trials
    failed, oom, rejected = (
        [trial for trial in trials if outcome_of(trial) is outcome]
        for outcome in (Outcome.FAILED, Outcome.OOM, Outcome.INFEASIBLE)
    )
    retries = [
        ("Worker lost, trial run again", text, trial)
        for trial in trials
        for number in range(1, int(trial.user_attrs.get("retries", 0)) + 1)
        if (text := str(trial.user_attrs.get(f"retry_{number}") or ""))
    ]
    skipped = [
        ("Checkpoint passed over", str(why), trial)
        for trial in trials
        if (why := facts_of(trial).get(PASSED_OVER_ATTRIBUTE))
    ]
    return Problems(
        errors=_grouped(
            (str(trial.user_attrs.get("error_type") or "Error"), _message(trial), trial) for trial in failed
        ),
        out_of_memory=_grouped(("Out of memory", reason_of(trial), trial) for trial in oom),
        rejected=_by_rule(rejected),
        retried=_grouped(retries),
        passed_over=_grouped(skipped),
    )


def _message(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("error_message") or reason_of(trial))


def _grouped(found: Iterable[tuple[str, str, FrozenTrial]]) -> tuple[Group, ...]:
    """Group problems of one type whose messages differ only in numbers, the largest group first."""
    groups: dict[tuple[str, str], list[tuple[str, FrozenTrial]]] = {}
    for what, message, trial in found:
        groups.setdefault((what, _NUMBER.sub("#", message)), []).append((message, trial))
    made = [
        Group(
            what,
            members[0][0],
            tuple(trial.number for _, trial in members),
            str(members[0][1].user_attrs.get("error_traceback") or "")[-_LONGEST_TRACEBACK:],
        )
        for (what, _), members in groups.items()
    ]
    return tuple(sorted(made, key=lambda group: -len(group.trials)))


def _by_rule(rejected: Sequence[FrozenTrial]) -> tuple[Group, ...]:
    """Group rejections by rule; a sample that several rules reject counts for each."""
    by_rule: dict[str, list[FrozenTrial]] = {}
    for trial in rejected:
        for rule in trial.constraints:
            by_rule.setdefault(rule, []).append(trial)
    groups = [
        Group(rule, reason_of(trials[0]), tuple(trial.number for trial in trials)) for rule, trials in by_rule.items()
    ]
    return tuple(sorted(groups, key=lambda group: -len(group.trials)))
