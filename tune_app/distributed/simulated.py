"""A search without workers and without waiting: the study's own scheduler decides on scripted trials.

``simulate`` makes the calls of Ray's controller in Ray's order, on a clock of its own.
"""

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from tune_app.distributed.messages import Launch, SentReport
from tune_app.distributed.scheduler import build_scheduler, waiting_trials
from tune_app.screening.slots import Held, Slots


@dataclass(frozen=True)
class Script:
    """Course of one trial that nothing ends early.

    Attributes:
        values: value of every report.
        seconds: seconds from one report to the next, the first from the end of loading on.
        start_s: seconds of loading, at the trial's begin and after each pause.
        gpus: GPUs that the trial holds while it runs.
        is_recommended: whether it runs a recommended configuration.
    """

    values: Sequence[float]
    seconds: Sequence[float]
    start_s: float
    gpus: float
    is_recommended: bool = False


@dataclass(frozen=True)
class SchedulerPlan:
    """Settings of the study's scheduler; see ``SchedulerFacts``."""

    name: str
    steps: int
    warmup: int
    reduction_factor: int
    startup_trials: int
    pauses: bool
    ask_ahead: int
    settings: Mapping[str, Any]


@dataclass
class SimulatedSearch:
    """Result of a simulated search.

    Attributes:
        seconds: time until the last trial ended.
        gpu_seconds: GPUs times seconds for which trials held them.
        reports: number of reports.
        most_open: most trials that were open at a time, waiting ones included.
    """

    seconds: float = 0.0
    gpu_seconds: float = 0.0
    reports: int = 0
    most_open: int = 0


class _StandIn:
    """Parts of Ray's ``Trial`` that schedulers read."""

    is_saving = False

    def __init__(self, number: int, script: Script) -> None:
        self.trial_id = str(number)
        self.config = Launch(number, {}, is_recommended=script.is_recommended).as_dict()
        self.script = script
        self.status: str = Trial.PENDING
        self.step = 0
        self.held: Held | None = None
        self.since = 0.0

    def set_status(self, status: str) -> None:
        self.status = status


def simulate(
    scripts: Sequence[Script], plan: SchedulerPlan, slots: Slots, first_starts_s: Sequence[float], start_s: float
) -> SimulatedSearch:
    """Run scripted trials in their order under the study's scheduler.

    Args:
        slots: free slots, which the trials take.
        first_starts_s: seconds until a new worker takes up a trial, for the first starts.
        start_s: seconds until a worker takes up a trial at a later start.
    """
    return _Loop(scripts, plan, slots, first_starts_s, start_s).run()


class _Loop:
    """Ray's controller, as schedulers see it."""

    def __init__(
        self,
        scripts: Sequence[Script],
        plan: SchedulerPlan,
        slots: Slots,
        first_starts_s: Sequence[float],
        start_s: float,
    ) -> None:
        self._left = list(enumerate(scripts))[::-1]
        self._slots = slots
        self._most_open = slots.most + plan.ask_ahead
        self._first_starts_s = iter(first_starts_s)
        self._start_s = start_s
        self._events: list[tuple[float, int, _StandIn]] = []
        self._order = itertools.count()
        self._live: dict[str, _StandIn] = {}
        self._now = 0.0
        self._has_ended = False
        self._result = SimulatedSearch()
        self._scheduler: Any = build_scheduler(
            plan.name,
            steps=plan.steps,
            warmup=plan.warmup,
            reduction_factor=plan.reduction_factor,
            startup_trials=plan.startup_trials,
            no_more=lambda: self._has_ended,
            slots=slots.most,
            pauses=plan.pauses,
            settings=plan.settings,
        )

    def run(self) -> SimulatedSearch:
        self._start_trials()
        while self._events:
            self._now, _, trial = heapq.heappop(self._events)
            self._report(trial)
            self._start_trials()
        self._result.seconds = self._now
        return self._result

    def get_trials(self) -> list[_StandIn]:
        """Return the trials that have not ended; schedulers ask for no others."""
        return list(self._live.values())

    def stop_trial(self, trial: _StandIn) -> None:
        """Stop a paused trial, as schedulers ask the controller to."""
        self._scheduler.on_trial_remove(self, trial)
        self._end(trial)

    def _start_trials(self) -> None:
        while True:
            asked = self._ask()
            chosen = self._scheduler.choose_trial_to_run(self) if self._slots.taken < self._slots.most else None
            started = chosen is not None and self._start(chosen)
            if not started and not asked:
                return

    def _ask(self) -> bool:
        if len(self._live) - len(waiting_trials(self._scheduler)) >= self._most_open:
            return False
        if not self._left:
            # The searcher learns that there is nothing more when it is asked.
            self._has_ended = True
            return False
        trial = _StandIn(*self._left.pop())
        self._live[trial.trial_id] = trial
        self._result.most_open = max(self._result.most_open, len(self._live))
        self._scheduler.on_trial_add(self, trial)
        return True

    def _start(self, trial: _StandIn) -> bool:
        """Start or resume a trial; return False if its GPUs are not free, as when Ray lets it wait."""
        held = self._slots.take(trial.script.gpus)
        if held is None:
            return False
        trial.held, trial.since, trial.status = held, self._now, Trial.RUNNING
        self._push(trial, next(self._first_starts_s, self._start_s) + trial.script.start_s)
        return True

    def _push(self, trial: _StandIn, before_s: float = 0.0) -> None:
        seconds = before_s + trial.script.seconds[trial.step]
        heapq.heappush(self._events, (self._now + seconds, next(self._order), trial))

    def _report(self, trial: _StandIn) -> None:
        values = trial.script.values
        trial.step += 1
        self._result.reports += 1
        is_last = trial.step == len(values)
        sent = SentReport(trial.step, values[trial.step - 1], ended="complete" if is_last else None)
        result = {**sent.as_dict(), "training_iteration": trial.step}
        decision = self._scheduler.on_trial_result(self, trial, result)
        if is_last or decision == TrialScheduler.STOP:
            self._give_back(trial)
            self._scheduler.on_trial_complete(self, trial, result)
            self._end(trial)
        elif decision == TrialScheduler.PAUSE:
            self._give_back(trial)
            trial.status = Trial.PAUSED
        else:
            self._push(trial)

    def _give_back(self, trial: _StandIn) -> None:
        assert trial.held is not None
        self._result.gpu_seconds += trial.script.gpus * (self._now - trial.since)
        self._slots.give_back(trial.held)
        trial.held = None

    def _end(self, trial: _StandIn) -> None:
        trial.status = Trial.TERMINATED
        self._live.pop(trial.trial_id, None)
