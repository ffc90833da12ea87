"""Planned hours over taken hours, for ten different searches on this machine.

    python scripts/bench/plan.py [--searches 10]

Every search is planned by ``tune_app.plan`` and then run by ``tune_app.search``; the study's own clock says what it
took. The machine's record starts empty, in a folder of its own: one search that is not counted tells what a search
takes beside its trials, and models are timed when a plan first meets them. The exit status is 1 if the median ratio is
off by more than 15 %, or if less than nine of ten searches end inside the planned range.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import print_json, print_ratio, print_table, versions_line

from tune_app import load_config, plan, search

MOST_OFF = 0.15
LEAST_INSIDE = 0.9

WARMING = {"train.epochs": 1, "search.trials": 6}
SEARCHES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("tiny-bert, ASHA", {}),
    ("longer training", {"train.epochs": 8}),
    ("no scheduler", {"scheduler.name": "none", "train.epochs": 3}),
    ("HyperBand", {"scheduler.name": "hyperband", "train.epochs": 6}),
    ("tiny-roberta", {"model.name": "tiny-roberta"}),
    ("tiny-deberta, half the rows", {"model.name": "tiny-deberta", "data.max_rows": 300}),
    ("one at a time", {"search.max_concurrent": 1, "search.trials": 6}),
    ("longer texts", {"tok.max_length": 128}),
    ("three folds", {"data.folds": 3, "scheduler.name": "none", "train.epochs": 2, "search.trials": 4}),
    ("two models and patience", {"space.model.name.choices": ["tiny-bert", "tiny-roberta"], "train.patience": 2}),
)


@dataclass(frozen=True)
class Result:
    """Planned and taken hours of one search."""

    name: str
    low: float
    expected: float
    high: float
    taken: float
    basis: str

    @property
    def ratio(self) -> float:
        return self.taken / self.expected

    @property
    def is_inside(self) -> bool:
        return self.low <= self.taken <= self.high


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=len(SEARCHES))
    arguments = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        run("warming", WARMING, Path(folder))
        results = [run(name, changes, Path(folder)) for name, changes in SEARCHES[: arguments.searches]]
    print_table(
        ["search", "planned s", "from", "to", "taken s", "taken / planned", "inside", "basis"],
        [
            (
                one.name,
                *(f"{3600 * hours:.0f}" for hours in (one.expected, one.low, one.high, one.taken)),
                f"{one.ratio:.2f}",
                "yes" if one.is_inside else "no",
                one.basis,
            )
            for one in results
        ],
    )
    median, inside = statistics.median(one.ratio for one in results), statistics.fmean(one.is_inside for one in results)
    good = print_ratio("median of taken / planned, off by a factor of", math.exp(abs(math.log(median))), 1 + MOST_OFF)
    good &= print_ratio("share of searches inside the planned range", inside, LEAST_INSIDE, at_least=True, unit="")
    load = os.getloadavg()[2]
    print(f"{time.perf_counter() - begun:.0f} s; load of the machine over 15 minutes: {load:.1f}")
    print(versions_line("ray", "optuna", "torch"))
    print_json({"good": good, "inside": inside, "median": median, "ratios": [one.ratio for one in results]})
    return 0 if good else 1


def run(name: str, changes: Mapping[str, Any], folder: Path) -> Result:
    """Plan and run one search."""
    config = load_config(
        {
            "study": {"name": "planned-" + "-".join(name.replace(",", "").split()), "dir": str(folder / "runs")},
            "data": {"path": "demo", "max_rows": 600},
            "model": {"name": "tiny-bert"},
            "tok": {"max_length": 48},
            "train": {"epochs": 4},
            "search": {"trials": 8, "max_concurrent": 2, "recommended": 1},
            "tracking": {"enabled": False},
            "space": {
                "train.batch_size": {"choices": [8, 16, 32]},
                "optim.lr": {"low": 1e-4, "high": 5e-3, "log": True},
            },
        },
        changes,
    )
    planned = plan(config)
    assert planned.time is not None
    hours = planned.hours
    taken = search(config, quiet=True).store.time.taken_s / 3600
    print(f"{name}: planned {3600 * hours.expected:.0f} s, taken {3600 * taken:.0f} s", file=sys.stderr, flush=True)
    return Result(name, hours.low, hours.expected, hours.high, taken, planned.time.basis)


if __name__ == "__main__":
    sys.exit(main())
