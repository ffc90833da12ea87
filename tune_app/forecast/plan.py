"""Plan of a search: ``make_plan`` lists its parts in the order of a user's questions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainables.scratch import scratch_folder
from trainables.seeds import sub_seed
from tune_app.config import RunConfig
from tune_app.errors import UserError
from tune_app.estimates import NeedsTable, Target, needs_table
from tune_app.folders import check_own_folders
from tune_app.forecast.draws import accepted_draws, recommended_draws
from tune_app.forecast.hours import Range
from tune_app.forecast.machine import PlannedMachine, planned_machine
from tune_app.forecast.packing import PackingForecast, packing_forecast
from tune_app.forecast.time_forecast import TimeForecast, forecast_time
from tune_app.forecast.trial_times import TrialTimer
from tune_app.forecast.warnings import Warned, warnings_of
from tune_app.screening.filtering import Rejections, Suffering
from tune_app.screening.preconditions import study_record, with_classes_of_data
from tune_app.screening.screen import Screen, build_screen, host_share

_SHOWN_VALUES = 3
_NOT_TIMED = {"trial_s": None, "hours": None, "gpu_hours": None, "disk_gib": None}


@dataclass(frozen=True)
class SpaceForecast:
    """The space, and what the rules reject of it.

    Attributes:
        size: number of distinct configurations; None if it is infinite.
        can_run: share of the space that every rule accepts.
        rejected: share of the space that a rule rejects, by rule.
        counted: number of configurations that were counted.
        sampled: whether those are a random sample; otherwise they are all that the rules can distinguish.
        suffering: values that a rule rejects more often than the space as a whole, the worst first, by rule.
    """

    size: int | None
    can_run: float
    rejected: dict[str, float]
    counted: int
    sampled: bool
    suffering: dict[str, list[Suffering]]

    def as_dict(self) -> dict[str, Any]:
        worst = {
            rule: [{"setting": one.setting, "value": one.value, "rejected": one.share} for one in values]
            for rule, values in self.suffering.items()
            if values
        }
        return {
            "size": self.size,
            "can_run": self.can_run,
            "rejected": self.rejected,
            "sampled": self.sampled,
            "counted": self.counted,
            "suffering": worst,
        }


@dataclass(frozen=True)
class Plan:
    """Plan of a search. ``as_dict()`` is ``headroom plan --json``.

    Attributes:
        study: name of the study.
        trials: launched trials that the study shall hold.
        machine: machine that the plan is made for.
        memory: needs per model and length, with the question that they answer.
        warnings: settings that waste the search, or make its result mean little.
        time: seconds of trials, hours of the study, and disk; None for a card of another machine, which nothing timed.
    """

    study: str
    trials: int
    machine: PlannedMachine
    space: SpaceForecast
    memory: NeedsTable
    packing: PackingForecast
    warnings: list[Warned]
    time: TimeForecast | None

    @property
    def hours(self) -> Range:
        """Hours of the study by the clock.

        Raises:
            UserError: the plan is for a card of another machine.
        """
        if self.time is None:
            raise UserError(
                "--gpu-gib: hours are known for this machine's own devices only; run the plan on a machine with such a"
                " card"
            )
        return self.time.hours

    def as_dict(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "trials": self.trials,
            "space": self.space.as_dict(),
            "memory": [
                {
                    "model": row.model,
                    "length": row.length,
                    "need_gib": row.need_gib,
                    "max_micro_batch": row.max_micro_batch,
                }
                for row in self.memory.rows
            ],
            "packing": self.packing.as_dict(),
            **(_NOT_TIMED if self.time is None else self.time.as_dict()),
            "warnings": [warned.as_dict() for warned in self.warnings],
        }


def make_plan(config: RunConfig, *, gpu_gib: float | None, doing: Callable[[str], None]) -> Plan:
    """Plan a search without starting or writing anything of it.

    Args:
        gpu_gib: memory of another machine's card; None plans for this machine.
        doing: called with each activity, for a person who waits.

    Raises:
        UserError: the configuration cannot be searched; the message is the search's own.
    """
    check_own_folders()
    doing("reading the data")
    config = with_classes_of_data(config)
    record = study_record(config)
    config = config.with_reports(record.per_epoch)
    machine = planned_machine(config, gpu_gib)
    doing("predicting the memory of the space")
    screen = _screen(config, machine)
    draws = accepted_draws(config, screen.rules)
    memory = needs_table(config, Target(budget_gib=gpu_gib))
    packing = packing_forecast(
        [screen.packing.gpus({**config.fixed_params(), **params}) for params in draws],
        machine.cards,
        config.search.max_concurrent,
        sub_seed(config.search.seed, "packing"),
    )
    warnings = warnings_of(config, record.data_fingerprint)
    time = None
    if machine.is_here:
        with scratch_folder("plan") as scratch:
            timer = TrialTimer(config, screen.packing, machine.device, scratch)
            time = forecast_time(
                config, timer, draws, recommended_draws(config, screen.rules), packing.at_once, machine.cards, doing
            )
    return Plan(
        config.study.name,
        config.search.trials,
        machine,
        _space(config, screen.rejections),
        memory,
        packing,
        warnings,
        time,
    )


def _screen(config: RunConfig, machine: PlannedMachine) -> Screen:
    share = host_share(config, config.search.max_concurrent)
    return build_screen(config, machine.device, machine.gpus, host_share=share, say=lambda text: None)


def _space(config: RunConfig, found: Rejections | None) -> SpaceForecast:
    size = config.active_space().size
    if found is None:
        return SpaceForecast(size, 1.0, {}, 0, sampled=False, suffering={})
    worst = {rule: values[:_SHOWN_VALUES] for rule, values in found.suffering.items()}
    return SpaceForecast(size, found.can_run, found.shares, found.counted, found.sampled, worst)
