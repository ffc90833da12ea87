"""Check for parameters of a space that no run reads, made before any training."""

import random
from collections.abc import Callable, Iterable, Sequence

from search_spaces.conditions import ActiveSpace
from search_spaces.rules import Rule, Sample, violations
from search_spaces.space import Choices, Params, Space
from trainables.machine import MachineFiles
from trainables.seeds import sub_seed
from trainables.settings import revision_of, with_params
from tune_app.config import RunConfig
from tune_app.config.conditions import active_space
from tune_app.errors import UserError
from tune_app.screening.combinations import combination_rules
from tune_app.screening.preconditions import check_models, model_names

# Dry runs that may fail per family, since a sample may be impossible to run.
_TRIES = 10
# Draws until a sample passes the rule against combinations, which rejects samples that the family cannot follow.
_DRAWS = 500


def check_parameters_are_read(config: RunConfig, models: Sequence[str], say: Callable[[str], None]) -> None:
    """Check which parameters runs read, on a small stand-in for each model family; see ``trainables.dry_run``.

    The tried configuration has the values under which most parameters are read. If some parameters exclude each other,
    several configurations are tried.

    Args:
        models: every model that a trial may use.
        say: called with a message that the check takes a moment, and on every family that could not be checked.

    Raises:
        UserError: no run reads a parameter.
    """
    from trainables.models.checkpoint import ModelLoadError
    from trainables.planning.needs import encoder_config

    say("checking which parameters a run reads, with a small model of each family (a few seconds)")
    rng = random.Random(sub_seed(config.search.seed, "knobs"))
    rules = combination_rules(config, models)
    families: set[str] = set()
    for model in models:
        try:
            family = encoder_config(model, revision_of(config.trial_settings().model, model)).model_type
        except ModelLoadError as error:
            say(f"cannot check for parameters that nothing reads: {error}")
            continue
        if family not in families:
            families.add(family)
            problem = _check_family(config, rules, _space_with(config, model), family, rng)
            if problem:
                say(f"cannot check for parameters that nothing reads: {family}: {problem}")


def _space_with(config: RunConfig, model: str) -> ActiveSpace:
    """Return the space restricted to one model."""
    space = config.active_space()
    entries = dict(space.space.entries)
    if "model.name" in entries:
        entries["model.name"] = Choices(choices=(model,))
    return active_space(Space(entries), space.fixed)


def _check_family(
    config: RunConfig, rules: Sequence[Rule], space: ActiveSpace, family: str, rng: random.Random
) -> str | None:
    """Check one model family, and return the reason if no configuration could be tried.

    Return None if the check passed, or if the rule against combinations rejects every sample.

    Args:
        rules: the rule against combinations, if it applies.

    Raises:
        UserError: no run reads a parameter.
    """
    from trainables.dry_run import settings_read

    settings, files = config.trial_settings(), MachineFiles()
    fixed = config.fixed_params()
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
        except Exception as error:  # The configuration cannot run, for any reason for which a trial may fail.
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
    """Return the configuration changed so that runs read as many of the names as possible, and the names they read."""
    active: set[str] = set()
    for name in sorted(names):
        changed = space.activated(name, params)
        if all(space.is_active(other, changed) for other in (*active, name)):
            params = changed
            active.add(name)
    assert active, "every parameter can be read in some configuration"
    return space.normalised(params), active


def check_training(config: RunConfig, say: Callable[[str], None], *, from_here: bool) -> None:
    """Refuse a new study whose models no trial could load, or whose space holds what no trial reads.

    Args:
        from_here: whether trials run on this machine, and so need the hub's models here.

    Raises:
        UserError: a model or a parameter is refused.
    """
    check_models(config, from_here=from_here)
    check_parameters_are_read(config, model_names(config), say)
