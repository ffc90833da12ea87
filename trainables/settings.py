"""A trial's settings as plain, frozen dataclasses.

The names of the nested fields are the dotted names users write and search over: ``TrialSettings.optim.lr`` is
``optim.lr``. Validation belongs to whoever builds these objects (``tune_app.config``); a trial trusts them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns in the user's file; without ``group_id`` every row is its own group."""

    text: str = "text"
    criterion: str = "criterion"
    label: str = "label"
    group_id: str | None = "group_id"
    evidence_start: str = "evidence_start"
    evidence_end: str = "evidence_end"


@dataclass(frozen=True)
class DataSettings:
    """Where the rows come from and how they are split; the same for every trial of a study.

    Without ``folds`` trials learn from one training part and are judged by one validation part; with it, by that many
    folds of both, one after the other. The test part is the same either way. Groups that hold equal texts go to one
    part ``together``, unless ``equal_texts`` sets them ``apart``.
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


# Known without loading a task, so that planning and reporting need no torch.
OBJECTIVES = {
    "criteria": ("macro_f1", "accuracy", "binary_f1", "auc"),
    "evidence": ("token_f1", "exact_match"),
    "share": ("mean_score", "macro_f1", "exact_match", "token_f1"),
    "joint": ("mean_score", "macro_f1", "exact_match", "token_f1"),
}
"""By task the metrics that a search may improve, larger being better; the first unless the settings name another."""

_MEASURED_OF_ALL = ("peak_gib", "seconds_per_sample")
COSTS = {
    "criteria": ("calibration_error", *_MEASURED_OF_ALL),
    "evidence": _MEASURED_OF_ALL,
    "share": ("calibration_error", *_MEASURED_OF_ALL),
    "joint": ("calibration_error", *_MEASURED_OF_ALL),
}
"""By task what a search may lower beside improving a metric, smaller being better."""


def numbered(classes: int) -> tuple[str, ...]:
    """Return the names of classes that are called by their numbers."""
    return tuple(map(str, range(classes)))


@dataclass(frozen=True)
class TaskSettings:
    """What is learnt.

    ``labels`` are the names of the ``classes`` in their order; without them the data says what they are. ``threshold``
    (criteria of two classes) and ``null_threshold`` (spans) decide between yes and no: a number, or ``tuned`` on
    validation. Spans are at most ``max_answer_length`` tokens long and made of the ``n_best`` likeliest starts and ends
    of each window. ``criteria_weight`` is the share of the criteria's loss beside the spans'.
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
        """The classes as people call them: by their labels, or by their numbers."""
        return self.labels or numbered(self.classes)

    @property
    def finds_spans(self) -> bool:
        """Whether the data must hold evidence."""
        return self.name != "criteria"

    @property
    def metric(self) -> str:
        """Name of the metric that a search improves; larger is better."""
        return self.objective or OBJECTIVES[self.name][0]


@dataclass(frozen=True)
class ModelSettings:
    """``name`` is a built-in encoder, ``minilm-l6``, a local directory or a hub name.

    ``criteria_name`` is the second encoder of the task ``joint``, which reads for the criteria; None: ``name`` again.
    ``dropout`` and ``attention_dropout`` are the encoder's own; None leaves them as its configuration has them.
    ``freeze_layers`` of its layers, and all beneath them, are not trained.
    """

    name: str = "minilm-l6"
    criteria_name: str | None = None
    revision: str | None = None
    dropout: float | None = None
    attention_dropout: float | None = None
    freeze_layers: int = 0


@dataclass(frozen=True)
class TokSettings:
    """``max_length`` counts tokens of the assembled input, special tokens included.

    Texts that spans are looked for in are cut into windows, each ``doc_stride`` tokens into the one before.
    """

    max_length: int = 256
    doc_stride: int = 64


@dataclass(frozen=True)
class HeadSettings:
    """``layers`` counts hidden layers of ``width``, each followed by ``activation``; without any, neither is read."""

    pooling: str = "cls"
    layers: int = 0
    width: int = 768
    activation: str = "gelu"
    dropout: float = 0.1


@dataclass(frozen=True)
class LossSettings:
    """``smoothing`` belongs to ``label_smoothing``, ``gamma`` and ``alpha`` to ``focal``; no other loss reads them.

    ``alpha`` weighs every class but the first, 1 - ``alpha`` the first, beside what ``class_weighting`` makes of them.
    """

    name: str = "cross_entropy"
    smoothing: float = 0.1
    gamma: float = 2.0
    alpha: float = 0.5
    class_weighting: str = "none"


@dataclass(frozen=True)
class OptimSettings:
    """``trainables.optimizers`` tells which optimizer reads which of them.

    ``lr`` is a step's size, with ``adafactor`` as a share of the root mean square of the weights it moves.
    The head learns at it, each layer of the encoder at ``layer_decay`` times the rate of the one above.
    ``weight_decay`` is what a step of rate 1 would take off the weights.
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
    """``warmup_ratio`` is the share of all optimizer steps during which the rate rises.

    ``cycles`` counts the cosines of ``cosine_restarts``; ``power`` bends ``polynomial``. No other schedule reads them.
    """

    name: str = "linear"
    warmup_ratio: float = 0.1
    cycles: int = 2
    power: float = 2.0


@dataclass(frozen=True)
class TrainSettings:
    """``batch_size`` x ``grad_accum`` is the effective batch; ``patience`` counts epochs (None: never).

    ``checkpointing`` computes activations twice from the start, whether memory is short or not.
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
    """How training texts are told otherwise: ``name`` is none, mask, delete or swap, done to single tokens.

    ``probability`` is the share of the rows that this happens to in an epoch, ``strength`` that of their text's tokens,
    of which evidence is left alone. ``rows`` is all, or positives: those of any class but the first.
    """

    name: str = "none"
    probability: float = 0.3
    strength: float = 0.1
    rows: str = "all"


@dataclass(frozen=True)
class MemorySettings:
    """How much goes into one pass, and the most memory.

    ``micro_batch`` and ``eval_batch`` are the most rows in one forward and backward pass and in one evaluation pass;
    ``auto`` finds them by prediction and probe. Without ``budget_gib`` that is the trial's share of its card, or all
    memory of the host or container on the CPU; ``device_gib`` makes a card of that size of either. ``headroom`` is the
    share of the budget that stays free. ``allow_checkpointing`` lets a trial compute activations twice where it would
    run out of memory otherwise, or take more than ``max_accumulation`` passes a step.
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
    """Reports within an epoch: ``per_epoch``, evenly spaced over its optimizer steps, the last at its end.

    ``rows``: validation rows (a fixed stratified sample) by which the inner ones are evaluated; None: all.
    """

    per_epoch: int = 1
    rows: int | None = None


@dataclass(frozen=True)
class ContentSettings:
    """Fingerprints of the files that the run is to read; what is not named may hold anything.

    ``data`` is that of all rows, ``models`` are the names of model folders with theirs.
    """

    data: str | None = None
    models: tuple[tuple[str, str], ...] = ()

    def of_model(self, name: str) -> str | None:
        """Return the fingerprint of a model's folder; None where it may hold anything."""
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
    """Everything one training run depends on."""

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
    """The settings with a sample's values in place, given by dotted name.

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
    """The models that a trial loads as encoders: one, or for ``joint`` the evidence's and the criteria's."""
    model = settings.model
    return (model.name, model.criteria_name or model.name) if settings.task.name == "joint" else (model.name,)


def revision_of(model: ModelSettings, name: str) -> str | None:
    """The revision at which a model is loaded: the setting is that of ``model.name`` alone."""
    return model.revision if name == model.name else None
