"""Slots of a search, and how many trials run side by side."""

from tune_app.forecast.packing import packing_forecast
from tune_app.screening.slots import Slots


def test_shares_fill_a_card_and_a_trial_without_room_waits() -> None:
    slots = Slots(most=4, cards=1)
    half = slots.take(0.5)
    assert half is not None
    assert slots.take(0.25) is not None
    assert slots.take(0.5) is None
    slots.give_back(half)
    assert slots.take(0.5) is not None


def test_a_share_goes_to_the_fullest_card_and_several_gpus_are_whole_cards() -> None:
    slots = Slots(most=8, cards=3)
    first, second = slots.take(0.5), slots.take(0.5)
    assert first is not None
    assert second is not None
    assert first.cards == second.cards
    both = slots.take(2.0)
    assert both is not None
    assert len(both.cards) == 2
    assert slots.take(0.125) is None


def test_the_most_trials_at_a_time_count_on_the_cpu_too() -> None:
    assert packing_forecast([0.0], cards=0, max_concurrent=3, seed=0).as_dict() == {"at_once": 3, "shares": {}}
    halves = packing_forecast([0.5, 0.5, 1.0, 1.0], cards=1, max_concurrent=8, seed=0)
    assert halves.shares == {0.5: 0.5, 1.0: 0.5}
    assert halves.at_once == 1
    assert packing_forecast([0.5], cards=2, max_concurrent=8, seed=0).at_once == 4
