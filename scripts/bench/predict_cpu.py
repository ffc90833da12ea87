"""Predicted against measured peaks of training and evaluation on the CPU, over random configurations of 8 families.

    python scripts/bench/predict_cpu.py [--cases N] [--seed S]

Every case runs two real steps and an evaluation pass under a mode that counts live storages. The replayed prediction
comes from a trace at other sizes. The confirmed one comes from a trace at the case's own size, which Headroom makes
once it has chosen a micro-batch. The exit status is 1 if a confirmed prediction is off by more than half a per cent.
"""

import argparse
import sys
from random import Random
from statistics import median

import torch
from common import print_json, print_table, versions_line
from workloads import FAMILIES, Case, draw_case, measure

from trainables.planning.plan import confirm, predict

WORST = 0.005


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw = Random(arguments.seed)
    families = list(FAMILIES)
    rows: list[list[object]] = []
    errors: dict[str, list[float]] = {"replayed": [], "confirmed": []}
    for number in range(arguments.cases):
        case = draw_case(draw, families[number % len(families)])
        rows += compare(case, errors)
    print(versions_line("torch", "transformers"))
    print_table(("configuration", "measured MiB", "replayed", "error %", "confirmed", "error %"), rows)
    summary = {
        name: {"median_percent": 100 * median(map(abs, found)), "worst_percent": 100 * max(map(abs, found))}
        for name, found in errors.items()
    }
    print_json({"cases": arguments.cases, **summary})
    return int(max(map(abs, errors["confirmed"])) > WORST)


def compare(case: Case, errors: dict[str, list[float]]) -> list[list[object]]:
    """Return a row for training and one for evaluation; add the relative errors to ``errors``."""
    plans = {"replayed": predict(case.workload), "confirmed": confirm(case.workload, case.micro_batch, case.length)}
    rows: list[list[object]] = []
    for part, measured_gib in zip(("training", "evaluation"), measure(case), strict=True):
        row: list[object] = [f"{case} {part}", f"{measured_gib * 1024:.2f}"]
        for name, plan in plans.items():
            if part == "training":
                need_gib = plan.need_gib(case.micro_batch, case.length, case.accumulation)
            else:
                need_gib = plan.eval_need_gib(case.micro_batch, case.length)
            errors[name].append(need_gib / measured_gib - 1)
            row += [f"{need_gib * 1024:.2f}", f"{100 * errors[name][-1]:+.3f}"]
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
