"""Sections that describe a single training: its data, task, model and optimization."""

import math
from typing import Annotated, Literal, Self, cast

from pydantic import BeforeValidator, Field, model_validator

from trainables import settings as plain
from trainables.data import cells
from tune_app.config.section import FieldError, Section
from tune_app.errors import nearest


def _positive_or_auto(value: object) -> object:
    if value == "auto" or (type(value) is int and value > 0):
        return value
    raise ValueError("expected auto, or a whole number above 0")


PositiveOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_positive_or_auto)]


class ColumnsSection(Section):
    text: str = "text"
    criterion: str | None = Field(
        default="criterion", description="May be absent from the data, or null: then texts stand alone."
    )
    label: str = "label"
    group_id: str | None = Field(
        default="group_id",
        description="Rows of one group never cross the parts of the split. May be absent from the data, or null: then"
        " every row is its own group.",
    )
    evidence_start: str = "evidence_start"
    evidence_end: str = "evidence_end"

    @model_validator(mode="after")
    def _one_role_each(self) -> Self:
        roles: dict[str, str] = {}
        for role, name in self.model_dump().items():
            other = roles.setdefault(name, role)
            if name is not None and other != role:
                without = f", or set data.columns.{role}=null" if role in ("criterion", "group_id") else ""
                raise FieldError(role, name, f"is the column of {other} already; name a column of its own{without}")
        return self


class DataSection(Section):
    path: str = Field(description="CSV, JSONL or Parquet with one row per (text, criterion) pair; or demo. May be .gz.")
    columns: ColumnsSection = ColumnsSection()
    max_rows: int | None = Field(default=None, gt=0, description="Take whole groups up to this many rows.")
    equal_texts: Literal["together", "apart"] = Field(
        default="together",
        description="Groups that hold equal texts go to the same part of the split; apart: they may not.",
    )
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    test_share: float = Field(default=0.2, gt=0, lt=1, description="Never read by a search.")
    folds: int | None = Field(
        default=None,
        ge=2,
        le=100,
        description="Trials train on so many folds of all but the test part, one after the other; null: one split.",
    )
    num_workers: int = Field(default=0, ge=0, le=64, description="Processes that pad batches ahead; 0: none.")
    pin_memory: bool = Field(default=True, description="Page-locked batches; without effect on CPU.")

    @model_validator(mode="after")
    def _something_left_to_train_on(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            problem = f"leaves no training part beside data.test_share {self.test_share:g}; lower one of them"
            raise FieldError("validation_share", self.validation_share, problem)
        return self


def _number_or_tuned(value: object) -> object:
    if value == "tuned" or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        return value if value == "tuned" else float(cast("float", value))
    raise ValueError("expected tuned, or a number")


NumberOrTuned = Annotated[float | Literal["tuned"], BeforeValidator(_number_or_tuned)]


def _class_names(value: object) -> object:
    """Convert class names as the data's labels are converted: 1.0 becomes 1."""
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of the classes' names, such as [no, yes]")
    names = tuple(map(cells.label, value))
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError("expected two names or more, no name twice")
    return names


class TaskSection(Section):
    name: Literal["criteria", "evidence", "share", "joint"] = "criteria"
    classes: int | None = Field(default=None, ge=2, le=1000, description="null: as many as the data holds.")
    labels: Annotated[tuple[str, ...] | None, BeforeValidator(_class_names)] = Field(
        default=None, description="Names of the classes in their order; null: as the data has them, sorted."
    )
    objective: str | None = Field(default=None, description="Metric that a search improves; null: the task's first.")
    threshold: NumberOrTuned = Field(
        default="tuned", description="Probability above which two classes are told apart; tuned: on validation."
    )
    null_threshold: NumberOrTuned = Field(
        default="tuned", description="A span is said where its score exceeds that of none by so much; tuned as above."
    )
    max_answer_length: int = Field(default=64, gt=0, le=8192, description="Tokens of the longest span.")
    n_best: int = Field(default=20, gt=0, le=1000, description="Starts and ends of each window that are combined.")
    criteria_weight: float = Field(
        default=0.5, ge=0, le=1, description="Of two losses the share of the criteria's; the rest is the evidence's."
    )

    @model_validator(mode="after")
    def _known_objective(self) -> Self:
        known = plain.OBJECTIVES[self.name]
        if self.objective is not None and self.objective not in known:
            raise FieldError(
                "objective",
                self.objective,
                f"is not a metric of task {self.name}{nearest(self.objective, known)} (known: {', '.join(known)})",
            )
        if self.labels is not None and self.classes not in (None, len(self.labels)):
            raise FieldError("classes", self.classes, f"labels are {len(self.labels)}; leave classes out")
        for field, is_for_two in (("objective", "binary_f1"), ("threshold", self.threshold)):
            value = getattr(self, field)
            if self.count > 2 and value == is_for_two and value != "tuned":
                raise FieldError(field, value, f"is for two classes, and there are {self.count}; leave it out")
        if isinstance(self.threshold, float) and not 0 <= self.threshold <= 1:
            raise FieldError("threshold", self.threshold, "is not a probability; give one from 0 to 1, or tuned")
        return self

    @property
    def count(self) -> int:
        """Number of classes; two until the data is read."""
        return self.classes or len(self.labels or ()) or 2


class ModelSection(Section):
    name: str = Field(default="minilm-l6", description="Built-in name, minilm-l6, a local folder or a hub name.")
    criteria_name: str | None = Field(
        default=None, description="Second encoder of task joint; null: the same model again."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub model.")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="Of the encoder; null: as the model has it.")
    attention_dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Of the encoder's attention; null: as the model has it."
    )
    freeze_layers: int = Field(default=0, ge=0, description="Embeddings and so many first layers are not trained.")


class TokSection(Section):
    max_length: int = Field(default=256, ge=8, le=8192, description="Tokens of an input, special tokens included.")
    doc_stride: int = Field(
        default=64,
        ge=0,
        le=8192,
        description="Tokens that neighbouring windows of a text share, where spans are found.",
    )


class HeadSection(Section):
    pooling: Literal["cls", "mean", "max", "pooler", "attention"] = "cls"
    layers: int = Field(default=0, ge=0, le=4, description="Hidden layers before the last one.")
    width: int = Field(default=768, gt=0, le=65536, description="Of the hidden layers.")
    activation: Literal["gelu", "relu", "silu"] = Field(default="gelu", description="Of the hidden layers.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Before each layer of the head.")


class LossSection(Section):
    name: Literal["cross_entropy", "label_smoothing", "focal"] = "cross_entropy"
    smoothing: float = Field(default=0.1, ge=0, lt=1, description="Of label_smoothing: share given to all classes.")
    gamma: float = Field(default=2.0, ge=0, le=10, description="Of focal: how little rows count that are right.")
    alpha: float = Field(default=0.5, gt=0, lt=1, description="Of focal: weight of every class but the first.")
    class_weighting: Literal["none", "inverse", "effective_number"] = Field(
        default="none", description="Rare classes weigh more, by how often they occur in the training part."
    )


class OptimSection(Section):
    name: Literal["adamw", "adafactor", "lion", "adamw_8bit"] = Field(
        default="adamw", description="lion and adamw_8bit come with the extras lion and 8bit."
    )
    lr: float = Field(default=5e-5, gt=0, le=1, description="Of adafactor: a share of the weights' own size.")
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Each layer's learning rate, as a share of the one above; the head's is lr.",
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(
        default=1e-8, ge=1e-20, lt=1, description="Below 1e-20 squares of gradients are 0 in fp32, and steps infinite."
    )


class ScheduleSection(Section):
    name: Literal["linear", "cosine", "cosine_restarts", "polynomial", "one_cycle", "constant"] = "linear"
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps in which the rate rises.")
    cycles: int = Field(default=2, gt=0, le=100, description="Cosines of cosine_restarts, one after the other.")
    power: float = Field(default=2.0, gt=0, le=10, description="Exponent of polynomial: 1 is a line.")


class TrainSection(Section):
    batch_size: int = Field(default=16, gt=0, le=65536, description="Alone it is the effective batch.")
    grad_accum: int = Field(default=1, gt=0, le=4096, description="Effective batch = batch_size × grad_accum.")
    epochs: int = Field(default=3, gt=0, le=10_000)
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 autocast where the device is good at it, else fp32."
    )
    tf32: bool = Field(default=True, description="TF32 units for fp32 matrix products on CUDA.")
    patience: int | None = Field(default=None, gt=0, description="End after so many epochs without a better one.")
    clip_norm: float = Field(default=1.0, ge=0, description="Largest gradient norm; 0 switches clipping off.")
    checkpointing: bool = Field(
        default=False, description="Recompute activations in every backward pass: less memory, more time."
    )


class AugmentSection(Section):
    name: Literal["none", "mask", "delete", "swap"] = Field(
        default="none", description="What happens to tokens of training texts, of evidence never, anew in every epoch."
    )
    probability: float = Field(default=0.3, gt=0, le=1, description="Share of the rows that are augmented.")
    strength: float = Field(default=0.1, gt=0, lt=1, description="Share of their text's tokens.")
    rows: Literal["all", "positives"] = Field(default="all", description="positives: those of any class but the first.")


MOST_GIB = 1_000_000
"""Upper bound for memory settings, which exceeds the memory of any device."""


class MemorySection(Section):
    micro_batch: PositiveOrAuto = Field(
        default="auto", description="Most rows in one forward and backward pass; auto: as many as fit."
    )
    eval_batch: PositiveOrAuto = Field(default="auto", description="Most rows in one evaluation pass; auto: as fit.")
    budget_gib: float | None = Field(
        default=None,
        gt=0,
        le=MOST_GIB,
        description="Most memory of a trial; null: its share of the card, all memory on CPU.",
    )
    headroom: float = Field(default=0.10, ge=0, lt=1, description="Share of the budget that predictions leave free.")
    allow_checkpointing: bool = Field(
        default=True, description="At one row a pass, recompute activations before giving up."
    )
    device_gib: float | None = Field(
        default=None,
        gt=0,
        le=MOST_GIB,
        description="Memory of the device that trials share; null: the card as it is, or all memory on CPU. On CPU it"
        " makes a card of that size.",
    )
    max_accumulation: int | None = Field(
        default=16, gt=0, description="Most passes a step of a trial that is launched; null: no limit."
    )
