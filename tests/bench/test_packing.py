"""Test of the packing bench's simulation of cards that trials share."""

import importlib
from pathlib import Path

import pytest

BENCHES = Path(__file__).parents[2] / "scripts" / "bench"


def test_the_simulation_gives_whole_cards_in_turn_and_lets_neighbours_slow_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHES)
    packing = importlib.import_module("packing")
    whole, half = (packing.Job(share, start_up_s=30.0, card_s=100.0, host_s=0.0) for share in (1.0, 0.5))
    in_turn = packing.simulate([whole, whole], cards=1, max_open=2, gain=1.0)
    assert in_turn.ended == {0: 130, 1: 260}
    # Two trials that each keep the card busy save only the start-up.
    assert packing.simulate([half, half], cards=1, max_open=2, gain=1.0).ended == {0: 230, 1: 230}
    assert packing.simulate([half, half], cards=1, max_open=2, gain=2.0).ended == {0: 130, 1: 130}
    # The trial that needs the whole card waits for both, and nothing behind it is suggested.
    run = packing.simulate([half, half, whole, half], cards=1, max_open=4, gain=2.0)
    assert run.launched == {0: 0, 1: 0, 2: 130, 3: 260}
