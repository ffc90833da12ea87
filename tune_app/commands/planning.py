"""``headroom memory``: memory needs of models on a device, predicted before anything runs."""

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from search_spaces.space import Choices, IntRange
from trainables.machine import MachineFiles
from tune_app.commands.terminal import echo
from tune_app.config import RunConfig
from tune_app.console import Console
from tune_app.errors import UserError
from tune_app.folders import check_own_folders
from tune_app.search.combinations import check_combinations, fixed_obstacle
from tune_app.search.preconditions import check_families, check_optimizers, check_weights, model_names
from tune_app.voice import Voice

if TYPE_CHECKING:
    from trainables.devices.facts import TrialDevice
    from trainables.planning.needs import ModelNeed, Verdict

_MOST_LENGTHS = 8

Device = Literal["cpu", "cuda"]


def print_needs(
    config: RunConfig,
    console: Console,
    *,
    budget_gib: float | None,
    device: Device | None,
    precision: str | None,
    model: str | None,
    batch: int | None,
    length: int | None,
    as_json: bool,
) -> None:
    """Print the table of needs, or with ``model``, ``batch`` and ``length`` the verdict on one configuration.

    Raises:
        UserError: the three are not given together, or a model's configuration is unavailable.
    """
    _check_question(config, budget_gib=budget_gib, model=model, batch=batch, length=length)
    # torch and transformers take seconds to import.
    from trainables.data.rows import DataError
    from trainables.devices.facts import trial_device
    from trainables.models.checkpoint import ModelLoadError
    from trainables.models.names import UnknownModelError
    from trainables.planning.needs import Question, model_needs, verdict

    asked = [model] if model is not None else model_names(config)
    check_families(config, asked)
    check_weights(asked)
    here = trial_device(config.memory.device_gib, use_cuda=device != "cpu")
    kind: Device = device or ("cuda" if budget_gib is not None else here.kind)
    budget_gib = budget_gib or _budget_gib(config, kind, here)
    question = Question(
        settings=config.trial_settings(),
        device=kind,
        budget_gib=budget_gib,
        precision=precision or _precision(config, kind, here),
    )
    check_own_folders()
    files = MachineFiles()
    terminal = Console(stderr=True)
    try:
        with Voice(terminal, quiet=not terminal.is_terminal) as voice:
            voice.doing("predicting what the models need")
            if model is not None and batch is not None and length is not None:
                answer = verdict(question, model, batch, length, files)
                if as_json:
                    echo(json.dumps(_contracted(answer)))
                    return
                split = f"{answer.accumulation_steps} × {answer.micro_batch}" if answer.fits else "not even one sample"
                if answer.fits and answer.checkpointing:
                    split += " with checkpointing"
                console.say(
                    f"{'fits' if answer.fits else 'does not fit'}: {model}, effective batch {batch}, length {length},"
                    f" {answer.precision} on {kind} with {budget_gib:g} GiB: {split}, needs {answer.need_gib:.3g} GiB"
                    f" of {question.allowed_gib:.3g} allowed (predicted)"
                )
                return
            able, left_out = _models_and_lengths(config)
            rows = model_needs(question, able, files)
    except (UnknownModelError, ModelLoadError) as error:
        raise UserError(f"model.name: {error}") from None
    except DataError as error:
        raise UserError(f"data.path: {error}") from None
    if as_json:
        echo(json.dumps([_contracted(row) for row in rows]))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    for column in ("length", "need of 1 sample", "largest micro-batch", "largest evaluation batch"):
        table.add_column(column, justify="right")
    for row in rows:
        mark = " *" if row.checkpointing else ""
        table.add_row(
            row.model,
            str(row.length),
            f"{row.need_gib:.3g} GiB{mark}",
            f"{row.max_micro_batch}{mark}",
            str(row.max_eval_batch),
        )
    console.print(table)
    if any(row.checkpointing for row in rows):
        console.say("* with checkpointing: not even one sample fits without")
    for line in left_out:
        console.say(f"left out: {line}")
    console.say(
        f"predicted for {kind} with {budget_gib:.4g} GiB, {question.precision};"
        f" {config.memory.headroom:.0%} of it is kept free"
    )


def _check_question(
    config: RunConfig, *, budget_gib: float | None, model: str | None, batch: int | None, length: int | None
) -> None:
    """Refuse questions without an answer, before anything slow is imported.

    Raises:
        UserError: the question is refused; the message names the option or the setting.
    """
    if budget_gib is not None and math.isnan(budget_gib):
        raise UserError("--budget-gib: nan is no number; give the memory of the card, e.g. 24")
    asked = {"--model": model, "--batch": batch, "--length": length}
    missing = [option for option, value in asked.items() if value is None]
    if missing and len(missing) < len(asked):
        raise UserError(
            f"{', '.join(missing)}: missing; give --model, --batch and --length for a verdict, or none of them for the"
            " table"
        )
    check_optimizers(config)
    if model is not None and length is not None:
        obstacle = fixed_obstacle(config, model, tok__max_length=length)
        if obstacle is not None:
            raise UserError(str(obstacle))
    else:
        check_combinations(config, model_names(config))


def _models_and_lengths(config: RunConfig) -> tuple[list[tuple[str, int]], list[str]]:
    """Return the compatible pairs of model and length in the space, and lines on the other models with the problem.

    Raises:
        UserError: no pair is compatible.
    """
    able, left_out = [], dict[str, None]()
    for model in model_names(config):
        for length in _lengths(config):
            obstacle = fixed_obstacle(config, model, tok__max_length=length)
            if obstacle is None:
                able.append((model, length))
            else:
                left_out[f"{model}: {obstacle.problem}"] = None
    if not able:
        raise UserError(f"tok.max_length: no model can take what is asked: {next(iter(left_out))}")
    return able, list(left_out)


def _contracted(answer: "ModelNeed | Verdict") -> dict[str, Any]:
    """Return the keys of the JSON contract."""
    return {name: value for name, value in asdict(answer).items() if name != "checkpointing"}


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
    every = sorted(int(entry.value_at(place)) for place in range(entry.size))
    if len(every) <= _MOST_LENGTHS:
        return every
    return [every[place * (len(every) - 1) // (_MOST_LENGTHS - 1)] for place in range(_MOST_LENGTHS)]
