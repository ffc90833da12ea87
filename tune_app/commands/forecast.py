"""``headroom plan``: prints the plan of a search."""

import json
import math
from collections.abc import Iterator

from rich.table import Table

from tune_app import api
from tune_app.commands.terminal import echo
from tune_app.config import RunConfig
from tune_app.console import Console
from tune_app.durations import duration_text
from tune_app.errors import UserError
from tune_app.forecast.lines import time_lines
from tune_app.forecast.plan import Plan, SpaceForecast
from tune_app.voice import Voice


def print_plan(config: RunConfig, console: Console, *, gpu_gib: float | None, as_json: bool) -> None:
    """Print the plan of a search.

    Raises:
        UserError: the configuration cannot be searched.
    """
    if gpu_gib is not None and math.isnan(gpu_gib):
        raise UserError("--gpu-gib: nan is not a number; give the memory of the card, e.g. 24")
    terminal = Console(stderr=True)
    with Voice(terminal, quiet=not terminal.is_terminal) as voice:
        plan = api.plan(config, gpu_gib=gpu_gib, doing=voice.doing)
    if as_json:
        echo(json.dumps(plan.as_dict()))
        return
    for line in _space_lines(plan.space):
        console.say(line)
    _print_memory(console, plan)
    for line in (*_packing_lines(plan), *_time_lines(plan)):
        console.say(line)
    for warned in plan.warnings:
        console.say(f"warning    {warned.setting}: {warned.message}")


def _space_lines(space: SpaceForecast) -> Iterator[str]:
    size = "an infinite number of" if space.size is None else f"{space.size:,}"
    how = f"estimated from {space.counted:,} random ones" if space.sampled else "counted exactly"
    yield f"space      {size} configurations; {space.can_run:.1%} can run ({how})"
    for rule, share in space.rejected.items():
        worst = ", ".join(
            f"{one.setting}={one.value} {one.share:.0%}" for one in space.suffering.get(rule, []) if one.share
        )
        yield f"  {rule} rejects {share:.1%}{f'; most of {worst}' if worst else ''}"


def _print_memory(console: Console, plan: Plan) -> None:
    question, rows = plan.memory.question, plan.memory.rows
    console.say(f"memory     {question.device} with {question.budget_gib:.4g} GiB, {question.precision}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("  model")
    for column in ("length", "need of 1 sample", "largest micro-batch"):
        table.add_column(column, justify="right")
    for row in rows:
        need = f"{row.need_gib:.3g} GiB{' *' if row.checkpointing else ''}"
        table.add_row(f"  {row.model}", str(row.length), need, str(row.max_micro_batch or "does not fit"))
    console.print(table)
    if any(row.checkpointing for row in rows):
        console.say("  * with checkpointing: not even one sample fits without")
    for line in plan.memory.left_out:
        console.say(f"  left out: {line}")


def _packing_lines(plan: Plan) -> Iterator[str]:
    packing = plan.packing
    shares = ", ".join(f"{share:.0%} of the trials get {gpus:g} of a card" for gpus, share in packing.shares.items())
    count = f"{packing.at_once} trial{'s' if packing.at_once != 1 else ''} side by side"
    yield f"packing    {count}{f': {shares}' if shares else ' on the CPU'}"


def _time_lines(plan: Plan) -> Iterator[str]:
    time = plan.time
    if time is None:
        yield "hours      not known: this machine has no such card to time"
        return
    trials = ", ".join(f"{model} {duration_text(seconds)}" for model, seconds in time.trial_s.items())
    yield f"trial      to its end: {trials}"
    yield from time_lines(time, plan.trials)
    yield f"disk       {time.disk_gib:.3g} GiB of checkpoints at most"
