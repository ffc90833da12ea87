"""Lines that describe a study to people, shared by running searches and the commands that read studies."""

from collections.abc import Collection, Mapping, Sequence

from optuna.trial import FrozenTrial

from tune_app.durations import duration_text
from tune_app.objectives import Objective, shown_values, values_of
from tune_app.outcomes import Outcome, carried_from
from tune_app.step_scale import StepScale
from tune_app.study.reporting import (
    Best,
    OnFront,
    StudyStatus,
    is_collapsed,
    is_recommended,
    outcome_of,
    params_text,
    reason_of,
)
from tune_app.study.times import working_s

COLLAPSED = "collapsed: one answer for every row"
# Share of cut rows below which they are not reported.
_FEW = 0.01


def study_line(name: str, *remarks: str) -> str:
    """Return ``study demo (running; newest version of demo)``, without the remarks that are empty."""
    shown = "; ".join(filter(None, remarks))
    return f"study {name} ({shown})" if shown else f"study {name}"


def counts_line(status: StudyStatus) -> str:
    """Return ``7 of 12 launched: 4 complete, 2 running, 1 waiting at a rung; 9 rejected; 3 carried over``."""
    counts = {
        **status.trials,
        "running": status.trials["running"] - status.waiting,
        "waiting at a rung": status.waiting,
    }
    rejected = counts.pop(Outcome.INFEASIBLE)
    parts = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    line = f"{status.launched} of {status.target} launched" + (f": {parts}" if parts else "")
    line += f"; {rejected} rejected" if rejected else ""
    carried = ", ".join(f"{count} {name}" for name, count in status.carried.items())
    return line + (f"; carried over: {carried}" if carried else "")


def left_text(seconds: float | None) -> str:
    """Return ``about 2 min 5 s left``, never less than a second; empty while that is not known."""
    return "" if seconds is None else f"about {duration_text(max(1.0, seconds))} left"


def best_text(status: StudyStatus) -> str:
    """Return ``best macro_f1 0.9100 (trial 7), of 4 complete``; with several objectives, also the size of the front."""
    best = status.best
    if best is None:
        return "no trial is complete"
    complete = status.trials[Outcome.COMPLETE] + status.carried.get(Outcome.COMPLETE, 0)
    text = f"best {status.metric} {status.objectives[0].shown(best.value)} ({mark_of(best)}), of {complete} complete"
    return f"{text}, {len(status.front)} on the front" if status.has_several else text


def mark_of(trial: Best | OnFront) -> str:
    """Return ``trial 7``, with its origin if carried over and a note if collapsed."""
    origin = f", {trial.carried_from}" if isinstance(trial, Best) and trial.carried_from else ""
    return f"trial {trial.number}{origin}{f', {COLLAPSED}' if trial.is_collapsed else ''}"


def ahead_line(status: StudyStatus) -> str:
    """Return the line on an open trial that is better so far than all complete ones; empty without one."""
    ahead = status.ahead
    if ahead is None:
        return ""
    value = f"{status.metric} {status.objectives[0].shown(ahead.value)} in {ahead.at}"
    return f"ahead, but not complete: trial {ahead.number} ({ahead.state}), {value}"


def baseline_lines(baselines: Mapping[str, float]) -> list[str]:
    """Return one line for each answer that needs no model, with its score."""
    return [f"{answer} scores {score:.4f}" for answer, score in baselines.items()]


def summary_lines(status: StudyStatus, left_s: float | None) -> list[str]:
    """Return lines with time left and counts, the best trial and the baseline, and an open trial ahead of the best."""
    left = left_text(left_s if status.launched < status.target or status.trials["running"] else None)
    baseline = "" if status.baseline is None else f"baseline {status.baseline:.4f}"
    lines = [
        "; ".join(filter(None, (left, counts_line(status)))),
        "; ".join(filter(None, (best_text(status), baseline))),
    ]
    return [line for line in (*lines, ahead_line(status)) if line]


def closing_line(trial: FrozenTrial, objectives: Sequence[Objective], step_scale: StepScale) -> str:
    """Return a line on an ended trial: outcome, value and working time; the reason if it failed or was rejected."""
    outcome = outcome_of(trial)
    assert outcome is not None, "only ended trials are announced"
    if outcome is Outcome.INFEASIBLE:
        return f"{outcome}: {reason_of(trial)}"
    text = outcome.value
    if values := values_of(trial):
        text += f" {shown_values(objectives, values) if len(values) > 1 else objectives[0].shown(values[0])}"
    elif (value := step_scale.last_value(trial.intermediate_values)) is not None:
        text += f" at {objectives[0].shown(value)}"
    if is_collapsed(trial):
        text += f" ({COLLAPSED})"
    text += f" in {duration_text(working_s(trial))}"
    return f"{text}: {reason_of(trial)}" if outcome in (Outcome.OOM, Outcome.FAILED) else text


def what_of(trial: FrozenTrial, names: Collection[str]) -> str:
    """Return a trial's marks and the named parameters of its configuration, or the reason if it has no value."""
    marks = [
        *(["collapsed"] if is_collapsed(trial) else []),
        *(["recommended"] if is_recommended(trial) else []),
        *([str(origin)] if (origin := carried_from(trial)) else []),
    ]
    if outcome_of(trial) in (Outcome.INFEASIBLE, Outcome.OOM, Outcome.FAILED):
        what = reason_of(trial)
    else:
        what = params_text({name: value for name, value in trial.params.items() if name in names})
    return ": ".join(filter(None, (", ".join(marks), what)))


def cut_lines(share: object) -> list[str]:
    """Return a line on the share of texts that were cut, if any. Trials of earlier versions lack the share."""
    if not isinstance(share, float) or share < _FEW:
        return []
    return [f"{share:.0%} of the rows are longer than tok.max_length and were cut to it"]
