"""Edges of a space's ranges that earlier studies of the same name or data ran into."""

from collections.abc import Iterator
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from search_spaces.space import Choices, Entry, FloatRange, IntRange, position_between
from tune_app.config import RunConfig
from tune_app.errors import UserError
from tune_app.study.reporting import leaderboard
from tune_app.study.run_dir import stored_config
from tune_app.study.store import StudyStore, find_study, study_names
from tune_app.uris import is_store

# A study of fewer complete trials says nothing about edges.
_LEAST_COMPLETE = 6
# Of so many best trials, most must lie at the edge.
_BEST, _AT_EDGE = 3, 2
_NEAR = 0.05
"""Share of a range that counts as its edge."""
_MOST_STUDIES = 20


def edge_warnings(config: RunConfig, data_fingerprint: str) -> list[tuple[str, str]]:
    """Return the parameters whose edge earlier studies ran into, each with a message.

    Only studies in folders of this machine are read.
    """
    assert config.space is not None
    found: dict[str, str] = {}
    for store in _earlier(config, data_fingerprint):
        best = leaderboard(store.trials(), store.record.objectives)[:_BEST]
        for name, entry in config.space.entries.items():
            edge = _edge(entry, name, best)
            if edge is not None and name not in found:
                side, value = edge
                found[name] = (
                    f"the best trials of study {store.name} lie at its {side} edge, {value:g};"
                    f" {'raise high' if side == 'upper' else 'lower low'}, or add choices beyond it"
                )
    return list(found.items())


def _earlier(config: RunConfig, fingerprint: str) -> Iterator[StudyStore]:
    """Yield the studies with enough complete trials whose name or data is that of the configuration."""
    folder = Path(config.study_folder)
    if is_store(config.study.dir) or not folder.is_dir():
        return
    newest = sorted(study_names(folder, None), key=lambda name: -(folder / name).stat().st_mtime)
    for name in newest[:_MOST_STUDIES]:
        try:
            url = stored_config(folder / name).study.storage
            store = find_study(folder / name, name, url)
        except UserError:
            continue  # A damaged study, or one of another version, says nothing.
        if store is None or (store.version_of != config.study.name and store.record.data_fingerprint != fingerprint):
            continue
        complete = [trial for trial in store.trials() if trial.state == TrialState.COMPLETE]
        if len(complete) >= _LEAST_COMPLETE:
            yield store


def _edge(entry: Entry, name: str, best: list[FrozenTrial]) -> tuple[str, float] | None:
    """Return the side of the edge that most of the best trials lie at or beyond, and its value; None without one."""
    bounds = _bounds(entry)
    values = [float(trial.params[name]) for trial in best if isinstance(trial.params.get(name), int | float)]
    if bounds is None or len(values) < _AT_EDGE:
        return None
    low, high, is_log = bounds
    if low == high:
        return None
    positions = [position_between(low, high, value, log=is_log) for value in values]
    if sum(position >= 1 - _NEAR for position in positions) >= _AT_EDGE:
        return "upper", high
    if sum(position <= _NEAR for position in positions) >= _AT_EDGE:
        return "lower", low
    return None


def _bounds(entry: Entry) -> tuple[float, float, bool] | None:
    """Return the least and the largest value of a numeric entry, and whether its scale is logarithmic."""
    if isinstance(entry, FloatRange | IntRange):
        return float(entry.low), float(entry.high), entry.log
    assert isinstance(entry, Choices)
    numbers = [value for value in entry.choices if isinstance(value, int | float) and not isinstance(value, bool)]
    # Of two or three choices, the best one is easily the last.
    if len(numbers) < len(entry.choices) or len(numbers) < 4:
        return None
    return float(min(numbers)), float(max(numbers)), min(numbers) > 0
