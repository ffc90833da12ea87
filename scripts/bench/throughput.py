"""Samples per second of Headroom's training and evaluation beside transformers' Trainer, in turn, in one process.

    python scripts/bench/throughput.py [PAIRS_CSV] [--model minilm-l6] [--rows 400] [--rounds 3] [--threads 1]

All sides use the same model, rows, split, effective batch (64), largest micro-batch (16; 8 in evaluation), precision
(fp32), AdamW and threads. The Trainer pads each batch to its own longest row, and no side saves or logs. It trains with
each of its ways to form batches:

- ``random``, its default;
- ``group_by_length``, which decides by length which rows meet in an effective batch, and so changes what is learnt;
- ``batch_rebalance``, which sorts the rows of an effective batch into micro-batches, as Headroom does.

A round is one epoch of every side, and one evaluation of Headroom and of the Trainer, in alternating order, so that
other load on the machine falls on all. The time excludes loading and tokenising. Headroom runs without its counted
budget, which makes a CPU stand in for a card that counts by itself. The Trainer needs accelerate, which Headroom does
not: pip install accelerate.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import print_json, print_ratio, print_table, versions_line
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar

from trainables.devices.cpu import CpuDevice
from trainables.inputs import Inputs, load_inputs
from trainables.machine import MachineFiles
from trainables.seeds import trial_seeds
from trainables.session import TrainingSession
from trainables.settings import DataSettings, MemorySettings, ModelSettings, TokSettings, TrainSettings, TrialSettings

EFFECTIVE_BATCH, MICRO_BATCH, MAX_LENGTH = 64, 16, 256
# The Trainer's default, which suits it: it evaluates in file order, where larger batches pad more, and a CPU computes
# small batches about 10 % faster per token.
EVAL_BATCH = 8
# Sorting a whole set gains more the larger the set is, and a real validation part is larger than this one.
VALIDATION_SHARE, TEST_SHARE = 0.55, 0.1
HEADROOM = "headroom"
# The Trainer's ways to form batches, with the targets of Headroom's samples per processor second over its own.
STRATEGIES = {"random": 2.0, "group_by_length": 1.0, "batch_rebalance": 1.2}
EVALUATION_TARGET = 1.2


@dataclass(frozen=True)
class Took:
    """Wall and processor time in seconds, real tokens, and computed tokens, padding included."""

    clock_s: float
    processor_s: float
    real_tokens: int
    computed_tokens: int


class TokenCount:
    """Sum of the attention masks that a model receives."""

    def __init__(self) -> None:
        self.real = self.computed = 0

    def add(self, attention_mask: Tensor) -> None:
        self.real += int(attention_mask.sum())
        self.computed += attention_mask.numel()


class Side:
    """One of the compared sides, with a timer."""

    def __init__(self, rows: dict[str, int], tokens: TokenCount) -> None:
        self.rows = rows
        self.took: dict[str, list[Took]] = {"training": [], "evaluation": []}
        self._tokens = tokens
        self._since: tuple[float, float, int, int] = (0, 0, 0, 0)

    def start(self) -> None:
        self._since = self._now()

    def stop(self, part: str) -> None:
        clock_s, processor_s, real, computed = self._now()
        since = self._since
        self.took[part].append(Took(clock_s - since[0], processor_s - since[1], real - since[2], computed - since[3]))

    def _now(self) -> tuple[float, float, int, int]:
        return time.perf_counter(), time.process_time(), self._tokens.real, self._tokens.computed

    def samples_per_s(self, part: str) -> float:
        return self.rows[part] / statistics.median(took.clock_s for took in self.took[part])

    def samples_per_processor_s(self, part: str) -> float:
        return self.rows[part] / statistics.median(took.processor_s for took in self.took[part])

    def tokens_ratio(self, part: str) -> float:
        took = self.took[part]
        return sum(one.computed_tokens for one in took) / sum(one.real_tokens for one in took)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "pairs",
        nargs="?",
        type=Path,
        help="rows as for a search: text, criterion, label, group_id (default: the built-in data)",
    )
    parser.add_argument("--model", default="minilm-l6", help="a model that the Trainer loads, or a built-in one")
    parser.add_argument("--rows", type=int, default=400, help="most rows to take, whole groups (default 400)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if find_spec("accelerate") is None:
        print("throughput: transformers' Trainer needs accelerate, run: pip install accelerate", file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    disable_progress_bar()
    settings = TrialSettings(
        DataSettings(
            str(options.pairs.absolute()) if options.pairs else "demo",
            max_rows=options.rows,
            validation_share=VALIDATION_SHARE,
            test_share=TEST_SHARE,
        ),
        trial_seeds(0),
        model=ModelSettings(options.model),
        tok=TokSettings(MAX_LENGTH),
        train=TrainSettings(batch_size=EFFECTIVE_BATCH, epochs=options.rounds, precision="fp32"),
        memory=MemorySettings(micro_batch=MICRO_BATCH, eval_batch=EVAL_BATCH),
    )
    with tempfile.TemporaryDirectory() as folder:
        inputs = load_inputs(settings, Path(folder))
        rows = {"training": len(inputs.split.train), "evaluation": len(inputs.split.validation)}
        session = TrainingSession(settings, Path(folder), CpuDevice())
        sides, rounds = {}, []
        for name, (side, one_round) in {
            HEADROOM: headroom_side(session, Path(folder), rows),
            **{name: trainer_side(name, session, inputs, Path(folder), rows) for name in STRATEGIES},
        }.items():
            sides[name] = side
            rounds.append(one_round)
        for turn in range(options.rounds):
            for one_round in rounds[:: -1 if turn % 2 else 1]:
                one_round()
    print_results(options, rows, sides)
    return 0


def headroom_side(session: TrainingSession, cache: Path, rows: dict[str, int]) -> tuple[Side, Callable[[], None]]:
    session.plan_memory(MachineFiles(cache / "machine"))
    tokens = TokenCount()
    session.model.register_forward_pre_hook(lambda _, arguments: tokens.add(arguments[0]["attention_mask"]))
    side = Side(rows, tokens)

    def one_round() -> None:
        side.start()
        session.train_epoch()
        side.stop("training")
        side.start()
        session.evaluate("validation")
        side.stop("evaluation")

    return side, one_round


def trainer_side(
    strategy: str, session: TrainingSession, inputs: Inputs, folder: Path, rows: dict[str, int]
) -> tuple[Side, Callable[[], None]]:
    settings = session.settings
    model = trainer_model(session, inputs.readers[0].source.path)
    tokens = TokenCount()
    model.register_forward_pre_hook(lambda _, __, keywords: tokens.add(keywords["attention_mask"]), with_kwargs=True)
    side = Side(rows, tokens)
    optim = settings.optim
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder / "trainer"),
            num_train_epochs=1,
            per_device_train_batch_size=MICRO_BATCH,
            gradient_accumulation_steps=EFFECTIVE_BATCH // MICRO_BATCH,
            train_sampling_strategy=strategy,
            per_device_eval_batch_size=EVAL_BATCH,
            learning_rate=optim.lr,
            weight_decay=optim.weight_decay,
            max_grad_norm=settings.train.clip_norm,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Pairs(inputs, inputs.split.train, MAX_LENGTH),
        eval_dataset=Pairs(inputs, inputs.split.validation, MAX_LENGTH),
        processing_class=inputs.readers[0].tokenizer,
        data_collator=DataCollatorWithPadding(inputs.readers[0].tokenizer),
        compute_metrics=macro_f1,
        callbacks=[EpochClock(side)],
    )
    trainer.remove_callback(PrinterCallback)

    def one_round() -> None:
        trainer.train()
        if strategy == "random":
            side.start()
            trainer.evaluate()
            side.stop("evaluation")

    return side, one_round


def trainer_model(session: TrainingSession, path: str | None) -> nn.Module:
    """Return the model for the Trainer: from its folder, or from the configuration of a built-in one."""
    if path is not None:
        model: nn.Module = AutoModelForSequenceClassification.from_pretrained(path, num_labels=2)
        return model
    encoder: Any = session.model.encoder
    config = deepcopy(encoder.config)
    config.num_labels = 2
    built: nn.Module = AutoModelForSequenceClassification.from_config(config)
    return built


class EpochClock(TrainerCallback):
    """Timer of the epoch alone, without what ``train`` sets up around it."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._side.start()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self._side.stop("training")


class Pairs(Dataset[dict[str, Any]]):
    """Some of the rows, tokenised as a user of the Trainer does it."""

    def __init__(self, inputs: Inputs, rows: np.ndarray, max_length: int) -> None:
        texts = [inputs.rows.texts[row] for row in rows]
        criteria = inputs.rows.criteria
        firsts = [texts] if criteria is None else [[criteria[row] for row in rows], texts]
        self._encoded = inputs.readers[0].tokenizer(*firsts, truncation=True, max_length=max_length)
        self._labels = inputs.rows.labels[rows].tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {**{name: values[place] for name, values in self._encoded.items()}, "labels": self._labels[place]}


def macro_f1(predictions: Any) -> dict[str, float]:
    return {"f1": float(f1_score(predictions.label_ids, predictions.predictions.argmax(-1), average="macro"))}


def print_results(options: argparse.Namespace, rows: dict[str, int], sides: dict[str, Side]) -> None:
    print(
        f"{options.model}, effective batch {EFFECTIVE_BATCH}, micro-batch at most {MICRO_BATCH}, length {MAX_LENGTH},"
        f" fp32, threads {options.threads}, {rows['training']} + {rows['evaluation']} rows, median of"
        f" {options.rounds} rounds"
    )
    print(versions_line("torch", "transformers", "accelerate"))
    cells = [
        (
            f"{part}, {name}",
            f"{side.samples_per_s(part):.2f}",
            f"{side.samples_per_processor_s(part):.2f}",
            f"{side.tokens_ratio(part):.3f}",
        )
        for part in rows
        for name, side in sides.items()
        if side.took[part]
    ]
    print_table(("", "samples/s", "samples/processor s", "tokens computed per real token"), cells)
    found: dict[str, dict[str, float]] = {}
    for part, names in (("training", list(STRATEGIES)), ("evaluation", ["random"])):
        for name in names:
            target = STRATEGIES[name] if part == "training" else EVALUATION_TARGET
            compared = found[f"{part}, {name}"] = _ratios(part, sides[HEADROOM], sides[name])
            label = f"headroom / trainer {name}, {part}, by processor time"
            print_ratio(label, compared["processor"], target, at_least=True)
            print(f"  by the clock: {compared['clock']:.2f} ×")
    print_json(found)


def _ratios(part: str, ours: Side, theirs: Side) -> dict[str, float]:
    return {
        "processor": ours.samples_per_processor_s(part) / theirs.samples_per_processor_s(part),
        "clock": ours.samples_per_s(part) / theirs.samples_per_s(part),
        "tokens_headroom": ours.tokens_ratio(part),
        "tokens_trainer": theirs.tokens_ratio(part),
    }


if __name__ == "__main__":
    sys.exit(main())
