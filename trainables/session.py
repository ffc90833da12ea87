"""The state of one training run and its operations: train some steps, evaluate, write a checkpoint.

A step or pass that runs out of memory is retried in smaller parts; the result stays exact.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trainables.content import check_models
from trainables.data.augment import augmentation
from trainables.data.rows import require_evidence
from trainables.devices.device import MemoryDevice, device_name
from trainables.devices.errors import MemoryExhaustedError, OutOfMemory
from trainables.devices.random_state import RandomState
from trainables.inputs import ANY_LENGTH, Part, load_inputs
from trainables.machine import MachineFiles
from trainables.models.encoder import freeze_layers
from trainables.models.load import check_vocabulary, load_encoder
from trainables.planning.accepted import AcceptedPlans
from trainables.planning.batch_limits import BatchLimits
from trainables.planning.ledger import Circumstances
from trainables.planning.rehearsal import rehearsing
from trainables.planning.timings import PaceLedger, Setup, Timing, Work
from trainables.reports import CORRECTED_VALUE, VALUE_DEVIATION, Fact
from trainables.settings import TrialSettings, encoder_names, revision_of
from trainables.tasks import build_task
from trainables.tasks.calibration import CalibratedTask, Choices
from trainables.tasks.protocol import Batch, Decision, Examples, Scores
from trainables.training.checkpoint import (
    TrialProgress,
    load_checkpoint,
    load_progress,
    save_checkpoint,
    save_progress,
)
from trainables.training.divergence import diverged
from trainables.training.evaluate import ToKeep, predict_outputs
from trainables.training.loader import stream_batches
from trainables.training.optimizer import build_optimizer, prepare_states
from trainables.training.out_of_bag import ResampledScores
from trainables.training.precision import resolve_precision, set_tf32
from trainables.training.rungs import sample_rows
from trainables.training.schedule import build_schedule
from trainables.training.split import effective_batches, micro_batches, most_inputs, steps_per_epoch
from trainables.training.step import train_step

_LOG = logging.getLogger("headroom.memory")

_CALIBRATED_ROWS = 2_000
_CALIBRATED_NUMBERS = 2**24
"""Most rows of a part on which the temperature of spans is fitted or judged, and most numbers that are kept for it."""

VALIDATION_RESAMPLES = 20
"""Number of resamples of a redrawn validation part on which a run's epoch is chosen and scored."""


@dataclass(frozen=True, eq=False)
class _Epoch:
    """One epoch's training data, derived from the seeds and the epoch's number, so that it can be resumed midway.

    Attributes:
        number: number of the epoch, counted from 1.
        batches: row numbers of each effective batch.
        examples: the training part as this epoch augments it.
    """

    number: int
    batches: list[np.ndarray]
    examples: Examples


@dataclass(frozen=True, eq=False)
class _Group:
    """Places of a group's rows in a part, (rows,), and of their outputs, (inputs of the rows,)."""

    rows: np.ndarray
    outputs: np.ndarray


class TrainingSession:
    """Inputs, model, optimizer and schedule of one run, and its progress.

    If the data is in folds, the session starts with the first, and ``begin_fold`` moves it to another.
    """

    def __init__(
        self,
        settings: TrialSettings,
        cache: Path,
        device: MemoryDevice,
        progress: TrialProgress | None = None,
        *,
        with_test: bool = False,
    ) -> None:
        """Load everything.

        Args:
            cache: folder shared by all trials of a study on this node.
            progress: updated in place, for a caller that needs it after the session failed.
            with_test: load the test part too; no trial of a search may do so.

        Raises:
            DataError, UnknownModelError, ModelLoadError: the data or a model cannot be loaded.
            InputsChangedError: the inputs differ from the settings' content.
            UnsupportedError: the encoder cannot follow a setting.
        """
        start = time.perf_counter()
        self._device = device
        set_tf32(settings.train.tf32)

        self.settings = settings
        self.precision = resolve_precision(settings.train.precision, device.torch_device)
        self.task = build_task(settings)
        self.inputs = load_inputs(settings, cache, with_test=with_test)
        if settings.task.finds_spans:
            require_evidence(self.inputs.rows, settings.data)
        self.examples = self.task.examples(self.inputs.rows, self.inputs.readings)
        self._augmentation = augmentation(settings, self.inputs.rows, self.inputs.readings)
        self._load_model()
        self.progress = TrialProgress() if progress is None else progress
        self._resumed = False
        self._trained, self._evaluated = Work(), Work()
        self._start_s: float | None = None
        self._save_s: float | None = None
        self._saved_bytes: int | None = None
        self._saves_s = 0.0
        self._cut_share = self._share_of_rows_that_are_cut()
        self._load_s = time.perf_counter() - start

    def _share_of_rows_that_are_cut(self) -> float:
        """Return the share of rows longer than ``tok.max_length``; 0 if texts are read in windows."""
        if self.settings.task.finds_spans:
            return 0.0
        uncut = self.inputs.readings[0].tokens.lengths(ANY_LENGTH)
        return float(np.mean(uncut > self.settings.tok.max_length))

    def _load_model(self) -> None:
        """Load model, optimizer and schedule for the current split, as if there had been none before."""
        settings, part = self.settings, self.inputs.split.train
        check_models(settings)
        self._epoch: _Epoch | None = None
        torch.manual_seed(settings.seeds.init)
        self.task.learn_from(self.inputs.rows, part)
        encoders = [
            load_encoder(
                reader.source,
                seed=settings.seeds.init,
                tokenizer_folder=reader.tokenizer_folder,
                revision=revision_of(settings.model, reader.source.name),
                dropout=settings.model.dropout,
                attention_dropout=settings.model.attention_dropout,
            )
            for reader in self.inputs.readers
        ]
        self._encoders = [encoder.model for encoder in encoders]
        for reader, model in zip(self.inputs.readers, self._encoders, strict=True):
            check_vocabulary(reader.source.name, reader.tokenizer, model.config)
        for model in self._encoders:
            freeze_layers(model, settings.model.freeze_layers)
        self.model = self.task.build_model(encoders, seed=settings.seeds.init).to(self._device.torch_device)
        self.optimizer = build_optimizer(self.model, settings.optim)
        prepare_states(self.optimizer)
        self.steps_per_epoch = steps_per_epoch(len(part), settings.train.effective_batch)
        self.schedule = build_schedule(self.optimizer, settings.schedule, settings.train.epochs * self.steps_per_epoch)

    def plan_memory(self, files: MachineFiles, accepted: AcceptedPlans | None = None) -> None:
        """Set the size of a pass by prediction, and by a probe if the prediction is uncertain.

        Call this before ``resume`` and before any training or evaluation.

        Args:
            accepted: plans that accepted the configuration; None predicts here.
        """
        start = time.perf_counter()
        limits = self.batch_limits = BatchLimits(
            self.settings,
            self._encoders,
            self._device,
            precision=self.precision,
            files=files,
            accepted=accepted,
            step_inputs=max(
                most_inputs(self.examples.counts[split.train], self.settings.train.effective_batch)
                for split in self.inputs.splits
            ),
        )
        limits.probe(
            rehearsing(
                self.model,
                self.task,
                self.optimizer,
                self._device,
                clip_norm=self.settings.train.clip_norm,
                precision=self.precision,
            )
        )
        self._fit_s = time.perf_counter() - start
        self._start_s = self._load_s + self._fit_s

    def begin_fold(self, fold: int) -> None:
        """Start a fold, counted from 0, with its own model, optimizer and schedule.

        The previous fold's memory is given back first. The size of a pass stays as decided.
        """
        start = time.perf_counter()
        self.batch_limits.let_go()
        del self.model, self.optimizer, self.schedule, self._encoders
        self._device.release()
        self.inputs = self.inputs.of_fold(fold)
        self._load_model()
        self.batch_limits.take_up(self._encoders)
        self._start_s = time.perf_counter() - start
        self._load_s += self._start_s

    def resume(self, checkpoint: Path) -> None:
        """Resume exactly from a checkpoint, in its epoch and its fold.

        After the last fold nothing is left to train, so only the progress is loaded.
        """
        self._resumed = True
        load_progress(checkpoint, self.progress)
        if 0 < len(self.progress.folds) < len(self.inputs.splits):
            self.begin_fold(len(self.progress.folds))
        if self.progress.epoch or not self.progress.folds:
            load_checkpoint(checkpoint, model=self.model, optimizer=self.optimizer, schedule=self.schedule)

    def train_epoch(self) -> float:
        """Train the rest of the current epoch; return the mean loss of all its effective batches.

        Raises:
            NonFiniteLossError, MemoryExhaustedError: see ``train_to``.
        """
        loss = self.train_to(self.steps_per_epoch)
        self.progress.step_losses = []
        self._epoch = None
        return loss

    def train_to(self, step: int) -> float:
        """Train the current epoch up to the end of its ``step``-th optimizer step; return its mean loss so far.

        The mean is over the epoch's effective batches. A step that runs out of memory is retried in smaller parts.

        Raises:
            NonFiniteLossError: the run diverged.
            MemoryExhaustedError: not even one row fits after every remedy.
        """
        start = time.perf_counter()
        progress, epoch = self.progress, self._epoch_in_hand()
        first = len(progress.step_losses)
        self.model.train()
        while len(progress.step_losses) < step:
            waiting = epoch.batches[len(progress.step_losses) : step]
            progress.step_losses += self._train_until_out_of_memory(epoch.examples, waiting)
        for rows in epoch.batches[first:step]:
            progress.trained_tokens += int(epoch.examples.lengths[epoch.examples.inputs_of(rows)].sum())
        seconds = time.perf_counter() - start
        progress.train_s += seconds
        self._trained.seconds += seconds
        return float(np.mean(progress.step_losses))

    def _epoch_in_hand(self) -> _Epoch:
        """Return the epoch after the finished ones; make it when it begins or is resumed."""
        number = self.progress.epoch + 1
        if self._epoch is None or self._epoch.number != number:
            # Draw from seed and epoch instead of a running state, so that a resumed epoch has the same order.
            rng = np.random.default_rng([self.settings.seeds.order, number])
            batches = effective_batches(self.inputs.split.train, self.settings.train.effective_batch, rng)
            self._epoch = _Epoch(number, list(batches), self._augmented_in(number))
        return self._epoch

    def _augmented_in(self, epoch: int) -> Examples:
        """Return the training part as augmented in an epoch, from 1; it depends on the seed and the epoch alone."""
        if self._augmentation is None:
            return self.examples
        return self.examples.with_texts(self._augmentation.texts_in(epoch, self.inputs.part("train")))

    def _train_until_out_of_memory(self, examples: Examples, batches: Sequence[np.ndarray]) -> list[float]:
        """Return the losses of the finished steps; if they are fewer than the batches, the next step is cut smaller."""
        lengths = examples.lengths
        plan = [micro_batches(examples.inputs_of(rows), lengths, self.batch_limits.row_limits) for rows in batches]
        self.batch_limits.plans(plan, lengths)
        stream = stream_batches(
            examples,
            plan,
            num_workers=self.settings.data.num_workers,
            pin_memory=self.settings.data.pin_memory and self._device.torch_device.type == "cuda",
        )
        losses: list[float] = []
        for pieces, effective_batch in zip(plan, stream, strict=True):
            outcome = self._try_step(effective_batch)
            if isinstance(outcome, OutOfMemory):
                if not self.batch_limits.shrink_training(pieces, lengths):
                    raise MemoryExhaustedError(outcome)
                self._recovered(outcome)
                break
            self.schedule.step()
            losses.append(outcome)
        self._trained.add_steps(plan[: len(losses)], lengths)
        return losses

    def _try_step(self, effective_batch: list[Batch]) -> "float | OutOfMemory":
        """Return one step's loss, or the out-of-memory failure.

        On failure the state from before the step is restored, so that the batch can be retried.
        """
        random = RandomState(self._device.torch_device)
        try:
            return train_step(
                self.model,
                self.task,
                effective_batch,
                self.optimizer,
                clip_norm=self.settings.train.clip_norm,
                precision=self.precision,
            )
        except Exception as error:
            failure = OutOfMemory.of(error, self._device)
            if failure is None:
                raise
        # Clean up after the ``except`` block, whose traceback holds the failed frames' memory.
        self.optimizer.zero_grad(set_to_none=True)
        self._device.release()
        random.restore()
        return failure

    def _recovered(self, failure: OutOfMemory) -> None:
        self.progress.recoveries += 1
        _LOG.info(
            "recovered from: %s (%s); now at most %d rows a pass, %d in evaluation%s",
            failure.message,
            failure.cause,
            self.batch_limits.micro_batch,
            self.batch_limits.eval_batch,
            ", with gradient checkpointing" if self.batch_limits.checkpointing else "",
        )

    def evaluate(self, part: Part, decision: Decision | None = None) -> Scores:
        """Return the task's scores on one part of the data, with the thresholds of ``decision`` or the part's own.

        A pass that runs out of memory is retried with fewer rows.

        Raises:
            NonFiniteLossError: the last training step ruined the weights before any training loss showed it.
            MemoryExhaustedError: not even one row fits.
        """
        return self._evaluate_rows(self.inputs.part(part), part, decision)[1]

    def evaluate_epoch(self) -> Scores:
        """Return the scores on the validation part; score resamples of it, too, if it was redrawn.

        Raises:
            NonFiniteLossError, MemoryExhaustedError: see ``evaluate``.
        """
        if self.settings.seeds.redraw is None:
            return self.evaluate("validation")
        rows = self.inputs.part("validation")
        outputs, scores = self._evaluate_rows(rows, "validation", None)
        self.progress.resampled.append(self._resampled(outputs, rows, scores.decision))
        return scores

    def _resampled(self, outputs: torch.Tensor, rows: np.ndarray, decision: Decision) -> ResampledScores:
        """Return the objective on resamples of rows, and on the rows that each of them lacks.

        Args:
            decision: thresholds that all rows chose.
        """
        groups = self._groups(outputs, rows)

        def scored(chosen: np.ndarray, thresholds: Decision | None) -> Scores:
            return self._score_groups(groups, chosen, outputs, rows, thresholds)

        found = ResampledScores(own=[], rest=[], fixed=[])
        objective = self.settings.task.metric
        with _unchecked():
            for drawn in self._resamples(groups, VALIDATION_RESAMPLES):
                left_out = np.setdiff1d(np.arange(len(groups)), drawn)
                if not len(left_out):
                    continue
                scores = scored(drawn, None)
                found["own"].append(scores.metrics[objective])
                found["rest"].append(scored(left_out, scores.decision).metrics[objective])
                found["fixed"].append(scored(drawn, decision).metrics[objective])
        return found

    def _groups(self, outputs: torch.Tensor, rows: np.ndarray) -> "list[_Group]":
        """Return the places of each group's rows among ``rows`` and of their outputs among ``outputs``."""
        group_of_row = np.unique([self.inputs.rows.groups[row] for row in rows], return_inverse=True)[1]
        members = np.split(np.argsort(group_of_row, kind="stable"), np.cumsum(np.bincount(group_of_row))[:-1])
        of_row = np.split(np.arange(len(outputs)), np.cumsum(self.examples.counts[rows])[:-1])
        return [_Group(places, np.concatenate([of_row[place] for place in places])) for places in members]

    def _resamples(self, groups: "Sequence[_Group]", count: int) -> Iterator[np.ndarray]:
        """Yield numbers of groups drawn with replacement, the same in every run with as many groups."""
        rng = np.random.default_rng(self.settings.seeds.split)
        for _ in range(count):
            yield rng.integers(len(groups), size=len(groups))

    def _score_groups(
        self,
        groups: "Sequence[_Group]",
        chosen: np.ndarray,
        outputs: torch.Tensor,
        rows: np.ndarray,
        decision: Decision | None,
    ) -> Scores:
        places = np.concatenate([groups[group].rows for group in chosen])
        of_outputs = np.concatenate([groups[group].outputs for group in chosen])
        return self._score(outputs[of_outputs], rows[places], decision, breakdowns=False)

    def evaluate_test(self, resamples: int) -> tuple[Scores, list[float]]:
        """Return the scores on the test part, with thresholds chosen on validation, and resampled objectives.

        Each of the resampled values scores groups that were drawn from the test part with replacement, the same ones
        for every run on these rows, so that the values of several runs can be paired.

        Raises:
            NonFiniteLossError, MemoryExhaustedError: see ``evaluate``.
        """
        decision = self.evaluate("validation").decision
        rows = self.inputs.part("test")
        outputs, scores = self._evaluate_rows(rows, "test", decision)
        groups = self._groups(outputs, rows)
        with _unchecked():
            resampled = [
                self._score_groups(groups, drawn, outputs, rows, decision).metrics[self.settings.task.metric]
                for drawn in self._resamples(groups, resamples)
            ]
        return scores, resampled

    def choices(self, part: Part) -> Mapping[str, Choices]:
        """Return the model's choices on a part, by question; none for a task that cannot be calibrated.

        For spans, a sample of the part's rows is used, since every token of a text is an option.

        Raises:
            NonFiniteLossError, MemoryExhaustedError: see ``evaluate``.
        """
        if not isinstance(self.task, CalibratedTask):
            return {}
        rows = self.inputs.part(part)
        if self.settings.task.finds_spans:
            per_row = 2 * self.settings.tok.max_length * float(self.examples.counts[rows].mean())
            count = max(1, min(_CALIBRATED_ROWS, int(_CALIBRATED_NUMBERS / per_row)))
            rows = sample_rows(rows, self.inputs.rows.labels, count, self.settings.seeds.split)
        return self.task.choices(self._outputs_on(rows, part, self.task.outputs_to_calibrate), rows)

    def evaluate_rung(self) -> Scores:
        """Return the scores within an epoch, on ``rungs.rows`` of the validation part, the same in every trial.

        Raises:
            NonFiniteLossError, MemoryExhaustedError: see ``evaluate``.
        """
        rows, count = self.inputs.part("validation"), self.settings.rungs.rows
        if count is not None:
            rows = sample_rows(rows, self.inputs.rows.labels, count, self.settings.seeds.split)
        return self._evaluate_rows(rows, "validation", None)[1]

    def _evaluate_rows(self, rows: np.ndarray, part: Part, decision: Decision | None) -> tuple[torch.Tensor, Scores]:
        """Return the outputs on rows of a part, (inputs of the rows, k), and their scores."""
        start = time.perf_counter()
        outputs = self._outputs_on(rows, part)
        scores = self._score(outputs, rows, decision)
        self._evaluated.calls += 1
        self._evaluated.seconds += time.perf_counter() - start
        return outputs, scores

    def _score(
        self, outputs: torch.Tensor, rows: np.ndarray, decision: Decision | None, *, breakdowns: bool = True
    ) -> Scores:
        start = time.perf_counter()
        scores = self.task.score(outputs, rows, decision, breakdowns=breakdowns)
        self.progress.eval_s += time.perf_counter() - start
        return scores

    def _outputs_on(self, rows: np.ndarray, part: Part, to_keep: ToKeep | None = None) -> torch.Tensor:
        """Return the outputs on rows of a part, (inputs of the rows, k); ``to_keep`` as in ``predict_outputs``."""
        start = time.perf_counter()
        # Evaluation needs no gradients, and without them its batches may be larger.
        self.optimizer.zero_grad(set_to_none=True)
        outputs = predict_outputs(
            self.model,
            self.task,
            self.examples,
            self.examples.inputs_of(rows),
            device=self._device,
            rows_at=self._evaluation_rows,
            ran_out=self._shrink_evaluation,
            precision=self.precision,
            to_keep=to_keep,
        )
        self.progress.add_evaluation(time.perf_counter() - start, len(rows))
        if not outputs.isfinite().all():
            raise diverged(
                f"outputs on {part} are not finite",
                self.model,
                self.optimizer,
                clip_norm=self.settings.train.clip_norm,
                precision=self.precision,
            )
        self.progress.eval_s += time.perf_counter() - start
        return outputs

    def _evaluation_rows(self, length: int, left: int) -> int:
        rows = min(left, int(self.batch_limits.row_limits.evaluation[length]))
        self.batch_limits.plans_evaluation(rows, length)
        self._evaluated.add_pass(rows, length)
        return rows

    def _shrink_evaluation(self, failure: OutOfMemory, rows: int, length: int) -> None:
        if not self.batch_limits.shrink_evaluation(rows, length):
            raise MemoryExhaustedError(failure)
        self._recovered(failure)

    def settle_memory(self, peak_bytes: int) -> None:
        """Record the first epoch's peak for later predictions; call this at every epoch's end.

        An epoch that ran out of memory or was resumed is not recorded: a resumed epoch's peak may lie before the
        resume.
        """
        is_first = self.progress.epoch == 1 and not self.progress.folds
        if is_first and not self._resumed and not self.progress.recoveries:
            self.batch_limits.settle(peak_bytes)

    def save(self, folder: Path) -> Path:
        """Write a checkpoint; between two folds it holds no model, because none is needed."""
        start = time.perf_counter()
        if self.progress.folds and not self.progress.epoch:
            save_progress(folder, self.progress)
        else:
            save_checkpoint(
                folder,
                model=self.model,
                optimizer=self.optimizer,
                schedule=self.schedule,
                progress=self.progress,
            )
        self._save_s = time.perf_counter() - start
        self._saves_s += self._save_s
        self._saved_bytes = sum(file.stat().st_size for file in folder.iterdir())
        return folder

    def record_pace(self, ledger: PaceLedger, at_once: int, *, is_warm: bool = False) -> None:
        """Record the time since the last call for later plans; call this before every report.

        Args:
            at_once: trials that run at a time on this machine.
            is_warm: whether the first step was left out. It is never part of a record after the first.
        """
        if self._trained.calls:
            ledger.add(
                Timing(
                    self._setup(at_once),
                    self._trained,
                    self._evaluated,
                    start_s=self._start_s,
                    save_s=self._save_s,
                    saved_bytes=self._saved_bytes,
                    is_warm=is_warm or self._start_s is None,
                )
            )
        self.restart_pace()
        self._start_s = self._save_s = self._saved_bytes = None

    def restart_pace(self) -> None:
        """Forget the time of the training and evaluation since the last record, but not that of loading."""
        self._trained, self._evaluated = Work(), Work()

    @property
    def timed_step_s(self) -> float:
        """Mean seconds of the optimizer steps since the last record; there must be one."""
        return self._trained.seconds / self._trained.calls

    def _setup(self, at_once: int) -> Setup:
        settings = self.settings
        return Setup(
            Circumstances.here(device_name(self._device.torch_device), self.precision),
            tuple(encoder_names(settings)),
            settings.task.name,
            settings.optim.name,
            torch.get_num_threads(),
            at_once,
            self.batch_limits.checkpointing,
            settings.model.freeze_layers,
        )

    def facts(self) -> dict[str, Fact]:
        """Return facts about the run so far, under the study's attribute names; seconds add up over resumes."""
        progress, limits, effective = self.progress, self.batch_limits, self.settings.train.effective_batch
        rows_of_a_step = min(effective, max(len(split.train) for split in self.inputs.splits))
        return {
            "device": device_name(self._device.torch_device),
            "precision": self.precision,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "effective_batch": effective,
            "micro_batch": limits.micro_batch,
            "accumulation_steps": steps_per_epoch(rows_of_a_step, limits.micro_batch),
            "eval_batch": limits.eval_batch,
            "cut_share": self._cut_share,
            "predicted_gib": limits.predicted_gib,
            "checkpointing": limits.checkpointing,
            "probe_points": limits.probe_points,
            "recoveries": progress.recoveries,
            "load_s": self._load_s,
            "fit_s": self._fit_s,
            "train_s": progress.train_s,
            "eval_s": progress.eval_s,
            "save_s": self._saves_s,
            "seconds_per_sample": progress.seconds_per_sample,
            **_known({CORRECTED_VALUE: progress.corrected_value, VALUE_DEVIATION: progress.value_deviation}),
            "tokens_per_s": progress.trained_tokens / progress.train_s if progress.train_s else None,
        }


def _unchecked() -> AbstractContextManager[None]:
    """Keep scikit-learn from checking its inputs, which takes most of the time of many small scores."""
    # Imported here, since scikit-learn takes half a second to import and many processes score nothing.
    import sklearn

    context: AbstractContextManager[None] = sklearn.config_context(assume_finite=True, skip_parameter_validation=True)
    return context


def _known(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    return {name: fact for name, fact in facts.items() if fact is not None}
