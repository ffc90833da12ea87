"""The two messages between driver and worker: a trial's launch, and its reports.

Ray carries a launch as the trial's configuration and a report as a result, both of which are dictionaries.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from search_spaces.space import Params
from trainables.reports import Breakdowns, Fact, TrialReport
from tune_app.outcomes import TrialError

VALUE, STEP = "value", "step"
"""Keys of a report's objective and step, which Ray's schedulers are given by name."""

End = Literal["complete", "oom", "failed", "halted"]
"""End of a trial as its worker reports it; ``halted`` for a reason that would stop any trial, so the search ends."""

_NUMBER, _RECOMMENDED, _ENDED, _FOLD_EPOCH = "number", "is_recommended", "ended", "fold_epoch"


@dataclass(frozen=True)
class Launch:
    """Message that starts a trial in a worker.

    Attributes:
        number: number of the trial in the study.
        params: sampled configuration.
        gpus: number of GPUs of the trial, or its share of one.
        resume_from: checkpoints to resume from, the newest first.
        is_recommended: whether the configuration is a recommended one.
        plans: memory plans that accepted the configuration (``AcceptedPlans.text``); None if none were made.
    """

    number: int
    params: Params
    gpus: float = 0.0
    resume_from: tuple[str, ...] = ()
    is_recommended: bool = False
    plans: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return _entries(self)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Read the configuration of a Ray trial, which may hold further entries.

        Raises:
            KeyError: there is no number, or no sampled configuration.
        """
        given = _known(cls, config)
        return cls(**{**given, "number": int(config[_NUMBER]), "params": dict(config["params"])})


@dataclass(frozen=True)
class SentReport:
    """Message of a trial to the driver, after a step, within a fold, or at its end.

    Attributes:
        step: number of finished steps; see ``TrialReport``.
        value: objective; NaN in the report of an end without a measurement.
        metrics: everything measured in this step.
        facts: facts on the trial so far.
        ended: end of the trial; None while it goes on.
        reason: reason for the end, for a person.
        fold_epoch: finished epochs of the current fold, in a report from within it; None in all others.
        breakdowns: scores of parts of the rows in the best step so far.
        error: error of a failed trial.
    """

    step: int = 0
    value: float = math.nan
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    ended: End | None = None
    reason: str | None = None
    fold_epoch: int | None = None
    breakdowns: Breakdowns = field(default_factory=dict)
    error: TrialError | None = None

    @classmethod
    def of(cls, report: TrialReport) -> Self:
        """Return the message of a trial's own report. Ray carries the report's checkpoint beside it."""
        return cls(
            step=report.step,
            value=report.value,
            metrics=dict(report.metrics),
            facts=dict(report.facts),
            ended=report.ended,
            reason=report.reason,
            fold_epoch=report.fold_epoch,
            breakdowns=dict(report.breakdowns),
        )

    def as_dict(self) -> dict[str, Any]:
        return {**_entries(self), "error": None if self.error is None else asdict(self.error)}

    @classmethod
    def from_dict(cls, result: Mapping[str, Any]) -> Self:
        """Read a result, to which Ray has added entries of its own."""
        given = _known(cls, result)
        if given.get("error") is not None:
            given["error"] = TrialError(**given["error"])
        return cls(**{**given, STEP: int(given.get(STEP, 0)), VALUE: float(given.get(VALUE, math.nan))})


def number_of(trial: Any) -> int:
    """Return the study's number of a Ray trial."""
    return int(trial.config[_NUMBER])


def is_recommended(trial: Any) -> bool:
    """Return whether a Ray trial runs a recommended configuration."""
    return bool(trial.config.get(_RECOMMENDED))


def decides_nothing(result: Mapping[str, Any]) -> bool:
    """Return whether a report leaves the scheduler no decision: the trial ends anyway, or is within a fold."""
    return bool(result.get(_ENDED)) or result.get(_FOLD_EPOCH) is not None


def _entries(message: Launch | SentReport) -> dict[str, Any]:
    return {one.name: getattr(message, one.name) for one in fields(message)}


def _known(message: type[Launch] | type[SentReport], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a message; entries without a value keep their default."""
    return {one.name: given[one.name] for one in fields(message) if given.get(one.name) is not None}
