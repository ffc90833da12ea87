"""Optuna's private names: they behave as the sampler requires; an upgrade that changes one fails here first."""

import inspect
from importlib.metadata import version

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe import parzen_estimator, sampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_app.sampling.private import CandidateTpe, ChildNsga, Columns

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "batch": IntDistribution(0, 4),
    "pooling": CategoricalDistribution(("cls", "mean")),
}


def trial(
    value: float | None, state: TrialState = TrialState.COMPLETE, excess: float | None = None, **params: object
) -> FrozenTrial:
    given = {"lr": 1e-3, "batch": 2, "pooling": "cls", **params}
    made = create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params=given,
        distributions=SPACE,
        intermediate_values={1: value} if value is not None and state == TrialState.PRUNED else None,
        constraints=None if excess is None else {"memory": excess},
    )
    return made


def columns(trials: list[FrozenTrial]) -> Columns:
    return {
        name: np.array([dist.to_internal_repr(trial.params[name]) for trial in trials], dtype=float)
        for name, dist in SPACE.items()
    }


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(direction="maximize")


def test_the_names_were_read_in_this_version() -> None:
    assert version("optuna").startswith("5.0."), "read tune_app/sampling/private.py against the new version"


def test_the_private_functions_take_what_they_are_given() -> None:
    assert list(inspect.signature(sampler._split_trials).parameters) == ["study", "trials", "n_below"]
    assert list(inspect.signature(TPESampler._build_parzen_estimator).parameters)[1:] == [
        "study",
        "search_space",
        "trials",
        "handle_below",
    ]
    assert list(inspect.signature(TPESampler._compute_acquisition_func).parameters)[1:] == [
        "samples",
        "mpe_below",
        "mpe_above",
    ]
    assert list(inspect.signature(parzen_estimator._ParzenEstimator.sample).parameters)[1:] == ["rng", "size"]
    assert (sampler.default_gamma(10), sampler.default_gamma(1000)) == (1, 25)


def test_trials_are_split_by_value_then_progress_then_excess(study: optuna.Study) -> None:
    best, good = trial(0.9), trial(0.5)
    late, oom = trial(0.7, TrialState.PRUNED), trial(None, TrialState.PRUNED, excess=0.5)
    running = trial(None, TrialState.RUNNING)
    for number, each in enumerate([oom, running, late, good, best]):
        each.number = number
    for below, expected in ((1, [best]), (2, [good, best]), (3, [late, good, best]), (4, [oom, late, good, best])):
        found, rest = sampler._split_trials(study, [oom, running, late, good, best], below)
        assert found == expected
        assert running in rest, "a running trial is never among the good"


@pytest.mark.parametrize("floor", [0.0, 0.15, 0.5])
def test_no_numeric_kernel_is_narrower_than_the_floor(floor: float, study: optuna.Study) -> None:
    tpe = CandidateTpe(seed=0, least_bandwidth=floor, columns=columns)  # type: ignore[arg-type]
    trials = [trial(place / 100, lr=1e-3, batch=2) for place in range(100)]
    estimator = tpe._build_parzen_estimator(study, SPACE, trials, handle_below=False)
    lr, batch, pooling = estimator._mixture_distribution.distributions
    assert not hasattr(pooling, "sigma")
    for kernels, width in ((lr, np.log(1e-1) - np.log(1e-5)), (batch, 5.0)):
        narrowest = kernels.sigma.min() / width  # type: ignore[union-attr]
        assert narrowest == pytest.approx(max(floor, 0.01), rel=0.35), "Optuna's own floor is a hundredth"


def test_candidates_come_in_lots_by_falling_gain(study: optuna.Study) -> None:
    tpe = CandidateTpe(seed=0, least_bandwidth=0.15, columns=columns)  # type: ignore[arg-type]
    trials = [trial(-abs(np.log10(lr) + 3), lr=float(lr)) for lr in np.logspace(-4.9, -1.1, 40)]
    drawn = list(tpe.candidates(study, trials, SPACE, lots=2, size=24))
    assert len(drawn) == 48
    for params in drawn:
        assert params["pooling"] in ("cls", "mean")
        assert 1e-5 <= params["lr"] <= 1e-1
        assert params["batch"] in range(5)
    distance = [abs(np.log10(params["lr"]) + 3) for params in drawn]
    for lot in (distance[:24], distance[24:]):
        assert np.mean(lot[:8]) < np.mean(lot[16:])


def test_a_child_has_values_between_or_near_those_of_the_best(study: optuna.Study) -> None:
    nsga = ChildNsga(seed=0, population=5, mutation_eta=5)
    trials = [trial(-abs(np.log10(lr) + 3), lr=float(lr)) for lr in np.logspace(-4.9, -1.1, 41)]
    children = [nsga.child(study, trials, SPACE) for _ in range(30)]
    lrs = [abs(np.log10(child["lr"]) + 3) for child in children if "lr" in child]
    assert len(lrs) > 20
    assert np.median(lrs) < 0.5
