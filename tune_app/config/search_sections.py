"""Sections that describe how a study searches: objectives, scheduler, and the resources of its trials."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from tune_app.config.section import Section
from tune_app.objectives import Mode


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
        description="Rejected samples in a row after which the space counts as exhausted.",
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
        f" scheduler stops trials of at most {FEW_EPOCHS} epochs, else epoch.",
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
