"""A whole search beside ``Trainer.hyperparameter_search`` with Ray, each in a process of its own, in turn.

    python scripts/bench/against_hf.py [PAIRS_CSV] [--model minilm-l6] [--length 128] [--trials 8] [--epochs 2]
        [--rows 600] [--rounds 1]

Both sides train the same model with the same head on the same rows and split, over the same space (learning rate, batch
size, accumulation), with Optuna's TPE, ASHA with a reduction of 2, two trials at a time and one thread each. The
Trainer runs as its documentation shows it: dynamic padding, an evaluation after each epoch, nothing saved or logged.
Headroom runs as it comes, with rules, checkpoints of the best trials and MLflow, but without recommended
configurations, which are never stopped. Wall time is that of the whole process; processor time is that of all its
processes, Ray's included. The Trainer needs accelerate, which Headroom does not: pip install accelerate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from common import print_json, print_ratio, print_table, versions_line

HEADROOM, TRAINER = "headroom", "trainer"
# Wall time of Headroom's search over the Trainer's, by length.
TARGETS = {128: 0.6, 256: 0.45}
_LOOK_S = 0.5

SPACE: dict[str, list[Any]] = {
    "optim.lr": [2e-5, 5e-5, 1e-4],
    "train.batch_size": [8, 16, 32],
    "train.grad_accum": [1, 2],
}


@dataclass(frozen=True)
class Took:
    """Seconds of a search, and its best macro-F1 on the validation part."""

    wall_s: float
    processor_s: float
    best: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="?", help="rows as for a search (default: the built-in data)")
    parser.add_argument("--model", default="minilm-l6")
    parser.add_argument("--length", type=int, default=128, help="longest input in tokens (default 128)")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rows", type=int, default=600, help="most rows to take, whole groups (default 600)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", choices=(HEADROOM, TRAINER), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if find_spec("accelerate") is None:
        print("against_hf: transformers' Trainer needs accelerate, run: pip install accelerate", file=sys.stderr)
        return 2
    if options.side:
        print(json.dumps({"best": (search_here if options.side == HEADROOM else search_of_trainer)(options)}))
        return 0
    command = [sys.executable, __file__, *(sys.argv[1:] if arguments is None else arguments)]
    took: dict[str, list[Took]] = {HEADROOM: [], TRAINER: []}
    for turn in range(options.rounds):
        for side in (HEADROOM, TRAINER) if turn % 2 else (TRAINER, HEADROOM):
            took[side].append(run([*command, "--side", side]))
    print_results(options, took)
    return 0


def run(command: list[str]) -> Took:
    """Run a side, and add up the processor time of its processes, as far as they are seen before they end."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        side = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        seconds: dict[tuple[int, float], float] = {}
        while side.poll() is None:
            seconds |= _seconds_of(side.pid)
            time.sleep(_LOOK_S)
        wall_s = time.monotonic() - begun
        assert side.stdout is not None
        printed = side.stdout.read()
    if side.returncode:
        raise RuntimeError(f"{command[-1]} ended with exit status {side.returncode}:\n{printed}")
    return Took(wall_s, sum(seconds.values()), json.loads(printed.splitlines()[-1])["best"])


def _seconds_of(pid: int) -> dict[tuple[int, float], float]:
    """Return the processor seconds of a process and its descendants, by process."""
    found = {}
    try:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            found[one.pid, one.create_time()] = times.user + times.system
    except psutil.NoSuchProcess:
        pass
    return found


def configuration(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "study": {"name": "against-hf"},
        "data": {"path": str(Path(options.pairs).absolute()) if options.pairs else "demo", "max_rows": options.rows},
        "model": {"name": options.model},
        "head": {"pooling": "native"},
        "tok": {"max_length": options.length},
        "train": {"epochs": options.epochs, "precision": "fp32"},
        "resources": {"cpu": 1, "gpu": 0},
        "search": {"trials": options.trials, "max_concurrent": 2, "recommended": 0},
        "scheduler": {"name": "asha", "reduction_factor": 2},
        "space": {name: {"choices": choices} for name, choices in SPACE.items()},
    }


def search_here(options: argparse.Namespace) -> float:
    from tune_app import load_config, search

    best = search(load_config(configuration(options)), quiet=True).best
    assert best is not None, "no trial is complete"
    return float(best.value)


def search_of_trainer(options: argparse.Namespace) -> float:
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch
    from throughput import Pairs, macro_f1
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
    from transformers.utils.logging import disable_progress_bar

    from trainables.inputs import load_inputs
    from tune_app import load_config

    disable_progress_bar()
    settings = load_config({**configuration(options), "space": None}).trial_settings()
    inputs = load_inputs(settings, Path("cache"))
    path = inputs.readers[0].source.path
    if path is None:
        raise SystemExit(f"against_hf: --model {options.model}: give a model that lies in a folder, such as minilm-l6")
    model = _ModelOf(str(path))
    trainer = Trainer(
        model_init=model,
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            num_train_epochs=options.epochs,
            weight_decay=settings.optim.weight_decay,
            eval_strategy="epoch",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
        ),
        train_dataset=Pairs(inputs, inputs.split.train, options.length),
        eval_dataset=Pairs(inputs, inputs.split.validation, options.length),
        compute_metrics=macro_f1,
        data_collator=DataCollatorWithPadding(inputs.readers[0].tokenizer),
    )
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    best: Any = trainer.hyperparameter_search(
        hp_space=lambda _: {
            "learning_rate": tune.choice(SPACE["optim.lr"]),
            "per_device_train_batch_size": tune.choice(SPACE["train.batch_size"]),
            "gradient_accumulation_steps": tune.choice(SPACE["train.grad_accum"]),
        },
        backend="ray",
        n_trials=options.trials,
        direction="maximize",
        compute_objective=lambda metrics: metrics["eval_f1"],
        search_alg=OptunaSearch(metric="objective", mode="max", seed=0),
        scheduler=ASHAScheduler(
            metric="objective", mode="max", max_t=options.epochs, grace_period=1, reduction_factor=2
        ),
        resources_per_trial={"cpu": 1},
        verbose=0,
    )
    return float(best.objective)


class _ModelOf:
    """Function that loads the model of a trial; Ray pickles it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, trial: object = None) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification.from_pretrained(self._path, num_labels=2)


def print_results(options: argparse.Namespace, took: dict[str, list[Took]]) -> None:
    print(
        f"{options.model}, length {options.length}, {options.rows} rows, {options.trials} trials of {options.epochs}"
        f" epochs, 2 at a time, median of {options.rounds} rounds"
    )
    print(versions_line("torch", "transformers", "ray", "optuna"))
    medians = {
        side: Took(*(statistics.median(values) for values in zip(*(vars(one).values() for one in runs), strict=True)))
        for side, runs in took.items()
    }
    print_table(
        ("", "wall s", "processor s", "best macro-F1"),
        [(side, f"{one.wall_s:.0f}", f"{one.processor_s:.0f}", f"{one.best:.4f}") for side, one in medians.items()],
    )
    ours, theirs = medians[HEADROOM], medians[TRAINER]
    target = TARGETS.get(options.length, TARGETS[128])
    print_ratio("headroom / trainer, wall", ours.wall_s / theirs.wall_s, target)
    print(f"  processor time: {ours.processor_s / theirs.processor_s:.2f} ×")
    print_json({side: [vars(one) for one in runs] for side, runs in took.items()})


if __name__ == "__main__":
    sys.exit(main())
