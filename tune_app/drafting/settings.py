"""Settings of a draft in the order of a configuration, each with its reason."""

from dataclasses import dataclass

from trainables.task_entry import NATIVE, TaskEntry
from trainables.task_registry import TASKS
from tune_app.drafting.columns import Roles
from tune_app.drafting.effort import NIGHT_H, Effort, epochs_for
from tune_app.drafting.machine import Machine
from tune_app.drafting.space import space_settings
from tune_app.drafting.summary import Summary
from tune_app.drafting.text import Drafted
from tune_app.forecast.hours import Range
from tune_app.forecast.lines import range_text

_MOST_LISTED = 50
_WINDOWS_OVERLAP = 4


@dataclass(frozen=True)
class Chosen:
    """Choices that the data and the machine decide.

    Attributes:
        models: models to try.
        why: reason for the models.
        max_length: tokens of an input.
        task_name: the task, and the reason for it.
    """

    models: tuple[str, ...]
    why: str
    max_length: int
    task_name: tuple[str, str]

    @property
    def task(self) -> TaskEntry:
        return TASKS[self.task_name[0]]


def data_settings(study: str, path: str, roles: Roles, shared_texts: int) -> list[Drafted]:
    """Return the settings of the study and of its data.

    Args:
        shared_texts: number of texts that stand in several groups.
    """
    settings = [
        Drafted("study.name", study, "Name of the study and of its folder under runs."),
        Drafted("data.path", path, "One row per text, or per (text, criterion) pair."),
    ]
    if shared_texts:
        one = "One text stands" if shared_texts == 1 else f"{shared_texts:,} texts stand"
        why = (
            f"{one} in several groups. Their groups stay on one side of the split, or a score would be of known texts."
        )
        settings.append(Drafted("data.equal_texts", "together", why))
    return [*settings, *(Drafted(f"data.columns.{name}", role.column, role.why) for name, role in roles.items())]


def drafted_settings(chosen: Chosen, summary: Summary, machine: Machine, effort: Effort) -> list[Drafted]:
    """Return all settings but those of ``data_settings``; those of ``data`` come first."""
    share = 1.0 if effort.max_rows is None else effort.max_rows / summary.rows
    train_rows = round(summary.train_rows * share)
    return [
        *_rows(summary, effort),
        *_task(chosen, summary),
        Drafted("model.name", chosen.models[0], chosen.why),
        *_lengths(chosen, summary),
        *_head(chosen),
        *_loss(chosen),
        *_training(chosen, train_rows),
        *_search(machine, effort),
        *_scheduler(chosen),
        *space_settings(chosen.task, chosen.models, train_rows, summary.imbalance),
    ]


def _rows(summary: Summary, effort: Effort) -> list[Drafted]:
    if effort.max_rows is None:
        return []
    why = (
        f"As many of the {summary.rows:,} rows as {effort.trials} trials can train on in one night here, in whole"
        " groups; leave this out on a faster machine."
    )
    return [Drafted("data.max_rows", effort.max_rows, why)]


def _task(chosen: Chosen, summary: Summary) -> list[Drafted]:
    settings = [Drafted("task.name", *chosen.task_name)]
    names = list(summary.rows_of_class)
    if len(names) <= _MOST_LISTED:
        second = " Of two, the second is the one that binary_f1 and task.threshold look for." if len(names) == 2 else ""
        labels = [int(name) if name.isdecimal() and str(int(name)) == name else name for name in names]
        settings.append(Drafted("task.labels", labels, f"The classes of the data, in their order.{second}"))
    return settings


def _lengths(chosen: Chosen, summary: Summary) -> list[Drafted]:
    lengths, most = summary.lengths, chosen.max_length
    cut = f"{lengths.cut_share(most):.1%} of them"
    if not chosen.task.finds_spans:
        why = f"The smallest usual length that cuts at most 5% of the rows, or the largest one: it cuts {cut}."
        return [Drafted("tok.max_length", most, why)]
    return [
        Drafted("tok.max_length", most, f"Longer texts ({cut}) are read in windows of this length: none is cut."),
        Drafted("tok.doc_stride", most // _WINDOWS_OVERLAP, "Tokens that two neighbouring windows share."),
    ]


def _head(chosen: Chosen) -> list[Drafted]:
    if chosen.task.native_head is None:
        return []
    others = "cls or mean, with head.dropout," if chosen.task.chooses_class else "cls, with head.dropout,"
    why = (
        "The head that transformers defines for the model: every tool loads what is saved, label names and calibration"
        f" included. Models with {others} need Headroom to load; search them as choices of head.pooling."
    )
    return [Drafted("head.pooling", NATIVE, why)]


def _loss(chosen: Chosen) -> list[Drafted]:
    if chosen.task_name[0] != "evidence":
        return []
    why = (
        "Rows with evidence weigh more than those without. How sure a span must be is tuned on validation anyway, and"
        " spans are learned sooner so."
    )
    return [Drafted("loss.name", "focal", why), Drafted("loss.gamma", 0.5), Drafted("loss.alpha", 0.8)]


def _training(chosen: Chosen, train_rows: int) -> list[Drafted]:
    epochs, why = epochs_for(chosen.models, train_rows, finds_spans=chosen.task.finds_spans)
    settings = [Drafted("train.epochs", epochs, why)]
    if not chosen.task.finds_spans:
        settings.append(Drafted("train.patience", 2, "A training ends after this many epochs without improvement."))
    return settings


def _search(machine: Machine, effort: Effort) -> list[Drafted]:
    settings = [Drafted("search.trials", effort.trials, _night(machine, effort.hours))]
    at_once = "Two trials share a card if both fit." if machine.has_card else "Trials side by side, on the CPU."
    settings.append(Drafted("search.max_concurrent", machine.at_once, at_once))
    if machine.threads > 1:
        settings.append(Drafted("resources.cpu", machine.threads, "CPU cores of each trial."))
    return settings


def _night(machine: Machine, hours: Range | None) -> str:
    if hours is None:
        return ""
    fits = f"One night ({NIGHT_H:.0f} h)"
    if hours.high > NIGHT_H:
        fits = f"More than one night ({NIGHT_H:.0f} h), but fewer trials show little"
    return (
        f"{fits}: planned {range_text(hours)} on {machine.line}; headroom plan shows it in parts. An interrupted search"
        " resumes with the same command."
    )


def _scheduler(chosen: Chosen) -> list[Drafted]:
    why = "Of the trials that reach a rung, one in three goes on; the recommended configurations come first and all do."
    settings = [Drafted("scheduler.name", "asha", why)]
    if chosen.task.finds_spans:
        settings.append(Drafted("scheduler.warmup", 3, "Epochs before which no trial is stopped: spans come late."))
    return settings
