"""Sub-seeds: by name, stable, in range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.seeds import sub_seed, trial_seeds


@given(master=st.integers(), name=st.text())
def test_a_sub_seed_suits_every_generator(master: int, name: str) -> None:
    assert 0 <= sub_seed(master, name) < 2**31


def test_names_and_masters_give_seeds_of_their_own() -> None:
    seeds = {sub_seed(master, name) for master in range(100) for name in ("split", "init", "order")}
    assert len(seeds) == 300


@pytest.mark.parametrize(("master", "expected"), [(0, 1_086_891_081), (42, 857_430_385)])
def test_a_study_resumed_by_a_later_version_finds_its_split_again(master: int, expected: int) -> None:
    assert sub_seed(master, "split") == expected


def test_the_seeds_of_a_trial_differ_from_each_other_and_come_again() -> None:
    seeds = trial_seeds(7)
    assert len({seeds.split, seeds.init, seeds.order}) == 3
    assert trial_seeds(7) == seeds
    assert trial_seeds(8) != seeds
