"""Real Ray runs in which the schedulers stop the right trials and lose none."""

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def outcomes(store: Any) -> dict[float, str]:
    return {trial.params["optim.lr"]: trial.user_attrs["outcome"] for trial in store.trials()}


def reported(store: Any) -> dict[float, list[int]]:
    return {trial.params["optim.lr"]: sorted(trial.intermediate_values) for trial in store.trials()}


def test_asha_pauses_the_first_trial_until_it_has_company_and_stops_the_worse_half(run_scripted: Any) -> None:
    order = "[0.9, 0.5, 0.3, 0.95]"
    end, store, _ = run_scripted(
        lambda settings, epoch: settings.optim.lr,
        "scheduler.name=asha",
        "scheduler.warmup=2",
        "scheduler.reduction_factor=2",
        f"space.optim.lr.choices={order}",
    )
    assert outcomes(store) == {0.9: "complete", 0.5: "stopped", 0.3: "stopped", 0.95: "complete"}
    assert store.trials()[0].user_attrs["resumed_at"] == 2, "it was paused and went on from its checkpoint"
    assert reported(store)[0.3] == [1, 2], "it was stopped at the end of the warm-up, and its reports stand"
    assert "asha stopped it after epoch 2 of 4" in store.trials()[2].user_attrs["reason"]
    assert end.status.best.value == 0.95


# Nine epochs and reduction 3 make brackets of 3 trials that run through, 5 that are halved after 3 epochs, and 9 that
# are halved after 1 and 3.
RISING = [round(0.01 + 0.05 * place, 2) for place in range(17)]


def test_hyperband_pauses_trials_resumes_the_best_and_stops_the_rest(run_scripted: Any) -> None:
    end, store, _ = run_scripted(
        lambda settings, epoch: settings.optim.lr,
        "scheduler.name=hyperband",
        "scheduler.reduction_factor=3",
        "train.epochs=9",
        "search.trials=17",
        f"space.optim.lr.choices={RISING}",
    )
    ran = [len(trial.intermediate_values) for trial in store.trials()]
    assert ran == [9, 9, 9, 3, 3, 3, 9, 9, 1, 1, 1, 1, 1, 1, 3, 3, 9]
    whole = [trial.user_attrs["outcome"] == "complete" for trial in store.trials()]
    assert whole == [epochs == 9 for epochs in ran]
    assert store.trials()[16].user_attrs["resumed_at"] == 3, "it was paused and went on from its checkpoint"
    assert end.status.trials["stopped"] == 11
    assert end.status.best.value == max(RISING)


def test_hyperband_does_not_wait_for_a_trial_that_failed(run_scripted: Any) -> None:
    def script(settings: Any, epoch: int) -> float:
        if settings.optim.lr == RISING[7] and epoch == 5:
            raise ZeroDivisionError
        return float(settings.optim.lr)

    _, store, _ = run_scripted(
        script,
        "scheduler.name=hyperband",
        "scheduler.startup_trials=1",
        "scheduler.warmup=2",
        "train.epochs=9",
        "search.trials=9",
        f"space.optim.lr.choices={RISING[:9]}",
    )
    became = list(outcomes(store).values())
    # The first trial is outside the brackets. Then 3 run through and 5 are halved; of the two best of these, one fails.
    assert became == ["complete"] * 4 + ["stopped"] * 3 + ["failed", "complete"]


def test_a_search_takes_up_again_where_it_stopped_extends_and_ends_with_its_space(run_scripted: Any) -> None:
    def launched(trials: int) -> Any:
        return run_scripted(lambda settings, epoch: settings.optim.lr, f"search.trials={trials}", "train.epochs=1")

    first, _, _ = launched(1)
    second, store, _ = launched(2)
    assert (first.status.launched, second.status.launched) == (1, 2)
    assert [trial.params["optim.lr"] for trial in store.trials()] == [0.1, 0.2]
    end, store, _ = launched(50)
    assert "exhausted" in end.why
    assert [trial.params["optim.lr"] for trial in store.trials()] == [0.1, 0.2, 0.3, 0.4]
    assert all(trial.state.is_finished() for trial in store.trials())
