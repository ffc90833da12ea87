"""Warnings before a search: settings that waste it, or that make its result mean little."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from tune_app.config import RunConfig
from tune_app.forecast.edges import edge_warnings
from tune_app.progress.opening import yardstick_of
from tune_app.schedulers import SCHEDULERS
from tune_app.screening.preconditions import development_of

_HIGH_BASELINE = 0.8
_SEARCHED_FOR = 0.02
"""Gain that a search usually has over good defaults: 0.6 to 2 points."""


@dataclass(frozen=True)
class Warned:
    """Warning with the setting, or the environment variable, that it is about."""

    setting: str
    message: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def warnings_of(config: RunConfig, data_fingerprint: str) -> list[Warned]:
    """Return the warnings of a configuration with the classes of its data.

    Args:
        data_fingerprint: fingerprint of the data, by which earlier studies on it are found.

    Raises:
        UserError: the data cannot be used.
    """
    checks: Sequence[Callable[[RunConfig], Iterator[Warned]]] = (
        _scheduler,
        _warmup,
        _accelerators,
        _environment,
        _baseline,
        _noise,
    )
    found = [warned for check in checks for warned in check(config)]
    return [*found, *(Warned(f"space.{name}", text) for name, text in edge_warnings(config, data_fingerprint))]


def _scheduler(config: RunConfig) -> Iterator[Warned]:
    scheduler, search = config.scheduler, config.search
    if not SCHEDULERS[scheduler.name].stops:
        return
    if scheduler.startup_trials >= search.trials:
        yield Warned(
            "scheduler.startup_trials",
            f"{scheduler.startup_trials} first trials are never stopped, and the study launches {search.trials}:"
            f" {scheduler.name} can stop none of them; lower it",
        )
    elif search.recommended >= search.trials:
        yield Warned(
            "search.recommended",
            f"{search.recommended} recommended trials are never stopped, and the study launches {search.trials}:"
            f" {scheduler.name} can stop none of them; lower it, or raise search.trials",
        )


def _warmup(config: RunConfig) -> Iterator[Warned]:
    scheduler, scale = config.scheduler, config.step_scale
    if SCHEDULERS[scheduler.name].stops and config.first_rung > scale.count / 2:
        yield Warned(
            "scheduler.warmup",
            f"no trial is stopped before {scale.label(config.first_rung)} of {scale.shown(scale.count)}: most of every"
            " trial's time is spent before the first decision; lower it",
        )
    steps = _fewest_steps(config)
    ratio = config.bounds("schedule.warmup_ratio")[1]
    if ratio >= 0.5:
        yield Warned(
            "schedule.warmup_ratio",
            f"{ratio:g} of the training is spent raising the learning rate; 0.1 is usual",
        )
    elif ratio > 0 and steps * ratio < 1:
        yield Warned(
            "schedule.warmup_ratio",
            f"a trial with the largest batch takes {steps} optimizer steps, of which {ratio:g} is less than one:"
            " there is no warm-up; raise train.epochs, or lower train.batch_size",
        )


def _fewest_steps(config: RunConfig) -> int:
    development = development_of(config)
    return config.train.epochs * -(-development.fewest_rows // config.effective_batches()[1])


def _accelerators(config: RunConfig) -> Iterator[Warned]:
    from trainables.devices.facts import torch_facts

    cards, train = torch_facts().devices, config.train
    if config.resources.gpu == 0 or not cards:
        return
    if all(card.tf32 for card in cards) and not train.tf32 and train.precision == "fp32":
        yield Warned("train.tf32", f"false, and {cards[0].name} multiplies in TF32 several times as fast; set true")
    if all(card.bf16 for card in cards) and train.precision == "fp32":
        yield Warned(
            "train.precision", f"fp32, and {cards[0].name} has bf16 units, with half the memory; set bf16 or auto"
        )


def _environment(config: RunConfig) -> Iterator[Warned]:
    value = os.environ.get("CUDA_LAUNCH_BLOCKING", "")
    if value not in ("", "0"):
        yield Warned(
            "CUDA_LAUNCH_BLOCKING",
            f"{value} in the environment: every kernel waits for the one before, which takes 10 to 20 % of the time;"
            " unset it",
        )


def _baseline(config: RunConfig) -> Iterator[Warned]:
    metric = config.objectives[0].name
    answer, value = max(yardstick_of(config).baselines.items(), key=lambda item: item[1], default=("", 0.0))
    if value >= _HIGH_BASELINE:
        better = " or task.objective=macro_f1" if metric == "accuracy" else ""
        yield Warned(
            "search.metric",
            f"{metric} is {value:.3f} without learning ({answer}): it hardly tells models apart; choose another"
            f" metric{better}",
        )


def _noise(config: RunConfig) -> Iterator[Warned]:
    from trainables.data.summary import validated

    error, rows = yardstick_of(config).standard_error, len(validated(development_of(config)))
    if error > _SEARCHED_FOR:
        setting = "data.validation_share" if config.data.folds is None else "data.path"
        yield Warned(
            setting,
            f"the standard error of {config.objectives[0].name} on {rows:,} validation rows is at least {error:.3f},"
            f" more than the {_SEARCHED_FOR:g} that a search usually gains: the best trial may be the luckiest; give"
            " validation more rows, set data.folds, or confirm the winner",
        )
