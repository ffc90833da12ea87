"""Limits of a configuration: names of rules, the user's own limits, or several of them."""

from collections.abc import Mapping
from typing import Literal, cast, get_args

from pydantic import ValidationError

from search_spaces.quoting import quoted
from search_spaces.rules import NAMED_LIMITS, LimitSet
from tune_app.config.messages import one_line
from tune_app.errors import UserError, nearest

LimitName = Literal["predicted", "users_families"]
Limit = LimitName | LimitSet
_LIMIT_NAMES = (*get_args(LimitName), *NAMED_LIMITS)


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
    if isinstance(value, str) and value in _LIMIT_NAMES:
        return LimitSet.model_validate({"from": value}) if value in NAMED_LIMITS else cast("LimitName", value)
    if not isinstance(value, Mapping):
        hint = nearest(value, _LIMIT_NAMES) if isinstance(value, str) else ""
        raise UserError(
            f"limits: {quoted(value)}: unknown{hint} (known: {', '.join(_LIMIT_NAMES)}; or limits of your own, or a"
            " list of these, or null for none)"
        )
    try:
        return LimitSet.model_validate(dict(value))
    except ValidationError as error:
        raise UserError(one_line(error, "limits", root=LimitSet, prefix=("limits",))) from None
