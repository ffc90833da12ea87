"""Settings that record which of them a run reads."""

import dataclasses
import sys
from typing import Any

from trainables.settings import TrialSettings

# Code that reads settings without training by them: to compare, copy or print them, to name or make a prediction.
_ONLY_LOOKING = (
    "dataclasses",
    "trainables.declaration.",
    "trainables.planning.trace.",
    "trainables.planning.plan.",
    "trainables.planning.needs.",
)
_OF_PROPERTIES = ("trainables.settings.", "trainables.recording.")
# The file name that Python gives to generated methods of dataclasses: ``__eq__``, ``__hash__``, ``__repr__``.
_WRITTEN_BY_DATACLASSES = "<string>"


def recording(settings: TrialSettings) -> tuple[TrialSettings, set[str]]:
    """Return equal settings, and the set to which they add the dotted name of each setting that is read from now on.

    A read is an attribute access by code that trains. ``vars``, ``dataclasses.asdict``, comparing, hashing, printing
    and the prediction of memory do not count. A section that ``dataclasses.replace`` makes of a recording section
    records too.
    """
    read: set[str] = set()
    sections = {
        field.name: _recording_section(field.name, getattr(settings, field.name), read)
        for field in dataclasses.fields(settings)
    }
    return TrialSettings(**sections), read


def _recording_section(section: str, values: Any, read: set[str]) -> Any:
    kind = type(values)
    names = {field.name: f"{section}.{field.name}" for field in dataclasses.fields(values)}

    class Recording(kind):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            if name in names and not _only_looks(sys._getframe(1)):
                read.add(names[name])
            return super().__getattribute__(name)

        def __getitem__(self, name: str) -> Any:
            if not _only_looks(sys._getframe(1)):
                read.add(f"{section}.{name}")
            return super().__getitem__(name)

    return Recording(**vars(values))


def _only_looks(frame: Any) -> bool:
    # A property of the settings reads on behalf of its caller.
    while not _is_generated(frame) and _module(frame).startswith(_OF_PROPERTIES) and frame.f_back is not None:
        frame = frame.f_back
    return _is_generated(frame) or _module(frame).startswith(_ONLY_LOOKING)


def _is_generated(frame: Any) -> bool:
    return bool(frame.f_code.co_filename == _WRITTEN_BY_DATACLASSES)


def _module(frame: Any) -> str:
    return f"{frame.f_globals.get('__name__')}."
