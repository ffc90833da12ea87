"""Statistics of a confirmation: tests, intervals and estimates against SciPy, known values and simulations."""

import numpy as np
import pytest
from scipy import stats

from tune_app.confirmation.expectation import Parts, expected_interval, expected_value
from tune_app.confirmation.statistics import (
    best_probabilities,
    compare,
    mean_interval,
    shrunk_value,
    sign_flip_p,
)


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values, start=1))


@pytest.mark.parametrize("count", [3, 5, 8, 12])
def test_the_sign_flip_test_is_scipys_permutation_test(count: int) -> None:
    rng = np.random.default_rng(count)
    differences = rng.normal(0.3, 1.0, size=count)
    expected = stats.permutation_test(
        (differences, np.zeros(count)),
        lambda one, other, axis: np.mean(one - other, axis=axis),
        permutation_type="samples",
        alternative="greater",
        n_resamples=2**count,
    ).pvalue
    assert sign_flip_p(differences) == pytest.approx(expected)


def test_five_differences_of_one_sign_reach_the_least_p_value() -> None:
    assert sign_flip_p(np.array([0.1, 0.2, 0.05, 0.3, 0.1])) == pytest.approx(1 / 32)
    assert sign_flip_p(np.zeros(5)) == 1.0


def test_many_pairs_are_sampled_and_agree_with_students_test() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1.0, size=40)
    student = stats.ttest_1samp(differences, 0.0, alternative="greater").pvalue
    assert sign_flip_p(differences) == pytest.approx(student, abs=0.01)


def test_candidates_are_compared_on_the_seeds_that_both_have() -> None:
    first, second = {1: 0.9, 2: 0.8, 3: 0.7, 4: 0.1}, {1: 0.8, 2: 0.75, 3: 0.6}
    compared = compare(first, second)
    shared = [first[seed] - second[seed] for seed in (1, 2, 3)]
    assert (compared.difference, compared.pairs, compared.test) == (pytest.approx(np.mean(shared)), 3, "t")
    assert compared.p == pytest.approx(stats.ttest_1samp(shared, 0.0, alternative="greater").pvalue)
    assert compared.standard_error == pytest.approx(stats.sem(shared))
    with pytest.raises(ValueError, match="share no seed"):
        compare({1: 0.5}, {2: 0.5})


@pytest.mark.parametrize(("shift", "p"), [(0.0, 0.5), (0.25, 0.0), (-0.25, 1.0)])
def test_differences_without_spread_are_decided_by_their_sign(shift: float, p: float) -> None:
    assert compare(by_seed(0.75, 0.5, 0.25), by_seed(0.75 - shift, 0.5 - shift, 0.25 - shift)).p == p


def test_the_interval_of_a_mean_holds_it_and_needs_two_values() -> None:
    low, high = mean_interval([0.8, 0.82, 0.9, 0.85, 0.7]) or (1.0, 0.0)
    assert 0.7 < low < np.mean([0.8, 0.82, 0.9, 0.85, 0.7]) < high < 0.9
    assert mean_interval([0.8]) is None
    assert mean_interval([0.8, 0.8]) == (0.8, 0.8)


def test_the_probability_of_being_best_is_shared_between_equals() -> None:
    noisy = by_seed(0.8, 0.9, 0.7, 0.85, 0.75)
    rotated = by_seed(0.9, 0.7, 0.85, 0.75, 0.8)
    one, other = best_probabilities([noisy, rotated])
    assert (one, one + other) == (pytest.approx(0.5, abs=0.02), pytest.approx(1.0))


def test_a_seed_that_is_hard_for_all_hides_no_difference() -> None:
    seeds = [0.9, 0.5, 0.7, 0.8, 0.6]
    better = by_seed(*(value + 0.02 + 0.001 * place for place, value in enumerate(seeds)))
    assert best_probabilities([better, by_seed(*seeds)])[0] > 0.99


def test_fewer_seeds_leave_more_doubt() -> None:
    leader = by_seed(0.80, 0.84, 0.79, 0.83, 0.82)
    behind = by_seed(0.79, 0.81, 0.80, 0.82, 0.80)
    dropped = {seed: behind[seed] for seed in (1, 2)}
    assert best_probabilities([leader, dropped])[1] > best_probabilities([leader, behind])[1]


def test_candidates_that_differ_by_noise_alone_are_shrunk_to_their_mean() -> None:
    means = {0: 0.80, 1: 0.82, 2: 0.84}
    assert shrunk_value(2, means, variance_of_mean=1.0) == pytest.approx(0.82)
    assert shrunk_value(2, means, variance_of_mean=0.0) == pytest.approx(0.84)
    assert shrunk_value(2, {2: 0.84}, variance_of_mean=1.0) == 0.84


def test_the_winners_curse_is_corrected_on_average() -> None:
    rng = np.random.default_rng(0)
    errors: dict[str, list[float]] = {"mean": [], "expected": []}
    for _ in range(1_000):
        true, shared = rng.normal(0.8, 0.02, size=6), rng.normal(0.0, 0.03, size=5)
        values = {who: by_seed(*(true[who] + shared + rng.normal(0.0, 0.03, size=5))) for who in range(6)}
        winner = max(values, key=lambda who: sum(values[who].values()))
        errors["mean"].append(float(np.mean(list(values[winner].values()))) - true[winner])
        errors["expected"].append(expected_value(winner, values) - true[winner])
    assert np.mean(errors["mean"]) > 0.007
    assert abs(np.mean(errors["expected"])) < 0.003


def test_the_interval_of_a_test_value_is_wider_for_a_smaller_test_part() -> None:
    values = {0: by_seed(0.8, 0.84, 0.79, 0.83, 0.82), 1: by_seed(0.79, 0.81, 0.8, 0.82, 0.8)}

    def width(test: int) -> float:
        low, high = expected_interval(0, values, [0.03, 0.04], Parts(600, 200, test)) or (0.0, 0.0)
        assert low < expected_value(0, values) < high
        return high - low

    assert width(100) > width(200) > width(10_000) > 0
    assert expected_interval(0, values, [], Parts(600, 200, 200)) is None


def test_the_interval_covers_the_test_value_of_the_same_models() -> None:
    rng = np.random.default_rng(0)
    rows, validated, tested, count = 400, 100, 100, 5
    covered = 0
    for _ in range(1_000):
        # Rows that every model answers alike; a training shifts them all.
        pool, test = rng.normal(0.8, 0.4, size=rows), rng.normal(0.8, 0.4, size=tested)
        shifts = rng.normal(0.0, 0.03, size=count)
        values = [pool[rng.permutation(rows)[:validated]].mean() + shift for shift in shifts]
        interval = expected_interval(0, {0: by_seed(*values)}, [0.04], Parts(rows - validated, validated, tested))
        assert interval is not None
        covered += interval[0] <= test.mean() + shifts.mean() <= interval[1]
    assert 0.87 < covered / 1_000 < 0.93
