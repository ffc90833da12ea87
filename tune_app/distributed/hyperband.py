"""Ray's HyperBand, adapted to a search."""

from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler
from ray.tune.schedulers.hyperband import _Bracket

from tune_app.distributed.messages import decides_nothing, number_of
from tune_app.distributed.spared import Spared


class _WholeBracket(_Bracket):
    """Bracket that is full once enough trials were added, even if some of them have ended.

    Ray's own bracket counts only live trials. If trials run one after another, each ends before the next is added. The
    first bracket, which never stops a trial, would then take them all.
    """

    def filled(self) -> bool:
        return len(self._all_trials) >= self._n0


class LenientHyperBand(HyperBandScheduler):
    """HyperBand whose brackets begin at ``warmup`` steps or later. Spared trials run to their end outside of them.

    A resumed search starts with new brackets, since a bracket needs all of its trials alive.
    """

    def __init__(self, *, spared: Spared, warmup: int, **options: Any) -> None:
        super().__init__(**options)
        self._spared = spared
        self._beside: list[Trial] = []
        self._get_n0: Callable[[int], int]
        first_rung: Callable[[int], int] = self._get_r0

        def first_rung_after_warmup(bracket: int) -> int:
            # HyperBand skips a bracket whose first rung is at 0 steps.
            return first_rung(bracket) if first_rung(bracket) >= warmup else 0

        self._get_r0: Callable[[int], int] = first_rung_after_warmup

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

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that hold no slot, because they are paused."""
        return frozenset(number_of(trial) for trial in self._trial_info if trial.status == Trial.PAUSED)

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
        """Halve a bracket until one of its trials can go on.

        A retried or resumed trial enters a new bracket at the step that it had reached, perhaps beyond the bracket's
        next rung. Ray halves once and lets such trials wait for lower ones, even if there are none.
        """
        decision: str = TrialScheduler.PAUSE
        while bracket.current_trials():
            decision = self._halve(tune_controller, bracket)
            if decision != TrialScheduler.PAUSE or any(map(bracket.continue_trial, bracket.current_trials())):
                break
        return decision

    def _halve(self, tune_controller: Any, bracket: _Bracket) -> str:
        # Ray sets this mark and never resets it. A trial that fails after the first halving would leave the trials that
        # wait for it paused forever.
        try:
            decision: str = super()._process_bracket(tune_controller, bracket)
            return decision
        finally:
            bracket.is_being_processed = False

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        if number_of(trial) not in self._spared:
            super().on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        waiting = [trial for trial in self._beside if trial.status == Trial.PENDING]
        return waiting[0] if waiting else super().choose_trial_to_run(tune_controller)
