"""Tests of the GPU check: a whole run on the CPU, and its verdict on errors."""

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


def test_the_whole_road_on_the_cpu_without_ray_and_optuna_and_what_they_bring(tmp_path: Path) -> None:
    missing = ["ray", "optuna", "pydantic", "rich", "click", "mlflow"]
    program = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({missing})); del sys.argv[0];"
        " runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    # Run the file that people start, from another folder.
    ended = subprocess.run(
        [
            *(sys.executable, "-c", program, str(ROOT / "scripts" / "gpu_check")),
            *("--device", "cpu", "--only", "tiny-bert", "--write", "table.txt"),
        ],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    assert (found["compared"], found["skipped"], found["problems"]) == (2, 0, 0)
    assert max(map(abs, found["need_errors"])) < 0.005
    written = (tmp_path / "table.txt").read_text()
    assert written in ended.stdout
    assert "tiny-bert 2×128 fp32" in written
    assert f"torch {torch.__version__}" in written
    assert "of two neighbours the greedy one is the one that fails" in written


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_card_one_line_says_so(gpu_check: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("errors", "problems", "expected"),
    [
        ([0.04, -0.04, 0.05], [], 0),
        # The median is over absolute values: overestimates and underestimates do not cancel out.
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
    # The largest case is the first candidate for removal.
    largest = next(case for case in cases if str(case).endswith("4×24×384") and "xlm-roberta-large" in str(case))
    assert len(cases) >= 40
    assert gpu_check.predict(largest.workload).need_gib(24, 384, 4) < 24 * 0.9
