"""Enforcement of a device's budget: in one process, and between two that share the device."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch

from trainables.devices.device import MemoryDevice

# Most of this time goes into starting the processes.
PATIENCE_S = 120
PIECES = 32

# Order in which the processes allocate, and the part of its budget that each wants.
TURNS = {"greedy": 1.5, "modest": 0.8}
EXPECTED = {"greedy": "out of memory", "modest": "has it all"}


def cap_problems(device: MemoryDevice) -> list[str]:
    """Return the faults in the enforcement of the device's budget.

    The device must have room for twice the budget.
    """
    device.release()
    with device.enforce():
        device.reset_peak()
        room = device.budget_bytes() - device.peak_bytes()
        held: list[torch.Tensor] = []
        if take(device, room // 2, 1, held) != "has it all":
            return ["an allocation within the share ran out of memory"]
        if take(device, room, 1, held) != "out of memory":
            return ["an allocation beyond the share was not refused"]
    held.clear()
    device.release()
    return []


def neighbour_problems(make_device: Callable[[], MemoryDevice]) -> list[str]:
    """Return the faults between two processes with a budget each, one of which wants more than its own.

    The greedy process takes as much as it can and holds it. Then the modest one must still get all that it wants.
    """
    context = multiprocessing.get_context("spawn")
    meeting, answers = context.Barrier(len(TURNS)), context.SimpleQueue()
    processes = [context.Process(target=live_beside, args=(name, make_device, meeting, answers)) for name in TURNS]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = dict.fromkeys(TURNS, "died")
    while not answers.empty():
        name, outcome = answers.get()
        found[name] = outcome
    return [
        f"of two neighbours the {name} one: {outcome}" for name, outcome in found.items() if outcome != EXPECTED[name]
    ]


def live_beside(name: str, make_device: Callable[[], MemoryDevice], meeting: Any, answers: Any) -> None:
    """Run one of the two processes."""
    device = make_device()
    held: list[torch.Tensor] = []
    with device.enforce():
        wanted = int(TURNS[name] * device.budget_bytes())
        for turn in TURNS:
            # A process waits until all have their budget, and until the one before it is done.
            meeting.wait(PATIENCE_S)
            if turn == name:
                answers.put((name, take(device, wanted, PIECES, held)))
        meeting.wait(PATIENCE_S)


def take(device: MemoryDevice, size_bytes: int, pieces: int, held: list[torch.Tensor]) -> str:
    """Allocate so many bytes in pieces and add each to ``held``, until memory runs out."""
    try:
        for _ in range(pieces):
            held.append(torch.empty(size_bytes // pieces, dtype=torch.uint8, device=device.torch_device))
    except torch.OutOfMemoryError:
        return "out of memory"
    return "has it all"
