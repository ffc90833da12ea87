"""Limits of a configuration: names of rules, the user's own limits, or several of them."""

from collections.abc import Mapping

from pydantic import ValidationError

from search_spaces.quoting import quoted
from search_spaces.rules import NAMED_LIMITS, LimitSet, rule_names
from tune_app.config.messages import one_line
from tune_app.errors import UserError, nearest

Limit = str | LimitSet
"""Name of an entry of the registry of rules, or limits."""


def limit_names() -> tuple[str, ...]:
    """Return every name that ``limits`` may hold: rules, and named sets of limits."""
    return (*rule_names(), *NAMED_LIMITS)


def parsed_limits(value: object) -> tuple[Limit, ...]:
    """Parse one limit or a list of them; None means no limits.

    Raises:
        UserError: a limit is unknown or is listed twice.
    """
    given = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    limits: list[Limit] = []
    for item in given:
        limit = _parsed_limit(item)
        if limit in limits:
            raise UserError(f"limits: {quoted(item)} is listed twice; drop one")
        limits.append(limit)
    return tuple(limits)


def _parsed_limit(value: object) -> Limit:
    if isinstance(value, LimitSet):
        return value
    if isinstance(value, str) and value in limit_names():
        return LimitSet.model_validate({"from": value}) if value in NAMED_LIMITS else value
    if not isinstance(value, Mapping):
        hint = nearest(value, limit_names()) if isinstance(value, str) else ""
        raise UserError(
            f"limits: {quoted(value)}: unknown{hint} (known: {', '.join(limit_names())}; or limits of your own, or a"
            " list of these, or null for none)"
        )
    try:
        return LimitSet.model_validate(dict(value))
    except ValidationError as error:
        raise UserError(one_line(error, "limits", root=LimitSet, prefix=("limits",))) from None
