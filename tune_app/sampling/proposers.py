"""Proposal of unseen configurations by TPE, NSGA-II, random or exhaustive sampling.

A proposal is a whole configuration, drawn before a trial exists for it, so that a trial's record is written once.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

import optuna
from optuna.distributions import BaseDistribution

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Params, Scalar
from tune_app.sampling.nsga import NsgaDraw
from tune_app.sampling.tpe import TpeDraw

# Random draws without an unseen configuration after which an infinite space counts as exhausted: its float ranges are
# never read.
_CHANCES = 1_000
_RANDOM_DRAWS = 10

Draw = Callable[[], Iterable[Params]]
"""Function that yields configurations, the most promising first. They may repeat. Each call starts a new draw."""


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
) -> Proposer:
    """Build the proposer for the setting ``search.sampler``, with every trial of the study marked as seen.

    Args:
        seed: seed of this start of the search. A resumed search must use another one, or it repeats its first draws.
        least_bandwidth: least bandwidth of ``tpe``; None takes its default.

    Raises:
        ValueError: the sampler is unknown, or it is ``exhaustive`` and the space infinite.
    """
    if sampler == "exhaustive" and space.size is None:
        raise ValueError("search.sampler: exhaustive needs a space without float ranges")
    proposer = Proposer(space, _draw_for(sampler, space, study, distributions, seed, least_bandwidth), seed)
    for trial in study.get_trials(deepcopy=False):
        proposer.mark_seen(trial.params)
    return proposer


def _draw_for(
    sampler: str,
    space: ActiveSpace,
    study: optuna.Study,
    distributions: dict[str, BaseDistribution],
    seed: int,
    least_bandwidth: float | None,
) -> Draw | None:
    if sampler == "tpe":
        floor = {} if least_bandwidth is None else {"least_bandwidth": least_bandwidth}
        return TpeDraw(space, study, distributions, seed, **floor)
    if sampler == "nsga2":
        return NsgaDraw(space, study, distributions, seed)
    if sampler == "random":
        rng = random.Random(seed)
        return lambda: (space.space.sample(rng) for _ in range(_RANDOM_DRAWS))
    if sampler == "exhaustive":
        return None
    raise ValueError(f"search.sampler: {sampler!r} is not tpe, nsga2, random or exhaustive")
