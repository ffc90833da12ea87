"""Searcher, driven as Ray drives it, on a real study and without Ray running."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search_spaces.conditions import ActiveSpace
from search_spaces.rules import NAMED_LIMITS, Rule, Sample, SizeClassRule, Violation
from search_spaces.space import Params, parse_space
from tune_app.distributed.endings import Endings
from tune_app.distributed.messages import Launch
from tune_app.distributed.searcher import HeadroomSearch, OpenTrial
from tune_app.outcomes import Outcome
from tune_app.sampling.proposers import build_proposer
from tune_app.study.budget import Budget
from tune_app.study.record import StudyRecord
from tune_app.study.remaining import Course
from tune_app.study.store import StudyStore, open_study

FIXED: Params = {"model.name": "bert-base", "train.batch_size": 16, "train.grad_accum": 1, "tok.max_length": 128}
FOUR = {"optim.lr": {"choices": [0.1, 0.2, 0.3, 0.4]}}
MIXED = {"model.name": {"choices": ["bert-large", "bert-base"]}, "train.batch_size": {"choices": [16, 32]}}
USERS_24GB: list[Rule] = [SizeClassRule(NAMED_LIMITS["users_24gb"], lambda model: None)]


def new_store(folder: Path, entries: dict[str, Any]) -> StudyStore:
    return open_study(folder, "test", None, StudyRecord(parse_space(entries), "criteria", "macro_f1", "max", "data"))


def new_searcher(store: StudyStore, **changes: Any) -> HeadroomSearch:
    sampler, seed = changes.pop("sampler", "exhaustive"), changes.pop("seed", 0)
    options: dict[str, Any] = {
        "rules": (),
        "fixed": FIXED,
        "gpus": lambda params: 0.0,
        "adopt": (),
        "launched": len(store.trials()),
        "total": 100,
        "max_concurrent": 100,
        "ask_ahead": 0,
        "max_rejections": 1000,
        **changes,
    }
    proposer = build_proposer(sampler, ActiveSpace(store.record.space), store.study, store.distributions, seed)
    return HeadroomSearch(store, proposer, **options)


def suggest_all(searcher: HeadroomSearch, limit: int = 1000) -> list[dict[str, Any]]:
    """Return every suggestion up to the end, where each trial ends at once."""
    found = []
    for turn in range(limit):
        suggested = searcher.suggest(f"t{turn}")
        if suggested == Searcher.FINISHED:
            return found
        assert isinstance(suggested, dict)
        searcher.on_trial_complete(f"t{turn}")
        found.append(suggested)
    raise AssertionError("it never ended")


def test_a_suggestion_is_a_trial_that_the_study_holds_already(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    suggested = new_searcher(store).suggest("a")
    assert suggested == Launch(0, {"optim.lr": 0.1}).as_dict()
    trial = store.trial(0)
    assert (trial.state, trial.params) == (TrialState.RUNNING, {"optim.lr": 0.1})
    assert trial.user_attrs["suggested_at"] > 0


def test_a_rejected_sample_is_recorded_and_another_one_proposed(tmp_path: Path) -> None:
    store = new_store(tmp_path, MIXED)
    suggested = suggest_all(new_searcher(store, rules=USERS_24GB))
    assert [(trial["params"]["model.name"], trial["params"]["train.batch_size"]) for trial in suggested] == [
        ("bert-large", 16),
        ("bert-base", 16),
        ("bert-base", 32),
    ]
    assert [trial["number"] for trial in suggested] == [0, 2, 3]
    rejected = store.trial(1)
    assert rejected.state == TrialState.PRUNED
    assert rejected.params == {"model.name": "bert-large", "train.batch_size": 32}
    assert rejected.user_attrs["outcome"] == "infeasible"
    assert rejected.user_attrs["reason"].startswith(
        "model bert-large, batch 32, accumulation 1, length 128: batch 32 > 16"
    )
    assert rejected.constraints == {"size_limits": 1.0}


def test_rules_see_the_settings_outside_the_space_too(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    searcher = new_searcher(store, rules=USERS_24GB, fixed={**FIXED, "tok.max_length": 1024})
    assert suggest_all(searcher) == []
    assert {trial.constraints["size_limits"] for trial in store.trials()} == {1.0}


@pytest.mark.parametrize("max_concurrent", [1, 3])
def test_there_is_nothing_while_all_slots_are_taken(max_concurrent: int, tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    searcher = new_searcher(store, max_concurrent=max_concurrent)
    for turn in range(max_concurrent):
        assert isinstance(searcher.suggest(f"t{turn}"), dict)
    assert searcher.suggest("late") is None
    assert searcher.suggest("late") is None
    assert len(store.trials()) == max_concurrent, "nothing is asked for in vain"
    searcher.on_trial_complete("t0", None)
    assert isinstance(searcher.suggest("late"), dict)
    assert searcher.suggest("later") is None


def test_trials_asked_ahead_wait_beside_the_running_ones(tmp_path: Path) -> None:
    searcher = new_searcher(new_store(tmp_path, FOUR), max_concurrent=1, ask_ahead=1)
    assert isinstance(searcher.suggest("a"), dict)
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") is None


def test_a_failed_trial_frees_its_slot_as_any_other_and_only_once(tmp_path: Path) -> None:
    searcher = new_searcher(new_store(tmp_path, FOUR), max_concurrent=1)
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    searcher.on_trial_complete("a", error=True)
    searcher.on_trial_complete("never heard of")
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") is None


def test_paused_trials_hold_no_slot(tmp_path: Path) -> None:
    searcher = new_searcher(new_store(tmp_path, FOUR), max_concurrent=1)
    searcher.suggest("a")
    assert searcher.suggest("b") is None
    searcher.paused = 1
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") is None
    searcher.paused = 0
    searcher.on_trial_complete("b")
    assert searcher.suggest("c") is None, "the paused one runs again"


def test_the_search_ends_at_its_total(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    searcher = new_searcher(store, total=2)
    assert len(suggest_all(searcher)) == 2
    assert searcher.end == "the study holds 2 launched trials"
    assert searcher.suggest("again") == Searcher.FINISHED
    assert len(store.trials()) == 2


def test_the_end_comes_at_once_even_while_all_slots_are_taken(tmp_path: Path) -> None:
    searcher = new_searcher(new_store(tmp_path, FOUR), total=1, max_concurrent=1)
    assert isinstance(searcher.suggest("a"), dict)
    assert searcher.suggest("b") == Searcher.FINISHED


def test_the_total_counts_what_was_launched_before_but_nothing_rejected(tmp_path: Path) -> None:
    store = new_store(tmp_path, MIXED)
    assert len(suggest_all(new_searcher(store, rules=USERS_24GB, total=2))) == 2
    assert len(store.trials()) == 3
    again = new_searcher(store, rules=USERS_24GB, total=3, launched=2)
    assert [trial["number"] for trial in suggest_all(again)] == [3]


def test_a_spent_budget_ends_the_search_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    store, hours = new_store(tmp_path, FOUR), itertools.count(1)
    course = Course(1)

    def endings(max_hours: float) -> Endings:
        return Endings(
            store, Budget(3600 * max_hours, course, lambda params: 3600.0), None, lambda: 3600.0 * next(hours)
        )

    first = new_searcher(store, why_end=endings(3).why)
    assert len(suggest_all(first)) == 2
    assert first.end is not None
    assert "search.max_hours 3" in first.end
    assert len(store.trials()) == 2
    assert len(suggest_all(new_searcher(store, why_end=endings(6).why))) == 2


def test_a_discrete_space_is_exhausted_with_a_reason(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    searcher = new_searcher(store)
    assert [trial["params"]["optim.lr"] for trial in suggest_all(searcher)] == [0.1, 0.2, 0.3, 0.4]
    assert searcher.end is not None
    assert "exhausted" in searcher.end
    assert len(store.trials()) == 4


def test_an_exhausted_space_ends_the_search_while_its_last_trial_runs(tmp_path: Path) -> None:
    searcher = new_searcher(new_store(tmp_path, {"optim.lr": {"choices": [0.1]}}), max_concurrent=2)
    assert isinstance(searcher.suggest("a"), dict)
    assert searcher.suggest("b") == Searcher.FINISHED


def by_batch(params: Params) -> float:
    """Return a share that depends on the whole configuration, fixed settings included."""
    return 0.25 if params["model.name"] == "bert-base" and params["train.batch_size"] == 16 else 1.0


def test_every_trial_is_launched_with_its_share(tmp_path: Path) -> None:
    store = new_store(tmp_path, MIXED)
    number = store.open_trial({"model.name": "bert-large", "train.batch_size": 16}, {})
    adopt = [OpenTrial(number, store.trial(number).params)]
    suggested = suggest_all(new_searcher(store, gpus=by_batch, adopt=adopt))
    assert [(*trial["params"].values(), trial["gpus"]) for trial in suggested] == [
        ("bert-large", 16, 1.0),
        ("bert-large", 32, 1.0),
        ("bert-base", 16, 0.25),
        ("bert-base", 32, 1.0),
    ]
    (tmp_path / "other").mkdir()
    fixed_batch = new_store(tmp_path / "other", {"model.name": {"choices": ["bert-base"]}})
    assert [trial["gpus"] for trial in suggest_all(new_searcher(fixed_batch, gpus=by_batch))] == [0.25]


def test_the_plans_that_accepted_a_configuration_travel_with_its_launch(tmp_path: Path) -> None:
    plans = lambda params: f"plan of {params['model.name']} x {params['tok.max_length']}"  # noqa: E731
    (first, *_) = suggest_all(new_searcher(new_store(tmp_path, MIXED), plans=plans))
    assert Launch.from_dict(first).plans == "plan of bert-large x 128"


def test_too_many_rejections_in_a_row_end_the_search_with_a_reason(tmp_path: Path) -> None:
    store = new_store(tmp_path, {"optim.lr": {"low": 0.1, "high": 0.2}})
    searcher = new_searcher(
        store, sampler="random", rules=USERS_24GB, fixed={**FIXED, "train.batch_size": 1000}, max_rejections=7
    )
    assert searcher.suggest("a") == Searcher.FINISHED
    assert searcher.end is not None
    assert "rejected 7 samples in a row (search.max_rejections)" in searcher.end
    assert len(store.trials()) == 7
    assert searcher.suggest("a") == Searcher.FINISHED
    assert len(store.trials()) == 7


def test_adopted_trials_come_first_with_their_number_and_checkpoint(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    numbers = [store.open_trial({"optim.lr": lr}, {}) for lr in (0.1, 0.2)]
    store.close_trial(store.open_trial({"optim.lr": 0.3}, {}), Outcome.COMPLETE, value=0.5)
    adopt = [
        OpenTrial(numbers[0], {"optim.lr": 0.1}, ("/checkpoints/1", "/checkpoints/0")),
        OpenTrial(numbers[1], {"optim.lr": 0.2}),
    ]
    suggested = suggest_all(new_searcher(store, adopt=adopt, launched=3))
    assert suggested == [
        Launch(0, {"optim.lr": 0.1}, resume_from=("/checkpoints/1", "/checkpoints/0")).as_dict(),
        Launch(1, {"optim.lr": 0.2}).as_dict(),
        Launch(3, {"optim.lr": 0.4}).as_dict(),
    ]


def test_adopted_trials_run_though_the_total_is_reached_and_count_towards_it(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    number = store.open_trial({"optim.lr": 0.1}, {})
    searcher = new_searcher(store, adopt=[OpenTrial(number, {"optim.lr": 0.1})], launched=1, total=1)
    assert [trial["number"] for trial in suggest_all(searcher)] == [number]


def test_adopted_trials_wait_for_a_slot_like_all_others(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    adopt = [OpenTrial(store.open_trial({"optim.lr": lr}, {}), {"optim.lr": lr}) for lr in (0.1, 0.2)]
    searcher = new_searcher(store, adopt=adopt, max_concurrent=1)
    assert isinstance(searcher.suggest("a"), dict)
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a")
    suggested = searcher.suggest("b")
    assert isinstance(suggested, dict)
    assert suggested["number"] == 1


def test_rays_own_saving_does_nothing_and_its_resume_is_refused(tmp_path: Path) -> None:
    searcher = new_searcher(new_store(tmp_path, FOUR))
    searcher.suggest("a")
    before = sorted(tmp_path.iterdir())
    searcher.save(str(tmp_path / "searcher.pkl"))
    searcher.save_to_dir(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(NotImplementedError, match="run the same command again"):
        searcher.restore(str(tmp_path / "searcher.pkl"))
    assert isinstance(searcher.suggest("b"), dict)


def test_reports_and_results_that_ray_passes_on_change_no_trial(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    searcher = new_searcher(store)
    searcher.suggest("a")
    searcher.on_trial_result("a", {"value": float("nan")})
    searcher.on_trial_result("a", {})
    searcher.on_trial_complete("a", result={}, error=False)
    searcher.on_trial_complete("a", result=None, error=True)
    trial = store.trial(0)
    assert (trial.state, trial.intermediate_values) == (TrialState.RUNNING, {})


UNION = {
    "model.name": {"choices": ["bert-base-uncased", "bert-large-uncased", "xlm-roberta-base", "roberta-large"]},
    "tok.max_length": {"low": 128, "high": 512, "step": 32},
    "train.batch_size": {"choices": [8, 12, 16, 24, 32, 48, 64]},
    "train.grad_accum": {"choices": [1, 2, 3, 4, 6, 8]},
    "head.dropout": {"choices": [0.0, 0.1, 0.3]},
}


def test_a_thousand_suggestions_of_large_and_base_models_in_any_order_never_raise(tmp_path: Path) -> None:
    store = new_store(tmp_path, UNION)
    searcher = new_searcher(store, sampler="random", rules=USERS_24GB, total=1000, max_concurrent=4)
    suggested = suggest_all(searcher, limit=1001)
    assert len(suggested) == 1000
    keys = {store.record.space.key(trial["params"]) for trial in suggested}
    assert len(keys) == 1000, "nothing is launched twice"
    trials = store.trials()
    rejected = [trial for trial in trials if trial.user_attrs.get("outcome") == "infeasible"]
    assert len(trials) == 1000 + len(rejected)
    assert rejected
    assert not any("bert-base" in trial.params["model.name"] for trial in rejected)
    launched = [trial["params"]["model.name"] for trial in suggested]
    assert all(launched.count(model) > 50 for model in UNION["model.name"]["choices"])


def test_tpe_learns_in_a_union_of_large_and_base_models_without_a_hitch(tmp_path: Path) -> None:
    store = new_store(tmp_path, UNION)
    searcher = new_searcher(store, sampler="tpe", rules=USERS_24GB, total=60)
    for turn in range(60):
        suggested = searcher.suggest(f"t{turn}")
        assert isinstance(suggested, dict)
        if turn % 7 == 3:
            store.close_trial(suggested["number"], Outcome.OOM, constraints={"memory": 0.5})
        elif turn % 7 == 5:
            store.close_trial(suggested["number"], Outcome.FAILED)
        else:
            store.close_trial(suggested["number"], Outcome.COMPLETE, value=suggested["params"]["train.batch_size"] / 64)
        searcher.on_trial_complete(f"t{turn}")
    assert searcher.suggest("end") == Searcher.FINISHED


def turns(*values: tuple[float, ...]) -> list[list[Params]]:
    return [[{"optim.lr": value} for value in turn] for turn in values]


def recommended(store: StudyStore) -> dict[float, bool]:
    return {trial.params["optim.lr"]: "recommended" in trial.user_attrs for trial in store.trials()}


def test_recommended_configurations_come_first_and_are_marked(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    searcher = new_searcher(store, recommended=turns((0.4,), (0.2,), (0.3,)), most_recommended=2)
    launched = suggest_all(searcher)
    assert [launch["params"]["optim.lr"] for launch in launched] == [0.4, 0.2, 0.1, 0.3]
    assert [Launch.from_dict(launch).is_recommended for launch in launched] == [True, True, False, False]
    assert recommended(store) == {0.4: True, 0.2: True, 0.1: False, 0.3: False}


def test_a_recommendation_launches_the_first_draw_that_the_rules_accept(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)

    class NotAbove:
        name = "limit"

        def check(self, sample: Sample) -> Violation | None:
            lr = float(sample.params["optim.lr"])
            return Violation("limit", "too large", lr / 0.25 - 1) if lr > 0.25 else None

    searcher = new_searcher(
        store, rules=[NotAbove()], recommended=turns((0.4, 0.1), (0.3,), (0.1,), (0.2,)), most_recommended=2
    )
    launched = suggest_all(searcher)
    assert [launch["params"]["optim.lr"] for launch in launched] == [0.1, 0.2]
    rejected = [trial.params["optim.lr"] for trial in store.trials() if trial.constraints]
    assert rejected == [0.4, 0.3], "rejections on the way are recorded"


def test_a_search_that_was_cut_short_goes_on_with_the_recommendations_that_are_left(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    first = new_searcher(store, total=1, recommended=turns((0.4,), (0.2,)), most_recommended=2)
    assert [launch["params"]["optim.lr"] for launch in suggest_all(first)] == [0.4]
    again = new_searcher(store, total=3, recommended=turns((0.4,), (0.2,)), most_recommended=1)
    assert [launch["params"]["optim.lr"] for launch in suggest_all(again)] == [0.2, 0.1]


def test_more_recommendations_than_there_are_end_the_start(tmp_path: Path) -> None:
    searcher = new_searcher(new_store(tmp_path, FOUR), recommended=turns((0.4,), (0.4,)), most_recommended=9)
    assert [launch["params"]["optim.lr"] for launch in suggest_all(searcher)] == [0.4, 0.1, 0.2, 0.3]


def test_an_adopted_trial_stays_recommended(tmp_path: Path) -> None:
    store = new_store(tmp_path, FOUR)
    number = store.open_trial({"optim.lr": 0.3}, {"recommended": True})
    searcher = new_searcher(store, adopt=[OpenTrial(number, {"optim.lr": 0.3}, is_recommended=True)])
    adopted = searcher.suggest("a")
    assert isinstance(adopted, dict)
    assert Launch.from_dict(adopted).is_recommended


class Improving:
    """Rule that rejects nine in ten samples of TPE's start, so that the searcher goes through many."""

    name = "limit"

    def __init__(self) -> None:
        self.asked = 0

    def check(self, sample: Sample) -> Violation | None:
        self.asked += 1
        return None if self.asked % 10 == 0 else Violation("limit", "not yet", 0.1)


def test_a_rejected_candidate_is_followed_by_the_next_of_its_lot(tmp_path: Path) -> None:
    store = new_store(tmp_path, {"optim.lr": {"low": 0.0, "high": 1.0}})
    for place in range(20):
        store.close_trial(store.open_trial({"optim.lr": place / 20}, {}), Outcome.COMPLETE, value=place / 20)
    proposer = build_proposer("tpe", ActiveSpace(store.record.space), store.study, store.distributions, 7)
    lot = [params["optim.lr"] for params in itertools.islice(proposer.proposals(), 10)]
    launched = new_searcher(store, sampler="tpe", seed=7, rules=[Improving()]).suggest("a")
    assert isinstance(launched, dict)
    assert [trial.params["optim.lr"] for trial in store.trials()[20:]] == lot
    assert launched["params"]["optim.lr"] == lot[-1]
