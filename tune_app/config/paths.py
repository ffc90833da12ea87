"""Paths and addresses of a configuration, made absolute and checked."""

import os
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from search_spaces.space import Choices
from trainables.models.names import BUILTIN_NAMES, OFFLINE_NAME
from tune_app.config.parameters import parsed_space
from tune_app.config.run import RunConfig
from tune_app.databases import with_absolute_file
from tune_app.errors import UserError, check_password, lacks_password


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with absolute paths. Relative ones are relative to the working directory.

    Raises:
        UserError: a URL lacks its password or has an unescaped one, or ``data.path`` is a URL.
    """
    update: dict[str, Any] = {}
    study, data, tracking = config.study, config.data, config.tracking
    for name, url in (("study.storage", study.storage), ("tracking.uri", tracking.uri)):
        if url and lacks_password(url):
            raise UserError(f"{name}: {url}: its password was left out of this file; give the URL with -s {name}=…")
    for name, url in (
        ("study.storage", study.storage),
        ("tracking.uri", tracking.uri),
        ("study.dir", study.dir),
        ("checkpoint.dir", config.checkpoint.dir),
    ):
        check_password(name, url or "")
    if "://" in data.path:
        raise UserError(f"data.path: {data.path} is a URL, but data is read from files; download it first")
    if data.path != "demo":
        update["data"] = replace(data, path=_absolute(data.path))
    update["study"] = replace(
        study, dir=_absolute_folder(study.dir), storage=study.storage and with_absolute_file(study.storage)
    )
    if config.checkpoint.dir is not None:
        update["checkpoint"] = replace(config.checkpoint, dir=_absolute_folder(config.checkpoint.dir))
    update["tracking"] = replace(tracking, uri=tracking.uri and with_absolute_file(tracking.uri))
    model = config.model
    second = model.criteria_name and _absolute_model(model.criteria_name)
    update["model"] = replace(model, name=_absolute_model(model.name), criteria_name=second)
    if config.space is not None:
        absolute = {
            name: {"choices": [_absolute_model(str(choice)) for choice in entry.choices]}
            for name, entry in config.space.entries.items()
            if name in _MODELS and isinstance(entry, Choices)
        }
        if absolute:
            update["space"] = parsed_space({**config.space.entries, **absolute})
    return replace(config, **update)


_MODELS = ("model.name", "model.criteria_name")


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _absolute_folder(folder: str) -> str:
    """Return a folder's absolute path, also for a ``file:`` URI; return any other URI unchanged."""
    if folder.startswith("file:///"):
        folder = url2pathname(urlsplit(folder).path)
    return folder if "://" in folder else _absolute(folder)


def _absolute_model(name: str) -> str:
    """Return a local folder's absolute path; return a built-in or hub name unchanged."""
    is_folder = name not in (*BUILTIN_NAMES, OFFLINE_NAME) and os.path.isdir(os.path.expanduser(name))
    return _absolute(name) if is_folder else name
