"""Test of the out-of-memory bench: a rule that lets something through misses the goal."""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHES = Path(__file__).parents[2] / "scripts" / "bench"


def test_the_bench_fails_where_something_gets_past_the_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHES)
    monkeypatch.setattr(sys, "argv", ["oom.py", "--trials", "10", "--seeds", "1"])
    oom = importlib.import_module("oom")
    monkeypatch.setattr(oom.MemoryRule, "check", lambda self, sample: None)
    assert oom.main() == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["missed"] == [
        "out of memory of 100 launched, worst seed"
    ]
