"""Cost of counting: training steps under a CPU budget against plain ones, in turn, in one process.

    python scripts/bench/cpu_budget.py [--steps 30] [--quick]

Each round takes one plain and one budgeted step of the same model, in alternating order, so that other load on the
machine falls on both. The table shows processor time beside wall time. ``--quick`` trains a tiny encoder instead of
MiniLM and shows only that the bench runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from common import print_json, print_ratio, print_table, versions_line

from trainables.devices.cpu import CpuDevice
from trainables.models.builtin import build_encoder, builtin_config
from trainables.models.load import LoadedEncoder, LoadReport, load_encoder
from trainables.models.names import resolve_model
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, TrialSettings
from trainables.tasks.criteria import CriteriaTask
from trainables.training.optimizer import build_optimizer
from trainables.training.step import train_step

BATCH, LENGTH, TARGET = 8, 128, 1.10
# Wall time and this process's processor time, in seconds.
Taken = tuple[float, float]
# The tiny encoder's vocabulary; MiniLM's is larger.
VOCABULARY = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30, help="rounds of one plain and one budgeted step (default 30)")
    parser.add_argument("--quick", action="store_true", help="a tiny encoder and 6 rounds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name = "tiny-bert" if arguments.quick else "minilm-l6"
    step = training_step(name)
    device = CpuDevice()

    def budgeted() -> Taken:
        with device.enforce():
            return timed(step)

    step()
    plain: list[Taken] = []
    counted: list[Taken] = []
    for turn in range(6 if arguments.quick else arguments.steps):
        if turn % 2:
            counted.append(budgeted())
            plain.append(timed(step))
        else:
            plain.append(timed(step))
            counted.append(budgeted())

    print(f"{name}, batch {BATCH}, length {LENGTH}, one thread, fp32; {versions_line('torch', 'transformers')}")
    print_table(
        ("step", "median s", "median processor s"),
        [
            (kind, *(f"{statistics.median(column):.4f}" for column in zip(*taken, strict=True)))
            for kind, taken in (("plain", plain), ("budgeted", counted))
        ],
    )
    clock, processor = (
        statistics.median(a) / statistics.median(b)
        for a, b in zip(zip(*counted, strict=True), zip(*plain, strict=True), strict=True)
    )
    print_ratio("budgeted / plain, medians", clock, TARGET)
    print_ratio("budgeted / plain, medians of processor time", processor, TARGET)
    print_json({"model": name, "rounds": len(plain), "ratio": clock, "ratio_processor": processor})


def training_step(name: str) -> Callable[[], object]:
    """Return a function that takes one whole training step: forward, backward, clipping, optimizer."""
    settings = TrialSettings(DataSettings("none"), trial_seeds(0))
    task = CriteriaTask(settings)
    model = task.build_model([encoder(name)], seed=0).train()
    optimizer = build_optimizer(model, settings.optim)
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(BATCH, LENGTH, dtype=torch.int64)
    mask[::2, LENGTH * 3 // 4 :] = 0
    batch = {
        "input_ids": torch.randint(5, VOCABULARY, (BATCH, LENGTH), generator=generator),
        "attention_mask": mask,
        "labels": torch.randint(0, 2, (BATCH,), generator=generator),
    }
    return lambda: train_step(model, task, [batch], optimizer, clip_norm=1.0, precision="fp32")


def encoder(name: str) -> LoadedEncoder:
    source = resolve_model(name)
    if source.kind == "builtin":
        config = builtin_config(name, vocab_size=VOCABULARY, pad_token_id=0)
        return LoadedEncoder(build_encoder(config, seed=0), LoadReport((), (), None))
    return load_encoder(source, seed=0)


def timed(step: Callable[[], object]) -> Taken:
    clock, processor = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - clock, time.process_time() - processor


if __name__ == "__main__":
    main()
