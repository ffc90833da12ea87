"""Slices: the values of the trials by one setting, as Optuna plots them."""

from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial
from optuna.visualization import plot_slice

from tune_app.objectives import Objective, values_of
from tune_app.report.influence import Influence, study_of
from tune_app.report.style import MARKERS, empty, scatter
from tune_app.study.store import quiet_optuna

_MOST = 8
"""Settings with a slice, the most important ones; more would repeat the table."""
_MANY = 200
"""Trials above which points are small."""


def slices(found: Influence, objective: Objective, winner: FrozenTrial | None) -> Iterator[tuple[str, go.Figure]]:
    """Yield a setting and its slice, for the most important settings, with the winner marked."""
    # Optuna draws complete trials alone, so the stopped ones are a study of their own.
    groups = [("stopped", found.stopped), ("complete", found.complete)]
    studies = [
        (group, study_of(found.study.directions, [trial for trial, _ in members]), [number for _, number in members])
        for group, members in groups
        if members
    ]
    for name in found.names[:_MOST]:
        figure = empty()
        for group, study, numbers in studies:
            with quiet_optuna():
                drawn = plot_slice(study, [name], target=_first_value, target_name=objective.name)
            axis = drawn.layout.xaxis
            figure.update_xaxes(
                type=axis.type, categoryorder=axis.categoryorder, categoryarray=axis.categoryarray, overwrite=True
            )
            if axis.type == "log":
                # Numbers at 1, 2 and 5 of each power of ten, which stand beside each other without turning.
                figure.update_xaxes(dtick="D2", exponentformat="e", tickangle=0)
            figure.update_yaxes(title_text=objective.name)
            figure.add_trace(_points(drawn.data[0], group, numbers))
        if winner is not None and name in winner.params:
            figure.add_trace(_winner(winner, name))
        _without_quotes(figure)
        yield name, figure


def _first_value(trial: FrozenTrial) -> float:
    return values_of(trial)[0]


def _points(drawn: go.Scatter, group: str, numbers: list[int]) -> go.Scatter | go.Scattergl:
    """Return Optuna's points with the group's markers and the trials' numbers, which are their colours in Optuna's."""
    return scatter(len(numbers))(
        x=drawn.x,
        y=drawn.y,
        customdata=[numbers[number] for number in drawn.marker.color],
        mode="markers",
        marker={**MARKERS[group], "size": 5 if len(numbers) > _MANY else 8, "opacity": 0.8},
        name=group,
        hovertemplate="trial %{customdata}: %{y:.4f} at %{x}<extra></extra>",
    )


def _winner(winner: FrozenTrial, name: str) -> go.Scatter:
    value: Any = winner.params[name]
    return go.Scatter(
        x=[repr(value) if isinstance(winner.distributions[name], CategoricalDistribution) else value],
        y=[_first_value(winner)],
        mode="markers",
        marker=MARKERS["winner"],
        name="winner",
        hovertemplate="winner: %{y:.4f} at %{x}<extra></extra>",
    )


def _without_quotes(figure: go.Figure) -> None:
    """Show choices as configurations have them: Optuna shows Python's literals."""
    labels = figure.layout.xaxis.categoryarray
    if labels is None:
        return
    plain = {label: label.strip("'\"") for label in labels}
    figure.update_xaxes(categoryarray=list(plain.values()))
    for trace in figure.data:
        trace.x = [plain[label] for label in trace.x]
