"""Ray's schedulers as a search uses them: in epochs or folds, leaving the first trials alone.

They are deaf to reports of an end, and to those from within a fold.
"""

from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, HyperBandScheduler, TrialScheduler
from ray.tune.schedulers.hyperband import _Bracket

METRIC, TIME = "value", "step"
ENDED, FOLD_EPOCH = "ended", "fold_epoch"


class LenientAsha(ASHAScheduler):
    """ASHA that never stops the first ``startup_trials``; their results count for the trials after them."""

    def __init__(self, *, startup_trials: int, **options: Any) -> None:
        super().__init__(**options)
        self._left_alone = startup_trials
        self._protected: set[str] = set()

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if len(self._protected) < self._left_alone:
            self._protected.add(trial.trial_id)
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if _decides_nothing(result):
            return TrialScheduler.CONTINUE
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if trial.trial_id in self._protected:
            return TrialScheduler.CONTINUE
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        if result.get(ENDED) in (None, "complete"):
            super().on_trial_complete(tune_controller, trial, result)


class _WholeBracket(_Bracket):
    """A bracket that is full once as many trials were added as it holds, also after some of them have ended.

    Ray's own counts the living: where trials run one after another, each ends before the next is added, and the first
    bracket, in which nothing is ever stopped, takes them all.
    """

    def filled(self) -> bool:
        return len(self._all_trials) >= self._n0


class LenientHyperBand(HyperBandScheduler):
    """HyperBand whose brackets begin at ``warmup`` steps or later, beside which the first trials run to their end."""

    def __init__(self, *, startup_trials: int, warmup: int, **options: Any) -> None:
        super().__init__(**options)
        self._left_alone = startup_trials
        self._protected: dict[str, Trial] = {}
        self._get_n0: Callable[[int], int]
        first_rung: Callable[[int], int] = self._get_r0

        def first_rung_after_warmup(bracket: int) -> int:
            # HyperBand itself skips a bracket that would begin at 0 steps.
            return first_rung(bracket) if first_rung(bracket) >= warmup else 0

        self._get_r0: Callable[[int], int] = first_rung_after_warmup

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if len(self._protected) < self._left_alone:
            self._protected[trial.trial_id] = trial
        else:
            super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if _decides_nothing(result) or trial.trial_id in self._protected:
            # A trial that reports its end ends by itself; its bracket hears of it then.
            return TrialScheduler.CONTINUE
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return decision

    def _create_bracket(self, s: int) -> _Bracket:
        return _WholeBracket(
            time_attr=self._time_attr,
            max_trials=self._get_n0(s),
            init_t_attr=self._get_r0(s),
            max_t_attr=self._max_t_attr,
            eta=self._eta,
            s=s,
            stop_last_trials=self._stop_last_trials,
        )

    def _process_bracket(self, tune_controller: Any, bracket: _Bracket) -> str:
        # Ray sets this mark and never takes it back, so that a trial which fails after the first halving would leave
        # those that wait for it paused for ever.
        try:
            decision: str = super()._process_bracket(tune_controller, bracket)
            return decision
        finally:
            bracket.is_being_processed = False

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        if trial.trial_id not in self._protected:
            super().on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        waiting = [trial for trial in self._protected.values() if trial.status == Trial.PENDING]
        return waiting[0] if waiting else super().choose_trial_to_run(tune_controller)


def _decides_nothing(result: dict[str, Any]) -> bool:
    """Whether a report says that the trial ends anyway, or was made within a fold."""
    return bool(result.get(ENDED)) or result.get(FOLD_EPOCH) is not None


def build_scheduler(
    name: str, *, steps: int, warmup: int, reduction_factor: int, startup_trials: int
) -> TrialScheduler:
    """The scheduler for the setting ``scheduler.name``.

    Args:
        steps: of a complete trial: its epochs, or its folds. All counts of them are a trial's own, absolute ones.

    Raises:
        ValueError: the name is unknown.
    """
    common = {"time_attr": TIME, "metric": METRIC, "mode": "max", "max_t": steps, "reduction_factor": reduction_factor}
    if name == "asha":
        # A trial ends by itself at its last step, with an outcome; the scheduler must not end it unheard.
        return LenientAsha(**common, startup_trials=startup_trials, grace_period=warmup, stop_last_trials=False)
    if name == "hyperband":
        # Rungs grow by the reduction factor, and the last may lie before a trial's end; survivors go on to that.
        return LenientHyperBand(**common, startup_trials=startup_trials, warmup=warmup, stop_last_trials=False)
    if name == "none":
        return FIFOScheduler()
    raise ValueError(f"scheduler.name: {name!r} is not asha, hyperband or none")
