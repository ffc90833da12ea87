"""Points that finding the largest micro-batch takes: Headroom's probe against doubling and bisection.

    python scripts/bench/probe.py [--cases N] [--seed S]

Every case is a random small configuration of one of 8 families in a random budget, which the CPU device enforces. A
point is a real training step at full length. A size fits for all methods if its peak is at most budget × (1 −
headroom). Doubling takes 1, 2, 4, … rows until a size does not fit and keeps the one before, as Lightning's power
scaling does. Bisection then continues between the two, as Lightning's binary search does. For each case the true
maximum is bisected on measured peaks. The probe runs with the original predictions, and with predictions changed by 10
and 30 per cent in each direction.

A step's peak at one size never varies, so each size runs once for all methods.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, log
from random import Random
from statistics import mean

import torch
from common import print_json, print_table, versions_line
from workloads import FAMILIES, Case, draw_case

from trainables.devices.cpu import CpuDevice
from trainables.devices.host import GIB
from trainables.models.builtin import build_encoder
from trainables.models.encoder import enable_checkpointing, freeze_layers
from trainables.models.load import LoadedEncoder, LoadReport
from trainables.planning.plan import MemoryPlan, predict
from trainables.planning.probe import probe
from trainables.planning.rehearsal import Rehearsal, rehearsing
from trainables.tasks import build_task
from trainables.training.optimizer import build_optimizer, prepare_states

HEADROOM = 0.10
MOST_ROWS = 200
# Effective batches are seldom larger.
WANTED = 512
# Limit on the arithmetic of the largest step that fits, so that no case takes minutes.
MOST_OPERATIONS = 2e10
ERRORS = (0.0, -0.1, 0.1, -0.3, 0.3)

Measure = Callable[[int], float | None]


@dataclass
class Found:
    rows: int
    points: int


@dataclass
class Result:
    """Result of each method in one case; the probe's by the error of its predictions."""

    case: Case
    budget_gib: float
    truth: int
    doubling: Found
    bisection: Found
    probes: dict[float, Found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw = Random(arguments.seed)
    families = list(FAMILIES)
    results = [run(draw, families[number % len(families)]) for number in range(arguments.cases)]
    print(versions_line("torch", "transformers"))
    print_cases(results)
    print()
    print_totals(results)


def _off_by(error: float, predicted: Callable[[int], float]) -> Callable[[int], float]:
    return lambda count: (1 + error) * predicted(count)


def run(draw: Random, family: str) -> Result:
    case, plan, rows = draw_affordable(draw, family)
    passes = case.accumulation

    def predicted(count: int) -> float:
        return plan.need_gib(count, case.length, passes)

    # Any need between those of this many rows and of one more.
    need = draw.uniform(predicted(rows), predicted(rows + 1))
    budget_gib = need / (1 - HEADROOM) + CpuDevice().live_bytes() / GIB
    allowed = budget_gib * (1 - HEADROOM)
    with trial(case, budget_gib) as rehearsal:
        peaks: dict[int, float | None] = {}

        def measure(count: int) -> float | None:
            if count not in peaks:
                peak = rehearsal.training_peak(count, case.length, accumulating=passes > 1)
                peaks[count] = None if peak is None else peak / GIB
            return peaks[count]

        low, high, _ = doubled(measure, allowed)
        truth, _ = bisected(measure, allowed, low, high)
        probes = {}
        for error in ERRORS:
            found = probe(_off_by(error, predicted), measure, allowed=allowed, most=WANTED)
            probes[error] = Found(found.rows, found.points)
        fits, fails, points = doubled(measure, allowed)
        between, more = bisected(measure, allowed, fits, fails)
    return Result(case, budget_gib, truth, Found(fits, points), Found(between, points + more), probes)


def draw_affordable(draw: Random, family: str) -> tuple[Case, MemoryPlan, int]:
    """Draw a case; return it, its prediction, and the number of rows that are to fit."""
    while True:
        case = draw_case(draw, family)
        config = case.workload.config
        rows = round(exp(draw.uniform(0, log(MOST_ROWS))))
        weights = 12 * config.num_hidden_layers * config.hidden_size**2
        if 6 * weights * rows * case.length <= MOST_OPERATIONS:
            return case, predict(case.workload), rows


@contextmanager
def trial(case: Case, budget_gib: float) -> Iterator[Rehearsal]:
    """Yield real steps of the case under its budget."""
    workload, device = case.workload, CpuDevice(budget_gib)
    settings = workload.settings
    with device.enforce():
        task = build_task(settings)
        encoder = build_encoder(workload.config, seed=0)
        freeze_layers(encoder, workload.settings.model.freeze_layers)
        if workload.checkpointing:
            enable_checkpointing(encoder)
        model = task.build_model([LoadedEncoder(encoder, LoadReport((), (), None))], seed=0)
        optimizer = build_optimizer(model, settings.optim)
        prepare_states(optimizer)
        with rehearsing(
            model,
            task,
            optimizer,
            device,
            clip_norm=settings.train.clip_norm,
            precision=workload.precision,
        ) as rehearsal:
            yield rehearsal


def doubled(measure: Measure, allowed: float) -> tuple[int, int, int]:
    """Return the last size that fitted (0 if none), the first that did not, and the number of sizes tried."""
    fits, rows, points = 0, 1, 0
    while rows <= WANTED:
        points += 1
        if not is_allowed(measure(rows), allowed):
            return fits, rows, points
        fits, rows = rows, 2 * rows
    return fits, WANTED + 1, points


def bisected(measure: Measure, allowed: float, fits: int, fails: int) -> tuple[int, int]:
    """Return the largest size that fits between the two, and the number of sizes tried."""
    points = 0
    while fails - fits > 1:
        rows = (fits + fails) // 2
        points += 1
        fits, fails = (rows, fails) if is_allowed(measure(rows), allowed) else (fits, rows)
    return fits, points


def is_allowed(peak: float | None, allowed: float) -> bool:
    return peak is not None and peak <= allowed


def print_cases(results: list[Result]) -> None:
    header = ["configuration", "budget MiB", "maximum", "doubling", "bisection", *map(label, ERRORS)]
    rows = [
        [
            f"{result.case.family} {result.case.workload.config.num_hidden_layers}×"
            f"{result.case.workload.config.hidden_size} {result.case.workload.precision}"
            f"{' checkpointing' if result.case.workload.checkpointing else ''} length {result.case.length}"
            f"{' accumulating' if result.case.accumulation > 1 else ''}",
            f"{result.budget_gib * 1024:.1f}",
            result.truth,
            *(f"{found.rows} in {found.points}" for found in (result.doubling, result.bisection)),
            *(f"{result.probes[error].rows} in {result.probes[error].points}" for error in ERRORS),
        ]
        for result in results
    ]
    print("rows found, in how many points")
    print_table(header, rows)


def print_totals(results: list[Result]) -> None:
    ways: dict[str, list[Found]] = {
        "doubling": [result.doubling for result in results],
        "bisection": [result.bisection for result in results],
        **{label(error): [result.probes[error] for result in results] for error in ERRORS},
    }
    bisection = sum(found.points for found in ways["bisection"])
    doubling = sum(found.points for found in ways["doubling"])
    rows: list[list[object]] = []
    totals = {}
    for name, found in ways.items():
        points = [one.points for one in found]
        shares = [one.rows / result.truth for one, result in zip(found, results, strict=True)]
        totals[name] = {
            "mean_points": mean(points),
            "max_points": max(points),
            "mean_share": mean(shares),
            "worst_share": min(shares),
            "points_by_doubling": sum(points) / doubling,
            "points_by_bisection": sum(points) / bisection,
        }
        rows.append(
            [
                name,
                f"{mean(points):.2f}",
                max(points),
                f"{100 * mean(shares):.1f}",
                f"{100 * min(shares):.1f}",
                f"{sum(points) / doubling:.2f} ×",
                f"{sum(points) / bisection:.2f} ×",
            ]
        )
    header = ("way", "points, mean", "most", "% of maximum, mean", "worst", "points / doubling", "points / bisection")
    print_table(header, rows)
    print_json({"bench": "probe", "cases": len(results), "ways": totals})


def label(error: float) -> str:
    return f"probe {100 * error:+.0f} %" if error else "probe"


if __name__ == "__main__":
    main()
