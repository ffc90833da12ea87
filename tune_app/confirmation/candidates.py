"""Candidates of a confirmation: the study's leaders, and the recommended configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.rules import Rule, Sample, violations
from search_spaces.space import Params
from trainables.seeds import sub_seed
from tune_app.config import RunConfig
from tune_app.errors import UserError
from tune_app.objectives import values_of
from tune_app.sampling.recommended import recommended_turns
from tune_app.screening.preconditions import architectures
from tune_app.study.reporting import is_recommended, leaderboard
from tune_app.study.store import StudyStore


@dataclass(frozen=True)
class Candidate:
    """Configuration to confirm.

    Attributes:
        number: number of its trial; None for a recommended configuration that no trial completed.
        value: value of the trial; None without one.
    """

    number: int | None
    params: Params
    value: float | None
    is_recommended: bool = False

    def __str__(self) -> str:
        return "the recommended configuration" if self.number is None else f"trial {self.number}"


def leaders(store: StudyStore, top: int) -> list[Candidate]:
    """Return the best complete trials, at most ``top`` of them, the best first; equal configurations count once.

    Raises:
        UserError: no trial is complete, or the study has several objectives.
    """
    objectives = store.record.objectives
    if len(objectives) > 1:
        raise UserError(
            f"{store.name}: search.metric names {len(objectives)} objectives, whose front has no single winner to"
            f" confirm; give the study one objective, e.g. -s search.metric={objectives[0].name}"
        )
    ranked = leaderboard(store.trials(), objectives)
    if not ranked:
        raise UserError(
            f"{store.name}: holds no complete trial, so there is nothing to confirm; headroom status {store.name} shows"
            " the outcomes of its trials, and headroom study list its other versions"
        )
    seen: set[str] = set()
    found = []
    for trial in ranked:
        key = store.record.space.key(trial.params)
        if key not in seen:
            seen.add(key)
            found.append(Candidate(trial.number, dict(trial.params), values_of(trial)[0], is_recommended(trial)))
    return found[:top]


def recommended(store: StudyStore, config: RunConfig, rules: Sequence[Rule]) -> Candidate | None:
    """Return the recommended configuration to compare with: the best complete one of the study, else an unseen one.

    An unseen one comes from the recommendations for the space's models, as in a search; None if the rules reject all.

    Args:
        rules: rules that reject configurations which cannot run; none if they are not known here.
    """
    ranked = leaderboard(store.trials(), store.record.objectives)
    for trial in ranked:
        if is_recommended(trial):
            return Candidate(trial.number, dict(trial.params), values_of(trial)[0], is_recommended=True)
    space, fixed = config.active_space(), config.fixed_params()
    complete = {space.key(trial.params): trial for trial in reversed(ranked)}
    tried = {space.key(trial.params) for trial in store.trials()}
    for turn in recommended_turns(space, architectures(config), sub_seed(config.search.seed, "recommended")):
        for params in turn:
            key = space.key(params)
            if key in complete:
                trial = complete[key]
                return Candidate(trial.number, dict(trial.params), values_of(trial)[0], is_recommended=True)
            if key not in tried and not violations(rules, Sample.of({**fixed, **params})):
                return Candidate(None, params, None, is_recommended=True)
    return None


def candidates_of(store: StudyStore, config: RunConfig, top: int, rules: Sequence[Rule]) -> list[Candidate]:
    """Return the leaders and, behind them if it is none of them, the recommended configuration.

    Raises:
        UserError: see ``leaders``.
    """
    found = leaders(store, top)
    other = recommended(store, config, rules)
    if other is None:
        return found
    key = store.record.space.key
    marked = [
        Candidate(who.number, who.params, who.value, is_recommended=key(who.params) == key(other.params))
        for who in found
    ]
    return marked if any(who.is_recommended for who in marked) else [*marked, other]
