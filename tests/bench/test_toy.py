"""Test of the toy problem: half of its space fits."""

import importlib
from pathlib import Path

import pytest

BENCHES = Path(__file__).parents[2] / "scripts" / "bench"


def test_half_of_the_toy_space_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHES)
    toy = importlib.import_module("toy")
    assert [toy.ToyProblem(objective).share_that_fits for objective in toy.OBJECTIVES] == [0.5, 0.5]
