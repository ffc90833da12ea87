"""Preconditions of a search: usable data, and available models and optimizers.

They are checked before anything is started or written.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.machine import cpu_cores
from trainables.optimizers import OptimizerMissingError, check_installed
from trainables.task_registry import TASKS
from tune_app.config import RunConfig, with_classes
from tune_app.errors import UserError
from tune_app.screening.combinations import check_combinations
from tune_app.study.record import EQUAL_TEXTS, StudyRecord

if TYPE_CHECKING:
    from trainables.data.split import Development
    from trainables.models.families import Architecture
    from trainables.models.names import ModelSource


@contextmanager
def input_errors() -> Iterator[None]:
    """Turn an error about the data or a model into one that names the setting.

    Raises:
        UserError: the data cannot be used, a model is unknown, or its files are.
    """
    from trainables.data.errors import DataError
    from trainables.models.checkpoint import ModelLoadError
    from trainables.models.names import UnknownModelError

    try:
        yield
    except DataError as error:
        raise UserError(f"data.path: {error}") from None
    except (UnknownModelError, ModelLoadError) as error:
        raise UserError(f"model.name: {error}") from None


def development_of(config: RunConfig) -> "Development":
    """Read the data that a configuration names.

    Raises:
        UserError: the data cannot be used.
    """
    from trainables.data.rows import require_evidence
    from trainables.data.split import read_development

    settings = config.trial_settings()
    with input_errors():
        development = read_development(settings.data, settings.task.labels, settings.seeds.split)
        if settings.task.finds_spans:
            require_evidence(development.rows, settings.data)
    return development


def with_classes_of_data(config: RunConfig) -> RunConfig:
    """Return the configuration with the classes that its data holds.

    Raises:
        UserError: the data cannot be used, or its classes contradict a setting.
    """
    return with_classes(config, development_of(config).rows.class_names)


def study_record(config: RunConfig) -> StudyRecord:
    """Check everything that a search needs before it starts, and return the record of its study.

    Args:
        config: configuration with the classes of its data.

    Raises:
        UserError: there is no space, the data cannot be used, a model is unknown, or an optimizer is not installed.
    """
    from trainables.models.names import resolve_model

    if config.space is None:
        raise UserError(
            "space: is missing; name at least one parameter to search, e.g. optim.lr, or use headroom train"
        )
    check_optimizers(config)
    check_combinations(config, model_names(config))
    development = development_of(config)
    with input_errors():
        sources = [resolve_model(name) for name in model_names(config)]
    first, *further = config.objectives
    return StudyRecord(
        space=config.space,
        task=config.task.name,
        metric=first.name,
        mode=first.mode,
        data_fingerprint=development.fingerprint,
        fixed={
            **config.fixed_for_study(),
            **({EQUAL_TEXTS: config.data.equal_texts} if development.tied.texts else {}),
        },
        further=tuple(further),
        per_epoch=config.reports_per_epoch(development.fewest_rows),
        models=_model_fingerprints(sources),
    )


def _model_fingerprints(sources: Iterable["ModelSource"]) -> dict[str, str]:
    """Return the fingerprints of the models that are folders, by model name.

    Raises:
        UserError: a file in a model folder cannot be read.
    """
    from trainables.content import model_fingerprint

    try:
        return {source.name: model_fingerprint(Path(source.path)) for source in sources if source.path is not None}
    except OSError as error:
        raise UserError(f"model.name: {error.filename} cannot be read ({error.strerror}); make it readable") from None


def check_models(config: RunConfig, *, from_here: bool) -> None:
    """Refuse models that no trial could load: incomplete folders, and names that the hub does not provide.

    Args:
        from_here: whether trials run on this machine, and so need the hub's models here. The check fetches only their
            tokenizers, which trials need as well.

    Raises:
        UserError: a model cannot be loaded; the message names the model and the problem.
    """
    from trainables.models.load import check_files, load_tokenizer
    from trainables.models.names import resolve_model
    from trainables.settings import revision_of

    model = config.trial_settings().model
    for source in map(resolve_model, model_names(config)):
        with input_errors():
            if source.kind == "folder":
                check_files(source)
            elif source.kind == "hub" and from_here:
                load_tokenizer(source.name, revision_of(model, source.name))
    check_families(config, model_names(config), from_here=from_here)


def check_weights(models: Sequence[str]) -> None:
    """Refuse model folders whose weights do not match their ``config.json``; a folder without weights is accepted.

    Raises:
        UserError: weights do not match, or a model's files cannot be read; the message names the model.
    """
    from trainables.models import load
    from trainables.models.checkpoint import has_weights, read_config
    from trainables.models.names import resolve_model

    with input_errors():
        for source in map(resolve_model, models):
            if source.kind == "folder" and has_weights(source):
                load.check_weights(source, read_config(source))


def check_families(config: RunConfig, models: Sequence[str], *, from_here: bool = True) -> None:
    """Refuse models of families that no trial can train or score, by trying a small model of each (about a second).

    Args:
        models: every model that a trial may use. Built-in ones are not tried.
        from_here: whether to refuse models whose configuration is unavailable on this machine, too.

    Raises:
        UserError: a family is unusable; the message names the model and the problem.
    """
    from trainables.models.checkpoint import ModelLoadError
    from trainables.models.names import UnknownModelError, resolve_model
    from trainables.planning.needs import encoder_config
    from trainables.settings import revision_of
    from trainables.stand_ins import check_trainable

    settings = config.trial_settings()
    searched = config.space is not None and "head.pooling" in config.space.entries
    task = TASKS[config.task.name]
    # A task of spans alone does not pool.
    pooling = "mean" if not task.chooses_class else None if searched else config.head.pooling
    tried: set[str] = set()
    for name in models:
        try:
            if resolve_model(name).kind == "builtin":
                continue
            facts = encoder_config(name, revision_of(settings.model, name))
        except (UnknownModelError, ModelLoadError) as error:
            if from_here:
                raise UserError(f"model.name: {error}") from None
            continue
        if facts.model_type in tried:
            continue
        tried.add(facts.model_type)
        with input_errors():
            check_trainable(name, facts, pooling)


def model_names(config: RunConfig) -> list[str]:
    """Return the names of all models that a trial of the search may use."""
    names = _names(config, "model.name", config.model.name)
    if TASKS[config.task.name].encoders > 1:
        names += _names(config, "model.criteria_name", config.model.criteria_name or config.model.name)
    return list(dict.fromkeys(names))


def check_cpu(config: RunConfig) -> None:
    """Refuse more CPU cores for a trial than this machine gives this process.

    Raises:
        UserError: there are too few cores; the message names both numbers.
    """
    wanted, there = config.resources.cpu, cpu_cores()
    if wanted > there:
        raise UserError(f"resources.cpu: {wanted} is more than the {there} CPU cores of this machine; lower it")


def check_gpus(config: RunConfig) -> None:
    """Refuse more GPUs for a trial than this machine has.

    Raises:
        UserError: there are too few GPUs; the message names both numbers.
    """
    from trainables.devices.facts import torch_facts

    wanted, made = config.resources.gpu, config.memory.device_gib is not None
    if wanted == "auto" or wanted == 0:
        return
    there = len(torch_facts().devices)
    if wanted > max(there, 1 if made else 0):
        what = f"{there} GPUs" if there else "none"
        raise UserError(f"resources.gpu: {wanted:g}, and this machine has {what}; lower it, or set auto")


def check_optimizers(config: RunConfig) -> None:
    """Refuse an optimizer that a trial may use and that is not installed, without importing anything.

    Raises:
        UserError: an optimizer is missing; the message names the extra that provides it.
    """
    for name in _names(config, "optim.name", config.optim.name):
        try:
            check_installed(name)
        except OptimizerMissingError as error:
            raise UserError(str(error)) from None


def _names(config: RunConfig, setting: str, fixed: str) -> list[str]:
    entry = config.space.entries.get(setting) if config.space else None
    return [fixed] if entry is None else [str(name) for name in entry.examples]


def architectures(config: RunConfig) -> "dict[str, Architecture | None]":
    """Return each model's architecture; None for a model whose configuration this machine lacks."""
    from trainables.models.sizes import architecture
    from trainables.settings import revision_of

    model = config.trial_settings().model
    return {name: architecture(name, revision_of(model, name), fetch=False) for name in model_names(config)}
