"""Plots of a report, each from one section's facts; a plot without anything to show is left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from tune_app.objectives import Objective, values_of
from tune_app.report.choice import Choice
from tune_app.report.hours import PHASES, Hours
from tune_app.report.influence import Influence
from tune_app.report.memory import Memory
from tune_app.report.mistakes import Mistakes
from tune_app.report.parallel import parallel_coordinates
from tune_app.report.sections import Sections
from tune_app.report.slices import slices
from tune_app.report.source import Source
from tune_app.report.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MARKERS,
    MUTED,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    VERMILLION,
    empty,
    scatter,
    styled,
)
from tune_app.report.trust import Trust
from tune_app.study.reporting import is_recommended

_MOST_CLASSES_WITH_COUNTS = 12
_MOST_BUDGETS = 4
_FAR = 4.0
"""Ratio of a budget to the largest need from which its line is left out: the needs would be a dot in the corner."""

_KINDS = {
    "baseline": {"color": GREY, "symbol": "line-ns-open", "size": 14, "line": {"width": 2}},
    "recommended": MARKERS["recommended"],
    "search": MARKERS["winner"],
    "confirmed": {"color": BLUE, "symbol": "circle", "size": 11},
    "test": {"color": GREEN, "symbol": "square", "size": 11},
}
_PHASE_STYLES = dict(
    zip(PHASES.values(), [(SKY, "/"), (PURPLE, "x"), (BLUE, ""), (GREEN, "\\"), (GREY, ".")], strict=True)
)


@dataclass(frozen=True)
class Plot:
    """Plot of a report.

    Attributes:
        name: identifier, unique in the report.
        label: description for people who do not see the plot.
        least_width: width in pixels below which the plot scrolls; 0 fits any screen.
    """

    name: str
    label: str
    figure: go.Figure
    least_width: int = 0

    @property
    def height(self) -> int:
        return int(self.figure.layout.height)


def plots_of(source: Source, sections: Sections) -> dict[str, Plot]:
    """Return the plots by name; slices are named ``slice-0``, ``slice-1``, …"""
    objective, choice = source.objective, sections.choice
    made = [
        _estimates(objective, choice),
        *_fronts(source, choice),
        _history(source, sections.trust, choice),
        _importance(sections.influence),
        *_slices(source, sections.influence, choice),
        _parallel(source, sections.influence, choice),
        _hours(sections.hours),
        _memory(sections.memory),
        _confusion(sections.mistakes),
        _span_lengths(sections.mistakes),
    ]
    return {plot.name: plot for plot in made if plot is not None}


def _estimates(objective: Objective, choice: Choice | None) -> Plot | None:
    if choice is None or len(choice.estimates) < 2:
        return None
    figure = empty()
    for estimate in choice.estimates:
        low, high = estimate.interval or (estimate.value, estimate.value)
        text = objective.shown(estimate.value)
        figure.add_trace(
            go.Scatter(
                x=[estimate.value],
                y=[estimate.label],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - estimate.value],
                    "arrayminus": [estimate.value - low],
                    "visible": estimate.interval is not None,
                    "thickness": 2,
                    "width": 6,
                    "color": INK,
                },
                mode="markers+text",
                text=[text],
                textposition="top center",
                textfont={"color": INK, "size": 13},
                cliponaxis=False,
                marker=_KINDS[estimate.kind],
                hovertemplate=f"{text}<extra></extra>",
                showlegend=False,
            )
        )
    styled(figure, 70 + 46 * len(choice.estimates), margin={"l": 8, "r": 28, "t": 20, "b": 44})
    figure.update_xaxes(title_text=objective.name)
    figure.update_yaxes(autorange="reversed", ticklabelposition="outside", showgrid=True, ticks="")
    return Plot("estimates", f"{objective.name} of the winner beside what it is compared with", figure)


def _fronts(source: Source, choice: Choice | None) -> Iterator[Plot]:
    """Yield a plot of the first objective against each other one, with the front marked."""
    first, *others = source.store.record.objectives
    if choice is None or not others:
        return
    on_front = {point.number for point in choice.front}
    groups = {
        "beaten by another trial": [trial for trial in source.ranked if trial.number not in on_front],
        "on the front": [trial for trial in source.ranked if trial.number in on_front],
    }
    for index, other in enumerate(others, start=1):
        figure = empty()
        for (name, trials), marker in zip(groups.items(), (MARKERS["stopped"], MARKERS["complete"]), strict=True):
            chosen = sorted(trials, key=lambda trial: values_of(trial)[0])
            figure.add_trace(
                scatter(len(chosen))(
                    x=[values_of(trial)[index] for trial in chosen],
                    y=[values_of(trial)[0] for trial in chosen],
                    customdata=[trial.number for trial in chosen],
                    mode="markers",
                    marker=marker,
                    name=name,
                    hovertemplate="trial %{customdata}: %{y:.4f} at %{x:.4g}<extra></extra>",
                )
            )
        _mark(figure, source, choice, lambda trial, at=index: values_of(trial)[at])
        styled(figure, 380)
        better = "higher" if other.mode == "max" else "lower"
        figure.update_xaxes(title_text=f"{other.name} ({better} is better)")
        figure.update_yaxes(title_text=f"{first.name} (higher is better)")
        yield Plot(f"front-{index}", f"{first.name} against {other.name} of every complete trial", figure)


def _history(source: Source, trust: Trust, choice: Choice | None) -> Plot | None:
    if not trust.points:
        return None
    figure = empty()
    for name, is_complete in (("stopped", False), ("complete", True)):
        points = [point for point in trust.points if point.is_complete == is_complete]
        if points:
            figure.add_trace(
                scatter(len(points))(
                    x=[point.number for point in points],
                    y=[point.value for point in points],
                    mode="markers",
                    marker={**MARKERS[name], "opacity": 0.75},
                    name="stopped early, at its last value" if name == "stopped" else "complete",
                    hovertemplate="trial %{x}: %{y:.4f}<extra></extra>",
                )
            )
    if trust.best_so_far:
        numbers, values = zip(*trust.best_so_far, strict=True)
        figure.add_trace(
            go.Scatter(
                x=numbers,
                y=values,
                mode="lines",
                line={"shape": "hv", "color": INK, "width": 2},
                name="best so far",
                hoverinfo="skip",
            )
        )
    _mark(figure, source, choice, lambda trial: trial.number)
    baseline = source.status.baseline
    if baseline is not None:
        figure.add_hline(
            y=baseline,
            line={"dash": "dot", "color": MUTED, "width": 1.5},
            annotation={"text": "best answer without a model", "font": {"color": MUTED, "size": 12}, "xanchor": "left"},
            annotation_position="top left",
        )
    styled(figure, 400)
    figure.update_xaxes(title_text="trial")
    figure.update_yaxes(title_text=source.objective.name)
    return Plot("history", f"{source.objective.name} of every trial, and the best so far", figure)


def _mark(figure: go.Figure, source: Source, choice: Choice | None, at: Any) -> None:
    """Mark the recommended configurations and the winner at ``at(trial)``, by their first value."""
    if choice is None:
        return
    recommended = [trial for trial in source.ranked if is_recommended(trial)]
    winner = None if choice.trial is None else source.trial(choice.trial)
    for name, trials in (("recommended", recommended), ("winner", [] if winner is None else [winner])):
        if trials:
            figure.add_trace(
                go.Scatter(
                    x=[at(trial) for trial in trials],
                    y=[values_of(trial)[0] for trial in trials],
                    customdata=[trial.number for trial in trials],
                    mode="markers",
                    marker=MARKERS[name],
                    name=name,
                    hovertemplate=f"{name}, trial %{{customdata}}: %{{y:.4f}}<extra></extra>",
                )
            )


def _importance(found: Influence) -> Plot | None:
    if not found.importance:
        return None
    names = list(found.names)
    shares = [found.importance[name] for name in names]
    figure = empty().add_trace(
        go.Bar(
            x=shares,
            y=names,
            orientation="h",
            marker={"color": BLUE},
            text=[f"{share:.0%}" for share in shares],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    styled(figure, 60 + 30 * len(names), margin={"l": 8, "r": 48, "t": 8, "b": 40})
    figure.update_xaxes(title_text="share of the importance", tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return Plot("importance", "Importance of every setting", figure)


def _slices(source: Source, found: Influence, choice: Choice | None) -> Iterator[Plot]:
    winner = None if choice is None or choice.trial is None else source.trial(choice.trial)
    for index, (name, figure) in enumerate(slices(found, source.objective, winner)):
        styled(figure, 250, showlegend=False, margin={"l": 52, "r": 12, "t": 12, "b": 32})
        figure.update_xaxes(title_text=None)
        yield Plot(f"slice-{index}", f"{source.objective.name} by {name}", figure)


def _parallel(source: Source, found: Influence, choice: Choice | None) -> Plot | None:
    winner = None if choice is None or choice.trial is None else choice.trial
    recommended = None if choice is None else choice.recommended
    figure = parallel_coordinates(found, source.objective, winner, recommended)
    if figure is None:
        return None
    styled(figure, 460, margin={"l": 24, "r": 24, "t": 44, "b": 80})
    axes = len(figure.layout.xaxis.ticktext)
    figure.update_xaxes(showgrid=False, tickangle=-25, showline=False)
    figure.update_yaxes(visible=False)
    label = f"{source.objective.name} and every setting of a trial, joined by a line"
    return Plot("parallel", label, figure, least_width=110 * axes)


def _hours(spent: Hours) -> Plot | None:
    if not spent.total:
        return None
    factor, unit = (1.0, "hours") if spent.total >= 2 else (60.0, "minutes")
    names = [row.outcome for row in spent.by_outcome]
    figure = empty()
    for phase, (color, pattern) in _PHASE_STYLES.items():
        figure.add_trace(_bar(phase, [row.phases[phase] * factor for row in spent.by_outcome], names, color, pattern))
    waited = [row.waited * factor for row in spent.by_outcome]
    figure.add_trace(_bar("waiting, holds no card", waited, names, PAPER, "|", outline=MUTED))
    styled(figure, 150 + 44 * len(names), barmode="stack", margin={"l": 8, "r": 16, "t": 40, "b": 44})
    figure.update_layout(legend_traceorder="normal")
    title = f"GPU-{unit} at work, and {unit} of waiting" if spent.unit == "GPU-hours" else unit
    figure.update_xaxes(title_text=title, rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return Plot("hours", "Hours by outcome and phase", figure)


def _bar(
    name: str, lengths: Sequence[float], at: Sequence[str], color: str, pattern: str, outline: str | None = None
) -> go.Bar:
    marker: dict[str, Any] = {
        "color": color,
        "pattern": {
            "shape": pattern,
            "fillmode": "overlay",
            "fgcolor": outline or PAPER,
            "fgopacity": 0.8,
            "size": 7,
            "solidity": 0.25,
        },
    }
    if outline:
        marker["line"] = {"color": outline, "width": 1}
    return go.Bar(
        x=lengths,
        y=at,
        orientation="h",
        name=name,
        marker=marker,
        hovertemplate=f"%{{y}}, {name}: %{{x:.3g}}<extra></extra>",
    )


def _memory(found: Memory) -> Plot | None:
    if not found.needs:
        return None
    figure = empty()
    for state in dict.fromkeys(need.state for need in found.needs):
        group = [need for need in found.needs if need.state == state]
        figure.add_trace(
            scatter(len(group))(
                x=[need.predicted_gib for need in group],
                y=[need.peak_gib for need in group],
                customdata=[need.number for need in group],
                mode="markers",
                marker={**MARKERS[state], "opacity": 0.75},
                name=state,
                hovertemplate="trial %{customdata}: %{x:.3f} GiB predicted, %{y:.3f} measured<extra></extra>",
            )
        )
    most = max(max(need.predicted_gib, need.peak_gib) for need in found.needs)
    figure.add_trace(
        go.Scatter(
            x=[0, most * 1.05],
            y=[0, most * 1.05],
            mode="lines",
            line={"color": MUTED, "dash": "dash", "width": 1.5},
            name="as predicted",
            hoverinfo="skip",
        )
    )
    for allowed in [allowed for allowed in found.allowed_gib if allowed < _FAR * most][-_MOST_BUDGETS:]:
        figure.add_hline(
            y=allowed,
            line={"color": VERMILLION, "width": 2},
            annotation={"text": f"allowed: {allowed:.3g} GiB", "font": {"color": INK, "size": 12}},
            annotation_position="top left",
        )
    styled(figure, 400)
    figure.update_xaxes(title_text="predicted GiB", rangemode="tozero")
    figure.update_yaxes(title_text="measured GiB", rangemode="tozero")
    return Plot("memory", "Measured memory of every trial against its prediction", figure)


def _confusion(found: Mistakes) -> Plot | None:
    if not found.classes:
        return None
    shares = [[cell / sum(row) if sum(row) else 0.0 for cell in row] for row in found.confusion]
    has_counts = len(found.classes) <= _MOST_CLASSES_WITH_COUNTS
    figure = empty().add_trace(
        go.Heatmap(
            z=shares,
            x=list(found.classes),
            y=list(found.classes),
            customdata=found.confusion,
            text=[[f"{cell:.4g}" for cell in row] for row in found.confusion] if has_counts else None,
            texttemplate="%{text}" if has_counts else None,
            colorscale=[[0, "#eef4fa"], [0.5, "#6baed6"], [1, "#08306b"]],
            zmin=0,
            zmax=1,
            xgap=2,
            ygap=2,
            showscale=False,
            hovertemplate="true %{y}, predicted %{x}: %{customdata} rows (%{z:.0%})<extra></extra>",
        )
    )
    styled(figure, 170 + min(28 * len(found.classes), 640) + 60, margin={"l": 8, "r": 8, "t": 12, "b": 44})
    figure.update_xaxes(title_text="predicted class", type="category", showgrid=False)
    figure.update_yaxes(title_text="true class", type="category", autorange="reversed", showgrid=False)
    return Plot("confusion", "Rows by true and predicted class", figure)


def _span_lengths(found: Mistakes) -> Plot | None:
    if not found.by_length:
        return None
    figure = empty()
    labels = [f"{name} ({scores['rows']:.4g} rows)" for name, scores in found.by_length]
    styles: Mapping[str, tuple[str, str]] = {"exact_match": (BLUE, ""), "token_f1": (ORANGE, "/")}
    for metric, (color, pattern) in styles.items():
        bar = _bar(metric, [scores.get(metric, 0.0) for _, scores in found.by_length], labels, color, pattern)
        figure.add_trace(bar)
    styled(figure, 110 + 54 * len(labels), barmode="group", margin={"l": 8, "r": 16, "t": 40, "b": 40})
    figure.update_xaxes(range=[0, 1], title_text="score")
    figure.update_yaxes(autorange="reversed", title_text="words of the true span", showgrid=False, type="category")
    return Plot("span-lengths", "Scores of spans by their length", figure)
