"""Whether the winner can be trusted: noise of the metric, ties, edges of ranges, and what more trials may bring."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from search_spaces.space import Choices, Entry, Params, Scalar, position_between
from tune_app.config.run import facts_of
from tune_app.outcomes import Outcome
from tune_app.report.choice import Choice, recommended_of
from tune_app.report.source import Source
from tune_app.sampling.expected_gain import LEAST_TRIALS, best_value, expected_gain, final_values
from tune_app.study.reporting import is_recommended, outcome_of

Verdict = Literal["good", "care", "open"]

_EDGE = 0.05
"""Share of a range that counts as its edge."""


@dataclass(frozen=True)
class Check:
    """Answer to one question about the winner: ``good``, to be taken with ``care``, or ``open``."""

    verdict: Verdict
    question: str
    answer: str


@dataclass(frozen=True)
class Point:
    """Value of a complete or a stopped trial in the course of the search."""

    number: int
    value: float
    is_complete: bool
    is_recommended: bool


@dataclass(frozen=True)
class Edge:
    """Setting whose best value lies at an end of its range."""

    name: str
    value: Scalar
    side: Literal["lower", "upper"]
    range: str


@dataclass(frozen=True)
class Trust:
    """Answers about the winner, and the course of the search.

    Attributes:
        noise: standard error of the first objective on the validation part; None if the study does not hold it.
        best_so_far: best value of the complete trials up to each of them, by trial number.
    """

    checks: tuple[Check, ...]
    noise: float | None
    points: tuple[Point, ...]
    best_so_far: tuple[tuple[int, float], ...]


def assess(source: Source, choice: Choice | None) -> Trust:
    """Return what speaks for and against the winner; without a complete trial there are no answers."""
    points = tuple(
        Point(trial.number, value, outcome_of(trial) is Outcome.COMPLETE, is_recommended(trial))
        for trial in source.measured
        if (value := source.value_of(trial)) is not None
    )
    best_so_far = tuple(_best_so_far(points))
    noise = source.store.standard_error
    checks = () if choice is None else tuple(_checks(source, choice, noise, points))
    return Trust(checks, noise, points, best_so_far)


def _best_so_far(points: Sequence[Point]) -> Iterator[tuple[int, float]]:
    best = -math.inf
    for point in points:
        if point.is_complete:
            best = max(best, point.value)
            yield point.number, best


def _checks(
    source: Source,
    choice: Choice,
    noise: float | None,
    points: Sequence[Point],
) -> Iterator[Check]:
    yield _confirmed(source, choice)
    yield from _tested(source, choice)
    yield _noisy(source, choice, noise, points)
    yield from _above_baseline(source, choice, noise)
    if choice.settings:
        yield _at_edge(source, choice)
    yield _more_trials(source, noise)


def _confirmed(source: Source, choice: Choice) -> Check:
    question, shown = "Does it hold on fresh seeds?", source.objective.shown
    confirmation = choice.confirmation
    if confirmation is None:
        value = (
            ""
            if choice.search_value is None
            else f" {shown(choice.search_value)} is the best of many tries: expect less."
        )
        return Check("open", question, f"Not confirmed yet.{value} Run headroom confirm to train it again.")
    candidate, recommended = choice.confirmed, recommended_of(confirmation)
    mean = candidate.mean if candidate else None
    text = f"Trained again on {confirmation.seeds} fresh seeds"
    if mean is not None:
        text += f": {shown(mean)} on average"
        if choice.search_value is not None:
            text += f", where the search had {shown(choice.search_value)}"
    text += f"; expect {shown(confirmation.expected_value)} on new data"
    is_ahead = True
    if recommended is not None and recommended.mean is not None and mean is not None:
        text += f". The recommended configuration has {shown(recommended.mean)}"
        low = mean if candidate is None or candidate.interval is None else candidate.interval[0]
        is_ahead = low > recommended.mean
    ties = [f"trial {number}" for number in confirmation.ties]
    if ties:
        text += f". Not to be told apart from {_listed(ties)}"
    return Check("good" if is_ahead else "care", question, f"{text}.")


def _tested(source: Source, choice: Choice) -> Iterator[Check]:
    if choice.confirmation is None:
        return
    question, shown, test = "What does the untouched test part say?", source.objective.shown, choice.confirmation.test
    if test is None:
        yield Check("open", question, "It has not been opened yet.")
        return
    low, high = test.interval
    text = f"{shown(test.value)} (90 % interval {shown(low)} to {shown(high)})"
    if test.baseline is None:
        yield Check("good", question, f"{text}.")
    else:
        verdict: Verdict = "good" if low > test.baseline else "care"
        yield Check(verdict, question, f"{text}; without a model {shown(test.baseline)}.")


def _noisy(source: Source, choice: Choice, noise: float | None, points: Sequence[Point]) -> Check:
    question = "Is the lead larger than the noise?"
    if noise is None:
        return Check(
            "open", question, "This study does not hold the standard error of its metric: an earlier version began it."
        )
    best = source.value_of(source.ranked[0])
    assert best is not None
    near = sum(point.is_complete and best - point.value <= noise for point in points) - 1
    text = f"The standard error of {source.objective.name} on the validation part is at least {noise:.4f}."
    recommended = source.status.recommended
    lead = None if recommended is None else best - recommended.value
    if recommended is not None and lead is not None and recommended.number != source.ranked[0].number:
        than = "more" if lead > 2 * noise else "less"
        text += f" The best trial leads the recommended configuration by {lead:.4f}, {than} than twice that."
    if near > 0:
        text += f" {near} other complete trial{'s lie' if near > 1 else ' lies'} within one standard error of the best."
    is_clear = near <= 0 or (lead is not None and lead > 2 * noise)
    return Check("good" if is_clear else "care", question, text)


def _above_baseline(source: Source, choice: Choice, noise: float | None) -> Iterator[Check]:
    baseline, value = source.status.baseline, choice.search_value
    if baseline is None or value is None:
        return
    lead, shown = value - baseline, source.objective.shown
    text = f"{shown(value)} against {shown(baseline)} of the best answer that needs no model."
    is_clear = lead > 2 * (noise or 0.0)
    yield Check("good" if is_clear else "care", "Has it learned anything?", text)


def _at_edge(source: Source, choice: Choice) -> Check:
    question = "Is the best at an edge of its range?"
    params = {setting.name: setting.value for setting in choice.settings}
    edges = list(edges_of(params, source.store.record.space.entries))
    if not edges:
        return Check("good", question, "No: every range leaves room on both sides of the best value.")
    listed = _listed([f"{edge.name} = {_number(edge.value)} ({edge.side} end of {edge.range})" for edge in edges])
    return Check("care", question, f"Yes: {listed}. A wider range may hold something better.")


def _more_trials(source: Source, noise: float | None) -> Check:
    """Answer by the expected gain of as many trials again, the measure of ``search.stop: auto``."""
    question = "Would more trials help?"
    values, best = final_values(source.trials), best_value(source.trials)
    if len(values) < LEAST_TRIALS or best is None:
        return Check(
            "open", question, f"Too early to say: {len(values)} trials have reported, of {LEAST_TRIALS} at least."
        )
    gain = expected_gain(values, best, len(values))
    if noise is None:
        return Check("open", question, "This study does not hold the noise that a gain would have to exceed.")
    text = f"{len(values)} more trials are expected to raise the best value by"
    if gain < noise:
        return Check("good", question, f"Hardly: {text} {gain:.4f}, less than the standard error of {noise:.4f}.")
    # The normal distribution behind the gain knows no highest score, so a large gain is no figure to show.
    return Check("care", question, f"Perhaps: {text} more than the standard error of {noise:.4f}.")


def edges_of(params: Params | Mapping[str, Scalar], entries: Mapping[str, Entry]) -> Iterator[Edge]:
    """Yield the settings whose value lies in the outermost twentieth of its range, or is its last choice.

    An end that the setting itself cannot pass counts as none.
    """
    for name, value in params.items():
        entry = entries.get(name)
        if entry is None or isinstance(value, bool | str):
            continue
        position, can_be = _position(value, entry), facts_of(name).contains
        if position is None:
            continue
        if position <= _EDGE and can_be(_next(value, -math.inf)):
            yield Edge(name, value, "lower", _range(entry))
        elif position >= 1 - _EDGE and can_be(_next(value, math.inf)):
            yield Edge(name, value, "upper", _range(entry))


def _next(value: float, towards: float) -> float:
    """Return the number of the same type that follows in a direction."""
    return value + (1 if towards > 0 else -1) if isinstance(value, int) else math.nextafter(value, towards)


def _position(value: float, entry: Entry) -> float | None:
    """Return a number's position in its range, from 0 to 1; None for fewer than three choices or values."""
    if isinstance(entry, Choices):
        ordered = sorted(entry.choices)
        return ordered.index(value) / (len(ordered) - 1) if len(ordered) > 2 and value in ordered else None
    if entry.low == entry.high:
        return None
    return position_between(entry.low, entry.high, value, log=entry.log)


def _range(entry: Entry) -> str:
    return str(entry) if isinstance(entry, Choices) else f"{_number(entry.low)} to {_number(entry.high)}"


def _number(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(names: Sequence[str]) -> str:
    """Join names to ``a``, ``a and b`` or ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
