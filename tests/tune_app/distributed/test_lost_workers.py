"""Schedulers under lost workers and resumes, without real workers: every trial ends, and none waits for ever."""

import importlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from tune_app.distributed.messages import Launch, number_of
from tune_app.distributed.scheduler import build_scheduler, waiting_trials
from tune_app.outcomes import MOST_RETRIES

BENCHES = Path(__file__).parents[3] / "scripts" / "bench"


@dataclass(frozen=True)
class Course:
    """Search to replay: its size, the share of lost workers, and the number of trials resumed halfway."""

    scheduler: str
    steps: int
    reduction_factor: int
    warmup: int
    slots: int
    trials: int
    share_lost: float
    resumed: int

    @classmethod
    def drawn(cls, scheduler: str, draw: random.Random) -> "Course":
        return cls(
            scheduler,
            steps=draw.choice([3, 4, 6, 9, 12, 27]),
            reduction_factor=draw.choice([2, 3, 4]),
            warmup=draw.choice([1, 2]),
            slots=draw.choice([1, 2, 4]),
            trials=draw.choice([3, 5, 9, 17]),
            share_lost=draw.choice([0.05, 0.3]),
            resumed=draw.choice([0, 2, 4]),
        )


class ConstantCurves:
    """Trials that report one value throughout."""

    per_epoch = 1

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def fits(self, params: Any) -> bool:
        return True

    def curve(self, params: Any, seed: int) -> list[float]:
        return [params["optim.lr"]] * self.epochs

    def true_curve(self, params: Any) -> list[float]:
        return self.curve(params, 0)


class Searching:
    """Searcher that suggests so many trials; paused ones hold no slot."""

    def __init__(self, course: Course, draw: random.Random) -> None:
        self._draw = draw
        self._left = course.trials
        self._slots = course.slots + (course.scheduler == "hyperband")
        self._open = self._launched = 0
        self.scheduler: Any = None

    @property
    def is_finished(self) -> bool:
        return self._left == 0

    def suggest(self, trial_id: str) -> Any:
        if self.is_finished:
            return Searcher.FINISHED
        if self._open - len(waiting_trials(self.scheduler)) >= self._slots:
            return None
        self._open += 1
        self._left -= 1
        self._launched += 1
        return Launch(self._launched - 1, {"optim.lr": self._draw.random()}).as_dict()

    def on_trial_result(self, trial_id: str, result: Any) -> None:
        """Learn nothing."""

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self._open -= 1


@pytest.fixture
def left_waiting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that replays a course and returns the trials that still wait once nothing runs."""
    monkeypatch.syspath_prepend(BENCHES)
    ray_loop: Any = importlib.import_module("replay").RayLoop

    class LosingLoop(ray_loop):  # type: ignore[misc]
        """Ray's loop whose workers are lost between two reports.

        As in Ray, the trial is then added to the scheduler again.
        """

        def __init__(self, course: Course, draw: random.Random, **parts: Any) -> None:
            super().__init__(ConstantCurves(course.steps), 0, callback=None, slots=course.slots, **parts)
            self._course, self._draw = course, draw
            self._losses: dict[str, int] = {}

        def _ask(self) -> bool:
            asked: bool = super()._ask()
            if asked:
                trial = self.get_trials()[-1]
                self._losses[trial.trial_id] = 0
                if len(self._losses) <= self._course.resumed:
                    trial.step = self._draw.randrange(self._course.steps - 1)
            return asked

        def _report(self, trial: Any, now: float) -> None:
            if self._losses[trial.trial_id] == MOST_RETRIES or self._draw.random() > self._course.share_lost:
                super()._report(trial, now)
                return
            self._losses[trial.trial_id] += 1
            trial.status = "ERROR"
            self._scheduler.on_trial_error(self, trial)
            trial.status = "PENDING"
            self._scheduler.on_trial_add(self, trial)

    def replayed(course: Course, draw: random.Random) -> list[int]:
        searching = Searching(course, draw)
        searching.scheduler = build_scheduler(
            course.scheduler,
            steps=course.steps,
            warmup=course.warmup,
            reduction_factor=course.reduction_factor,
            startup_trials=0,
            no_more=lambda: searching.is_finished,
            slots=course.slots,
        )
        loop = LosingLoop(course, draw, searcher=searching, scheduler=searching.scheduler)
        loop.run()
        assert searching.is_finished, "trials that wait in vain keep others from being launched"
        return [number_of(trial) for trial in loop.get_trials()]

    return replayed


@pytest.mark.parametrize("scheduler", ["asha", "hyperband"])
def test_no_search_waits_for_ever_after_lost_workers_or_a_resume(scheduler: str, left_waiting: Any) -> None:
    for seed in range(200):
        draw = random.Random(seed)
        course = Course.drawn(scheduler, draw)
        assert left_waiting(course, draw) == [], f"seed {seed}, {course}"
