"""Decisions of the assembly itself; test_search_run.py and similar tests run it."""

from pathlib import Path
from typing import Any

import pytest

from tune_app.config import parse_config
from tune_app.console import Console
from tune_app.distributed.questions import host_share_on
from tune_app.experiment import run_search
from tune_app.outcomes import Outcome
from tune_app.screening.preconditions import study_record
from tune_app.screening.screen import host_share
from tune_app.study.run_dir import keep_config
from tune_app.study.store import open_study


class TwoNodes:
    """Cluster whose larger node has four CPUs."""

    def __init__(self, joined: bool) -> None:
        self.joined = joined

    def most_on_a_node(self, cpus: float) -> int:
        return int(4 // cpus)


@pytest.mark.parametrize(
    ("settings", "cluster", "share"),
    [
        ({}, TwoNodes(joined=False), 1.0),
        ({"search": {"max_concurrent": 2}}, TwoNodes(joined=False), 0.5),
        ({"search": {"max_concurrent": 2}, "memory": {"device_gib": 1.0}}, TwoNodes(joined=False), 1.0),
        ({"search": {"max_concurrent": 16}}, TwoNodes(joined=False), 1 / 16),
        ({"search": {"max_concurrent": 16}}, TwoNodes(joined=True), 0.25),
        ({"search": {"max_concurrent": 16}, "resources": {"cpu": 3}}, TwoNodes(joined=True), 1.0),
    ],
)
def test_trials_that_run_on_a_host_at_a_time_share_its_memory(settings: Any, cluster: Any, share: float) -> None:
    space = {"optim.lr": {"choices": [0.1, 0.2]}}
    config = parse_config({"study": {"name": "x"}, "data": {"path": "demo"}, "space": space, **settings})
    assert host_share_on(cluster, config) == share
    if not cluster.joined:
        assert host_share(config, config.search.max_concurrent) == share, "it is known before Ray starts"


def test_settings_of_a_search_that_has_nothing_left_to_do_are_named(tmp_path: Path) -> None:
    raw = {
        "study": {"name": "x", "dir": str(tmp_path)},
        "data": {"path": "demo"},
        "tracking": {"enabled": False},
        "search": {"trials": 1},
        "space": {"optim.lr": {"choices": [0.1, 0.2]}},
    }
    config = parse_config(raw)
    run_dir = Path(config.run_dir)
    run_dir.mkdir()
    store = open_study(run_dir, "x", None, study_record(config))
    store.close_trial(store.open_trial({"optim.lr": 0.1}, {}), Outcome.COMPLETE, value=0.5)
    keep_config(store, config, run_dir)

    def again(*overrides: str) -> str:
        return run_search(parse_config(raw, overrides), console=Console(), quiet=True, run_trial=never, checks=()).why

    assert again() == "the study holds its 1 launched trials already"
    output = again("search.sampler=random", "scheduler.reduction_factor=2")
    assert "nothing changed for search.sampler=random, scheduler.reduction_factor=2; raise search.trials" in output
    assert "random" not in again("search.sampler=random")


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("a trial was run")
