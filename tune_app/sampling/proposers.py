"""Proposal of unseen configurations by TPE, NSGA-II, random or exhaustive sampling.

A proposal is a whole configuration, drawn before a trial exists for it, so that a trial's record is written once.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from pkgutil import resolve_name
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Params, Scalar
from tune_app.samplers import SAMPLERS
from tune_app.sampling.draw import Draw, SamplerFacts

# Random draws without an unseen configuration after which an infinite space counts as exhausted: its float ranges are
# never read.
_CHANCES = 1_000
_RANDOM_DRAWS = 10


class Proposer:
    """Proposer of normalised configurations that the study has not seen.

    Args:
        draw: source of configurations; None goes through a discrete space in its fixed order.
    """

    def __init__(self, space: ActiveSpace, draw: Draw | None, seed: int) -> None:
        self._space = space
        self._draw = draw
        self._rng = random.Random(seed)
        self._seen: set[str] = set()
        self._next_in_order = 0

    def mark_seen(self, params: Mapping[str, Scalar]) -> None:
        """Mark a configuration as seen, so that it is never proposed again."""
        self._seen.add(self._space.key(params))

    def is_seen(self, params: Mapping[str, Scalar]) -> bool:
        """Return whether this configuration, or another that trains the same, was seen."""
        return self._space.key(params) in self._seen

    def propose(self) -> Params | None:
        """Return an unseen configuration; None if the space holds no other."""
        return next(self.proposals(), None)

    def proposals(self) -> Iterator[Params]:
        """Yield unseen configurations, the most promising first, until the space holds no other.

        A search takes the first one that its rules accept, and marks the ones before it as seen.
        """
        if self._is_exhausted():
            return
        if self._draw is not None:
            yield from self._unseen(self._draw())
        while not self._is_exhausted():
            params = self._anywhere()
            if params is None:
                return
            yield params

    def _is_exhausted(self) -> bool:
        size = self._space.size
        return size is not None and len(self._seen) >= size

    def _unseen(self, drawn: Iterable[Params]) -> Iterator[Params]:
        for params in map(self._space.normalised, drawn):
            if not self.is_seen(params):
                yield params

    def _anywhere(self) -> Params | None:
        """Return an unseen configuration from anywhere in the space; if there is no draw, the next in its order."""
        size = self._space.size
        if size is None:
            drawn = (self._space.space.sample(self._rng) for _ in range(_CHANCES))
            return next(self._unseen(drawn), None)
        return self._first_unseen(self._next_in_order if self._draw is None else self._rng.randrange(size), size)

    def _first_unseen(self, start: int, size: int) -> Params | None:
        for index in itertools.chain(range(start, size), range(start)):
            params = self._space.config_at(index)
            if not self.is_seen(params):
                self._next_in_order = index
                return params
        return None


def build_proposer(
    sampler: str,
    space: ActiveSpace,
    study: optuna.Study,
    distributions: dict[str, BaseDistribution],
    seed: int,
    *,
    least_bandwidth: float | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Proposer:
    """Build the proposer for the setting ``search.sampler``, with every trial of the study marked as seen.

    Args:
        seed: seed of this start of the search. A resumed search must use another one, or it repeats its first draws.
        least_bandwidth: least bandwidth of ``tpe``; None takes its default.
        settings: settings of the section ``search``, those that the sampler adds included.

    Raises:
        ValueError: there is no such sampler, or it lists the space and the space is infinite.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"search.sampler: {sampler!r} is none of {', '.join(SAMPLERS)}")
    entry = SAMPLERS[sampler]
    if entry.lists_space and space.size is None:
        raise ValueError(f"search.sampler: {sampler} needs a space without float ranges")
    build: Callable[[SamplerFacts], Draw | None] = resolve_name(entry.build)
    draw = build(SamplerFacts(space, study, distributions, seed, least_bandwidth, settings or {}))
    proposer = Proposer(space, draw, seed)
    for trial in study.get_trials(deepcopy=False):
        proposer.mark_seen(trial.params)
    return proposer


def build_random(facts: SamplerFacts) -> Draw:
    """Return a draw of random configurations."""
    rng = random.Random(facts.seed)
    return lambda: (facts.space.space.sample(rng) for _ in range(_RANDOM_DRAWS))


def build_exhaustive(facts: SamplerFacts) -> None:
    """Return no draw, so that the proposer goes through the space in its order."""
