"""Models and settings that do not go together: those that are fixed are refused at once, sampled ones by a rule."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from search_spaces.conditions import CONDITIONS
from search_spaces.rules import CombinationRule, Rule
from search_spaces.space import Scalar
from trainables.models.families import TURNABLE, Obstacle, any_can_follow, obstacles
from trainables.models.sizes import architecture
from trainables.settings import TrialSettings, encoder_names, revision_of, with_params
from tune_app.config import RunConfig
from tune_app.errors import UserError


def check_combinations(config: RunConfig, models: Sequence[str]) -> None:
    """Refuse settings outside the space that the models of every trial cannot follow.

    Args:
        models: every model that a trial may use.

    Raises:
        UserError: naming the setting, the family and the remedy.
    """
    searched = config.space.entries if config.space else {}
    found = [obstacle for model in models if (obstacle := fixed_obstacle(config, model))]
    # Several models that are not searched are used by one and the same trial.
    is_choice = "model.name" in searched or "model.criteria_name" in searched
    if found and (len(found) == len(models) or not is_choice):
        raise UserError(f"{found[0]}, or take another model than {', '.join(models)}")


def fixed_obstacle(config: RunConfig, model: str, **settings: Any) -> Obstacle | None:
    """The first setting outside the space that a model cannot follow, or None.

    Args:
        settings: in place of the configuration's, with ``__`` for the dot.
    """
    searched = config.space.entries if config.space else {}
    fixed = {name: value for name, value in config.fixed_params().items() if name not in searched}
    given = {**fixed, **{name.replace("__", "."): value for name, value in settings.items()}}
    return next(_obstacles(with_params(config.trial_settings(), {"model.name": model}), model, given), None)


def combination_rules(config: RunConfig, models: Sequence[str]) -> list[Rule]:
    """The rule against such combinations, where the space holds one.

    Args:
        models: every model that a trial may use.
    """
    assert config.space is not None
    settings, fixed, active = config.trial_settings(), config.fixed_params(), config.active_space()
    entries = config.space.entries
    some = {name: entry.examples[0] for name, entry in entries.items()}

    def can_hit(model: str, name: str, value: Scalar) -> bool:
        params = {**some, name: value} | ({"model.name": model} if "model.name" in entries else {})
        if config.task.name != "joint":  # There the model may be the second, which no condition looks at.
            params = active.normalised(params)
        found = _obstacles(with_params(settings, {"model.name": model}), model, {**fixed, **params})
        return any(obstacle.setting == name for obstacle in found)

    values = {name: entries[name].examples if name in entries else (fixed.get(name),) for name in TURNABLE}
    hit = any(
        can_hit(model, name, value)
        for model in models
        for name in values
        for value in values[name]
        if value is not None
    )
    return [CombinationRule(_cannot(settings))] if hit else []


def _cannot(settings: TrialSettings) -> Callable[[Mapping[str, Any]], list[str]]:
    def cannot(params: Mapping[str, Any]) -> list[str]:
        sampled = with_params(settings, params)
        names = dict.fromkeys(encoder_names(sampled))
        return [obstacle.problem for name in names for obstacle in _obstacles(sampled, name, params)]

    return cannot


def _obstacles(settings: TrialSettings, model: str, params: Mapping[str, Any]) -> Iterator[Obstacle]:
    """What a model cannot do of a configuration, as far as a run of it reads that."""
    read = {name: value for name, value in params.items() if name in TURNABLE and _is_read(name, params)}
    # The hub, which may be out of reach, is asked only where the answer may matter.
    found = architecture(model, revision_of(settings.model, model), fetch=not any_can_follow(read))
    return iter(obstacles(found, read) if found else [])


def _is_read(name: str, params: Mapping[str, Any]) -> bool:
    # Whether the model can follow is asked here, and not of a condition on its name.
    conditions = [condition for condition in CONDITIONS.get(name, ()) if condition.name == "task.name"]
    return all(condition.holds(params[condition.name]) for condition in conditions if condition.name in params)
