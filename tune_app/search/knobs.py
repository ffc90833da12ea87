"""Refuses a space with a parameter that no run reads, before anything is trained."""

import random
from collections.abc import Callable, Iterable, Sequence

from search_spaces.conditions import ActiveSpace
from search_spaces.rules import Sample, violations
from search_spaces.space import Choices, Params, Space
from trainables.machine import MachineFiles
from trainables.seeds import sub_seed
from trainables.settings import with_params
from tune_app.config import RunConfig
from tune_app.errors import UserError
from tune_app.search.combinations import combination_rules

# A sample may be one that cannot run.
_TRIES = 10
# Of samples of which the family cannot do something, which the search turns away.
_DRAWS = 500


def check_knobs(config: RunConfig, models: Sequence[str], say: Callable[[str], None]) -> None:
    """Try the space on a small stand-in for each model family; see ``trainables.dry_run``.

    The configuration that is tried has the values that conditions look at set so that most parameters are read; where
    some exclude each other, several are tried.

    Args:
        models: every model that a trial may use.
        say: told that it takes a moment, and of a family that could not be tried.

    Raises:
        UserError: a parameter is never read.
    """
    from trainables.memory.needs import encoder_config
    from trainables.models.checkpoint import ModelLoadError

    say("trying which parameters a run reads, on a small model of each family (a few seconds)")
    rng = random.Random(sub_seed(config.search.seed, "knobs"))
    families: set[str] = set()
    for model in models:
        try:
            family = encoder_config(model, config.model.revision).model_type
        except ModelLoadError as error:
            say(f"not checked for parameters that nothing reads: {error}")
            continue
        if family not in families:
            families.add(family)
            problem = _check_family(config, models, _space_with(config, model), family, rng)
            if problem:
                say(f"not checked for parameters that nothing reads: {family}: {problem}")


def _space_with(config: RunConfig, model: str) -> ActiveSpace:
    """The space with one model in it."""
    space = config.active_space()
    entries = dict(space.space.entries)
    if "model.name" in entries:
        entries["model.name"] = Choices(choices=(model,))
    return ActiveSpace(Space(entries), space.fixed)


def _check_family(
    config: RunConfig, models: Sequence[str], space: ActiveSpace, family: str, rng: random.Random
) -> str | None:
    """None, or why no configuration could be tried; None too where the search turns away all of them."""
    from trainables.dry_run import settings_read

    settings, files = config.trial_settings(), MachineFiles()
    fixed, rules = config.fixed_params(), combination_rules(config, models)
    unused = space.never_read()
    names = [name for name in space.space if name not in unused]
    left, read, failures = set(names), set[str](), 0
    while left:
        for _ in range(_DRAWS):
            params, active = _reading_most(space, space.sample(rng), left)
            if not violations(rules, Sample.of({**fixed, **params})):
                break
        else:
            return None
        try:
            read |= settings_read(with_params(settings, params), files)
        except Exception as error:  # It is one that cannot run, for any reason that a trial may fail for.
            failures += 1
            if failures == _TRIES:
                return f"{type(error).__name__}: {error}"
        else:
            left -= active
    for name in names:
        if name not in read:
            used = "".join(f", not even with {condition}" for condition in space.conditions.get(name, ()))
            raise UserError(
                f"space.{name}: nothing reads it in a run of task {config.task.name} with a {family} model"
                f"{used}; drop it"
            )
    return None


def _reading_most(space: ActiveSpace, params: Params, names: Iterable[str]) -> tuple[Params, set[str]]:
    """The configuration with other values where conditions look, and those of the names that it makes a run read."""
    active: set[str] = set()
    for name in sorted(names):
        changed = space.activated(name, params)
        if all(space.is_active(other, changed) for other in (*active, name)):
            params = changed
            active.add(name)
    assert active, "every parameter can be read in some configuration"
    return space.normalised(params), active
