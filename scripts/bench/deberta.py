"""DeBERTa's attention: ours against transformers' own, in processor time and memory of a training step.

    python scripts/bench/deberta.py [--device cpu|cuda] [--rounds N] [--quick]

Both sides are the same encoder of four layers of width 384, with the same weights and rows. They take their steps in
turn, and the ratio is the median over the rounds. Memory is what a step makes and has not freed yet at its peak,
weights excluded. At last come the predicted needs of deberta-v3-base on a card, with both.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from common import print_json, print_ratio, print_table, versions_line
from transformers import AutoModel, DebertaV2Config, PreTrainedModel

from trainables.models.architectures import known_config
from trainables.models.disentangled import use_disentangled_attention
from trainables.models.families import FAMILIES
from trainables.planning.plan import predict
from trainables.planning.trace import StorageRecorder, Workload
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, TrialSettings, with_params

# Samples, length and dropout of each row of the table.
CASES = ((16, 128, 0.0), (16, 128, 0.1), (8, 256, 0.0), (8, 256, 0.1), (8, 512, 0.0), (8, 512, 0.1))
QUICK = ((2, 32, 0.1),)
USERS_MODEL, USERS_BATCH, USERS_STEPS, USERS_LENGTH = "microsoft/deberta-v3-base", 64, 8, 512
MIB = 2**20

Step = Callable[[PreTrainedModel], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=5, help="steps of each side (default 5)")
    parser.add_argument("--quick", action="store_true", help="one small case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(versions_line("torch", "transformers"))
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu, one thread, fp32"
    print(f"4 layers of width 384, {name}, median of {arguments.rounds} rounds")
    measured = {}
    for samples, length, dropout in QUICK if arguments.quick else CASES:
        case = f"{samples} × {length}, dropout {dropout:g}"
        measured[case] = compare(samples, length, dropout, arguments.device, arguments.rounds)
    print_table(
        ("samples × length", "transformers s", "ours s", "ratio", "transformers MiB", "ours MiB", "ratio"),
        [
            (
                case,
                f"{of['theirs_s']:.2f}",
                f"{of['ours_s']:.2f}",
                f"{of['time']:.2f}",
                f"{of['theirs_mib']:.0f}",
                f"{of['ours_mib']:.0f}",
                f"{of['memory']:.2f}",
            )
            for case, of in measured.items()
        ],
    )
    print_ratio("ours / transformers, time, worst case", max(of["time"] for of in measured.values()), 1.0)
    print_ratio("ours / transformers, memory, worst case", max(of["memory"] for of in measured.values()), 0.4)
    needs = {} if arguments.quick else predicted_needs()
    if needs:
        what = f"{USERS_MODEL}, {USERS_BATCH} × {USERS_STEPS} × {USERS_LENGTH}, bf16, predicted for a card"
        print(f"{what}: {needs['theirs']:.1f} GiB with transformers' attention, {needs['ours']:.1f} GiB with ours")
        print_ratio("need with ours", needs["ours"], 18.0, unit=" GiB")
    print_json({"bench": "deberta", "device": name, "cases": measured, "needs_gib": needs})


def compare(samples: int, length: int, dropout: float, device: str, rounds: int) -> dict[str, float]:
    """Return the figures of both sides for one case."""
    theirs, ours = encoders(dropout, device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 1000, (samples, length), generator=generator).to(device)
    mask = torch.ones_like(ids)
    mask[::2, int(length * 0.9) :] = 0

    def step(encoder: PreTrainedModel) -> None:
        encoder.zero_grad()
        encoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0].sum().backward()

    memory = [peak_bytes(step, encoder) for encoder in (theirs, ours)]
    seconds = [(timed(step, theirs, device), timed(step, ours, device)) for _ in range(rounds)]
    return {
        "theirs_s": statistics.median(first for first, _ in seconds),
        "ours_s": statistics.median(second for _, second in seconds),
        "time": statistics.median(second / first for first, second in seconds),
        "theirs_mib": memory[0] / MIB,
        "ours_mib": memory[1] / MIB,
        "memory": memory[1] / memory[0],
    }


def encoders(dropout: float, device: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return an encoder with transformers' attention, and an equal one with ours."""
    choices: dict[str, Any] = {
        "relative_attention": True,
        "position_buckets": 256,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    }
    config = DebertaV2Config(
        vocab_size=1000,
        hidden_size=384,
        num_hidden_layers=4,
        num_attention_heads=6,
        intermediate_size=1536,
        max_position_embeddings=512,
        type_vocab_size=0,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **choices,
    )
    torch.manual_seed(0)
    theirs: PreTrainedModel = AutoModel.from_config(config).train().to(device)
    ours = copy.deepcopy(theirs)
    use_disentangled_attention(ours)
    return theirs, ours


def timed(step: Step, encoder: PreTrainedModel, device: str) -> float:
    """Return the seconds of a step: of this thread's processor on the CPU, of the clock on a card."""
    clock = time.thread_time if device == "cpu" else time.perf_counter
    start = clock()
    step(encoder)
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def peak_bytes(step: Step, encoder: PreTrainedModel) -> int:
    """Return the largest number of bytes that a step makes and has not freed yet."""
    recorder = StorageRecorder()
    with recorder:
        step(encoder)
    live = peak = 0
    for event in recorder.take_events():
        live += recorder.sizes_bytes[event] if event >= 0 else -recorder.sizes_bytes[~event]
        peak = max(peak, live)
    return peak


def predicted_needs() -> dict[str, float]:
    """Return the predicted GiB of the users' configuration with both kinds of attention."""
    settings = with_params(
        TrialSettings(DataSettings("none"), trial_seeds(0)), {"model.name": USERS_MODEL, "tok.max_length": USERS_LENGTH}
    )
    config = known_config(USERS_MODEL)
    assert config is not None
    workload = Workload(settings, config, device_kind="cuda", precision="bf16")
    needs = {"ours": predict(workload).need_gib(USERS_BATCH, USERS_LENGTH, USERS_STEPS)}
    with transformers_attention():
        needs["theirs"] = predict(workload).need_gib(USERS_BATCH, USERS_LENGTH, USERS_STEPS)
    return needs


@contextmanager
def transformers_attention() -> Iterator[None]:
    """Leave transformers' own attention in the DeBERTa encoders that are built inside the block."""
    family = FAMILIES["deberta-v2"]
    FAMILIES["deberta-v2"] = replace(family, attention=None)
    try:
        yield
    finally:
        FAMILIES["deberta-v2"] = family


if __name__ == "__main__":
    main()
