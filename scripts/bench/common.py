"""What the benches share: the table, ratio and JSON line that each prints, and Optuna's form of a space."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.space import Choices, IntRange, Space


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be, the first to the left, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        print("  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]))


def print_ratio(label: str, ratio: float, target: float) -> None:
    """``label: 0.43 × (target at most 0.60 ×: met)``."""
    print(f"{label}: {ratio:.2f} × (target at most {target:.2f} ×: {'met' if ratio <= target else 'missed'})")


def print_json(values: Mapping[str, Any]) -> None:
    """The last line of a bench's output."""
    print(json.dumps(values, sort_keys=True))


def versions(*packages: str) -> dict[str, str]:
    return {name: version(name) for name in packages}


def versions_line(*packages: str) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions(*packages).items())


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """What the stock searcher is given: the same space, without a detour through Headroom."""
    found: dict[str, BaseDistribution] = {}
    for name, entry in space.entries.items():
        if isinstance(entry, Choices):
            found[name] = CategoricalDistribution(entry.choices)
        elif isinstance(entry, IntRange):
            found[name] = IntDistribution(entry.low, entry.high, step=entry.step)
        else:
            found[name] = FloatDistribution(entry.low, entry.high, log=entry.log)
    return found
