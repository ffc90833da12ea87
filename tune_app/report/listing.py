"""Every trial as a row of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_app.outcomes import CARRIED_ATTRIBUTE, RECOMMENDED_ATTRIBUTE
from tune_app.report.source import Source
from tune_app.study.export import leaderboard_table
from tune_app.study.reporting import varying

_SHOWN = {
    "rank": "rank",
    "number": "trial",
    "outcome": "outcome",
    "best_epoch": "epoch",
    "effective_batch": "effective batch",
    "micro_batch": "micro-batch",
    "predicted_gib": "predicted GiB",
    "peak_gib": "peak GiB",
    "working_s": "worked s",
    "waiting_s": "waited s",
    "tokens_per_s": "tokens/s",
    "recoveries": "recoveries",
    RECOMMENDED_ATTRIBUTE: "recommended",
    CARRIED_ATTRIBUTE: "carried from",
    "reason": "reason",
}
"""Headings of the columns that are shown beside objectives and settings."""


@dataclass(frozen=True)
class Listing:
    """Table of every trial, the best first.

    Attributes:
        columns: headings.
        numeric: whether each column holds numbers.
        rows: cells as text; empty where there is none.
    """

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


def listing(source: Source) -> Listing:
    """Return the leaderboard without the columns that are empty or the same everywhere."""
    names, rows = leaderboard_table(source.store)
    objectives = [objective.name for objective in source.store.record.objectives]
    searched = set(source.store.record.space)
    wanted = [*_SHOWN, *objectives, *(varying(source.trials) or searched)]
    shown = [
        (index, name)
        for index, name in enumerate(names)
        if name in wanted and any(_is_there(row[index]) for row in rows)
    ]
    states = {trial.number: source.state(trial) for trial in source.trials}
    number, outcome = names.index("number"), names.index("outcome")
    for row in rows:
        row[outcome] = states[int(str(row[number]))]
    return Listing(
        tuple(_SHOWN.get(name, name) for _, name in shown),
        tuple(all(_is_number(row[index]) for row in rows if row[index] is not None) for index, _ in shown),
        tuple(tuple(_cell(name, row[index], objectives) for index, name in shown) for row in rows),
    )


def _is_there(cell: object) -> bool:
    return cell is not None and cell is not False and cell != ""


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _cell(name: str, cell: Any, objectives: Sequence[str]) -> str:
    if cell is None or (name == RECOMMENDED_ATTRIBUTE and not cell):
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.4f}" if name == objectives[0] else f"{cell:.4g}"
    return str(cell)
