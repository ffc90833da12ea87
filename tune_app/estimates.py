"""Memory needs of models on a device, predicted before anything runs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from search_spaces.space import Choices, IntRange
from trainables.machine import MachineFiles
from tune_app.config import RunConfig
from tune_app.errors import UserError
from tune_app.folders import check_own_folders
from tune_app.screening.combinations import check_combinations, fixed_obstacle
from tune_app.screening.preconditions import (
    check_families,
    check_optimizers,
    check_weights,
    input_errors,
    model_names,
)

if TYPE_CHECKING:
    from trainables.devices.facts import TrialDevice
    from trainables.planning.needs import ModelNeed, Question, Verdict

_MOST_LENGTHS = 8

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Target:
    """Device that a memory question asks about; what is None comes from the configuration or this machine.

    Attributes:
        kind: ``cuda`` if a budget is given, else the kind of device that this machine has.
        budget_gib: memory that a trial may hold there.
        precision: ``bf16`` or ``fp32``.
    """

    kind: Device | None = None
    budget_gib: float | None = None
    precision: str | None = None


@dataclass(frozen=True)
class NeedsTable:
    """Needs of the models and lengths of a configuration, and lines on the models that cannot be combined with it."""

    question: "Question"
    rows: "list[ModelNeed]"
    left_out: list[str]


def needs_table(config: RunConfig, target: Target) -> NeedsTable:
    """Predict the needs of every model and length of the space.

    Raises:
        UserError: the configuration cannot run, a model's configuration is unavailable, or the budget of a device
            that is not here is missing.
    """
    check_optimizers(config)
    models = model_names(config)
    check_combinations(config, models)
    question = _question(config, models, target)
    from trainables.planning import needs

    with input_errors():
        able, left_out = _models_and_lengths(config)
        return NeedsTable(question, needs.model_needs(question, able, MachineFiles()), left_out)


def verdict(config: RunConfig, model: str, batch: int, length: int, target: Target) -> "tuple[Question, Verdict]":
    """Predict whether one configuration fits, and how its batch is split.

    Args:
        batch: effective batch in samples.
        length: tokens of an input.

    Raises:
        UserError: as for ``needs_table``.
    """
    check_optimizers(config)
    obstacle = fixed_obstacle(config, model, length=length)
    if obstacle is not None:
        raise UserError(str(obstacle))
    question = _question(config, [model], target)
    from trainables.planning import needs

    with input_errors():
        return question, needs.verdict(question, model, batch, length, MachineFiles())


def _question(config: RunConfig, models: list[str], target: Target) -> "Question":
    # torch and transformers take seconds to import, so the checks that can refuse the question come before.
    from trainables.devices.facts import trial_device
    from trainables.planning.needs import Question

    check_families(config, models)
    check_weights(models)
    here = trial_device(config.memory.device_gib, use_cuda=target.kind != "cpu")
    kind: Device = target.kind or ("cuda" if target.budget_gib is not None else here.kind)
    check_own_folders()
    return Question(
        settings=config.trial_settings(),
        device=kind,
        budget_gib=target.budget_gib or _budget_gib(config, kind, here),
        precision=target.precision or _precision(config, kind, here),
    )


def _models_and_lengths(config: RunConfig) -> tuple[list[tuple[str, int]], list[str]]:
    """Return the compatible pairs of model and length in the space, and lines on the other models with the problem.

    Raises:
        UserError: no pair is compatible.
    """
    able, left_out = [], dict[str, None]()
    for model in model_names(config):
        for length in _lengths(config):
            obstacle = fixed_obstacle(config, model, length=length)
            if obstacle is None:
                able.append((model, length))
            else:
                left_out[f"{model}: {obstacle.problem}"] = None
    if not able:
        raise UserError(f"tok.max_length: no model accepts these inputs: {next(iter(left_out))}")
    return able, list(left_out)


def _budget_gib(config: RunConfig, kind: Device, here: "TrialDevice") -> float:
    """Return the memory that a trial may hold when it has the whole device.

    Raises:
        UserError: the device is not of this machine, and its memory is not given.
    """
    if kind != here.kind:
        given = config.memory.budget_gib or config.memory.device_gib
        if given is None:
            raise UserError(
                "--budget-gib: is needed to ask about a CUDA card on a machine without one, e.g. --budget-gib 24"
            )
        return given
    return min(here.total_gib, config.memory.budget_gib or here.total_gib)


def _precision(config: RunConfig, kind: Device, here: "TrialDevice") -> str:
    """Return the precision that ``auto`` stands for; a card that is not here is assumed to have bf16 units."""
    if config.train.precision != "auto":
        return config.train.precision
    return here.auto_precision if kind == here.kind else "bf16"


def _lengths(config: RunConfig) -> list[int]:
    """Return the lengths that the configuration may sample; for a long range, an even selection with both ends."""
    entry = config.space.entries.get("tok.max_length") if config.space else None
    if not isinstance(entry, Choices | IntRange):
        return [config.tok.max_length]
    every = sorted(int(entry.value_at(position)) for position in range(entry.size))
    if len(every) <= _MOST_LENGTHS:
        return every
    return [every[position * (len(every) - 1) // (_MOST_LENGTHS - 1)] for position in range(_MOST_LENGTHS)]
