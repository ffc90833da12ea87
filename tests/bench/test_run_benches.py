"""Tests of the runner of the benches: it knows them all, and says which of them failed."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHES = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHES)
    return importlib.import_module("run_benches")


def test_every_bench_is_known(runner: ModuleType) -> None:
    programs = {file.stem for file in BENCHES.glob("*.py") if "\nif __name__ ==" in file.read_text(encoding="utf-8")}
    assert {bench.name for bench in runner.BENCHES} == programs


def test_a_bench_runs_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHES / "run"), "--quick", "toy"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    toy, total = ran.stdout.splitlines()
    assert toy.startswith("toy: ok, ")
    assert total == "0 of 1 failed"


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("print('half a table'); raise SystemExit(3)", "failed with exit status 3"),
        ("print('no figures')", "failed, its last line is not JSON"),
        ("", "failed, it printed nothing"),
    ],
)
def test_a_bench_that_fails_is_named_with_its_output(
    program: str,
    problem: str,
    runner: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "good.py").write_text("print('{}')")
    (tmp_path / "bad.py").write_text(program)
    monkeypatch.setattr(runner, "FOLDER", tmp_path)
    monkeypatch.setattr(runner, "BENCHES", (runner.Bench("good"), runner.Bench("bad")))
    assert runner.main(["--quick"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("good: ok, ")
    assert any(line.startswith(f"bad: {problem}, ") for line in lines)
    assert lines[-1] == "1 of 2 failed: bad"
    assert program.count("print") == lines.count("half a table") + lines.count("no figures")


def test_a_bench_whose_package_is_missing_is_skipped_by_name(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "BENCHES", (runner.Bench("x", package="not_here"),))
    assert runner.main(["--quick"]) == 0
    assert "x: skipped, it needs not_here (pip install not_here)" in capsys.readouterr().out
