"""Sections that describe how a study searches: objectives, scheduler, and the resources of its trials."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trainables.declaration import Extensible, Setting, setting
from tune_app.objectives import Mode
from tune_app.samplers import SAMPLERS
from tune_app.schedulers import SCHEDULERS


@dataclass(frozen=True)
class MetricSection:
    """One objective of a search. A text with the name alone means the same."""

    name: str = field(metadata=Setting("Name of the metric or cost.").metadata)
    mode: Mode | None = setting(None, "Direction of improvement. null is the metric's own.")


def _one_or_several(value: object) -> object:
    if value is None:
        return ()
    given = tuple(value) if isinstance(value, list | tuple) else (value,)
    items = [{"name": item} if isinstance(item, str) else item for item in given]
    if not items or not all(isinstance(item, Mapping) and "name" in item for item in items):
        raise ValueError(
            "expected the name of a metric, or a list such as [macro_f1, peak_gib] or [macro_f1, {name: peak_gib,"
            " mode: min}]"
        )
    return tuple(items)


_METRIC_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"name": {"type": "string"}, "mode": {"enum": ["max", "min", None]}},
            "required": ["name"],
            "additionalProperties": False,
        },
    ]
}


_A_YEAR_H = 365 * 24


@dataclass(frozen=True)
class SearchSection(Extensible):
    section = "search"

    trials: int = setting(20, "Number of trials to launch, counted over all resumptions.", above=0, at_most=1_000_000)
    max_concurrent: int = setting(1, "Maximum number of trials that run at the same time.", above=0, at_most=10_000)
    seed: int = setting(0, "Seed of the search. All other seeds are derived from it.", at_least=0, at_most=2**63 - 1)
    metric: tuple[MetricSection, ...] = setting(
        (),
        "Metric that the search improves. A list begins with a metric of the task and goes on with other metrics, or"
        " with costs to lower: calibration_error, peak_gib, seconds_per_sample. null uses task.objective.",
        parse=_one_or_several,
        accepts={
            "anyOf": [
                *_METRIC_SCHEMA["anyOf"],
                {"type": "array", "items": _METRIC_SCHEMA, "minItems": 1},
                {"type": "null"},
            ]
        },
    )
    sampler: str = setting(
        "tpe",
        "Method that proposes samples. nsga2 needs several objectives; exhaustive tries every configuration.",
        choices=lambda: SAMPLERS,
    )
    recommended: int = setting(
        4,
        "Number of trials with published settings that begin the search, one model after another. They are never"
        " stopped early.",
        at_least=0,
        at_most=10_000,
    )
    max_hours: float | None = setting(
        None,
        "Hours that the study may take, over all its searches. No trial is launched that would probably end later. null"
        " sets no limit.",
        above=0,
        at_most=_A_YEAR_H,
    )
    stop: Literal["none", "auto"] = setting(
        "none",
        "End of the search before its last trial: auto ends it once the expected gain of all remaining trials is below"
        " the standard error of the metric.",
    )
    max_rejections: int = setting(
        1000,
        "Number of samples rejected in a row after which the space counts as exhausted.",
        above=0,
        at_most=1_000_000,
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
FEW_EPOCHS = 4
"""Most epochs with which ``scheduler.rung: auto`` makes trials report every half epoch.

After less than half an epoch, most of the differences between trials are noise. The rank correlation with the last
epoch is 0.31 after a quarter of the first epoch and 0.64 after all of it (recorded trainings of a tiny encoder).
"""
LEAST_STEPS = 50
"""Fewest optimizer steps before a report within the first epoch with ``scheduler.rung: auto``.

Before that, little but the warm-up has happened. In recorded trainings of MiniLM with 4 to 17 steps in half an epoch,
the rank correlation with the last epoch is -0.03 there (on 40 rows) and 0.64 after the epoch, so that stopping by it is
worse than not stopping.
"""


@dataclass(frozen=True)
class SchedulerSection(Extensible):
    section = "scheduler"

    name: str = setting("asha", "Method that stops trials early.", choices=lambda: SCHEDULERS)
    warmup: int | float | None = setting(
        None,
        "Epochs, or folds with data.folds, before which no trial is stopped. null allows stopping from the first report"
        " on.",
        above=0,
        accepts={"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]},
    )
    reduction_factor: int = setting(
        3, "Reduction factor of the rungs: one trial in this many continues.", at_least=2, at_most=100
    )
    startup_trials: int = setting(0, "Number of first trials that are never stopped.", at_least=0)
    rung: float | Literal["auto", "epoch"] = setting(
        "auto",
        "How often a trial reports: epoch is once an epoch; a number is a share of an epoch. auto is 0.5 if a scheduler"
        f" stops trials of at most {FEW_EPOCHS} epochs and half an epoch is at least {LEAST_STEPS} optimizer steps of"
        " the space's middle batch size, else epoch.",
        parse=_share_of_an_epoch,
        accepts={"anyOf": [{"enum": ["auto", "epoch"]}, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}]},
    )
    rung_rows: int | None = setting(
        500,
        "Number of validation rows that score reports within an epoch, the same in every trial. null uses all rows.",
        above=0,
    )


_LEAST_SHARE = 0.01
_MOST_GPUS = 10_000


def _auto_or_share_or_whole(gpu: object) -> object:
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


@dataclass(frozen=True)
class ResourcesSection:
    cpu: int = setting(1, "CPU cores of a trial, which are also its torch threads.", above=0, at_most=4096)
    gpu: float | Literal["auto"] = setting(
        "auto",
        "GPUs of a trial: a share such as 0.25, or a whole number. auto gives each trial a share by its predicted"
        " need.",
        parse=_auto_or_share_or_whole,
        accepts={"anyOf": [{"enum": ["auto", None]}, {"type": "number", "minimum": 0, "maximum": _MOST_GPUS}]},
    )
    passes: int = setting(
        4, "With gpu: auto, a trial gets the smallest share in which a step takes at most this many passes.", above=0
    )
    niceness: int = setting(
        0,
        "Niceness of the trials' processes where Headroom starts Ray: with 19 they leave a busy machine to everything"
        " else. A cluster's workers have the niceness that it was started with.",
        at_least=0,
        at_most=19,
    )
    ray_dashboard: bool = setting(
        False,
        "Serve Ray's own dashboard on loopback where Headroom starts Ray. It shows nodes, workers and their logs, and"
        " takes eleven processes with about 150 MiB of the host's memory.",
    )


_A_YEAR_S = _A_YEAR_H * 3600


@dataclass(frozen=True)
class TrialSection:
    timeout_s: float | None = setting(
        12 * 3600,
        "Seconds without a report after which a trial's worker is ended and the trial is retried. null never does.",
        above=0,
        at_most=_A_YEAR_S,
    )
