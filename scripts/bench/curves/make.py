"""Maker of the tables of training curves that ``table.py`` reads: it trains every configuration to its end.

- ``tiny``: 400 configurations, 8 epochs, 2 seeds. Built-in two-layer encoders from scratch on 400 rows of the built-in
  demo data (259 to train, 100 to validate), inputs cut to 40 tokens; fp32. 14 parameters.
- ``minilm``: 150 configurations, 4 epochs, 1 seed. The pre-trained MiniLM on 400 rows of a file of your own, in the
  columns of a criteria task (264 to train, 98 to validate); bf16. 13 parameters. The committed table uses pairs
  (passage, question) from XQuAD's English part. Its negatives are other passages of the same article, which do not hold
  the answer.

All trials of a table share the split of the data. A configuration is drawn from its table and index alone. Each epoch
reports four times: three times on a fixed sample of the validation part, at its end on all of it. Memory is neither
counted nor limited, since counting slows encoders this small and changes no result.

A row is written as soon as its run ends. Rows in the file are not made again, so the same command resumes a stopped
one. Each process has one thread. From the repository's root:

    PYTHONPATH=scripts/bench python -m curves.make tiny
    PYTHONPATH=scripts/bench python -m curves.make minilm --data pairs.csv
    PYTHONPATH=scripts/bench python -m curves.make tiny --check   # the quality of the rows so far as a problem
"""

import argparse
import csv
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import sklearn
import torch
from scipy.stats import spearmanr

from curves.table import (
    EPOCHS,
    FOLDER,
    RUNGS_PER_EPOCH,
    SPACES,
    Curve,
    Entry,
    Scalar,
    as_row,
    header,
    read_table,
)
from trainables.data.split import read_development
from trainables.devices.cpu import CpuDevice
from trainables.machine import MachineFiles
from trainables.reports import TrialReport
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, MemorySettings, Seeds, TrialSettings, with_params
from trainables.tasks import criteria
from trainables.training.divergence import NonFiniteLossError
from trainables.trial import TrialFolders, run_trial

CONFIGURATIONS = {"tiny": 400, "minilm": 150}
SEEDS = {"tiny": (0, 1), "minilm": (0,)}
_FIXED: dict[str, dict[str, Scalar]] = {
    "tiny": {
        "data.max_rows": 400,
        "data.validation_share": 0.25,
        "data.test_share": 0.1,
        "tok.max_length": 40,
        "model.attention_dropout": 0.0,
        "train.precision": "fp32",
        "rungs.rows": 40,
    },
    "minilm": {
        "data.max_rows": 400,
        "data.validation_share": 0.2,
        "data.test_share": 0.05,
        "model.name": "minilm-l6",
        "train.precision": "bf16",
        "rungs.rows": 40,
    },
}


class UncountedDevice(CpuDevice):
    """CPU whose memory is neither counted nor limited."""

    @contextmanager
    def enforce(self) -> Iterator[None]:
        yield

    def live_bytes(self) -> int:
        return 0

    def release(self) -> None:
        pass


def configuration(table: str, index: int) -> dict[str, Scalar]:
    """Return the configuration with this index: the same in every run of this script."""
    rng = random.Random(f"{table}:{index}")
    return {name: drawn(entry, rng) for name, entry in SPACES[table].items()}


def drawn(entry: Entry, rng: random.Random) -> Scalar:
    """Draw a value of an entry, to four digits."""
    choices = entry.get("choices")
    if isinstance(choices, tuple):
        return rng.choice(choices)
    low, high = float(str(entry["low"])), float(str(entry["high"]))
    value = math.exp(rng.uniform(math.log(low), math.log(high))) if entry.get("log") else rng.uniform(low, high)
    # The file holds exactly the number used in training.
    return float(f"{value:.4g}")


def seeds_of(seed: int) -> Seeds:
    """Return the seeds of a run: initial weights and order differ by ``seed``, the split never."""
    return replace(trial_seeds(seed), split=trial_seeds(0).split)


def train(table: str, index: int, seed: int, data: str, folders: TrialFolders) -> Curve:
    """Train one configuration to its end, or until it fails."""
    params = configuration(table, index)
    base = TrialSettings(
        data=DataSettings(data), seeds=seeds_of(seed), memory=MemorySettings(micro_batch=64, eval_batch=64)
    )
    lasting = {"train.epochs": EPOCHS[table], "rungs.per_epoch": RUNGS_PER_EPOCH}
    settings = with_params(base, {**lasting, **_FIXED[table], **params})
    reports: list[TrialReport] = []
    failed = ""
    start = time.process_time()
    try:
        run_trial(settings, report=reports.append, folders=folders, device=UncountedDevice())
    except NonFiniteLossError as error:
        failed = f"diverged: {error}"
    values = [report.value for report in reports]
    values += [math.nan] * (EPOCHS[table] * RUNGS_PER_EPOCH - len(values))
    return Curve(index, params, seed, tuple(values), time.process_time() - start, failed)


def make(table: str, data: str, file: Path) -> None:
    """Append a row for every run that the file lacks."""
    done = {(curve.index, curve.seed) for curve in read_table(table, file)} if file.exists() else set()
    runs = [(index, seed) for seed in SEEDS[table] for index in range(CONFIGURATIONS[table])]
    with tempfile.TemporaryDirectory() as folder, file.open("a", newline="", encoding="utf-8") as stream:
        folders = TrialFolders(Path(folder, "cache"), None, machine=MachineFiles(Path(folder, "machine")))
        writer = csv.DictWriter(stream, header(table), lineterminator="\n")
        if not done and not file.stat().st_size:
            writer.writeheader()
        for number, (index, seed) in enumerate(runs, start=1):
            if (index, seed) in done:
                continue
            start = time.perf_counter()
            curve = train(table, index, seed, data, folders)
            writer.writerow(as_row(table, curve))
            stream.flush()
            last = f"{curve.values[-1]:.3f}" if not curve.failed else curve.failed
            wall_s = time.perf_counter() - start
            print(f"{number}/{len(runs)}: {last}, {wall_s:.1f} s, {curve.cpu_s:.1f} of CPU", flush=True)


def check(curves: Sequence[Curve], majority: float) -> None:
    """Print the features that make the curves a useful problem: spread, changing ranks, noise between seeds."""
    whole = [curve for curve in curves if not curve.failed]
    best = sorted(max(curve.epochs) for curve in whole)
    first, last = ([curve.epochs[place] for curve in whole] for place in (0, -1))
    rung = [curve.values[0] for curve in whole]
    print(f"{len(curves)} runs, {len(curves) - len(whole)} failed, {sum(curve.cpu_s for curve in curves):.0f} s of CPU")
    print(f"always the most frequent class: {majority:.3f}")
    quantiles = ", ".join(
        f"{share:.0%}: {_quantile(best, share):.3f}" for share in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
    )
    print(f"best epoch of a run by share of the runs: {quantiles}")
    print(
        f"rank correlation of first and last epoch: {_ranks(first, last):.2f}, of first rung and last: "
        f"{_ranks(rung, last):.2f}, of last and best: {_ranks(last, [max(curve.epochs) for curve in whole]):.2f}"
    )
    by_seed = [{curve.index: curve.epochs[-1] for curve in whole if curve.seed == seed} for seed in (0, 1)]
    shared = sorted(by_seed[0].keys() & by_seed[1].keys())
    if len(shared) > 1:
        pairs = [(by_seed[0][index], by_seed[1][index]) for index in shared]
        deviation = math.sqrt(statistics.fmean((one - other) ** 2 / 2 for one, other in pairs))
        ranks = _ranks([one for one, _ in pairs], [other for _, other in pairs])
        print(f"two seeds of {len(shared)} configurations: deviation {deviation:.3f}, rank correlation {ranks:.2f}")


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]


def _ranks(one: Sequence[float], other: Sequence[float]) -> float:
    return float(spearmanr(one, other).statistic)


def majority_macro_f1(table: str, data: str) -> float:
    """Return the macro-F1 of always answering the most frequent class on the table's validation part."""
    settings = with_params(TrialSettings(data=DataSettings(data), seeds=seeds_of(0)), _FIXED[table])
    development = read_development(settings.data, settings.task.labels, settings.seeds.split)
    labels = development.rows.labels[development.splits[0].validation]
    share = max(float((labels == 1).mean()), float((labels == 0).mean()))
    return share / (1 + share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(CONFIGURATIONS))
    parser.add_argument("--data", default="demo", help="file of pairs; minilm needs one")
    parser.add_argument("--file", type=Path, help="where the table is, if not beside this script")
    parser.add_argument("--check", action="store_true", help="print what the rows so far are worth, train nothing")
    given = parser.parse_args()
    if given.table == "minilm" and given.data == "demo":
        parser.error("minilm: give the file of pairs with --data")
    file = given.file or FOLDER / f"{given.table}.csv"
    if given.check:
        check(read_table(given.table, file), majority_macro_f1(given.table, given.data))
        return
    torch.set_num_threads(1)
    # Evaluation dominates runs this short, so skip input checks and scores by criterion, which the tables do not hold.
    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
    criteria.MOST_CRITERIA = 0
    make(given.table, given.data, file)


if __name__ == "__main__":
    main()
