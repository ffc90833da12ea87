"""Real Ray run with a frozen worker and a killed raylet: the first is replaced, the second ends the search."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tune_app.distributed.cluster import ray
from tune_app.outcomes import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.replaces_ray]


def test_a_frozen_worker_is_replaced_and_a_search_that_lost_ray_ends_and_goes_on(
    run_scripted: Any, start_ray: Any, tmp_path: Path
) -> None:
    frozen, killed = str(tmp_path / "frozen"), str(tmp_path / "killed")

    def script(settings: Any, epoch: int) -> float:
        if settings.optim.lr == 0.1 and epoch == 2 and not os.path.exists(frozen):
            Path(frozen).touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        if settings.optim.lr == 0.2 and epoch == 3 and not os.path.exists(killed):
            Path(killed).touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)  # The process ends with its raylet.
        return 0.5

    overrides = ("search.trials=2", "trial.timeout_s=5")
    end, store, _ = run_scripted(script, *overrides)
    first, second = store.trials()
    assert first.user_attrs["outcome"] == Outcome.COMPLETE
    assert first.user_attrs.get("retry_2") is None
    assert first.user_attrs["retry_1"].startswith("TrialHung: no report for 5 s")
    assert first.user_attrs["resumed_at"] == 1
    assert not second.state.is_finished()
    assert end.breakage is not None
    assert end.why.startswith("Ray was lost: its raylet on this machine has died; finished trials are saved")

    ray.shutdown()
    with start_ray(1):
        end, store, _ = run_scripted(script, *overrides)
    assert end.breakage is None
    assert store.trials()[1].user_attrs["outcome"] == Outcome.COMPLETE
    assert store.trials()[1].user_attrs["resumed_at"] >= 1
