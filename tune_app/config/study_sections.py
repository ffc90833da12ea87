"""Sections that describe a study and its storage locations: the study, its tracking and its checkpoints."""

import re
from dataclasses import dataclass, field
from typing import Literal

from trainables.declaration import Setting, setting
from trainables.settings import SettingError
from tune_app.uris import is_in_memory, is_store

OnChange = Literal["fork", "refuse", "archive", "delete"]


@dataclass(frozen=True)
class StudySection:
    name: str = field(metadata=Setting("Name of the study, of its folder and of its MLflow experiment.").metadata)
    dir: str = setting(
        "runs",
        "Folder of the run directories, or the URI of a store (s3://…) that holds them. Run directories of a store are"
        " worked on in a local copy.",
    )
    storage: str | None = setting(
        None, "Database URL of the study. null stores it in the file study.journal of the run directory."
    )
    on_change: OnChange = setting(
        "fork",
        "What happens if the space, the settings or the data of the study have changed. fork begins a new version with"
        " the results that still fit; refuse reports an error; archive sets the study aside and begins a new one;"
        " delete removes the study, after asking unless --yes is given.",
    )

    def check(self) -> None:
        """Require a name that can be a folder's, and storage locations that outlive the process.

        Raises:
            SettingError: a setting cannot be used.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            problem = "use letters, digits, '.', '_' and '-' only, the first a letter or digit, at most 100"
            raise SettingError("name", self.name, problem)
        _check_location("dir", self.dir)
        _check_database("storage", self.storage)


_TRACKING_URI = r"(https?|(sqlite|postgresql|mysql|mssql)(\+\w+)?)://.|databricks\b"


@dataclass(frozen=True)
class TrackingSection:
    enabled: bool = setting(True, "Record the trials in MLflow.")
    uri: str | None = setting(None, "MLflow server or database. null uses the file mlflow.db beside the run directory.")
    register: str | None = setting(
        None,
        "Name under which MLflow registers the models that headroom train and export --model save, each as a new"
        " version. null registers none.",
    )

    def check(self) -> None:
        """Require the address of a server or a database, and a name that MLflow takes.

        Raises:
            SettingError: ``uri`` names neither, or ``register`` cannot be a name.
        """
        if self.register is not None and not re.fullmatch(r"[\w .-]{1,200}", self.register):
            problem = "is no name for a registered model; use letters, digits, blanks, '.', '_' and '-', at most 200"
            raise SettingError("register", self.register, problem)
        _check_database("uri", self.uri)
        if self.uri is not None and not re.match(_TRACKING_URI, self.uri):
            problem = "names no MLflow server or database; give one such as http://host:5000, or null"
            raise SettingError("uri", self.uri, problem)


@dataclass(frozen=True)
class CheckpointSection:
    keep: int | Literal["none"] = setting(
        3,
        "Number of best trials whose checkpoints stay. none writes no checkpoints at all, so that an interrupted trial"
        " starts from the beginning.",
        at_least=0,
    )
    dir: str | None = setting(
        None,
        "Folder or storage URI (s3://…) of the checkpoints, accessible from every node. null stores them in the run"
        " directory.",
    )

    @property
    def is_written(self) -> bool:
        """Whether trials write checkpoints at all."""
        return self.keep != "none"

    def check(self) -> None:
        """Require a usable storage location.

        Raises:
            SettingError: ``dir`` is none.
        """
        if self.dir is not None:
            _check_location("dir", self.dir)


@dataclass(frozen=True)
class PinnedSection:
    """Origin of an exported configuration's result, for comparison when it is trained again."""

    study: str = field(metadata=Setting("Study that the configuration was exported from.").metadata)
    trial: int = field(metadata=Setting("Number of the exported trial.").metadata)
    value: float = field(metadata=Setting("Value of the trial.").metadata)
    epoch: int | None = field(metadata=Setting("Best epoch of the trial.").metadata)
    data_fingerprint: str = field(metadata=Setting("Fingerprint of the study's data.").metadata)
    device: str = field(metadata=Setting("Device on which the trial ran.").metadata)
    versions: dict[str, str] = field(metadata=Setting("Versions of Python and of packages at the export.").metadata)
    further: dict[str, float] = field(
        default_factory=dict, metadata=Setting("Values of the objectives after the first.").metadata
    )
    ranking: str = field(
        default="search",
        metadata=Setting(
            "Ranking that chose the trial: search, confirmation, or choice for one named at export."
        ).metadata,
    )
    expected: float | None = field(
        default=None, metadata=Setting("Value to expect on unseen rows, by the confirmation.").metadata
    )


def _check_database(name: str, url: str | None) -> None:
    if url is not None and is_in_memory(url):
        problem = "names a database in this process's memory, which ends with it; give a file or a server"
        raise SettingError(name, url, problem)


def _check_location(name: str, folder: str) -> None:
    if re.fullmatch(r"(?!file:)[^/]*:///*", folder):
        raise SettingError(name, folder, "names no store; give a folder, or a URI such as s3://bucket/folder")
    if is_store(folder) and "//" in folder.partition("?")[0].partition("://")[2]:
        raise SettingError(name, folder, "has an empty part between two slashes; leave one of them out")
