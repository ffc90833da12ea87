"""Export of a study's results: ``best.yaml``, which ``headroom train`` runs unchanged, and ``leaderboard.csv``.

A study with several objectives also gets ``front.csv``: the trials that no other beats.
"""

import csv
import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from pydantic import ValidationError

from trainables.files import whole_file, write_whole
from tune_app.config import PinnedSection, RunConfig
from tune_app.config.messages import one_line
from tune_app.config.models import model_of, validated
from tune_app.config.yaml_files import yaml_text
from tune_app.errors import UserError, lacks_password
from tune_app.objectives import front, named_values, values_of
from tune_app.outcomes import CARRIED_ATTRIBUTE, RECOMMENDED_ATTRIBUTE, TRIAL_ATTRIBUTES, carried_from
from tune_app.printable import printable
from tune_app.study.confirmation import Confirmation, confirmation_line
from tune_app.study.lines import COLLAPSED
from tune_app.study.reporting import is_collapsed, is_recommended, leaderboard, outcome_of, reason_of
from tune_app.study.run_dir import shown_config
from tune_app.study.store import StudyStore
from tune_app.version import VERSION

BEST_FILE = "best.yaml"
LEADERBOARD_FILE = "leaderboard.csv"
FRONT_FILE = "front.csv"

_PINNED_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")
# Sections that a training run does not use, since it has no study and no scheduler.
_SEARCH_ONLY = ("space", "scheduler", "checkpoint")


def export_best(
    store: StudyStore,
    config: RunConfig,
    folder: Path,
    number: int | None = None,
    confirmation: Confirmation | None = None,
) -> Path:
    """Write the best trial, or another one, as a complete configuration, and return its path.

    Args:
        config: the study's own configuration, as resolved when it ran.
        number: number of the trial; None takes the winner of the confirmation or, without one, the best of the search
            by the first objective.
        confirmation: confirmation of the study; None without one.

    Raises:
        UserError: the study holds no complete trial or none of that number, its record holds an impossible value, or
            the folder cannot be written.
    """
    ranked = leaderboard(store.trials(), store.record.objectives)
    if not ranked:
        raise UserError(
            f"{store.name}: holds no complete trial, so there is no best configuration; headroom status {store.name}"
            " shows the outcomes of its trials, and headroom study list its other versions"
        )
    if number is None and confirmation is not None and confirmation.winner is None:
        return _export_untried(store, config, folder, confirmation)
    ranking = "search" if number is None else "choice"
    if number is None and confirmation is not None:
        number, ranking = confirmation.winner, "confirmation"
    best = ranked[0] if number is None else next((trial for trial in ranked if trial.number == number), None)
    if best is None:
        raise UserError(
            f"--trial: {number} is not a complete trial of {store.name}; give one that headroom status"
            f" {store.name} ranks, e.g. {ranked[0].number}"
        )
    chosen_by = confirmation if ranking == "confirmation" else None
    text = best_yaml(store, config, best, ranking, chosen_by)
    with _writing(folder):
        write_whole(folder / BEST_FILE, text)
    return folder / BEST_FILE


def best_yaml(
    store: StudyStore,
    config: RunConfig,
    trial: FrozenTrial,
    ranking: str = "search",
    chosen_by: Confirmation | None = None,
) -> str:
    """Return the complete configuration of a trial as the text of ``best.yaml``.

    Args:
        ranking: ranking that chose the trial; see ``PinnedSection``.
        chosen_by: confirmation that the trial won; None without one.

    Raises:
        UserError: the trial's record holds a value that its setting cannot have.
    """
    try:
        values = best_config(store, config, trial, ranking, None if chosen_by is None else chosen_by.expected_value)
    except UserError as error:
        raise UserError(
            f"{store.name}: trial {trial.number} holds a value that no search gives it: {error}; its record was changed"
            " by other means, so export another one with --trial"
        ) from None
    return yaml_text(values, _comment(store, trial, chosen_by))


def _export_untried(store: StudyStore, config: RunConfig, folder: Path, confirmation: Confirmation) -> Path:
    """Write a confirmed winner that no trial of the search completed: a recommended configuration."""
    own = replace(config.with_params(confirmation.winner_params), pinned=None)
    with _writing(folder):
        comment = (
            f"The recommended configuration of study {store.name}, which no trial of the search completed.\n"
            f"{confirmation_line(confirmation)}.\nheadroom train {BEST_FILE} trains it and saves the model."
        )
        write_whole(folder / BEST_FILE, yaml_text(_trainable(own), comment))
    return folder / BEST_FILE


def best_config(
    store: StudyStore,
    config: RunConfig,
    trial: FrozenTrial,
    ranking: str = "search",
    expected: float | None = None,
) -> dict[str, Any]:
    """Return a trial's complete configuration as plain data, with the origin of its value pinned.

    Args:
        ranking: ranking that chose the trial; see ``PinnedSection``.
        expected: value to expect of it on unseen rows; None without a confirmation.

    Raises:
        UserError: the trial's record holds a value that its setting cannot have.
    """
    first, *further = named_values(trial, store.record.objectives).items()
    origin = {
        "study": store.name,
        "trial": trial.number,
        "value": first[1],
        "further": dict(further),
        "epoch": trial.user_attrs.get("best_epoch"),
        "data_fingerprint": store.record.data_fingerprint,
        "device": str(trial.user_attrs.get("device", "unknown")),
        "versions": installed_versions(),
        "ranking": ranking,
        "expected": expected,
    }
    try:
        pinned: PinnedSection = validated(PinnedSection, origin)
    except ValidationError as error:
        raise UserError(one_line(error, "the study", root=model_of(PinnedSection), prefix=["pinned"])) from None
    own = replace(config.with_params(trial.params), pinned=pinned)
    values = _trainable(own)
    # The budget determines how a batch is cut, and dropout differs with another cut.
    values["memory"]["budget_gib"] = trial.user_attrs.get("budget_gib") or own.memory.budget_gib
    return values


def _trainable(config: RunConfig) -> dict[str, Any]:
    """Return the sections of a configuration that a training run uses, as plain data."""
    values = shown_config(config)
    values["study"]["storage"] = None
    tracking = values["tracking"]
    if tracking["uri"] is not None and lacks_password(tracking["uri"]):
        # Whoever gets the file lacks the password, and the model should not be logged elsewhere instead.
        tracking |= {"uri": None, "enabled": False}
    return {section: value for section, value in values.items() if section not in _SEARCH_ONLY}


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    installed = {package: importlib.metadata.version(package) for package in _PINNED_PACKAGES}
    return {"python": platform.python_version(), **installed, "headroom": VERSION}


def export_leaderboard(store: StudyStore, folder: Path) -> Path:
    """Write every trial, the complete ones first in the order of the leaderboard, and return the path of the CSV file.

    With several objectives, the trials that no other beats come first. The first objective orders both groups.

    Raises:
        UserError: the folder cannot be written.
    """
    with _writing(folder):
        return _write_table(*leaderboard_table(store), folder / LEADERBOARD_FILE)


def leaderboard_table(store: StudyStore) -> tuple[list[str], list[list[object]]]:
    """Return the names of the leaderboard's columns, and a row per trial, the best first."""
    trials = store.trials()
    ranked = leaderboard(trials, store.record.objectives)
    placed = {trial.number for trial in ranked}
    return _table(store, [*ranked, *(trial for trial in trials if trial.number not in placed)])


def export_front(store: StudyStore, folder: Path) -> Path | None:
    """Write the trials that no other beats, as in the leaderboard; return None if there is only one objective.

    Raises:
        UserError: the folder cannot be written.
    """
    objectives = store.record.objectives
    if len(objectives) == 1:
        return None
    best = front(leaderboard(store.trials(), objectives), objectives)
    with _writing(folder):
        return _write_table(*_table(store, best), folder / FRONT_FILE)


def _table(store: StudyStore, trials: Sequence[FrozenTrial]) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows of trials, with ranks for the complete ones in the given order."""
    names = list(store.record.space)
    objectives = [objective.name for objective in store.record.objectives]
    # Attributes that are objectives have their columns at the front already.
    attributes = [name for name in TRIAL_ATTRIBUTES if name not in objectives]
    columns = ["rank", "number", "outcome", *objectives, "best_epoch", *names, *attributes]
    rows = []
    for rank, trial in enumerate(trials, start=1):
        values = values_of(trial)
        # An incomplete trial has its last report of the first objective, and objectives that are attributes.
        so_far = (
            store.record.step_scale.last_value(trial.intermediate_values),
            *map(trial.user_attrs.get, objectives[1:]),
        )
        rows.append([rank if values else None, *_row(trial, values or so_far, names, attributes)])
    return [*columns, RECOMMENDED_ATTRIBUTE, CARRIED_ATTRIBUTE, "reason"], rows


def _write_table(columns: Sequence[str], rows: Sequence[Sequence[object]], target: Path) -> Path:
    with whole_file(target) as building, building.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([printable(cell) if isinstance(cell, str) else cell for cell in row])
    return target


def _row(
    trial: FrozenTrial, values: Sequence[float | None], names: Sequence[str], attributes: Sequence[str]
) -> list[object]:
    outcome = outcome_of(trial)
    return [
        trial.number,
        outcome.value if outcome else "open",
        *values,
        trial.user_attrs.get("best_epoch"),
        *(trial.params.get(name) for name in names),
        *(trial.user_attrs.get(name) for name in attributes),
        is_recommended(trial),
        carried_from(trial),
        reason_of(trial),
    ]


def _comment(store: StudyStore, trial: FrozenTrial, chosen_by: Confirmation | None) -> str:
    values = ", ".join(f"{name} {value:.6f}" for name, value in named_values(trial, store.record.objectives).items())
    origin = carried_from(trial)
    value = f"Trial {trial.number} of study {store.name}{f' ({origin})' if origin else ''}: {values}"
    value += f"; {COLLAPSED}" if is_collapsed(trial) else ""
    chosen = "" if chosen_by is None else f"{confirmation_line(chosen_by)}.\n"
    folds = store.record.fixed.get("data.folds")
    if folds:
        return (
            f"{value}, the mean of its {folds} folds.\n{chosen}"
            f"headroom train {BEST_FILE} trains it on one split, of the same data and test part, and saves the model."
        )
    return f"{value} on validation.\n{chosen}headroom train {BEST_FILE} trains it again and saves the model."


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Create the folder, and convert errors of writing to it.

    Raises:
        UserError: the folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"--to: {folder} cannot be written ({error.strerror}); give another folder") from None
