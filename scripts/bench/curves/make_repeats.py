"""Maker of the table that ``repeats.py`` reads. A row is written as soon as its run ends; the same command resumes.

PYTHONPATH=scripts/bench python -m curves.make_repeats
PYTHONPATH=scripts/bench python -m curves.make_repeats --check   # spread and noise of the rows so far
"""

import argparse
import math
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray

from curves.make import UncountedDevice, drawn
from curves.repeats import (
    CONFIGURATIONS,
    EPOCHS,
    RECOMMENDED,
    SEEDS,
    SPACE,
    WORLDS,
    Run,
    World,
    as_row,
    read_runs,
    write_worlds,
    writer_to,
)
from curves.table import FOLDER, Scalar
from trainables.data.demo import demo_rows
from trainables.data.split import read_test_rows
from trainables.devices.errors import OutOfMemory
from trainables.machine import MachineFiles
from trainables.seeds import sub_seed, trial_seeds
from trainables.session import TrainingSession
from trainables.settings import DataSettings, MemorySettings, Seeds, TrialSettings, with_params
from trainables.tasks import criteria
from trainables.tasks.criteria import THRESHOLD
from trainables.training.evaluate import predict_outputs

_POSTS = 250
_ROWS = 800
_TEST_SHARE = 0.6
_VALIDATION_SHARE = 0.1
_PASS = 64


@dataclass(frozen=True)
class Place:
    """Files of one world: its data, and the cache of its tokens."""

    data: Path
    cache: Path
    machine: Path


def configuration(world: int, index: int) -> dict[str, Scalar]:
    """Return the configuration with this number in a world: the same in every run of this script."""
    if index == 0:
        return RECOMMENDED
    rng = random.Random(f"repeats:{world}:{index}")
    return {name: drawn(entry, rng) for name, entry in SPACE.items()}


def settings_of(world: int, seed: int, place: Place) -> TrialSettings:
    """Return the settings of a run without its configuration: a seed redraws everything but the test part."""
    drawn = {name: sub_seed(world, f"repeats:{seed}:{name}") for name in ("init", "order", "augment", "validation")}
    base = TrialSettings(
        data=DataSettings(str(place.data)),
        seeds=Seeds(split=trial_seeds(world).split, **drawn),
        memory=MemorySettings(micro_batch=_PASS, eval_batch=_PASS),
    )
    fixed: dict[str, Scalar] = {
        "data.test_share": _TEST_SHARE,
        "data.validation_share": _VALIDATION_SHARE,
        "tok.max_length": 40,
        "model.name": "tiny-bert",
        "model.attention_dropout": 0.0,
        "train.precision": "fp32",
        "train.epochs": EPOCHS,
    }
    return with_params(base, fixed)


def train(world: int, index: int, seed: int, place: Place) -> Run:
    """Train one configuration to its end, and answer the test rows with the model of its best epoch."""
    start = time.process_time()
    params = configuration(world, index)
    settings = with_params(settings_of(world, seed, place), params)
    session = TrainingSession(settings, place.cache, UncountedDevice(), with_test=True)
    session.plan_memory(MachineFiles(place.machine))
    values: list[float] = []
    best: dict[str, torch.Tensor] = {}
    threshold = math.nan
    for _ in range(EPOCHS):
        session.train_epoch()
        scores = session.evaluate_epoch()
        values.append(scores.metrics["macro_f1"])
        session.progress.add_epoch(values[-1], scores.metrics)
        if session.progress.best_epoch == len(values):
            best = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
            threshold = scores.decision[THRESHOLD]
    session.model.load_state_dict(best)
    corrected, noise = session.progress.corrected_value, session.progress.value_deviation
    assert corrected is not None
    assert noise is not None
    return Run(
        world,
        index,
        seed,
        params,
        tuple(values),
        corrected,
        noise,
        _answers(session, threshold),
        time.process_time() - start,
    )


def _answers(session: TrainingSession, threshold: float) -> NDArray[np.int8]:
    def ran_out(failure: OutOfMemory, count: int, length: int) -> None:
        raise RuntimeError(failure.message)

    outputs = predict_outputs(
        session.model,
        session.task,
        session.examples,
        session.inputs.part("test"),
        device=UncountedDevice(),
        rows_at=lambda length, left: min(left, _PASS),
        ran_out=ran_out,
        precision=session.precision,
    )
    positive = outputs.softmax(dim=-1)[:, 1].numpy()
    return (positive > threshold).astype(np.int8)


def place_of(world: int, folder: Path) -> Place:
    """Write the data of a world, and return its files."""
    data = folder / f"world-{world}.csv"
    if not data.exists():
        demo_rows(_POSTS, seed=sub_seed(world, "repeats:data")).head(_ROWS).to_csv(data, index=False)
    return Place(data, folder / "cache", folder / "machine")


def test_rows(world: int, place: Place) -> World:
    """Return labels and groups of a world's test rows, in the order of ``Run.answers``."""
    settings = settings_of(world, 0, place)
    rows = read_test_rows(settings.data, None, settings.seeds.split)
    numbers: dict[str, int] = {}
    groups = np.array([numbers.setdefault(group, len(numbers)) for group in rows.groups], dtype=np.int64)
    if (np.diff(groups) < 0).any():
        raise RuntimeError("the rows of a group do not follow each other, which the file's form assumes")
    return World(rows.labels.astype(np.int8), groups)


def make(file: Path) -> None:
    """Append a row for every run that the file lacks."""
    done = {(run.world, run.index, run.seed) for run in read_runs(file)} if file.exists() else set()
    # Runs of the same seed follow each other: the split is computed once.
    runs = [(w, i, s) for w in range(WORLDS) for s in range(SEEDS) for i in range(CONFIGURATIONS)]
    with tempfile.TemporaryDirectory() as folder, file.open("a", newline="", encoding="utf-8") as stream:
        write_worlds([test_rows(world, place_of(world, Path(folder))) for world in range(WORLDS)])
        writer = writer_to(stream)
        if not done and not file.stat().st_size:
            writer.writeheader()
        for number, (world, index, seed) in enumerate(runs, start=1):
            if (world, index, seed) in done:
                continue
            run = train(world, index, seed, place_of(world, Path(folder)))
            writer.writerow(as_row(run))
            stream.flush()
            print(f"{number}/{len(runs)}: {run.value:.3f}, {run.cpu_s:.1f} s of CPU", flush=True)


def check(file: Path) -> None:
    """Print the spread of configurations and seeds."""
    runs = read_runs(file)
    values: dict[tuple[int, int], list[float]] = {}
    for run in runs:
        values.setdefault((run.world, run.index), []).append(run.value)
    whole = [group for group in values.values() if len(group) > 1]
    print(f"{len(runs)} runs, {sum(run.cpu_s for run in runs):.0f} s of CPU")
    if not whole:
        return
    print(f"configurations: mean {statistics.fmean(map(statistics.fmean, whole)):.3f}", end=", ")
    print(f"deviation {statistics.pstdev(map(statistics.fmean, whole)):.3f}", end=", ")
    print(f"between seeds {math.sqrt(statistics.fmean(map(statistics.variance, whole))):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=FOLDER / "repeats.csv", help="where the table is")
    parser.add_argument("--check", action="store_true", help="print what the rows so far are worth, train nothing")
    given = parser.parse_args()
    if given.check:
        check(given.file)
        return
    torch.set_num_threads(1)
    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
    criteria.MOST_CRITERIA = 0
    make(given.file)


if __name__ == "__main__":
    main()
