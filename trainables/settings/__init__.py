"""A trial's settings as plain, frozen dataclasses, declared once.

The names of the nested fields are the dotted names that users write and search over: ``TrialSettings.optim.lr`` is
``optim.lr``. ``tune_app.config`` makes its validator from these declarations; a trial trusts its settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainables.declaration import Scalar, is_setting, with_values
from trainables.settings.data import ColumnNames, DataSettings, SettingError
from trainables.settings.learning import AugmentSettings, LossSettings, OptimSettings, ScheduleSettings, TrainSettings
from trainables.settings.memory import MemorySettings
from trainables.settings.model import HeadSettings, ModelSettings, TokSettings
from trainables.settings.task import TaskSettings, numbered
from trainables.task_registry import TASKS

__all__ = [
    "AugmentSettings",
    "ColumnNames",
    "ContentSettings",
    "DataSettings",
    "HeadSettings",
    "LossSettings",
    "MemorySettings",
    "ModelSettings",
    "OptimSettings",
    "Redraw",
    "RungSettings",
    "ScheduleSettings",
    "Seeds",
    "SettingError",
    "TaskSettings",
    "TokSettings",
    "TrainSettings",
    "TrialSettings",
    "encoder_names",
    "numbered",
    "revision_of",
    "with_params",
]


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
class Redraw:
    """Another draw of the training and validation parts. It leaves the test part as it is.

    Attributes:
        fold: fold that validates, counted from 0, of ``folds``; None draws a validation part of the usual share.
    """

    seed: int
    fold: int | None = None
    folds: int | None = None


@dataclass(frozen=True)
class Seeds:
    """Sub-seeds drawn by name from the one master seed (see ``trainables.seeds``).

    Attributes:
        split: seed of the test part and, without ``validation``, of the training and validation parts.
        validation: seed that redraws the training and validation parts; None in a search, whose trials share one split.
        fold: see ``Redraw``; read only with ``validation``.
    """

    split: int
    init: int
    order: int
    augment: int
    validation: int | None = None
    fold: int | None = None
    folds: int | None = None

    @property
    def redraw(self) -> Redraw | None:
        """Redraw of the training and validation parts; None keeps those of ``split``."""
        return None if self.validation is None else Redraw(self.validation, self.fold, self.folds)


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


def with_params(settings: TrialSettings, params: Mapping[str, Scalar]) -> TrialSettings:
    """Return the settings with a sample's values applied, given by dotted name.

    Raises:
        KeyError: a name is no setting; the message is that name.
    """
    changed: dict[str, dict[str, Any]] = {}
    for name, value in params.items():
        section, _, key = name.partition(".")
        if not is_setting(getattr(settings, section, None), key):
            raise KeyError(name)
        changed.setdefault(section, {})[key] = value
    sections = {section: with_values(getattr(settings, section), values) for section, values in changed.items()}
    return replace(settings, **sections)


def encoder_names(settings: TrialSettings) -> tuple[str, ...]:
    """Return the models that a trial loads as encoders: one, or for two the evidence and the criteria encoder."""
    model = settings.model
    return (model.name, model.criteria_name or model.name)[: TASKS[settings.task.name].encoders]


def revision_of(model: ModelSettings, name: str) -> str | None:
    """Return the revision at which a model is loaded: the setting applies to ``model.name`` alone."""
    return model.revision if name == model.name else None
