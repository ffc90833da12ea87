"""Splitting effective batches by length: its time, and the computed tokens per real token.

    python scripts/bench/split.py [--data FILE.csv] [--model NAME] [--max-length N] [--repeats N]

A pass may hold a budget of 16 × 256 tokens, padding included. Four ways are compared: random micro-batches of 16 rows
in the order in which they were drawn; micro-batches of 16 after sorting; passes filled as full as possible after
sorting; and Headroom's way, a small dynamic programme. Every pass costs 64 tokens beside its own. The lengths are those
of the rows of ``--data``, tokenised for ``--model``; without it they are drawn at random.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from common import print_json, print_ratio, print_table, versions_line

from trainables.data.rows import read_rows
from trainables.data.tokens import tokenise_rows
from trainables.models.load import load_tokenizer
from trainables.models.names import resolve_model
from trainables.settings import DataSettings
from trainables.training.split import PASS_COST_TOKENS, RowLimits, effective_batches, micro_batches

EFFECTIVE_BATCH, ROWS, LENGTH = 64, 16, 256
TIMED_BATCH = 128
# Targets for rows with lengths as uneven as in a set of text pairs, and for random lengths.
TARGET, TARGET_RANDOM = 1.10, 1.20

Cut = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a CSV of text pairs (default: lengths drawn at random)")
    parser.add_argument("--model", default="minilm-l6", help="whose tokenizer (default minilm-l6)")
    parser.add_argument("--max-length", type=int, default=LENGTH, help=f"tokens a row is cut to (default {LENGTH})")
    parser.add_argument("--repeats", type=int, default=500, help="batches that are timed (default 500)")
    arguments = parser.parse_args()
    if arguments.data is None:
        lengths = drawn_lengths(arguments.max_length)
        print(f"{len(lengths)} random lengths, effective batch {EFFECTIVE_BATCH}")
    else:
        lengths = data_lengths(arguments.data, arguments.model, arguments.max_length)
        print(
            f"{len(lengths)} rows of {Path(arguments.data).name}, {arguments.model}, effective batch {EFFECTIVE_BATCH}"
        )
    print(versions_line("numpy"))
    quantiles = np.quantile(lengths, [0, 0.1, 0.5, 0.9, 1]).astype(int).tolist()
    print(f"tokens a row: least, 10 %, median, 90 %, most {quantiles}, mean {lengths.mean():.0f}")
    limits = token_limits(arguments.max_length)
    tokens = compare(lengths, limits)
    print()
    milliseconds = compare_times(lengths, limits, arguments.repeats)
    target = TARGET if arguments.data else TARGET_RANDOM
    print_ratio("tokens computed, Headroom / real", tokens["headroom"]["with_passes"], target)
    print_json({"bench": "split", "rows": len(lengths), "tokens": tokens, "milliseconds": milliseconds})


def drawn_lengths(most: int) -> np.ndarray:
    """Draw lengths as uneven as those of short posts."""
    drawn = np.random.default_rng(0).lognormal(mean=4.6, sigma=0.6, size=5_000)
    return np.clip(drawn.astype(np.int64), 8, most)


def data_lengths(path: str, model: str, most: int) -> np.ndarray:
    source = resolve_model(model)
    tokenizer = load_tokenizer(source.path or source.name)
    with tempfile.TemporaryDirectory() as cache:
        return tokenise_rows(read_rows(DataSettings(path)), tokenizer, Path(cache)).lengths(most)


def token_limits(longest: int) -> RowLimits:
    rows = np.maximum(1, ROWS * LENGTH // np.maximum(1, np.arange(longest + 1)))
    return RowLimits(rows, rows, rows)


def compare(lengths: np.ndarray, limits: RowLimits) -> dict[str, dict[str, float]]:
    """Return the computed tokens per real token of one epoch, for every way to split."""
    ways: dict[str, Cut] = {
        "random 16": lambda batch, _: evenly(batch),
        "sorted 16": lambda batch, sizes: evenly(batch[np.argsort(-sizes[batch], kind="stable")]),
        "greedy": lambda batch, sizes: filled(batch[np.argsort(-sizes[batch], kind="stable")], sizes, limits),
        "headroom": lambda batch, sizes: micro_batches(batch, sizes, limits),
    }
    batches = list(effective_batches(np.arange(len(lengths)), EFFECTIVE_BATCH, np.random.default_rng(1)))
    real = int(lengths.sum())
    found: dict[str, dict[str, float]] = {}
    for name, cut in ways.items():
        passes = [piece for batch in batches for piece in cut(batch, lengths)]
        assert sum(map(len, passes)) == len(lengths)
        computed = sum(len(piece) * int(lengths[piece].max()) for piece in passes)
        found[name] = {
            "without_passes": computed / real,
            "with_passes": (computed + PASS_COST_TOKENS * len(passes)) / real,
            "passes_per_step": len(passes) / len(batches),
            "most_tokens": max(len(piece) * int(lengths[piece].max()) for piece in passes),
        }
    print("tokens computed per real token")
    print_table(
        ("cut", "without cost of passes", "with it", "passes a step", "most tokens a pass"),
        [
            (
                name,
                f"{values['without_passes']:.3f}",
                f"{values['with_passes']:.3f}",
                f"{values['passes_per_step']:.2f}",
                int(values["most_tokens"]),
            )
            for name, values in found.items()
        ],
    )
    return found


def evenly(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]


def filled(rows: np.ndarray, lengths: np.ndarray, limits: RowLimits) -> list[np.ndarray]:
    """Fill each pass as full as possible, longest rows first."""
    pieces, start = [], 0
    while start < len(rows):
        end = start + int(limits.accumulating[lengths[rows[start]]])
        pieces.append(rows[start:end])
        start = end
    return pieces


def compare_times(lengths: np.ndarray, limits: RowLimits, repeats: int) -> dict[str, float]:
    """Return the median time to split a batch, with the ways in turn."""
    rng = np.random.default_rng(2)
    ways: dict[str, Cut] = {
        "even": lambda batch, sizes: evenly(batch[np.argsort(-sizes[batch], kind="stable")]),
        "headroom": lambda batch, sizes: micro_batches(batch, sizes, limits),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for batch in drawn_batches(len(lengths), repeats, rng):
        for name, cut in ways.items():
            start = time.perf_counter()
            cut(batch, lengths)
            taken[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    print(f"milliseconds to cut {TIMED_BATCH} samples, median of {repeats}")
    print_table(("cut", "ms"), [(name, f"{value:.3f}") for name, value in medians.items()])
    return medians


def drawn_batches(rows: int, count: int, rng: np.random.Generator) -> Iterable[np.ndarray]:
    return (rng.choice(rows, TIMED_BATCH, replace=rows < TIMED_BATCH) for _ in range(count))


if __name__ == "__main__":
    main()
