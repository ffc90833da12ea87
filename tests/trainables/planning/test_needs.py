"""Inputs of a memory plan from a trial's settings: requested checkpointing, dropout, frozen layers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainables.models.families import UnsupportedError
from trainables.planning import needs
from trainables.planning.needs import Planner
from trainables.planning.trace import Workload
from trainables.settings import TrialSettings, with_params

PLENTY_GIB = 64.0


@pytest.fixture
def tiny(settings: TrialSettings) -> TrialSettings:
    return with_params(settings, {"model.name": "tiny-bert"})


@pytest.fixture
def planner() -> Planner:
    return Planner("cpu", "fp32", cache=None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Workload]:
    """Return the list of predicted workloads, in order."""
    found: list[Workload] = []
    real = needs.predict

    def noting(workload: Workload, *rest: Any) -> Any:
        found.append(workload)
        return real(workload, *rest)

    monkeypatch.setattr(needs, "predict", noting)
    return found


@pytest.mark.parametrize("plain", [False, True])
def test_checkpointing_that_is_asked_for_is_planned_from_the_start(
    plain: bool, tiny: TrialSettings, planner: Planner
) -> None:
    wanted = with_params(tiny, {"train.checkpointing": True})
    forbidden = replace(wanted, memory=replace(wanted.memory, allow_checkpointing=False))
    without, with_it = (planner.cut(given, PLENTY_GIB, plain=plain) for given in (tiny, wanted))
    assert (without.checkpointing, with_it.checkpointing) == (False, True)
    assert with_it.need_gib < without.need_gib
    assert planner.cut(forbidden, PLENTY_GIB, plain=plain) == with_it


def test_tracing_is_announced_where_nothing_was_traced_before(tiny: TrialSettings, tmp_path: Path) -> None:
    announced: list[str] = []
    for _ in range(2):
        planner = Planner("cpu", "fp32", cache=tmp_path, tracing=announced.append)
        planner.cut(tiny, PLENTY_GIB)
        planner.cut(tiny, PLENTY_GIB)
    assert announced == [tiny.model.name]


def test_the_encoders_own_dropout_and_frozen_layers_count(
    tiny: TrialSettings, planner: Planner, asked: list[Workload]
) -> None:
    def need(**values: Any) -> float:
        changed = with_params(tiny, {name.replace("__", "."): value for name, value in values.items()})
        return planner.cut(changed, PLENTY_GIB).need_gib

    as_it_is = need()
    assert need(model__dropout=0.0) < as_it_is
    assert need(model__attention_dropout=0.0) < as_it_is
    assert need(model__freeze_layers=1) < as_it_is
    assert need(model__dropout=0.3, model__attention_dropout=0.2) == as_it_is
    assert len(asked) == 5
    assert need(model__dropout=0.1, model__attention_dropout=0.4) == as_it_is
    assert len(asked) == 5, "of a dropout only whether there is any makes a difference"
    assert [(load.config.hidden_dropout_prob, load.config.attention_probs_dropout_prob) for load in asked] == [
        (0.1, 0.1),
        (0.0, 0.1),
        (0.1, 0.0),
        (0.1, 0.1),
        (0.3, 0.2),
    ]


def test_a_setting_that_a_family_does_not_support_is_named(settings: TrialSettings, planner: Planner) -> None:
    albert = with_params(settings, {"model.name": "albert-base-v2", "train.checkpointing": True})
    with pytest.raises(UnsupportedError, match=r"train\.checkpointing: true: albert encoders"):
        planner.cut(albert, PLENTY_GIB)
