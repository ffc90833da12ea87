"""Tables of training curves: a written table reads back unchanged, and the committed tables hold whole rows."""

import importlib
import math
from pathlib import Path
from typing import Any

import pytest

BENCHES = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHES)
    return importlib.import_module("curves.table")


@pytest.fixture
def make(table: Any) -> Any:
    return importlib.import_module("curves.make")


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_a_configuration_depends_on_table_and_index_alone(name: str, table: Any, make: Any) -> None:
    drawn = [make.configuration(name, index) for index in range(50)]
    assert [make.configuration(name, index) for index in range(50)] == drawn
    assert len({str(params) for params in drawn}) == 50
    assert all(params.keys() == table.SPACES[name].keys() for params in drawn)


def test_runs_of_several_seeds_share_the_split(make: Any) -> None:
    one, other = make.seeds_of(0), make.seeds_of(1)
    assert one.split == other.split
    assert one.init != other.init
    assert one.order != other.order


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_a_curve_that_is_written_is_read_again(name: str, table: Any, make: Any, tmp_path: Path) -> None:
    rungs = table.EPOCHS[name] * table.RUNGS_PER_EPOCH
    values = (*(0.5 + rung / 1000 for rung in range(rungs - 2)), math.nan, math.nan)
    curve = table.Curve(7, make.configuration(name, 7), 1, values, 12.25, "diverged: not finite, twice")
    file = tmp_path / "table.csv"
    with file.open("w", newline="") as stream:
        writer = make.csv.DictWriter(stream, table.header(name))
        writer.writeheader()
        writer.writerow(table.as_row(name, curve))
    (found,) = table.read_table(name, file)
    assert str(found) == str(curve), "NaN equals nothing but is written alike"
    assert found.epochs[0] == values[3]
    assert len(found.epochs) == table.EPOCHS[name]


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_the_committed_tables_hold_scores_of_the_configurations_that_are_drawn(
    name: str, table: Any, make: Any
) -> None:
    curves = table.read_table(name)
    assert len({(curve.index, curve.seed) for curve in curves}) == len(curves)
    for curve in curves:
        assert curve.params == make.configuration(name, curve.index)
        assert all(0 <= value <= 1 or (curve.failed and math.isnan(value)) for value in curve.values)
