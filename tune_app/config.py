"""Configuration of a run: typed sections with a description of each setting. Unknown keys are refused.

One YAML file describes a run; ``-s a.b=value`` overrides single settings. A loaded configuration is complete and
checked. The rest of the program takes explicit values from it and never reads a file.
"""

import copy
import math
import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from search_spaces.conditions import ActiveSpace
from search_spaces.quoting import quoted, short
from search_spaces.rules import NAMED_LIMITS, LimitSet
from search_spaces.space import Choices, Params, Scalar, Space, SpaceError, parse_space
from trainables import settings as plain
from trainables.data import cells
from trainables.given import NotAFileError, require_file
from trainables.models.names import BUILTIN_NAMES, OFFLINE_NAME
from trainables.seeds import trial_seeds
from tune_app.databases import with_absolute_file
from tune_app.errors import UserError, check_password, first_line, lacks_password, nearest
from tune_app.named_space import FROM, settle, write_out
from tune_app.objectives import Mode, Objective
from tune_app.printable import printable
from tune_app.rungs import stopping_steps
from tune_app.setting_names import meant
from tune_app.unit import Unit
from tune_app.uris import below, is_in_memory, is_store, working_copies


class Section(BaseModel):
    """Group of settings. YAML's types are not converted: "3" is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        """Refuse values that no setting can mean and that would break files, databases or torch."""
        if isinstance(value, str) and any(unicodedata.category(sign) in ("Cc", "Cs") for sign in value):
            raise ValueError("holds a control character or half a surrogate pair; leave it out")
        if isinstance(value, str) and not value.strip():
            raise ValueError("is blank; write something, or leave the setting out")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError("is out of all proportion; give a smaller number")
        return value


_LARGEST = 2**63 - 1


class _FieldError(ValueError):
    """Error of one setting that conflicts with others of its section."""

    def __init__(self, field: str, value: object, problem: str) -> None:
        super().__init__(problem)
        self.field = field
        self.value = value


def _positive_or_auto(value: object) -> object:
    if value == "auto" or (type(value) is int and value > 0):
        return value
    raise ValueError("expected auto, or a whole number above 0")


PositiveOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_positive_or_auto)]


OnChange = Literal["fork", "refuse", "archive", "delete"]


class StudySection(Section):
    name: str = Field(description="Name of the study, of its folder and of its MLflow experiment.")
    dir: str = Field(
        default="runs",
        description="Folder that holds the run directories, or the URI of a store (s3://…) that keeps them; they are"
        " worked on in a copy on this machine then.",
    )
    storage: str | None = Field(
        default=None,
        description="Database URL of the study; null keeps it in study.journal in the run directory.",
    )
    on_change: OnChange = Field(
        default="fork",
        description="Where the space, the settings or the data of the study changed. fork: a new version, with what"
        " still fits; refuse; archive: the study is set aside for a new one; delete: asks, or wants --yes.",
    )

    @field_validator("name")
    @classmethod
    def _usable_as_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError("use letters, digits, '.', '_' and '-' only, the first a letter or digit, at most 100")
        return name

    @field_validator("dir")
    @classmethod
    def _names_a_store(cls, folder: str) -> str:
        return _checked_place(folder)

    @field_validator("storage")
    @classmethod
    def _outlives_the_process(cls, url: str | None) -> str | None:
        return _checked_database(url)


def _checked_database(url: str | None) -> str | None:
    if url is not None and is_in_memory(url):
        raise ValueError("names a database in this process's memory, which ends with it; give a file or a server")
    return url


def _checked_place(folder: str) -> str:
    if re.fullmatch(r"(?!file:)[^/]*:///*", folder):
        raise ValueError("names no store; give a folder, or a URI such as s3://bucket/folder")
    if is_store(folder) and "//" in folder.partition("?")[0].partition("://")[2]:
        raise ValueError("has an empty part between two slashes; leave one of them out")
    return folder


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
                raise _FieldError(role, name, f"is the column of {other} already; name a column of its own{without}")
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
            raise _FieldError("validation_share", self.validation_share, problem)
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
            raise _FieldError(
                "objective",
                self.objective,
                f"is no metric of task {self.name}{nearest(self.objective, known)} (known: {', '.join(known)})",
            )
        if self.labels is not None and self.classes not in (None, len(self.labels)):
            raise _FieldError("classes", self.classes, f"labels are {len(self.labels)}; leave classes out")
        for field, is_for_two in (("objective", "binary_f1"), ("threshold", self.threshold)):
            value = getattr(self, field)
            if self.count > 2 and value == is_for_two and value != "tuned":
                raise _FieldError(field, value, f"is for two classes, and there are {self.count}; leave it out")
        if isinstance(self.threshold, float) and not 0 <= self.threshold <= 1:
            raise _FieldError("threshold", self.threshold, "is no probability; give one from 0 to 1, or tuned")
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


class MetricSection(Section):
    """One objective of a search. A text with the name alone means the same."""

    name: str
    mode: Mode | None = Field(default=None, description="null: as it is better.")


def _one_or_several(value: object) -> object:
    if value is None:
        return ()
    given = tuple(value) if isinstance(value, list | tuple) else (value,)
    items = [{"name": item} if isinstance(item, str) else item for item in given]
    if not items or not all(
        isinstance(item, MetricSection) or (isinstance(item, Mapping) and "name" in item) for item in items
    ):
        raise ValueError(
            "expected the name of a metric, or a list such as [macro_f1, peak_gib] or [macro_f1, {name: peak_gib,"
            " mode: min}]"
        )
    return tuple(items)


class SearchSection(Section):
    trials: int = Field(default=20, gt=0, le=1_000_000, description="Launched trials in all, over all resumes.")
    max_concurrent: int = Field(default=1, gt=0, le=10_000)
    seed: int = Field(default=0, ge=0, lt=2**63, description="The one seed; all others are drawn from it by name.")
    metric: Annotated[tuple[MetricSection, ...], BeforeValidator(_one_or_several)] = Field(
        default=(),
        description="What is improved: a metric of the task, or a list that begins with one and goes on with others or"
        " with what is to be low: calibration_error, peak_gib, seconds_per_sample. null: task.objective.",
    )
    sampler: Literal["tpe", "nsga2", "random", "exhaustive"] = Field(
        default="tpe", description="nsga2 is for several objectives."
    )
    recommended: int = Field(
        default=4,
        ge=0,
        le=10_000,
        description="Number of trials with published settings that begin the search, one model after another; they are"
        " never stopped. 0: none.",
    )
    max_rejections: int = Field(
        default=1000,
        gt=0,
        le=1_000_000,
        description="Samples turned away in a row after which the space counts as exhausted.",
    )


def _share_of_an_epoch(value: object) -> object:
    if value in ("auto", "epoch"):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError("expected auto, epoch, or a share of one such as 0.25")
    per_epoch = round(1 / value)
    if per_epoch > _MOST_RUNGS or abs(1 / value - per_epoch) > 0.05:
        raise ValueError(f"an epoch must hold a whole number of rungs, at most {_MOST_RUNGS}; give 0.5, 0.25 or 0.1")
    return "epoch" if per_epoch == 1 else 1 / per_epoch


_MOST_RUNGS = 20
_FEW_EPOCHS = 4
"""Most epochs with which ``scheduler.rung: auto`` makes trials report every half epoch.

After less than half an epoch, most of the differences between trials are noise. The rank correlation with the last
epoch is 0.31 after a quarter of the first epoch and 0.64 after all of it (recorded trainings of a tiny encoder).
"""


class SchedulerSection(Section):
    name: Literal["asha", "hyperband", "none"] = "asha"
    warmup: int | float | None = Field(
        default=None,
        gt=0,
        description="No trial is stopped before so many epochs; folds where data.folds is given. null: before its first"
        " report.",
    )
    reduction_factor: int = Field(default=3, ge=2, le=100, description="One in so many trials survives a rung.")
    startup_trials: int = Field(default=0, ge=0, description="The first so many trials are never stopped.")
    rung: Annotated[float | Literal["auto", "epoch"], BeforeValidator(_share_of_an_epoch)] = Field(
        default="auto",
        description="How often a trial reports: after every epoch, or after this share of one. auto: 0.5 where a"
        f" scheduler stops trials of at most {_FEW_EPOCHS} epochs, else epoch.",
    )
    rung_rows: int | None = Field(
        default=500,
        gt=0,
        description="Reports within an epoch are measured on so many rows of the validation part, the same in every"
        " trial; null: on all.",
    )


_LEAST_SHARE = 0.01
_MOST_GPUS = 10_000


class ResourcesSection(Section):
    cpu: int = Field(default=1, gt=0, le=4096, description="CPU cores, and torch threads, of a trial.")
    gpu: float | Literal["auto"] = Field(
        default="auto",
        description="auto: a share by predicted need where there are GPUs; or a fixed share, or a number of them.",
    )
    passes: int = Field(
        default=4, gt=0, description="With gpu: auto, the smallest share in which a step takes so many passes at most."
    )

    @field_validator("gpu", mode="before")
    @classmethod
    def _auto_or_share_or_whole(cls, gpu: object) -> object:
        # Studies begun before shares by need existed have null in their configuration.
        if gpu is None or gpu == "auto":
            return "auto"
        if isinstance(gpu, bool) or not isinstance(gpu, int | float):
            raise ValueError("expected auto, a share such as 0.25, or a whole number of GPUs")
        if gpu < 0:
            raise ValueError("a number of GPUs is greater than or equal to 0; give auto, a share such as 0.25, or 1")
        if 0 < gpu < _LEAST_SHARE:
            raise ValueError(f"a share of a GPU is at least {_LEAST_SHARE}; give a larger one, or auto")
        if not gpu <= _MOST_GPUS:
            raise ValueError(f"no trial runs on more than {_MOST_GPUS} GPUs; give auto, a share such as 0.25, or 1")
        if gpu > 1 and gpu != int(gpu):
            raise ValueError("above 1 only whole numbers of GPUs can be given; use a share such as 0.5, or 1")
        return float(gpu)


_A_YEAR_S = 365 * 24 * 3600


class TrialSection(Section):
    timeout_s: float | None = Field(
        default=12 * 3600,
        gt=0,
        le=_A_YEAR_S,
        description="Seconds without a report (of loading, an epoch, its evaluation) after which a worker is ended and"
        " its trial run again; null: never.",
    )


_TRACKING_URI = r"(https?|(sqlite|postgresql|mysql|mssql)(\+\w+)?)://.|databricks\b"


class TrackingSection(Section):
    enabled: bool = True
    uri: str | None = Field(
        default=None, description="MLflow server or database; null: mlflow.db beside the run directory."
    )

    @field_validator("uri")
    @classmethod
    def _names_a_server_or_a_database(cls, url: str | None) -> str | None:
        if _checked_database(url) is not None and not re.match(_TRACKING_URI, str(url)):
            raise ValueError("names no MLflow server or database; give one such as http://host:5000, or null")
        return url


def _count_or_none(value: object) -> object:
    if value == "none" or (type(value) is int and value >= 0):
        return value
    raise ValueError("expected none, or a whole number from 0 on")


class CheckpointSection(Section):
    keep: Annotated[int | Literal["none"], BeforeValidator(_count_or_none)] = Field(
        default=3,
        description="The checkpoints of the best so many trials are kept. none: not even running trials write any, and"
        " one that is cut short starts again.",
    )
    dir: str | None = Field(
        default=None,
        description="Folder or storage URI (s3://…) for them, in reach of every node; null: in the run directory.",
    )

    @field_validator("dir")
    @classmethod
    def _names_a_store(cls, folder: str | None) -> str | None:
        return folder and _checked_place(folder)


class PinnedSection(Section):
    """Origin of an exported configuration's result, for comparison when it is trained again."""

    study: str
    trial: int
    value: float
    further: dict[str, float] = Field(default={}, description="Values of the objectives after the first.")
    epoch: int | None
    data_fingerprint: str
    device: str
    versions: dict[str, str]


LimitName = Literal["predicted", "users_families"]
Limit = LimitName | LimitSet
_LIMIT_NAMES = (*get_args(LimitName), *NAMED_LIMITS)


def _parsed_limits(value: object) -> tuple[Limit, ...]:
    """Parse one limit or a list of them; None means no limits."""
    given = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    limits: list[Limit] = []
    for item in given:
        limit = _parsed_limit(item)
        if limit in limits:
            raise UserError(f"limits: {quoted(item)} stands there twice; drop one")
        limits.append(limit)
    return tuple(limits)


def _parsed_limit(value: object) -> Limit:
    if isinstance(value, LimitSet):
        return value
    if isinstance(value, str) and value in _LIMIT_NAMES:
        return LimitSet.model_validate({"from": value}) if value in NAMED_LIMITS else cast("LimitName", value)
    if not isinstance(value, Mapping):
        hint = nearest(value, _LIMIT_NAMES) if isinstance(value, str) else ""
        raise UserError(
            f"limits: {quoted(value)}: unknown{hint} (known: {', '.join(_LIMIT_NAMES)}; or limits of your own, or a"
            " list of these, or null for none)"
        )
    try:
        return LimitSet.model_validate(dict(value))
    except ValidationError as error:
        raise UserError(_one_line(error, "limits", root=LimitSet, prefix=("limits",))) from None


def _parsed_space(value: object) -> Space | None:
    if value is None or isinstance(value, Space):
        return value
    if isinstance(value, Mapping):
        for name, entry in value.items():
            # The error of a bare value advises to set it outside the space: only a setting can be.
            if isinstance(name, str) and isinstance(entry, str | int | float) and name not in setting_names():
                _check_parameter(name)
    try:
        return parse_space(value)
    except SpaceError as error:
        raise UserError(str(error)) from None


class RunConfig(Section):
    """Configuration of one run. A search varies the settings in ``space``; all others are fixed."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    study: StudySection
    data: DataSection
    task: TaskSection = TaskSection()
    model: ModelSection = ModelSection()
    tok: TokSection = TokSection()
    head: HeadSection = HeadSection()
    loss: LossSection = LossSection()
    optim: OptimSection = OptimSection()
    schedule: ScheduleSection = ScheduleSection()
    train: TrainSection = TrainSection()
    augment: AugmentSection = AugmentSection()
    memory: MemorySection = MemorySection()
    search: SearchSection = SearchSection()
    scheduler: SchedulerSection = SchedulerSection()
    resources: ResourcesSection = ResourcesSection()
    trial: TrialSection = TrialSection()
    limits: Annotated[tuple[Limit, ...], BeforeValidator(_parsed_limits)] = Field(
        default=("predicted",),
        description="What turns samples away: predicted, users_24gb, users_families, own limits per model size, a list"
        " of these, or null for nothing.",
    )
    tracking: TrackingSection = TrackingSection()
    checkpoint: CheckpointSection = CheckpointSection()
    space: Annotated[Space | None, BeforeValidator(_parsed_space)] = None
    pinned: PinnedSection | None = None

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        _check_metric(self)
        if self.space is not None:
            _check_several(self)
            _check_scheduler(self)
            _check_space(self, self.space)
        return self

    @property
    def unit(self) -> Unit:
        """Unit of the trials' reports and the schedulers' steps."""
        return Unit.of(folds=self.data.folds, epochs=self.train.epochs, per_epoch=self._per_epoch)

    @property
    def _per_epoch(self) -> int:
        rung = self.scheduler.rung
        if self.space is None or rung == "epoch":
            return 1
        if rung == "auto":
            # If the first rung is a whole epoch or later, reports within the first epoch decide nothing.
            stops_early = self.scheduler.name != "none" and (self.scheduler.warmup or 0) < 1
            return 2 if stops_early and self.train.epochs <= _FEW_EPOCHS else 1
        return round(1 / rung)

    @property
    def first_rung(self) -> int:
        """First step at which a scheduler may stop a trial."""
        warmup = self.scheduler.warmup
        return 1 if warmup is None else math.ceil(warmup * self.unit.per_epoch)

    def with_reports(self, per_epoch: int) -> "RunConfig":
        """Return this configuration with another number of reports an epoch."""
        rung: float | str = "epoch" if per_epoch == 1 else 1 / per_epoch
        return self.model_copy(update={"scheduler": self.scheduler.model_copy(update={"rung": rung})})

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Objectives of a search. The first one, a metric of the task, compares the epochs of a trial."""
        names = [metric.name for metric in self.search.metric] or [self.trial_settings().task.metric]
        return tuple(Objective(name, _mode(name)) for name in names)

    @property
    def study_folder(self) -> str:
        """Folder on this machine that holds the run directories; for a store's URI, that of the working copies."""
        place = self.study.dir
        return str(working_copies(place)) if is_store(place) else place.rstrip("/")

    @property
    def run_dir(self) -> str:
        """The study's run directory on this machine."""
        return f"{self.study_folder}/{self.study.name}"

    @property
    def place(self) -> str:
        """Path or URI by which people name the study: its run directory, or its location in a store."""
        return below(self.study.dir, self.study.name)

    @property
    def checkpoint_dir(self) -> str:
        """Storage location of the study's checkpoints: a folder, or a URI."""
        return below(self.checkpoint.dir or self.study.dir, self.study.name)

    def named(self, name: str) -> "RunConfig":
        """Return this configuration for a study of another name.

        Raises:
            UserError: the name is invalid.
        """
        try:
            study = StudySection.model_validate({**self.study.model_dump(), "name": name})
        except ValidationError as error:
            raise UserError(f"study.name: {_problem(error.errors()[0], name)}; set a shorter study.name") from None
        return self.model_copy(update={"study": study})

    def stored_in(self, url: str | None) -> "RunConfig":
        """Return this configuration with its study in another database, or, with None, in its run directory."""
        return self.model_copy(update={"study": self.study.model_copy(update={"storage": url})})

    def fixed_params(self) -> Params:
        """Return every searchable setting by its dotted name, with its value outside the space."""
        return {
            f"{section}.{field}": value
            for section in SEARCHABLE
            for field, value in getattr(self, section).model_dump().items()
            if isinstance(value, bool | int | float | str)
        }

    def active_space(self) -> ActiveSpace:
        """Return the space with the fixed settings that decide which parameters a trial reads. A space must be set."""
        assert self.space is not None
        return ActiveSpace(self.space, self.fixed_params())

    def fixed_for_study(self) -> dict[str, Any]:
        """Return the settings outside the space that a trial's value depends on, by dotted name.

        They exclude the settings that affect only a trial's speed, the number of trials, or the choice of objectives.
        """
        sections = {section: getattr(self, section).model_dump() for section in SEARCHABLE}
        values = {f"{section}.{name}": value for section, fields in sections.items() for name, value in fields.items()}
        values |= {
            "data.validation_share": self.data.validation_share,
            "data.test_share": self.data.test_share,
            "data.folds": self.data.folds,
            "search.seed": self.search.seed,
            "task.classes": self.task.count,
            "task.labels": _own_names(self.task.labels),
        }
        searched = self.space.entries if self.space else {}
        return {name: value for name, value in values.items() if name not in searched and name not in _NOT_COMPARED}

    def with_classes(self, names: Sequence[str]) -> "RunConfig":
        """Return this configuration with the classes that its data holds.

        Raises:
            UserError: ``task.classes`` is another number, or another setting does not fit this number of classes.
        """
        if self.task.classes not in (None, len(names)):
            listed = ", ".join(names[:20])
            raise UserError(
                f"task.classes: {self.task.classes}: the data holds {len(names)} classes ({listed}), and a class"
                " without rows lowers every mean over classes; leave task.classes out"
            )
        task = {**self.task.model_dump(), "classes": len(names), "labels": tuple(names)}
        try:
            return RunConfig.model_validate({**dict(self), "task": task})
        except ValidationError as error:
            raise UserError(_one_line(error, "the configuration")) from None

    def with_params(self, params: Mapping[str, Scalar]) -> "RunConfig":
        """Return this configuration with a sample's values in place and without a space."""
        sections: dict[str, dict[str, Any]] = {}
        for name, value in params.items():
            section, field = name.split(".", 1)
            sections.setdefault(section, getattr(self, section).model_dump())[field] = value
        update: dict[str, Any] = {
            section: type(getattr(self, section)).model_validate(values) for section, values in sections.items()
        }
        return self.model_copy(update={**update, "space": None})

    def trial_settings(self) -> plain.TrialSettings:
        """Return the settings of a trial without sampled values, as the plain data that ``trainables`` takes."""
        data = self.data.model_dump()
        columns = plain.ColumnNames(**data.pop("columns"))
        task = {**self.task.model_dump(), "classes": self.task.count}
        if self.search.metric:
            task["objective"] = self.search.metric[0].name
        return plain.TrialSettings(
            data=plain.DataSettings(**data, columns=columns),
            seeds=trial_seeds(self.search.seed),
            task=plain.TaskSettings(**task),
            model=plain.ModelSettings(**self.model.model_dump()),
            tok=plain.TokSettings(**self.tok.model_dump()),
            head=plain.HeadSettings(**self.head.model_dump()),
            loss=plain.LossSettings(**self.loss.model_dump()),
            optim=plain.OptimSettings(**self.optim.model_dump()),
            schedule=plain.ScheduleSettings(**self.schedule.model_dump()),
            train=plain.TrainSettings(**self.train.model_dump()),
            augment=plain.AugmentSettings(**self.augment.model_dump()),
            memory=plain.MemorySettings(**self.memory.model_dump()),
            rungs=plain.RungSettings(per_epoch=self.unit.per_epoch, rows=self.scheduler.rung_rows),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data from which ``parse_config`` makes an equal configuration."""
        values = self.model_dump(mode="python", by_alias=True, exclude={"space"})
        limits = list(values["limits"])
        if self.task.labels is not None:
            values["task"]["labels"] = list(self.task.labels)
        values["limits"] = limits if len(limits) > 1 else limits[0] if limits else None
        metrics = [metric.name for metric in self.search.metric]
        values["search"]["metric"] = metrics if len(metrics) > 1 else metrics[0] if metrics else None
        if self.pinned is None:
            del values["pinned"]
        if self.space is not None:
            values["space"] = self.space.as_dict()
        return values


SEARCHABLE = ("model", "tok", "head", "loss", "optim", "schedule", "train", "augment", "task")
# The first two affect only a trial's speed; the record names the objectives separately.
_NOT_COMPARED = ("train.tf32", "train.checkpointing", "task.objective")
_FIXED_PER_STUDY = {
    "task.name": "another task is another study; set it outside the space",
    "task.classes": "set it outside the space",
    "task.labels": "set it outside the space",
    "task.objective": "values of different metrics cannot be compared; set it outside the space",
    "train.epochs": "it is the scheduler's unit; set it outside the space",
    "train.precision": "set it outside the space",
    "train.tf32": "set it outside the space",
    "train.patience": "set it outside the space",
    "model.revision": "set it outside the space",
}


def _own_names(labels: Sequence[str] | None) -> list[str] | None:
    """Return the class names for a study's record; None if they are the classes' numbers, as in every older study."""
    return None if labels is None or tuple(labels) == plain.numbered(len(labels)) else list(labels)


def searchable_names() -> list[str]:
    """Return the dotted names that a space may vary."""
    names = [f"{section}.{field}" for section in SEARCHABLE for field in _section(section).model_fields]
    return [name for name in names if name not in _FIXED_PER_STUDY]


def _check_parameter(name: str) -> None:
    """Refuse a name in the space that no parameter has.

    Raises:
        UserError: the name is unknown; the message names the parameter that it may mean, or the known ones.
    """
    if name not in searchable_names():
        raise UserError(f"space.{short(name)}: no such parameter{_parameter_hint(name)}")


def _parameter_hint(name: str) -> str:
    names, section = searchable_names(), name.partition(".")[0]
    if found := meant(name, names):
        return f"; did you mean {found}?"
    if found := meant(name, setting_names()):
        return f"; did you mean {found}, which is set outside the space?"
    beside = [other for other in names if other.startswith(f"{section}.")]
    return f" (known: {', '.join(beside)})" if beside else f" (known: settings of {', '.join(SEARCHABLE)})"


def _section(name: str) -> type[Section]:
    annotation = RunConfig.model_fields[name].annotation
    assert isinstance(annotation, type)
    return annotation


def _mode(metric: str) -> Mode:
    return "min" if any(metric in costs for costs in plain.COSTS.values()) else "max"


def _check_metric(config: RunConfig) -> None:
    """Refuse objectives that trials of the task do not measure, or that are ambiguous.

    Raises:
        UserError: an objective is refused; the message names it and the remedy.
    """
    task, names = config.task, [metric.name for metric in config.search.metric]
    scores, costs = plain.OBJECTIVES[task.name], plain.COSTS[task.name]
    for metric in config.search.metric:
        name, mode = metric.name, _mode(metric.name)
        if name not in (*scores, *costs):
            hint = nearest(name, [*scores, *costs])
            raise UserError(
                f"search.metric: {quoted(name)} is nothing that task {task.name} measures{hint}"
                f" (known: {', '.join((*scores, *costs))})"
            )
        if metric.mode not in (None, mode):
            better = "larger" if mode == "max" else "smaller"
            raise UserError(
                f"search.metric: {name} with mode {metric.mode}: a {better} {name} is better; set mode: {mode}, or"
                " leave mode out"
            )
        if names.count(name) > 1:
            raise UserError(f"search.metric: {name} stands there twice; drop one")
        if name == "binary_f1" and task.count > 2:
            raise UserError(f"search.metric: binary_f1 is for two classes, and there are {task.count}; drop it")
    if not names:
        return
    if names[0] not in scores:
        raise UserError(
            f"search.metric: {names[0]} comes first, but the epochs of a trial are compared by the first, which must be"
            f" a score of task {task.name}; put one of {', '.join(scores)} before it, e.g. [{scores[0]}, {names[0]}]"
        )
    if task.objective not in (None, names[0]):
        raise UserError(
            f"task.objective: {task.objective} stands beside search.metric, whose first is {names[0]}; drop"
            f" task.objective, or put {task.objective} first"
        )


def _check_several(config: RunConfig) -> None:
    """Refuse settings that do not suit the number of objectives.

    Raises:
        UserError: a setting is refused; the message names it.
    """
    names = [metric.name for metric in config.search.metric]
    if len(names) > 1 and config.scheduler.name != "none":
        raise UserError(
            f"scheduler.name: {config.scheduler.name} stops trials by one objective, and search.metric names"
            f" {len(names)} ({', '.join(names)}); set scheduler.name=none, or keep one"
        )
    if len(names) <= 1 and config.search.sampler == "nsga2":
        raise UserError(
            "search.sampler: nsga2 is for several objectives; name them in search.metric, e.g."
            f" [{config.objectives[0].name}, peak_gib], or set search.sampler=tpe"
        )


def _check_scheduler(config: RunConfig) -> None:
    """Refuse a scheduler that could never stop a trial, or could not resume one.

    Raises:
        UserError: the scheduler has no rung before the last report, or pauses trials that write no checkpoints.
    """
    scheduler, unit = config.scheduler, config.unit
    if scheduler.name == "hyperband" and config.checkpoint.keep == "none":
        raise UserError(
            "checkpoint.keep: none, and hyperband has paused trials go on from their checkpoints; keep 0 or more, or"
            " set scheduler.name=asha"
        )
    if unit.is_fold and isinstance(scheduler.rung, float):
        raise UserError(
            f"scheduler.rung: {scheduler.rung:g} is a share of an epoch, and with data.folds {config.data.folds} trials"
            " report folds; set scheduler.rung=auto, or data.folds=null"
        )
    if scheduler.name == "none":
        return
    if stopping_steps(scheduler.name, unit.count, config.first_rung, scheduler.reduction_factor):
        return
    elsewhere = f"raise {unit.setting}, or set scheduler.name=none"
    if scheduler.name == "hyperband":
        factor = scheduler.reduction_factor
        raise UserError(
            f"scheduler.reduction_factor: {factor} leaves hyperband nothing to stop: of {unit} ({unit.setting}) no rung"
            f" lies later than after {unit.count} / {factor}, rounded down {unit.count // factor}, which is less than"
            f" scheduler.warmup {config.first_rung}; lower either, {elsewhere}"
        )
    if scheduler.warmup is None:
        raise UserError(
            f"scheduler.rung: {scheduler.rung} leaves {scheduler.name} nothing to stop: a trial reports {unit}"
            f" ({unit.setting}), and ends with the last one anyway; set scheduler.rung=0.25, {elsewhere}"
        )
    raise UserError(
        f"{WARMUP}: {scheduler.warmup} leaves {scheduler.name} nothing to stop: a trial reports {unit}"
        f" ({unit.setting}), and ends with the last one anyway; lower it, {elsewhere}"
    )


def _check_space(config: RunConfig, space: Space) -> None:
    for name, entry in space.entries.items():
        if name in _FIXED_PER_STUDY:
            raise UserError(f"space.{name}: cannot be searched: {_FIXED_PER_STUDY[name]}")
        _check_parameter(name)
        section, field = name.split(".", 1)
        values = getattr(config, section).model_dump()
        for value in entry.examples:
            try:
                _section(section).model_validate({**values, field: value})
            except ValidationError as error:
                raise UserError(f"space.{name}: {_problem(error.errors()[0], value)}") from None
    active = config.active_space()
    for name, condition in active.never_read().items():
        deciding = space.entries.get(condition.name)
        is_now = f"may be {deciding} only" if deciding else f"is {active.fixed[condition.name]}"
        raise UserError(
            f"space.{name}: nothing reads it: it is used only with {condition}, but {condition.name} {is_now}; set"
            f" that, or drop space.{name}"
        )
    if config.search.sampler == "exhaustive" and active.size is None:
        endless = next(name for name, entry in space.entries.items() if entry.size is None)
        raise UserError(
            f"search.sampler: exhaustive cannot list the float range space.{endless}; give it choices, or use"
            " tpe or random"
        )


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read one YAML file, apply ``KEY=VALUE`` overrides and check everything.

    Raises:
        UserError: the file or a setting is wrong; the message names it, its value and the remedy in one line.
    """
    return parse_config(_read_yaml(Path(path)), overrides, where=str(path))


def parse_config(raw: dict[str, Any], overrides: Sequence[str] = (), where: str = "the configuration") -> RunConfig:
    """Apply overrides to plain data and check it; see ``load_config``."""
    raw = copy.deepcopy(raw)
    named = None
    in_epochs = _rename_warmup(raw)
    _keep_split(raw)
    for override in overrides:
        if override.startswith("space.") and not override.startswith(f"space.{FROM}="):
            # Write the named space out first: the override may change a single field of an entry, or remove it.
            named = write_out(raw, _check_parameter) or named
        _apply_override(raw, override)
        name = override.partition("=")[0].strip()
        in_epochs = name == OLD_WARMUP or (in_epochs and name != WARMUP)
    named = write_out(raw, _check_parameter) or named
    try:
        if named is not None:
            settle(raw, named, _fixed_outside)
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        raise UserError(_one_line(error, where)) from None
    if in_epochs and config.unit.is_fold:
        raise UserError(
            f"{OLD_WARMUP}: {config.scheduler.warmup} counts epochs, and with data.folds {config.data.folds} trials"
            f" report folds; give {WARMUP} instead, in folds"
        )
    return _with_absolute_paths(config)


def _fixed_outside(raw: dict[str, Any]) -> Params:
    return RunConfig.model_validate({**raw, "space": None}).fixed_params()


WARMUP, OLD_WARMUP = "scheduler.warmup", "scheduler.warmup_epochs"
"""A setting, and its old name from before folds existed, which is still accepted."""


def _keep_split(raw: dict[str, Any]) -> None:
    """Keep the split of an export from before ``data.equal_texts`` existed the same as in its study."""
    if raw.get("pinned") is not None and isinstance(raw.get("data"), dict):
        raw["data"].setdefault("equal_texts", "apart")


def _rename_warmup(raw: dict[str, Any]) -> bool:
    """Rename the old warmup setting, and return whether it was there."""
    scheduler = raw.get("scheduler")
    old, new = OLD_WARMUP.split(".")[1], WARMUP.split(".")[1]
    if not isinstance(scheduler, dict) or old not in scheduler:
        return False
    if new in scheduler:
        raise UserError(f"{OLD_WARMUP}: {scheduler[old]} stands beside {WARMUP}, its new name; keep one of them")
    scheduler[new] = scheduler.pop(old)
    return True


def dump_yaml(values: Mapping[str, Any], target: Path, comment: str = "") -> None:
    """Write plain data as YAML, completely or not at all."""
    building = target.with_name(f".{target.name}.{os.getpid()}")
    with building.open("w", encoding="utf-8") as stream:
        if comment:
            stream.write("".join(f"# {printable(line)}\n" for line in comment.splitlines()))
        yaml = YAML()
        yaml.width = 120
        yaml.default_flow_style = False
        yaml.dump(dict(values), stream)
    os.replace(building, target)


_MOST_CHARACTERS = 100_000
_MOST_VALUES = 50_000
_MOST_LEVELS = 50


class _BoundedConstructor(SafeConstructor):
    """YAML constructor of plain data that refuses documents whose aliases expand to excessive data."""

    def construct_document(self, node: Node) -> Any:
        _count_values(node, {}, level=0)
        return super().construct_document(node)


def _count_values(node: Node, counts: dict[int, int], level: int) -> int:
    """Count the values under a node, itself included and with every alias expanded.

    Args:
        counts: counts of nodes so far, by the nodes' ``id``; this function fills it.
        level: nesting level of the node.

    Raises:
        MarkedYAMLError: there are too many values, they are nested too deeply, or a value contains itself.
    """
    if level > _MOST_LEVELS:
        raise MarkedYAMLError(problem=f"more than {_MOST_LEVELS} levels", problem_mark=node.start_mark)
    if isinstance(node, ScalarNode):
        return 1
    if id(node) not in counts:
        parts = [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else node.value
        counts[id(node)] = 1 + sum(_count_values(part, counts, level + 1) for part in parts)
    if counts[id(node)] > _MOST_VALUES:
        raise MarkedYAMLError(problem=f"more than {_MOST_VALUES} values", problem_mark=node.start_mark)
    return counts[id(node)]


def _parse_yaml(text: str) -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _BoundedConstructor
    with warnings.catch_warnings():
        # YAML 1.2 allows an anchor to be defined again.
        warnings.simplefilter("ignore", ReusedAnchorWarning)
        return yaml.load(text)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        require_file(path)
        with path.open(encoding="utf-8-sig") as file:
            # Limit the length, since the path may be that of a data file.
            text = file.read(_MOST_CHARACTERS + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a YAML configuration") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give the path of a YAML configuration") from None
    except NotAFileError as error:
        raise UserError(f"{path}: {error}; give the path of a YAML configuration") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}); give a YAML configuration") from None
    if len(text) > _MOST_CHARACTERS:
        raise UserError(f"{path}: holds more than {_MOST_CHARACTERS} characters; give a YAML configuration")
    try:
        raw = _parse_yaml(text)
    except DuplicateKeyError as error:
        named = re.search(r'found duplicate key "([^"]+)"', str(error))
        key = named.group(1) if named else "a key"
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path}:{line}: {key} is given twice; keep one of them") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {first_line(error)}") from None
    if raw is None:
        raise UserError(f"{path}: is empty; a configuration needs at least study.name and data.path")
    if not isinstance(raw, dict):
        raise UserError(f"{path}: holds {type(raw).__name__}, not sections of settings such as study: and data:")
    return raw


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    key = WARMUP if key.strip() == OLD_WARMUP else key.strip()
    if not sign or not key:
        raise UserError(f"-s {short(override)}: expected KEY=VALUE, e.g. -s train.epochs=5")
    try:
        value = _parse_yaml(text) if text.strip() else None
    except (YAMLError, ValueError, RecursionError):
        raise UserError(f"-s {key}: {quoted(text)} is not valid YAML; quote it, e.g. -s {key}='[8, 16]'") from None
    if key == "space" or not key.startswith("space."):
        _set(raw, key.split("."), value, key)
        return
    if raw.get("space") is None:
        raw["space"] = {}
    space = raw["space"]
    if not isinstance(space, dict):
        raise UserError(f"-s {key}: space is no mapping in the configuration; give space entries there first")
    name, field = _split_space_key(key.removeprefix("space."), space)
    if field is not None:
        entry = space.setdefault(name, {})
        if not isinstance(entry, dict):
            raise UserError(f"-s {key}: space.{name} is {quoted(entry)}, no mapping; give {{choices: […]}} first")
        entry[field] = value
    elif value is None:
        _check_parameter(name)
        space.pop(name, None)
    else:
        space[name] = value


_ENTRY_FIELDS = ("choices", "low", "high", "step", "log", "type")


def _split_space_key(key: str, space: Mapping[str, Any]) -> tuple[str, str | None]:
    """Split ``train.batch_size.choices`` into ``train.batch_size`` and ``choices``; names themselves contain dots."""
    name, _, field = key.rpartition(".")
    if key in space or not name:
        return key, None
    if field in _ENTRY_FIELDS:
        return name, field
    if name in space:
        raise UserError(
            f"-s space.{key}: an entry of the space has no {field}{nearest(field, _ENTRY_FIELDS)}"
            f" (known: {', '.join(_ENTRY_FIELDS)})"
        )
    return key, None


def _set(raw: dict[str, Any], path: list[str], value: object, key: str) -> None:
    if path[0] == "limits" and len(path) > 1:
        raw, path = _own_limits(raw), path[1:]
    for depth, part in enumerate(path[:-1]):
        child = raw.get(part)
        if child is None:
            child = raw[part] = {}
        if not isinstance(child, dict):
            raise UserError(f"-s {key}: {'.'.join(path[: depth + 1])} is {quoted(child)}, which has no settings in it")
        raw = child
    raw[path[-1]] = value


def _own_limits(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the user's own limits among ``limits``, ready to be changed; add empty ones if there are none."""
    given = raw.get("limits", "predicted")
    limits = [] if given is None else list(given) if isinstance(given, list) else [given]
    for place, limit in enumerate(limits):
        if isinstance(limit, str) and limit in NAMED_LIMITS:
            limits[place] = {"from": limit}
    own = next((limit for limit in limits if isinstance(limit, dict)), None)
    if own is None:
        own = {}
        limits.append(own)
    raw["limits"] = limits
    return own


def _one_line(
    error: ValidationError, where: str, *, root: type[BaseModel] | None = None, prefix: Sequence[str] = ()
) -> str:
    """Return a validation error as one line.

    Args:
        where: source of the configuration, for the message.
        root: model that was validated; None means RunConfig.
        prefix: path of that model in the configuration.
    """
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    setting = ".".join([*prefix, *map(short, path)])
    if first["type"] == "extra_forbidden":
        known = _keys_at(path[:-1], root)
        is_local = root is not None or any(part.isdecimal() for part in path)
        hint = nearest(path[-1], known) if is_local else _hint(".".join(path), first["input"])
        return f"{setting}: unknown setting" + (hint or f" (known here: {', '.join(known)})")
    if first["type"] == "missing":
        return f"{setting}: is missing from {where}; add it, or give it with -s {setting}=…"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, _FieldError):
        return f"{setting}.{cause.field}: {quoted(cause.value)}: {cause}"
    return f"{setting}: {_problem(first, first['input'])}"


def _hint(name: str, value: object) -> str:
    """Return a question that suggests a known setting for an unknown one; empty if none is close."""
    sections = list(RunConfig.model_fields)
    found = meant(name, sections) if isinstance(value, Mapping) and "." not in name else None
    found = found or meant(name, setting_names())
    return f"; did you mean {found}?" if found else ""


def setting_names() -> list[str]:
    """Return the dotted names of all settings."""
    return _names_in(RunConfig, "")


def _names_in(section: type[BaseModel], prefix: str) -> list[str]:
    names: list[str] = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += _names_in(inner, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def _problem(details: Any, value: object) -> str:
    message = str(details["msg"]).removeprefix("Value error, ")
    kinds = {
        "int_type": "expected a whole number",
        "int_from_float": "expected a whole number",
        "float_type": "expected a number",
        "finite_number": "expected a finite number",
        "string_type": "expected text",
        "bool_type": "expected true or false",
        "model_type": "expected settings (key: value)",
    }
    message = kinds.get(details["type"], message[:1].lower() + message[1:])
    if details["type"] == "greater_than_equal":
        # Pydantic writes 1e-20 with all its digits.
        message = f"input should be greater than or equal to {details['ctx']['ge']:g}"
    if value is None and details["type"] in kinds:
        message += "; leave the setting out for its default"
    if details["type"] == "literal_error":
        options = re.findall(r"'([^']*)'", str(details["ctx"]["expected"]))
        message = f"expected one of {', '.join(options)}"
        if isinstance(value, str):
            message += nearest(value, options)
    return f"{quoted(value)}: {message}"


def _keys_at(path: Iterable[str], root: type[BaseModel] | None = None) -> list[str]:
    model: Any = root or RunConfig
    for part in path:
        if part.isdecimal():
            # The part is a list index, and the annotation of the list already gives its items' model.
            continue
        field = model.model_fields.get(part)
        model = field.annotation if field else None
        if model is not None and not isinstance(model, type):
            model = next((arg for arg in getattr(model, "__args__", ()) if isinstance(arg, type)), None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with absolute paths. Relative ones are relative to the working directory.

    Raises:
        UserError: a URL lacks its password or has an unescaped one, or ``data.path`` is a URL.
    """
    update: dict[str, Any] = {}
    study, data, tracking = config.study, config.data, config.tracking
    for name, url in (("study.storage", study.storage), ("tracking.uri", tracking.uri)):
        if url and lacks_password(url):
            raise UserError(f"{name}: {url}: its password was left out of this file; give the URL with -s {name}=…")
    for name, url in (
        ("study.storage", study.storage),
        ("tracking.uri", tracking.uri),
        ("study.dir", study.dir),
        ("checkpoint.dir", config.checkpoint.dir),
    ):
        check_password(name, url or "")
    if "://" in data.path:
        raise UserError(f"data.path: {data.path} is an address, and data is read from files; download it first")
    if data.path != "demo":
        update["data"] = data.model_copy(update={"path": _absolute(data.path)})
    update["study"] = study.model_copy(
        update={"dir": _absolute_folder(study.dir), "storage": study.storage and with_absolute_file(study.storage)}
    )
    if config.checkpoint.dir is not None:
        folder = _absolute_folder(config.checkpoint.dir)
        update["checkpoint"] = config.checkpoint.model_copy(update={"dir": folder})
    update["tracking"] = tracking.model_copy(update={"uri": tracking.uri and with_absolute_file(tracking.uri)})
    model = config.model
    second = model.criteria_name and _absolute_model(model.criteria_name)
    update["model"] = model.model_copy(update={"name": _absolute_model(model.name), "criteria_name": second})
    if config.space is not None:
        absolute = {
            name: {"choices": [_absolute_model(str(choice)) for choice in entry.choices]}
            for name, entry in config.space.entries.items()
            if name in _MODELS and isinstance(entry, Choices)
        }
        if absolute:
            update["space"] = _parsed_space({**config.space.entries, **absolute})
    return config.model_copy(update=update)


_MODELS = ("model.name", "model.criteria_name")


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _absolute_folder(folder: str) -> str:
    """Return a folder's absolute path, also for a ``file:`` URI; return any other URI unchanged."""
    if folder.startswith("file:///"):
        folder = url2pathname(urlsplit(folder).path)
    return folder if "://" in folder else _absolute(folder)


def _absolute_model(name: str) -> str:
    """Return a local folder's absolute path; return a built-in or hub name unchanged."""
    is_folder = name not in (*BUILTIN_NAMES, OFFLINE_NAME) and os.path.isdir(os.path.expanduser(name))
    return _absolute(name) if is_folder else name
