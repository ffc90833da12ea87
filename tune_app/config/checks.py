"""Checks across the sections of a configuration. The loader calls them; the sections check only their own settings."""

from pydantic import ValidationError

from search_spaces.quoting import quoted
from search_spaces.space import Space
from trainables.declaration import values_of
from trainables.task_registry import TASKS
from tune_app.config.messages import problem_line
from tune_app.config.models import validated
from tune_app.config.old_names import WARMUP
from tune_app.config.parameters import check_parameter
from tune_app.config.run import RunConfig, mode_of, section_class
from tune_app.errors import UserError, nearest
from tune_app.samplers import SAMPLERS
from tune_app.schedulers import SCHEDULERS


def check(config: RunConfig) -> None:
    """Refuse settings that are right by themselves but not together.

    Raises:
        UserError: a setting is refused; the message names it, its value and the remedy.
    """
    _check_metric(config)
    if config.space is not None:
        _check_several(config)
        _check_scheduler(config)
        _check_space(config, config.space)


def _check_metric(config: RunConfig) -> None:
    """Refuse objectives that trials of the task do not measure, or that are ambiguous.

    Raises:
        UserError: an objective is refused; the message names it and the remedy.
    """
    task, names = config.task, [metric.name for metric in config.search.metric]
    scores, costs = TASKS[task.name].objectives, TASKS[task.name].costs
    for metric in config.search.metric:
        name, mode = metric.name, mode_of(metric.name)
        if name not in (*scores, *costs):
            hint = nearest(name, [*scores, *costs])
            raise UserError(
                f"search.metric: {quoted(name)} is not measured by task {task.name}{hint}"
                f" (known: {', '.join((*scores, *costs))})"
            )
        if metric.mode not in (None, mode):
            better = "larger" if mode == "max" else "smaller"
            raise UserError(
                f"search.metric: {name} with mode {metric.mode}: a {better} {name} is better; set mode: {mode}, or"
                " leave mode out"
            )
        if names.count(name) > 1:
            raise UserError(f"search.metric: {name} is listed twice; drop one")
        if name == "binary_f1" and task.count > 2:
            raise UserError(f"search.metric: binary_f1 is for two classes, and there are {task.count}; drop it")
    if not names:
        return
    if names[0] not in scores:
        raise UserError(
            f"search.metric: {names[0]} comes first, but the epochs of a trial are compared by the first, which must be"
            f" a score of task {task.name}; put one of {', '.join(scores)} before it, e.g. [{scores[0]}, {names[0]}]"
        )
    if task.objective not in (None, names[0]):
        raise UserError(
            f"task.objective: {task.objective} conflicts with search.metric, whose first is {names[0]}; drop"
            f" task.objective, or put {task.objective} first"
        )


def _check_several(config: RunConfig) -> None:
    """Refuse settings that do not suit the number of objectives.

    Raises:
        UserError: a setting is refused; the message names it.
    """
    names = [metric.name for metric in config.search.metric]
    if len(names) > 1 and SCHEDULERS[config.scheduler.name].stops:
        raise UserError(
            f"scheduler.name: {config.scheduler.name} stops trials by one objective, and search.metric names"
            f" {len(names)} ({', '.join(names)}); set scheduler.name=none, or keep one"
        )
    if len(names) > 1 and config.search.stop == "auto":
        raise UserError(
            f"search.stop: auto expects the gain of one objective, and search.metric names {len(names)}"
            f" ({', '.join(names)}); set search.stop=none, or keep one"
        )
    if len(names) <= 1 and SAMPLERS[config.search.sampler].needs_several_objectives:
        raise UserError(
            f"search.sampler: {config.search.sampler} is for several objectives; name them in search.metric, e.g."
            f" [{config.objectives[0].name}, peak_gib], or set search.sampler=tpe"
        )


def _check_scheduler(config: RunConfig) -> None:
    """Refuse a scheduler that could never stop a trial, or could not resume one.

    Raises:
        UserError: the scheduler has no rung before the last report, or pauses trials that write no checkpoints.
    """
    scheduler, scale = config.scheduler, config.step_scale
    entry = SCHEDULERS[scheduler.name]
    if entry.needs_checkpoints and not config.checkpoint.is_written:
        raise UserError(
            f"checkpoint.keep: none conflicts with {scheduler.name}, which resumes paused trials from their"
            " checkpoints; keep 0 or more, or set scheduler.name=asha"
        )
    if scale.is_fold and isinstance(scheduler.rung, float):
        raise UserError(
            f"scheduler.rung: {scheduler.rung:g} is a fraction of an epoch, but with data.folds {config.data.folds}"
            " trials"
            " report folds; set scheduler.rung=auto, or data.folds=null"
        )
    if not entry.stops:
        return
    steps, first, factor = scale.count, config.first_rung, scheduler.reduction_factor
    if entry.stopping_steps(steps, first, factor):
        return
    elsewhere = f"raise {scale.setting}, or set scheduler.name=none"
    if entry.why_nothing is not None:
        raise UserError(
            f"scheduler.reduction_factor: {factor} leaves {scheduler.name} nothing to stop: of {scale}"
            f" ({scale.setting}) {entry.why_nothing(steps, first, factor)}; lower either, {elsewhere}"
        )
    if scheduler.warmup is None:
        raise UserError(
            f"scheduler.rung: {scheduler.rung} leaves {scheduler.name} nothing to stop: a trial reports {scale}"
            f" ({scale.setting}), and ends with the last one anyway; set scheduler.rung=0.25, {elsewhere}"
        )
    raise UserError(
        f"{WARMUP}: {scheduler.warmup} leaves {scheduler.name} nothing to stop: a trial reports {scale}"
        f" ({scale.setting}), and ends with the last one anyway; lower it, {elsewhere}"
    )


def _check_space(config: RunConfig, space: Space) -> None:
    for name, entry in space.entries.items():
        check_parameter(name)
        section, key = name.split(".", 1)
        values = values_of(getattr(config, section))
        for value in entry.examples:
            try:
                validated(section_class(section), {**values, key: value})
            except ValidationError as error:
                raise UserError(f"space.{name}: {problem_line(error.errors()[0], value)}") from None
    active = config.active_space()
    for name, condition in active.never_read().items():
        deciding = space.entries.get(condition.name)
        is_now = f"may be {deciding} only" if deciding else f"is {active.fixed[condition.name]}"
        raise UserError(
            f"space.{name}: nothing reads it: it is used only with {condition}, but {condition.name} {is_now}; set"
            f" that, or drop space.{name}"
        )
    if SAMPLERS[config.search.sampler].lists_space and active.size is None:
        endless = next(name for name, entry in space.entries.items() if entry.size is None)
        raise UserError(
            f"search.sampler: {config.search.sampler} cannot list the float range space.{endless}; give it choices,"
            " or use tpe or random"
        )
