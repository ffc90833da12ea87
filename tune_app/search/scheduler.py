"""Ray's schedulers as a search uses them: in epochs or folds, leaving the first trials alone.

They are deaf to reports of an end, and to those from within a fold. Of a resumed search they know what its trials have
reported: who is left alone is counted over the whole study, and ASHA's rungs are filled anew. HyperBand begins with new
brackets, since in one of its own all trials are alive.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, HyperBandScheduler, TrialScheduler
from ray.tune.schedulers.hyperband import _Bracket

from tune_app.search.searcher import NUMBER

METRIC, TIME = "value", "step"

# ASHA asks nothing of it.
_NO_CONTROLLER: Any = None
ENDED, FOLD_EPOCH = "ended", "fold_epoch"


@dataclass(frozen=True)
class PastTrial:
    """A launched trial of a study that is resumed.

    Attributes:
        values: what it reported, by step.
        is_open: it was cut short, and is taken up again.
    """

    number: int
    values: Mapping[int, float]
    is_open: bool


class _LeftAlone:
    """The first so many trials of a study."""

    def __init__(self, most: int, past: Sequence[PastTrial]) -> None:
        self._most = most
        self._numbers = set(sorted(trial.number for trial in past)[:most])

    def add(self, trial: Trial) -> bool:
        """Whether a trial that is added is one of them."""
        if len(self._numbers) < self._most:
            self._numbers.add(_number(trial))
        return trial in self

    def __contains__(self, trial: Trial) -> bool:
        return _number(trial) in self._numbers


def _number(trial: Trial) -> int:
    return int(trial.config[NUMBER])


class LenientAsha(ASHAScheduler):
    """ASHA that never stops the first ``startup_trials``; their results count for the trials after them."""

    def __init__(self, *, startup_trials: int, past: Sequence[PastTrial], **options: Any) -> None:
        super().__init__(**options)
        self._left_alone = _LeftAlone(startup_trials, past)
        self._cut_short = {trial.number: trial for trial in past if trial.is_open}
        for trial in past:
            if not trial.is_open:
                ended: Any = SimpleNamespace(trial_id=f"trial-{trial.number}")
                super().on_trial_add(_NO_CONTROLLER, ended)
                self._fill_rungs(ended, trial)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._left_alone.add(trial)
        super().on_trial_add(tune_controller, trial)
        if _number(trial) in self._cut_short:
            self._fill_rungs(trial, self._cut_short.pop(_number(trial)))

    def _fill_rungs(self, trial: Trial, past: PastTrial) -> None:
        for step, value in sorted(past.values.items()):
            super().on_trial_result(_NO_CONTROLLER, trial, {TIME: step, METRIC: value})

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if _decides_nothing(result):
            return TrialScheduler.CONTINUE
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if trial in self._left_alone else decision

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

    def __init__(self, *, startup_trials: int, past: Sequence[PastTrial], warmup: int, **options: Any) -> None:
        super().__init__(**options)
        self._left_alone = _LeftAlone(startup_trials, past)
        self._beside: list[Trial] = []
        self._get_n0: Callable[[int], int]
        first_rung: Callable[[int], int] = self._get_r0

        def first_rung_after_warmup(bracket: int) -> int:
            # HyperBand itself skips a bracket that would begin at 0 steps.
            return first_rung(bracket) if first_rung(bracket) >= warmup else 0

        self._get_r0: Callable[[int], int] = first_rung_after_warmup

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if self._left_alone.add(trial):
            self._beside.append(trial)
        else:
            super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if _decides_nothing(result) or trial in self._left_alone:
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
        if trial not in self._left_alone:
            super().on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        waiting = [trial for trial in self._beside if trial.status == Trial.PENDING]
        return waiting[0] if waiting else super().choose_trial_to_run(tune_controller)


def _decides_nothing(result: dict[str, Any]) -> bool:
    """Whether a report says that the trial ends anyway, or was made within a fold."""
    return bool(result.get(ENDED)) or result.get(FOLD_EPOCH) is not None


def build_scheduler(
    name: str,
    *,
    steps: int,
    warmup: int,
    reduction_factor: int,
    startup_trials: int,
    past: Sequence[PastTrial] = (),
) -> TrialScheduler:
    """The scheduler for the setting ``scheduler.name``.

    Args:
        steps: of a complete trial: its epochs, or its folds. All counts of them are a trial's own, absolute ones.
        past: the launched trials that the study holds already.

    Raises:
        ValueError: the name is unknown.
    """
    common: dict[str, Any] = {"time_attr": TIME, "metric": METRIC, "mode": "max", "max_t": steps}
    common |= {"reduction_factor": reduction_factor, "startup_trials": startup_trials, "past": past}
    if name == "asha":
        # A trial ends by itself at its last step, with an outcome; the scheduler must not end it unheard.
        return LenientAsha(**common, grace_period=warmup, stop_last_trials=False)
    if name == "hyperband":
        # Rungs grow by the reduction factor, and the last may lie before a trial's end; survivors go on to that.
        return LenientHyperBand(**common, warmup=warmup, stop_last_trials=False)
    if name == "none":
        return FIFOScheduler()
    raise ValueError(f"scheduler.name: {name!r} is not asha, hyperband or none")
