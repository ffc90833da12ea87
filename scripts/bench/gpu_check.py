"""Predicted against measured memory of real training steps and evaluation passes on this machine's CUDA device.

    scripts/gpu_check [--only TEXT] [--write FILE] [--device cuda|cpu]

Base and large models are built on the device from their configurations, with random weights and no download. Each
configuration takes training steps, whose peak counts from the second, and an evaluation pass over twice the
micro-batch, after the gradients are freed. Two figures are compared:

    need     the smallest limit under which the same step still runs, found by halving to 0.4 %, plus the memory outside
             the allocator (context, libraries) as NVML reports it. A prediction promises this figure.
    tensors  the allocator's peak of allocated bytes, against the prediction without its constants for context,
             workspaces and pages. A difference here comes from the replay. (The measured tensors alone include cuBLAS's
             workspaces.)

First it checks that a share of the card is enforced, alone and against a greedy neighbour. The exit status is 1 if the
need's errors exceed 5 % (median) or 10 % (95th percentile), if a configuration that was predicted to fit ran out of
memory, or if a share was not enforced; 2 without a CUDA device. ``--device cpu`` runs the same steps with tiny models
under a counted budget. The check needs only torch, transformers and the other requirements of ``trainables``.
"""

import argparse
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from common import print_json, table_lines, versions_line
from gpu_shares import cap_problems, neighbour_problems
from transformers import AutoModel
from workloads import GIB, SETTINGS, Case, batch

from trainables.devices.counting import uncounted
from trainables.devices.cpu import CpuDevice
from trainables.devices.cuda import CudaDevice
from trainables.devices.device import MemoryDevice, device_name
from trainables.devices.errors import is_out_of_memory
from trainables.devices.facts import nvml_facts
from trainables.models.encoder import enable_checkpointing
from trainables.models.load import LoadedEncoder, LoadReport
from trainables.planning.needs import encoder_config
from trainables.planning.plan import MemoryPlan, predict
from trainables.planning.trace import Workload
from trainables.tasks import build_task
from trainables.training.optimizer import build_optimizer, prepare_states
from trainables.training.precision import autocast, set_tf32
from trainables.training.step import to_device, train_step

HIGHEST_MEDIAN, HIGHEST_P95 = 0.05, 0.10
HEADROOM = SETTINGS.memory.headroom
CPU_BUDGET_GIB = 1.0
LIMIT_TOLERANCE = 0.004
FEW = 8

DeviceKind = Literal["cpu", "cuda"]
# Precision, checkpointing, samples and length of a pass, and passes of a step.
Shape = tuple[str, bool, int, int, int]

# Shapes for a 24 GB card. Attention kernels pad lengths that are no multiple of 8.
BASE: list[Shape] = [
    ("bf16", False, 64, 256, 1),
    ("bf16", False, 32, 512, 4),
    ("bf16", False, 46, 201, 2),
    ("fp32", False, 32, 256, 2),
    ("bf16", True, 128, 384, 2),
    ("fp32", True, 64, 512, 1),
]
LARGE: list[Shape] = [
    ("bf16", False, 32, 256, 1),
    ("bf16", False, 24, 384, 4),
    ("bf16", False, 26, 201, 2),
    ("fp32", False, 16, 256, 2),
    ("bf16", True, 64, 384, 2),
    ("fp32", True, 48, 512, 1),
]


def halved(shapes: Sequence[Shape]) -> list[Shape]:
    """Return the shapes with half of the samples, for DeBERTa, whose attention takes several times as much."""
    return [(precision, kept, samples // 2, length, passes) for precision, kept, samples, length, passes in shapes]


CUDA_SHAPES: dict[str, list[Shape]] = {
    "bert-base-uncased": BASE,
    "bert-large-uncased": LARGE,
    "roberta-base": BASE,
    "roberta-large": LARGE,
    "xlm-roberta-base": BASE,
    "xlm-roberta-large": LARGE,
    "microsoft/deberta-v3-base": halved(BASE),
    "microsoft/deberta-v3-large": halved(LARGE),
    "google/electra-base-discriminator": BASE,
    "distilbert-base-uncased": BASE,
    "albert-base-v2": [shape for shape in BASE if not shape[1]],  # ALBERT cannot be checkpointed.
    "answerdotai/ModernBERT-base": BASE,
    "answerdotai/ModernBERT-large": LARGE,
}
CPU_SHAPES: dict[str, list[Shape]] = {
    "tiny-bert": [("fp32", False, 2, 64, 2)],
    "tiny-roberta": [("bf16", True, 3, 33, 1)],
    "tiny-deberta": [("fp32", False, 2, 32, 1)],
}


@dataclass(frozen=True)
class Held:
    """Peaks of a process in bytes: its whole memory, and its tensors alone."""

    need: float
    tensors: float


@dataclass(frozen=True)
class Compared:
    """One measurement and its prediction."""

    label: str
    predicted: Held
    measured: Held

    @property
    def need_error(self) -> float:
        return self.predicted.need / self.measured.need - 1

    @property
    def tensors_error(self) -> float:
        return self.predicted.tensors / self.measured.tensors - 1


@dataclass(frozen=True)
class Summary:
    """Summary of relative errors; ``median`` and ``p95`` are of absolute values, ``worst`` has a sign.

    Attributes:
        far_under: share of predictions that are below the measurement by more than the headroom.
    """

    median: float
    p95: float
    far_under: float
    worst: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", default="", help="only configurations whose name holds this text")
    parser.add_argument("--write", type=Path, help="also write what is printed to this file")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "gpu_check: torch sees no CUDA device; --device cpu takes the same road with tiny models", file=sys.stderr
        )
        return 2
    kind: DeviceKind = options.device
    device: MemoryDevice = CudaDevice() if kind == "cuda" else CpuDevice(CPU_BUDGET_GIB)
    share_of_device = partial(CudaDevice, share=0.5) if kind == "cuda" else partial(CpuDevice, CPU_BUDGET_GIB / 2)
    set_tf32(True)
    problems = cap_problems(share_of_device()) + neighbour_problems(share_of_device)
    wanted = [case for case in cases(kind) if options.only in str(case)]
    compared, skipped, exhausted = compare_all(wanted, device)
    problems += exhausted
    lines = [*machine_lines(device), "", *report_lines(compared, skipped, problems)]
    print("\n".join(lines))
    if options.write:
        options.write.write_text("\n".join(lines) + "\n", encoding="utf-8")
    errors = [one.need_error for one in compared]
    print_json({"compared": len(compared), "problems": len(problems), "skipped": len(skipped), "need_errors": errors})
    return exit_status(errors, problems)


def cases(kind: DeviceKind) -> Iterator[Case]:
    for model, shapes in (CUDA_SHAPES if kind == "cuda" else CPU_SHAPES).items():
        for precision, checkpointing, micro_batch, length, accumulation in shapes:
            workload = Workload(
                SETTINGS,
                encoder_config(model, None),
                device_kind=kind,
                precision=precision,
                checkpointing=checkpointing,
            )
            yield Case(model, workload, micro_batch, length, accumulation)


def compare_all(wanted: Sequence[Case], device: MemoryDevice) -> tuple[list[Compared], list[str], list[str]]:
    """Measure and predict the configurations.

    Returns:
        Measurements with predictions, the skipped configurations, and those that ran out of memory.
    """
    plans = all_plans([case.workload for case in wanted])
    compared: list[Compared] = []
    skipped: list[str] = []
    exhausted: list[str] = []
    allowed_gib = device.budget_bytes() / GIB * (1 - HEADROOM)
    for number, (case, plan) in enumerate(zip(wanted, plans, strict=True), 1):
        print(f"{number}/{len(wanted)} {case}", file=sys.stderr, flush=True)
        if plan is None:
            skipped.append(f"{case}: not traceable with this transformers")
            continue
        predicted = predictions(plan, case)
        need_gib = max(held.need for held in predicted) / GIB
        if need_gib > allowed_gib:
            skipped.append(f"{case}: needs {need_gib:.2f} GiB of {allowed_gib:.2f} allowed (predicted)")
            continue
        measured = measure_or_fail(case, device)
        # By now nothing refers to the case's tensors, even after running out of memory.
        device.release()
        if measured is None:
            exhausted.append(f"{case}: out of memory, though predicted to need {need_gib:.2f} GiB")
            continue
        for part, one, other in zip(("training", "evaluation"), predicted, measured, strict=True):
            compared.append(Compared(f"{case} {part}", one, other))
            print(
                f"  {part}: {one.need / GIB:.3f} GiB predicted, {other.need / GIB:.3f} measured;"
                f" tensors {one.tensors / GIB:.3f} and {other.tensors / GIB:.3f}",
                file=sys.stderr,
                flush=True,
            )
    return compared, skipped, exhausted


def all_plans(workloads: Sequence[Workload]) -> list[MemoryPlan | None]:
    """Return the plan of each workload, as ``plan_of``; many are traced on all processors in parallel."""
    if len(workloads) < FEW:
        return [plan_of(workload) for workload in workloads]
    print(f"tracing {len(workloads)} workloads", file=sys.stderr, flush=True)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(plan_of, workloads))


def plan_of(workload: Workload) -> MemoryPlan | None:
    """Predict a workload's memory.

    Return None for DeBERTa in versions of transformers whose compiled functions reject tensors without data.
    """
    try:
        return predict(workload)
    except RuntimeError as error:
        if workload.config.model_type == "deberta-v2" and "TorchScript" in str(error):
            return None
        raise


def predictions(plan: MemoryPlan, case: Case) -> tuple[Held, Held]:
    """Return the predicted peaks of training and of evaluation."""
    training = plan.need_gib(case.micro_batch, case.length, case.accumulation) * GIB
    evaluation = plan.eval_need_gib(2 * case.micro_batch, case.length) * GIB
    return Held(training, training - plan.overhead_bytes), Held(evaluation, evaluation - plan.overhead_bytes)


def measure_or_fail(case: Case, device: MemoryDevice) -> tuple[Held, Held] | None:
    """Return the peaks of training and evaluation, or None if memory ran out."""
    try:
        with device.enforce():
            return measure(case, device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


def measure(case: Case, device: MemoryDevice) -> tuple[Held, Held]:
    workload, where = case.workload, device.torch_device
    # On the CPU other memory is indistinguishable from the earlier holdings of this process.
    before = 0 if where.type == "cuda" else device.live_bytes()
    task = build_task(workload.settings)
    with where:
        encoder = AutoModel.from_config(workload.config, dtype=torch.float32)
    if workload.checkpointing:
        enable_checkpointing(encoder)
    model = task.build_model([LoadedEncoder(encoder, LoadReport((), (), None))], seed=0).to(where)
    optimizer = build_optimizer(model, workload.settings.optim)
    prepare_states(optimizer)
    with uncounted():
        effective_batch = [batch(task, case.micro_batch, case.length, seed) for seed in range(case.accumulation)]
        evaluated = batch(task, 2 * case.micro_batch, case.length, seed=0)

    def train() -> None:
        model.train()
        clip_norm = workload.settings.train.clip_norm
        train_step(model, task, effective_batch, optimizer, clip_norm=clip_norm, precision=workload.precision)

    def evaluate() -> None:
        model.eval()
        with torch.inference_mode(), autocast(workload.precision, where):
            moved = to_device(evaluated, where)
            task.outputs_to_score(model(moved), moved)

    def fits() -> bool:
        """Return True if ``run`` fits in memory now."""
        fitted = True
        try:
            run()
        except torch.OutOfMemoryError:
            fitted = False
        give_back()
        return fitted

    def give_back() -> None:
        optimizer.zero_grad(set_to_none=True)
        device.release()

    train()
    peaks = []
    for run in (train, evaluate):
        give_back()
        device.reset_peak()
        run()
        peak = device.peak_bytes() - before
        give_back()
        if isinstance(device, CudaDevice):
            tensors = torch.cuda.max_memory_allocated()
            limit = smallest_limit(fits, above=tensors, enough=torch.cuda.max_memory_reserved())
            peaks.append(Held(limit + device.holdings().beyond_torch, tensors))
        else:
            peaks.append(Held(peak, peak))
    training, evaluation = peaks
    return training, evaluation


def smallest_limit(fits: Callable[[], bool], *, above: int, enough: int) -> float:
    """Return the allocator's smallest limit under which ``fits``, in bytes; it is between ``above`` and ``enough``."""
    total = torch.cuda.mem_get_info()[1]
    fraction = torch.cuda.get_per_process_memory_fraction()
    fails, works = float(above), float(max(above, enough))
    while works - fails > LIMIT_TOLERANCE * works:
        limit = (fails + works) / 2
        torch.cuda.set_per_process_memory_fraction(limit / total)
        fails, works = (fails, limit) if fits() else (limit, works)
    torch.cuda.set_per_process_memory_fraction(fraction)
    return works


def summarise(errors: Sequence[float]) -> Summary:
    sizes = np.abs(errors)
    return Summary(
        median=float(np.median(sizes)),
        p95=float(np.percentile(sizes, 95)),
        far_under=float(np.mean([error < -HEADROOM for error in errors])),
        worst=errors[int(sizes.argmax())],
    )


def exit_status(errors: Sequence[float], problems: Sequence[str]) -> int:
    """Return 0 if predictions held: some were compared, none failed, and their errors are within the limits."""
    if not errors or problems:
        return 1
    summary = summarise(errors)
    return int(summary.median > HIGHEST_MEDIAN or summary.p95 > HIGHEST_P95)


def machine_lines(device: MemoryDevice) -> list[str]:
    lines = [
        f"{date.today()}: {device_name(device.torch_device)}, {device.total_bytes() / GIB:.2f} GiB,"
        f" budget {device.budget_bytes() / GIB:.2f} GiB",
        f"{versions_line('torch', 'transformers')}, Python {platform.python_version()}",
    ]
    if isinstance(device, CudaDevice):
        beside = device.holdings()
        lines += [
            f"CUDA {torch.version.cuda}, driver {nvml_facts().driver or 'unknown'},"
            f" allocator settings {allocator_settings()!r}",
            # Exactly half a GiB is the assumption where NVML cannot find this process, for instance in a container.
            f"held beyond torch's allocator: {beside.beyond_torch / GIB:.3f} GiB by this process,"
            f" {beside.others / GIB:.3f} GiB by others",
        ]
    return lines


def allocator_settings() -> str:
    """Return the allocator's settings, by their name in newer or in older versions of torch."""
    return os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")


def report_lines(compared: Sequence[Compared], skipped: Sequence[str], problems: Sequence[str]) -> list[str]:
    header = ("configuration", "predicted GiB", "measured GiB", "error %", "tensors predicted", "allocated", "error %")
    rows = [
        (
            one.label,
            f"{one.predicted.need / GIB:.3f}",
            f"{one.measured.need / GIB:.3f}",
            f"{100 * one.need_error:+.2f}",
            f"{one.predicted.tensors / GIB:.3f}",
            f"{one.measured.tensors / GIB:.3f}",
            f"{100 * one.tensors_error:+.2f}",
        )
        for one in compared
    ]
    lines = [*table_lines(header, rows), ""]
    lines += [f"skipped: {line}" for line in skipped]
    lines.append(f"{len(compared) // 2} configurations measured, {len(skipped)} skipped")
    for name, errors in error_groups(compared).items():
        if errors:
            lines.append(summary_line(name, summarise(errors)))
    lines += [f"PROBLEM: {line}" for line in problems]
    if not problems:
        lines.append(
            "shares: an allocation beyond the share fails; of two neighbours the greedy one is the one that fails"
        )
    return lines


def error_groups(compared: Sequence[Compared]) -> dict[str, list[float]]:
    training = [one for one in compared if one.label.endswith("training")]
    evaluation = [one for one in compared if one.label.endswith("evaluation")]
    return {
        "need": [one.need_error for one in compared],
        "need, training": [one.need_error for one in training],
        "need, evaluation": [one.need_error for one in evaluation],
        "tensors, training": [one.tensors_error for one in training],
        "tensors, evaluation": [one.tensors_error for one in evaluation],
    }


def summary_line(name: str, summary: Summary) -> str:
    return (
        f"{name}: median of |error| {100 * summary.median:.2f} %, 95th percentile {100 * summary.p95:.2f} %, under by"
        f" more than {100 * HEADROOM:.0f} % in {100 * summary.far_under:.1f} %, worst {100 * summary.worst:+.2f} %"
    )


if __name__ == "__main__":
    sys.exit(main())
