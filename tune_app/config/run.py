"""Configuration of one run: every section, and what the rest of the program derives from them."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Params, Scalar, Space
from trainables import settings as plain
from trainables.seeds import trial_seeds
from tune_app.config.limits import Limit, parsed_limits
from tune_app.config.messages import one_line, problem_line
from tune_app.config.search_sections import (
    FEW_EPOCHS,
    ResourcesSection,
    SchedulerSection,
    SearchSection,
    TrialSection,
)
from tune_app.config.section import Section
from tune_app.config.study_sections import CheckpointSection, PinnedSection, StudySection, TrackingSection
from tune_app.config.training_sections import (
    AugmentSection,
    DataSection,
    HeadSection,
    LossSection,
    MemorySection,
    ModelSection,
    OptimSection,
    ScheduleSection,
    TaskSection,
    TokSection,
    TrainSection,
)
from tune_app.errors import UserError
from tune_app.objectives import Mode, Objective
from tune_app.step_scale import StepScale
from tune_app.uris import below, is_store, working_copies


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
    limits: Annotated[tuple[Limit, ...], BeforeValidator(parsed_limits)] = Field(
        default=("predicted",),
        description="What turns samples away: predicted, users_24gb, users_families, own limits per model size, a list"
        " of these, or null for nothing.",
    )
    tracking: TrackingSection = TrackingSection()
    checkpoint: CheckpointSection = CheckpointSection()
    space: Space | None = None
    pinned: PinnedSection | None = None

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
            stops_early = self.scheduler.name != "none" and (self.scheduler.warmup or 0) < 1
            return 2 if stops_early and self.train.epochs <= FEW_EPOCHS else 1
        return round(1 / rung)

    @property
    def first_rung(self) -> int:
        """First step at which a scheduler may stop a trial."""
        warmup = self.scheduler.warmup
        return 1 if warmup is None else math.ceil(warmup * self.step_scale.per_epoch)

    def with_reports(self, per_epoch: int) -> "RunConfig":
        """Return this configuration with another number of reports an epoch."""
        rung: float | str = "epoch" if per_epoch == 1 else 1 / per_epoch
        return self.model_copy(update={"scheduler": self.scheduler.model_copy(update={"rung": rung})})

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Objectives of a search. The first one, a metric of the task, compares the epochs of a trial."""
        names = [metric.name for metric in self.search.metric] or [self.trial_settings().task.metric]
        return tuple(Objective(name, mode_of(name)) for name in names)

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
            raise UserError(f"study.name: {problem_line(error.errors()[0], name)}; set a shorter study.name") from None
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

    def with_params(self, params: Mapping[str, Scalar]) -> "RunConfig":
        """Return this configuration with a sample's values in place and without a space.

        Raises:
            UserError: a value is none that its setting can have, or there is no such setting.
        """
        sections: dict[str, dict[str, Any]] = {}
        for name, value in params.items():
            section, _, field = name.partition(".")
            if section not in SEARCHABLE:
                raise UserError(f"{name}: unknown setting")
            sections.setdefault(section, getattr(self, section).model_dump())[field] = value
        update: dict[str, Any] = {}
        for section, values in sections.items():
            root = type(getattr(self, section))
            try:
                update[section] = root.model_validate(values)
            except ValidationError as error:
                raise UserError(one_line(error, "the sample", root=root, prefix=[section])) from None
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
            rungs=plain.RungSettings(per_epoch=self.step_scale.per_epoch, rows=self.scheduler.rung_rows),
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


def _own_names(labels: Sequence[str] | None) -> list[str] | None:
    """Return the class names for a study's record; None if they are the classes' numbers, as in every older study."""
    return None if labels is None or tuple(labels) == plain.numbered(len(labels)) else list(labels)


def mode_of(metric: str) -> Mode:
    return "min" if any(metric in costs for costs in plain.COSTS.values()) else "max"
