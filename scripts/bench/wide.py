"""Samples of the wide space, every task: through validation, rules and a trial of two epochs on small models.

    python scripts/bench/wide.py [--samples 200]

A small encoder with random weights replaces each of the space's models. The card is small and made of the CPU's memory,
so that the rules have something to reject. A sample is drawn, validated as a configuration, checked against the rules,
and trained from loading to its last report. None may fail, and each rejected sample names its reasons.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import print_json, print_table, versions_line

from search_spaces.catalogue import CATALOGUE
from search_spaces.rules import Sample, violations
from search_spaces.space import Params
from trainables.devices.cpu import CpuDevice
from trainables.devices.facts import TrialDevice
from trainables.machine import MachineFiles
from trainables.planning.needs import encoder_config
from trainables.reports import TrialReport
from trainables.settings import with_params
from trainables.stand_ins import small_model
from trainables.task_registry import TASKS
from trainables.trial import TrialFolders, run_trial
from tune_app.config import RunConfig, parse_config
from tune_app.screening.combinations import combination_rules
from tune_app.screening.filtering import build_rules
from tune_app.screening.packing import Packing
from tune_app.screening.preconditions import model_names

CARD_GIB = 0.12
ROWS = 48
LAYERS = 6  # As many layers as the space can freeze.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200, help="over all tasks")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        models = small_models(Path(scratch) / "models")
        files, begun = MachineFiles(Path(scratch) / "machine"), time.perf_counter()
        counts: dict[str, Counter[str]] = {}
        for place, task in enumerate(TASKS):
            share = arguments.samples // len(TASKS) + (place < arguments.samples % len(TASKS))
            config = config_of(task, models, Path(scratch))
            counts[task] = Counter(ends(config, files, share, random.Random(f"{arguments.seed}:{task}")))
        seconds = time.perf_counter() - begun
    kinds = sorted({kind for own in counts.values() for kind in own})
    print_table(["task", *kinds], [[task, *(own[kind] for kind in kinds)] for task, own in counts.items()])
    failed = sum(own["failed"] for own in counts.values())
    print(f"{failed} failed of {sum(own.total() for own in counts.values())}, in {seconds:.0f} s")
    print(versions_line("torch", "transformers"))
    print_json(
        {"samples": arguments.samples, "failed": failed, "ends": {task: dict(own) for task, own in counts.items()}}
    )
    sys.exit(1 if failed else 0)


def small_models(folder: Path) -> list[str]:
    """Save a small model of the same family for each model of the space; return their folders."""
    names = CATALOGUE["wide"].entries["model.name"]["choices"]
    return [str(small_model(encoder_config(name, None), folder / name.replace("/", "-"), LAYERS)) for name in names]


def config_of(task: str, models: list[str], folder: Path) -> RunConfig:
    raw: dict[str, Any] = {
        "study": {"name": f"wide-{task}", "dir": str(folder / "runs")},
        "data": {"path": "demo", "max_rows": ROWS},
        "task": {"name": task},
        "train": {"epochs": 2},
        "memory": {"device_gib": CARD_GIB},
        "space": {"from": "wide", "model.name": {"choices": models}},
    }
    return parse_config(raw)


def ends(config: RunConfig, files: MachineFiles, samples: int, rng: random.Random) -> Iterator[str]:
    """Yield the end of each sample: ``complete``, ``oom``, ``failed``, or the rules that rejected it."""
    space = config.active_space()
    device = TrialDevice("cpu", CARD_GIB, bf16=False)
    packing = Packing(
        config.trial_settings(), device, gpus=1.0, passes=config.resources.passes, files=files, say=lambda text: None
    )
    rules = [
        *combination_rules(config, model_names(config)),
        *build_rules(config.limits, config.memory.max_accumulation, packing),
    ]
    for _ in range(samples):
        params = space.sample(rng)
        config.with_params(params)
        found = violations(rules, Sample.of({**config.fixed_params(), **params}))
        if found:
            assert all(violation.reason for violation in found)
            yield "+".join(sorted({violation.rule for violation in found}))
        else:
            yield trained(config, params, files)


def trained(config: RunConfig, params: Params, files: MachineFiles) -> str:
    reports: list[TrialReport] = []
    with tempfile.TemporaryDirectory() as scratch:
        folders = TrialFolders(Path(config.study.dir) / "cache", Path(scratch), machine=files)
        settings = with_params(config.trial_settings(), params)
        try:
            run_trial(settings, report=reports.append, folders=folders, device=CpuDevice(device_gib=CARD_GIB))
        except Exception as error:
            print(f"{config.task.name}: {type(error).__name__}: {error}: {params}", file=sys.stderr)
            return "failed"
    assert reports[-1].ended is not None
    return reports[-1].ended


if __name__ == "__main__":
    main()
