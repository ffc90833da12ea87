"""Registry of the rules that ``limits`` chooses by name: ours, and those of other distributions.

A rule's entry is in the module of the rule, in ``ENTRIES``. Another distribution adds one by an entry point of the
group ``headroom.rules``::

    [project.entry-points."headroom.rules"]
    no_long_batches = "my_package.rules:NO_LONG_BATCHES"

Where ``NO_LONG_BATCHES`` is a ``RuleEntry``. From then on ``limits: no_long_batches`` chooses its rules.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from search_spaces.rules.rule import Rule, Sample

GROUP = "headroom.rules"


@dataclass(frozen=True)
class PredictedFit:
    """Predicted fit of a sample in the largest share of a device that a trial may have.

    Attributes:
        need_gib: predicted memory at one sample a pass, with every allowed saving.
        allowed_gib: largest prediction that still fits, which is the budget less the headroom.
        budget_gib: memory that the trial may hold.
        micro_batch: samples in the largest pass; 0 if not even one fits.
        passes: passes that a step takes at full length; None if not even one sample fits.
        checkpointing: whether the prediction recomputes activations so that the sample fits. It is also true if that
            does not suffice.
    """

    need_gib: float
    allowed_gib: float
    budget_gib: float
    micro_batch: int
    passes: int | None
    checkpointing: bool


Predict = Callable[[Sample], PredictedFit | None]
"""Function that predicts a sample's fit; None if it cannot, and then no rule rejects the sample."""


@dataclass(frozen=True)
class Facts:
    """Knowledge of a search from which its rules are made.

    Attributes:
        predict: function that predicts a sample's memory.
        max_accumulation: most passes of a step; None sets no limit.
        parameters: function that returns a model's number of parameters; None if it is unknown.
        large_vocabulary: function that returns whether a model's family has a large vocabulary.
        family: function that returns the family of a model whose limits apply; None if none do.
    """

    predict: Predict
    max_accumulation: int | None
    parameters: Callable[[str], int | None]
    large_vocabulary: Callable[[str], bool]
    family: Callable[[str], str | None]


@dataclass(frozen=True)
class RuleEntry:
    """Entry of the registry. ``build`` makes the rules of a search from what it knows."""

    build: Callable[[Facts], Sequence[Rule]]


class RuleEntryError(ValueError):
    """Error of an entry of another distribution that cannot be used. The message is one line with the remedy."""


def rule_names() -> tuple[str, ...]:
    """Return the names of all entries: ours, then those of other distributions. None of the latter is imported.

    Raises:
        RuleEntryError: an entry of another distribution has the name of one of ours.
    """
    return tuple(dict.fromkeys((*_own(), *_others())))


def rule_entry(name: str) -> RuleEntry:
    """Return an entry; import its module if it is another distribution's.

    Raises:
        KeyError: there is no such entry.
        RuleEntryError: the entry cannot be imported, or is none.
    """
    own = _own()
    return own[name] if name in own else _loaded(_others()[name])


def look_again() -> None:
    """Look for entry points again: distributions were installed or removed while the program runs."""
    _others.cache_clear()


@cache
def _own() -> Mapping[str, RuleEntry]:
    package = importlib.import_module(__package__)
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    entries = {name: entry for module in modules for name, entry in getattr(module, "ENTRIES", {}).items()}
    return {name: entries[name] for name in sorted(entries)}


@cache
def _others() -> Mapping[str, EntryPoint]:
    points = {point.name: point for point in entry_points(group=GROUP)}
    for name in points.keys() & _own().keys():
        raise RuleEntryError(
            f"{_described(points[name])} has the name of a rule of Headroom's own; uninstall it, or ask its authors for"
            " another name"
        )
    return points


def _described(point: EntryPoint) -> str:
    owner = point.dist.name if point.dist else "an unknown distribution"
    return f"the entry {point.name!r} of {GROUP} ({owner}: {point.value})"


def _loaded(point: EntryPoint) -> RuleEntry:
    what, remedy = _described(point), "mend or uninstall it"
    try:
        entry = point.load()
    except Exception as error:  # The module of another distribution may fail in any way.
        raise RuleEntryError(f"{what} cannot be imported: {type(error).__name__}: {error}; {remedy}") from error
    if not isinstance(entry, RuleEntry):
        raise RuleEntryError(f"{what} is no RuleEntry but {type(entry).__name__}; {remedy}")
    return entry
