"""Replayed confirmations: how far their figures hold on test rows, beside taking the best of the search.

    python scripts/bench/confirm.py [--replays 400] [--quick]

``curves/repeats.csv`` holds configurations that were trained on several seeds, in several worlds: data sets with
configurations of their own. A replay takes one world. Its search is a run of the recommended configuration and of some
others on one seed. The leaders and the recommended configuration are then confirmed on the other seeds, by the code
that ``headroom confirm`` uses, and scored on a test part drawn by group from the world's test rows.

Figures of one world depend on each other, so standard errors are of the means of worlds. *True* means on all test rows
of the world, over the seeds of the confirmation.
"""

import argparse
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from common import print_json, print_table, standard_error
from curves.repeats import CONFIGURATIONS, SEEDS, Run, World, read_runs, read_worlds
from numpy.typing import NDArray

from tune_app.confirmation.expectation import Parts, expected_interval, expected_value
from tune_app.confirmation.racing import Result, decide, next_trainings
from tune_app.confirmation.statistics import mean_interval

TOP = 2
SEARCHED = 4
TEST_ROWS = 80
PARTS = Parts(train=240, validation=80, test=TEST_ROWS)


@dataclass(frozen=True)
class Replay:
    """Figures of one replay.

    Attributes:
        test: winner's value on the drawn test part.
        true: winner's value on all test rows.
        trainings: trainings that the race took.
    """

    world: int
    expected: float
    interval: tuple[float, float]
    mean: float
    mean_interval: tuple[float, float]
    test: float
    true: float
    true_recommended: float
    test_recommended: float
    search_value: float
    search_true: float
    search_test: float
    trainings: int
    is_recommended: bool
    search_is_recommended: bool


class Table:
    """Runs of one world by configuration and seed, and their scores on its test rows."""

    def __init__(self, world: World, runs: Sequence[Run]) -> None:
        self.world = world
        self.runs = {(run.index, run.seed): run for run in runs}
        self._groups = [np.flatnonzero(world.groups == group) for group in range(world.groups.max() + 1)]

    def draw(self, rng: random.Random) -> NDArray[np.int64]:
        """Return test rows of random groups, ``TEST_ROWS`` of them or a few more."""
        groups = self._groups[:]
        rng.shuffle(groups)
        drawn: list[NDArray[np.int64]] = []
        while sum(map(len, drawn)) < TEST_ROWS:
            drawn.append(groups.pop())
        return np.concatenate(drawn)

    def score(self, index: int, seeds: Sequence[int], rows: NDArray[np.int64] | None = None) -> float:
        """Return the mean macro-F1 of a configuration's models on rows; None means all test rows."""
        labels = self.world.labels if rows is None else self.world.labels[rows]
        answers = [self.runs[index, seed].answers[: len(self.world.labels)] for seed in seeds]
        return statistics.fmean(macro_f1(labels, of if rows is None else of[rows]) for of in answers)


def macro_f1(labels: NDArray[np.int8], answers: NDArray[np.int8]) -> float:
    scores = []
    for name in (0, 1):
        right = int(((labels == name) & (answers == name)).sum())
        both = int((labels == name).sum() + (answers == name).sum())
        scores.append(2 * right / both if both else 0.0)
    return statistics.fmean(scores)


def replay(number: int, table: Table, rng: random.Random) -> Replay:
    """Replay a search and its confirmation in one world."""
    searched = [0, *rng.sample(range(1, CONFIGURATIONS), SEARCHED - 1)]
    seeds = rng.sample(range(SEEDS), SEEDS)
    search_seed, *fresh = seeds
    found = {index: table.runs[index, search_seed].value for index in searched}
    ranked = sorted(searched, key=lambda index: -found[index])
    candidates = list(dict.fromkeys([*ranked[:TOP], 0]))
    results = race(table, candidates, fresh)
    verdict = decide(results, [place for place, index in enumerate(candidates) if index == 0])
    assert verdict is not None, "every training has a value"
    winner = candidates[verdict.winner]
    corrected = {
        place: {seed: table.runs[candidates[place], fresh[seed - 1]].corrected for seed in results[place].values}
        for place in verdict.racing
    }
    deviations = [
        table.runs[candidates[place], fresh[seed - 1]].deviation
        for place in verdict.racing
        for seed in corrected[place]
    ]
    interval = expected_interval(verdict.winner, corrected, deviations, PARTS)
    values = list(results[verdict.winner].values.values())
    of_mean = mean_interval(values)
    assert interval is not None
    assert of_mean is not None
    rows, best = table.draw(rng), ranked[0]
    return Replay(
        world=number,
        expected=expected_value(verdict.winner, corrected),
        interval=interval,
        mean=statistics.fmean(values),
        mean_interval=of_mean,
        test=table.score(winner, fresh, rows),
        true=table.score(winner, fresh),
        true_recommended=table.score(0, fresh),
        test_recommended=table.score(0, fresh, rows),
        search_value=found[best],
        search_true=table.score(best, fresh),
        search_test=table.score(best, fresh, rows),
        trainings=sum(len(result.values) for result in results.values()),
        is_recommended=winner == 0,
        search_is_recommended=best == 0,
    )


def race(table: Table, candidates: Sequence[int], fresh: Sequence[int]) -> dict[int, Result]:
    """Run the race of a confirmation on runs of the table; return the results by place."""
    places = range(len(candidates))
    results = {place: Result() for place in places}
    while wanted := next_trainings(places, results, seeds=len(fresh), may_prolong=False):
        for place, seed in wanted:
            run = table.runs[candidates[place], fresh[seed - 1]]
            # The runs' times stand for what an answer costs.
            values = {**results[place].values, seed: run.value}
            results[place] = Result(values, {}, seconds_per_sample=run.cpu_s)
    return results


def by_world(replays: Sequence[Replay], figure: Callable[[Replay], float]) -> tuple[float, float]:
    """Return the mean of a figure, and its standard error over worlds."""
    means = [
        statistics.fmean(figure(one) for one in replays if one.world == world)
        for world in sorted({one.world for one in replays})
    ]
    return statistics.fmean(map(figure, replays)), standard_error(means)


def tables(replays_wanted: int) -> tuple[list[Table], list[Replay]]:
    runs, worlds = read_runs(), read_worlds()
    whole = [
        Table(world, of_world)
        for number, world in enumerate(worlds)
        if len(of_world := [run for run in runs if run.world == number]) == CONFIGURATIONS * SEEDS
    ]
    replays = [replay(n % len(whole), whole[n % len(whole)], random.Random(n)) for n in range(replays_wanted)]
    return whole, replays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replays", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="few replays, whose figures mean nothing")
    given = parser.parse_args()
    whole, replays = tables(12 if given.quick else given.replays)
    trainings = statistics.fmean(one.trainings for one in replays)
    print(
        f"{len(replays)} replays in {len(whole)} worlds: {SEARCHED} configurations searched, the best {TOP} and the"
        f" recommended one confirmed on {SEEDS - 1} seeds; {trainings:.1f} trainings each.\n"
        f"{PARTS.train} rows to train, {PARTS.validation} to validate, {PARTS.test} to test; macro-F1, points of 100;"
        " ± one standard error over worlds.\n"
    )
    figures: list[tuple[str, Callable[[Replay], float], str]] = [
        ("90 % interval covers the test value", lambda one: inside(one.test, one.interval), "87 to 93"),
        ("BCa interval of the mean covers it", lambda one: inside(one.test, one.mean_interval), ""),
        ("bias of expected_value", lambda one: one.expected - one.true, "within 0.2"),
        ("bias of the mean of the fresh seeds", lambda one: one.mean - one.true, ""),
        ("bias of the best of the search", lambda one: one.search_value - one.search_true, ""),
        (
            "winner truly worse than the recommended one",
            lambda one: one.true < one.true_recommended and not one.is_recommended,
            "at most 2",
        ),
        (
            "the same by the drawn test part",
            lambda one: one.test < one.test_recommended and not one.is_recommended,
            "",
        ),
        (
            "best of the search truly worse than it",
            lambda one: one.search_true < one.true_recommended and not one.search_is_recommended,
            "",
        ),
        (
            "the same by the drawn test part",
            lambda one: one.search_test < one.test_recommended and not one.search_is_recommended,
            "",
        ),
        ("true value of the winner", lambda one: one.true, ""),
        ("true value of the best of the search", lambda one: one.search_true, ""),
        ("true value of the recommended one", lambda one: one.true_recommended, ""),
    ]
    rows, values = [], {}
    for name, figure, goal in figures:
        mean, error = by_world(replays, figure)
        rows.append([name, f"{100 * mean:.1f}", "–" if math.isnan(error) else f"{100 * error:.1f}", goal])
        values[name] = round(100 * mean, 2)
    print_table(["figure", "%", "±", "goal"], rows)
    print_json({"replays": len(replays), "worlds": len(whole), **values})


def inside(value: float, interval: tuple[float, float]) -> bool:
    return interval[0] <= value <= interval[1]


if __name__ == "__main__":
    main()
