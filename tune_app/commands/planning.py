"""``headroom memory``: prints predicted memory needs."""

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tune_app.commands.terminal import echo
from tune_app.config import RunConfig
from tune_app.console import Console
from tune_app.errors import UserError
from tune_app.estimates import NeedsTable, Target, needs_table, verdict
from tune_app.voice import Voice

if TYPE_CHECKING:
    from trainables.planning.needs import ModelNeed, Question, Verdict


def print_needs(
    config: RunConfig,
    console: Console,
    target: Target,
    *,
    model: str | None,
    batch: int | None,
    length: int | None,
    as_json: bool,
) -> None:
    """Print the table of needs, or with ``model``, ``batch`` and ``length`` the verdict on one configuration.

    Raises:
        UserError: the three are not given together, or a model's configuration is unavailable.
    """
    _check_question(target, model=model, batch=batch, length=length)
    terminal = Console(stderr=True)
    with Voice(terminal, quiet=not terminal.is_terminal) as voice:
        voice.doing("predicting the memory of the models")
        if model is not None and batch is not None and length is not None:
            question, answer = verdict(config, model, batch, length, target)
            echo(json.dumps(_contracted(answer)) if as_json else _verdict_line(question, answer))
            return
        needs = needs_table(config, target)
    if as_json:
        echo(json.dumps([_contracted(row) for row in needs.rows]))
    else:
        _print_table(console, needs, config.memory.headroom)


def _check_question(target: Target, *, model: str | None, batch: int | None, length: int | None) -> None:
    """Refuse questions without an answer.

    Raises:
        UserError: the question is refused; the message names the option.
    """
    if target.budget_gib is not None and math.isnan(target.budget_gib):
        raise UserError("--budget-gib: nan is not a number; give the memory of the card, e.g. 24")
    asked = {"--model": model, "--batch": batch, "--length": length}
    missing = [option for option, value in asked.items() if value is None]
    if missing and len(missing) < len(asked):
        raise UserError(
            f"{', '.join(missing)}: missing; give --model, --batch and --length for a verdict, or none of them for the"
            " table"
        )


def _verdict_line(question: "Question", answer: "Verdict") -> str:
    split = f"{answer.accumulation_steps} × {answer.micro_batch}" if answer.fits else "not even one sample"
    if answer.fits and answer.checkpointing:
        split += " with checkpointing"
    return (
        f"{'fits' if answer.fits else 'does not fit'}: {answer.model}, effective batch {answer.effective_batch}, length"
        f" {answer.length}, {answer.precision} on {answer.device} with {answer.budget_gib:g} GiB: {split}, needs"
        f" {answer.need_gib:.3g} GiB of {question.allowed_gib:.3g} allowed (predicted)"
    )


def _print_table(console: Console, needs: NeedsTable, headroom: float) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    for column in ("length", "need of 1 sample", "largest micro-batch", "largest evaluation batch"):
        table.add_column(column, justify="right")
    for row in needs.rows:
        mark = " *" if row.checkpointing else ""
        table.add_row(
            row.model,
            str(row.length),
            f"{row.need_gib:.3g} GiB{mark}",
            f"{row.max_micro_batch}{mark}",
            str(row.max_eval_batch),
        )
    console.print(table)
    if any(row.checkpointing for row in needs.rows):
        console.say("* with checkpointing: not even one sample fits without")
    for line in needs.left_out:
        console.say(f"left out: {line}")
    question = needs.question
    console.say(
        f"predicted for {question.device} with {question.budget_gib:.4g} GiB, {question.precision};"
        f" {headroom:.0%} of it stays free"
    )


def _contracted(answer: "ModelNeed | Verdict") -> dict[str, Any]:
    """Return the keys of the JSON contract."""
    return {name: value for name, value in asdict(answer).items() if name != "checkpointing"}
