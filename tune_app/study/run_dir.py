"""Run directory of a study: its location, its content, and the configuration stored in it."""

import copy
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainables.given import read_json
from tune_app import databases
from tune_app.config import RunConfig, dump_yaml, parse_config
from tune_app.config.old_names import keep_split
from tune_app.config.yaml_files import read_yaml
from tune_app.errors import UserError, without_password
from tune_app.study.checkpoints import CheckpointStorage, StudyCheckpoints
from tune_app.study.record import Difference
from tune_app.study.storage_location import StorageLocation
from tune_app.study.store import StudyStore
from tune_app.uris import is_store

CONFIG_FILE = "config.yaml"
CHECKPOINTS = "checkpoints"
CACHE = "cache"
ARTIFACTS = "artifacts"
SECRETS_FILE = "secrets.json"
REPORT_FILE = "report.html"
CONFIRMATION_FILE = "confirm.json"
CONFIRMATION_FOLDER = "confirm"
"""Folder for the studies of a confirmation's trainings."""

WRITTEN = (CACHE, ARTIFACTS, SECRETS_FILE, REPORT_FILE, CONFIRMATION_FILE, CONFIRMATION_FOLDER)
"""Files and folders of headroom in the run directory, besides the configuration, the study and its checkpoints."""


# Sections that the file decides, not the study: they locate the study itself.
_OF_THE_FILE = ("study", "tracking", "checkpoint")


def keep_config(store: StudyStore, config: RunConfig, run_dir: Path) -> None:
    """Save the resolved configuration of a search in its study, and in the run directory for people to read."""
    store.set_config(_of_the_study(config))
    write_config(config, run_dir)


def recorded_config(store: StudyStore, config: RunConfig) -> tuple[RunConfig, list[Difference]]:
    """Return the configuration of a study's latest search, and the file's differences from it.

    For a study begun before configurations were saved in it, return that of the file.

    Args:
        config: configuration read from the run directory, whose file may have been edited.

    Raises:
        UserError: this version does not know one of the study's settings.
    """
    if store.config is None:
        return config, []
    of_the_file = {section: value for section, value in config.as_dict().items() if section in _OF_THE_FILE}
    raw = copy.deepcopy({**store.config, **of_the_file})
    keep_split(raw)
    recorded = parse_config(raw, where=f"study {store.name}")
    # Compare with the parsed configuration: the stored one lacks settings that were added since.
    flat_there, flat_here = _flat(_of_the_study(recorded)), _flat(_of_the_study(config))
    differences = [
        Difference(name, json.dumps(flat_there.get(name)), json.dumps(flat_here.get(name)), CONFIG_FILE)
        for name in {**flat_there, **flat_here}
        if flat_there.get(name) != flat_here.get(name)
    ]
    return recorded, differences


def _of_the_study(config: RunConfig) -> dict[str, Any]:
    values = {section: value for section, value in config.as_dict().items() if section not in _OF_THE_FILE}
    # Give the values the types that they have when read back from the study.
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, and entries of the space, by their dotted names."""
    named: dict[str, Any] = {}
    for section, value in values.items():
        fields = value.items() if isinstance(value, Mapping) else ()
        named |= {f"{section}.{name}": field for name, field in fields} if fields else {section: value}
    return named


def write_config(config: RunConfig, run_dir: Path) -> None:
    """Write the resolved configuration without passwords. URLs with a password go to a file of their own.

    So does the URI of a study's store, since another copy may have been written with other options.
    """
    dump_yaml(shown_config(config), run_dir / CONFIG_FILE, "Resolved by headroom; headroom search runs it unchanged.")
    keep_urls(_urls(config), run_dir)


def keep_urls(urls: Mapping[str, str], run_dir: Path) -> None:
    """Save URLs by setting, readable only by the owner; ``stored_config`` puts them in place of the file's values."""
    secrets = {
        name: url
        for name, url in urls.items()
        if url != without_password(url) or (name == "study.dir" and is_store(url))
    }
    (run_dir / SECRETS_FILE).unlink(missing_ok=True)
    if secrets:
        descriptor = os.open(run_dir / SECRETS_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(secrets, stream)


def stored_config(run_dir: Path) -> RunConfig:
    """Load the configuration of a run directory, with its passwords and the URI that it was fetched by.

    Raises:
        UserError: the run directory has no configuration, or an invalid one.
    """
    urls = stored_urls(run_dir)
    file = run_dir / CONFIG_FILE
    raw = read_yaml(file)
    keep_split(raw)
    return parse_config(raw, [f"{name}={json.dumps(url)}" for name, url in urls.items()], where=str(file))


def stored_urls(run_dir: Path) -> dict[str, str]:
    """Return the URLs that ``keep_urls`` saved.

    Raises:
        UserError: their file is damaged.
    """
    secrets = run_dir / SECRETS_FILE
    try:
        urls: dict[str, str] = read_json(secrets)
        if not all(isinstance(url, str) for url in urls.values()):
            raise ValueError("holds something other than URLs")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{secrets}: cannot be read ({error}); it holds the URLs with a password: remove it, and search again"
            " with -s study.storage=… or -s tracking.uri=…"
        ) from None
    return urls


def _urls(config: RunConfig) -> dict[str, str]:
    urls = {
        "study.storage": config.study.storage,
        "study.dir": config.study.dir,
        "checkpoint.dir": config.checkpoint.dir,
        "tracking.uri": config.tracking.uri,
    }
    return {name: url for name, url in urls.items() if url}


def shown_config(config: RunConfig) -> dict[str, Any]:
    """Return the resolved configuration with the passwords in its URLs replaced by ``***``."""
    values = config.as_dict()
    for name, url in _urls(config).items():
        section, key = name.split(".")
        values[section][key] = without_password(url)
    return values


def tracking_uri(config: RunConfig) -> str:
    """Return the URI of MLflow's runs: the configured server, else a SQLite file beside the run directory."""
    return config.tracking.uri or databases.sqlite_url(f"{config.study_folder}/mlflow.db")


def checkpoint_folder(config: RunConfig, study_id: str | None) -> str:
    """Return the name of the folder for a study's trials in the storage location of its checkpoints.

    Outside the run directory the name contains the study's id, if it has one. Another study of the same name, such as
    an archived one, may have its own folder beside it.
    """
    return CHECKPOINTS if has_own_checkpoints(config) else f"{CHECKPOINTS}-{study_id or config.study.name}"


def has_own_checkpoints(config: RunConfig) -> bool:
    """Return whether the checkpoints lie in the run directory, and are moved and deleted with it."""
    return config.checkpoint.dir is None and not is_store(config.study.dir)


def checkpoint_storage(config: RunConfig) -> CheckpointStorage:
    return CheckpointStorage(config.checkpoint_dir, "study.dir" if config.checkpoint.dir is None else "checkpoint.dir")


def study_checkpoints(config: RunConfig, study_id: str | None, say: Callable[[str], None]) -> StudyCheckpoints:
    """Return the checkpoints of a study.

    Args:
        say: called with a message on files in their location that are not the study's and are left alone.
    """
    return StudyCheckpoints(checkpoint_storage(config), checkpoint_folder(config, study_id), study_id, say)


def check_unlinked(config: RunConfig) -> None:
    """Refuse a run directory whose checkpoints lie behind a link: nothing is deleted there, so it would fill up.

    Raises:
        UserError: there is a link; the message names it and the setting to use instead.
    """
    link = os.path.join(config.run_dir, CHECKPOINTS)
    if has_own_checkpoints(config) and os.path.islink(link):
        raise UserError(
            f"study.dir: {link} is a link to {os.path.realpath(link)}, and links are not followed; remove it, and set"
            f" checkpoint.dir to have checkpoints elsewhere (-s checkpoint.dir={os.path.realpath(link)})"
        )


def check_study_dir(config: RunConfig) -> None:
    """Refuse storage locations that cannot hold a study or its mirror. Write nothing to a database.

    Raises:
        UserError: a location is refused; the message names the setting and the remedy.
    """
    if config.tracking.enabled:
        _check_tracking(config)
    if is_store(config.study.dir):
        StorageLocation(config.study.dir, "study.dir").check()
    checkpoint_storage(config).opened()
    if is_store(config.study.dir):
        return
    if _is_thrown_away() and _under(config.study.dir, os.getcwd()):
        raise UserError(
            f"study.dir: {config.study.dir} lies in the job's throw-away working directory; give an absolute path that"
            " outlives the job, e.g. -s study.dir=/data/runs, or the URI of a store"
        )


def _check_tracking(config: RunConfig) -> None:
    """Refuse a database for MLflow that holds other programs' tables: MLflow would write nothing, or damage them."""
    uri, storage = tracking_uri(config), config.study.storage
    if storage is not None and databases.is_same(storage, uri):
        raise UserError(
            f"study.storage: {storage} is the database of tracking.uri ({uri}) too, and Optuna and MLflow cannot share"
            " one; give one of them another database, or set tracking.enabled=false"
        )
    if databases.sqlite_file(uri) is None:
        # The tracking thread waits for a server that does not answer; the search does not.
        return
    try:
        owner = databases.owner(uri)
    except Exception:
        # If MLflow cannot write, only its mirror is lost, with a warning.
        return
    if owner not in (None, "MLflow"):
        raise UserError(f"tracking.uri: {uri} holds the tables of {owner}; give MLflow a database of its own")


def _is_thrown_away() -> bool:
    """Return whether the working directory is Ray's temporary copy of one submitted with a job.

    A job without its own working directory starts where Ray was started on the head. Nothing is deleted there.
    """
    try:
        job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        return bool(job["runtime_env"]["working_dir"])
    except (ValueError, KeyError, TypeError):
        return False


def _under(path: str, folder: str) -> bool:
    return os.path.commonpath([os.path.realpath(path), os.path.realpath(folder)]) == os.path.realpath(folder)
