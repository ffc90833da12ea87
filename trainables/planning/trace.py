"""The trace of one training step and one evaluation pass on tensors without data: the storages they make and free.

The real model, head, loss and optimizer run at full depth under torch's fake tensors. Nothing is computed and no memory
is taken; a dispatch mode records every storage. Later steps and accumulation need no trace. Optimizer states live
throughout. Existing gradients take a new one in place and free it at once.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from trainables.internals import (
    DispatchMode,
    FakeTensorMode,
    decomposed,
    is_composite,
    is_number_read,
    no_random_weights,
    storage_address,
    without_modes,
)
from trainables.models.disentangled import prepare_trace
from trainables.models.encoder import enable_checkpointing, freeze_layers
from trainables.models.load import MODEL_LOCK, LoadedEncoder, LoadReport, build_empty
from trainables.planning.kernels import KERNELS, Kernels
from trainables.planning.timeline import Peaks, SizeFactors, find_peaks
from trainables.settings import TrialSettings
from trainables.tasks import build_task
from trainables.tasks.protocol import Batch, Task
from trainables.training.optimizer import apply_step, build_optimizer, prepare_states
from trainables.training.precision import autocast
from trainables.training.step import backward_pass

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Workload:
    """The workload of a trace. Only the settings of task, head, loss, optimizer, clipping and frozen layers matter.

    Attributes:
        config: the encoder's configuration, with the tokenizer's vocabulary and the settings' dropout.
        device_kind: the device whose kernels, optimizer and allocator are traced.
        precision: ``fp32`` or ``bf16``, resolved.
        has_pooler: False for checkpoints without a pooler, because loading removes it. True costs at most 0.1 % too
            much.
        criteria_config: configuration of the second encoder of the task ``joint``.
    """

    settings: TrialSettings
    config: PreTrainedConfig
    device_kind: Literal["cpu", "cuda"] = "cpu"
    precision: str = "fp32"
    checkpointing: bool = False
    has_pooler: bool = True
    criteria_config: PreTrainedConfig | None = None

    @property
    def configs(self) -> tuple[PreTrainedConfig, ...]:
        """The configurations of all encoders."""
        return (self.config,) if self.criteria_config is None else (self.config, self.criteria_config)


@dataclass(frozen=True)
class StepPeaks:
    """Peaks from the second step on, including parameters, buffers, gradients and optimizer states.

    Attributes:
        training: peak of a step of one pass; gradients appear during the backward pass.
        accumulating: peak of a step of several passes; in the later ones all gradients live.
        evaluation: peak of an inference pass beside the optimizer's states; gradients are freed before it.
    """

    training: Peaks
    accumulating: Peaks
    evaluation: Peaks


def trace(workload: Workload, factors: SizeFactors) -> StepPeaks:
    """Trace a workload at the micro-batch and the length of ``factors``."""
    with _built(workload) as (model, task, kernels):
        return _trace_step(model, task, workload, factors, kernels)


def trace_inference(workload: Workload, factors: SizeFactors) -> Peaks:
    """Trace an inference pass of a model that is not trained: no gradients and no optimizer states."""
    with _built(workload) as (model, task, kernels):
        recorder = StorageRecorder()
        batch = task.full_batch(factors.micro_batch, factors.length)
        always = _residents(model, batch, recorder, kernels)
        events = _evaluation_events(model, task, batch, workload.precision, recorder)
        sizes = [factors.split(size_bytes) for size_bytes in recorder.sizes_bytes]
        return find_peaks(events, sizes, resident=always, rounded=kernels.rounded)


@contextmanager
def _built(workload: Workload) -> Iterator[tuple[nn.Module, Task, Kernels]]:
    """Yield a workload's model of fake tensors, which takes memory as on its device, with its task and kernels."""
    kernels = KERNELS[workload.device_kind]()
    task = build_task(workload.settings)
    with MODEL_LOCK, _apart(), FakeTensorMode():
        model = _build_model(task, [kernels.prepared(config) for config in workload.configs], workload)
        prepare_trace(model, workload.device_kind)
        with kernels.applied(model):
            yield model, task, kernels


def _residents(model: nn.Module, batch: Batch, recorder: "StorageRecorder", kernels: Kernels) -> set[int]:
    """Return the numbers of the weights, and of the batch where it is copied to the device."""
    weights = {recorder.number(tensor) for tensor in (*model.parameters(), *model.buffers())}
    inputs = {recorder.number(tensor) for tensor in batch.values()}
    return weights | inputs if kernels.copies_batch else weights


def _evaluation_events(
    model: nn.Module, task: Task, batch: Batch, precision: str, recorder: "StorageRecorder"
) -> list[int]:
    model.eval()
    with recorder, torch.inference_mode(), autocast(precision, _CPU):
        task.outputs_to_score(model(batch), batch)
    return recorder.take_events()


@contextmanager
def _apart() -> Iterator[None]:
    """Trace without the caller's context: no inference mode, and no mode that counts memory."""
    with torch.inference_mode(False), torch.enable_grad(), without_modes():
        yield


def _build_model(task: Task, configs: Sequence[PreTrainedConfig], workload: Workload) -> nn.Module:
    encoders = []
    with no_random_weights():  # ModernBERT's initialiser draws until the values fit; here are no values.
        for config in configs:
            encoder = build_empty(config)
            if not workload.has_pooler and getattr(encoder, "pooler", None) is not None:
                encoder.register_module("pooler", None)
            freeze_layers(encoder, workload.settings.model.freeze_layers)
            if workload.checkpointing:
                enable_checkpointing(encoder)
            encoders.append(LoadedEncoder(encoder, LoadReport((), (), None)))
        return task.build_model(encoders, seed=0)


def _trace_step(model: nn.Module, task: Task, workload: Workload, factors: SizeFactors, kernels: Kernels) -> StepPeaks:
    settings, precision = workload.settings, workload.precision
    recorder = StorageRecorder()
    with recorder, _AnyNumber():
        optimizer = build_optimizer(model, settings.optim)
        prepare_states(optimizer)
    made = recorder.take_events()
    states = {event for event in made if event >= 0} - {~event for event in made if event < 0}
    batch = task.full_batch(factors.micro_batch, factors.length)
    always = _residents(model, batch, recorder, kernels)

    model.train()
    with recorder, _gradients_seen(model, recorder) as gradient_at:
        # The batch's weight in the loss depends on its labels, which have no data here. No size depends on the weight.
        backward_pass(model, task, batch, 1.0, precision)
    one_pass = recorder.take_events()
    with recorder, _AnyNumber():
        apply_step(optimizer, [p for p in model.parameters() if p.requires_grad], settings.train.clip_norm)
    update = recorder.take_events()
    evaluation = _evaluation_events(model, task, batch, precision, recorder)

    gradients = set(gradient_at)
    later_pass = _in_place(one_pass, gradient_at)
    sizes = [factors.split(size_bytes) for size_bytes in recorder.sizes_bytes]

    def peaks(events: list[int], resident: set[int]) -> Peaks:
        return find_peaks(events, sizes, resident=always | states | resident, rounded=kernels.rounded)

    return StepPeaks(
        training=peaks(one_pass + update, set()),
        accumulating=peaks(later_pass + update, gradients),
        evaluation=peaks(evaluation, set()),
    )


@contextmanager
def _gradients_seen(model: nn.Module, recorder: "StorageRecorder") -> Iterator[dict[int, int]]:
    """Fill a dictionary during a backward pass: a gradient's number → the number of events before it was complete."""
    gradient_at: dict[int, int] = {}

    def note(parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradient_at[recorder.number(parameter.grad)] = len(recorder.events)

    hooks = [p.register_post_accumulate_grad_hook(note) for p in model.parameters() if p.requires_grad]
    yield gradient_at
    for hook in hooks:
        hook.remove()


def _in_place(one_pass: list[int], gradient_at: dict[int, int]) -> list[int]:
    """Return the events of a pass that adds to existing gradients: each new gradient dies once it is added."""
    events = list(one_pass)
    for number, position in reversed(gradient_at.items()):
        events.insert(position, ~number)
    return events


class _AnyNumber(DispatchMode):
    """A mode that returns 1 for every number read out of a tensor: optimizers count steps and measure norms."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if is_number_read(func):
            return 1.0 if args[0].is_floating_point() else 1
        return func(*args, **(kwargs or {}))


class StorageRecorder(DispatchMode):
    """A recorder of the birth and death of every storage that an operation makes while the mode is active.

    Storages are numbered from 0 in the order in which they appear. ``events`` holds n for a birth and ``~n`` for a
    death. Deaths of storages that were only registered (``number``) count too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[int] = []
        self.sizes_bytes: list[int] = []
        self._numbers: dict[int, _NumberedRef] = {}

    def number(self, tensor: Tensor) -> int:
        """Return the number of the tensor's storage; a new storage is registered without a birth."""
        storage = tensor.untyped_storage()
        address = storage_address(storage)
        known = self._numbers.get(address)
        if known is not None:
            return known.number
        reference = _NumberedRef(storage, self._died)
        reference.number, reference.address = len(self.sizes_bytes), address
        self._numbers[reference.address] = reference
        self.sizes_bytes.append(storage.nbytes())
        return reference.number

    def take_events(self) -> list[int]:
        """Return the events since the last call."""
        taken, self.events = self.events, []
        return taken

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        if _is_composite(func):
            # Without autograd a composite operation arrives whole; the storages made inside count as well.
            with self:
                return decomposed(func, args, keywords)
        result = func(*args, **keywords)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._made(tensor)
        return result

    def _made(self, tensor: Tensor) -> None:
        before = len(self.sizes_bytes)
        number = self.number(tensor)
        if number == before:
            self.events.append(number)

    def _died(self, reference: "_NumberedRef") -> None:
        del self._numbers[reference.address]
        self.events.append(~reference.number)


class _NumberedRef(weakref.ref[torch.UntypedStorage]):
    __slots__ = ("address", "number")

    address: int
    number: int


@cache
def _is_composite(func: Any) -> bool:
    # Queries about a tensor (``prim::device``) pass through here too, and are no operations.
    return func.namespace == "aten" and is_composite(func)
