"""Benches: they run, and their output is consistent. These tests do not check speed or quality."""

import importlib
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import ANY

import pytest

from trainables.machine import MachineFiles

BENCHES = Path(__file__).parents[2] / "scripts" / "bench"


Printed = tuple[str, dict[str, Any]]
"""Output of a bench, and its last line as data."""


class RunBench(Protocol):
    def __call__(self, name: str, *options: str) -> Printed: ...


def started(name: str, *options: str, check: bool = True) -> Printed:
    """Run a bench in another process, as people start it, and return its output."""
    command = [sys.executable, str(BENCHES / f"{name}.py"), *options]
    return printed(subprocess.run(command, check=check, stdout=subprocess.PIPE, text=True, timeout=300).stdout)


def printed(output: str) -> Printed:
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return output, found


@pytest.fixture
def run_bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunBench:
    """Return a function that runs a bench in this process and checks that it succeeds.

    Most benches take less time than their imports.
    """

    def run(name: str, *options: str) -> Printed:
        file, status = str(BENCHES / f"{name}.py"), None
        monkeypatch.syspath_prepend(BENCHES)
        monkeypatch.setattr(sys, "argv", [file, *options])
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as ended:
            status = ended.code
        assert not status
        return printed(capsys.readouterr().out)

    return run


def test_half_of_the_toy_space_fits() -> None:
    output = subprocess.run(
        [sys.executable, str(BENCHES / "toy.py")], check=True, stdout=subprocess.PIPE, text=True, timeout=60
    ).stdout
    assert "50.0% fit" in output.splitlines()[0]
    assert len(output.splitlines()) == 9


@pytest.mark.slow
def test_outcomes_counts_both_sides_of_the_same_problems(run_bench: RunBench) -> None:
    output, found = run_bench("outcomes", "--quick")
    assert found["share_that_fits"] == 0.5
    assert set(found["ooms"]) == {"random", "big"}
    totals = {"ray": 0, "headroom": 0}
    for objective, counts in found["ooms"].items():
        assert {side: len(by_seed) for side, by_seed in counts.items()} == dict.fromkeys(totals, found["seeds"])
        assert all(0 <= count <= found["trials"] for by_seed in counts.values() for count in by_seed)
        assert found["ratios"][objective] == pytest.approx(sum(counts["headroom"]) / sum(counts["ray"]))
        totals = {side: total + sum(counts[side]) for side, total in totals.items()}
    assert found["ratio"] == pytest.approx(totals["headroom"] / totals["ray"])
    assert f"headroom / ray, out of memory, all: {found['ratio']:.2f} ×" in output


@pytest.mark.slow
def test_oom_counts_what_runs_out_and_what_is_rejected_on_every_side(run_bench: RunBench) -> None:
    output, found = run_bench("oom", "--quick")
    assert found["missed"] == []
    assert set(found["figures"]) == {"random", "big"}
    for sides in found["figures"].values():
        assert set(sides) == {"stock", "told PRUNED", "rule, exact", "rule, errors"}
        for side, own in sides.items():
            assert len(own["ooms"]) == found["seeds"]
            assert all(0 <= count <= found["trials"] for count in own["ooms"])
            assert own["to_stock"] == pytest.approx(sum(own["ooms"]) / sum(sides["stock"]["ooms"]))
            assert 0 < own["best"] <= 1
            assert (own["rejected"] > 0) == side.startswith("rule")
            assert 0 <= own["within_allowed"] <= own["within_budget"] <= 100
        assert sides["rule, exact"]["ooms"] == [0] * found["seeds"]
        assert sides["rule, exact"]["within_allowed"] == 0
    assert "exact, out of memory of 100 launched, worst seed: 0.00 (target at most 2.00: met)" in output


@pytest.mark.slow
def test_oom_fails_where_something_gets_past_the_rule(
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


@pytest.mark.slow
def test_overhead_runs_every_trial_on_both_sides_and_times_every_storage() -> None:
    output, found = started("overhead", "--quick")
    trials, suggest = found["trials"], found["suggest"]
    per_trial = trials["seconds_per_trial"]
    assert trials["ratio"] == pytest.approx(per_trial["headroom"] / per_trial["ray"])
    assert {side: len(rounds) for side, rounds in trials["rounds"].items()} == {"headroom": 1, "ray": 1}
    assert len(suggest["median_ms"]) == 4
    assert min(suggest["median_ms"].values()) > 0
    assert suggest["ratio"] == pytest.approx(suggest["median_cpu_ms"]["headroom, rules, journal"] / 20)
    assert f"headroom / ray: {trials['ratio']:.2f} ×" in output


@pytest.mark.slow
def test_crash_kills_a_search_and_sees_that_nothing_is_lost() -> None:
    # Kill at the first report: a search this short may be over a second later.
    _, found = started("crash", "--kills", "1", "--trials", "3", "--within", "0")
    assert found == {"kills": 1, "finished": 3, "lost": 0, "left_open": 0, "repeated_epochs": ANY, "good": True}


@pytest.mark.slow
def test_disk_measures_a_study_beside_every_checkpoint() -> None:
    output, found = started("disk", "--trials", "12", check=False)
    assert found["trials"] == 12
    assert 0 < found["checkpoints"] < found["every_checkpoint"] / 5
    assert found["peak"] > found["checkpoints"] / 2
    assert "run directory to every checkpoint kept: 0." in output


def test_cpu_budget_compares_plain_and_budgeted_steps(run_bench: RunBench) -> None:
    output, found = run_bench("cpu_budget", "--quick")
    assert found["rounds"] == 6
    assert f"budgeted / plain, medians: {found['ratio']:.2f} ×" in output
    assert found["ratio"] > 0.5


def test_the_docs_show_the_table_of_claims_that_was_printed() -> None:
    printed = (BENCHES / "results" / "claims.txt").read_text(encoding="utf-8")
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 11
    assert "\n".join(table) in (BENCHES.parents[1] / "docs" / "memory.md").read_text(encoding="utf-8")


def test_a_claim_is_set_beside_the_prediction(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(BENCHES)
    claims = importlib.import_module("claims")
    fits = claims.Claim("distilbert-base-uncased", 64, 2, 128, 3)
    name, said, bf16, fp32, instead = claims.cells(fits, MachineFiles(tmp_path), None)
    assert (name, said) == ("distilbert-base-uncased 64 × 2 × 128", "3")
    assert 1 < float(bf16) < float(fp32)
    assert instead.startswith("24 GiB: 1 × 128, needs ")
    too_small = claims.Claim("distilbert-base-uncased", 64, 2, 128, 3, card_gib=1)
    assert claims.instead(too_small, MachineFiles(tmp_path)).startswith("1 GiB: rejected, needs ")


def test_packing_compares_the_same_queue_in_shares_and_one_per_card(run_bench: RunBench) -> None:
    output, found = run_bench("packing", "--part", "simulation", "--quick")
    reference = found["simulation"]["reference"]
    for cards, compared in reference.items():
        assert 0 < compared["floor"] <= compared["ratio"]
        assert 1 <= compared["slower"] <= compared["slowest"]
        assert f"packed / one per card, makespan, {cards} card(s): {compared['ratio']:.2f} ×" in output


def test_packing_gives_whole_cards_in_turn_and_lets_neighbours_slow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHES)
    packing = importlib.import_module("packing")
    whole, half = (packing.Job(share, start_up_s=30.0, card_s=100.0, host_s=0.0) for share in (1.0, 0.5))
    in_turn = packing.simulate([whole, whole], cards=1, max_open=2, gain=1.0)
    assert in_turn.ended == {0: 130, 1: 260}
    # Two trials that each keep the card busy save only the start-up.
    assert packing.simulate([half, half], cards=1, max_open=2, gain=1.0).ended == {0: 230, 1: 230}
    assert packing.simulate([half, half], cards=1, max_open=2, gain=2.0).ended == {0: 130, 1: 130}
    # The trial that needs the whole card waits for both, and nothing behind it is suggested.
    run = packing.simulate([half, half, whole, half], cards=1, max_open=4, gain=2.0)
    assert run.launched == {0: 0, 1: 0, 2: 130, 3: 260}


@pytest.mark.slow
def test_throughput_times_both_sides_on_the_same_rows(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    rows = [
        f"g{group},a text of some words {'more ' * (row * group)},what?,{row % 2}"
        for group in range(8)
        for row in range(4)
    ]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join(["group_id,text,criterion,label", *rows]) + "\n")
    output, found = started("throughput", str(pairs), "--rounds", "1")
    assert set(found) == {"training", "evaluation"}
    for part, figures in found.items():
        assert 1 <= figures["tokens_headroom"] <= figures["tokens_trainer"]
        assert f"headroom / trainer, {part}: {figures['ratio']:.2f} ×" in output


@pytest.mark.slow
def test_probe_finds_in_few_points_what_bisection_finds_in_many(run_bench: RunBench) -> None:
    output, found = run_bench("probe", "--cases", "2", "--seed", "3")
    ways = found["ways"]
    assert len(ways) == 7
    assert ways["bisection"]["worst_share"] == 1.0
    assert all(0 < way["worst_share"] <= way["mean_share"] <= 1 for way in ways.values())
    assert max(way["max_points"] for name, way in ways.items() if name.startswith("probe")) <= 4
    assert ways["probe"]["mean_points"] < ways["doubling"]["mean_points"] <= ways["bisection"]["mean_points"]
    assert f"{ways['probe']['points_by_bisection']:.2f} ×" in output


def test_split_computes_every_cut_of_the_same_batches(run_bench: RunBench) -> None:
    output, found = run_bench("split", "--repeats", "3")
    tokens = found["tokens"]
    assert set(tokens) == {"random 16", "sorted 16", "greedy", "headroom"}
    for cut in tokens.values():
        assert 1 <= cut["without_passes"] < cut["with_passes"]
        assert cut["most_tokens"] <= 16 * 256
    # Headroom's way to split minimises this cost.
    assert tokens["headroom"]["with_passes"] == min(cut["with_passes"] for cut in tokens.values())
    assert f"{tokens['headroom']['with_passes']:.3f}" in output


@pytest.mark.slow
def test_wide_tells_how_every_sample_ended(run_bench: RunBench) -> None:
    output, found = run_bench("wide", "--samples", "2")
    assert found["failed"] == 0
    assert [sum(ends.values()) for ends in found["ends"].values()] == [1, 1, 0, 0]
    assert "0 failed of 2" in output
