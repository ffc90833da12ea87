"""What the assembly decides by itself; test_search_run.py and its like run it."""

from typing import Any

import pytest

from tune_app.config import parse_config
from tune_app.experiment import _host_share


class TwoNodes:
    """A cluster, the larger node of which has four CPUs."""

    def __init__(self, joined: bool) -> None:
        self.joined = joined

    def most_on_a_node(self, cpus: float) -> int:
        return int(4 // cpus)


@pytest.mark.parametrize(
    ("settings", "cluster", "share"),
    [
        ({}, None, 1.0),
        ({"search": {"max_concurrent": 2}}, None, 0.5),
        ({"search": {"max_concurrent": 2}, "memory": {"device_gib": 1.0}}, None, 1.0),
        ({"search": {"max_concurrent": 16}}, TwoNodes(joined=False), 1 / 16),
        ({"search": {"max_concurrent": 16}}, TwoNodes(joined=True), 0.25),
        ({"search": {"max_concurrent": 16}, "resources": {"cpu": 3}}, TwoNodes(joined=True), 1.0),
    ],
)
def test_trials_that_run_on_a_host_at_a_time_share_its_memory(settings: Any, cluster: Any, share: float) -> None:
    space = {"optim.lr": {"choices": [0.1, 0.2]}}
    config = parse_config({"study": {"name": "x"}, "data": {"path": "demo"}, "space": space, **settings})
    assert _host_share(config, cluster) == share
