"""Predicted against measured peaks of training and evaluation on the CPU, over random configurations of 8 families.

    python scripts/bench/predict_cpu.py [--cases N] [--seed S]

Every case runs two real steps, and an evaluation pass, under a mode that counts live storages. The exit status is 1
where a prediction is off by more than half a per cent.
"""

import argparse
import sys
from random import Random
from statistics import median
from typing import Any

import torch
from common import print_json, print_table, versions_line
from workloads import FAMILIES, Case, draw_case, measure

from trainables.memory.predict import predict

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
    errors: list[float] = []
    for number in range(arguments.cases):
        case = draw_case(draw, families[number % len(families)])
        row, found = compare(case)
        rows.append(row)
        errors += found
    print(versions_line("torch", "transformers"))
    print_table(("configuration", "predicted MiB", "measured", "error %", "evaluation", "measured", "error %"), rows)
    summary: dict[str, Any] = {
        "cases": arguments.cases,
        "worst_percent": 100 * max(map(abs, errors)),
        "median_percent": 100 * median(map(abs, errors)),
    }
    print_json(summary)
    return int(max(map(abs, errors)) > WORST)


def compare(case: Case) -> tuple[list[object], list[float]]:
    plan = predict(case.workload)
    predicted = (
        plan.need_gib(case.micro_batch, case.length, case.accumulation),
        plan.eval_need_gib(case.micro_batch, case.length),
    )
    row: list[object] = [str(case)]
    errors = []
    for need, peak in zip(predicted, measure(case), strict=True):
        errors.append(need / peak - 1)
        row += [f"{need * 1024:.2f}", f"{peak * 1024:.2f}", f"{100 * errors[-1]:+.3f}"]
    return row, errors


if __name__ == "__main__":
    sys.exit(main())
