"""Everything one training run holds, and the few things it can do: an epoch, an evaluation, a checkpoint."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from trainables.inputs import load_inputs
from trainables.memory.device import MemoryDevice, device_name
from trainables.models.load import load_encoder
from trainables.reports import Fact
from trainables.settings import TrialSettings
from trainables.tasks import TASKS
from trainables.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from trainables.training.evaluate import predict_outputs
from trainables.training.loader import stream_batches
from trainables.training.optimizer import build_optimizer, build_schedule
from trainables.training.precision import resolve_precision, set_tf32
from trainables.training.split import effective_batches, micro_batches, steps_per_epoch
from trainables.training.step import NonFiniteLossError, train_step

Part = Literal["train", "validation", "test"]


class TrainingSession:
    """Inputs, model, optimizer and schedule of one run, and how far it has come."""

    def __init__(
        self, settings: TrialSettings, cache: Path, device: MemoryDevice, progress: Progress | None = None
    ) -> None:
        """Load everything.

        Args:
            cache: folder shared by all trials of a study on this node.
            progress: kept up to date in place, for a caller who needs it when the session itself failed.

        Raises:
            DataError, UnknownModelError, ModelLoadError: what is to be loaded cannot be.
        """
        start = time.perf_counter()
        torch_device = self._device = device.torch_device
        train = settings.train
        set_tf32(train.tf32)
        torch.manual_seed(settings.seeds.init)

        self.settings = settings
        self.precision = resolve_precision(train.precision, torch_device)
        self.task = TASKS[settings.task.name](settings)
        self.inputs = load_inputs(settings, cache)
        self.examples = self.task.examples(self.inputs.rows, self.inputs.tokens, self.inputs.pad_token_id)
        encoder = load_encoder(
            self.inputs.source,
            seed=settings.seeds.init,
            tokenizer_folder=self.inputs.tokenizer_folder,
            revision=settings.model.revision,
        )
        self.model = self.task.build_model(encoder, seed=settings.seeds.init).to(torch_device)
        self.optimizer = build_optimizer(self.model, settings.optim)
        self.steps_per_epoch = steps_per_epoch(len(self.inputs.split.train), train.effective_batch)
        self.schedule = build_schedule(self.optimizer, settings.schedule, train.epochs * self.steps_per_epoch)
        self.micro_batch = min(settings.memory.micro_batch, train.effective_batch)
        self.progress = Progress() if progress is None else progress
        self._load_s = time.perf_counter() - start

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint as if nothing had happened."""
        load_checkpoint(
            checkpoint,
            model=self.model,
            optimizer=self.optimizer,
            schedule=self.schedule,
            progress=self.progress,
        )

    def train_epoch(self) -> float:
        """One pass over the training part; returns the mean loss of its effective batches.

        Raises:
            NonFiniteLossError: the run diverged.
        """
        start = time.perf_counter()
        settings, part = self.settings, self.inputs.split.train
        epoch = self.progress.epoch + 1
        # Drawn from seed and epoch, not from a running state, so that a resumed epoch sees the order it would have.
        rng = np.random.default_rng([settings.seeds.order, epoch])
        plan = [
            micro_batches(batch, self.examples.lengths, self.micro_batch)
            for batch in effective_batches(part, settings.train.effective_batch, rng)
        ]
        batches = stream_batches(
            self.examples,
            plan,
            num_workers=settings.data.num_workers,
            pin_memory=settings.data.pin_memory and self._device.type == "cuda",
        )
        self.model.train()
        losses = []
        for effective_batch in batches:
            loss = train_step(
                self.model,
                self.task,
                effective_batch,
                self.optimizer,
                clip_norm=settings.train.clip_norm,
                precision=self.precision,
            )
            self.schedule.step()
            losses.append(loss)
        self.progress.trained_tokens += int(self.examples.lengths[part].sum())
        self.progress.train_s += time.perf_counter() - start
        return float(np.mean(losses))

    def evaluate(self, part: Part) -> Mapping[str, float]:
        """The task's scores on one part of the data.

        Raises:
            NonFiniteLossError: the last step before it ruined the weights, which no training loss has shown yet.
        """
        start = time.perf_counter()
        rows = getattr(self.inputs.split, part)
        # The next step makes them anew; until then their memory is free for larger batches.
        self.optimizer.zero_grad(set_to_none=True)
        outputs = predict_outputs(
            self.model,
            self.examples,
            rows,
            eval_batch=self.settings.memory.eval_batch,
            precision=self.precision,
        )
        if not outputs.isfinite().all():
            raise NonFiniteLossError(f"outputs on {part} are not finite; a lower optim.lr or train.clip_norm may help")
        scores = self.task.score(outputs, self.inputs.rows.labels[rows])
        self.progress.eval_s += time.perf_counter() - start
        return scores

    def save(self, folder: Path) -> Path:
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
        progress = self.progress
        return batch_facts(self.settings) | {
            "device": device_name(self._device),
            "precision": self.precision,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "recoveries": progress.recoveries,
            "load_s": self._load_s,
            "train_s": progress.train_s,
            "eval_s": progress.eval_s,
            "tokens_per_s": progress.trained_tokens / progress.train_s if progress.train_s else None,
        }


def batch_facts(settings: TrialSettings) -> dict[str, Fact]:
    """How the sampled batch is cut, under the attribute names of the study."""
    effective = settings.train.effective_batch
    micro_batch = min(settings.memory.micro_batch, effective)
    return {
        "effective_batch": effective,
        "micro_batch": micro_batch,
        "accumulation_steps": steps_per_epoch(effective, micro_batch),
        "eval_batch": settings.memory.eval_batch,
    }
