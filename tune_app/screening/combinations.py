"""Models and settings that do not go together: fixed ones are refused at once, sampled ones rejected by a rule."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from search_spaces.conditions import Condition
from search_spaces.rules import CombinationRule, Rule
from search_spaces.space import Scalar
from trainables.models.families import LIMITED_SETTINGS, Obstacle, any_can_follow, head_obstacle, obstacles
from trainables.models.sizes import architecture
from trainables.settings import TrialSettings, encoder_names, revision_of, with_params
from trainables.task_entry import NATIVE
from trainables.task_registry import TASKS
from tune_app.config import RunConfig
from tune_app.config.conditions import conditions
from tune_app.errors import UserError

# Conditions on the task, by the name of the setting that is read only under them.
_ConditionsOnTask = Mapping[str, tuple[Condition, ...]]


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


def fixed_obstacle(config: RunConfig, model: str, *, length: int | None = None) -> Obstacle | None:
    """Return the first setting outside the space that a model cannot follow; None without one.

    Args:
        length: tokens of an input, in place of the configuration's ``tok.max_length``.
    """
    searched = config.space.entries if config.space else {}
    fixed = {name: value for name, value in config.fixed_params().items() if name not in searched}
    given = fixed if length is None else {**fixed, "tok.max_length": length}
    settings = with_params(config.trial_settings(), {"model.name": model})
    return next(_obstacles(settings, model, given, _conditions_on_task()), None)


def combination_rules(config: RunConfig, models: Sequence[str]) -> list[Rule]:
    """Return the rule against such combinations, if the space holds any; else nothing.

    Args:
        models: every model that a trial may use.
    """
    assert config.space is not None
    settings, fixed, active = config.trial_settings(), config.fixed_params(), config.active_space()
    entries, on_task = config.space.entries, _conditions_on_task()
    some = {name: entry.examples[0] for name, entry in entries.items()}

    def can_hit(model: str, name: str, value: Scalar) -> bool:
        params = {**some, name: value} | ({"model.name": model} if "model.name" in entries else {})
        if TASKS[config.task.name].encoders == 1:  # No condition covers the second of two encoders.
            params = active.normalised(params)
        problems = _obstacles(with_params(settings, {"model.name": model}), model, {**fixed, **params}, on_task)
        return any(obstacle.setting == name for obstacle in problems)

    values = {name: entries[name].examples if name in entries else (fixed.get(name),) for name in LIMITED_SETTINGS}
    hit = any(
        can_hit(model, name, value)
        for model in models
        for name in values
        for value in values[name]
        if value is not None
    )
    return [CombinationRule(_cannot(settings, on_task))] if hit else []


def _cannot(settings: TrialSettings, on_task: _ConditionsOnTask) -> Callable[[Mapping[str, Any]], list[str]]:
    def cannot(params: Mapping[str, Any]) -> list[str]:
        sampled = with_params(settings, params)
        names = dict.fromkeys(encoder_names(sampled))
        return [obstacle.problem for name in names for obstacle in _obstacles(sampled, name, params, on_task)]

    return cannot


def _obstacles(
    settings: TrialSettings, model: str, params: Mapping[str, Any], on_task: _ConditionsOnTask
) -> Iterator[Obstacle]:
    """Return the obstacles for a model among the settings of a configuration that a run reads."""
    task = settings.task.name
    read = {name: params[name] for name in LIMITED_SETTINGS if name in params and _is_read(params, on_task[name])}
    # Query the hub only if the answer may matter, since it may be unreachable.
    pooling = read.get("head.pooling")
    # Not every family has a native head for spans.
    is_easy = any_can_follow(read) and (pooling != NATIVE or TASKS[task].chooses_class)
    known = architecture(model, revision_of(settings.model, model), fetch=not is_easy)
    head = None if pooling is None else head_obstacle(task, str(pooling), known)
    yield from [head] if head else []
    yield from obstacles(known, read) if known else []


def _conditions_on_task() -> _ConditionsOnTask:
    """Return the conditions on the task under which each setting is read.

    Those on the model's name are left out, since the caller finds out whether the model can follow. Rules keep the
    result: it is the same for every sample, and takes longer to build than a sample takes to check.
    """
    of_all = conditions()
    return {
        name: tuple(condition for condition in of_all.get(name, ()) if condition.name == "task.name")
        for name in LIMITED_SETTINGS
    }


def _is_read(params: Mapping[str, Any], on_task: Sequence[Condition]) -> bool:
    return all(condition.holds(params[condition.name]) for condition in on_task if condition.name in params)
