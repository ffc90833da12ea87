"""Assembly of a run on Ray, with a loop of its own in place of Ray's: every part receives what the others send."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from tune_app.config import parse_config
from tune_app.console import Console
from tune_app.distributed import run
from tune_app.distributed.breaker import IN_A_ROW, Breakage
from tune_app.distributed.cluster import Cluster, Offer
from tune_app.distributed.messages import SentReport
from tune_app.errors import UserError
from tune_app.experiment import SearchEnd, run_search
from tune_app.outcomes import TrialError
from tune_app.study.store import load_study

Reports = list[SentReport]


@pytest.fixture
def search(plain_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a search whose trials send given reports, one after another."""
    sent: Iterator[Reports] = iter(())

    @contextmanager
    def joined(address: str | None, offer: Offer) -> Iterator[Cluster]:
        yield Cluster({"CPU": float(offer.cpus)}, None)

    def loop(trainable: Any, *, searcher: Any, scheduler: Any, callbacks: list[Any], **options: Any) -> None:
        recorder, _ = callbacks
        for number in itertools.count():
            launch = searcher.suggest(str(number))
            if not isinstance(launch, dict):
                return
            trial: Any = SimpleNamespace(trial_id=str(number), config=launch, status=Trial.PENDING, max_failures=2)
            scheduler.on_trial_add(None, trial)
            recorder.on_trial_start(0, [], trial)
            trial.status = Trial.RUNNING
            failed = False
            for report in next(sent):
                decision = scheduler.on_trial_result(None, trial, report.as_dict())
                recorder.on_trial_result(0, [], trial, report.as_dict())
                failed = report.ended not in (None, "complete")
                if decision == TrialScheduler.STOP:
                    break
            scheduler.on_trial_error(None, trial) if failed else scheduler.on_trial_complete(None, trial, {})
            recorder.on_trial_error(0, [], trial) if failed else recorder.on_trial_complete(0, [], trial)
            searcher.on_trial_complete(str(number))

    monkeypatch.setattr(run, "joined", joined)
    monkeypatch.setattr(Cluster, "check_fits", lambda self, **_: None)
    monkeypatch.setattr(run, "run_loop", loop)
    health = SimpleNamespace(asking=nullcontext, lost=lambda: None, answers=lambda: True)
    monkeypatch.setattr(run, "ray_health", lambda *_: health)

    def ran(*reports: Reports, overrides: Sequence[str] = ()) -> SearchEnd:
        nonlocal sent
        sent = iter(reports)
        config = parse_config(plain_config, [f"search.trials={len(reports)}", *overrides])
        return run_search(config, console=Console(), quiet=True, run_trial=never, checks=())

    return ran


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("a trial was run")


def complete(value: float) -> Reports:
    return [SentReport(1, value / 2), SentReport(2, value, ended="complete")]


def test_a_search_ends_once_the_study_holds_its_trials(search: Any) -> None:
    end = search(complete(0.5), [SentReport(ended="oom", reason="too big")], complete(0.75))
    assert end.why == "the study holds 3 launched trials"
    assert (end.status.trials["complete"], end.status.trials["oom"], end.status.best.value) == (2, 1, 0.75)
    assert end.breakage is None


def test_a_search_that_is_run_again_goes_on_where_it_stood(search: Any) -> None:
    search(complete(0.5))
    end = search(complete(0.25), complete(0.75))
    assert end.status.launched == 2
    assert end.status.best.value == 0.5


def test_a_reason_that_would_stop_any_trial_ends_the_search_and_leaves_the_trial_open(search: Any) -> None:
    end = search(complete(0.5), [SentReport(ended="halted", reason="the disk is full")], complete(0.75))
    assert end.why == "the disk is full"
    assert end.breakage is not None
    assert end.status.trials["interrupted"] == 1
    assert Path(end.run_dir).exists()


def test_a_search_whose_trials_all_fail_is_broken_off_and_goes_on_once_that_is_mended(search: Any) -> None:
    choices = "space.optim.lr.choices=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]"
    error = TrialError("KeyError", "'text'", 'File "trial.py", line 3, in script')
    end = search(*[[SentReport(ended="failed", error=error)]] * 6, overrides=[choices])
    assert end.status.trials["failed"] == IN_A_ROW
    assert end.why == "5 trials in a row failed with one error, KeyError: 'text'"
    assert end.breakage == Breakage(end.why, error.error_traceback)

    end = search(*[complete(0.5)] * 6, overrides=[choices])
    assert end.breakage is None
    assert (end.status.trials["failed"], end.status.trials["complete"]) == (IN_A_ROW, 1)


PLUGIN = """
from search_spaces.rules import RuleEntry, Violation
from trainables.declaration import added
from tune_app.samplers import SamplerEntry
from tune_app.schedulers import SchedulerEntry


def build_floor(facts):
    from ray.tune.schedulers import FIFOScheduler

    class Floor(FIFOScheduler):
        def on_trial_result(self, controller, trial, result):
            return "STOP" if result["value"] < facts.settings["floor"] else "CONTINUE"

    return Floor()


def build_falling(facts):
    values = sorted(facts.space.space.entries["optim.lr"].choices, reverse=True)
    return lambda: ({"optim.lr": value} for value in values if value <= facts.settings["ceiling"])


class OddRates:
    name = "odd_rates"
    reads = frozenset({"optim.lr"})

    def check(self, sample):
        return Violation(self.name, "0.2 is even", 1.0) if sample.params["optim.lr"] == 0.2 else None


FLOOR = SchedulerEntry(
    build="plugged:build_floor",
    stopping_steps=lambda steps, warmup, factor: list(range(warmup, steps)),
    settings={"floor": added(float, 0.5, "Value below which a trial is stopped.", at_least=0)},
)
FALLING = SamplerEntry(
    build="plugged:build_falling", settings={"ceiling": added(float, 1.0, "Highest rate that is proposed.", above=0)}
)
ODD_RATES = RuleEntry(lambda facts: [OddRates()])
"""
PLUGGED = ("scheduler.name=floor", "scheduler.floor=0.25", "search.sampler=falling", "search.ceiling=0.3")


@pytest.fixture
def plugged(install_plugin: Any) -> None:
    install_plugin(
        {"plugged.py": PLUGIN},
        {
            "headroom.schedulers": {"floor": "plugged:FLOOR"},
            "headroom.samplers": {"falling": "plugged:FALLING"},
            "headroom.rules": {"odd_rates": "plugged:ODD_RATES"},
        },
    )


def test_scheduler_sampler_and_rule_of_another_distribution_run_a_search(plugged: None, search: Any) -> None:
    overrides = (*PLUGGED, "limits=odd_rates", "search.recommended=0")
    end = search(complete(0.75), complete(0.25), overrides=overrides)
    trials = load_study(end.run_dir, "test", None).trials()
    assert [(trial.params["optim.lr"], trial.user_attrs["outcome"]) for trial in trials] == [
        (0.3, "complete"),
        (0.2, "infeasible"),
        (0.1, "stopped"),
    ]
    assert trials[-1].user_attrs["reason"].startswith("floor stopped it after epoch 1")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("scheduler.floor=-1", r"^scheduler\.floor: .*-1"),
        ("search.ceiling=true", r"^search\.ceiling: True"),
        ("search.sampler=fallling", r"search\.sampler: .*falling"),
    ],
)
def test_their_settings_are_validated_like_ours(
    override: str, told: str, plugged: None, plain_config: dict[str, Any]
) -> None:
    parse_config(plain_config, PLUGGED)
    with pytest.raises(UserError, match=told):
        parse_config(plain_config, [*PLUGGED, override])


def test_their_settings_are_unknown_without_the_distribution(plain_config: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"scheduler\.floor"):
        parse_config(plain_config, ["scheduler.floor=0.25"])
