"""Settings of a trial's memory."""

from dataclasses import dataclass
from typing import Literal

from trainables.declaration import setting

_MOST_GIB = 1_000_000
"""Upper bound for memory settings, which exceeds the memory of any device."""


@dataclass(frozen=True)
class MemorySettings:
    """The size of a pass and the memory limits.

    ``micro_batch`` and ``eval_batch`` are the most rows in one forward and backward pass and in one evaluation pass;
    ``auto`` finds them by prediction and probe. The default of ``budget_gib`` is the trial's share of its card, or all
    memory of the host or container on the CPU. ``device_gib`` treats either as a card of that size. ``headroom`` is the
    share of the budget that stays free. ``allow_checkpointing`` lets a trial recompute activations if it would
    otherwise run out of memory, or take more than ``max_accumulation`` passes a step.
    """

    micro_batch: int | Literal["auto"] = setting(
        "auto", "Maximum number of rows in a forward and backward pass. auto uses as many as fit.", above=0
    )
    eval_batch: int | Literal["auto"] = setting(
        "auto", "Maximum number of rows in an evaluation pass. auto uses as many as fit.", above=0
    )
    budget_gib: float | None = setting(
        None,
        "Memory that a trial may use, in GiB. null is the trial's share of the card, or all memory on the CPU.",
        above=0,
        at_most=_MOST_GIB,
    )
    device_gib: float | None = setting(
        None,
        "Memory of the device that trials share, in GiB. null uses the device as it is. On the CPU a number simulates a"
        " card of that size.",
        above=0,
        at_most=_MOST_GIB,
    )
    headroom: float = setting(0.10, "Share of the budget that predictions leave free.", at_least=0, below=1)
    allow_checkpointing: bool = setting(
        True, "Let a trial recompute activations if a step would otherwise not fit or take too many passes."
    )
    max_accumulation: int | None = setting(
        16, "Maximum number of passes in a trial's optimizer step. null sets no limit.", above=0
    )
