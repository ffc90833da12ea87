"""Draws: what a sampler is made from, and what it makes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Params

Draw = Callable[[], Iterable[Params]]
"""Function that yields configurations, the most promising first. They may repeat. Each call starts a new draw."""


@dataclass(frozen=True)
class SamplerFacts:
    """Knowledge of a search from which its sampler's draw is made.

    Attributes:
        space: space of the search.
        study: study with every trial so far.
        distributions: parameters of the space as the study stores them.
        seed: seed of this start of the search.
        least_bandwidth: least bandwidth of ``tpe``; None takes its default.
        settings: settings of the section ``search``, those that the sampler adds included.
    """

    space: ActiveSpace
    study: optuna.Study
    distributions: dict[str, BaseDistribution]
    seed: int
    least_bandwidth: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
