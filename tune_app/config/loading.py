"""Loading of configurations: a YAML file and its overrides become a complete, checked configuration."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search_spaces.rules import RuleEntryError
from search_spaces.space import Params
from trainables.declaration import values_of
from trainables.registry import RegistryError
from trainables.settings import TaskSettings
from tune_app.config.checks import check
from tune_app.config.messages import one_line
from tune_app.config.models import model_of, validated
from tune_app.config.named_space import FROM, settle, write_out
from tune_app.config.old_names import OLD_WARMUP, WARMUP, keep_split_of_export, rename_warmup
from tune_app.config.overrides import Overrides, apply_override, named_values
from tune_app.config.parameters import check_parameter, parsed_space
from tune_app.config.paths import with_absolute_paths
from tune_app.config.run import RunConfig
from tune_app.config.yaml_files import read_yaml
from tune_app.errors import UserError


def load_config(source: str | Path | Mapping[str, Any], overrides: Overrides = ()) -> RunConfig:
    """Return the complete, checked configuration of a run.

    Args:
        source: YAML file, or its content as a dictionary.
        overrides: values by dotted name, such as ``{"train.epochs": 5}``, or texts ``KEY=VALUE``. They go before what
            the source says.

    Raises:
        UserError: the file or a setting is wrong; the message names it, its value and the remedy in one line.
    """
    if isinstance(source, Mapping):
        return parse_config(source, overrides)
    return parse_config(read_yaml(Path(source)), overrides, where=str(source))


@contextmanager
def _entries_refused() -> Iterator[None]:
    """Report an entry of another distribution that cannot be used as bad input."""
    try:
        yield
    except (RegistryError, RuleEntryError) as error:
        raise UserError(str(error)) from None


@_entries_refused()
def parse_config(given: Mapping[str, Any], overrides: Overrides = (), where: str = "the configuration") -> RunConfig:
    """Apply overrides to plain data and check it; see ``load_config``."""
    raw = copy.deepcopy(dict(given))
    named = None
    in_epochs = rename_warmup(raw)
    keep_split_of_export(raw)
    for name, value in named_values(overrides):
        if name.startswith("space.") and name != f"space.{FROM}":
            # Write the named space out first: the override may change a single field of an entry, or remove it.
            named = write_out(raw, check_parameter) or named
        apply_override(raw, name, value)
        in_epochs = name == OLD_WARMUP or (in_epochs and name != WARMUP)
    named = write_out(raw, check_parameter) or named
    try:
        if named is not None:
            settle(raw, named, _fixed_outside)
        config: RunConfig = validated(RunConfig, {**raw, "space": parsed_space(raw.get("space"))})
    except ValidationError as error:
        raise UserError(one_line(error, where, root=model_of(RunConfig))) from None
    check(config)
    if in_epochs and config.step_scale.is_fold:
        raise UserError(
            f"{OLD_WARMUP}: {config.scheduler.warmup} counts epochs, and with data.folds {config.data.folds} trials"
            f" report folds; give {WARMUP} instead, in folds"
        )
    return with_absolute_paths(config)


def _fixed_outside(raw: dict[str, Any]) -> Params:
    config: RunConfig = validated(RunConfig, {**raw, "space": None})
    return config.fixed_params()


def with_classes(config: RunConfig, names: Sequence[str]) -> RunConfig:
    """Return the configuration with the classes that its data holds.

    Raises:
        UserError: ``task.classes`` is another number, or another setting does not fit this number of classes.
    """
    if config.task.classes not in (None, len(names)):
        listed = ", ".join(names[:20])
        raise UserError(
            f"task.classes: {config.task.classes}: the data holds {len(names)} classes ({listed}), and a class"
            " without rows lowers every mean over classes; leave task.classes out"
        )
    values = {**values_of(config.task), "classes": len(names), "labels": tuple(names)}
    try:
        changed = replace(config, task=validated(TaskSettings, values))
    except ValidationError as error:
        line = one_line(error, "the configuration", root=model_of(TaskSettings), prefix=("task",))
        raise UserError(line) from None
    check(changed)
    return changed
