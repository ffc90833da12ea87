"""Proposals: no repeats in a discrete space, the same for the same seed, and based on recorded trials."""

import itertools
import random
from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces.conditions import ActiveSpace
from search_spaces.rules import Violation
from search_spaces.space import Params, parse_space
from tune_app.outcomes import Outcome
from tune_app.sampling.proposers import Proposer, build_proposer
from tune_app.study.record import StudyRecord
from tune_app.study.store import StudyStore, open_study

DISCRETE = {
    "model.name": {"choices": ["base", "large"]},
    "train.batch_size": {"low": 8, "high": 24, "step": 8},
    "head.dropout": {"choices": [0.0, 0.1]},
    "head.pooling": {"choices": ["cls"]},
}
ENDLESS = {
    "model.name": {"choices": ["base", "large"]},
    "optim.lr": {"low": 1e-5, "high": 1e-2, "log": True},
    "optim.weight_decay": {"low": 0.0, "high": 0.1},
    "train.batch_size": {"low": 8, "high": 64, "step": 8},
    "head.dropout": {"low": 0.1, "high": 0.1},
}
SAMPLERS = ["tpe", "random", "exhaustive"]


def new_store(folder: Path, entries: dict[str, Any]) -> StudyStore:
    folder.mkdir(exist_ok=True)
    record = StudyRecord(parse_space(entries), "criteria", "macro_f1", "max", "data")
    return open_study(folder, "test", None, record)


def proposer_for(store: StudyStore, sampler: str, seed: int = 0) -> Proposer:
    return build_proposer(sampler, ActiveSpace(store.record.space), store.study, store.distributions, seed)


def tell(store: StudyStore, params: Params, value: float | None, place: int = 0) -> None:
    """Record the outcome of a proposal; without a value the outcome cycles through all the others."""
    if value is not None:
        store.close_trial(store.open_trial(params, {}), Outcome.COMPLETE, value=value)
        return
    match place % 5:
        case 0:
            store.record_infeasible(params, [Violation("size_limits", "too large", 0.5)])
        case 1:
            store.open_trial(params, {})
        case 2:
            store.close_trial(store.open_trial(params, {}), Outcome.OOM, constraints={"memory": 0.5})
        case 3:
            store.close_trial(store.open_trial(params, {}), Outcome.FAILED)
        case 4:
            number = store.open_trial(params, {})
            store.report(number, 1, 0.5)
            store.close_trial(number, Outcome.STOPPED)


def propose(proposer: Proposer, count: int) -> list[Params | None]:
    """Return the proposals of a search that records nothing."""
    found = []
    for _ in range(count):
        params = proposer.propose()
        found.append(params)
        if params is not None:
            proposer.mark_seen(params)
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("known", ["nothing", "values", "everything else"])
def test_a_discrete_space_is_gone_through_once_and_then_exhausted(sampler: str, known: str, tmp_path: Path) -> None:
    store = new_store(tmp_path, DISCRETE)
    space = store.record.space
    assert space.size == 12
    proposer = proposer_for(store, sampler)
    seen = []
    for place in range(space.size):
        params = proposer.propose()
        assert params is not None
        assert space.contains(params)
        proposer.mark_seen(params)
        seen.append(space.key(params))
        if known != "nothing":
            tell(store, params, place / 12 if known == "values" else None, place)
    assert len(set(seen)) == space.size
    assert proposer.propose() is None
    assert proposer.propose() is None, "and stays so"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_search_proposes_nothing_that_the_study_holds(sampler: str, tmp_path: Path) -> None:
    store = new_store(tmp_path, DISCRETE)
    seen = set()
    # Three trials at a time, each time with a new proposer and the same seed.
    for start in range(4):
        proposer = proposer_for(store, sampler)
        for place in range(3):
            params = proposer.propose()
            assert params is not None
            proposer.mark_seen(params)
            seen.add(store.record.space.key(params))
            tell(store, params, None, start + place)
    assert len(seen) == 12
    assert proposer_for(store, sampler).propose() is None


def test_exhaustive_goes_through_the_space_in_its_order_also_after_a_resume(tmp_path: Path) -> None:
    store = new_store(tmp_path, DISCRETE)
    space = store.record.space
    listed = [space.config_at(index) for index in range(12)]
    first = propose(proposer_for(store, "exhaustive"), 5)
    assert first == listed[:5]
    for place, params in enumerate(first):
        assert params is not None
        tell(store, params, None, place)
    assert propose(proposer_for(store, "exhaustive"), 8) == [*listed[5:], None]


def test_exhaustive_fills_the_gaps_first(tmp_path: Path) -> None:
    store = new_store(tmp_path, DISCRETE)
    space = store.record.space
    for index in (0, 1, 3):
        tell(store, space.config_at(index), 0.5)
    assert propose(proposer_for(store, "exhaustive"), 3) == [space.config_at(index) for index in (2, 4, 5)]


def test_a_proposal_that_is_not_taken_is_made_again(tmp_path: Path) -> None:
    proposer = proposer_for(new_store(tmp_path, DISCRETE), "exhaustive")
    assert proposer.propose() == proposer.propose()


@pytest.mark.parametrize("entries", [DISCRETE, ENDLESS], ids=["discrete", "endless"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_proposes_the_same_and_another_seed_something_else(
    sampler: str, entries: dict[str, Any], tmp_path: Path
) -> None:
    def proposals(name: str, seed: int) -> list[Params | None]:
        store = new_store(tmp_path / name, entries)
        proposer, found = proposer_for(store, sampler, seed), []
        for _ in range(12):
            params = proposer.propose()
            assert params is not None
            proposer.mark_seen(params)
            tell(store, params, float(params["train.batch_size"]))
            found.append(params)
        return found

    first = proposals("a", seed=1)
    assert proposals("b", seed=1) == first
    assert proposals("c", seed=2) != first


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_endless_space_is_never_exhausted_and_every_proposal_lies_in_it(sampler: str, tmp_path: Path) -> None:
    store = new_store(tmp_path, ENDLESS)
    proposer = proposer_for(store, sampler)
    for place in range(40):
        params = proposer.propose()
        assert params is not None
        assert store.record.space.contains(params)
        assert list(params) == list(ENDLESS)
        assert params["head.dropout"] == 0.1, "the only value there is"
        proposer.mark_seen(params)
        tell(store, params, 0.5 if place % 2 else None, place)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_space_of_one_configuration_is_exhausted_after_it(sampler: str, tmp_path: Path) -> None:
    store = new_store(tmp_path, {"head.pooling": {"choices": ["cls"]}, "tok.max_length": {"low": 64, "high": 64}})
    proposer = proposer_for(store, sampler)
    assert propose(proposer, 2) == [{"head.pooling": "cls", "tok.max_length": 64}, None]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_nothing_is_written_to_the_study_by_proposing(sampler: str, tmp_path: Path) -> None:
    store = new_store(tmp_path, ENDLESS)
    for place in range(15):
        tell(store, store.record.space.sample(random.Random(place)), place / 15)
    size = (tmp_path / "study.journal").stat().st_size
    propose(proposer_for(store, sampler), 5)
    assert (tmp_path / "study.journal").stat().st_size == size


def distance(params: Params) -> float:
    """Return the height of a bowl over the learning rate and a choice: 0 is best, at 0.5 and "b"."""
    return abs(float(params["optim.lr"]) - 0.5) + 0.3 * (params["head.pooling"] != "b")


def best_distance(store: StudyStore, sampler: str, seed: int, trials: int) -> float:
    proposer = proposer_for(store, sampler, seed)
    best = float("inf")
    for _ in range(trials):
        params = proposer.propose()
        assert params is not None
        best = min(best, distance(params))
        tell(store, params, -distance(params))
    return best


def test_tpe_comes_closer_to_the_best_than_chance_does(tmp_path: Path) -> None:
    entries = {"optim.lr": {"low": 0.0, "high": 1.0}, "head.pooling": {"choices": ["a", "b", "c", "d"]}}
    found = {
        sampler: [
            best_distance(new_store(tmp_path / f"{sampler}-{seed}", entries), sampler, seed, trials=45)
            for seed in range(5)
        ]
        for sampler in ("tpe", "random")
    }
    assert sum(found["tpe"]) < 0.7 * sum(found["random"]), found


def proposals_beyond_the_limit(store: StudyStore, seed: int, tell_beyond: Any) -> int:
    """Count the proposals of 50 in the half of the space that cannot run, at whose edge the best value lies."""
    proposer = proposer_for(store, "tpe", seed)
    beyond = 0
    for _ in range(50):
        params = proposer.propose()
        assert params is not None
        lr = float(params["optim.lr"])
        if lr > 0.5:
            beyond += 1
            tell_beyond(params, lr / 0.5 - 1)
        else:
            tell(store, params, lr)
    return beyond


def test_tpe_learns_from_the_excess_of_trials_that_ran_out_of_memory(tmp_path: Path) -> None:
    entries = {"optim.lr": {"low": 0.0, "high": 1.0}, "head.dropout": {"low": 0.0, "high": 0.5}}
    oom = failed = 0
    for seed in range(3):
        store = new_store(tmp_path / f"oom-{seed}", entries)

        def run_out(params: Params, excess: float, store: StudyStore = store) -> None:
            store.close_trial(store.open_trial(params, {}), Outcome.OOM, constraints={"memory": excess})

        oom += proposals_beyond_the_limit(store, seed, run_out)
        store = new_store(tmp_path / f"failed-{seed}", entries)

        def fail(params: Params, excess: float, store: StudyStore = store) -> None:
            store.close_trial(store.open_trial(params, {}), Outcome.FAILED)

        failed += proposals_beyond_the_limit(store, seed, fail)
    assert oom < failed, "of failures it learns nothing"


def test_rejected_samples_teach_tpe_nothing(tmp_path: Path) -> None:
    def proposals(name: str, rejections: int) -> list[Params]:
        store = new_store(tmp_path / name, ENDLESS)
        proposer, found, rng = proposer_for(store, "tpe", seed=3), [], random.Random(0)
        for place in range(20):
            for _ in range(rejections):
                store.record_infeasible(store.record.space.sample(rng), [Violation("limit", "too large", 0.5)])
            params = proposer.propose()
            assert params is not None
            tell(store, params, place / 20)
            found.append(params)
        return found

    assert proposals("many", rejections=5) == proposals("none", rejections=0)


def test_stopped_and_open_trials_teach_tpe_by_what_their_reports_promise(tmp_path: Path) -> None:
    """Record complete trials far from the best value, stopped and open ones near it; expect proposals near these."""
    store = new_store(tmp_path, {"optim.lr": {"low": 0.0, "high": 1.0}})
    for place in range(20):
        early = place / 20
        number = store.open_trial({"optim.lr": early}, {})
        store.report(number, 1, early)
        if place < 10:
            store.report(number, 2, early + 0.1)
            store.close_trial(number, Outcome.COMPLETE, value=early + 0.1)
        elif place < 19:
            store.close_trial(number, Outcome.STOPPED)
    drawn = [params["optim.lr"] for params in itertools.islice(proposer_for(store, "tpe").proposals(), 24)]
    assert sum(float(value) for value in drawn[:8]) / 8 > 0.7


def test_candidates_of_one_draw_go_from_the_most_promising_downwards(tmp_path: Path) -> None:
    store = new_store(tmp_path, {"optim.lr": {"low": 0.0, "high": 1.0}})
    for place in range(40):
        tell(store, {"optim.lr": place / 40}, -abs(place / 40 - 0.5))
    candidates = [float(params["optim.lr"]) for params in itertools.islice(proposer_for(store, "tpe").proposals(), 24)]
    assert len(set(candidates)) == 24
    near, far = (sum(abs(value - 0.5) for value in part) for part in (candidates[:8], candidates[16:]))
    assert near < far


def test_the_random_start_is_spread_evenly(tmp_path: Path) -> None:
    entries = {"optim.lr": {"low": 0.0, "high": 1.0}, "model.name": {"choices": ["a", "b", "c", "d"]}}
    for seed in range(5):
        store = new_store(tmp_path / str(seed), entries)
        started = propose(proposer_for(store, "tpe", seed), 8)
        lrs = sorted(float(params["optim.lr"]) for params in started if params)
        assert [int(lr * 8) for lr in lrs] == list(range(8)), "one in each eighth of the range"
        assert sorted(str(params["model.name"]) for params in started if params) == sorted("aabbccdd")


def test_choices_that_are_numbers_are_learnt_by_their_rank(tmp_path: Path) -> None:
    batches = [8, 16, 32, 64, 128, 256]
    proposed = []
    for seed in range(6):
        store = new_store(
            tmp_path / str(seed),
            {"train.batch_size": {"choices": batches}, "optim.lr": {"low": 0.0, "high": 1.0}},
        )
        rng = random.Random(seed)
        for _ in range(30):
            # 128 is never tried: only its neighbours show that it is good.
            batch = rng.choice([8, 16, 32, 64, 256])
            tell(store, {"train.batch_size": batch, "optim.lr": rng.random()}, float(batch >= 64))
        proposed += [params["train.batch_size"] for params in propose(proposer_for(store, "tpe", seed), 4) if params]
    assert sum(batch >= 64 for batch in proposed) > 0.75 * len(proposed)
    assert 128 in proposed


@pytest.mark.parametrize(("sampler", "entries"), [("exhaustive", ENDLESS), ("grid", DISCRETE)])
def test_a_sampler_that_cannot_be_is_refused(sampler: str, entries: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"search\.sampler"):
        proposer_for(new_store(tmp_path, entries), sampler)


def test_trials_in_progress_are_kept_away_from_by_tpe(tmp_path: Path) -> None:
    store = new_store(tmp_path, {"optim.lr": {"low": 0.0, "high": 1.0}})
    proposer = proposer_for(store, "tpe")
    for place in range(20):
        tell(store, {"optim.lr": place / 20}, -abs(place / 20 - 0.5))
    asked = []
    for _ in range(6):
        params = proposer.propose()
        assert params is not None
        store.open_trial(params, {})
        asked.append(float(params["optim.lr"]))
    assert len({round(value, 6) for value in asked}) == 6
    assert all(trial.state == optuna.trial.TrialState.RUNNING for trial in store.trials()[20:])


def test_tpe_finds_the_corner_that_can_run_before_any_trial_was_launched(tmp_path: Path) -> None:
    entries = {"optim.lr": {"low": 0.0, "high": 1.0}, "head.dropout": {"low": 0.0, "high": 0.5}}
    rejected = {"tpe": 0, "random": 0}
    for sampler, seed in ((sampler, seed) for sampler in rejected for seed in range(5)):
        store = new_store(tmp_path / f"{sampler}-{seed}", entries)
        # As a search does it: take one list of proposals in order, and record the rejected ones.
        for params in itertools.islice(proposer_for(store, sampler, seed).proposals(), 1000):
            if float(params["optim.lr"]) < 0.005:
                break
            rejected[sampler] += 1
            excess = float(params["optim.lr"]) / 0.005 - 1
            store.record_infeasible(params, [Violation("limit", "too large", excess)])
    assert rejected["tpe"] < 0.5 * rejected["random"], rejected


CONDITIONAL = {
    "loss.name": {"choices": ["cross_entropy", "focal"]},
    "loss.gamma": {"low": 1, "high": 5},
    "head.dropout": {"choices": [0.0, 0.1]},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_values_that_nothing_reads_make_no_two_configurations_of_one(sampler: str, tmp_path: Path) -> None:
    store = new_store(tmp_path, CONDITIONAL)
    proposer = proposer_for(store, sampler)
    proposed = []
    for place in range(12):
        params = proposer.propose()
        assert params is not None
        proposer.mark_seen(params)
        tell(store, params, place / 12)
        proposed.append(params)
    assert proposer.propose() is None
    plain = [params for params in proposed if params["loss.name"] == "cross_entropy"]
    assert [params["loss.gamma"] for params in plain] == [1, 1]
    assert len({tuple(params.values()) for params in proposed}) == 12


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_endless_space_is_exhausted_only_where_nothing_endless_is_read(sampler: str, tmp_path: Path) -> None:
    entries = {"loss.name": {"choices": ["cross_entropy", "focal"]}, "loss.gamma": {"low": 1.0, "high": 5.0}}
    store = new_store(tmp_path, entries)
    proposer = proposer_for(store, sampler)
    proposed = []
    for place in range(30):
        params = proposer.propose()
        assert params is not None
        proposer.mark_seen(params)
        tell(store, params, place / 30)
        proposed.append(params["loss.name"])
    assert proposed.count("cross_entropy") == 1
    assert proposed.count("focal") == 29
    only = new_store(tmp_path / "only", {"optim.lr": {"low": 0.5, "high": 0.5}})
    assert propose(proposer_for(only, sampler), 2) == [{"optim.lr": 0.5}, None]


def test_trials_that_were_recorded_before_there_were_conditions_count_as_seen(tmp_path: Path) -> None:
    store = new_store(tmp_path, CONDITIONAL)
    tell(store, {"loss.name": "cross_entropy", "loss.gamma": 4, "head.dropout": 0.0}, 0.5)
    proposed = propose(proposer_for(store, "exhaustive"), 12)
    assert proposed[-1] is None
    assert {"loss.name": "cross_entropy", "loss.gamma": 1, "head.dropout": 0.0} not in proposed
