"""Finished trials in another space: one is carried over where it could have been trained."""

from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from tune_app.config import RunConfig, parse_config
from tune_app.outcomes import CARRIED_ATTRIBUTE, Origin, carried_from
from tune_app.study.carry_over import Misfit, carry_over, params_in_space
from tune_app.study.record import StudyRecord

SPACE: dict[str, Any] = {
    "train.batch_size": {"choices": [8, 16]},
    "optim.lr": {"low": 1e-5, "high": 1e-3, "log": True},
    "loss.name": {"choices": ["cross_entropy", "focal"]},
    "loss.gamma": {"choices": [1.0, 2.0, 3.0]},
}
PARAMS: dict[str, Any] = {"train.batch_size": 16, "optim.lr": 1e-4, "loss.name": "focal", "loss.gamma": 3.0}
UNREAD: dict[str, Any] = {**PARAMS, "loss.name": "cross_entropy", "loss.gamma": 2.0}


def configured(space: dict[str, Any], *overrides: str) -> RunConfig:
    entries = {name: entry for name, entry in space.items() if entry is not None}
    return parse_config({"study": {"name": "x"}, "data": {"path": "demo"}, "space": entries}, overrides)


def recorded(config: RunConfig, **changes: Any) -> StudyRecord:
    assert config.space is not None
    values: dict[str, Any] = {
        "space": config.space,
        "task": config.task.name,
        "metric": config.objectives[0].name,
        "mode": "max",
        "data_fingerprint": "d",
        "fixed": config.fixed_for_study(),
    }
    return StudyRecord(**{**values, **changes})


def refit(params: dict[str, Any], there: RunConfig, here: RunConfig) -> Any:
    return params_in_space(params, recorded(there), recorded(here), here.active_space())


FITS: list[tuple[str, dict[str, Any], dict[str, Any], list[str], dict[str, Any]]] = [
    ("nothing changed", PARAMS, {}, [], {}),
    ("choices added", PARAMS, {"train.batch_size": {"choices": [8, 16, 32]}}, [], {}),
    ("the other choice removed", PARAMS, {"train.batch_size": {"choices": [16]}}, [], {}),
    ("choices to a range", PARAMS, {"train.batch_size": {"low": 8, "high": 64, "step": 8}}, [], {}),
    ("a range to choices", PARAMS, {"optim.lr": {"choices": [1e-4, 1e-5]}}, [], {}),
    ("a narrower range", PARAMS, {"optim.lr": {"low": 5e-5, "high": 2e-4}}, [], {}),
    ("whole numbers where there were floats", PARAMS, {"loss.gamma": {"choices": [3, 5]}}, [], {"loss.gamma": 3}),
    ("an entry added: its fixed value", PARAMS, {"train.grad_accum": {"choices": [1, 2]}}, [], {"train.grad_accum": 1}),
    ("an entry added that nothing reads", PARAMS, {"head.width": {"choices": [64]}, "head.layers": {"choices": [0, 1]}},
     [], {"head.width": 64, "head.layers": 0}),
    ("an entry dropped, fixed to that value", PARAMS, {"train.batch_size": None}, ["train.batch_size=16"],
     {"train.batch_size": None}),
    ("an entry dropped that the trial did not read", UNREAD, {"loss.gamma": None}, ["loss.gamma=9"],
     {"loss.gamma": None}),
    ("its unread value is no choice any more", UNREAD, {"loss.gamma": {"choices": [4.0, 5.0]}}, [],
     {"loss.gamma": 4.0}),
    ("its unread value rests at the fixed one", UNREAD, {}, ["loss.gamma=3.0"], {"loss.gamma": 3.0}),
    ("an entry dropped that changes no value", {**PARAMS, "train.checkpointing": True}, {}, [],
     {"train.checkpointing": None}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("params", "changes", "overrides", "expected"), [row[1:] for row in FITS], ids=[r[0] for r in FITS]
)
def test_a_trial_fits_where_all_that_it_read_is_allowed(
    params: dict[str, Any], changes: dict[str, Any], overrides: list[str], expected: dict[str, Any]
) -> None:
    here = configured({**SPACE, **changes}, *overrides)
    wanted = {name: value for name, value in {**params, **expected}.items() if value is not None}
    found = refit(params, configured(SPACE), here)
    assert found == wanted
    assert here.space is not None
    assert here.space.contains(found)
    assert here.active_space().normalised(found) == found


MISFITS: list[tuple[str, dict[str, Any], dict[str, Any], list[str], str]] = [
    ("its choice removed", PARAMS, {"train.batch_size": {"choices": [8]}}, [],
     "train.batch_size 16 is not in the space"),
    ("outside the range", PARAMS, {"optim.lr": {"low": 1e-6, "high": 1e-5}}, [], "optim.lr is not in the space"),
    ("an entry added without the value it had", PARAMS, {"train.grad_accum": {"choices": [2, 4]}}, [],
     "train.grad_accum 1 is not in the space"),
    ("an entry added, once as the model has it", PARAMS, {"model.dropout": {"choices": [0.1]}}, [],
     "model.dropout null is not in the space"),
    ("an entry dropped, fixed to another value", PARAMS, {"train.batch_size": None}, ["train.batch_size=8"],
     "train.batch_size 16 is not the fixed 8"),
    ("an entry dropped that it read", PARAMS, {"loss.gamma": None}, ["loss.gamma=9"],
     "loss.gamma is not the fixed value"),
    ("true is not 1", PARAMS, {"train.checkpointing": {"choices": [True]}}, ["train.batch_size=8"],
     "train.checkpointing false is not in the space"),
    ("another fixed setting", PARAMS, {}, ["model.name=tiny-bert"],
     'model.name "minilm-l6" is not the fixed "tiny-bert"'),
    ("another seed", PARAMS, {}, ["search.seed=1"], "search.seed 0 is not the fixed 1"),
    ("folds", PARAMS, {}, ["data.folds=5", "scheduler.name=none"], "data.folds null is not the fixed 5"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("params", "changes", "overrides", "reason"), [row[1:] for row in MISFITS], ids=[row[0] for row in MISFITS]
)
def test_a_trial_that_read_something_else_does_not_fit(
    params: dict[str, Any], changes: dict[str, Any], overrides: list[str], reason: str
) -> None:
    assert refit(params, configured(SPACE), configured({**SPACE, **changes}, *overrides)) == Misfit(reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data_fingerprint": "other"}, "data differs"),
        ({"task": "evidence"}, "task.name differs"),
        ({"metric": "auc"}, "search.metric differs"),
    ],
)
def test_nothing_fits_other_data_or_another_objective(changes: dict[str, Any], reason: str) -> None:
    config = configured(SPACE)
    here = recorded(config, **changes)
    assert params_in_space(PARAMS, recorded(config), here, config.active_space()) == Misfit(reason)


def test_a_setting_that_the_old_study_does_not_know_is_as_the_configuration_has_it() -> None:
    config = configured({**SPACE, "augment.name": {"choices": ["none", "mask"]}})
    there = recorded(configured(SPACE))
    unknown = {name: value for name, value in there.fixed.items() if name != "augment.name"}
    before = StudyRecord(there.space, there.task, there.metric, there.mode, there.data_fingerprint, unknown)
    assert params_in_space(PARAMS, before, recorded(config), config.active_space()) == {
        **PARAMS,
        "augment.name": "none",
    }


def trial(number: int, lr: float, **kwargs: Any) -> Any:
    made = create_trial(
        params={"optim.lr": lr}, distributions={"optim.lr": FloatDistribution(0, 1)}, **{"value": 0.5, **kwargs}
    )
    made.number = number
    return made


def test_every_trial_is_carried_over_once_with_where_it_came_from() -> None:
    config = configured({"optim.lr": {"low": 1e-5, "high": 0.5}})
    record = recorded(config)
    first = [
        trial(
            0,
            0.1,
            user_attrs={"peak_gib": 1.5, "checkpoint": "/a", "best_checkpoint": "/b"},
        ),
        trial(1, 0.9),
        trial(2, 0.2, state=TrialState.RUNNING, value=None),
        trial(3, 0.3, state=TrialState.PRUNED, value=None, constraints={"memory": 0.5}, intermediate_values={1: 0.4}),
        trial(4, 0.4, state=TrialState.FAIL, value=None),
    ]
    wider = recorded(configured({"optim.lr": {"low": 1e-5, "high": 1.0}}))
    second = [trial(0, 0.1, user_attrs={CARRIED_ATTRIBUTE: {"study": "x", "trial": 0}}), trial(1, 0.45)]
    sources = [("x", wider, first), ("x-v2", wider, second)]
    distributions = {"optim.lr": FloatDistribution(1e-5, 0.5)}
    found = carry_over(sources, record, config.active_space(), distributions, known=[Origin("x", 4)])
    assert [carried_from(carried) for carried in found.trials] == [Origin("x", 0), Origin("x", 3), Origin("x-v2", 1)]
    assert dict(found.left) == {"optim.lr is not in the space": 1}
    best, out_of_memory, _ = found.trials
    assert best.user_attrs == {"peak_gib": 1.5, CARRIED_ATTRIBUTE: {"study": "x", "trial": 0}}, "no checkpoint"
    assert best.value == 0.5
    assert (best.datetime_start, best.datetime_complete) == (first[0].datetime_start, first[0].datetime_complete)
    assert (out_of_memory.state, out_of_memory.constraints) == (TrialState.PRUNED, {"memory": 0.5})
    assert out_of_memory.intermediate_values == {1: 0.4}
    assert str(Origin("x", 3)) == "trial 3 of x"


DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "train.batch_size": CategoricalDistribution((8, 16)),
    "optim.lr": FloatDistribution(1e-5, 1e-3, log=True),
    "loss.name": CategoricalDistribution(("cross_entropy", "focal")),
    "loss.gamma": CategoricalDistribution((1.0, 2.0, 3.0)),
}


def carried_reports(there: int, here: int, reports: dict[int, float]) -> dict[int, float]:
    """Carry a stopped trial over between studies with so many reports an epoch; return its reports there."""
    config = configured(SPACE)
    trial = create_trial(
        state=TrialState.PRUNED,
        params=PARAMS,
        distributions={name: DISTRIBUTIONS[name] for name in PARAMS},
        intermediate_values=reports,
        user_attrs={"outcome": "stopped", "metrics.epoch_1": {"auc": 0.5}},
    )
    old, new = recorded(config, per_epoch=there), recorded(config, per_epoch=here)
    found = carry_over([("old", old, [trial])], new, config.active_space(), DISTRIBUTIONS)
    (carried,) = found.trials
    assert ("metrics.epoch_1" in carried.user_attrs) == (there == here)
    return dict(carried.intermediate_values)


def test_reports_are_counted_anew_where_there_are_more_or_fewer_in_an_epoch() -> None:
    assert carried_reports(1, 1, {1: 0.5, 2: 0.6}) == {1: 0.5, 2: 0.6}
    assert carried_reports(1, 4, {1: 0.5, 2: 0.6}) == {4: 0.5, 8: 0.6}
    assert carried_reports(4, 2, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}) == {1: 0.2, 2: 0.4}
    assert carried_reports(4, 1, {1: 0.1, 2: 0.2}) == {}, "no whole epoch was reported"


def test_a_trial_does_not_fit_where_its_models_folder_holds_something_else() -> None:
    config = configured(SPACE, "model.name=tiny-bert")
    there = recorded(config, models={"tiny-bert": "a", "other": "b"})

    def fit(models: dict[str, str]) -> Any:
        return params_in_space(PARAMS, there, recorded(config, models=models), config.active_space())

    assert fit({"tiny-bert": "x"}) == Misfit("the folder of model tiny-bert differs")
    for models in ({"tiny-bert": "a"}, {"tiny-bert": "a", "other": "y"}, {}):
        assert not isinstance(fit(models), Misfit)
