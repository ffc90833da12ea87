"""The machine that a plan is made for: this one, or one with another card."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tune_app.config import RunConfig
from tune_app.screening.packing import Gpus
from tune_app.screening.screen import device_here

if TYPE_CHECKING:
    from trainables.devices.facts import TrialDevice


@dataclass(frozen=True)
class PlannedMachine:
    """Machine that a search is planned for.

    Attributes:
        device: device that trials run on.
        gpus: GPUs of each trial, or ``auto``; 0 on the CPU.
        cards: number of cards, real or simulated; 0 on the CPU.
        is_here: whether the device is this machine's, so that training can be timed on it.
    """

    device: "TrialDevice"
    gpus: Gpus
    cards: int
    is_here: bool


def planned_machine(config: RunConfig, gpu_gib: float | None) -> PlannedMachine:
    """Return the machine to plan for.

    Args:
        gpu_gib: memory of the one card of another machine; None means this machine.
    """
    from trainables.devices.facts import TrialDevice, torch_facts

    here, gpus = device_here(config)
    cards = len(torch_facts().devices)
    if gpu_gib is None:
        return PlannedMachine(here, gpus, cards or (1 if config.memory.device_gib is not None else 0), is_here=True)
    if here.kind == "cuda":
        # The same card with less memory or more: what was timed here holds.
        return PlannedMachine(replace(here, total_gib=gpu_gib), gpus, cards, is_here=True)
    other = TrialDevice("cuda", gpu_gib, bf16=True, name=f"a CUDA card of {gpu_gib:g} GiB")
    return PlannedMachine(other, config.resources.gpu, 1, is_here=False)
