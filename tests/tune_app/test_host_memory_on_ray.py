"""Real Ray whose memory monitor is on, as on clusters that others start: it takes a worker, and no more than that."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

pytestmark = pytest.mark.slow

TAKES_BYTES = 3 * 2**30


@pytest.fixture
def ray_with_a_memory_monitor() -> Iterator[None]:
    from tune_app.ray_session import ray

    memory = psutil.virtual_memory()
    allowed = 1 - (memory.available - TAKES_BYTES / 2) / memory.total
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        _system_config={"memory_monitor_refresh_ms": 100, "memory_usage_threshold": allowed},
    )
    yield
    ray.shutdown()


def test_a_worker_that_the_memory_monitor_takes_is_no_end_of_the_search(
    plain_config: dict[str, Any], ray_with_a_memory_monitor: None, tmp_path: Path
) -> None:
    from tests.conftest import scripted_trial
    from tune_app.config import parse_config
    from tune_app.experiment import run_search
    from tune_app.study import load_study

    taken_before = tmp_path / "taken"

    def script(settings: Any, epoch: int) -> float:
        import time

        if settings.optim.lr == 0.2 and epoch == 3 and not taken_before.exists():
            taken_before.touch()
            held = bytearray(b"x") * TAKES_BYTES
            time.sleep(60)
            del held
        return 0.5

    config = parse_config(plain_config, ["search.trials=2"])
    end = run_search(config, console=Console(file=io.StringIO()), run_trial=scripted_trial(script))
    trials = load_study(end.run_dir, "test", None).trials()
    assert [trial.user_attrs["outcome"] for trial in trials] == ["complete", "complete"]
    assert trials[1].user_attrs["retries"] == 1
    assert "memory" in trials[1].user_attrs["retry_1"]
    assert sorted(trials[1].intermediate_values) == [1, 2, 3, 4]
