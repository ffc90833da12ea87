"""Writes what a study found: ``best.yaml``, which ``headroom train`` runs as it is, and ``leaderboard.csv``."""

import csv
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from tune_app.config import PinnedSection, RunConfig, dump_yaml
from tune_app.errors import UserError
from tune_app.experiment import shown_config
from tune_app.outcomes import TRIAL_ATTRIBUTES, Outcome
from tune_app.reporting import leaderboard, outcome_of, reason_of
from tune_app.study import StudyStore
from tune_app.unit import UnitName, value_so_far

BEST_FILE = "best.yaml"
LEADERBOARD_FILE = "leaderboard.csv"

_PINNED_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "headroom")
# A training run has no study to write to and nothing to be stopped by.
_SEARCH_ONLY = ("space", "scheduler", "tracking", "checkpoint")


def export_best(store: StudyStore, config: RunConfig, folder: Path) -> Path:
    """Write the best trial as a complete configuration; returns its path.

    Args:
        config: the study's own, as resolved when it ran.

    Raises:
        UserError: the study holds no complete trial, or the folder cannot be written.
    """
    ranked = leaderboard(store.trials())
    if not ranked:
        raise UserError(
            f"{store.name}: holds no complete trial, so there is no best configuration; headroom status {store.name}"
            " shows what became of its trials"
        )
    best = ranked[0]
    _make_folder(folder)
    target = folder / BEST_FILE
    dump_yaml(best_config(store, config, best), target, _comment(store, best))
    return target


def best_config(store: StudyStore, config: RunConfig, trial: FrozenTrial) -> dict[str, Any]:
    """A trial's complete configuration as plain data, with what its value depends on pinned beside it."""
    pinned = PinnedSection(
        study=store.name,
        trial=trial.number,
        value=float(trial.value or 0.0),
        epoch=trial.user_attrs.get("best_epoch"),
        data_fingerprint=store.record.data_fingerprint,
        device=str(trial.user_attrs.get("device", "unknown")),
        versions=installed_versions(),
    )
    own = config.with_params(trial.params).model_copy(update={"pinned": pinned})
    values = shown_config(own)
    values["study"]["storage"] = None
    # How a batch is cut follows from it, and dropout draws otherwise for another cut.
    values["memory"]["budget_gib"] = trial.user_attrs.get("budget_gib") or own.memory.budget_gib
    return {section: value for section, value in values.items() if section not in _SEARCH_ONLY}


def installed_versions() -> dict[str, str]:
    """Versions of what a result depends on, Python included."""
    versions = {"python": platform.python_version()}
    for package in _PINNED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # Run from a source tree that is not installed, as in a submitted job.
            versions[package] = "not installed"
    return versions


def export_leaderboard(store: StudyStore, folder: Path) -> Path:
    """Write every trial, the complete ones first and best first; returns the path of the CSV file.

    Raises:
        UserError: the folder cannot be written.
    """
    _make_folder(folder)
    trials = store.trials()
    ranked = leaderboard(trials)
    placed = {trial.number for trial in ranked}
    names = list(store.record.space)
    target = folder / LEADERBOARD_FILE
    building = target.with_name(f".{target.name}.{os.getpid()}")
    with building.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["rank", "number", "outcome", store.record.metric, "best_epoch", *names, *TRIAL_ATTRIBUTES, "reason"]
        )
        for rank, trial in enumerate([*ranked, *(trial for trial in trials if trial.number not in placed)], start=1):
            writer.writerow(_row(trial, rank if trial.number in placed else None, names, store.record.unit))
    os.replace(building, target)
    return target


def _row(trial: FrozenTrial, rank: int | None, names: list[str], unit: UnitName) -> list[object]:
    outcome = outcome_of(trial)
    value = trial.value if outcome is Outcome.COMPLETE else value_so_far(unit, trial.intermediate_values)
    attributes = trial.user_attrs
    return [
        rank,
        trial.number,
        outcome.value if outcome else "open",
        value,
        attributes.get("best_epoch"),
        *(trial.params.get(name) for name in names),
        *(attributes.get(name) for name in TRIAL_ATTRIBUTES),
        reason_of(trial),
    ]


def _comment(store: StudyStore, trial: FrozenTrial) -> str:
    value = f"Trial {trial.number} of study {store.name}: {store.record.metric} {trial.value:.6f}"
    folds = store.record.fixed.get("data.folds")
    if folds:
        return (
            f"{value}, the mean of its {folds} folds.\n"
            f"headroom train {BEST_FILE} trains it on one split, of the same data and test part, and saves the model."
        )
    return f"{value} on validation.\nheadroom train {BEST_FILE} trains it again and saves the model."


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--to: {folder} cannot be written ({error.strerror}); give another folder") from None
