"""The benches run, and what they say fits together. How fast or how good the numbers are is not asked here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHES = Path(__file__).parents[2] / "scripts" / "bench"


def run_bench(name: str, *options: str) -> tuple[str, dict[str, Any]]:
    """What a bench prints, and its last line as data."""
    command = [sys.executable, str(BENCHES / f"{name}.py"), *options]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return output, found


def test_half_of_the_toy_space_fits() -> None:
    output = subprocess.run(
        [sys.executable, str(BENCHES / "toy.py")], check=True, stdout=subprocess.PIPE, text=True, timeout=60
    ).stdout
    assert "50.0% fit" in output.splitlines()[0]
    assert len(output.splitlines()) == 9


@pytest.mark.slow
def test_outcomes_counts_both_sides_of_the_same_problems() -> None:
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
def test_overhead_runs_every_trial_on_both_sides_and_times_every_storage() -> None:
    output, found = run_bench("overhead", "--quick")
    trials, suggest = found["trials"], found["suggest"]
    per_trial = trials["seconds_per_trial"]
    assert trials["ratio"] == pytest.approx(per_trial["headroom"] / per_trial["ray"])
    assert {side: len(rounds) for side, rounds in trials["rounds"].items()} == {"headroom": 1, "ray": 1}
    assert len(suggest["median_ms"]) == 4
    assert min(suggest["median_ms"].values()) > 0
    assert suggest["ratio"] == pytest.approx(suggest["median_ms"]["headroom, rules, journal"] / 20)
    assert f"headroom / ray: {trials['ratio']:.2f} ×" in output


def test_cpu_budget_compares_plain_and_budgeted_steps() -> None:
    output, found = run_bench("cpu_budget", "--quick")
    assert found["rounds"] == 6
    assert f"budgeted / plain, medians: {found['ratio']:.2f} ×" in output
    assert found["ratio"] > 0.5


@pytest.mark.slow
def test_probe_finds_in_few_points_what_bisection_finds_in_many() -> None:
    output, found = run_bench("probe", "--cases", "2", "--seed", "3")
    ways = found["ways"]
    assert len(ways) == 7
    assert ways["bisection"]["worst_share"] == 1.0
    assert all(0 < way["worst_share"] <= way["mean_share"] <= 1 for way in ways.values())
    assert max(way["max_points"] for name, way in ways.items() if name.startswith("probe")) <= 4
    assert ways["probe"]["mean_points"] < ways["doubling"]["mean_points"] <= ways["bisection"]["mean_points"]
    assert f"{ways['probe']['points_by_bisection']:.2f} ×" in output


def test_split_computes_every_cut_of_the_same_batches() -> None:
    output, found = run_bench("split", "--repeats", "3")
    tokens = found["tokens"]
    assert set(tokens) == {"random 16", "sorted 16", "greedy", "headroom"}
    for cut in tokens.values():
        assert 1 <= cut["without_passes"] < cut["with_passes"]
        assert cut["most_tokens"] <= 16 * 256
    # What it makes least of, by the way it cuts.
    assert tokens["headroom"]["with_passes"] == min(cut["with_passes"] for cut in tokens.values())
    assert f"{tokens['headroom']['with_passes']:.3f}" in output
