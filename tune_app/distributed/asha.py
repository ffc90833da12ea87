"""Ray scheduler on top of the ladder: waiting trials are paused, and resume from their checkpoints."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_app.distributed.ladder import Ladder, Rung, Verdict
from tune_app.distributed.messages import STEP, VALUE, decides_nothing, number_of
from tune_app.distributed.scheduler import SchedulerFacts
from tune_app.distributed.spared import PastTrial, Spared
from tune_app.schedulers import SCHEDULERS

_DECISIONS = {
    Verdict.GO: str(TrialScheduler.CONTINUE),
    Verdict.WAIT: str(TrialScheduler.PAUSE),
    Verdict.STOP: str(TrialScheduler.STOP),
}


@dataclass
class _Climb:
    """Trial in progress, with its last reported step and the rung that it waits at, if any."""

    trial: Trial
    step: int = 0
    rung: Rung | None = None


class Asha(FIFOScheduler):
    """ASHA that fills a rung before any of its trials continues alone, and never stops spared trials.

    A spared trial that is not among the best waits like any other, and runs to its end once no new trial comes. A
    resumed search enters the study's reports, so its rungs are those of an uninterrupted search. A trial that was
    waiting keeps waiting.

    Args:
        steps: steps of a complete trial.
        warmup: step of the first rung.
        no_more: returns whether no further trial will be launched. The rungs are then settled from the lowest up.
        slots: trials that may run at a time.
        pauses: whether trials write checkpoints to go on from.
    """

    def __init__(
        self,
        *,
        steps: int,
        warmup: int,
        reduction_factor: int,
        spared: Spared,
        past: Sequence[PastTrial],
        no_more: Callable[[], bool],
        slots: float,
        pauses: bool,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        rungs = SCHEDULERS["asha"].stopping_steps(steps, warmup, reduction_factor)
        self._ladder = Ladder(rungs, reduction_factor, pauses=pauses)
        self._spared = spared
        self._no_more = no_more
        self._pauses = pauses
        self._climbs: dict[int, _Climb] = {}
        self._slots = slots
        self._resumed = {trial.number: trial for trial in past if trial.is_open}
        self._steps: dict[int, int] = {}
        for trial in past:
            self._ladder.enter(trial.number, trial.values)
            self._steps[trial.number] = max(trial.values, default=0)

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that hold no slot, because they wait and may not go on yet."""
        waiting = [climb for climb in self._waiting() if self._verdict(climb) is not Verdict.GO]
        return frozenset(number_of(climb.trial) for climb in waiting)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Add a new or retried trial. A trial that was waiting when its search was interrupted keeps waiting."""
        number = number_of(trial)
        climb = self._climbs[number] = _Climb(trial, self._steps.get(number, 0))
        self._spared.add(trial)
        resumed = self._resumed.pop(number, None)
        rung = self._ladder.rung_at(climb.step)
        if resumed is None or not resumed.waits or rung is None or number not in rung.values or not self._pauses:
            return
        if self._stand(climb, rung) is not Verdict.GO:
            # Pause the trial before Ray queues it: Ray would start a pending one unasked.
            trial.set_status(Trial.PAUSED)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Decide on a trial from its report."""
        if decides_nothing(result):
            return str(TrialScheduler.CONTINUE)
        number = number_of(trial)
        climb = self._climbs[number]
        climb.step = self._steps[number] = int(result[STEP])
        rung = self._ladder.add(number, climb.step, float(result[VALUE]))
        return str(TrialScheduler.CONTINUE) if rung is None else _DECISIONS[self._stand(climb, rung)]

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Forget a trial that ended; its reports stay."""
        self._climbs.pop(number_of(trial), None)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Forget a trial that failed; its reports stay."""
        self._climbs.pop(number_of(trial), None)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Forget a trial that was stopped while waiting; its reports stay."""
        self._climbs.pop(number_of(trial), None)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the most advanced waiting trial that may go on, else a pending one.

        Stop the waiting trials that have no chance.
        """
        verdicts = [(climb, self._verdict(climb)) for climb in self._waiting()]
        for climb, verdict in verdicts:
            # A trial that still writes its checkpoint is judged again in the next turn.
            if verdict is Verdict.STOP and climb.trial.status == Trial.PAUSED:
                tune_controller.stop_trial(climb.trial)
        ready = [climb for climb, verdict in verdicts if verdict is Verdict.GO and climb.trial.status == Trial.PAUSED]
        at_work = sum(climb.rung is None for climb in self._climbs.values())
        if ready and at_work < self._slots:
            chosen = max(ready, key=lambda climb: climb.step)
            chosen.rung = None
            return chosen.trial
        pending = (climb.trial for climb in self._climbs.values() if climb.trial.status == Trial.PENDING)
        return next(pending, None)

    def _stand(self, climb: _Climb, rung: Rung) -> Verdict:
        """Put a trial at a rung, where it stays unless it may go on at once, and return the verdict."""
        climb.rung = rung
        verdict = self._verdict(climb)
        if verdict is Verdict.GO:
            climb.rung = None
        return verdict

    def _waiting(self) -> Iterator[_Climb]:
        return (climb for climb in list(self._climbs.values()) if climb.rung is not None)

    def _verdict(self, climb: _Climb) -> Verdict:
        assert climb.rung is not None
        number, is_final = number_of(climb.trial), self._is_final(climb.rung)
        verdict = self._ladder.verdict(climb.rung, number, is_final=is_final)
        if verdict is Verdict.STOP and number in self._spared:
            return Verdict.GO if is_final or not self._pauses else Verdict.WAIT
        return verdict

    def _is_final(self, rung: Rung) -> bool:
        """Return whether no further trial can reach the rung: none will be launched, and none below can go on."""
        if not self._no_more():
            return False
        below = [climb for climb in self._climbs.values() if climb.step < rung.step]
        return all(climb.rung is not None and self._verdict(climb) is Verdict.STOP for climb in below)


def build(facts: SchedulerFacts) -> Asha:
    return Asha(
        steps=facts.steps,
        warmup=facts.warmup,
        reduction_factor=facts.reduction_factor,
        spared=facts.spared,
        past=facts.past,
        no_more=facts.no_more,
        slots=facts.slots,
        pauses=facts.pauses,
    )
