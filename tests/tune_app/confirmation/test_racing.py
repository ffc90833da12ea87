"""Race of candidates: which trainings come next, who is dropped, and who wins."""

import pytest

from tune_app.confirmation.racing import FEWEST, MOST, Result, decide, in_race, next_trainings

LEADER = [0.90, 0.91, 0.89, 0.92, 0.90]
CLOSE = [0.91, 0.89, 0.90, 0.905, 0.90]
BEATEN = [0.70, 0.72, 0.69, 0.71, 0.70]


def result(*values: float, problems: dict[int, str] | None = None, s: float | None = None, gib: float = 1.0) -> Result:
    return Result(dict(enumerate(values, start=1)), problems or {}, s, gib)


def test_the_first_round_trains_every_candidate_on_the_same_seeds() -> None:
    wanted = next_trainings([0, 1], {0: Result(), 1: Result()}, seeds=5, may_prolong=False)
    assert wanted == [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)]
    assert next_trainings([0, 1], {0: Result(), 1: Result()}, seeds=1, may_prolong=False) == [(0, 1), (1, 1)]


def test_a_resumed_race_trains_what_is_missing() -> None:
    results = {0: result(*LEADER[:3]), 1: result(*CLOSE[:2])}
    assert next_trainings([0, 1], results, seeds=5, may_prolong=False) == [(1, 3)]


def test_a_beaten_candidate_is_dropped_and_the_leader_finishes_its_seeds() -> None:
    results = {0: result(*LEADER[:3]), 1: result(*CLOSE[:3]), 2: result(*BEATEN[:3])}
    assert in_race(results) == [0, 1]
    assert next_trainings([0, 1, 2], results, seeds=5, may_prolong=False) == [(0, 4), (1, 4)]
    alone = {0: result(*LEADER[:4]), 2: result(*BEATEN[:3])}
    assert next_trainings([0, 2], alone, seeds=5, may_prolong=False) == [(0, 5)]
    assert next_trainings([0, 2], {**alone, 0: result(*LEADER)}, seeds=5, may_prolong=True) == []


def test_nobody_is_dropped_before_three_seeds() -> None:
    assert FEWEST == 3
    assert in_race({0: result(*LEADER[:2]), 1: result(*BEATEN[:2])}) == [0, 1]


def test_a_decision_depends_on_earlier_seeds_alone() -> None:
    # The last round was cut off after one of its trainings, which alone would drop the other candidate.
    before = {0: result(0.90, 0.90, 0.90), 1: result(0.89, 0.92, 0.88)}
    cut_off = {0: result(0.90, 0.90, 0.90, 0.99), 1: before[1]}
    assert next_trainings([0, 1], before, seeds=4, may_prolong=False) == [(0, 4), (1, 4)]
    assert next_trainings([0, 1], cut_off, seeds=4, may_prolong=False) == [(1, 4)]


def test_seeds_are_added_only_while_the_winner_is_not_clear() -> None:
    close = {0: result(*LEADER), 1: result(*CLOSE)}
    assert next_trainings([0, 1], close, seeds=5, may_prolong=False) == []
    assert next_trainings([0, 1], close, seeds=5, may_prolong=True) == [(0, 6), (1, 6)]
    endless = {0: result(*LEADER * 6), 1: result(*CLOSE * 6)}
    assert len(endless[0].values) == MOST
    assert next_trainings([0, 1], endless, seeds=5, may_prolong=True) == []


def test_a_failed_training_takes_its_candidate_out_and_is_not_run_again() -> None:
    results = {0: result(0.99, 0.99, problems={3: "failed: NaN"}), 1: result(*CLOSE[:3])}
    assert in_race(results) == [1]
    assert next_trainings([0, 1], results, seeds=3, may_prolong=False) == []
    assert decide({0: results[0]}, []) is None


def test_the_cheapest_of_the_candidates_that_cannot_be_told_apart_wins() -> None:
    results = {0: result(*LEADER, s=0.02), 1: result(*CLOSE, s=0.01), 2: result(*BEATEN, s=0.001)}
    verdict = decide(results, [])
    assert verdict is not None
    assert (verdict.leader, verdict.ties, verdict.winner) == (0, (1,), 1)


@pytest.mark.parametrize(("gib", "winner"), [(0.5, 1), (0.99, 0)])
def test_equally_fast_candidates_are_decided_by_memory_and_then_by_the_mean(gib: float, winner: int) -> None:
    verdict = decide({0: result(*LEADER, s=0.0100), 1: result(*CLOSE, s=0.0095, gib=gib)}, [])
    assert verdict is not None
    assert verdict.winner == winner


def test_a_much_worse_candidate_wins_for_no_price_however_few_the_seeds() -> None:
    verdict = decide({0: result(0.82, 0.74, s=0.02), 1: result(0.73, 0.62, s=0.01)}, [])
    assert verdict is not None
    assert (verdict.winner, verdict.ties, verdict.racing) == (0, (), (0, 1))


def test_a_recommended_configuration_stays_until_it_is_beaten() -> None:
    behind = [value - 0.005 for value in LEADER[:3]] + [0.95, 0.85]
    verdict = decide({0: result(*LEADER, s=0.01), 1: result(*behind, s=0.02)}, recommended=[1])
    assert verdict is not None
    assert (verdict.leader, verdict.winner) == (0, 1)
    beaten = decide({0: result(*LEADER, s=0.02), 1: result(*BEATEN, s=0.01)}, recommended=[1])
    assert beaten is not None
    assert beaten.winner == 0
