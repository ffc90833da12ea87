"""Assembly of a run on Ray, with a loop of its own in place of Ray's: every part receives what the others send."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from tune_app.config import parse_config
from tune_app.console import Console
from tune_app.distributed import run
from tune_app.distributed.cluster import Cluster
from tune_app.distributed.messages import SentReport
from tune_app.experiment import SearchEnd, run_search

Reports = list[SentReport]


@pytest.fixture
def search(plain_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a search whose trials send given reports, one trial at a time."""
    sent: Iterator[Reports] = iter(())

    @contextmanager
    def joined(address: str | None, cpus: int, gpus: int | None) -> Iterator[Cluster]:
        yield Cluster({"CPU": float(cpus)}, None)

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
            reports = next(sent)
            for report in reports:
                scheduler.on_trial_result(None, trial, report.as_dict())
                recorder.on_trial_result(0, [], trial, report.as_dict())
            failed = reports[-1].ended != "complete"
            scheduler.on_trial_error(None, trial) if failed else scheduler.on_trial_complete(None, trial, {})
            recorder.on_trial_error(0, [], trial) if failed else recorder.on_trial_complete(0, [], trial)
            searcher.on_trial_complete(str(number))

    monkeypatch.setattr(run, "joined", joined)
    monkeypatch.setattr(Cluster, "check_fits", lambda self, **_: None)
    monkeypatch.setattr(run, "run_loop", loop)
    health = SimpleNamespace(asking=nullcontext, lost=lambda: None, answers=lambda: True)
    monkeypatch.setattr(run, "ray_health", lambda *_: health)

    def ran(*reports: Reports) -> SearchEnd:
        nonlocal sent
        sent = iter(reports)
        config = parse_config(plain_config, [f"search.trials={len(reports)}", "scheduler.name=none"])
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
