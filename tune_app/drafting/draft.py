"""Draft of a configuration for a data file; ``draft`` shows its making in order."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.task_registry import TASKS
from tune_app.config import RunConfig, load_config
from tune_app.config.yaml_files import parse_yaml
from tune_app.drafting.columns import OPTIONS, Role, Roles, assign
from tune_app.drafting.effort import UNPLANNED, Effort, effort_for
from tune_app.drafting.machine import SMALLEST, Machine, models_for, readers, this_machine
from tune_app.drafting.names import HEADER
from tune_app.drafting.profiles import profiles
from tune_app.drafting.settings import Chosen, data_settings, drafted_settings
from tune_app.drafting.summary import Summary, foreign_letters, summarise
from tune_app.drafting.text import Drafted, raw_config, yaml_text
from tune_app.errors import UserError, nearest
from tune_app.estimates import verdict
from tune_app.forecast.hours import Range
from tune_app.forecast.plan import make_plan
from tune_app.progress.opening import data_lines
from tune_app.screening.preconditions import development_of, study_record, with_classes_of_data

if TYPE_CHECKING:
    from trainables.data.split import Development

_FALLBACK_NAME = "study"
_LONGEST_NAME = 60
_SUFFIXES = r"(\.(csv|tsv|txt|jsonl|ndjson|parquet))?(\.gz)?$"
# The batch of most recommendations.
_BATCH = 32


def draft(
    data: str,
    given: Mapping[str, str],
    doing: Callable[[str], None] = lambda _: None,
    *,
    task: str | None = None,
    machine: Machine | None = None,
    planned_hours: Callable[[RunConfig], Range] | None = None,
) -> str:
    """Return a complete configuration for a data file, with the reason for each setting above it.

    Args:
        data: data file, or ``demo``.
        given: columns that a person named, by role.
        doing: called with the next step of the work.
        task: name of the task; None takes the one that the data allows.
        machine: machine to draft for; None means this one.
        planned_hours: returns the hours of a configuration's search; None plans them on this machine.

    Raises:
        UserError: the file cannot be used, or the role of a column cannot be told; the message names the remedy.
    """
    if task is not None and task not in TASKS:
        raise UserError(f"--task: {task!r} is no task{nearest(task, TASKS)}; name one of {', '.join(TASKS)}")
    doing("reading the data")
    start = load_config({"study": {"name": study_name(data)}, "data": {"path": data}})
    roles = _readable(start, _roles(start.data.path, data, given), is_group_guessed="group_id" not in given)
    basis = _with_columns(start, roles)
    development = development_of(basis)

    doing("measuring the texts")
    machine = machine or this_machine()
    models, why = models_for(machine, foreign_letters(development.rows.texts))
    summary = _summary(development, basis, models, machine)

    doing("predicting the memory of the models")
    chosen = _fitting(Chosen(models, why, summary.lengths.suggested, _task(task, development, summary)), basis, machine)

    columns = data_settings(basis.study.name, data, roles, development.tied.texts)

    def settings_with(effort: Effort) -> list[Drafted]:
        return [*columns, *drafted_settings(chosen, summary, machine, effort)]

    planned_hours = planned_hours or (lambda config: make_plan(config, gpu_gib=None, doing=doing).hours)
    hours = planned_hours(load_config(raw_config(settings_with(UNPLANNED))))
    settings = settings_with(_possible(basis, effort_for(hours, summary.rows), summary.rows))

    doing("checking the configuration")
    config = with_classes_of_data(load_config(raw_config(settings)))
    text = yaml_text(_head(data, config, summary, machine), settings)
    study_record(with_classes_of_data(load_config(parse_yaml(text))))
    return text


def study_name(data: str) -> str:
    """Return a name for the study of a data file."""
    stem = re.sub(_SUFFIXES, "", Path(data).name, flags=re.IGNORECASE)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")
    return name[:_LONGEST_NAME] or _FALLBACK_NAME


def _roles(path: str, data: str, given: Mapping[str, str]) -> Roles:
    from trainables.data.errors import DataError
    from trainables.data.table import read_cells

    try:
        found = profiles(read_cells(path, HEADER).frame)
    except DataError as error:
        raise UserError(str(error)) from None
    try:
        roles = assign(found, given)
    except UserError as error:
        raise UserError(f"{data}: {error}") from None
    return roles


def _with_columns(start: RunConfig, roles: Roles) -> RunConfig:
    columns = {role: chosen.column for role, chosen in roles.items()}
    return load_config({"study": {"name": start.study.name}, "data": {"path": start.data.path, "columns": columns}})


def _readable(start: RunConfig, roles: Roles, *, is_group_guessed: bool) -> Roles:
    """Return the roles with which the data can be read and split; without a guessed group if that forbids it.

    Raises:
        UserError: the data cannot be used.
    """
    group = roles["group_id"].column
    try:
        development_of(_with_columns(start, roles))
    except UserError as error:
        if group is None or not is_group_guessed:
            raise
        why = f"Every row is its own group: with {group!r}, named like one, the data cannot be split ({error})."
        single = {**roles, "group_id": Role(None, why)}
        try:
            development_of(_with_columns(start, single))
        except UserError:
            # The group is not the problem.
            raise error from None
        return single
    return roles


def _task(wanted: str | None, development: "Development", summary: Summary) -> tuple[str, str]:
    """Return the task's name, and the reason for it.

    Raises:
        UserError: the wanted task needs evidence, and there is none.
    """
    has_evidence = bool((development.rows.evidence[:, 0] >= 0).any())
    if wanted is not None:
        if TASKS[wanted].finds_spans and not has_evidence:
            raise UserError(
                f"--task: {wanted} finds evidence, and no columns hold its character offsets; name them evidence_start"
                " and evidence_end, or leave --task out"
            )
        return wanted, "Named with --task."
    if not has_evidence:
        return "criteria", "Chooses a class of each text: no columns hold character offsets of evidence."
    others = "--task criteria drafts for the label alone, --task joint and share for both."
    if summary.marks_evidence:
        return "evidence", f"Finds the words that show it, or none. The label only says whether there are any: {others}"
    return "joint", "Chooses a class and finds the evidence, with an encoder for each; --task share has one for both."


def _summary(development: "Development", basis: RunConfig, models: tuple[str, ...], machine: Machine) -> Summary:
    from trainables.models.checkpoint import ModelLoadError

    *first, last = readers(models, machine)
    for model in first:
        try:
            return summarise(development, basis.trial_settings(), model)
        except ModelLoadError:
            continue  # The last one is on every machine.
    return summarise(development, basis.trial_settings(), last)


def _fitting(chosen: Chosen, basis: RunConfig, machine: Machine) -> Chosen:
    """Return the models that fit the machine, with their needs; if none does, the first smaller one that fits."""
    config = load_config(basis.as_dict(), {"task.name": chosen.task_name[0]})
    fitting: list[str] = []
    lines, allowed_gib = [], 0.0
    for model in dict.fromkeys([*chosen.models, *readers(chosen.models, machine)]):
        if fitting and model not in chosen.models:
            break
        question, answer = verdict(config, model, _BATCH, chosen.max_length, machine.target)
        passes = f"{answer.accumulation_steps} × {answer.micro_batch}" if answer.fits else "does not fit"
        lines.append(f"{model} {answer.need_gib:.2g} GiB ({passes})")
        allowed_gib = question.allowed_gib
        if answer.fits:
            fitting.append(model)
    needs = (
        f"Predicted need of a batch of {_BATCH} at {chosen.max_length} tokens, of {allowed_gib:.3g} GiB that a trial"
        f" may use: {', '.join(lines)}."
    )
    return replace(chosen, models=tuple(fitting) or (SMALLEST,), why=f"{chosen.why} {needs}")


def _possible(basis: RunConfig, effort: Effort, rows: int) -> Effort:
    """Return the effort without a limit on the rows if so few rows cannot be split."""
    if effort.max_rows is None:
        return effort
    try:
        development_of(load_config(basis.as_dict(), {"data.max_rows": effort.max_rows}))
    except UserError:
        return effort.on_all_rows(rows)
    return effort


def _head(data: str, config: RunConfig, summary: Summary, machine: Machine) -> list[str]:
    """Return the comment above the settings: how to run them, and the data's figures."""
    options = " ".join(OPTIONS.values())
    return [
        "yaml-language-server: $schema=schema.json",
        f"Written by headroom init {data} for {machine.line}. Run it: headroom search THIS_FILE",
        "Every value may be changed; headroom config reference explains all settings. For an editor that completes and",
        "checks them: headroom config schema > schema.json, beside this file. A column that was guessed wrong is named",
        f"with {options}.",
        "",
        *data_lines(config, from_here=machine.has_hub),
        "",
        *summary.class_lines(),
        "",
        *summary.lengths.lines(),
        *summary.warnings(),
    ]
