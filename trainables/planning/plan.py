"""Memory plans made from a workload, which answer what any micro-batch and length need; cached on disk."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import transformers
from transformers import PreTrainedConfig

from trainables.devices.host import GIB
from trainables.files import read_checked, write_checked
from trainables.models.families import FAMILIES, Architecture, Family
from trainables.optimizers import optimizer_version
from trainables.planning.kernels import KERNELS
from trainables.planning.timeline import Peaks, SizeFactors
from trainables.planning.trace import StepPeaks, Workload, trace, trace_inference
from trainables.settings import HeadSettings, OptimSettings, TaskSettings
from trainables.task_entry import NATIVE

FORMAT_VERSION = 5
"""Raise this whenever a trace of the same workload may give another result."""

_MOST_SAMPLES = 2**20
_MICRO_BATCHES = (1009, 1013, 1019, 1021, 1031, 1033)
_PRIMES = (61, 59, 53, 47, 43, 41, 37, 31, 29, 23, 19, 17, 13, 11, 7, 5, 3)
# Attention kernels pad to multiples of 32 or 8. A length that needs no padding shows the plain sizes.
_LENGTH_STEPS = (32, 16, 8, 1)
_LONGEST = 512
# Fields of a configuration that no tensor's size depends on.
_IRRELEVANT = ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype", "id2label", "label2id")


@dataclass(frozen=True)
class MemoryPlan:
    """Predicted total peaks of one workload: tensors, allocator rounding and, on CUDA, the context.

    Attributes:
        peaks: peaks of the tensors.
        overhead_bytes: memory taken beside the tensors, whatever the batch.
        correction: factor for every need; see ``planning.ledger``.
    """

    peaks: StepPeaks
    overhead_bytes: int
    correction: float = 1.0

    def need_gib(self, micro_batch: int, length: int, accumulation: int = 1) -> float:
        """Return the peak of a step of ``accumulation`` passes over ``micro_batch`` samples padded to ``length``."""
        return self._gib(self._training(accumulation > 1), micro_batch, length)

    def eval_need_gib(self, batch: int, length: int) -> float:
        """Return the peak of an evaluation pass between two steps of training."""
        return self._gib(self.peaks.evaluation, batch, length)

    def largest_micro_batch(self, budget_gib: float, length: int, *, accumulating: bool) -> int:
        """Return the most samples that one training pass may hold; 0 if not even one fits."""
        return int(self.micro_batches(budget_gib, np.array([length]), accumulating=accumulating)[0])

    def largest_eval_batch(self, budget_gib: float, length: int) -> int:
        """Return the most samples that one evaluation pass may hold; 0 if not even one fits."""
        return int(self.eval_batches(budget_gib, np.array([length]))[0])

    def passes(self, effective_batch: int, budget_gib: float, length: int) -> int | None:
        """Return the fewest passes in which a step over samples of this length fits; None if no sample fits."""
        if self.need_gib(effective_batch, length) <= budget_gib:
            return 1
        # From the second pass on, all gradients live beside the activations.
        most = self.largest_micro_batch(budget_gib, length, accumulating=True)
        return -(-effective_batch // most) if most else None

    def micro_batches(self, budget_gib: float, lengths: np.ndarray, *, accumulating: bool) -> np.ndarray:
        """Return ``largest_micro_batch`` for every length of an array (n,)."""
        return self._training(accumulating).most_samples(self._tensor_bytes(budget_gib), lengths, _MOST_SAMPLES)

    def eval_batches(self, budget_gib: float, lengths: np.ndarray) -> np.ndarray:
        """Return ``largest_eval_batch`` for every length of an array (n,)."""
        return self.peaks.evaluation.most_samples(self._tensor_bytes(budget_gib), lengths, _MOST_SAMPLES)

    def to_json(self) -> dict[str, Any]:
        """Return the traced parts of the plan, without its correction, which changes from run to run."""
        peaks = {name: peaks.to_json() for name, peaks in vars(self.peaks).items()}
        return {"peaks": peaks, "overhead_bytes": self.overhead_bytes}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "MemoryPlan":
        peaks = {name: Peaks.from_json(stored) for name, stored in value["peaks"].items()}
        return cls(StepPeaks(**peaks), value["overhead_bytes"])

    def _training(self, accumulating: bool) -> Peaks:
        return self.peaks.accumulating if accumulating else self.peaks.training

    def _gib(self, peaks: Peaks, samples: int, length: int) -> float:
        return (peaks.need_bytes(samples, length) + self.overhead_bytes) * self.correction / GIB

    def _tensor_bytes(self, budget_gib: float) -> float:
        return budget_gib * GIB / self.correction - self.overhead_bytes


@dataclass(frozen=True)
class InferencePlan:
    """Predicted total peak of an inference pass: tensors, allocator rounding and, on CUDA, the context.

    Attributes:
        peaks: peaks of the tensors.
        overhead_bytes: memory taken beside the tensors, whatever the batch.
    """

    peaks: Peaks
    overhead_bytes: int

    def need_gib(self, rows: int, length: int) -> float:
        """Return the peak of a pass over ``rows`` inputs padded to ``length`` tokens."""
        return (self.peaks.need_bytes(rows, length) + self.overhead_bytes) / GIB

    def most_rows(self, budget_gib: float, lengths: np.ndarray) -> np.ndarray:
        """Return for every length of an array (n,) the most inputs that a pass may hold; 0 if not even one fits."""
        return self.peaks.most_samples(budget_gib * GIB - self.overhead_bytes, lengths, _MOST_SAMPLES)

    def to_json(self) -> dict[str, Any]:
        return {"peaks": self.peaks.to_json(), "overhead_bytes": self.overhead_bytes}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "InferencePlan":
        return cls(Peaks.from_json(value["peaks"]), value["overhead_bytes"])


def too_many_passes(passes: int | None, most: int | None) -> bool:
    """Return whether a step takes more than ``most`` passes (None: no limit), or fits in none (``passes`` None)."""
    return passes is None or (most is not None and passes > most)


_AnyPlan = TypeVar("_AnyPlan", MemoryPlan, InferencePlan)


def predict(
    workload: Workload, cache: Path | None = None, before_tracing: Callable[[], None] = lambda: None
) -> MemoryPlan:
    """Trace the workload, or load the plan from the folder ``cache`` if the same workload was traced before.

    Raises:
        ValueError: the encoder cannot be checkpointed, or has too few layers to freeze.
    """

    def make() -> MemoryPlan:
        before_tracing()
        return _traced(workload, _size_factors(workload))

    return _cached(cache, fingerprint(workload), make, MemoryPlan.from_json)


def predict_inference(workload: Workload, cache: Path | None = None) -> InferencePlan:
    """Trace an inference pass, or load its plan from the folder ``cache``; see ``predict``."""

    def make() -> InferencePlan:
        peaks = trace_inference(workload, _size_factors(workload))
        return InferencePlan(peaks, KERNELS[workload.device_kind].overhead_bytes)

    return _cached(cache, f"{fingerprint(workload)}-inference", make, InferencePlan.from_json)


def confirm(workload: Workload, micro_batch: int, length: int, cache: Path | None = None) -> MemoryPlan:
    """Return a plan traced at these exact sizes; it gives their need, whatever sizes it is asked about.

    It differs from ``predict`` if the model takes another code path at other sizes. A single sample is an example: its
    transposed tensors need no copies.
    """
    name = f"{fingerprint(workload)}-{micro_batch}x{length}"
    make = partial(_traced, workload, SizeFactors(micro_batch, length))
    return _cached(cache, name, make, MemoryPlan.from_json)


def _cached(
    cache: Path | None, name: str, make: Callable[[], _AnyPlan], read: Callable[[dict[str, Any]], _AnyPlan]
) -> _AnyPlan:
    if cache is None:
        return make()
    path = cache / f"{name}.json"
    try:
        return read(read_checked(path))
    except (OSError, ValueError, KeyError, TypeError):
        # Absent or damaged plans are traced anew.
        plan = make()
    write_checked(path, plan.to_json())
    return plan


def _traced(workload: Workload, factors: SizeFactors) -> MemoryPlan:
    return MemoryPlan(trace(workload, factors), KERNELS[workload.device_kind].overhead_bytes)


def _size_factors(workload: Workload) -> SizeFactors:
    configs, settings = workload.configs, workload.settings
    # For spans, the columns stored from an evaluation pass.
    task = {settings.task.count, settings.task.n_best, 1 + 4 * settings.task.n_best}
    dimensions = {*task, settings.head.width, *_integers([config.to_dict() for config in configs])} - {0}
    micro_batch = next(prime for prime in _MICRO_BATCHES if all(dimension % prime for dimension in dimensions))
    longest = min(_LONGEST, *map(_positions, configs))
    for step in _LENGTH_STEPS:
        for prime in _PRIMES:
            if step * prime <= longest and all(dimension % prime for dimension in dimensions):
                return SizeFactors(micro_batch, step * prime, prime)
    raise ValueError(
        f"no length of at most {longest} tokens tells the sizes of this {configs[0].model_type} encoder apart"
    )


def _positions(config: PreTrainedConfig) -> int:
    """Return the number of tokens that an encoder has positions for."""
    architecture = Architecture.of(config.to_dict())
    longest = architecture.longest if architecture else None
    return int(config.max_position_embeddings) if longest is None else longest


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _integers(inner)
    elif isinstance(value, int):
        yield int(value)


def fingerprint(workload: Workload) -> str:
    """Return a digest of everything that a plan depends on, library versions included; 32 hexadecimal digits."""
    settings = workload.settings
    everything = {
        "format": FORMAT_VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "configs": [
            {k: _whether_dropped(k, v) for k, v in config.to_dict().items() if k not in _IRRELEVANT}
            for config in workload.configs
        ],
        "attention": [FAMILIES.get(config.model_type, Family()).attention for config in workload.configs],
        "task": task_facts(settings.task),
        "head": head_facts(settings.head),
        "loss": [settings.loss.name, settings.loss.class_weighting != "none"],
        "optimizer": [*optimizer_facts(settings.optim), optimizer_version(settings.optim.name)],
        "clipped": settings.train.clip_norm > 0,
        "precision": workload.precision,
        "checkpointing": workload.checkpointing,
        "frozen_layers": settings.model.freeze_layers,
        "has_pooler": workload.has_pooler,
        "device_kind": workload.device_kind,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()[:32]


def optimizer_facts(optim: OptimSettings) -> tuple[Any, ...]:
    """Return the optimizer settings that memory may depend on: its name, its own, and whether each layer is a group."""
    return optim.name, optim.layer_decay < 1, *optim.added


def task_facts(task: TaskSettings) -> tuple[Any, ...]:
    """Return the task settings that a plan depends on."""
    return task.name, task.count, *((task.n_best,) if task.finds_spans else ()), *task.added


def head_facts(head: HeadSettings) -> tuple[Any, ...]:
    """Return the head settings that a plan depends on."""
    if head.pooling == NATIVE:
        return (head.pooling,)
    hidden = (head.layers, head.width, head.activation) if head.layers else ()
    return (head.pooling, head.dropout > 0, *hidden, *head.added)


def _whether_dropped(name: str, value: Any) -> Any:
    """Return a dropout rate as whether it is positive, other values unchanged.

    Any dropout costs the same memory, whatever its rate.
    """
    return value > 0 if "dropout" in name and isinstance(value, float | int) else value
