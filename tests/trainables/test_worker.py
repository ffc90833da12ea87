"""Workers that have run trials: whether one may run another."""

import pytest
import torch

from trainables.devices.cpu import CpuDevice
from trainables.worker import WorkerNotCleanError, check_worker_is_clean

MIB = 2**20


def test_a_worker_in_which_a_trial_left_memory_behind_runs_no_other_until_it_is_given_back() -> None:
    check_worker_is_clean(CpuDevice())
    small = torch.ones(8 * MIB // 4)
    check_worker_is_clean(CpuDevice())
    leaked = torch.ones(64 * MIB // 4)
    for _ in range(2):
        with pytest.raises(WorkerNotCleanError, match=r"an earlier trial left 0\.07 GiB in this worker"):
            check_worker_is_clean(CpuDevice())
    del leaked, small
    check_worker_is_clean(CpuDevice())


def test_reference_cycles_of_an_earlier_trial_are_freed_first() -> None:
    check_worker_is_clean(CpuDevice())
    cycle = [torch.ones(64 * MIB // 4)]
    cycle.append(cycle)  # type: ignore[arg-type]
    del cycle
    check_worker_is_clean(CpuDevice())
