"""Parameters that a space may hold, and the space of a configuration."""

from collections.abc import Mapping

from search_spaces.quoting import short
from search_spaces.space import Space, SpaceError, parse_space
from tune_app.config.common_names import meant
from tune_app.config.messages import setting_names_of
from tune_app.config.run import SEARCHABLE, RunConfig
from tune_app.config.section import Section
from tune_app.errors import UserError

FIXED_PER_STUDY = {
    "task.name": "another task is another study; set it outside the space",
    "task.classes": "set it outside the space",
    "task.labels": "set it outside the space",
    "task.objective": "values of different metrics cannot be compared; set it outside the space",
    "train.epochs": "it is the scheduler's scale; set it outside the space",
    "train.precision": "set it outside the space",
    "train.tf32": "set it outside the space",
    "train.patience": "set it outside the space",
    "model.revision": "set it outside the space",
}


def searchable_names() -> list[str]:
    """Return the dotted names that a space may vary."""
    names = [f"{section}.{field}" for section in SEARCHABLE for field in section_class(section).model_fields]
    return [name for name in names if name not in FIXED_PER_STUDY]


def check_parameter(name: str) -> None:
    """Refuse a name in the space that no parameter has.

    Raises:
        UserError: the name is unknown; the message names the parameter that it may mean, or the known ones.
    """
    if name not in searchable_names():
        raise UserError(f"space.{short(name)}: no such parameter{_parameter_hint(name)}")


def _parameter_hint(name: str) -> str:
    names, section = searchable_names(), name.partition(".")[0]
    if parameter := meant(name, names):
        return f"; did you mean {parameter}?"
    if setting := meant(name, setting_names()):
        return f"; did you mean {setting}, which is set outside the space?"
    beside = [other for other in names if other.startswith(f"{section}.")]
    return f" (known: {', '.join(beside)})" if beside else f" (known: settings of {', '.join(SEARCHABLE)})"


def section_class(name: str) -> type[Section]:
    """Return the class of a section."""
    annotation = RunConfig.model_fields[name].annotation
    assert isinstance(annotation, type)
    return annotation


def parsed_space(value: object) -> Space | None:
    """Parse the space of a configuration; None means no space.

    Raises:
        UserError: an entry is invalid, or a bare value has a name that no parameter has.
    """
    if value is None or isinstance(value, Space):
        return value
    if isinstance(value, Mapping):
        for name, entry in value.items():
            # The error of a bare value advises to set it outside the space: only a setting can be.
            if isinstance(name, str) and isinstance(entry, str | int | float) and name not in setting_names():
                check_parameter(name)
    try:
        return parse_space(value)
    except SpaceError as error:
        raise UserError(str(error)) from None


def setting_names() -> list[str]:
    """Return the dotted names of all settings."""
    return setting_names_of(RunConfig)
