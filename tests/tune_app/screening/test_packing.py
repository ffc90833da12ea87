"""Shares by predicted need, and fits in the largest share: they agree with the verdict, and more is never worse."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from search_spaces.rules import Sample
from search_spaces.space import Params
from trainables.devices.facts import TrialDevice
from trainables.machine import MachineFiles
from trainables.planning.accepted import AcceptedPlans
from trainables.planning.needs import Cut, Planner, Question
from trainables.settings import DataSettings, Seeds, TrialSettings, with_params
from tune_app.errors import UserError
from tune_app.screening.packing import SHARES, Packing

CARD = TrialDevice("cpu", 1.0, bf16=False)
SETTINGS = TrialSettings(DataSettings("demo"), Seeds(1, 2, 3, 4))
# The user's own limit on rows, too high to matter here.
SETTINGS = replace(SETTINGS, memory=replace(SETTINGS.memory, micro_batch=65536))


def params(model: str = "tiny-bert", batch: int = 64, length: int = 256, **others: Any) -> Params:
    return {
        "model.name": model,
        "train.batch_size": batch,
        "train.grad_accum": 1,
        "tok.max_length": length,
        **{name.replace("__", "."): value for name, value in others.items()},
    }


def packing(device: TrialDevice = CARD, **options: Any) -> Packing:
    memory = {name: options.pop(name) for name in list(options) if hasattr(SETTINGS.memory, name)}
    settings = replace(SETTINGS, memory=replace(SETTINGS.memory, **memory))
    given: dict[str, Any] = {"gpus": "auto", "passes": 4, "say": lambda text: None, **options}
    return Packing(settings, device, **{"files": MachineFiles(), **given})


def judged(given: Params, budget_gib: float, *, allow_checkpointing: bool = True) -> Cut:
    memory = replace(SETTINGS.memory, allow_checkpointing=allow_checkpointing)
    question = Question(replace(SETTINGS, memory=memory), "cpu", budget_gib, "fp32")
    batch, length = int(given["train.batch_size"]), int(given["tok.max_length"])
    settings = question.about(str(given["model.name"]), batch, length)
    return planner().cut(settings, question.allowed_gib)


@cache
def planner() -> Planner:
    """Return the planner; neither the budget nor the allowed memory changes a plan."""
    return Question(SETTINGS, "cpu", CARD.total_gib, "fp32").planner(MachineFiles())


GRID = [
    params(model, batch, length)
    for model in ("tiny-bert", "small-deberta")
    for batch in (1, 7, 64, 500)
    for length in (32, 512)
]


@pytest.mark.parametrize("total_gib", [0.03, 0.1, 0.25, 1.0, 4.0])
def test_a_fit_is_the_cut_on_the_whole_card(total_gib: float) -> None:
    packed = packing(TrialDevice("cpu", total_gib, bf16=False))
    for given in GRID:
        fit, answer = packed.predict_fit(Sample.of(given)), judged(given, total_gib)
        assert fit is not None
        assert (fit.micro_batch or None, fit.passes) == (answer.micro_batch, answer.passes)
        assert fit.allowed_gib == pytest.approx(0.9 * total_gib)
        assert (fit.budget_gib, fit.checkpointing) == (total_gib, answer.checkpointing)
        if answer.passes is None:
            assert fit.need_gib == answer.need_gib > fit.allowed_gib


def test_the_plans_of_what_was_predicted_travel_and_nothing_else_is_predicted_for_them() -> None:
    packed, given = packing(TrialDevice("cpu", 1.0, bf16=False)), params(batch=16, length=128)
    assert packed.plans(given) is None
    packed.gpus(given)
    text = packed.plans(params(batch=500, length=32))
    assert text is not None, "a plan answers for every batch and length"
    (plan,) = AcceptedPlans.from_text(text).plans.values()
    assert plan.need_gib(7, 64, 2) == planner().plan(with_params(SETTINGS, given)).need_gib(7, 64, 2)
    assert packed.plans(params("small-deberta")) is None


def test_the_plan_with_checkpointing_travels_where_it_was_made() -> None:
    packed, given = packing(TrialDevice("cpu", 0.03, bf16=False)), params(batch=64, length=512)
    fit = packed.predict_fit(Sample.of(given))
    assert fit is not None
    assert fit.checkpointing
    assert len(AcceptedPlans.from_text(packed.plans(given) or "").plans) == 2


@pytest.mark.parametrize("passes", [1, 4, 16])
@pytest.mark.parametrize("total_gib", [0.1, 0.5, 2.0])
def test_a_share_by_need_is_the_smallest_class_in_which_the_passes_are_few_enough(
    total_gib: float, passes: int
) -> None:
    packed = packing(TrialDevice("cpu", total_gib, bf16=False), passes=passes)
    for given in GRID:
        steps = {share: judged(given, share * total_gib, allow_checkpointing=False).passes for share in SHARES}
        enough = [share for share, count in steps.items() if count is not None and count <= passes]
        assert packed.gpus(given) == (enough[0] if enough else 1.0)


def test_a_bigger_share_never_takes_more_passes() -> None:
    for given in GRID:
        steps = [
            packing(TrialDevice("cpu", share, bf16=False), allow_checkpointing=False).predict_fit(Sample.of(given))
            for share in SHARES
        ]
        passes = [fit.passes or 10**9 for fit in steps if fit is not None]
        assert passes == sorted(passes, reverse=True)
        assert len(passes) == len(SHARES)


def test_every_class_of_share_is_given_and_more_samples_never_get_less() -> None:
    packed = packing(TrialDevice("cpu", 0.5, bf16=False))
    shares = [packed.gpus(params(batch=batch)) for batch in range(1, 300, 4)]
    assert shares == sorted(shares)
    assert set(shares) == set(SHARES)


@pytest.mark.parametrize(
    ("gpus", "given", "budget_gib"), [(0.25, 0.25, 0.25), (1.0, 1.0, 1.0), (2.0, 2.0, 1.0), (0.0, 0.0, 1.0)]
)
def test_a_fixed_share_is_given_to_every_trial_and_is_all_that_it_may_hold(
    gpus: float, given: float, budget_gib: float
) -> None:
    packed = packing(gpus=gpus)
    assert {packed.gpus(configuration) for configuration in GRID} == {given}
    fit = packed.predict_fit(Sample.of(GRID[0]))
    assert fit is not None
    assert fit.budget_gib == budget_gib


def test_a_budget_of_the_trials_own_caps_the_fit_and_a_share_beyond_it_is_not_given() -> None:
    huge = params(batch=4000, length=512)
    packed = packing(budget_gib=0.2)
    fit = packed.predict_fit(Sample.of(huge))
    assert fit is not None
    assert (fit.budget_gib, fit.allowed_gib) == (0.2, pytest.approx(0.18))
    assert packed.gpus(huge) == 0.25
    assert packing().gpus(huge) == 1.0
    assert packing(budget_gib=5.0).gpus(huge) == 1.0


def test_passes_that_the_users_own_limit_on_rows_makes_do_not_ask_for_a_larger_share() -> None:
    given = params(batch=512, length=128)
    assert packing().gpus(given) > packing(micro_batch=8).gpus(given)


def between_checkpointed_and_plain_need() -> tuple[Params, float]:
    given = params("small-deberta", batch=4, length=512)
    needs = [judged(given, 1e-6, allow_checkpointing=allowed).need_gib for allowed in (True, False)]
    return given, sum(needs) / 2 / 0.9


def test_checkpointing_makes_fit_what_does_not_fit_without_if_it_is_allowed() -> None:
    given, total_gib = between_checkpointed_and_plain_need()
    device = TrialDevice("cpu", total_gib, bf16=False)
    fit = packing(device).predict_fit(Sample.of(given))
    assert fit is not None
    assert fit.checkpointing
    assert fit.micro_batch >= 1
    plain = packing(device, allow_checkpointing=False).predict_fit(Sample.of(given))
    assert plain is not None
    assert (plain.checkpointing, plain.micro_batch, plain.passes) == (False, 0, None)
    assert plain.need_gib > plain.allowed_gib > fit.need_gib


def test_a_smaller_share_is_never_given_at_the_price_of_checkpointing() -> None:
    given, total_gib = between_checkpointed_and_plain_need()
    assert packing(TrialDevice("cpu", 2 * total_gib, bf16=False)).gpus(given) == 1.0


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of workloads that are traced, or read from the folder of predictions."""
    from trainables.planning import needs

    seen: list[Any] = []
    real = needs.predict
    monkeypatch.setattr(needs, "predict", lambda workload, *rest: seen.append(workload) or real(workload, *rest))
    return seen


def test_the_trace_has_the_sampled_head_precision_and_clipping(traced: list[Any]) -> None:
    packed = packing(TrialDevice("cuda", 24.0, bf16=True))
    packed.predict_fit(Sample.of(params(head__pooling="max", head__dropout=0.0, train__clip_norm=0.0)))
    (workload,) = traced
    assert (workload.settings.head.pooling, workload.settings.head.dropout) == ("max", 0.0)
    assert workload.settings.train.clip_norm == 0
    assert (workload.device_kind, workload.precision, workload.checkpointing) == ("cuda", "bf16", False)
    packed.predict_fit(Sample.of(params(train__precision="fp32")))
    assert traced[-1].precision == "fp32"
    packing(TrialDevice("cuda", 24.0, bf16=False)).predict_fit(Sample.of(params()))
    assert traced[-1].precision == "fp32"


def test_configurations_with_the_same_need_are_traced_once(traced: list[Any]) -> None:
    packed = packing()
    for lr, dropout, batch, length in [(1e-5, 0.1, 8, 64), (1e-4, 0.2, 16, 512), (1e-3, 0.3, 64, 128)]:
        given = params(batch=batch, length=length, optim__lr=lr, head__dropout=dropout)
        packed.predict_fit(Sample.of(given))
        packed.gpus(given)
    assert len(traced) == 1


def test_an_unpredictable_model_gets_a_whole_card_and_one_message() -> None:
    messages: list[str] = []
    packed = packing(say=messages.append)
    given = params("tiny-deberta", head__pooling="pooler")
    for _ in range(2):
        assert packed.predict_fit(Sample.of(given)) is None
        assert packed.gpus(given) == 1.0
    assert [line for line in messages if "cannot predict the memory" in line] == [messages[-1]]
    assert messages[0].startswith("predicting the memory of tiny-deberta")
    assert "ValueError: head.pooling 'pooler'" in messages[-1]
    assert packed.gpus(params("tiny-deberta", batch=1, length=32)) == 0.125


def test_an_unknown_model_is_the_users_error() -> None:
    with pytest.raises(UserError, match=r"model\.name: .*tiny-brt.*did you mean 'tiny-bert'"):
        packing().predict_fit(Sample.of(params("tiny-brt")))
