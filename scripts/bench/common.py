"""Common parts of the benches: the table, ratio and JSON line that each prints. Needs only the standard library."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any


def table_lines(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table: columns as wide as needed, the first aligned left, numbers right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))])
        for first, *others in cells
    ]


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print("\n".join(table_lines(header, rows)))


def print_ratio(label: str, ratio: float, target: float, *, at_least: bool = False, unit: str = " ×") -> bool:
    """Print ``label: 0.43 × (target at most 0.60 ×: met)`` and return True if the target is met."""
    met = ratio >= target if at_least else ratio <= target
    bound = "at least" if at_least else "at most"
    print(f"{label}: {ratio:.2f}{unit} (target {bound} {target:.2f}{unit}: {'met' if met else 'missed'})")
    return met


def print_json(values: Mapping[str, Any]) -> None:
    """Print the last line of a bench's output."""
    print(json.dumps(values, sort_keys=True))


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean; NaN for a single value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def versions(*packages: str) -> dict[str, str]:
    return {name: version(name) for name in packages}


def versions_line(*packages: str) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions(*packages).items())
