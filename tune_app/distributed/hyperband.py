"""Ray's HyperBand, adapted to a search."""

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from tune_app.distributed.messages import STEP, VALUE, decides_nothing, number_of
from tune_app.distributed.private import WholeHyperBand
from tune_app.distributed.scheduler import SchedulerFacts
from tune_app.distributed.spared import Spared


class LenientHyperBand(WholeHyperBand):
    """HyperBand whose brackets begin at ``warmup`` steps or later. Spared trials run to their end outside of them.

    A resumed search starts with new brackets, since a bracket needs all of its trials alive.
    """

    def __init__(self, *, spared: Spared, warmup: int, **options: Any) -> None:
        super().__init__(warmup=warmup, **options)
        self._spared = spared
        self._beside: list[Trial] = []

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that hold no slot, because they are paused."""
        return frozenset(number_of(trial) for trial in self.trials if trial.status == Trial.PAUSED)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if self._spared.add(trial):
            self._beside.append(trial)
        else:
            super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if decides_nothing(result) or number_of(trial) in self._spared:
            # A trial that reports its end ends by itself, and its bracket is informed then.
            return TrialScheduler.CONTINUE
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return decision

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        if number_of(trial) not in self._spared:
            super().on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        waiting = [trial for trial in self._beside if trial.status == Trial.PENDING]
        return waiting[0] if waiting else super().choose_trial_to_run(tune_controller)


def build(facts: SchedulerFacts) -> LenientHyperBand:
    return LenientHyperBand(
        time_attr=STEP,
        metric=VALUE,
        mode="max",
        max_t=facts.steps,
        reduction_factor=facts.reduction_factor,
        spared=facts.spared,
        warmup=facts.warmup,
        # The last rung may lie before a trial's end, and its survivors run to the end.
        stop_last_trials=False,
    )
