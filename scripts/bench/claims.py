"""What users say that configurations need on their cards, beside what Headroom predicts: a table in Markdown.

    python scripts/bench/claims.py

Their figures were told to us. Predicted is the need of training (context included) in passes of
the batch that was sampled, and what Headroom would do on their card instead. None of it was measured on a GPU.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common import versions_line
from workloads import SETTINGS

from trainables.machine import MachineFiles
from trainables.memory.needs import Question, encoder_config, verdict
from trainables.memory.predict import Workload, predict

PRECISIONS = ("bf16", "fp32")


@dataclass(frozen=True)
class Claim:
    """Batch, accumulation and length as sampled; what they say that it needs, and the size of their card."""

    model: str
    batch: int
    accumulation: int
    length: int
    said_gib: float
    card_gib: int = 24
    note: str = ""


CLAIMS = (
    Claim("bert-large-uncased", 16, 4, 384, 18),
    Claim("bert-large-uncased", 16, 1, 384, 14),
    Claim("bert-large-uncased", 8, 4, 384, 12),
    Claim("roberta-large", 16, 4, 384, 19),
    Claim("microsoft/deberta-v3-large", 16, 4, 384, 20),
    Claim("bert-base-uncased", 64, 8, 512, 22),
    Claim("bert-base-uncased", 32, 4, 512, 12),
    Claim("roberta-base", 48, 6, 512, 16),
    Claim("microsoft/deberta-v3-base", 64, 8, 512, 23),
    Claim("bert-large-uncased", 48, 4, 480, 30),
    Claim("microsoft/deberta-v3-base", 128, 8, 384, 29.2, card_gib=32, note=" (held, then failed)"),
)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| batch × accumulation × length | they say | bf16 | fp32 | Headroom on their card, bf16 |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for claim in CLAIMS:
            print(f"| {' | '.join(cells(claim, MachineFiles(Path(folder))))} |", flush=True)
    print(f"\nGiB; {versions_line('torch', 'transformers')}")


def cells(claim: Claim, files: MachineFiles) -> list[str]:
    name = claim.model.rpartition("/")[2]
    return [
        f"{name} {claim.batch} × {claim.accumulation} × {claim.length}",
        f"{claim.said_gib:g}{claim.note}",
        *(f"{need_gib(claim, precision, files):.1f}" for precision in PRECISIONS),
        instead(claim, files),
    ]


def need_gib(claim: Claim, precision: str, files: MachineFiles) -> float:
    config = encoder_config(claim.model, None)
    plan = predict(Workload(SETTINGS, config, device_kind="cuda", precision=precision), files.predictions)
    return plan.need_gib(claim.batch, claim.length, claim.accumulation)


def instead(claim: Claim, files: MachineFiles) -> str:
    """Passes × micro-batch of the whole effective batch, and their need."""
    question = Question(SETTINGS, "cuda", claim.card_gib, "bf16")
    found = verdict(question, claim.model, claim.batch * claim.accumulation, claim.length, files)
    card = f"{claim.card_gib} GiB"
    if not found.fits:
        return f"{card}: turned away, needs {found.need_gib:.1f}"
    how = " with checkpointing" if found.checkpointing else ""
    return f"{card}: {found.accumulation_steps} × {found.micro_batch}{how}, needs {found.need_gib:.1f}"


if __name__ == "__main__":
    main()
