"""What configurations need on a device, and how their effective batch would be cut there: for people and planning."""

import copy
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedConfig

from trainables.inputs import builtin_vocabulary
from trainables.machine import MachineFiles
from trainables.memory.facts import DeviceKind
from trainables.memory.predict import (
    MemoryPlan,
    Workload,
    confirm,
    head_facts,
    optimizer_facts,
    predict,
    task_facts,
    too_many_passes,
)
from trainables.models.architectures import known_config
from trainables.models.builtin import MAX_VOCABULARY, builtin_config
from trainables.models.checkpoint import read_config
from trainables.models.families import set_dropout
from trainables.models.names import BUILTIN_NAMES, resolve_model
from trainables.settings import TrialSettings, encoder_names, revision_of
from trainables.training.split import steps_per_epoch as pieces

_MOST_CONFIRMATIONS = 3


@dataclass(frozen=True)
class Cut:
    """How an effective batch is cut on a device, every sample taken at full length, in the fewest passes that fit.

    Attributes:
        need_gib: of the passes chosen, or of passes of one sample where not even that fits.
        one_sample_gib: of passes of one sample.
        largest: samples that one of those passes could hold; 0 where not even one fits.
        micro_batch: samples in the largest of the passes; None where not even one fits.
        passes: of a step; None where not even one sample fits.
        checkpointing: whether activations are computed again in the backward pass.
    """

    need_gib: float
    one_sample_gib: float
    largest: int
    micro_batch: int | None
    passes: int | None
    checkpointing: bool


class Planner:
    """Answers what trials need on one kind of device. What was traced or read once is kept.

    Args:
        auto_precision: what ``train.precision: auto`` means there.
        cache: folder of traced plans; None keeps them in this process alone.
        correction: precision → what needs are multiplied by there; see ``memory.ledger``.
        vocabulary: settings → how many tokens a built-in encoder's tokenizer holds, which is trained on the data; None
            takes the most that it may hold.
        tracing: called with a model's name before its training is traced, which takes seconds.
    """

    def __init__(
        self,
        kind: DeviceKind,
        auto_precision: str,
        cache: Path | None,
        correction: Callable[[str], float] = lambda precision: 1.0,
        vocabulary: Callable[[TrialSettings], int] | None = None,
        tracing: Callable[[str], None] = lambda model: None,
    ) -> None:
        self._kind: DeviceKind = kind
        self._auto_precision = auto_precision
        self._cache = cache
        self._correction = correction
        self._vocabulary = vocabulary
        self._tracing = tracing
        self._configs: dict[Hashable, PreTrainedConfig] = {}
        self._plans: dict[Hashable, MemoryPlan | Exception] = {}

    def cut(self, settings: TrialSettings, allowed_gib: float, *, plain: bool = False) -> Cut:
        """How the effective batch of the settings is cut where a step may take ``allowed_gib``.

        Checkpointing comes in where the settings ask for it; and where not even one sample fits without, or a step
        would take too many passes, the settings allow it and the encoder can.

        Args:
            plain: checkpoint only where the settings ask for it.

        Raises:
            UnknownModelError, ModelLoadError: the model's configuration cannot be had.
            ValueError: what is asked for cannot be built, such as a pooling that the encoder does not have, or
                checkpointing of one that cannot. Tracing an encoder whose code needs values of tensors may raise
                anything.
        """
        found = _cut(self.plan(settings), settings, allowed_gib, checkpointing=settings.train.checkpointing)
        memory = settings.memory
        if plain or found.checkpointing or not memory.allow_checkpointing:
            return found
        if not too_many_passes(found.passes, memory.max_accumulation):
            return found
        try:
            plan = self.plan(settings, checkpointing=True)
        except ValueError:
            return found
        return _cut(plan, settings, allowed_gib, checkpointing=True)

    def plan(self, settings: TrialSettings, *, checkpointing: bool = False) -> MemoryPlan:
        """The plan of a trial's training, checkpointed also where the settings ask for it; raises as ``cut`` does."""
        checkpointing = checkpointing or settings.train.checkpointing
        key = (_relevant(settings), checkpointing)
        if key not in self._plans:
            workload = self._workload(settings, checkpointing)
            try:
                traced = predict(workload, self._cache, lambda: self._tracing(settings.model.name))
                self._plans[key] = replace(traced, correction=self._correction(workload.precision))
            except Exception as error:  # Whatever it was, it would come again.
                self._plans[key] = error
        plan = self._plans[key]
        if isinstance(plan, Exception):
            raise plan
        return plan

    def confirmed_gib(self, settings: TrialSettings, found: Cut) -> float:
        """What a cut needs by a trace of the very sizes that were chosen, where a model may take another way."""
        assert found.micro_batch is not None
        assert found.passes is not None
        length, workload = settings.tok.max_length, self._workload(settings, found.checkpointing)
        plan = confirm(workload, found.micro_batch, length, self._cache)
        plan = replace(plan, correction=self._correction(workload.precision))
        return plan.need_gib(found.micro_batch, length, found.passes)

    def _workload(self, settings: TrialSettings, checkpointing: bool) -> Workload:
        precision = settings.train.precision if settings.train.precision != "auto" else self._auto_precision
        config, *others = (self._config(settings, name) for name in encoder_names(settings))
        second = others[0] if others else None
        return Workload(settings, config, self._kind, precision, checkpointing, criteria_config=second)

    def _config(self, settings: TrialSettings, name: str) -> PreTrainedConfig:
        revision = revision_of(settings.model, name)
        key = name, revision
        if key not in self._configs:
            is_builtin = name in BUILTIN_NAMES
            named = replace(settings, model=replace(settings.model, name=name))
            size = self._vocabulary(named) if is_builtin and self._vocabulary else MAX_VOCABULARY
            self._configs[key] = encoder_config(name, revision, builtin_vocabulary=size)
        config = copy.deepcopy(self._configs[key])
        set_dropout(config, settings.model.dropout, settings.model.attention_dropout)
        return config


def _relevant(settings: TrialSettings) -> Hashable:
    """What of a trial's settings a plan depends on; of a dropout only whether there is any."""
    model = settings.model
    dropouts = (None if rate is None else rate > 0 for rate in (model.dropout, model.attention_dropout))
    loss = settings.loss.name, settings.loss.class_weighting != "none"
    return (
        task_facts(settings.task),
        (model.name, model.criteria_name, model.revision, model.freeze_layers, *dropouts),
        settings.train.precision,
        settings.train.clip_norm > 0,
        optimizer_facts(settings.optim),
        head_facts(settings.head),
        loss,
    )


def _cut(plan: MemoryPlan, settings: TrialSettings, allowed_gib: float, checkpointing: bool) -> Cut:
    batch, length = settings.train.effective_batch, settings.tok.max_length
    passes = plan.passes(batch, allowed_gib, length)
    most = plan.largest_micro_batch(allowed_gib, length, accumulating=passes != 1)
    micro_batch = pieces(batch, passes) if passes else None
    return Cut(
        need_gib=plan.need_gib(micro_batch or 1, length, passes or batch),
        one_sample_gib=plan.need_gib(1, length, batch),
        largest=most,
        micro_batch=micro_batch,
        passes=passes,
        checkpointing=checkpointing,
    )


@dataclass(frozen=True)
class ModelNeed:
    """A row of the table: ``need_gib`` is that of one sample a pass; ``max_micro_batch`` 0 means that none fits.

    Where one sample fits with checkpointing alone, and that is allowed, ``checkpointing`` says so and the figures mean
    that.
    """

    model: str
    length: int
    precision: str
    device: str
    budget_gib: float
    need_gib: float
    max_micro_batch: int
    max_eval_batch: int
    checkpointing: bool


@dataclass(frozen=True)
class Verdict:
    """Whether one configuration fits. ``need_gib`` is that of the micro-batch chosen, or of one sample if none fits.

    ``checkpointing``: the figures mean a step with checkpointing, without which not even one sample fits.
    """

    model: str
    length: int
    effective_batch: int
    precision: str
    device: str
    budget_gib: float
    fits: bool
    need_gib: float
    micro_batch: int | None
    accumulation_steps: int | None
    max_micro_batch: int
    checkpointing: bool


@dataclass(frozen=True)
class Question:
    """What is asked about.

    Attributes:
        budget_gib: of the device.
        precision: ``fp32`` or ``bf16``.
    """

    settings: TrialSettings
    device: DeviceKind
    budget_gib: float
    precision: str

    @property
    def allowed_gib(self) -> float:
        """What a prediction may come to: the budget less the headroom."""
        return self.budget_gib * (1 - self.settings.memory.headroom)

    def planner(self, files: MachineFiles) -> Planner:
        """Answers the question, with what is known on this machine; of a card that is only asked about nothing is."""
        return Planner(
            self.device,
            self.precision,
            files.predictions,
            vocabulary=lambda settings: builtin_vocabulary(settings, files.tokenizers),
        )

    def about(self, model: str, effective_batch: int, length: int) -> TrialSettings:
        """The settings of a trial with these values, in the precision asked about."""
        own = self.settings
        return replace(
            own,
            model=replace(own.model, name=model),
            train=replace(own.train, batch_size=effective_batch, grad_accum=1, precision=self.precision),
            tok=replace(own.tok, max_length=length),
        )


def model_needs(
    question: Question, models_and_lengths: Sequence[tuple[str, int]], files: MachineFiles
) -> list[ModelNeed]:
    """One row per model and length, which the model must be able to take.

    Raises:
        UnknownModelError, ModelLoadError: a model's configuration cannot be had.
        DataError: a built-in encoder's vocabulary, which is that of the data, cannot be had.
    """
    planner = question.planner(files)
    rows = []
    for model, length in models_and_lengths:
        # A step of one sample: what the largest pass needs is asked of the plan itself.
        settings = question.about(model, 1, length)
        one = planner.cut(settings, question.allowed_gib)
        plan = planner.plan(settings, checkpointing=one.checkpointing)
        rows.append(
            ModelNeed(
                model=model,
                length=length,
                precision=question.precision,
                device=question.device,
                budget_gib=question.budget_gib,
                need_gib=one.need_gib,
                max_micro_batch=plan.largest_micro_batch(question.allowed_gib, length, accumulating=False),
                max_eval_batch=plan.largest_eval_batch(question.allowed_gib, length),
                checkpointing=one.checkpointing,
            )
        )
    return rows


def verdict(question: Question, model: str, effective_batch: int, length: int, files: MachineFiles) -> Verdict:
    """How an effective batch would be cut on the device, in the fewest passes that fit.

    Raises:
        UnknownModelError, ModelLoadError, DataError: as ``model_needs``.
    """
    planner = question.planner(files)
    settings, allowed_gib = question.about(model, effective_batch, length), question.allowed_gib
    found = planner.cut(settings, allowed_gib)
    for _ in range(_MOST_CONFIRMATIONS):
        if found.passes is None:
            break
        need_gib = planner.confirmed_gib(settings, found)
        predicted_gib, found = found.need_gib, replace(found, need_gib=need_gib)
        if need_gib <= question.allowed_gib:
            break
        # What is chosen needs more than was predicted: as if so much less were allowed.
        allowed_gib *= predicted_gib / need_gib
        found = planner.cut(settings, allowed_gib)
    return Verdict(
        model=model,
        length=length,
        effective_batch=effective_batch,
        precision=question.precision,
        device=question.device,
        budget_gib=question.budget_gib,
        fits=found.passes is not None,
        need_gib=found.need_gib,
        micro_batch=found.micro_batch,
        accumulation_steps=found.passes,
        max_micro_batch=found.largest,
        checkpointing=found.checkpointing,
    )


def encoder_config(model: str, revision: str | None, *, builtin_vocabulary: int = MAX_VOCABULARY) -> PreTrainedConfig:
    """The configuration of a model: built in, shipped with the project, from a folder, or from the hub.

    Args:
        builtin_vocabulary: tokens of a built-in encoder, whose tokenizer is trained on the data.

    Raises:
        UnknownModelError, ModelLoadError: there is none, or it cannot be read.
    """
    known = known_config(model)
    if known is not None:
        return known
    source = resolve_model(model)
    if source.kind == "builtin":
        return builtin_config(model, vocab_size=builtin_vocabulary, pad_token_id=0)
    # Its warnings of every try and retry; what comes of them is said once, below.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return read_config(source, revision)
