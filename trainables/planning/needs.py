"""The memory needs of configurations on a device, and the split of their effective batch; for people and planning."""

import copy
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedConfig

from trainables.devices.facts import DeviceKind
from trainables.inputs import builtin_vocabulary
from trainables.machine import MachineFiles
from trainables.models.architectures import known_config
from trainables.models.builtin import MAX_VOCABULARY, builtin_config, builtin_pad_token_id
from trainables.models.checkpoint import read_config
from trainables.models.families import set_dropout
from trainables.models.names import BUILTIN_NAMES, resolve_model
from trainables.planning.accepted import AcceptedPlans, name_of
from trainables.planning.plan import (
    MemoryPlan,
    confirm,
    head_facts,
    optimizer_facts,
    predict,
    task_facts,
    too_many_passes,
)
from trainables.planning.trace import Workload
from trainables.settings import TrialSettings, encoder_names, revision_of
from trainables.training.split import steps_per_epoch as pieces

_MOST_CONFIRMATIONS = 3


@dataclass(frozen=True)
class Cut:
    """The split of an effective batch on a device: every sample at full length, in the fewest passes that fit.

    Attributes:
        need_gib: need of the chosen passes, or of passes of one sample if not even that fits.
        one_sample_gib: need of passes of one sample.
        largest: number of samples that one of those passes could hold; 0 if not even one fits.
        micro_batch: number of samples in the largest pass; None if not even one sample fits.
        passes: number of passes in a step; None if not even one sample fits.
        checkpointing: whether the backward pass recomputes activations.
    """

    need_gib: float
    one_sample_gib: float
    largest: int
    micro_batch: int | None
    passes: int | None
    checkpointing: bool


class Planner:
    """Planner of what trials need on one kind of device. It caches everything that it traced or read.

    Args:
        auto_precision: the precision that ``train.precision: auto`` selects on the device.
        cache: folder of traced plans; None keeps them in this process alone.
        correction: precision → the correction factor for needs; see ``planning.ledger``.
        vocabulary: settings → vocabulary size of a built-in encoder's tokenizer, which is trained on the data; None
            assumes the largest.
        tracing: callback that receives a model's name before its training is traced, which takes seconds.
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
        self._accepted: dict[Hashable, AcceptedPlans] = {}

    def cut(self, settings: TrialSettings, allowed_gib: float, *, plain: bool = False) -> Cut:
        """Return the split of the settings' effective batch if a step may take ``allowed_gib``.

        Checkpointing is used if the settings ask for it. It is also used if the settings allow it, the encoder supports
        it, and without it no sample fits or a step takes too many passes.

        Args:
            plain: use checkpointing only if the settings ask for it.

        Raises:
            UnknownModelError, ModelLoadError: the model's configuration cannot be read.
            ValueError: the model cannot be built, for instance because the encoder lacks the requested pooling or
                cannot be checkpointed. Tracing an encoder whose code needs values of tensors may raise anything.
        """
        cut = _cut(self.plan(settings), settings, allowed_gib, checkpointing=settings.train.checkpointing)
        memory = settings.memory
        if plain or cut.checkpointing or not memory.allow_checkpointing:
            return cut
        if not too_many_passes(cut.passes, memory.max_accumulation):
            return cut
        try:
            plan = self.plan(settings, checkpointing=True)
        except ValueError:
            return cut
        return _cut(plan, settings, allowed_gib, checkpointing=True)

    def plan(self, settings: TrialSettings, *, checkpointing: bool = False) -> MemoryPlan:
        """Return the plan of a trial's training, also checkpointed if the settings say so; raise as ``cut`` does."""
        checkpointing = checkpointing or settings.train.checkpointing
        key = (_relevant(settings), checkpointing)
        if key not in self._plans:
            workload = self._workload(settings, checkpointing)
            try:
                traced = predict(workload, self._cache, lambda: self._tracing(settings.model.name))
                self._plans[key] = replace(traced, correction=self._correction(workload.precision))
            except Exception as error:  # The same error would come again.
                self._plans[key] = error
        plan = self._plans[key]
        if isinstance(plan, Exception):
            raise plan
        return plan

    def accepted(self, settings: TrialSettings) -> AcceptedPlans | None:
        """Return the plans that were made for these settings, for the trial's worker; None if there is none.

        Nothing is traced here.
        """
        keys = [(_relevant(settings), checkpointing) for checkpointing in (False, True)]
        made = tuple(key for key in keys if isinstance(self._plans.get(key), MemoryPlan))
        if made and made not in self._accepted:
            plans = {name_of(self._workload(settings, key[1])): self._plans[key] for key in made}
            self._accepted[made] = AcceptedPlans(
                {name: plan for name, plan in plans.items() if isinstance(plan, MemoryPlan)}
            )
        return self._accepted.get(made)

    def confirmed_gib(self, settings: TrialSettings, cut: Cut) -> float:
        """Return the need of a split by a trace at its exact sizes, where a model may take another code path."""
        assert cut.micro_batch is not None
        assert cut.passes is not None
        length, workload = settings.tok.max_length, self._workload(settings, cut.checkpointing)
        plan = confirm(workload, cut.micro_batch, length, self._cache)
        plan = replace(plan, correction=self._correction(workload.precision))
        return plan.need_gib(cut.micro_batch, length, cut.passes)

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
    """Return the settings that a plan depends on; a dropout counts only as present or absent."""
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
    """A row of the table of needs; ``need_gib`` is for one sample a pass, and ``max_micro_batch`` is 0 if none fits.

    ``checkpointing`` is true if one sample fits only with checkpointing and that is allowed. The figures then assume
    checkpointing.
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
    """The answer whether one configuration fits.

    ``need_gib`` is the need of the chosen micro-batch, or of one sample if none fits.

    ``checkpointing`` means that not even one sample fits without checkpointing. The figures then assume it.
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
    """The subject of a memory question.

    Attributes:
        budget_gib: memory budget on the device.
        precision: ``fp32`` or ``bf16``.
    """

    settings: TrialSettings
    device: DeviceKind
    budget_gib: float
    precision: str

    @property
    def allowed_gib(self) -> float:
        """The largest need that a prediction may have: the budget minus the headroom."""
        return self.budget_gib * (1 - self.settings.memory.headroom)

    def planner(self, files: MachineFiles) -> Planner:
        """Return a planner that uses this machine's records; a device that is only asked about gets no correction."""
        return Planner(
            self.device,
            self.precision,
            files.predictions,
            vocabulary=lambda settings: builtin_vocabulary(settings, files.tokenizers),
        )

    def about(self, model: str, effective_batch: int, length: int) -> TrialSettings:
        """Return the settings of a trial with these values, in the precision asked about."""
        base = self.settings
        return replace(
            base,
            model=replace(base.model, name=model),
            train=replace(base.train, batch_size=effective_batch, grad_accum=1, precision=self.precision),
            tok=replace(base.tok, max_length=length),
        )


def model_needs(
    question: Question, models_and_lengths: Sequence[tuple[str, int]], files: MachineFiles
) -> list[ModelNeed]:
    """Return one row per model and length; each model must support its length.

    Raises:
        UnknownModelError, ModelLoadError: a model's configuration cannot be read.
        DataError: the data that a built-in encoder's vocabulary depends on cannot be used.
    """
    planner = question.planner(files)
    rows = []
    for model, length in models_and_lengths:
        # Plan a step of one sample; the plan itself gives the need of the largest pass.
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
    """Return whether and how an effective batch fits on the device, in the fewest passes.

    Raises:
        UnknownModelError, ModelLoadError, DataError: see ``model_needs``.
    """
    planner = question.planner(files)
    settings, allowed_gib = question.about(model, effective_batch, length), question.allowed_gib
    cut = planner.cut(settings, allowed_gib)
    for _ in range(_MOST_CONFIRMATIONS):
        if cut.passes is None:
            break
        need_gib = planner.confirmed_gib(settings, cut)
        predicted_gib, cut = cut.need_gib, replace(cut, need_gib=need_gib)
        if need_gib <= question.allowed_gib:
            break
        # The chosen split needs more than predicted, so lower the allowance by the same ratio.
        allowed_gib *= predicted_gib / need_gib
        cut = planner.cut(settings, allowed_gib)
    return Verdict(
        model=model,
        length=length,
        effective_batch=effective_batch,
        precision=question.precision,
        device=question.device,
        budget_gib=question.budget_gib,
        fits=cut.passes is not None,
        need_gib=cut.need_gib,
        micro_batch=cut.micro_batch,
        accumulation_steps=cut.passes,
        max_micro_batch=cut.largest,
        checkpointing=cut.checkpointing,
    )


def encoder_config(model: str, revision: str | None, *, builtin_vocabulary: int = MAX_VOCABULARY) -> PreTrainedConfig:
    """Return the configuration of a model: built in, shipped with the project, from a folder, or from the hub.

    Args:
        builtin_vocabulary: vocabulary size of a built-in encoder, whose tokenizer is trained on the data.

    Raises:
        UnknownModelError, ModelLoadError: the configuration does not exist or cannot be read.
    """
    known = known_config(model)
    if known is not None:
        return known
    source = resolve_model(model)
    if source.kind == "builtin":
        return builtin_config(model, vocab_size=builtin_vocabulary, pad_token_id=builtin_pad_token_id(model))
    # The hub warns about every try and retry; the final error below reports the outcome once.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return read_config(source, revision)
