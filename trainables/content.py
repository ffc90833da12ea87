"""Fingerprints of the files that trials read. A search requires all its trials to read the files it began with."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from trainables.data.rows import DataError
from trainables.data.split import read_development
from trainables.files import Stamp, stamp_of
from trainables.models.names import UnknownModelError, resolve_model
from trainables.settings import TrialSettings, encoder_names

# Files that loading a model reads. Other files, such as the model card, may change.
_MODEL_FILES = (".json", ".txt", ".model", ".safetensors", ".bin")
_SHOWN = 12


class InputsChangedError(RuntimeError):
    """A file that a search began with is changed or gone; no trial is at fault. The message is one line."""


def model_fingerprint(folder: Path) -> str:
    """Return a digest of the files that loading a model reads. An unchanged file is read once per process.

    Raises:
        OSError: a file cannot be read, or there is no such folder.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in _MODEL_FILES and path.is_file())
    if any(path.suffix == ".safetensors" for path in files):
        files = [path for path in files if path.suffix != ".bin"]
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        if not path.name.startswith("."):
            digest.update(f"{path.name}\0{_file_digest(path, stamp_of(path))}\0".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _file_digest(path: Path, stamp: Stamp) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def check_data(settings: TrialSettings, fingerprint: str) -> None:
    """Require that the rows match the fingerprint in the settings' content.

    Raises:
        InputsChangedError: the rows differ.
    """
    expected = settings.content.data
    if expected is not None and fingerprint != expected:
        raise InputsChangedError(
            f"data.path: {settings.data.path} has changed since the search began (fingerprint {expected[:_SHOWN]} then,"
            f" {fingerprint[:_SHOWN]} now); restore that file, or search the new one: the same command starts a new"
            " version of the study with it"
        )


def check_models(settings: TrialSettings) -> None:
    """Require that the folders of a trial's models match the settings' content.

    Raises:
        InputsChangedError: one is changed or gone.
    """
    for name in dict.fromkeys(encoder_names(settings)):
        expected = settings.content.of_model(name)
        location = expected and _found(name)
        if location != expected:
            what = "is gone" if location is None else f"has changed since the search began ({location[:_SHOWN]} now)"
            raise InputsChangedError(
                f"model.name: the folder of {name} {what}; restore it, or search the new one: the same command starts a"
                " new version of the study with it"
            )


def _found(name: str) -> str | None:
    try:
        source = resolve_model(name)
        return None if source.path is None else model_fingerprint(Path(source.path))
    except (UnknownModelError, OSError):
        return None


@contextmanager
def inputs_checked(settings: TrialSettings) -> Iterator[None]:
    """Raise ``InputsChangedError`` instead of an error that changed or missing inputs caused.

    Raises:
        InputsChangedError: the block failed, and its inputs are not those of the settings' content.
    """
    try:
        yield
    except InputsChangedError:
        raise
    except Exception:
        _check_again(settings)
        raise


def _check_again(settings: TrialSettings) -> None:
    check_models(settings)
    if settings.content.data is None:
        return
    try:
        development = read_development(settings.data, settings.task.labels, settings.seeds.split)
    except DataError as error:
        raise InputsChangedError(
            f"data.path: {settings.data.path} was read when the search began, and cannot be read now ({error}); restore"
            " it"
        ) from error
    check_data(settings, development.fingerprint)
