"""Sections that describe a study and where its files lie: the study, its tracking and its checkpoints."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from tune_app.config.section import Section
from tune_app.uris import is_in_memory, is_store

OnChange = Literal["fork", "refuse", "archive", "delete"]


class StudySection(Section):
    name: str = Field(description="Name of the study, of its folder and of its MLflow experiment.")
    dir: str = Field(
        default="runs",
        description="Folder that holds the run directories, or the URI of a store (s3://…) that keeps them; they are"
        " worked on in a copy on this machine then.",
    )
    storage: str | None = Field(
        default=None,
        description="Database URL of the study; null keeps it in study.journal in the run directory.",
    )
    on_change: OnChange = Field(
        default="fork",
        description="Where the space, the settings or the data of the study changed. fork: a new version, with what"
        " still fits; refuse; archive: the study is set aside for a new one; delete: asks, or wants --yes.",
    )

    @field_validator("name")
    @classmethod
    def _usable_as_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError("use letters, digits, '.', '_' and '-' only, the first a letter or digit, at most 100")
        return name

    @field_validator("dir")
    @classmethod
    def _names_a_store(cls, folder: str) -> str:
        return checked_location(folder)

    @field_validator("storage")
    @classmethod
    def _outlives_the_process(cls, url: str | None) -> str | None:
        return checked_database(url)


def checked_database(url: str | None) -> str | None:
    if url is not None and is_in_memory(url):
        raise ValueError("names a database in this process's memory, which ends with it; give a file or a server")
    return url


def checked_location(folder: str) -> str:
    if re.fullmatch(r"(?!file:)[^/]*:///*", folder):
        raise ValueError("names no store; give a folder, or a URI such as s3://bucket/folder")
    if is_store(folder) and "//" in folder.partition("?")[0].partition("://")[2]:
        raise ValueError("has an empty part between two slashes; leave one of them out")
    return folder


_TRACKING_URI = r"(https?|(sqlite|postgresql|mysql|mssql)(\+\w+)?)://.|databricks\b"


class TrackingSection(Section):
    enabled: bool = True
    uri: str | None = Field(
        default=None, description="MLflow server or database; null: mlflow.db beside the run directory."
    )

    @field_validator("uri")
    @classmethod
    def _names_a_server_or_a_database(cls, url: str | None) -> str | None:
        if checked_database(url) is not None and not re.match(_TRACKING_URI, str(url)):
            raise ValueError("names no MLflow server or database; give one such as http://host:5000, or null")
        return url


def _count_or_none(value: object) -> object:
    if value == "none" or (type(value) is int and value >= 0):
        return value
    raise ValueError("expected none, or a whole number from 0 on")


class CheckpointSection(Section):
    keep: Annotated[int | Literal["none"], BeforeValidator(_count_or_none)] = Field(
        default=3,
        description="The checkpoints of the best so many trials are kept. none: not even running trials write any, and"
        " one that is cut short starts again.",
    )
    dir: str | None = Field(
        default=None,
        description="Folder or storage URI (s3://…) for them, in reach of every node; null: in the run directory.",
    )

    @field_validator("dir")
    @classmethod
    def _names_a_store(cls, folder: str | None) -> str | None:
        return folder and checked_location(folder)


class PinnedSection(Section):
    """Origin of an exported configuration's result, for comparison when it is trained again."""

    study: str
    trial: int
    value: float
    further: dict[str, float] = Field(default={}, description="Values of the objectives after the first.")
    epoch: int | None
    data_fingerprint: str
    device: str
    versions: dict[str, str]
