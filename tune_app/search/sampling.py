"""Proposes configurations: TPE, NSGA-II, random or exhaustive; none twice, as long as there are others.

A proposal is a whole configuration, drawn before any trial exists for it, so that a trial's record is written once.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

import optuna
from optuna.distributions import BaseDistribution

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Params, Scalar
from tune_app.search.nsga import NsgaDraw
from tune_app.search.tpe import TpeDraw

# Random draws after which an endless space counts as exhausted: what is endless in it cannot be read.
_CHANCES = 1_000
_RANDOM_DRAWS = 10

Draw = Callable[[], Iterable[Params]]
"""Yields configurations, the most promising first; they may repeat. Each call starts a new draw."""


class Proposer:
    """Proposes configurations that this study has not seen, every value that nothing reads at its one value.

    Args:
        draw: None goes through a discrete space in its fixed order.
    """

    def __init__(self, space: ActiveSpace, draw: Draw | None, seed: int) -> None:
        self._space = space
        self._draw = draw
        self._rng = random.Random(seed)
        self._seen: set[str] = set()
        self._next_in_order = 0

    def mark_seen(self, params: Mapping[str, Scalar]) -> None:
        """Never propose this configuration again."""
        self._seen.add(self._space.key(params))

    def is_seen(self, params: Mapping[str, Scalar]) -> bool:
        """Return whether the study holds this configuration, or another that trains the same."""
        return self._space.key(params) in self._seen

    def propose(self) -> Params | None:
        """Return a configuration to try next, or None when the space holds no unseen one."""
        return next(self.proposals(), None)

    def proposals(self) -> Iterator[Params]:
        """Yield unseen configurations, the most promising first, until the space holds no other.

        A search takes the first that its rules accept, and marks those before it as seen.
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
        """Return an unseen configuration from anywhere in the space, or the next in its order."""
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
    """Build a proposer for the setting ``search.sampler`` that knows every trial of the study.

    Args:
        seed: for this start of the search. A resumed search must come with another one, or it repeats its first draws.
        least_bandwidth: of ``tpe``, in place of its default.

    Raises:
        ValueError: the sampler is unknown, or ``exhaustive`` in an endless space.
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
