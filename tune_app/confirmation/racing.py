"""Race of candidates over seeds: who is dropped, which trainings come next, and who wins. Pure functions."""

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tune_app.confirmation.statistics import Values, compare

FEWEST = 3
"""Seeds that every candidate is trained on before one may be dropped."""

MOST = 30
"""Seeds at which a race that ``--max-hours`` prolongs ends."""

BEATEN_AT = 0.05
"""One-sided p value at which the leader beats a candidate."""

# Costs within this share of each other count as equal: timings vary by more.
_SAME_COST = 0.10


@dataclass(frozen=True)
class Result:
    """Trainings of one candidate.

    Attributes:
        values: value by seed, counted from 1.
        problems: reason of each training that ended without a value, by seed.
        seconds_per_sample: median time for a row's answer; None if unknown.
        peak_gib: median peak memory of a training in GiB; None if unknown.
    """

    values: Values = field(default_factory=dict)
    problems: Mapping[int, str] = field(default_factory=dict)
    seconds_per_sample: float | None = None
    peak_gib: float | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values.values())

    @property
    def can_win(self) -> bool:
        """Whether every training of the candidate ended with a value, and there is one."""
        return bool(self.values) and not self.problems


@dataclass(frozen=True)
class Verdict:
    """Winner of a race.

    Attributes:
        racing: candidates that the leader has not beaten, the leader first; the leader has the highest mean.
        ties: those of them that cannot be told apart from the leader.
        winner: recommended configuration that is not beaten, else the cheapest one among the leader and its ties.
    """

    racing: tuple[int, ...]
    ties: tuple[int, ...]
    winner: int

    @property
    def leader(self) -> int:
        return self.racing[0]


def in_race(results: Mapping[int, Result]) -> list[int]:
    """Return the candidates that can still win, the leader first.

    A candidate is dropped if the leader beats it on at least ``FEWEST`` shared seeds (``compare``), or if a training of
    it ended without a value.
    """
    able = sorted((who for who in results if results[who].can_win), key=lambda who: -results[who].mean)
    if not able:
        return []
    leader = able[0]
    return [leader, *(who for who in able[1:] if not _beats(results[leader], results[who]))]


def _beats(leader: Result, other: Result) -> bool:
    if not leader.values.keys() & other.values.keys():
        return False
    compared = compare(leader.values, other.values)
    return compared.pairs >= FEWEST and compared.p <= BEATEN_AT


def next_trainings(
    candidates: Sequence[int], results: Mapping[int, Result], *, seeds: int, may_prolong: bool
) -> list[tuple[int, int]]:
    """Return the next round's trainings as (candidate, seed); none if the race is over.

    The first round has ``FEWEST`` seeds for all candidates, each later one a single seed for those that can still win.
    A round's trainings that were recorded already are left out. The leader is trained on all ``seeds``, even alone.

    Args:
        seeds: seeds of the race.
        may_prolong: go on beyond them, up to ``MOST``, until a single candidate is left.
    """
    first = min(FEWEST, seeds)
    if missing := _missing(candidates, range(1, first + 1), results):
        return missing
    for seed in range(first + 1, (max(seeds, MOST) if may_prolong else seeds) + 1):
        racing = in_race(_before(seed, results))
        if seed > seeds and len(racing) < 2:
            return []
        if missing := _missing(racing, [seed], results):
            return missing
    return []


def _missing(candidates: Sequence[int], seeds: Iterable[int], results: Mapping[int, Result]) -> list[tuple[int, int]]:
    return [
        (who, seed)
        for seed in seeds
        for who in candidates
        if seed not in results[who].values and seed not in results[who].problems
    ]


def _before(seed: int, results: Mapping[int, Result]) -> dict[int, Result]:
    """Return the results of the seeds before one, so that a resumed race decides as an uninterrupted one."""
    return {
        who: Result(
            {number: value for number, value in result.values.items() if number < seed},
            {number: why for number, why in result.problems.items() if number < seed},
        )
        for who, result in results.items()
    }


def decide(results: Mapping[int, Result], recommended: Collection[int]) -> Verdict | None:
    """Return the winner: the cheapest of the leader and the candidates that cannot be told apart from it.

    Those lie within one standard error of the paired difference. Source: the one-standard-error rule of Breiman et al.,
    Classification and Regression Trees, 1984, section 3.4.3. The p value at which a candidate is dropped would not do:
    a few seeds seldom reach it, and a much worse candidate would win for being cheap.

    A recommended configuration that the leader has not beaten stays the winner: settings that are known to work are
    given up only for better ones.

    Returns:
        None if no candidate can win.
    """
    racing = in_race(results)
    if not racing:
        return None
    leader, *others = racing
    ties = [who for who in others if _is_tie(results[leader], results[who])]
    stays = next((who for who in racing if who in recommended), None)
    winner = _cheapest([leader, *ties], results) if stays is None else stays
    return Verdict(tuple(racing), tuple(ties), winner)


def _is_tie(leader: Result, other: Result) -> bool:
    if not leader.values.keys() & other.values.keys():
        return False
    compared = compare(leader.values, other.values)
    return compared.difference <= (compared.standard_error or 0.0)


def _cheapest(candidates: Sequence[int], results: Mapping[int, Result]) -> int:
    """Return the candidate that answers fastest; among equally fast ones that of least memory, then of best mean."""
    by_time = _least(candidates, {who: results[who].seconds_per_sample for who in candidates})
    by_memory = _least(by_time, {who: results[who].peak_gib for who in by_time})
    return max(by_memory, key=lambda who: results[who].mean)


def _least(candidates: Sequence[int], costs: Mapping[int, float | None]) -> Sequence[int]:
    known = [cost for cost in costs.values() if cost is not None]
    if len(known) < len(costs):
        return candidates
    return [who for who in candidates if costs[who] <= min(known) * (1 + _SAME_COST)]  # type: ignore[operator]
