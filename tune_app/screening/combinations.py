"""Models and settings that do not go together: fixed ones are refused at once, sampled ones rejected by a rule."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from search_spaces.rules import CombinationRule, Rule
from search_spaces.space import Scalar
from trainables.models.families import TURNABLE, Obstacle, any_can_follow, obstacles
from trainables.models.sizes import architecture
from trainables.settings import TrialSettings, encoder_names, revision_of, with_params
from trainables.task_registry import TASKS
from tune_app.config import RunConfig
from tune_app.config.conditions import conditions
from tune_app.errors import UserError


def check_combinations(config: RunConfig, models: Sequence[str]) -> None:
    """Refuse settings outside the space that the models of every trial cannot follow.

    Args:
        models: every model that a trial may use.

    Raises:
        UserError: there is such a setting; the message names it, the family and the remedy.
    """
    searched = config.space.entries if config.space else {}
    problems = [obstacle for model in models if (obstacle := fixed_obstacle(config, model))]
    # If no model is searched, every trial uses all of the models.
    is_choice = "model.name" in searched or "model.criteria_name" in searched
    if problems and (len(problems) == len(models) or not is_choice):
        raise UserError(f"{problems[0]}, or use another model than {', '.join(models)}")


def fixed_obstacle(config: RunConfig, model: str, **settings: Any) -> Obstacle | None:
    """Return the first setting outside the space that a model cannot follow; None without one.

    Args:
        settings: settings that replace the configuration's, with ``__`` for the dot.
    """
    searched = config.space.entries if config.space else {}
    fixed = {name: value for name, value in config.fixed_params().items() if name not in searched}
    given = {**fixed, **{name.replace("__", "."): value for name, value in settings.items()}}
    return next(_obstacles(with_params(config.trial_settings(), {"model.name": model}), model, given), None)


def combination_rules(config: RunConfig, models: Sequence[str]) -> list[Rule]:
    """Return the rule against such combinations, if the space holds any; else nothing.

    Args:
        models: every model that a trial may use.
    """
    assert config.space is not None
    settings, fixed, active = config.trial_settings(), config.fixed_params(), config.active_space()
    entries = config.space.entries
    some = {name: entry.examples[0] for name, entry in entries.items()}

    def can_hit(model: str, name: str, value: Scalar) -> bool:
        params = {**some, name: value} | ({"model.name": model} if "model.name" in entries else {})
        if TASKS[config.task.name].encoders == 1:  # No condition covers the second of two encoders.
            params = active.normalised(params)
        problems = _obstacles(with_params(settings, {"model.name": model}), model, {**fixed, **params})
        return any(obstacle.setting == name for obstacle in problems)

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
    """Return the obstacles for a model among the settings of a configuration that a run reads."""
    read = {name: value for name, value in params.items() if name in TURNABLE and _is_read(name, params)}
    # Query the hub only if the answer may matter, since it may be unreachable.
    known = architecture(model, revision_of(settings.model, model), fetch=not any_can_follow(read))
    return iter(obstacles(known, read) if known else [])


def _is_read(name: str, params: Mapping[str, Any]) -> bool:
    # Ignore conditions on the model's name: the caller finds out whether the model can follow.
    of_task = [condition for condition in conditions().get(name, ()) if condition.name == "task.name"]
    return all(condition.holds(params[condition.name]) for condition in of_task if condition.name in params)
