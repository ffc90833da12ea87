"""Hours of simulated searches: the study's scheduler, packing, patience, folds, and the range."""

import numpy as np
import pytest

from tune_app.config import RunConfig, parse_config
from tune_app.distributed.simulated import SchedulerPlan, Script, simulate
from tune_app.forecast.curves import drawn_curve
from tune_app.forecast.hours import forecast_hours
from tune_app.forecast.overheads import Overheads
from tune_app.forecast.trial_times import TrialTimes
from tune_app.screening.slots import Slots
from tune_app.step_scale import StepScale

NONE = Overheads(0.0, 0.0, 0.0, 0.0)


def times(gpus: float = 0.0, spread: float = 0.0) -> TrialTimes:
    return TrialTimes(("tiny-bert",), 1.0, 10.0, 2.0, 1.0, 0.5, spread, 0.0, gpus, 0.1)


def config(*overrides: str) -> RunConfig:
    raw = {
        "study": {"name": "x"},
        "data": {"path": "demo"},
        "train": {"epochs": 9},
        "search": {"trials": 18, "max_concurrent": 2, "recommended": 0},
        "space": {"optim.lr": {"low": 0.001, "high": 0.01}},
    }
    return parse_config(raw, overrides)


def hours(one: RunConfig, *, cards: int = 0, gpus: float = 0.0, trials: int = 18) -> float:
    found = forecast_hours(one, [times(gpus)], [], NONE, trials=trials, cards=cards, seed=0, most_s=4.0)
    assert found.hours.low <= found.hours.expected <= found.hours.high
    return found.hours.expected


def plan(name: str, steps: int = 9) -> SchedulerPlan:
    return SchedulerPlan(name, steps, 1, 3, 0, pauses=True, ask_ahead=int(name == "hyperband"), settings={})


def test_without_a_scheduler_every_trial_runs_to_its_end() -> None:
    whole = times().whole_s(9, None)
    assert hours(config("scheduler.name=none")) == pytest.approx(9 * whole / 3600, rel=0.15)


@pytest.mark.parametrize("scheduler", ["asha", "hyperband"])
def test_a_scheduler_shortens_the_search(scheduler: str) -> None:
    shortened = hours(config(f"scheduler.name={scheduler}"))
    assert shortened < 0.75 * hours(config("scheduler.name=none"))


def test_whole_cards_run_one_trial_each_and_shares_side_by_side() -> None:
    one = config("scheduler.name=none", "search.max_concurrent=4")
    alone, packed = hours(one, cards=1, gpus=1.0), hours(one, cards=1, gpus=0.25)
    assert alone == pytest.approx(18 / 5 * packed, rel=0.1)
    assert hours(one, cards=2, gpus=1.0) == pytest.approx(alone / 2, rel=0.1)


def test_a_long_search_is_extended_in_proportion() -> None:
    one = config("scheduler.name=none")
    assert hours(one, trials=2_000) == pytest.approx(1_000 * times().whole_s(9, None) / 3600, rel=0.1)


def test_trials_of_equal_values_are_stopped_and_recommended_ones_are_not() -> None:
    scripts = [Script([float(value)] * 9, [1.0] * 9, 0.0, 0.0, is_recommended=value < 2) for value in range(9)]
    stopped = simulate(scripts, plan("asha"), Slots(1, 0), [], 0.0)
    assert 9 * 2 + 7 <= stopped.reports < 9 * 9
    assert simulate(scripts, plan("none"), Slots(1, 0), [5.0], 1.0).seconds == 9 * 9 + 5 + 8


def test_patience_ends_trials_early_and_folds_report_a_mean() -> None:
    rng = np.random.default_rng(0)
    epochs = StepScale.of(folds=None, epochs=20)
    lengths = [len(drawn_curve(rng, epochs, 20, patience=2).values) for _ in range(50)]
    assert 3 <= min(lengths) < max(lengths) <= 20
    assert all(len(drawn_curve(rng, epochs, 20, patience=None).values) == 20 for _ in range(3))
    in_folds = drawn_curve(rng, StepScale.of(folds=5, epochs=20), 20, patience=2)
    assert (len(in_folds.values), len(in_folds.epochs)) == (5, 5)
    assert max(in_folds.epochs) < 20


def test_the_first_reports_say_as_much_of_the_last_as_in_recorded_trainings() -> None:
    rng = np.random.default_rng(1)
    scale = StepScale.of(folds=None, epochs=8, per_epoch=4)
    curves = np.array([drawn_curve(rng, scale, 8, patience=None).values for _ in range(3_000)])
    quarter, epoch = (np.corrcoef(curves[:, step], curves[:, -1])[0, 1] for step in (0, 3))
    assert 0.25 < quarter < 0.45
    assert 0.55 < epoch < 0.75
