"""Memory that users claim for configurations on their cards, beside Headroom's predictions: a table in Markdown.

    python scripts/bench/claims.py [--measure] [--quick]

Users reported the claimed figures. The prediction is the need of training, context included, in passes of the sampled
batch. Beside it stands what Headroom would do on their card instead. ``--measure`` runs those passes in bf16 on this
machine's CUDA device, as gpu_check does, and adds their measured need. ``--quick`` predicts the first claim alone.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common import versions_line
from gpu_check import measure_or_fail
from workloads import GIB, SETTINGS, Case

from trainables.devices.cuda import CudaDevice
from trainables.devices.device import device_name
from trainables.machine import MachineFiles
from trainables.planning.needs import Question, encoder_config, verdict
from trainables.planning.plan import predict
from trainables.planning.trace import Workload

PRECISIONS = ("bf16", "fp32")


@dataclass(frozen=True)
class Claim:
    """Batch, accumulation and length as sampled, the need that users claim, and the size of their card."""

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="run them on this machine's CUDA device, too")
    parser.add_argument("--quick", action="store_true", help="the first claim alone")
    arguments = parser.parse_args()
    device = CudaDevice() if arguments.measure else None
    measured = ["bf16 measured"] if device else []
    header = ["batch × accumulation × length", "they say", *measured, *PRECISIONS, "Headroom on their card, bf16"]
    print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}")
    with tempfile.TemporaryDirectory() as folder:
        for claim in CLAIMS[:1] if arguments.quick else CLAIMS:
            print(f"| {' | '.join(cells(claim, MachineFiles(Path(folder)), device))} |", flush=True)
    machine = f"; measured on {device_name(device.torch_device)}" if device else ""
    print(f"\nGiB{machine}; {versions_line('torch', 'transformers')}")


def cells(claim: Claim, files: MachineFiles, device: CudaDevice | None) -> list[str]:
    name = claim.model.rpartition("/")[2]
    return [
        f"{name} {claim.batch} × {claim.accumulation} × {claim.length}",
        f"{claim.said_gib:g}{claim.note}",
        *([measured_gib(claim, device)] if device else []),
        *(f"{need_gib(claim, precision, files):.1f}" for precision in PRECISIONS),
        instead(claim, files),
    ]


def workload(claim: Claim, precision: str) -> Workload:
    return Workload(SETTINGS, encoder_config(claim.model, None), device_kind="cuda", precision=precision)


def need_gib(claim: Claim, precision: str, files: MachineFiles) -> float:
    plan = predict(workload(claim, precision), files.predictions)
    return plan.need_gib(claim.batch, claim.length, claim.accumulation)


def measured_gib(claim: Claim, device: CudaDevice) -> str:
    case = Case(claim.model, workload(claim, "bf16"), claim.batch, claim.length, claim.accumulation)
    found = measure_or_fail(case, device)
    device.release()
    return "out of memory" if found is None else f"{found[0].need / GIB:.1f}"


def instead(claim: Claim, files: MachineFiles) -> str:
    """Return passes × micro-batch of the whole effective batch, and their need, as text."""
    question = Question(SETTINGS, "cuda", claim.card_gib, "bf16")
    found = verdict(question, claim.model, claim.batch * claim.accumulation, claim.length, files)
    card = f"{claim.card_gib} GiB"
    if not found.fits:
        return f"{card}: rejected, needs {found.need_gib:.1f}"
    how = " with checkpointing" if found.checkpointing else ""
    return f"{card}: {found.accumulation_steps} × {found.micro_batch}{how}, needs {found.need_gib:.1f}"


if __name__ == "__main__":
    main()
