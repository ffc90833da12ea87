"""Space of the stock searcher: the same as Headroom's, converted to Optuna's distributions directly."""

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.space import Choices, IntRange, Space


def distributions(space: Space) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for name, entry in space.entries.items():
        if isinstance(entry, Choices):
            found[name] = CategoricalDistribution(entry.choices)
        elif isinstance(entry, IntRange):
            found[name] = IntDistribution(entry.low, entry.high, log=entry.log, step=entry.step)
        else:
            found[name] = FloatDistribution(entry.low, entry.high, log=entry.log)
    return found
