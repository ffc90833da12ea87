"""Parallel coordinates: every trial as a line through its value and its settings.

Optuna's plot draws its lines in an order of its own, so that no line could be told to be the winner's.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from tune_app.objectives import Objective, values_of
from tune_app.report.influence import Influence
from tune_app.report.style import BLUE, GREY, INK, MUTED, ORANGE, PAPER, VERMILLION, empty

_MOST_LINES = 200
_MOST_AXES = 10
_GOOD_SHARE, _MOST_GOOD = 0.1, 50

Numbered = tuple[FrozenTrial, int]


@dataclass(frozen=True)
class _Axis:
    """Axis of a value.

    Attributes:
        value: returns a trial's value; None if it has none.
        position: returns the height of a value, from 0 to 1.
        ticks: values that are labelled.
    """

    name: str
    value: Callable[[FrozenTrial], Any]
    position: Callable[[Any], float]
    ticks: Sequence[Any]


def parallel_coordinates(
    found: Influence, objective: Objective, winner: int | None, recommended: int | None
) -> go.Figure | None:
    """Return the plot; None with fewer than two trials. Of many trials it shows the best, and some of the others.

    Args:
        winner, recommended: numbers of trials to highlight.
    """
    ranked = sorted([*found.complete, *found.stopped], key=lambda pair: -values_of(pair[0])[0])
    if len(ranked) < 2 or not found.names:
        return None
    axes = [_of_values(objective, ranked), *(_of_setting(name, ranked) for name in found.names[:_MOST_AXES])]
    good = ranked[: min(_MOST_GOOD, round(_GOOD_SHARE * len(ranked)))]
    good_numbers = {number for _, number in good}
    others = _thinned([pair for pair in ranked if pair[1] not in good_numbers])
    marked = {number: [pair for pair in ranked if pair[1] == number] for number in (recommended, winner)}
    figure = empty()
    for name, trials, line in (
        ("other trials", others, {"color": GREY, "width": 1}),
        (f"best {len(good)}", good, {"color": BLUE, "width": 1.5}),
        ("recommended", marked[recommended], {"color": ORANGE, "width": 3.5, "dash": "dash"}),
        ("winner", marked[winner], {"color": VERMILLION, "width": 3.5}),
    ):
        if trials:
            figure.add_trace(_lines(name, trials, axes, line, opacity=0.3 if trials is others else 0.9))
    _draw_axes(figure, axes)
    return figure


def _of_values(objective: Objective, ranked: Sequence[Numbered]) -> _Axis:
    high, low = (values_of(trial)[0] for trial, _ in (ranked[0], ranked[-1]))
    return _Axis(
        objective.name,
        lambda trial: values_of(trial)[0],
        lambda value: 0.5 if high == low else (value - low) / (high - low),
        sorted({low, (low + high) / 2, high}),
    )


def _of_setting(name: str, ranked: Sequence[Numbered]) -> _Axis:
    distribution = next(trial.distributions[name] for trial, _ in ranked if name in trial.params)
    return _Axis(name, lambda trial: trial.params.get(name), *_scale(distribution))


def _scale(distribution: BaseDistribution) -> tuple[Callable[[Any], float], Sequence[Any]]:
    """Return the height of a value on its axis, and the values to label."""
    if isinstance(distribution, CategoricalDistribution):
        choices: list[Any] = list(distribution.choices)
        if all(isinstance(choice, int | float) for choice in choices):
            choices.sort()
        return (lambda value: choices.index(value) / max(1, len(choices) - 1)), choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    scale: Callable[[float], float] = math.log if distribution.log else float
    low, high = scale(distribution.low), scale(distribution.high)
    return (lambda value: (scale(value) - low) / (high - low) if high > low else 0.5), (
        distribution.low,
        distribution.high,
    )


def _lines(
    name: str, trials: Sequence[Numbered], axes: Sequence[_Axis], line: dict[str, Any], *, opacity: float
) -> go.Scatter:
    """Return the lines of trials as one trace, with gaps between them."""
    points = [point for trial, number in trials for point in (*_through(trial, number, axes), (None, None, None))]
    x, y, texts = zip(*points, strict=True)
    return go.Scatter(
        x=x,
        y=y,
        text=texts,
        mode="lines",
        line=line,
        opacity=opacity,
        name=name,
        hovertemplate="%{text}<extra></extra>",
    )


def _through(
    trial: FrozenTrial, number: int, axes: Sequence[_Axis]
) -> Iterator[tuple[int | None, float | None, str | None]]:
    for place, axis in enumerate(axes):
        value = axis.value(trial)
        if value is None:
            yield place, None, None
        else:
            yield place, axis.position(value), f"trial {number}: {axis.name} {_shown(value)}"


def _draw_axes(figure: go.Figure, axes: Sequence[_Axis]) -> None:
    for place, axis in enumerate(axes):
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": MUTED, "width": 1}, layer="below")
        for tick in axis.ticks:
            figure.add_annotation(
                x=place,
                y=axis.position(tick),
                text=_shown(tick),
                showarrow=False,
                bgcolor=PAPER,
                opacity=0.85,
                borderpad=1,
                font={"size": 11, "color": INK},
            )
    figure.update_xaxes(
        tickmode="array",
        tickvals=list(range(len(axes))),
        ticktext=[axis.name for axis in axes],
        range=[-0.35, len(axes) - 0.65],
    )
    figure.update_yaxes(range=[-0.08, 1.08])


def _thinned(trials: Sequence[Numbered]) -> list[Numbered]:
    every = max(1, -(-len(trials) // _MOST_LINES))
    return list(trials[::every])


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
