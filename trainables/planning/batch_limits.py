"""The size of a pass: predicted, confirmed by a probe, and reduced if memory runs out nevertheless.

A pass takes one batch through the model. A training step has one pass or accumulates the gradients of several.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from trainables.devices.device import MemoryDevice, device_name
from trainables.devices.host import GIB
from trainables.files import read_checked, write_checked
from trainables.machine import MachineFiles
from trainables.models.encoder import enable_checkpointing
from trainables.models.families import UnsupportedError
from trainables.planning.accepted import AcceptedPlans
from trainables.planning.ledger import Circumstances, Ledger
from trainables.planning.plan import MemoryPlan, fingerprint, predict, too_many_passes
from trainables.planning.probe import MOST_POINTS, Probed, probe, try_size
from trainables.planning.rehearsal import Rehearsal
from trainables.planning.trace import Workload
from trainables.settings import MemorySettings, TrialSettings
from trainables.training.split import RowLimits

_EVALUATION_TOKENS = 2**15
"""Most tokens in one evaluation pass; more would not make it faster."""

_CERTAIN = 0.5
"""A predicted need below this share of the allowance is not probed: no prediction is wrong by a factor of two."""


@dataclass(frozen=True)
class _Probes:
    """The results of the probes of training and evaluation, as a file of the machine stores them."""

    training: Probed
    evaluation: Probed


class BatchLimits:
    """The limits by which a run's batches are cut, from prediction and probe; lowered when memory runs out.

    Args:
        encoders: encoders of the run. Gradient checkpointing is switched on in them if the settings ask for it. It is
            also switched on if the settings allow it, and a step without it takes too many passes or does not fit at
            all. See ``let_go`` for a run with several models in sequence.
        precision: ``fp32`` or ``bf16``, resolved.
        step_inputs: the most inputs of one step: the effective batch, or more if rows take several windows.
        accepted: plans that accepted the configuration. Only a workload that they lack is predicted here.

    Raises:
        UnsupportedError: the settings ask for checkpointing, and the encoder does not support it.
    """

    def __init__(
        self,
        settings: TrialSettings,
        encoders: Sequence[PreTrainedModel],
        device: MemoryDevice,
        *,
        precision: str,
        files: MachineFiles,
        step_inputs: int,
        accepted: AcceptedPlans | None = None,
    ) -> None:
        self._settings = settings
        self._step_inputs = step_inputs
        self._accepted = AcceptedPlans({}) if accepted is None else accepted
        self._encoders = encoders
        self._device = device
        self._files = files
        self._ledger = Ledger(files.ledger)
        self._where = Circumstances.here(device_name(device.torch_device), precision)
        self._allowed_gib = device.budget_bytes() * (1 - settings.memory.headroom) / GIB
        # Largest predicted need of the passes planned so far, without the ledger's correction.
        self._ran_gib = 0.0
        self.probe_points = 0
        self.checkpointing = settings.train.checkpointing
        if self.checkpointing:
            enable_checkpointing(*encoders)
        self._workload = Workload(
            settings,
            encoders[0].config,
            device_kind="cuda" if device.torch_device.type == "cuda" else "cpu",
            precision=precision,
            checkpointing=self.checkpointing,
            has_pooler=any(getattr(encoder, "pooler", None) is not None for encoder in encoders),
            criteria_config=encoders[1].config if len(encoders) > 1 else None,
        )
        self._plan = self._predicted()
        self.row_limits = self._limits(1.0, 1.0)
        if self._takes_too_many_passes():
            self.use_checkpointing()

    @property
    def micro_batch(self) -> int:
        """The largest micro-batch at full length."""
        return self.row_limits.micro_batch(self._step_inputs, self._length)

    @property
    def eval_batch(self) -> int:
        """The largest evaluation batch at full length."""
        return int(self.row_limits.evaluation[self._length])

    @property
    def predicted_gib(self) -> float:
        """Predicted peak of the passes planned so far; before any, the peak of a step at full length."""
        if self._ran_gib:
            return self._ran_gib * self._plan.correction
        passes = -(-self._step_inputs // self.micro_batch)
        return self._plan.need_gib(self.micro_batch, self._length, passes)

    def probe(self, rehearsing: AbstractContextManager[Rehearsal]) -> None:
        """Confirm or correct the limits by running the worst case, unless they are certain, fixed or stored."""
        memory = self._settings.memory
        if memory.micro_batch != "auto" and memory.eval_batch != "auto":
            return
        if self._is_certain():
            return
        probes = self._remembered()
        if probes is None:
            with rehearsing as rehearsal:
                probes = self._run_probes(rehearsal)
                self.probe_points = probes.training.points + probes.evaluation.points
            if not rehearsal.disturbed:
                self._remember(probes)
        self.row_limits = self._limits(probes.training.factor, probes.evaluation.factor)

    def use_checkpointing(self) -> bool:
        """Recompute activations in the backward pass from now on; return whether this call switched it on."""
        if self.checkpointing or not self._settings.memory.allow_checkpointing:
            return False
        try:
            enable_checkpointing(*self._encoders)
        except UnsupportedError:
            return False  # ALBERT does not support this remedy.
        self.checkpointing = True
        self._workload = replace(self._workload, checkpointing=True)
        self._plan = self._predicted()
        # Evaluation recomputes nothing, so its probed limits remain valid.
        self.row_limits = replace(self._limits(1.0, 1.0), evaluation=self.row_limits.evaluation)
        return True

    def let_go(self) -> None:
        """Drop the references to the encoders, so that their memory can be released; ``take_up`` must follow."""
        self._encoders = ()

    def take_up(self, encoders: Sequence[PreTrainedModel]) -> None:
        """Continue with other encoders of the same kind; checkpointing is switched on if it was before."""
        self._encoders = encoders
        if self.checkpointing:
            enable_checkpointing(*encoders)

    def shrink_training(self, pieces: Sequence[np.ndarray], lengths: np.ndarray) -> bool:
        """Halve the largest pass of a step that ran out of memory.

        A pass of one row cannot be halved. The largest pass of several rows is then halved, because it is unknown which
        pass ran out. If there is none, gradient checkpointing is switched on.

        Args:
            pieces: row numbers of each pass of the step.
            lengths: number of tokens of every row of the data, indexed by row number.

        Returns:
            Whether there was a remedy.
        """
        sizes = _sizes(pieces, lengths)
        rows, length = max(sizes, key=lambda size: (size[0] > 1, self._plan.need_gib(*size)))
        if rows == 1:
            return self.use_checkpointing()
        self.row_limits = self.row_limits.with_smaller_passes(rows, length)
        return True

    def shrink_evaluation(self, rows: int, length: int) -> bool:
        """Halve an evaluation pass that ran out of memory; return False if no remedy is left."""
        if rows == 1:
            return False
        self.row_limits = self.row_limits.with_smaller_evaluation(rows, length)
        return True

    def plans(self, steps: Sequence[Sequence[np.ndarray]], lengths: np.ndarray) -> None:
        """Record the predicted needs of these steps' passes."""
        for pieces in steps:
            for rows, length in _sizes(pieces, lengths):
                need = self._plan.need_gib(rows, length, len(pieces)) / self._plan.correction
                self._ran_gib = max(self._ran_gib, need)

    def plans_evaluation(self, rows: int, length: int) -> None:
        """Record the predicted need of an evaluation pass."""
        self._ran_gib = max(self._ran_gib, self._plan.eval_need_gib(rows, length) / self._plan.correction)

    def settle(self, measured_bytes: int) -> None:
        """Record the measured peak over all planned passes in the machine's ledger."""
        if self._ran_gib:
            self._ledger.add(self._where, predicted_gib=self._ran_gib, measured_gib=measured_bytes / GIB)

    @property
    def _length(self) -> int:
        return self._settings.tok.max_length

    def _predicted(self) -> MemoryPlan:
        """Return the plan that accepted the workload, else a predicted one, with this device's own overhead."""
        plan = self._accepted.plan(self._workload) or predict(self._workload, self._files.predictions)
        correction = self._ledger.correction(self._where)
        return replace(plan, overhead_bytes=self._device.overhead_bytes(), correction=correction)

    def _takes_too_many_passes(self) -> bool:
        memory = self._settings.memory
        passes = self._plan.passes(self._step_inputs, self._allowed_gib, self._length)
        # A fixed number of rows per pass implies the number of passes that the user wants.
        most = memory.max_accumulation if memory.micro_batch == "auto" else None
        return too_many_passes(passes, most)

    def _is_certain(self) -> bool:
        needs = [self._plan.eval_need_gib(self.eval_batch, self._length)]
        if self._settings.memory.micro_batch == "auto":
            if self.micro_batch < self._step_inputs:
                return False
            # A step that fits in one pass is still cut into several if they compute less padding.
            needs.append(self._plan.need_gib(self.micro_batch, self._length, self._step_inputs))
        return max(needs) <= _CERTAIN * self._allowed_gib

    def _limits(self, training_factor: float, evaluation_factor: float) -> RowLimits:
        """Return the limits by the prediction, corrected by the factors that a probe measured."""
        return row_limits(
            self._plan,
            self._settings.memory,
            self._allowed_gib,
            self._length,
            training_factor=training_factor,
            evaluation_factor=evaluation_factor,
        )

    def _run_probes(self, rehearsal: Rehearsal) -> _Probes:
        memory = self._settings.memory
        training = evaluation = Probed(0, 0, 1.0)
        if memory.micro_batch == "auto":
            training = self._probed_training(rehearsal)
            if training.rows == 0 and self.use_checkpointing():
                again = self._probed_training(rehearsal)
                training = replace(again, points=training.points + again.points)
        if memory.eval_batch == "auto":
            evaluation = probe(
                lambda rows: self._plan.eval_need_gib(rows, self._length),
                lambda rows: _gib(rehearsal.evaluation_peak(rows, self._length)),
                allowed=self._allowed_gib,
                most=int(_most_in_evaluation(self._length)),
            )
        return _Probes(training, evaluation)

    def _probed_training(self, rehearsal: Rehearsal) -> Probed:
        """Probe all inputs in one pass if that should fit, else the most that fit beside all gradients."""
        effective, length, allowed = self._step_inputs, self._length, self._allowed_gib
        need = self._plan.need_gib(effective, length)

        def in_one_pass() -> Probed:
            return try_size(
                effective,
                need,
                lambda rows: _gib(rehearsal.training_peak(rows, length, accumulating=False)),
                allowed=allowed,
            )

        whole = Probed(0, 0, 1.0)
        if self.micro_batch == effective:
            whole = in_one_pass()
            if whole.rows or effective == 1:
                return whole
        probed = probe(
            lambda rows: self._plan.need_gib(rows, length, 2),
            lambda rows: _gib(rehearsal.training_peak(rows, length, accumulating=True)),
            allowed=allowed,
            most=effective,
            factor=whole.factor,
            most_points=MOST_POINTS - whole.points,
        )
        if not whole.points:
            if probed.rows == effective or need * probed.factor > allowed:
                return probed
            # The need is less than predicted, so a single pass, without gradients beside it, may hold all inputs.
            whole = in_one_pass() if probed.points < MOST_POINTS else Probed(0, 0, 1.001 * allowed / need)
            if whole.rows:
                return replace(probed, rows=effective, points=probed.points + 1)
        # With the larger factor, the single pass is not allowed: it did not fit, or was not tried.
        return Probed(probed.rows, whole.points + probed.points, max(whole.factor, probed.factor))

    def _remembered(self) -> _Probes | None:
        try:
            stored = read_checked(self._memory_file())
            probes = _Probes(Probed(**stored["training"]), Probed(**stored["evaluation"]))
            if stored["checkpointing"] and not self.checkpointing:
                self.use_checkpointing()
            return probes if stored["checkpointing"] == self.checkpointing else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # The file is absent, damaged or of another version, so the probe runs again.

    def _remember(self, probes: _Probes) -> None:
        write_checked(
            self._memory_file(),
            {
                "checkpointing": self.checkpointing,
                "training": vars(probes.training),
                "evaluation": vars(probes.evaluation),
            },
        )

    def _memory_file(self) -> Path:
        """Return the file of the stored probes; its name depends on everything that their results depend on."""
        memory = self._settings.memory
        key = [
            fingerprint(replace(self._workload, checkpointing=self._settings.train.checkpointing)),
            device_name(self._device.torch_device),
            # Other processes make the allowance vary slightly, and a probe is valid for nearly equal ones.
            round(self._allowed_gib, 2 if self._allowed_gib > 1 else 4),
            self._plan.correction,
            self._length,
            self._step_inputs,
            [memory.micro_batch, memory.eval_batch, memory.allow_checkpointing],
        ]
        return self._files.probes / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"


def row_limits(
    plan: MemoryPlan,
    memory: MemorySettings,
    allowed_gib: float,
    longest: int,
    *,
    training_factor: float = 1.0,
    evaluation_factor: float = 1.0,
) -> RowLimits:
    """Return the limits of the passes by a plan, for lengths up to ``longest`` tokens.

    Args:
        allowed_gib: largest need that a plan may have.
        training_factor: measured need of training over the predicted one.
        evaluation_factor: measured need of evaluation over the predicted one.
    """
    lengths = np.arange(longest + 1)
    lengths[0] = 1
    if memory.micro_batch == "auto":
        allowed = allowed_gib / training_factor
        alone = plan.micro_batches(allowed, lengths, accumulating=False)
        accumulating = plan.micro_batches(allowed, lengths, accumulating=True)
    else:
        alone = accumulating = np.full(len(lengths), memory.micro_batch)
    if memory.eval_batch == "auto":
        evaluation = plan.eval_batches(allowed_gib / evaluation_factor, lengths)
        evaluation = np.minimum(evaluation, _most_in_evaluation(lengths))
    else:
        evaluation = np.full(len(lengths), memory.eval_batch)
    # Try one row even if it exceeds the prediction's limit: the budget is larger than the allowance.
    return RowLimits(np.maximum(1, alone), accumulating, np.maximum(1, evaluation))


def _sizes(pieces: Sequence[np.ndarray], lengths: np.ndarray) -> list[tuple[int, int]]:
    """Return the rows and the padded length of every piece."""
    return [(len(rows), int(lengths[rows].max())) for rows in pieces]


def _most_in_evaluation(lengths: Any) -> Any:
    """Return the most rows of an evaluation pass for a length, or for each of an array of lengths."""
    return np.maximum(1, _EVALUATION_TOKENS // lengths)


def _gib(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else size_bytes / GIB
