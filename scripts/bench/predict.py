"""Rows per second of predictions beside transformers' pipeline, in turn, in one process, with the same model folder.

    python scripts/bench/predict.py [--data PAIRS_CSV] [--model minilm-l6] [--rows 300] [--rounds 3] [--threads 1]

The model is an encoder with transformers' own head for sequence classification and weights that were not trained
further, saved as a model folder that both sides load. Both read the same pairs, cut at the same length, in fp32, with
the same threads. The pipeline runs at each of the batch sizes, and the best one counts. A round is one run of each, in
an order that turns round, so that other load on the machine falls on all; medians over the rounds are compared. The
time excludes loading, and includes tokenising on both sides. The probabilities of both sides are compared, too.

Without ``--data`` the built-in rows serve, which are short. With ``--device cuda`` both sides use the card, and
Headroom's precision is ``--precision``; the pipeline's is the same through its ``dtype``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from common import print_json, print_ratio, print_table, versions_line
from transformers import pipeline
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from trainables.data.demo import demo_rows
from trainables.data.model_inputs import ModelInputs
from trainables.models.builtin import train_tokenizer
from trainables.models.load import load_encoder, load_tokenizer
from trainables.models.names import resolve_model
from trainables.saved import save_model_folder
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, HeadSettings, TaskSettings, TokSettings, TrialSettings
from trainables.tasks import build_task
from tune_app import load_model

LABELS = ("no", "yes")
TARGET = 2.0
_CHECKED_TO = {"fp32": 1e-4, "bf16": 0.05}


@dataclass
class Side:
    """One of the compared ways to predict, with the seconds of its rounds and its last probabilities."""

    run: Callable[[], Sequence[float]]
    clock_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)
    probabilities: Sequence[float] = ()

    def one_round(self) -> None:
        clock_s, processor_s = time.perf_counter(), time.process_time()
        self.probabilities = self.run()
        self.clock_s.append(time.perf_counter() - clock_s)
        self.processor_s.append(time.process_time() - processor_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CSV file with the columns text and criterion")
    parser.add_argument("--model", default="minilm-l6")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    disable_progress_bar()
    set_verbosity_error()
    every = demo_rows() if options.data is None else pd.read_csv(options.data)
    # An even sample, in the file's order: neighbours share a text, as in most data.
    rows = every[:: max(1, len(every) // options.rows)][["text", "criterion"]].reset_index(drop=True)
    rows = rows.head(options.rows)
    with tempfile.TemporaryDirectory() as scratch:
        folder = made_model(options.model, rows, Path(scratch), options.length)
        sides = {"headroom": headroom_side(folder, rows, options)}
        for batch_size in options.batch_sizes:
            sides[f"pipeline, batch_size={batch_size}"] = pipeline_side(folder, rows, batch_size, options)
        names = list(sides)
        for turn in range(-1, options.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                sides[name].one_round()
        for side in sides.values():
            # The first round warms up.
            del side.clock_s[0], side.processor_s[0]
    return print_results(options, rows, sides)


def made_model(name: str, rows: pd.DataFrame, scratch: Path, length: int) -> Path:
    """Save an encoder with transformers' head for sequence classification, and return its folder."""
    source, tokenizer_folder = resolve_model(name), None
    if source.kind == "builtin":
        tokenizer_folder = scratch / "tokenizer"
        tokenizer_folder.mkdir()
        train_tokenizer(name, sorted({*rows.text, *rows.criterion}), tokenizer_folder)
    settings = TrialSettings(
        DataSettings("none"),
        trial_seeds(0),
        task=TaskSettings(labels=LABELS),
        head=HeadSettings("native"),
        tok=TokSettings(length),
    )
    model = build_task(settings).build_model([load_encoder(source, seed=0, tokenizer_folder=tokenizer_folder)], seed=0)
    tokenizer = load_tokenizer(tokenizer_folder or source.path or source.name)
    folder = scratch / "model"
    save_model_folder(model, [tokenizer], folder, settings=settings, decision={"threshold": 0.5}, inputs=ModelInputs())
    return folder


def headroom_side(folder: Path, rows: pd.DataFrame, options: argparse.Namespace) -> Side:
    model = load_model(folder, device=options.device, precision=options.precision)

    def run() -> Sequence[float]:
        probabilities: Sequence[float] = model.predict(rows)[f"probability_{LABELS[1]}"].tolist()
        return probabilities

    return Side(run)


def pipeline_side(folder: Path, rows: pd.DataFrame, batch_size: int, options: argparse.Namespace) -> Side:
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    classify: Any = pipeline("text-classification", model=str(folder), device=options.device, dtype=dtype)
    pairs = [{"text": row.criterion, "text_pair": row.text} for row in rows.itertuples()]

    def run() -> Sequence[float]:
        found: list[list[dict[str, Any]]] = classify(
            pairs, batch_size=batch_size, top_k=None, truncation="only_second", max_length=options.length
        )
        return [next(one["score"] for one in row if one["label"] == LABELS[1]) for row in found]

    return Side(run)


def print_results(options: argparse.Namespace, rows: pd.DataFrame, sides: dict[str, Side]) -> int:
    card = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, threads {options.threads}"
    print(
        f"{options.model}, {len(rows)} rows of {'the built-in data' if options.data is None else options.data.name},"
        f" length {options.length}, {options.precision}, {card}, median of {options.rounds} rounds"
    )
    print(versions_line("torch", "transformers"))
    per_s = {name: len(rows) / statistics.median(side.clock_s) for name, side in sides.items()}
    per_processor_s = {name: len(rows) / statistics.median(side.processor_s) for name, side in sides.items()}
    print_table(
        ("", "rows/s", "rows/processor s"),
        [(name, f"{per_s[name]:.1f}", f"{per_processor_s[name]:.1f}") for name in sides],
    )
    best = max((name for name in sides if name != "headroom"), key=lambda name: per_s[name])
    ratio = per_s["headroom"] / per_s[best]
    processor_ratio = per_processor_s["headroom"] / max(
        rate for name, rate in per_processor_s.items() if name != "headroom"
    )
    difference = max(
        abs(ours - theirs)
        for ours, theirs in zip(sides["headroom"].probabilities, sides[best].probabilities, strict=True)
    )
    is_same = difference <= _CHECKED_TO[options.precision]
    print_ratio(f"headroom / {best}", ratio, TARGET, at_least=True)
    print(f"  by processor time, against its best: {processor_ratio:.2f} ×")
    print(f"largest difference between their probabilities: {difference:.1e}{'' if is_same else ' (too large)'}")
    print_json({"ratio": ratio, "processor_ratio": processor_ratio, "difference": difference, "rows_per_s": per_s})
    return int(not is_same)


if __name__ == "__main__":
    sys.exit(main())
