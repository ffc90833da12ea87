"""Disk space of a long study, while it runs and at its end, compared with keeping every checkpoint.

    python scripts/bench/disk.py [--trials 2000] [--concurrent 2]

One trial of a tiny encoder is trained for real. The search's trials repeat its reports with other values and
checkpoints of the same size, so that thousands of trials take minutes. Measured are the parts of the run directory and
MLflow's file beside it, but not Ray's own temporary folder. The exit status is 1 if the study exceeds the limit that
docs/explanation/failures.md states.
"""

import argparse
import io
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import print_json, print_ratio, print_table, versions_line

from trainables.reports import TrialReport
from trainables.settings import TrialSettings
from trainables.trial import TrialFolders, run_trial
from tune_app.config import RunConfig, parse_config
from tune_app.console import Console
from tune_app.experiment import run_search

EPOCHS, KEPT = 3, 3
LIMIT_MIB_PER_1000 = 50
MIB = 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--concurrent", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        config = search_config(Path(scratch), arguments.trials, arguments.concurrent)
        reports, checkpoint_bytes = one_trial(config.trial_settings(), Path(scratch))
        begun, peak = time.perf_counter(), Peak(Path(config.study.dir))
        with peak:
            end = run_search(
                config, console=Console(file=io.StringIO()), run_trial=repeating(reports, checkpoint_bytes), checks=()
            )
        seconds = time.perf_counter() - begun
        parts = {
            "checkpoints": size_of(end.run_dir / "checkpoints"),
            "study.journal": size_of(end.run_dir / "study.journal"),
            "cache": size_of(end.run_dir / "cache"),
            "artifacts": size_of(end.run_dir / "artifacts"),
            "mlflow.db": sum(map(size_of, Path(config.study.dir).glob("mlflow.db*"))),
        }
    kept_all = arguments.trials * EPOCHS * checkpoint_bytes
    others = sum(parts.values()) - parts["checkpoints"]
    rows = [(name, f"{size / MIB:.1f}", f"{size / arguments.trials / 1024:.2f}") for name, size in parts.items()]
    rows.append(("in all", f"{sum(parts.values()) / MIB:.1f}", ""))
    rows.append(("at most while it ran", f"{peak.bytes / MIB:.1f}", ""))
    rows.append(("every checkpoint", f"{kept_all / MIB:.1f}", f"{kept_all / arguments.trials / 1024:.2f}"))
    print_table((f"{end.status.launched} trials", "MiB", "KiB a trial"), rows)
    print(f"one checkpoint {checkpoint_bytes / MIB:.2f} MiB, {KEPT} kept; {seconds:.0f} s")
    print_ratio("run directory to every checkpoint kept", sum(parts.values()) / kept_all, 1)
    limit = LIMIT_MIB_PER_1000 * arguments.trials / 1000
    good = print_ratio("beside the checkpoints, MiB", others / MIB, limit, unit="") and (
        parts["checkpoints"] <= 1.1 * KEPT * checkpoint_bytes + MIB
    )
    print(versions_line("ray", "optuna", "mlflow"))
    print_json({"trials": end.status.launched, **parts, "peak": peak.bytes, "every_checkpoint": kept_all, "good": good})
    return int(not good)


def search_config(scratch: Path, trials: int, concurrent: int) -> RunConfig:
    return parse_config(
        {
            "study": {"name": "disk", "dir": str(scratch / "runs")},
            "data": {"path": "demo", "max_rows": 400},
            "model": {"name": "tiny-bert"},
            "tok": {"max_length": 48},
            "train": {"epochs": EPOCHS},
            "search": {"trials": trials, "max_concurrent": concurrent, "sampler": "random"},
            "scheduler": {"name": "asha"},
            "checkpoint": {"keep": KEPT},
            "space": {
                "optim.lr": {"low": 0.0003, "high": 0.01, "log": True},
                "optim.weight_decay": {"low": 0.0, "high": 0.3},
                "train.batch_size": {"choices": [8, 16, 32]},
                "head.dropout": {"choices": [0.0, 0.1, 0.3]},
                "schedule.warmup_ratio": {"choices": [0.0, 0.06, 0.1, 0.2]},
            },
        }
    )


def one_trial(settings: TrialSettings, scratch: Path) -> tuple[list[TrialReport], int]:
    """Train a real trial; return its reports and the size of its last checkpoint in bytes."""
    reports: list[TrialReport] = []
    run_trial(settings, report=reports.append, folders=TrialFolders(scratch / "cache", scratch / "checkpoints"))
    last = reports[-1].checkpoint
    assert last is not None
    return [replace(report, checkpoint=None) for report in reports], size_of(last)


def repeating(reports: list[TrialReport], checkpoint_bytes: int) -> Callable[..., None]:
    def repeat(settings: TrialSettings, report: Any, workspace: Any) -> None:
        draw = random.Random(f"{settings.optim.lr}")
        for said in reports:
            folder = workspace.checkpoints / f"epoch-{said.step}"
            folder.mkdir(parents=True)
            with (folder / "state.pt").open("wb") as file:
                file.truncate(checkpoint_bytes)
            report(replace(said, value=draw.random(), checkpoint=folder))

    return repeat


def size_of(place: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; files that vanish meanwhile count 0."""
    total = 0
    for file in place.rglob("*") if place.is_dir() else [place]:
        try:
            total += file.lstat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total


class Peak:
    """Peak size of a folder in bytes, measured every second."""

    def __init__(self, folder: Path) -> None:
        self.bytes = 0
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(1):
            self.bytes = max(self.bytes, size_of(self._folder))


if __name__ == "__main__":
    sys.exit(main())
