"""Opening lines of a search or a training run: the study, the data, and what a score on it can show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.space import Choices, IntRange
from tune_app.config import RunConfig
from tune_app.errors import without_password
from tune_app.outcomes import own_trials
from tune_app.screening.preconditions import development_of, model_names
from tune_app.study.store import StudyStore
from tune_app.uris import is_store

if TYPE_CHECKING:
    from trainables.data.split import Development
    from trainables.data.summary import Part

_MOST_CLASSES = 8
_MOST_LENGTHS = 4


def data_lines(config: RunConfig, *, from_here: bool) -> list[str]:
    """Return the lines on the data that a person should see before the first trial.

    Args:
        config: configuration with the classes of its data.
        from_here: whether this machine fetches models of the hub.

    Raises:
        UserError: the data cannot be used.
    """
    from trainables.data.summary import parts_of

    development = development_of(config)
    parts = parts_of(development)
    rows, groups = (sum(getattr(part, what) for part in parts) for what in ("rows", "groups"))
    names = development.rows.class_names
    listed = ", ".join(names[:_MOST_CLASSES]) + (
        f" and {len(names) - _MOST_CLASSES} more" * (len(names) > _MOST_CLASSES)
    )
    return [
        f"data {config.data.path}: {rows:,} rows in {groups:,} groups; {len(names)} classes: {listed}",
        *(f"  {line}" for line in _table(parts, names)),
        *(f"  {line}" for line in development.rows.remarks),
        *(f"  {line}" for line in _tied(config, development)),
        *(f"  {line}" for line in _cut(config, from_here=from_here)),
        *(f"  {line}" for line in _what_a_score_tells(config, development)),
    ]


def study_lines(config: RunConfig, store: StudyStore, dashboard_url: str | None) -> str:
    """Return the lines on a study, its space and its storage that a person should see before the first trial."""
    space = config.active_space()
    trials = store.trials()
    held = len(own_trials(trials))
    carried = f", {len(trials) - held} carried over" if len(trials) > held else ""
    begins = f"resumes with {held} trial{'s' if held != 1 else ''}" if held else "new"
    lines = [
        f"study {store.name}: {begins}{carried}, {store.target} launched"
        f" trials in all, {config.search.max_concurrent} at a time; {space.describe()}",
        *(f"  {line}" for line in space.shape()),
        f"run directory {config.run_dir}",
        *([f"stored in {without_password(config.location)}"] if is_store(config.study.dir) else []),
    ]
    if dashboard_url:
        lines.append(f"Ray's dashboard http://{dashboard_url} (its token: ray get-auth-token)")
    return "\n".join(lines)


def _table(parts: Sequence["Part"], names: Sequence[str]) -> list[str]:
    """Return a table of rows, groups and rows of each class, by part; with many classes, only of the rarest."""
    shown = list(range(len(names)))
    if len(names) > _MOST_CLASSES:
        totals = sum(part.of_class for part in parts)
        shown = [int(totals.argmin())]  # type: ignore[union-attr]
    head = ["", "rows", "groups", *(names[number] for number in shown)]
    lines = [
        [part.name, f"{part.rows:,}", f"{part.groups:,}", *(f"{part.of_class[number]:,}" for number in shown)]
        for part in parts
    ]
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    return [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in [head, *lines]
    ]


def _tied(config: RunConfig, development: "Development") -> list[str]:
    texts = development.tied.texts
    if not texts:
        return []
    ties = f"{texts:,} {'text stands' if texts == 1 else 'texts stand'} in several groups"
    if config.data.equal_texts == "apart":
        return [f"{ties}, perhaps in training and in validation: set data.equal_texts=together"]
    return [f"{ties}, which stay on one side of the split (at most {development.tied.most_rows:,} rows together)"]


def _cut(config: RunConfig, *, from_here: bool) -> list[str]:
    """Return lines on the share of rows that ``tok.max_length`` cuts; models with equal shares have one line."""
    from trainables.inputs import cut_shares
    from trainables.machine import MachineFiles
    from trainables.models.checkpoint import ModelLoadError
    from trainables.models.names import resolve_model

    settings = config.trial_settings()
    if settings.task.finds_spans:
        return ["texts are read in windows of tok.max_length tokens: none is cut"]
    problems: list[str] = []
    models: dict[str, list[str]] = {}
    for name in model_names(config):
        if resolve_model(name).kind == "hub" and not from_here:
            continue
        try:
            shares = cut_shares(settings, name, _lengths(config), MachineFiles().tokenizers)
        except ModelLoadError as error:
            problems.append(f"cannot tell how many rows tok.max_length cuts: {error}")
            continue
        cut = ", ".join(f"{length}: {share:.1%}" for length, share in shares.items())
        models.setdefault(cut, []).append(name)
    return [
        *problems,
        *(f"rows cut by tok.max_length, in tokens of {', '.join(names)}: {cut}" for cut, names in models.items()),
    ]


def _lengths(config: RunConfig) -> list[int]:
    """Return the lengths that trials may have; if there are many, an even selection with both ends."""
    entry = config.space.entries.get("tok.max_length") if config.space else None
    if not isinstance(entry, Choices | IntRange):
        return [config.tok.max_length]
    every = sorted(int(entry.value_at(position)) for position in range(entry.size))
    most = min(len(every), _MOST_LENGTHS)
    return [every[position * (len(every) - 1) // max(1, most - 1)] for position in range(most)]


@dataclass(frozen=True)
class Yardstick:
    """What a value of the first objective is to be compared with.

    Attributes:
        baselines: scores of answers that need no model, by answer.
        standard_error: least standard error of the objective on the validation part.
    """

    baselines: dict[str, float]
    standard_error: float


def yardstick_of(config: RunConfig, development: "Development | None" = None) -> Yardstick:
    """Return the yardstick of a configuration's data.

    Args:
        development: the data; None reads it.

    Raises:
        UserError: the data cannot be used.
    """
    from trainables.data.summary import baselines, standard_error

    task = config.trial_settings().task
    development = development_of(config) if development is None else development
    return Yardstick(baselines(task, development), standard_error(task, development))


def _what_a_score_tells(config: RunConfig, development: "Development") -> list[str]:
    from trainables.data.summary import RIGHT, validated

    metric, yardstick = config.task.metric, yardstick_of(config, development)
    scores = ", ".join(f"{answer} {value:.4f}" for answer, value in yardstick.baselines.items())
    return [
        *([f"{metric} without learning: {scores}"] if scores else []),
        f"{'its standard error' if scores else f'standard error of {metric}'} on"
        f" {len(validated(development)):,} validation rows: at least {yardstick.standard_error:.4f} (for a model that"
        f" is right on {RIGHT:.0%} of them)",
    ]
