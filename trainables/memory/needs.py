"""What models need at given lengths, and whether one configuration fits: prediction for people and planning."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from transformers import AutoConfig, PreTrainedConfig

from trainables.memory.predict import MemoryPlan, Workload, predict
from trainables.models.architectures import known_config
from trainables.models.builtin import MAX_VOCABULARY, builtin_config
from trainables.models.checkpoint import ModelLoadError, first_line
from trainables.models.names import resolve_model
from trainables.settings import ModelSettings, TrialSettings
from trainables.training.split import steps_per_epoch as pieces

DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class ModelNeed:
    """A row of the table: ``need_gib`` is that of one sample a pass; ``max_micro_batch`` 0 means that none fits."""

    model: str
    length: int
    precision: str
    device: str
    budget_gib: float
    need_gib: float
    max_micro_batch: int
    max_eval_batch: int


@dataclass(frozen=True)
class Verdict:
    """Whether one configuration fits. ``need_gib`` is that of the micro-batch chosen, or of one sample if none fits."""

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


def model_needs(question: Question, models: Sequence[str], lengths: Sequence[int], cache: Path) -> list[ModelNeed]:
    """One row per model and length that the model can take.

    Raises:
        UnknownModelError, ModelLoadError: a model's configuration cannot be had.
    """
    rows = []
    for model in models:
        config = encoder_config(model, question.settings.model.revision)
        plan = _plan(question, model, config, cache)
        rows += [
            ModelNeed(
                model=model,
                length=length,
                precision=question.precision,
                device=question.device,
                budget_gib=question.budget_gib,
                need_gib=plan.need_gib(1, length),
                max_micro_batch=plan.largest_micro_batch(question.allowed_gib, length, accumulating=False),
                max_eval_batch=plan.largest_eval_batch(question.allowed_gib, length),
            )
            for length in lengths
        ]
    return rows


def verdict(question: Question, model: str, effective_batch: int, length: int, cache: Path) -> Verdict:
    """How an effective batch would be cut on the device, in the fewest passes that fit.

    Raises:
        UnknownModelError, ModelLoadError: the model's configuration cannot be had.
    """
    plan = _plan(question, model, encoder_config(model, question.settings.model.revision), cache)
    most = plan.largest_micro_batch(question.allowed_gib, length, accumulating=False)
    if most < effective_batch:
        # Several passes: from the second on, all gradients live beside the activations.
        most = plan.largest_micro_batch(question.allowed_gib, length, accumulating=True)
    steps = pieces(effective_batch, most) if most else None
    micro_batch = pieces(effective_batch, steps) if steps else None
    return Verdict(
        model=model,
        length=length,
        effective_batch=effective_batch,
        precision=question.precision,
        device=question.device,
        budget_gib=question.budget_gib,
        fits=micro_batch is not None,
        need_gib=plan.need_gib(micro_batch or 1, length, steps or effective_batch),
        micro_batch=micro_batch,
        accumulation_steps=steps,
        max_micro_batch=most,
    )


def encoder_config(model: str, revision: str | None) -> PreTrainedConfig:
    """The configuration of a model: built in, shipped with the project, from a folder, or from the hub.

    Raises:
        UnknownModelError, ModelLoadError: there is none, or it cannot be read.
    """
    known = known_config(model)
    if known is not None:
        return known
    source = resolve_model(model)
    if source.kind == "builtin":
        # Its tokenizer is trained on the data; this is the most that it can hold.
        return builtin_config(model, vocab_size=MAX_VOCABULARY, pad_token_id=0)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            source.path or model, revision=revision, trust_remote_code=False
        )
    except Exception as error:  # The hub's many errors all mean the same here.
        raise ModelLoadError(f"configuration of {model!r}: {first_line(error)}") from None
    return config


def _plan(question: Question, model: str, config: PreTrainedConfig, cache: Path) -> MemoryPlan:
    settings = replace(question.settings, model=ModelSettings(name=model))
    workload = Workload(settings, config, device_kind=question.device, precision=question.precision)
    return predict(workload, cache)
