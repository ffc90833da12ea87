"""What the stock searcher is given: the same space, without a detour through Headroom."""

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
