"""A trial's settings as plain, frozen dataclasses.

The names of the nested fields are the dotted names that users write and search over: ``TrialSettings.optim.lr`` is
``optim.lr``. The builder of these objects (``tune_app.config``) validates them; a trial trusts them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns in the user's file.

    Without ``criterion`` texts stand alone; without ``group_id`` every row is its own group.
    """

    text: str = "text"
    criterion: str | None = "criterion"
    label: str = "label"
    group_id: str | None = "group_id"
    evidence_start: str = "evidence_start"
    evidence_end: str = "evidence_end"


@dataclass(frozen=True)
class DataSettings:
    """The source of the rows and their split; the same for every trial of a study.

    Without ``folds`` trials train on one training part and are scored on one validation part. With ``folds`` they do so
    on that many folds, one after the other. The test part is the same either way. Groups that hold equal texts go to
    one part (``together``), unless ``equal_texts`` is ``apart``.
    """

    path: str
    columns: ColumnNames = field(default_factory=ColumnNames)
    max_rows: int | None = None
    equal_texts: Literal["together", "apart"] = "together"
    validation_share: float = 0.2
    test_share: float = 0.2
    folds: int | None = None
    num_workers: int = 0
    pin_memory: bool = True


# Tables that need no task module, so that planning and reporting need no torch.
OBJECTIVES = {
    "criteria": ("macro_f1", "accuracy", "binary_f1", "auc"),
    "evidence": ("token_f1", "exact_match"),
    "share": ("mean_score", "macro_f1", "exact_match", "token_f1"),
    "joint": ("mean_score", "macro_f1", "exact_match", "token_f1"),
}
"""By task, the metrics that a search may improve, larger being better; the first is the default."""

_MEASURED_OF_ALL = ("peak_gib", "seconds_per_sample")
COSTS = {
    "criteria": ("calibration_error", *_MEASURED_OF_ALL),
    "evidence": _MEASURED_OF_ALL,
    "share": ("calibration_error", *_MEASURED_OF_ALL),
    "joint": ("calibration_error", *_MEASURED_OF_ALL),
}
"""By task, the costs that a search may lower beside improving a metric; smaller is better."""


def numbered(classes: int) -> tuple[str, ...]:
    """Return class names that are the classes' numbers."""
    return tuple(map(str, range(classes)))


@dataclass(frozen=True)
class TaskSettings:
    """The task to learn.

    ``labels`` are the names of the ``classes`` in their order; without them the data determines the names.
    ``threshold`` (criteria of two classes) and ``null_threshold`` (spans) decide between yes and no: a number, or
    ``tuned`` on validation. Spans are at most ``max_answer_length`` tokens long and combine the ``n_best`` likeliest
    starts and ends of each window. ``criteria_weight`` is the share of the criteria's loss beside the spans'.
    """

    name: str = "criteria"
    classes: int = 2
    labels: tuple[str, ...] | None = None
    objective: str | None = None
    threshold: float | Literal["tuned"] = "tuned"
    null_threshold: float | Literal["tuned"] = "tuned"
    max_answer_length: int = 64
    n_best: int = 20
    criteria_weight: float = 0.5

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes: their labels, or their numbers."""
        return self.labels or numbered(self.classes)

    @property
    def finds_spans(self) -> bool:
        """True if the data must hold evidence."""
        return self.name != "criteria"

    @property
    def metric(self) -> str:
        """Name of the metric that a search improves; larger is better."""
        return self.objective or OBJECTIVES[self.name][0]


@dataclass(frozen=True)
class ModelSettings:
    """The encoders: ``name`` is a built-in encoder, ``minilm-l6``, a local directory or a hub name.

    ``criteria_name`` is the criteria encoder of the task ``joint``; None uses ``name`` again. ``dropout`` and
    ``attention_dropout`` are the encoder's own; None leaves its configuration's values. The first ``freeze_layers``
    layers and everything beneath them are not trained.
    """

    name: str = "minilm-l6"
    criteria_name: str | None = None
    revision: str | None = None
    dropout: float | None = None
    attention_dropout: float | None = None
    freeze_layers: int = 0


@dataclass(frozen=True)
class TokSettings:
    """The inputs' lengths: ``max_length`` counts tokens of the assembled input, special tokens included.

    For spans, texts are cut into windows; each repeats ``doc_stride`` tokens of the previous one.
    """

    max_length: int = 256
    doc_stride: int = 64


@dataclass(frozen=True)
class HeadSettings:
    """The head: ``layers`` hidden layers of ``width``, each followed by ``activation``; 0 layers ignore both."""

    pooling: str = "cls"
    layers: int = 0
    width: int = 768
    activation: str = "gelu"
    dropout: float = 0.1


@dataclass(frozen=True)
class LossSettings:
    """The loss: ``smoothing`` belongs to ``label_smoothing``, ``gamma`` and ``alpha`` to ``focal``.

    No other loss reads them.

    ``alpha`` weighs every class but the first, and 1 - ``alpha`` the first; ``class_weighting`` multiplies these
    weights.
    """

    name: str = "cross_entropy"
    smoothing: float = 0.1
    gamma: float = 2.0
    alpha: float = 0.5
    class_weighting: str = "none"


@dataclass(frozen=True)
class OptimSettings:
    """The optimizer; ``trainables.optimizers`` lists the fields that each optimizer reads.

    ``lr`` is the step size; for ``adafactor`` it is a share of the root mean square of the updated weights. The head
    trains at ``lr``, and each layer of the encoder at ``layer_decay`` times the rate of the layer above.
    ``weight_decay`` is the share of the weights that a step of rate 1 would remove.
    """

    name: str = "adamw"
    lr: float = 5e-5
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True)
class ScheduleSettings:
    """The schedule: ``warmup_ratio`` is the share of all optimizer steps during which the rate rises.

    ``cycles`` counts the cosines of ``cosine_restarts``; ``power`` bends ``polynomial``. No other schedule reads them.
    """

    name: str = "linear"
    warmup_ratio: float = 0.1
    cycles: int = 2
    power: float = 2.0


@dataclass(frozen=True)
class TrainSettings:
    """Training: ``batch_size`` x ``grad_accum`` is the effective batch; ``patience`` counts epochs (None: no limit).

    ``checkpointing`` recomputes activations from the start, whether memory is short or not.
    """

    batch_size: int = 16
    grad_accum: int = 1
    epochs: int = 3
    precision: str = "auto"
    tf32: bool = True
    patience: int | None = None
    clip_norm: float = 1.0
    checkpointing: bool = False

    @property
    def effective_batch(self) -> int:
        return self.batch_size * self.grad_accum


@dataclass(frozen=True)
class AugmentSettings:
    """Augmentation of training texts: ``name`` is none, mask, delete or swap, applied to single tokens.

    ``probability`` is the share of rows that are augmented in an epoch. ``strength`` is the share of a text's tokens
    that change; evidence stays unchanged. ``rows`` is all, or positives: rows of any class but the first.
    """

    name: str = "none"
    probability: float = 0.3
    strength: float = 0.1
    rows: str = "all"


@dataclass(frozen=True)
class MemorySettings:
    """The size of a pass and the memory limits.

    ``micro_batch`` and ``eval_batch`` are the most rows in one forward and backward pass and in one evaluation pass;
    ``auto`` finds them by prediction and probe. The default of ``budget_gib`` is the trial's share of its card, or all
    memory of the host or container on the CPU. ``device_gib`` treats either as a card of that size. ``headroom`` is the
    share of the budget that stays free. ``allow_checkpointing`` lets a trial recompute activations if it would
    otherwise run out of memory, or take more than ``max_accumulation`` passes a step.
    """

    micro_batch: int | Literal["auto"] = "auto"
    eval_batch: int | Literal["auto"] = "auto"
    budget_gib: float | None = None
    device_gib: float | None = None
    headroom: float = 0.10
    allow_checkpointing: bool = True
    max_accumulation: int | None = 16


@dataclass(frozen=True)
class RungSettings:
    """Reports within an epoch: ``per_epoch`` of them, evenly spaced over its optimizer steps, the last at its end.

    ``rows`` is the number of validation rows (a fixed stratified sample) that score the inner rungs; None uses all.
    """

    per_epoch: int = 1
    rows: int | None = None


@dataclass(frozen=True)
class ContentSettings:
    """Fingerprints of the files that the run must read; files without a fingerprint may hold anything.

    ``data`` is the fingerprint of all rows. ``models`` pairs names of model folders with their fingerprints.
    """

    data: str | None = None
    models: tuple[tuple[str, str], ...] = ()

    def of_model(self, name: str) -> str | None:
        """Return the fingerprint of a model's folder; None if it may hold anything."""
        return dict(self.models).get(name)


@dataclass(frozen=True)
class Seeds:
    """Sub-seeds drawn by name from the one master seed (see ``trainables.seeds``)."""

    split: int
    init: int
    order: int
    augment: int


@dataclass(frozen=True)
class TrialSettings:
    """Everything that one training run depends on."""

    data: DataSettings
    seeds: Seeds
    task: TaskSettings = field(default_factory=TaskSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    tok: TokSettings = field(default_factory=TokSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    rungs: RungSettings = field(default_factory=RungSettings)
    content: ContentSettings = field(default_factory=ContentSettings)


def with_params(settings: TrialSettings, params: Mapping[str, bool | int | float | str]) -> TrialSettings:
    """Return the settings with a sample's values applied, given by dotted name.

    Raises:
        KeyError: a name is no setting; the message is that name.
    """
    changed: dict[str, dict[str, Any]] = {}
    for name, value in params.items():
        section, _, field_name = name.partition(".")
        if field_name not in getattr(getattr(settings, section, None), "__dataclass_fields__", {}):
            raise KeyError(name)
        changed.setdefault(section, {})[field_name] = value
    sections = {section: replace(getattr(settings, section), **values) for section, values in changed.items()}
    return replace(settings, **sections)


def encoder_names(settings: TrialSettings) -> tuple[str, ...]:
    """Return the models that a trial loads as encoders: one, or for ``joint`` the evidence and the criteria encoder."""
    model = settings.model
    return (model.name, model.criteria_name or model.name) if settings.task.name == "joint" else (model.name,)


def revision_of(model: ModelSettings, name: str) -> str | None:
    """Return the revision at which a model is loaded: the setting applies to ``model.name`` alone."""
    return model.revision if name == model.name else None
