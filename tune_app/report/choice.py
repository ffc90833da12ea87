"""Which configuration to use: the winner, the certainty of its value, and the figures that it is compared with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from trainables.reports import FOLD_DEVIATION
from tune_app.config.yaml_files import yaml_text
from tune_app.errors import UserError
from tune_app.objectives import named_values
from tune_app.outcomes import carried_from
from tune_app.report.source import Source
from tune_app.study.confirmation import Confirmation, ConfirmedCandidate, Interval, read_confirmation
from tune_app.study.export import best_yaml
from tune_app.study.reporting import is_collapsed, is_recommended, params_text


@dataclass(frozen=True)
class Estimate:
    """Figure of a configuration, or of an answer that needs no model, beside which others are shown.

    Attributes:
        kind: ``baseline``, ``recommended``, ``search``, ``confirmed`` or ``test``.
        interval: range in which the value lies with 90 % certainty; None if it is unknown.
    """

    label: str
    kind: str
    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Setting:
    """Searched setting of the winner beside that of the best recommended configuration, if there is one."""

    name: str
    value: Any
    recommended: Any

    @property
    def differs(self) -> bool:
        return self.recommended is not None and self.value != self.recommended


@dataclass(frozen=True)
class OnFront:
    """Trial that no other beats, with its values as text."""

    number: int
    values: tuple[str, ...]
    configuration: str


@dataclass(frozen=True)
class Choice:
    """Configuration to use.

    Attributes:
        trial: number of the trial; None if a recommended configuration won that the search never completed.
        search_value: its value in the search.
        fold_deviation: standard deviation of that value over the folds; None without folds.
        recommended: the best complete trial of a recommended configuration, by number; None without one.
        confirmed: the winner in its confirmation; None if it was not confirmed.
        short: its searched settings as YAML.
        whole: its complete configuration as YAML; empty if it cannot be made, for the reason in ``problem``.
        remarks: lines on what a reader should know of it.
        front: trials that no other beats; empty with one objective.
    """

    trial: int | None
    search_value: float | None
    fold_deviation: float | None
    recommended: int | None
    confirmation: Confirmation | None
    confirmed: ConfirmedCandidate | None
    settings: tuple[Setting, ...]
    estimates: tuple[Estimate, ...]
    short: str
    whole: str
    problem: str
    remarks: tuple[str, ...]
    front: tuple[OnFront, ...]


def choose(source: Source) -> Choice | None:
    """Return the configuration to use: the confirmed winner, else the best trial; None without a complete trial."""
    confirmation, problem = _confirmation(source)
    if not source.ranked:
        return None
    number = source.ranked[0].number if confirmation is None else confirmation.winner
    winner = None if number is None else source.trial(number)
    if winner is None and number is not None:
        problem = f"confirm.json names trial {number}, which is not complete here: it belongs to another study"
        confirmation, winner = None, source.ranked[0]
    best_recommended = next((trial for trial in source.ranked if is_recommended(trial)), None)
    whole, why_not = _whole(source, winner, confirmation)
    params = winner.params if winner is not None else confirmation.winner_params if confirmation else {}
    return Choice(
        trial=None if winner is None else winner.number,
        search_value=None if winner is None else source.value_of(winner),
        fold_deviation=None if winner is None else winner.user_attrs.get("metrics", {}).get(FOLD_DEVIATION),
        recommended=None if best_recommended is None else best_recommended.number,
        confirmation=confirmation,
        settings=_settings(params, None if winner is best_recommended else best_recommended),
        estimates=tuple(_estimates(source, winner, best_recommended, confirmation)),
        short=yaml_text(_nested(params)),
        whole=whole,
        problem=why_not,
        confirmed=None if confirmation is None else winner_of(confirmation),
        remarks=tuple(filter(None, (problem, *_remarks(winner), *(confirmation.remarks if confirmation else ())))),
        front=_front(source),
    )


def _confirmation(source: Source) -> tuple[Confirmation | None, str]:
    """Return the confirmation, or the problem with its file."""
    try:
        return read_confirmation(source.run_dir), ""
    except UserError as error:
        return None, str(error)


def _whole(source: Source, winner: FrozenTrial | None, confirmation: Confirmation | None) -> tuple[str, str]:
    """Return the complete configuration, or the reason why it cannot be made."""
    if winner is None:
        return "", "the search did not complete the recommended configuration that won; headroom export writes it"
    try:
        ranking = "search" if confirmation is None else "confirmation"
        return best_yaml(source.store, source.config, winner, ranking, confirmation), ""
    except UserError as error:
        return "", str(error)


def _settings(params: Mapping[str, Any], recommended: FrozenTrial | None) -> tuple[Setting, ...]:
    others = {} if recommended is None else recommended.params
    return tuple(Setting(name, value, others.get(name)) for name, value in params.items())


def _estimates(
    source: Source, winner: FrozenTrial | None, recommended: FrozenTrial | None, confirmation: Confirmation | None
) -> Iterator[Estimate]:
    for answer, score in source.status.baselines.items():
        yield Estimate(f"No model: {answer}", "baseline", score)
    if recommended is not None and recommended is not winner:
        yield Estimate("Recommended, in the search", "recommended", _value(source, recommended))
    if winner is not None:
        yield Estimate("Winner, in the search", "search", _value(source, winner))
    if confirmation is None:
        return
    if (again := recommended_of(confirmation)) is not None and again.mean is not None:
        yield Estimate("Recommended, fresh seeds", "recommended", again.mean, again.interval)
    if (of_winner := winner_of(confirmation)) is not None and of_winner.mean is not None:
        yield Estimate("Winner, fresh seeds", "confirmed", of_winner.mean, of_winner.interval)
    yield Estimate("Winner, to expect", "confirmed", confirmation.expected_value, confirmation.expected_interval)
    if (test := confirmation.test) is not None:
        if test.recommended is not None:
            yield Estimate("Recommended, test part", "recommended", test.recommended.value, test.recommended.interval)
        yield Estimate("Winner, test part", "test", test.value, test.interval)


def winner_of(confirmation: Confirmation) -> ConfirmedCandidate | None:
    """Return the winner among the candidates of a confirmation."""
    return next((each for each in confirmation.candidates if each.number == confirmation.winner), None)


def recommended_of(confirmation: Confirmation) -> ConfirmedCandidate | None:
    """Return the recommended configuration; None if it is the winner itself, or was not trained again."""
    others = (each for each in confirmation.candidates if each.number != confirmation.winner)
    return next((each for each in others if each.role == "recommended" and each.mean is not None), None)


def _value(source: Source, trial: FrozenTrial) -> float:
    value = source.value_of(trial)
    assert value is not None, "complete trials have a value"
    return value


def _remarks(winner: FrozenTrial | None) -> Iterator[str]:
    if winner is None:
        return
    if is_recommended(winner):
        yield "The winner is itself a recommended configuration: nothing that the search tried beats it."
    if is_collapsed(winner):
        yield "Its model gives the same answer for every row: do not use it before you know why."
    if (origin := carried_from(winner)) is not None:
        yield f"It was carried over: {origin}."


def _front(source: Source) -> tuple[OnFront, ...]:
    if not source.status.has_several:
        return ()
    objectives = source.store.record.objectives
    by_number = {trial.number: trial for trial in source.ranked}
    return tuple(
        OnFront(
            point.number,
            tuple(
                objective.shown(value)
                for objective, value in zip(
                    objectives, named_values(by_number[point.number], objectives).values(), strict=True
                )
            ),
            params_text(point.params),
        )
        for point in source.status.front
    )


def _nested(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return settings by section, as a configuration file has them."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in params.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = value
    return sections
