"""Tests of the closed-form problems: scores, needs, curves and the best configuration."""

import importlib
import random
from pathlib import Path
from typing import Any

import pytest

BENCHES = Path(__file__).parents[2] / "scripts" / "bench"
NAMES = ("smooth", "interacting", "rugged")
SEEDS = range(4)


@pytest.fixture
def problems(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHES)
    return importlib.import_module("problems")


def all_problems(problems: Any) -> list[Any]:
    return [*problems.NAMED.values(), *(problems.FineTuning(seed) for seed in SEEDS)]


def test_values_are_scores_and_equal_for_equal_arguments(problems: Any) -> None:
    for problem in all_problems(problems):
        again = problems.FineTuning(problem.problem_seed, problem.character)
        for seed, params in enumerate(problems.random_configurations(problem, 100, "values")):
            assert problem.space.contains(params)
            assert 0 <= problem.value(params, seed) <= 1
            assert problem.value(params, seed) == again.value(params, seed)
            assert problem.value(params, seed) != problem.value(params, seed + 1)
            assert abs(problem.value(params, seed) - problem.true_value(params)) < 6 * problem.response.noise


def test_problem_seeds_give_different_problems(problems: Any) -> None:
    params = problems.random_configurations(problems.NAMED["smooth"], 1, "one")[0]
    assert len({problem.true_value(params) for problem in all_problems(problems)}) == len(NAMES) + len(SEEDS)


def test_a_value_that_no_run_reads_changes_nothing(problems: Any) -> None:
    problem = problems.NAMED["rugged"]
    params = problems.random_configurations(problem, 1, "unread")[0] | {"loss.name": "cross_entropy"}
    assert len({problem.value(params | {"loss.gamma": gamma}, 0) for gamma in (1.0, 5.0)}) == 1
    focal = params | {"loss.name": "focal"}
    assert len({problem.value(focal | {"loss.gamma": gamma}, 0) for gamma in (1.0, 5.0)}) == 2


def test_the_stated_share_fits_the_budget(problems: Any) -> None:
    for problem in all_problems(problems):
        rng = random.Random(0)
        drawn = [problem.space.sample(rng) for _ in range(2000)]
        assert 0.3 < problem.share_that_fits < 0.65
        assert sum(map(problem.fits, drawn)) / len(drawn) == pytest.approx(problem.share_that_fits, abs=0.05)
        assert all(problem.fits(params) == (problem.need_gib(params) <= problem.budget_gib) for params in drawn)


def test_too_large_a_rate_collapses_to_the_baseline(problems: Any) -> None:
    smooth = problems.NAMED["smooth"]
    collapsed = smooth.best.params | {"optim.lr": 3e-4}
    assert smooth.true_value(collapsed) == pytest.approx(smooth.response.baseline, abs=0.02)


def test_the_best_rate_falls_with_size_and_rises_with_the_batch(problems: Any) -> None:
    def best_rate(**changed: Any) -> float:
        params = smooth.best.params | {name.replace("__", "."): value for name, value in changed.items()}
        return max(rates, key=lambda rate: smooth.true_value(params | {"optim.lr": rate}))

    smooth, rates = problems.NAMED["smooth"], [5e-6 * 60 ** (step / 100) for step in range(101)]
    assert best_rate(model__name="MiniLM-L12-H384") > best_rate(model__name="deberta-large")
    assert best_rate(train__batch_size=128) > best_rate(train__batch_size=4)


@pytest.mark.parametrize("name", NAMES)
def test_a_curve_ends_at_the_value_and_correlates_with_it_more_and_more(problems: Any, name: str) -> None:
    problem = problems.NAMED[name]
    drawn = problems.random_configurations(problem, 1000, "curves")
    for seed, params in enumerate(drawn[:20]):
        curve = problem.curve(params, seed, 8, 4)
        assert curve == problem.curve(params, seed, 8, 4)
        assert len(curve) == 32
        assert all(0 <= score <= 1 for score in curve)
        assert curve[-1] == problem.curve(params, seed, 1, 1)[-1] == problem.value(params, seed)
    correlations = problems.correlations_with_end(problem, drawn)
    assert 0.4 < correlations[0.25] < 0.6
    assert 0.7 < correlations[1.0] < 0.8
    assert list(correlations.values()) == sorted(correlations.values())


def test_a_curve_has_a_report(problems: Any) -> None:
    smooth = problems.NAMED["smooth"]
    params = problems.random_configurations(smooth, 1, "one")[0]
    with pytest.raises(ValueError, match="epochs 0 and per_epoch 4"):
        smooth.curve(params, 0, 0, 4)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_random_beats_the_best_there_is(problems: Any, name: str) -> None:
    problem = problems.NAMED[name]
    assert problem.fits(problem.best.params)
    assert problem.space.contains(problem.best.params)
    assert problem.true_value(problem.best.params) == pytest.approx(problem.best_there_is())
    assert problem.best.error < 0.001
    drawn = problems.random_configurations(problem, 3000, "best")
    assert max(map(problem.true_value, drawn)) < problem.best_there_is()


def test_headroom_searches_a_problem(problems: Any) -> None:
    toy_search, problem = importlib.import_module("toy_search"), problems.NAMED["interacting"]
    toy_search.hush()
    end = toy_search.search_with_headroom(problem, 0, 15, [])
    assert 0 < end.ooms < 15
    assert problem.response.baseline < end.best < 1
    assert toy_search.search_with_stock(problem, 0, 15).best > problem.response.baseline


def test_a_problem_without_a_need_of_its_own_has_that_of_the_toy(problems: Any) -> None:
    class Plain:
        space, budget_gib = problems.NAMED["smooth"].space, 0.0

        def fits(self, params: Any) -> bool:
            return False

    toy_search = importlib.import_module("toy_search")
    params = problems.random_configurations(problems.NAMED["smooth"], 1, "one")[0]
    report = toy_search.toy_report(Plain(), params, 0)
    assert report.facts["need_gib"] == problems.need_gib(params)
