"""Configurations as a search may launch them: recommended ones first, then random ones that every rule accepts."""

import random
from collections.abc import Sequence

from search_spaces.rules import Rule, Sample, violations
from search_spaces.space import Params
from trainables.seeds import sub_seed
from tune_app.config import RunConfig
from tune_app.errors import UserError
from tune_app.sampling.recommended import recommended_left, recommended_turns
from tune_app.screening.preconditions import architectures

_DRAWS = 120
_TRIES = 33
"""Tries per wanted draw: a space of which the rules reject more is hardly one."""


def accepted_draws(config: RunConfig, rules: Sequence[Rule], draws: int = _DRAWS) -> list[Params]:
    """Return random configurations that every rule accepts, at least one.

    A sampler prefers some of them, which nobody knows beforehand.

    Raises:
        UserError: the rules reject all that were tried.
    """
    space, fixed = config.active_space(), config.fixed_params()
    rng = random.Random(sub_seed(config.search.seed, "plan"))
    found: list[Params] = []
    for _ in range(_TRIES * draws):
        params = space.sample(rng)
        if _accepts(rules, {**fixed, **params}):
            found.append(params)
            if len(found) == draws:
                break
    if not found:
        raise UserError(
            f"limits: the rules reject all of {_TRIES * draws:,} random configurations of the space; raise the limits,"
            " or drop the values that suffer most"
        )
    return found


def recommended_draws(config: RunConfig, rules: Sequence[Rule]) -> list[Params]:
    """Return the recommended configurations that begin a new search, in order."""
    search, fixed, found = config.search, config.fixed_params(), list[Params]()
    most = recommended_left(search.recommended, search.sampler, [])
    seen: set[str] = set()
    space = config.active_space()
    for turn in recommended_turns(space, architectures(config), sub_seed(search.seed, "recommended")):
        if len(found) == most:
            break
        for params in turn:
            if space.key(params) in seen:
                break
            seen.add(space.key(params))
            if _accepts(rules, {**fixed, **params}):
                found.append(params)
                break
    return found


def _accepts(rules: Sequence[Rule], whole: Params) -> bool:
    return not violations(rules, Sample.of(whole))
