"""Projected final values: what a stopped trial's last report lets expect of its end."""

import pytest

from tune_app.search.projection import Reported, projected_values


def test_a_stopped_trial_gains_what_those_gained_that_went_on() -> None:
    complete = [Reported({1: 0.50, 3: 0.60}, final=0.70), Reported({1: 0.60, 3: 0.80}, final=0.80)]
    stopped = [Reported({1: 0.40}), Reported({1: 0.55, 3: 0.75})]
    # From step 1 to 3: 0.10, 0.20 and 0.20; from step 3 to the end: 0.10 and 0.
    assert projected_values([*complete, *stopped]) == pytest.approx([0.70, 0.80, 0.40 + 0.5 / 3 + 0.05, 0.80])


def test_a_promising_early_report_ranks_above_a_poor_complete_trial() -> None:
    poor, good, stopped = projected_values(
        [Reported({1: 0.30}, final=0.40), Reported({1: 0.50}, final=0.65), Reported({1: 0.45})]
    )
    assert poor < stopped < good


def test_reports_stand_alone_until_a_trial_has_gone_on() -> None:
    assert projected_values([Reported({1: 0.5}), Reported({1: 0.4, 2: 0.3})]) == pytest.approx([0.4, 0.3])
    assert projected_values([Reported({1: 0.5}), Reported({1: 0.4})]) == [0.5, 0.4]
    assert projected_values([]) == []
