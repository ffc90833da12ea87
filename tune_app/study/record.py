"""Record of a study's subject, and its differences from a configuration."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from search_spaces.space import Choices, Entry, Space, parse_space
from tune_app.objectives import Mode, Objective
from tune_app.step_scale import StepScale

EQUAL_TEXTS = "data.equal_texts"
"""Setting that a study's split depends on only where the data holds equal texts in several groups."""

_ADDED_LATER: Mapping[str, Any] = {"data.folds": None, EQUAL_TEXTS: "apart"}
"""Values of these settings in studies that were begun before the settings existed."""


@dataclass(frozen=True)
class Difference:
    """Setting that differs: its dotted name and its values in a study and in a configuration, ready to be shown.

    ``part`` describes in words the part of the study that the setting belongs to.
    """

    parameter: str
    study: str
    config: str
    part: str

    def __str__(self) -> str:
        return f"{self.parameter}: {self.study} there, {self.config} here"


def what_changed(differences: Sequence[Difference]) -> str:
    """Return ``the space changed``, or ``the data and the space changed``."""
    parts = list(dict.fromkeys(difference.part for difference in differences))
    return f"{' and '.join(filter(None, (', '.join(parts[:-1]), parts[-1])))} changed"


@dataclass(frozen=True)
class StudyRecord:
    """Record of a study's subject. Studies with different records are different studies.

    Attributes:
        fixed: settings outside the space that a trial's value depends on, by dotted name. Trials trained with other
            values cannot be compared, and ``best.yaml`` would not describe the training.
        further: objectives after the first, which ``metric`` and ``mode`` give.
        per_epoch: reports in an epoch, which number the steps of the study.
        models: fingerprints of the model folders that trials may read, by model name. Studies begun before fingerprints
            were recorded have none.
    """

    space: Space
    task: str
    metric: str
    mode: Mode
    data_fingerprint: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    further: tuple[Objective, ...] = ()
    per_epoch: int = 1
    models: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "space": self.space.as_dict(),
            "task": self.task,
            "metric": self.metric,
            "mode": self.mode,
            "data_fingerprint": self.data_fingerprint,
            "fixed": dict(self.fixed),
            "further": [asdict(objective) for objective in self.further],
            "per_epoch": self.per_epoch,
            "models": dict(self.models),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        # Studies begun before there could be several objectives lack the key.
        further = tuple(Objective(**objective) for objective in values.get("further", ()))
        return cls(**{**values, "space": parse_space(values["space"]), "further": further})

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All objectives of the study; the first one compares the epochs of a trial."""
        return (Objective(self.metric, self.mode), *self.further)

    @property
    def step_scale(self) -> StepScale:
        """Scale of the trials' reports."""
        epochs = int(self.fixed.get("train.epochs", 1))
        return StepScale.of(folds=self.fixed.get("data.folds"), epochs=epochs, per_epoch=self.per_epoch)

    @property
    def all_fixed(self) -> dict[str, Any]:
        """``fixed``, with values for settings that did not exist when the study was begun."""
        return {**_ADDED_LATER, **self.fixed}

    def differences(self, other: "StudyRecord") -> list[Difference]:
        """Return the differences between a study with this record and a configuration with the ``other``."""
        return [
            *self.incomparable(other),
            *self._of_models(other),
            *self._of_spaces(other),
            *self._of_fixed(other),
            *self._of_rungs(other),
        ]

    def incomparable(self, other: "StudyRecord") -> list[Difference]:
        """Return the differences that make results of one study meaningless for the other."""
        differences = []
        if self.task != other.task:
            differences.append(Difference("task.name", self.task, other.task, "the task"))
        if self.objectives != other.objectives:
            differences.append(
                Difference("search.metric", _named(self.objectives), _named(other.objectives), "the objective")
            )
        if self.data_fingerprint != other.data_fingerprint:
            differences.append(_of_content("data", self.data_fingerprint, other.data_fingerprint, "the data"))
        return differences

    def changed_models(self, other: "StudyRecord") -> list[str]:
        """Return the names of models whose folders have another fingerprint in the other record."""
        return [name for name, digest in self.models.items() if other.models.get(name, digest) != digest]

    def _of_models(self, other: "StudyRecord") -> list[Difference]:
        return [
            _of_content(f"model {name}", self.models[name], other.models[name], "a model's folder")
            for name in self.changed_models(other)
        ]

    def _of_spaces(self, other: "StudyRecord") -> list[Difference]:
        names = {**self.space.entries, **other.space.entries}
        return [
            Difference(name, self._in_space(name), other._in_space(name), "the space")
            for name in names
            if self.space.entries.get(name) != other.space.entries.get(name)
        ]

    def _of_fixed(self, other: "StudyRecord") -> list[Difference]:
        mine, others = self.all_fixed, other.all_fixed
        # A name that one record lacks is in its space, which ``_of_spaces`` compares.
        return [
            Difference(name, json.dumps(mine[name]), json.dumps(others[name]), "the fixed settings")
            for name in mine
            if name in others and mine[name] != others[name] and name != "task.name"
        ]

    def _of_rungs(self, other: "StudyRecord") -> list[Difference]:
        if self.per_epoch == other.per_epoch:
            return []
        mine, others = (f"{record.per_epoch} reports an epoch" for record in (self, other))
        return [Difference("scheduler.rung", mine, others, "the fixed settings")]

    def _in_space(self, name: str) -> str:
        if name in self.space.entries:
            return _shown(self.space.entries[name])
        return f"{json.dumps(self.fixed[name])} (fixed)" if name in self.fixed else "not searched"


def _of_content(what: str, there: str, here: str, part: str) -> Difference:
    return Difference(what, f"fingerprint {there[:12]}", f"fingerprint {here[:12]}", part)


def _named(objectives: Sequence[Objective]) -> str:
    return ", ".join(str(objective) for objective in objectives)


def _shown(entry: Entry) -> str:
    values = entry.model_dump(mode="json", exclude={"type"})
    return json.dumps(values["choices"] if isinstance(entry, Choices) else values)
