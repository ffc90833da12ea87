"""Configuration of one run: every section, and what the rest of the program derives from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import ValidationError

from search_spaces.conditions import ActiveSpace
from search_spaces.quoting import quoted
from search_spaces.rules import LimitSet
from search_spaces.space import Params, Scalar, Space
from trainables.declaration import Setting, added_settings, declared_fields, section, setting, setting_of, values_of
from trainables.seeds import trial_seeds
from trainables.settings import (
    AugmentSettings,
    DataSettings,
    HeadSettings,
    LossSettings,
    MemorySettings,
    ModelSettings,
    OptimSettings,
    RungSettings,
    ScheduleSettings,
    SettingError,
    TaskSettings,
    TokSettings,
    TrainSettings,
    TrialSettings,
    numbered,
)
from trainables.task_registry import TASKS
from tune_app.config.conditions import SEARCHABLE, active_space
from tune_app.config.limits import Limit, parsed_limits
from tune_app.config.messages import one_line
from tune_app.config.models import model_of, validated
from tune_app.config.search_sections import (
    FEW_EPOCHS,
    LEAST_STEPS,
    ResourcesSection,
    SchedulerSection,
    SearchSection,
    TrialSection,
)
from tune_app.config.study_sections import CheckpointSection, PinnedSection, StudySection, TrackingSection
from tune_app.errors import UserError
from tune_app.objectives import Mode, Objective
from tune_app.schedulers import SCHEDULERS
from tune_app.step_scale import StepScale
from tune_app.uris import below, is_store, working_copies


@dataclass(frozen=True)
class RunConfig:
    """Configuration of one run. A search varies the settings in ``space``; all others are fixed."""

    study: StudySection = field(
        metadata=Setting("The study: its name, its storage location, and what a change of it means.").metadata
    )
    data: DataSettings = field(
        metadata=Setting("The data: its file, its columns, and its split into training, validation and test.").metadata
    )
    task: TaskSettings = section(TaskSettings, "The task: what is learned, and how answers are chosen.")
    model: ModelSettings = section(ModelSettings, "The encoder, or the two encoders of task joint.")
    tok: TokSettings = section(TokSettings, "The inputs: their length, and the windows of long texts.")
    head: HeadSettings = section(HeadSettings, "The head on top of the encoder.")
    loss: LossSettings = section(LossSettings, "The loss function.")
    optim: OptimSettings = section(OptimSettings, "The optimizer.")
    schedule: ScheduleSettings = section(ScheduleSettings, "The course of the learning rate.")
    train: TrainSettings = section(TrainSettings, "The training: batch, epochs and precision.")
    augment: AugmentSettings = section(AugmentSettings, "Augmentation of training texts.")
    memory: MemorySettings = section(MemorySettings, "Memory limits, and the sizes of passes.")
    search: SearchSection = section(SearchSection, "The search: its number of trials, its sampler and its objectives.")
    scheduler: SchedulerSection = section(SchedulerSection, "Early stopping of trials.")
    resources: ResourcesSection = section(ResourcesSection, "Resources of a trial.")
    trial: TrialSection = section(TrialSection, "Supervision of trials.")
    limits: tuple[Limit, ...] = setting(
        ("predicted",),
        "Rules that reject samples before launch: predicted, users_24gb, users_families, your own limits per model"
        " size, or a list of these. null rejects nothing.",
        parse=parsed_limits,
        accepts={},
    )
    tracking: TrackingSection = section(TrackingSection, "Records in MLflow.")
    checkpoint: CheckpointSection = section(CheckpointSection, "Checkpoints of trials.")
    space: Space | None = setting(
        None,
        "Settings that the search varies: dotted name → choices, or low and high. from starts from a space of the"
        " catalogue. null searches nothing.",
        accepts={},
    )
    pinned: PinnedSection | None = setting(None, "Origin of an exported configuration. Written by headroom export.")

    @property
    def step_scale(self) -> StepScale:
        """Scale of the trials' reports and the schedulers' steps."""
        return StepScale.of(folds=self.data.folds, epochs=self.train.epochs, per_epoch=self._per_epoch)

    @property
    def _per_epoch(self) -> int:
        rung = self.scheduler.rung
        if self.space is None or rung == "epoch":
            return 1
        if rung == "auto":
            # If the first rung is a whole epoch or later, reports within the first epoch decide nothing.
            stops_early = SCHEDULERS[self.scheduler.name].stops and (self.scheduler.warmup or 0) < 1
            return 2 if stops_early and self.train.epochs <= FEW_EPOCHS else 1
        return round(1 / rung)

    @property
    def first_rung(self) -> int:
        """First step at which a scheduler may stop a trial."""
        warmup = self.scheduler.warmup
        return 1 if warmup is None else math.ceil(warmup * self.step_scale.per_epoch)

    def bounds(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a numeric setting, over the space if the search varies it."""
        entry = self.space.entries.get(name) if self.space else None
        values = [float(value) for value in entry.examples] if entry else [float(self.fixed_params()[name])]
        return min(values), max(values)

    def effective_batches(self) -> tuple[int, int]:
        """Return the smallest and the largest effective batch of the space."""
        rows, passes = self.bounds("train.batch_size"), self.bounds("train.grad_accum")
        return int(rows[0] * passes[0]), int(rows[1] * passes[1])

    def reports_per_epoch(self, rows: int) -> int:
        """Return the reports an epoch of trials with so many training rows, which ``scheduler.rung: auto`` heeds.

        The middle of the smallest and the largest effective batch, on a log scale, stands for all.
        """
        per_epoch = self.step_scale.per_epoch
        # A trial of one epoch has no later report by which it could be stopped.
        if self.scheduler.rung != "auto" or self.train.epochs == 1:
            return per_epoch
        steps = rows / math.sqrt(math.prod(self.effective_batches()))
        return per_epoch if steps >= per_epoch * LEAST_STEPS else 1

    def with_reports(self, per_epoch: int) -> "RunConfig":
        """Return this configuration with another number of reports an epoch."""
        rung: Literal["epoch"] | float = "epoch" if per_epoch == 1 else 1 / per_epoch
        return replace(self, scheduler=replace(self.scheduler, rung=rung))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Objectives of a search. The first one, a metric of the task, compares the epochs of a trial."""
        names = [metric.name for metric in self.search.metric] or [self.task.metric]
        return tuple(Objective(name, mode_of(name)) for name in names)

    @property
    def study_folder(self) -> str:
        """Folder on this machine that holds the run directories; for a store's URI, that of the working copies."""
        location = self.study.dir
        return str(working_copies(location)) if is_store(location) else location.rstrip("/")

    @property
    def run_dir(self) -> str:
        """The study's run directory on this machine."""
        return f"{self.study_folder}/{self.study.name}"

    @property
    def location(self) -> str:
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
        study = replace(self.study, name=name)
        try:
            study.check()
        except SettingError as error:
            raise UserError(f"study.name: {quoted(name)}: {error}; set a shorter study.name") from None
        return replace(self, study=study)

    def stored_in(self, url: str | None) -> "RunConfig":
        """Return this configuration with its study in another database, or, with None, in its run directory."""
        return replace(self, study=replace(self.study, storage=url))

    def fixed_params(self) -> Params:
        """Return every searchable setting by its dotted name, with its value outside the space."""
        return {
            f"{section}.{name}": value
            for section in SEARCHABLE
            for name, value in values_of(getattr(self, section), with_defaults=True).items()
            if isinstance(value, bool | int | float | str)
        }

    def active_space(self) -> ActiveSpace:
        """Return the space with the fixed settings that decide which parameters a trial reads. A space must be set."""
        assert self.space is not None
        return active_space(self.space, self.fixed_params())

    def fixed_for_study(self) -> dict[str, Any]:
        """Return the settings outside the space that a trial's value depends on, by dotted name.

        They exclude the settings that affect only a trial's speed, the number of trials, or the choice of objectives.
        """
        values = {
            f"{section}.{name}": value
            for section in SEARCHABLE
            for name, value in values_of(getattr(self, section)).items()
        }
        values |= {
            "data.validation_share": self.data.validation_share,
            "data.test_share": self.data.test_share,
            "data.folds": self.data.folds,
            "search.seed": self.search.seed,
            "task.classes": self.task.count,
            "task.labels": _own_names(self.task.labels),
        }
        searched = self.space.entries if self.space else {}
        return {name: value for name, value in values.items() if name not in searched and facts_of(name).compared}

    def with_params(self, params: Mapping[str, Scalar]) -> "RunConfig":
        """Return this configuration with a sample's values in place and without a space.

        Raises:
            UserError: a value is none that its setting can have, or there is no such setting.
        """
        sections: dict[str, dict[str, Any]] = {}
        for name, value in params.items():
            section, _, key = name.partition(".")
            if section not in SEARCHABLE:
                raise UserError(f"{name}: unknown setting")
            sections.setdefault(section, values_of(getattr(self, section)))[key] = value
        changed: dict[str, Any] = {"space": None}
        for section, values in sections.items():
            kind = section_class(section)
            try:
                changed[section] = validated(kind, values)
            except ValidationError as error:
                raise UserError(one_line(error, "the sample", root=model_of(kind), prefix=[section])) from None
        return replace(self, **changed)

    def trial_settings(self) -> TrialSettings:
        """Return the settings of a trial without sampled values, as the plain data that ``trainables`` takes."""
        objective = self.search.metric[0].name if self.search.metric else self.task.objective
        return TrialSettings(
            data=self.data,
            seeds=trial_seeds(self.search.seed),
            task=replace(self.task, classes=self.task.count, objective=objective),
            model=self.model,
            tok=self.tok,
            head=self.head,
            loss=self.loss,
            optim=self.optim,
            schedule=self.schedule,
            train=self.train,
            augment=self.augment,
            memory=self.memory,
            rungs=RungSettings(per_epoch=self.step_scale.per_epoch, rows=self.scheduler.rung_rows),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data from which ``parse_config`` makes an equal configuration."""
        values = values_of(self)
        values["limits"] = _one_or_list(
            [limit.model_dump(by_alias=True) if isinstance(limit, LimitSet) else limit for limit in self.limits]
        )
        values["search"]["metric"] = _one_or_list([metric.name for metric in self.search.metric])
        if self.task.labels is not None:
            values["task"]["labels"] = list(self.task.labels)
        if self.pinned is None:
            del values["pinned"]
        del values["space"]
        return values if self.space is None else {**values, "space": self.space.as_dict()}


def _one_or_list(items: list[Any]) -> Any:
    return items if len(items) > 1 else items[0] if items else None


def section_class(name: str) -> type[Any]:
    """Return the class of a section that a space may vary."""
    factory = next(declared.default_factory for declared in declared_fields(RunConfig) if declared.name == name)
    assert isinstance(factory, type)
    return factory


def facts_of(name: str) -> Setting:
    """Return the facts about a setting of a section that a space may vary, by its dotted name; see ``Setting``."""
    section, _, key = name.partition(".")
    if section not in SEARCHABLE:
        return Setting("")
    added = added_settings(section)
    own = {declared.name: declared for declared in declared_fields(section_class(section))}
    return added[key].facts if key in added else setting_of(own[key])


def _own_names(labels: Sequence[str] | None) -> list[str] | None:
    """Return the class names for a study's record; None if they are the classes' numbers, as in every older study."""
    return None if labels is None or tuple(labels) == numbered(len(labels)) else list(labels)


def mode_of(metric: str) -> Mode:
    """Return the direction in which a metric or cost improves."""
    return "min" if any(metric in task.costs for task in TASKS.values()) else "max"
