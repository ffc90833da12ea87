"""The size of an inference pass: predicted, confirmed by a probe, and reduced if memory runs out nevertheless."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from trainables.devices.device import MemoryDevice
from trainables.devices.facts import DeviceKind
from trainables.devices.host import GIB
from trainables.planning.plan import InferencePlan, predict_inference
from trainables.planning.probe import probe
from trainables.planning.rehearsal import full_evaluation, peak_bytes
from trainables.planning.trace import Workload
from trainables.settings import TrialSettings
from trainables.tasks.protocol import Task
from trainables.training.split import halved

_MOST_TOKENS = {"cuda": 2**16, "cpu": 2**11}
"""Most tokens of a pass by kind of device. More make a card no faster, and a CPU slower, whose caches they exceed."""

_CERTAIN = 0.5
"""A predicted need below this share of the allowance is not probed: no prediction is wrong by a factor of two."""


class InferenceLimits:
    """The most inputs of a pass by length, for a model that is on the device already.

    Args:
        settings: settings of the model, and the share of the budget that stays free.
        encoders: the model's encoders.
        precision: ``fp32`` or ``bf16``, resolved.
        predictions: folder of traced plans.
    """

    def __init__(
        self,
        settings: TrialSettings,
        model: nn.Module,
        encoders: Sequence[PreTrainedModel],
        task: Task,
        device: MemoryDevice,
        *,
        precision: str,
        predictions: Path,
    ) -> None:
        kind: DeviceKind = "cuda" if device.torch_device.type == "cuda" else "cpu"
        workload = Workload(
            settings,
            encoders[0].config,
            device_kind=kind,
            precision=precision,
            has_pooler=any(getattr(encoder, "pooler", None) is not None for encoder in encoders),
            criteria_config=encoders[1].config if len(encoders) > 1 else None,
        )
        plan = replace(predict_inference(workload, predictions), overhead_bytes=device.overhead_bytes())
        longest = settings.tok.max_length
        allowed_gib = device.budget_bytes() * (1 - settings.memory.headroom) / GIB
        most = np.maximum(1, _MOST_TOKENS[kind] // np.maximum(1, np.arange(longest + 1)))
        rows = _fitting(plan, allowed_gib, longest, most)
        if plan.need_gib(int(rows[longest]), longest) > _CERTAIN * allowed_gib:
            factor = probe(
                lambda count: plan.need_gib(count, longest),
                lambda count: _measured_gib(model, task, count, longest, device, precision),
                allowed=allowed_gib,
                most=int(most[longest]),
            ).factor
            rows = _fitting(plan, allowed_gib / factor, longest, most)
        self._rows = rows

    def rows(self, length: int, left: int) -> int:
        """Return how many of the ``left`` inputs the next pass, padded to ``length`` tokens, may hold."""
        return min(left, int(self._rows[length]))

    def shrink(self, rows: int, length: int) -> bool:
        """Halve a pass that ran out of memory; return False if it held a single input."""
        if rows == 1:
            return False
        self._rows = halved(self._rows, rows, length)
        return True


def _fitting(plan: InferencePlan, allowed_gib: float, longest: int, most: np.ndarray) -> np.ndarray:
    """Return the most inputs by length, (longest + 1,); at least one, since the budget exceeds the allowance."""
    lengths = np.maximum(1, np.arange(longest + 1))
    rows: np.ndarray = np.maximum(1, np.minimum(plan.most_rows(allowed_gib, lengths), most))
    return rows


def _measured_gib(
    model: nn.Module, task: Task, rows: int, length: int, device: MemoryDevice, precision: str
) -> float | None:
    """Return the peak of a full pass; None if memory ran out."""
    peak = peak_bytes(device, lambda: full_evaluation(model, task, rows, length, device, precision))
    return None if peak is None else peak / GIB
