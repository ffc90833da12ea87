"""Tests of the table of claims: its cells, and its copy in the docs."""

import importlib
from pathlib import Path

import pytest

from trainables.machine import MachineFiles
from trainables.models.builtin import builtin_config

BENCHES = Path(__file__).parents[2] / "scripts" / "bench"


def test_the_docs_show_the_table_of_claims_that_was_printed() -> None:
    printed = (BENCHES / "results" / "claims.txt").read_text(encoding="utf-8")
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 11
    assert "\n".join(table) in (BENCHES.parents[1] / "docs" / "explanation" / "memory.md").read_text(encoding="utf-8")


def test_a_claim_is_set_beside_the_prediction(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(BENCHES)
    claims = importlib.import_module("claims")
    small = builtin_config("tiny-bert", vocab_size=100, pad_token_id=0)
    small.save_pretrained(tmp_path / "small")
    name = str(tmp_path / "small")
    fits = claims.Claim(name, 2048, 2, 128, 3)
    label, claimed, bf16, fp32, instead = claims.cells(fits, MachineFiles(tmp_path), None)
    assert (label, claimed) == ("small 2048 × 2 × 128", "3")
    assert 1 < float(bf16) < float(fp32)
    assert instead.startswith("24 GiB: 1 × 4096, needs ")
    too_small = claims.Claim(name, 2048, 2, 128, 3, card_gib=0)
    assert claims.instead(too_small, MachineFiles(tmp_path)).startswith("0 GiB: rejected, needs ")
