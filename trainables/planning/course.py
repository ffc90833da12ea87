"""Planned work of a trial, from the lengths of its inputs and the limits of its passes; nothing is trained."""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.inputs import SampledInputs, sampled_inputs
from trainables.machine import MachineFiles
from trainables.planning.timings import Work
from trainables.settings import TrialSettings, encoder_names
from trainables.tasks import build_task
from trainables.tasks.protocol import Examples
from trainables.training.split import RowLimits, effective_batches, micro_batches, steps_per_epoch

# Rows of the effective batches that are cut into passes; the rest of an epoch is taken to be alike.
_ROWS_CUT = 512


@dataclass(frozen=True)
class Course:
    """Planned work of a trial.

    Attributes:
        train: work of one epoch.
        evaluation: work of one evaluation of the whole validation part.
        rung_evaluation: work of one evaluation within an epoch.
    """

    train: Work
    evaluation: Work
    rung_evaluation: Work


class CoursePlanner:
    """Planner of the work of trials on one data set.

    Args:
        scratch: folder for tokens; it must outlive the planner.
    """

    def __init__(self, files: MachineFiles, scratch: Path) -> None:
        self._files = files
        self._scratch = scratch
        self._inputs: dict[Hashable, SampledInputs] = {}
        self._examples: dict[Hashable, Examples] = {}
        self._courses: dict[Hashable, Course] = {}

    def course(self, settings: TrialSettings, limits: RowLimits | None) -> Course:
        """Return the planned work of a trial.

        Args:
            limits: limits of the trial's passes; None lets every step and every evaluation take as few as it can.

        Raises:
            DataError, UnknownModelError, ModelLoadError: see ``load_inputs``.
        """
        models = tuple(encoder_names(settings))
        limits = limits or _no_limits(settings)
        key = (models, settings.task, settings.tok, settings.train.effective_batch, _digest(limits))
        if key not in self._courses:
            if models not in self._inputs:
                self._inputs[models] = sampled_inputs(settings, models, self._files.tokenizers, self._scratch)
            inputs = self._inputs[models]
            shape = (models, settings.task, settings.tok)
            if shape not in self._examples:
                self._examples[shape] = build_task(settings).examples(inputs.rows, inputs.readings)
            self._courses[key] = _course(settings, limits, inputs, self._examples[shape])
        return self._courses[key]


def _course(settings: TrialSettings, limits: RowLimits, inputs: SampledInputs, examples: Examples) -> Course:
    rungs = settings.rungs
    inner = min(rungs.rows or inputs.validation, inputs.validation)
    return Course(
        _epoch(settings.train.effective_batch, limits, inputs.train, examples, len(inputs.rows)),
        _evaluation(limits, inputs.validation, examples, len(inputs.rows)),
        _evaluation(limits, inner, examples, len(inputs.rows)),
    )


def _epoch(effective_batch: int, limits: RowLimits, train: int, examples: Examples, sampled: int) -> Work:
    batches = list(effective_batches(np.arange(sampled), min(effective_batch, sampled), np.random.default_rng(0)))
    # The last batch is smaller.
    whole = batches[:-1] or batches
    whole = whole[: max(1, -(-_ROWS_CUT // effective_batch))]
    work = Work()
    work.add_steps(
        [micro_batches(examples.inputs_of(rows), examples.lengths, limits) for rows in whole], examples.lengths
    )
    work = work.scaled(train / sum(map(len, whole)))
    work.calls = steps_per_epoch(train, effective_batch)
    return work


def _evaluation(limits: RowLimits, rows: int, examples: Examples, sampled: int) -> Work:
    taken = min(rows, sampled)
    inputs = examples.inputs_of(np.unique(np.linspace(0, sampled - 1, taken).astype(np.int64)))
    lengths = -np.sort(-examples.lengths[inputs])
    work, start = Work(calls=1), 0
    while start < len(lengths):
        length = int(lengths[start])
        count = min(len(lengths) - start, int(limits.evaluation[length]))
        work.add_pass(count, length)
        start += count
    work = work.scaled(rows / taken)
    work.calls = 1
    return work


def _no_limits(settings: TrialSettings) -> RowLimits:
    most = np.full(settings.tok.max_length + 1, 2**20)
    return RowLimits(most, most, most)


def _digest(limits: RowLimits) -> Hashable:
    return tuple(part.tobytes() for part in (limits.alone, limits.accumulating, limits.evaluation))
