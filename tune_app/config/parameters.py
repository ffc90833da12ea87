"""Parameters that a space may hold, and the space of a configuration."""

from collections.abc import Mapping

from search_spaces.quoting import short
from search_spaces.space import Space, SpaceError, parse_space
from tune_app.config.common_names import meant
from tune_app.config.conditions import SEARCHABLE
from tune_app.config.messages import setting_names_of
from tune_app.config.models import model_of
from tune_app.config.run import RunConfig, facts_of, section_class
from tune_app.errors import UserError


def searchable_names() -> list[str]:
    """Return the dotted names that a space may vary."""
    names = [f"{section}.{key}" for section in SEARCHABLE for key in model_of(section_class(section)).model_fields]
    return [name for name in names if facts_of(name).same_in_study is None]


def check_parameter(name: str) -> None:
    """Refuse a name in the space that no parameter has.

    Raises:
        UserError: the setting must not vary, with the reason; or the name is unknown, with the parameter that it may
            mean, or the known ones.
    """
    section, _, key = name.partition(".")
    if section in SEARCHABLE and key in model_of(section_class(section)).model_fields:
        reason = facts_of(name).same_in_study
        if reason is not None:
            raise UserError(f"space.{name}: cannot be searched: {reason}")
    elif name not in searchable_names():
        raise UserError(f"space.{short(name)}: no such parameter{_parameter_hint(name)}")


def _parameter_hint(name: str) -> str:
    names, section = searchable_names(), name.partition(".")[0]
    if parameter := meant(name, names):
        return f"; did you mean {parameter}?"
    if setting := meant(name, setting_names()):
        return f"; did you mean {setting}, which is set outside the space?"
    beside = [other for other in names if other.startswith(f"{section}.")]
    return f" (known: {', '.join(beside)})" if beside else f" (known: settings of {', '.join(SEARCHABLE)})"


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
    return setting_names_of(model_of(RunConfig))
