"""Configurations as a search may launch them: recommended ones first, then random ones that every rule accepts."""

import random
from collections.abc import Sequence

from search_spaces.rules import Rule, Sample, violations
from search_spaces.space import Params
from trainables.seeds import sub_seed
from tune_app.config import RunConfig
from tune_app.sampling.recommended import recommended_left, recommended_turns
from tune_app.screening.preconditions import architectures

_DRAWS = 120
_MOST_TRIES = 4_000


def accepted_draws(config: RunConfig, rules: Sequence[Rule]) -> list[Params]:
    """Return random configurations that every rule accepts; at least one of a space that the rules do not reject whole.

    A sampler prefers some of them, which nobody knows beforehand.
    """
    space, fixed = config.active_space(), config.fixed_params()
    rng = random.Random(sub_seed(config.search.seed, "plan"))
    found: list[Params] = []
    for _ in range(_MOST_TRIES):
        params = space.sample(rng)
        if _accepts(rules, {**fixed, **params}):
            found.append(params)
            if len(found) == _DRAWS:
                break
    if not found and space.size is not None:
        found = [params for params in map(space.config_at, range(space.size)) if _accepts(rules, {**fixed, **params})]
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
