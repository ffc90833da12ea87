"""The GPU check takes its whole road on the CPU, and judges errors as it says it does."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts" / "bench")
    return importlib.import_module("gpu_check")


def run_check(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """From a strange folder, as the file that people start."""
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check"), *options]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=120)


def test_the_whole_road_on_the_cpu(tmp_path: Path) -> None:
    ended = run_check(tmp_path, "--device", "cpu", "--write", "table.txt")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    assert (found["compared"], found["skipped"], found["problems"]) == (6, 0, 0)
    assert max(map(abs, found["need_errors"])) < 0.005
    assert ended.returncode == 0
    written = (tmp_path / "table.txt").read_text()
    assert written in ended.stdout
    assert "tiny-bert 2×128 fp32" in written
    assert f"torch {torch.__version__}" in written
    assert "of two neighbours the greedy one is the one that fails" in written


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_card_one_line_says_so(tmp_path: Path) -> None:
    ended = run_check(tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1


def test_what_ray_and_optuna_bring_is_not_needed() -> None:
    missing = ["ray", "optuna", "pydantic", "rich", "click", "mlflow"]
    program = f"import sys; sys.modules.update(dict.fromkeys({missing})); import gpu_check"
    environment = {"PYTHONPATH": f"{ROOT / 'scripts' / 'bench'}:{ROOT}"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("errors", "problems", "expected"),
    [
        ([0.04, -0.04, 0.05], [], 0),
        # The median is of sizes: too much and too little do not cancel out.
        ([0.06, -0.06, 0.06, -0.06], [], 1),
        ([0.01] * 19 + [0.5], [], 0),
        ([0.01] * 18 + [0.5, -0.5], [], 1),
        ([0.01], ["out of memory"], 1),
        # Nothing was compared.
        ([], [], 1),
    ],
)
def test_the_exit_status_follows_the_limits(
    gpu_check: ModuleType, errors: list[float], problems: list[str], expected: int
) -> None:
    assert gpu_check.exit_status(errors, problems) == expected


def test_the_summary_tells_too_little_from_too_much(gpu_check: ModuleType) -> None:
    summary = gpu_check.summarise([0.30, -0.11, -0.09, 0.01])
    assert summary.far_under == 0.25
    assert summary.worst == 0.30
    assert summary.median == pytest.approx(0.10)


def test_enough_is_left_for_a_24_gb_card_without_deberta(gpu_check: ModuleType) -> None:
    cases = [case for case in gpu_check.cases("cuda") if case.workload.config.model_type != "deberta-v2"]
    # The largest of them, the one that could be left out first.
    largest = next(case for case in cases if str(case).endswith("4×24×384") and "xlm-roberta-large" in str(case))
    assert len(cases) >= 40
    assert gpu_check.predict(largest.workload).need_gib(24, 384, 4) < 24 * 0.9
