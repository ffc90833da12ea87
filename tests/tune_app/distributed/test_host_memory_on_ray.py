"""Real Ray with its memory monitor on, as on clusters that others start: it kills a worker, and nothing else."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.replaces_ray]

TAKES_BYTES = 6 * 2**30


@pytest.fixture(scope="module")
def ray_with_one_slot(start_ray: Any) -> Iterator[None]:
    """Start Ray in place of the shared fixture, with a monitor on the host's memory.

    It kills a worker as soon as half of the memory that the trial takes is in use.
    """
    from tune_app.distributed.cluster import ray

    start_ray.stop()
    memory = psutil.virtual_memory()
    threshold = 1 - (memory.available - TAKES_BYTES / 2) / memory.total
    monitor = {"memory_monitor_refresh_ms": 100, "memory_usage_threshold": threshold}
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _system_config=monitor)
    yield
    ray.shutdown()


def test_a_worker_that_the_memory_monitor_takes_is_no_end_of_the_search(run_scripted: Any, tmp_path: Path) -> None:
    taken_before = str(tmp_path / "taken")

    def script(settings: Any, epoch: int) -> float:
        if settings.optim.lr == 0.2 and epoch == 3 and not Path(taken_before).exists():
            Path(taken_before).touch()
            held = bytearray(b"x") * TAKES_BYTES
            time.sleep(60)
            del held
        return 0.5

    _, store, _ = run_scripted(script, "search.trials=2")
    trials = store.trials()
    assert [trial.user_attrs["outcome"] for trial in trials] == ["complete", "complete"]
    assert trials[1].user_attrs["retries"] == 1
    assert "memory" in trials[1].user_attrs["retry_1"]
    assert sorted(trials[1].intermediate_values) == [1, 2, 3, 4]
