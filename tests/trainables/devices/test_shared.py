"""Card that processes share: each sees the memory of the others, and none takes theirs."""

import gc
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from trainables.devices.counting import BudgetExceededError
from trainables.devices.cpu import CpuDevice
from trainables.devices.current import current_device
from trainables.devices.shared import SharedBudget

MIB = 2**20


class Process:
    """Another Python process, which evaluates each expression that it receives and returns the value."""

    def __init__(self, *setup: str) -> None:
        loop = "for line in sys.stdin: print(json.dumps(eval(line)), flush=True)"
        self._running = subprocess.Popen(
            [sys.executable, "-c", "\n".join(["import json, os, sys", *setup, loop])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        self.pid = self._running.pid

    def ask(self, expression: str) -> Any:
        self.tell(expression)
        return self.answer()

    def tell(self, expression: str) -> None:
        assert self._running.stdin is not None
        self._running.stdin.write(expression + "\n")
        self._running.stdin.flush()

    def answer(self) -> Any:
        assert self._running.stdout is not None
        return json.loads(self._running.stdout.readline())

    def kill(self) -> None:
        """Kill the process without waiting for it, so that the kernel keeps it as a zombie."""
        self._running.kill()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def bury(self) -> None:
        self._running.kill()
        self._running.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cards" / "cpu.slots"


StartProcess = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[StartProcess]:
    started: list[Process] = []

    def start_process(*setup: str) -> Process:
        started.append(Process(*setup))
        return started[-1]

    yield start_process
    for process in started:
        process.bury()


@pytest.fixture
def neighbour(path: Path, start: StartProcess) -> Process:
    """Start another process on the card; its ``card`` is a ``SharedBudget``."""
    return start(*sharing(path))


def sharing(path: Path) -> list[str]:
    return [
        "from pathlib import Path",
        "from trainables.devices.shared import SharedBudget",
        f"card = SharedBudget(Path({str(path)!r}))",
    ]


# The slots


def test_each_process_reads_what_the_others_hold(path: Path, neighbour: Process, start: StartProcess) -> None:
    card = SharedBudget(path)
    assert card.others_bytes() == 0
    card.publish(5 * MIB)
    neighbour.ask("card.publish(7)")
    third = start(*sharing(path))
    third.ask("card.publish(2)")
    assert card.others_bytes() == 9
    assert neighbour.ask("card.others_bytes()") == 5 * MIB + 2
    card.publish(0)
    assert third.ask("card.others_bytes()") == 7


def test_all_views_of_one_process_are_one(path: Path, neighbour: Process) -> None:
    SharedBudget(path).publish(5)
    again = SharedBudget(path)
    assert again.others_bytes() == 0
    again.publish(6)
    assert neighbour.ask("card.others_bytes()") == 6


def test_a_killed_process_holds_nothing_and_its_slot_is_taken_again(path: Path, start: StartProcess) -> None:
    card = SharedBudget(path)
    card.publish(1)
    for _ in range(3):
        process = start(*sharing(path))
        process.ask("card.publish(7)")
        assert card.others_bytes() == 7
        process.kill()
        assert card.others_bytes() == 0
        process.bury()
        assert card.others_bytes() == 0
    # The file begins with the number of slots.
    assert struct.unpack_from("q", path.read_bytes()) == (2,)


def test_a_process_with_the_id_of_one_that_is_gone_is_not_mistaken_for_it(path: Path) -> None:
    path.parent.mkdir()
    # This process and its parent live, but neither started at the kernel's first tick.
    path.write_bytes(struct.pack("7q", 2, os.getppid(), 1, 7, os.getpid(), 1, 5))
    card = SharedBudget(path)
    assert card.others_bytes() == 0
    assert card.claim(10, 10, 10) == 10


def test_too_many_processes_are_an_error_that_names_the_card(path: Path, neighbour: Process) -> None:
    neighbour.ask("card.publish(7)")
    content = path.read_bytes()
    path.write_bytes(struct.pack("q", 256) + 256 * content[8:32])
    with pytest.raises(RuntimeError, match=r"cpu\.slots: more than 256 processes share this card"):
        SharedBudget(path).publish(1)
    neighbour.bury()
    SharedBudget(path).publish(1)


def test_a_forked_process_has_a_slot_of_its_own(path: Path, start: StartProcess) -> None:
    forks = """
def fork():
    read, write = os.pipe()
    card.publish(7)
    if not os.fork():
        card.publish(5)
        os.write(write, card.others_bytes().to_bytes())
        os._exit(0)
    child_sees = os.read(read, 1)[0]
    os.wait()
    return child_sees, card.others_bytes()
"""
    assert start(*sharing(path), forks).ask("fork()") == [7, 0]


def test_a_claim_takes_what_is_left_or_nothing(path: Path, neighbour: Process) -> None:
    card = SharedBudget(path)
    neighbour.ask("card.publish(60)")
    assert card.claim(10, 20, 100) == 20
    assert card.claim(30, 50, 100) == 40
    assert card.claim(41, 50, 100) is None
    assert neighbour.ask("card.others_bytes()") == 40
    assert neighbour.ask("card.claim(61, 61, 100)") is None
    neighbour.kill()
    assert card.claim(100, 200, 100) == 100


def test_processes_that_claim_at_once_never_get_more_than_there_is(path: Path, start: StartProcess) -> None:
    claimer = """
def claims():
    import random
    granted = most = 0
    for _ in range(3000):
        claimed = card.claim(random.randrange(80), 80, 100)
        if claimed is not None:
            granted += 1
            most = max(most, claimed + card.others_bytes())
        card.publish(0)
    return granted, most
"""
    claimers = [start(*sharing(path), claimer) for _ in range(2)]
    for process in claimers:
        process.tell("claims()")
    for process in claimers:
        granted, most = process.answer()
        assert granted > 0
        assert most <= 100


# The device


@pytest.fixture
def device(path: Path) -> CpuDevice:
    """Return a card of 256 MiB; this process may take all of it while no other holds any."""
    return CpuDevice(device_gib=0.25, shared=SharedBudget(path))


def tensor(mib: int) -> torch.Tensor:
    return torch.ones(mib * MIB // 4)


def test_memory_of_other_processes_is_neither_free_nor_in_the_budget(path: Path, neighbour: Process) -> None:
    device = CpuDevice(device_gib=0.25, share=0.5, shared=SharedBudget(path))
    assert (device.total_bytes(), device.entitled_bytes(), device.budget_bytes()) == (256 * MIB, 128 * MIB, 128 * MIB)
    neighbour.ask(f"card.publish({200 * MIB})")
    assert device.others_bytes() == 200 * MIB
    assert device.entitled_bytes() == 128 * MIB
    assert device.budget_bytes() == 56 * MIB
    assert device.free_bytes() == 56 * MIB - device.live_bytes()
    neighbour.kill()
    assert device.budget_bytes() == 128 * MIB


def test_an_allocation_that_others_leave_no_room_for_is_refused_and_the_error_knows(
    device: CpuDevice, neighbour: Process
) -> None:
    neighbour.ask(f"card.publish({200 * MIB})")
    with device.enforce():
        held = tensor(32)
        with pytest.raises(BudgetExceededError, match=r"Other processes hold 200\.00 MiB of the card's 256") as caught:
            tensor(32)
        assert caught.value.others_bytes == 200 * MIB
        assert device.cause_of(caught.value) == "neighbour"
        assert device.needed_bytes(caught.value) == device.live_bytes() + 32 * MIB
        # A request that can never fit is no neighbour's fault.
        with pytest.raises(BudgetExceededError) as caught:
            tensor(250)
        assert device.cause_of(caught.value) == "own"
        neighbour.ask(f"card.publish({100 * MIB})")
        held = torch.cat([held, tensor(32)])
        neighbour.kill()
        tensor(120)
    del held


def test_others_see_within_2_mib_what_this_process_holds(device: CpuDevice, neighbour: Process) -> None:
    def published() -> float:
        return float(neighbour.ask("card.others_bytes()"))

    device.release()
    before = device.live_bytes()
    with device.enforce():
        assert published() == before
        held = [tensor(1) for _ in range(50)]
        assert 0 <= published() - before - 50 * MIB <= 2 * MIB
        while held:
            held.pop()
            assert 0 <= published() - device.live_bytes() <= 2 * MIB
        kept = tensor(10)
    assert published() == before + 10 * MIB
    del kept
    device.release()
    assert published() == before


class CollectingBudget(SharedBudget):
    """Budget that collects garbage while it claims bytes, as may happen at any time."""

    def claim(self, least_bytes: int, most_bytes: int, total_bytes: int) -> int | None:
        gc.collect()
        return super().claim(least_bytes, most_bytes, total_bytes)


def test_a_process_that_dies_during_a_claim_no_longer_counts(path: Path) -> None:
    device = CpuDevice(device_gib=0.25, shared=CollectingBudget(path))
    device.release()
    with device.enforce():
        before = device.live_bytes()
        cycle: list[Any] = [tensor(16)]
        cycle.append(cycle)
        del cycle
        held = tensor(32)
        assert device.live_bytes() - before == held.nbytes


class Squares(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> torch.Tensor:
        return tensor(400)[:8].clone()


def test_a_process_that_pads_ahead_has_memory_of_its_own_here_too(device: CpuDevice, neighbour: Process) -> None:
    with device.enforce():
        before = neighbour.ask("card.others_bytes()")
        assert len(list(DataLoader(Squares(), batch_size=2, num_workers=1))) == 2
        assert neighbour.ask("card.others_bytes()") - before <= 2 * MIB


def test_a_greedy_trial_fails_and_its_neighbour_on_the_card_completes(path: Path, start: StartProcess) -> None:
    trial = """
import torch
from trainables.devices.cpu import CpuDevice
device = CpuDevice(share=0.5, device_gib=0.25, shared=card)

def run(mib, steps):
    with device.enforce():
        device.reset_peak()
        try:
            for _ in range(steps):
                weight = torch.ones(mib * 2**20 // 4, requires_grad=True)
                (weight * weight.detach()).sum().backward()
                weight = None
        except torch.OutOfMemoryError as error:
            outcome = device.cause_of(error)
        else:
            outcome = "complete"
        return outcome, device.peak_bytes()
"""
    modest, greedy = start(*sharing(path), trial), start(*sharing(path), trial)
    modest.tell("run(40, 40)")
    greedy.tell("run(100, 40)")
    outcome, peak = greedy.answer()
    assert outcome == "own"
    assert peak <= 128 * MIB
    outcome, peak = modest.answer()
    assert outcome == "complete"
    assert 80 * MIB <= peak <= 128 * MIB


@pytest.mark.skipif(torch.cuda.is_available(), reason="the driver knows what processes of a real card hold")
def test_processes_share_the_card_that_they_name(tmp_path: Path, start: StartProcess) -> None:
    start(*sharing(tmp_path / "0.slots")).ask("card.publish(7)")
    start(*sharing(tmp_path / "cpu.slots")).ask("card.publish(8)")
    assert current_device(device_gib=1, card="0", folder=tmp_path).others_bytes() == 7
    assert current_device(device_gib=1, folder=tmp_path).others_bytes() == 8
    assert current_device(device_gib=1, card="1", folder=tmp_path).others_bytes() == 0
    # A card needs a size.
    assert current_device(card="0", folder=tmp_path).others_bytes() == 0
