"""The checkpoint of a trial at a report: written whole or not at all, and read without running code."""

import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.devices.counting import uncounted
from trainables.files import whole_folder
from trainables.reports import FOLD_EPOCH, FOLD_EPOCHS, Breakdowns
from trainables.training.out_of_bag import ResampledScores, deviation, out_of_bag_value

_FILE = "state.pt"
# Options of torch's optimizers that choose their kernels.
_KERNELS = ("fused", "foreach")


@dataclass
class TrialProgress:
    """The progress of a trial.

    Attributes:
        folds: the measurements of each finished fold's best epoch, in order; empty if the data is not in folds.
        values: the objective of every epoch so far, oldest first; of the current fold alone.
        step_losses: the loss of every optimizer step so far in the current epoch.
        rung_values: the objective at every rung so far in the current epoch, without its end.
        metrics: everything measured at the last rung or epoch's end.
        best_metrics: everything measured in the best epoch so far; of the current fold alone.
        breakdowns: scores of parts of the rows in that epoch.
        folds_breakdowns: the same for every finished fold.
        resampled: scores of every epoch on resamples of a redrawn validation part, oldest first.
        peak_bytes: the most memory that was held in training and evaluation.
        seconds_per_sample: a row's share of the quickest evaluation's time; None before any. Other load on the machine
            only ever slows an evaluation down.
    """

    folds: list[dict[str, float]] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    rung_values: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    breakdowns: Breakdowns = field(default_factory=dict)
    folds_breakdowns: list[Breakdowns] = field(default_factory=list)
    resampled: list[ResampledScores] = field(default_factory=list)
    trained_tokens: int = 0
    train_s: float = 0.0
    eval_s: float = 0.0
    recoveries: int = 0
    peak_bytes: int = 0
    seconds_per_sample: float | None = None

    @property
    def epoch(self) -> int:
        """Number of finished epochs; of the current fold alone."""
        return len(self.values)

    @property
    def best_epoch(self) -> int:
        """The first epoch (from 1) with the highest value; 0 before any."""
        return 0 if not self.values else self.values.index(max(self.values)) + 1

    @property
    def name(self) -> str:
        """A name that no other report of the run has."""
        name = f"epoch-{self.epoch}" if not self.folds else f"folds-{len(self.folds)}-epoch-{self.epoch}"
        return f"{name}-rung-{len(self.rung_values)}" if self.rung_values else name

    def add_epoch(self, value: float, metrics: Mapping[str, float], breakdowns: Breakdowns | None = None) -> None:
        """Record the end of an epoch and its measurements."""
        self.values.append(value)
        self.rung_values = []
        self.metrics = dict(metrics)
        if self.best_epoch == self.epoch:
            self.best_metrics = self.metrics
            self.breakdowns = breakdowns or {}

    @property
    def corrected_value(self) -> float | None:
        """Objective to expect of the best epoch on other rows; None if the validation part was not resampled."""
        return out_of_bag_value(self.resampled) if self.resampled else None

    @property
    def value_deviation(self) -> float | None:
        """Noise of the best epoch's objective by its rows; None if the validation part was not resampled."""
        return deviation(self.resampled[self.best_epoch - 1]) if self.resampled and self.values else None

    def add_rung(self, value: float, metrics: Mapping[str, float]) -> None:
        """Record a rung within an epoch and its measurements."""
        self.rung_values.append(value)
        self.metrics = dict(metrics)

    def add_evaluation(self, seconds: float, rows: int) -> None:
        """Record that the model answered ``rows`` rows in ``seconds``."""
        self.seconds_per_sample = min(seconds / rows, self.seconds_per_sample or math.inf)

    def finish_fold(self) -> None:
        """End the current fold; its best epoch counts."""
        self.folds.append({**self.best_metrics, FOLD_EPOCH: self.best_epoch, FOLD_EPOCHS: self.epoch})
        self.folds_breakdowns.append(self.breakdowns)
        self.values, self.metrics, self.best_metrics, self.breakdowns = [], {}, {}, {}


def save_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    progress: TrialProgress,
) -> None:
    """Write everything needed to resume exactly, random states included, to ``folder``."""
    state: dict[str, Any] = {
        "model": model.state_dict(),
        # Use the base class's method: a subclass may nest values that belong to no single weight, for compatibility.
        "optimizer": torch.optim.Optimizer.state_dict(optimizer),
        "schedule": schedule.state_dict(),
        "progress": asdict(progress),
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }
    _save(folder, state)


def save_progress(folder: Path, progress: TrialProgress) -> None:
    """Write everything needed to resume between two folds: the next fold starts with its own model."""
    _save(folder, {"progress": asdict(progress)})


def _save(folder: Path, state: Mapping[str, Any]) -> None:
    # Use a Python file: given a path, torch hides the error of a full disk behind one of its own.
    with whole_folder(folder) as partial, (partial / _FILE).open("wb") as stream:
        torch.save(state, stream)


def damage_of(folder: Path) -> str | None:
    """Return the damage to the files of a checkpoint; None if they hold what was written.

    Torch writes a checksum beside every tensor, but does not check it when loading.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        return "it holds no file"
    damaged = [file.name for file in files if file.suffix == Path(_FILE).suffix and not _is_whole(file)]
    return f"{damaged[0]} is damaged" if damaged else None


def _is_whole(archive: Path) -> bool:
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.testzip() is None
    except Exception:  # A damaged archive may break its reader anywhere.
        return False


def load_progress(folder: Path, progress: TrialProgress) -> None:
    """Load the progress of either kind of checkpoint.

    Raises:
        FileNotFoundError: ``folder`` holds no checkpoint.
    """
    with uncounted():
        # Map the file into memory, because its tensors are not needed.
        state = torch.load(folder / _FILE, map_location="cpu", mmap=True, weights_only=True)
    for name, value in state["progress"].items():
        setattr(progress, name, value)


def load_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Restore everything but the progress.

    The optimizer's states exist already. All values are copied into the existing tensors, so that restoring needs no
    more of the device's memory than the run itself.

    Raises:
        FileNotFoundError: ``folder`` holds no checkpoint.
    """
    with uncounted():
        # Load into the host's memory, whichever device the tensors are for.
        state = torch.load(folder / _FILE, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    _load_optimizer(optimizer, state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["torch_rng"])
    if state["cuda_rng"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda_rng"])


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    prepared = dict(optimizer.state)
    # Whether one kernel does a step is this program's choice, and not that of the one which wrote the checkpoint.
    kernels = [{name: group[name] for name in _KERNELS if name in group} for group in optimizer.param_groups]
    # The optimizer's own method would make new states beside the old ones.
    optimizer.load_state_dict({**saved, "state": {}})
    for group, chosen in zip(optimizer.param_groups, kernels, strict=True):
        group.update(chosen)
    optimizer.state.update(prepared)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in saved["state"].items():
        state = optimizer.state[parameters[number]]
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                state[name].copy_(value)
            else:
                state[name] = value
