"""Everything one training run holds, and the few things it can do: some steps, an evaluation, a checkpoint.

Where memory runs out in a step or a pass, it is done again in smaller parts; what was computed stays exact.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trainables.content import check_models
from trainables.data.augment import augmentation
from trainables.data.rows import require_evidence
from trainables.inputs import ANY_LENGTH, Part, load_inputs
from trainables.machine import MachineFiles
from trainables.memory.device import MemoryDevice, device_name
from trainables.memory.errors import MemoryExhaustedError, OutOfMemory
from trainables.models.encoder import freeze_layers
from trainables.models.load import check_vocabulary, load_encoder
from trainables.reports import Fact
from trainables.settings import TrialSettings, revision_of
from trainables.tasks import TASKS
from trainables.tasks.protocol import Batch, Decision, Examples, Scores
from trainables.training.checkpoint import (
    Progress,
    load_checkpoint,
    load_progress,
    save_checkpoint,
    save_progress,
)
from trainables.training.divergence import diverged
from trainables.training.evaluate import predict_outputs
from trainables.training.fit import Fit
from trainables.training.loader import stream_batches
from trainables.training.optimizer import build_optimizer, prepare_states
from trainables.training.precision import resolve_precision, set_tf32
from trainables.training.rehearsal import RandomState, rehearsing
from trainables.training.rungs import sample_rows
from trainables.training.schedule import build_schedule
from trainables.training.split import effective_batches, micro_batches, most_inputs, steps_per_epoch
from trainables.training.step import train_step

_LOG = logging.getLogger("headroom.memory")


@dataclass(frozen=True, eq=False)
class _Epoch:
    """One epoch's training data, derived from the seeds and its number, so that it can be resumed within.

    Attributes:
        number: counted from 1.
        batches: row numbers of each effective batch.
        examples: the training part as this epoch augments it.
    """

    number: int
    batches: list[np.ndarray]
    examples: Examples


class TrainingSession:
    """Inputs, model, optimizer and schedule of one run, and how far it has come.

    Where the data is in folds it begins with the first, and ``begin_fold`` takes it to another.
    """

    def __init__(
        self,
        settings: TrialSettings,
        cache: Path,
        device: MemoryDevice,
        progress: Progress | None = None,
        *,
        with_test: bool = False,
    ) -> None:
        """Load everything.

        Args:
            cache: folder shared by all trials of a study on this node.
            progress: kept up to date in place, for a caller who needs it when the session itself failed.
            with_test: load the test part, too, which no trial of a search may.

        Raises:
            DataError, UnknownModelError, ModelLoadError: what is to be loaded cannot be.
            InputsChangedError: it is not that of the settings' content.
            UnsupportedError: the encoder cannot do what a setting asks of it.
        """
        start = time.perf_counter()
        self._device = device
        set_tf32(settings.train.tf32)

        self.settings = settings
        self.precision = resolve_precision(settings.train.precision, device.torch_device)
        self.task = TASKS[settings.task.name](settings)
        self.inputs = load_inputs(settings, cache, with_test=with_test)
        if settings.task.finds_spans:
            require_evidence(self.inputs.rows, settings.data)
        self.examples = self.task.examples(self.inputs.rows, self.inputs.readings)
        self._augmentation = augmentation(settings, self.inputs.rows, self.inputs.readings)
        self._load_model()
        self.progress = Progress() if progress is None else progress
        self._resumed = False
        self._cut_share = self._share_of_rows_that_are_cut()
        self._load_s = time.perf_counter() - start

    def _share_of_rows_that_are_cut(self) -> float:
        """How many of the rows are longer than ``tok.max_length``; none where texts are read in windows."""
        if self.settings.task.finds_spans:
            return 0.0
        uncut = self.inputs.readings[0].tokens.lengths(ANY_LENGTH)
        return float(np.mean(uncut > self.settings.tok.max_length))

    def _load_model(self) -> None:
        """Model, optimizer and schedule for the split in hand, as if there had been none before."""
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

    def fit_to_memory(self, files: MachineFiles) -> None:
        """Decide how much goes into one pass: predict it, and probe it where that is not certain.

        Call it before ``resume`` and before anything is trained or evaluated.
        """
        start = time.perf_counter()
        fit = self.fit = Fit(
            self.settings,
            self._encoders,
            self._device,
            precision=self.precision,
            files=files,
            step_inputs=max(
                most_inputs(self.examples.counts[split.train], self.settings.train.effective_batch)
                for split in self.inputs.splits
            ),
        )
        fit.probe(
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

    def begin_fold(self, fold: int) -> None:
        """Take up a fold, counted from 0, with a model, an optimizer and a schedule of its own.

        What the fold before held is given back first. How much goes into one pass was decided and stays so.
        """
        start = time.perf_counter()
        self.fit.let_go()
        del self.model, self.optimizer, self.schedule, self._encoders
        self._device.release()
        self.inputs = self.inputs.of_fold(fold)
        self._load_model()
        self.fit.take_up(self._encoders)
        self._load_s += time.perf_counter() - start

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint as if nothing had happened, in the epoch and the fold that it was written in.

        After the last fold there is nothing to go on with: then only the progress is put in place.
        """
        self._resumed = True
        load_progress(checkpoint, self.progress)
        if 0 < len(self.progress.folds) < len(self.inputs.splits):
            self.begin_fold(len(self.progress.folds))
        if self.progress.epoch or not self.progress.folds:
            load_checkpoint(checkpoint, model=self.model, optimizer=self.optimizer, schedule=self.schedule)

    def train_epoch(self) -> float:
        """Train what is left of the epoch in hand; return the mean loss of all its effective batches.

        Raises:
            NonFiniteLossError, MemoryExhaustedError: as ``train_to``.
        """
        loss = self.train_to(self.steps_per_epoch)
        self.progress.step_losses = []
        self._epoch = None
        return loss

    def train_to(self, step: int) -> float:
        """Train the epoch in hand up to the end of its ``step``-th optimizer step; return its mean loss so far.

        The mean is over the epoch's effective batches. A step that runs out of memory is done again, cut smaller.

        Raises:
            NonFiniteLossError: the run diverged.
            MemoryExhaustedError: not even one row fits, every remedy tried.
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
        progress.train_s += time.perf_counter() - start
        return float(np.mean(progress.step_losses))

    def _epoch_in_hand(self) -> _Epoch:
        """Return the epoch after those finished, made when it begins or is resumed."""
        number = self.progress.epoch + 1
        if self._epoch is None or self._epoch.number != number:
            # Drawn from seed and epoch, not from a running state: a resumed epoch sees the order it would have.
            rng = np.random.default_rng([self.settings.seeds.order, number])
            batches = effective_batches(self.inputs.split.train, self.settings.train.effective_batch, rng)
            self._epoch = _Epoch(number, list(batches), self._told_in(number))
        return self._epoch

    def _told_in(self, epoch: int) -> Examples:
        """The training part as it is told in an epoch, from 1; a function of the seed and the epoch alone."""
        if self._augmentation is None:
            return self.examples
        return self.examples.with_texts(self._augmentation.texts_in(epoch, self.inputs.part("train")))

    def _train_until_out_of_memory(self, examples: Examples, batches: Sequence[np.ndarray]) -> list[float]:
        """The losses of the steps done. If they are fewer than the batches, the next one will be cut smaller."""
        lengths = examples.lengths
        plan = [micro_batches(examples.inputs_of(rows), lengths, self.fit.limits) for rows in batches]
        self.fit.plans(plan, lengths)
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
                if not self.fit.shrink_training(pieces, lengths):
                    raise MemoryExhaustedError(outcome)
                self._recovered(outcome)
                break
            self.schedule.step()
            losses.append(outcome)
        return losses

    def _try_step(self, effective_batch: list[Batch]) -> "float | OutOfMemory":
        """One step's loss. If memory ran out, everything is as it was before, and the batch can be tried again."""
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
        # The block had to be left first: its traceback keeps what the failed frames held.
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
            self.fit.micro_batch,
            self.fit.eval_batch,
            ", with gradient checkpointing" if self.fit.checkpointing else "",
        )

    def evaluate(self, part: Part, decision: Decision | None = None) -> Scores:
        """Return the task's scores on one part of the data, decided by thresholds of another part, or of its own.

        A pass that runs out of memory is done again with fewer rows.

        Raises:
            NonFiniteLossError: the last step before it ruined the weights, which no training loss has shown yet.
            MemoryExhaustedError: not even one row fits.
        """
        return self._evaluate_rows(self.inputs.part(part), part, decision)

    def evaluate_rung(self) -> Scores:
        """Return the scores within an epoch: on ``rungs.rows`` of the validation part, the same in every trial.

        Raises:
            NonFiniteLossError, MemoryExhaustedError: as ``evaluate``.
        """
        rows, count = self.inputs.part("validation"), self.settings.rungs.rows
        if count is not None:
            rows = sample_rows(rows, self.inputs.rows.labels, count, self.settings.seeds.split)
        return self._evaluate_rows(rows, "validation", None)

    def _evaluate_rows(self, rows: np.ndarray, part: Part, decision: Decision | None) -> Scores:
        start = time.perf_counter()
        # Evaluation needs no gradients, and its batches may be larger for it.
        self.optimizer.zero_grad(set_to_none=True)
        kept = predict_outputs(
            self.model,
            self.task,
            self.examples,
            self.examples.inputs_of(rows),
            device=self._device,
            rows_at=self._evaluation_rows,
            ran_out=self._shrink_evaluation,
            precision=self.precision,
        )
        self.progress.add_evaluation(time.perf_counter() - start, len(rows))
        if not kept.isfinite().all():
            raise diverged(
                f"outputs on {part} are not finite",
                self.model,
                self.optimizer,
                clip_norm=self.settings.train.clip_norm,
                precision=self.precision,
            )
        scores = self.task.score(kept, rows, decision)
        self.progress.eval_s += time.perf_counter() - start
        return scores

    def _evaluation_rows(self, length: int, left: int) -> int:
        rows = min(left, int(self.fit.limits.evaluation[length]))
        self.fit.plans_evaluation(rows, length)
        return rows

    def _shrink_evaluation(self, failure: OutOfMemory, rows: int, length: int) -> None:
        if not self.fit.shrink_evaluation(rows, length):
            raise MemoryExhaustedError(failure)
        self._recovered(failure)

    def settle_memory(self, peak_bytes: int) -> None:
        """Let later predictions learn from the first epoch's peak; call it at every epoch's end.

        They learn nothing from one in which memory ran out, or which was resumed: its peak may lie before.
        """
        is_first = self.progress.epoch == 1 and not self.progress.folds
        if is_first and not self._resumed and not self.progress.recoveries:
            self.fit.settle(peak_bytes)

    def save(self, folder: Path) -> Path:
        """Write a checkpoint; between two folds, where no model is worth keeping, one without a model."""
        if self.progress.folds and not self.progress.epoch:
            save_progress(folder, self.progress)
            return folder
        save_checkpoint(
            folder,
            model=self.model,
            optimizer=self.optimizer,
            schedule=self.schedule,
            progress=self.progress,
        )
        return folder

    def facts(self) -> dict[str, Fact]:
        """What is known of the run so far, under the attribute names of the study. Seconds add up over resumes."""
        progress, fit, effective = self.progress, self.fit, self.settings.train.effective_batch
        rows_of_a_step = min(effective, max(len(split.train) for split in self.inputs.splits))
        return {
            "device": device_name(self._device.torch_device),
            "precision": self.precision,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "effective_batch": effective,
            "micro_batch": fit.micro_batch,
            "accumulation_steps": steps_per_epoch(rows_of_a_step, fit.micro_batch),
            "eval_batch": fit.eval_batch,
            "cut_share": self._cut_share,
            "predicted_gib": fit.predicted_gib,
            "checkpointing": fit.checkpointing,
            "probe_points": fit.probe_points,
            "recoveries": progress.recoveries,
            "load_s": self._load_s,
            "fit_s": self._fit_s,
            "train_s": progress.train_s,
            "eval_s": progress.eval_s,
            "seconds_per_sample": progress.seconds_per_sample,
            "tokens_per_s": progress.trained_tokens / progress.train_s if progress.train_s else None,
        }
