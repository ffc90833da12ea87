"""Searches replayed with the product's own searcher, scheduler and recorder, without workers and without waiting.

``RayLoop`` makes the calls of Ray's controller in Ray's order, for several trials at once. Its clock counts epochs: a
report takes as many as it covers. A trial's reports come from a problem: closed form (``problems.py``) or recorded
trainings (``curves/``).
"""

import heapq
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch
from stock import distributions

from search_spaces.conditions import ActiveSpace
from search_spaces.rules import Rule, Sample, Violation
from search_spaces.space import Params, Scalar, Space
from trainables.seeds import sub_seed
from tune_app.distributed.messages import STEP, VALUE, SentReport, is_recommended
from tune_app.distributed.recorder import StudyRecorder
from tune_app.distributed.scheduler import build_scheduler, waiting_trials
from tune_app.distributed.searcher import HeadroomSearch
from tune_app.sampling.proposers import build_proposer
from tune_app.sampling.recommended import Turn
from tune_app.step_scale import StepScale
from tune_app.study.checkpoints import CheckpointKeeper, CheckpointStorage, StudyCheckpoints
from tune_app.study.record import StudyRecord
from tune_app.study.remote import LocalStorage
from tune_app.study.store import StudyStore, study_in_memory


class Problem(Protocol):
    """Search problem whose trials report ``per_epoch`` times in each of ``epochs`` epochs."""

    @property
    def space(self) -> Space: ...
    @property
    def epochs(self) -> int: ...
    @property
    def per_epoch(self) -> int: ...
    def fits(self, params: Mapping[str, Scalar]) -> bool:
        """Return whether a trial would run; one that does not costs no epochs."""
        ...

    def curve(self, params: Mapping[str, Scalar], seed: int) -> Sequence[float]:
        """Return the reports of a trial: (epochs × per_epoch) scores in 0..1; equal for equal arguments."""
        ...

    def true_curve(self, params: Mapping[str, Scalar]) -> Sequence[float]:
        """Return the same scores without noise."""
        ...

    def recommended(self, seed: int) -> Iterator[Turn]:
        """Yield the recommended configurations in turn."""
        ...


@dataclass(frozen=True)
class Point:
    """Best value without noise among the complete trials at a moment, and the epochs trained until then."""

    cost: float
    true_value: float


@dataclass
class Replay:
    """Replayed search.

    Attributes:
        path: a point for every complete trial better than all before it, by rising cost.
        chosen: value without noise of the complete trial that the study calls the best, by its reports; 0 before any.
        cost: number of epochs trained.
        launched: number of launched trials.
        ooms: launched trials that ran out of memory.
        recommended: configurations of the recommended trials that were trained to their end.
    """

    path: list[Point] = field(default_factory=list)
    chosen: float = 0.0
    cost: float = 0.0
    launched: int = 0
    ooms: int = 0
    recommended: list[Params] = field(default_factory=list)

    def value_at(self, cost: float) -> float:
        """Return the best value without noise once so many epochs were trained; 0 before any."""
        return next((point.true_value for point in reversed(self.path) if point.cost <= cost), 0.0)

    def cost_of(self, value: float) -> float:
        """Return the epochs after which a complete trial reaches a value, without noise; infinite if none does."""
        return next((point.cost for point in self.path if point.true_value >= value), math.inf)


class Fits:
    """Memory rule with exact needs: it rejects configurations whose trials would not run."""

    name = "memory"

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def check(self, sample: Sample) -> Violation | None:
        if self._problem.fits(sample.params):
            return None
        return Violation("memory", "does not fit", _excess(self._problem, sample.params))


def _excess(problem: Any, params: Mapping[str, Scalar]) -> float:
    need = getattr(problem, "need_gib", None)
    return 0.5 if need is None else float(need(params)) / problem.budget_gib - 1


class StandIn:
    """Parts of Ray's ``Trial`` that searcher, scheduler and recorder read."""

    max_failures = 0
    is_saving = False

    def __init__(self, trial_id: str, config: dict[str, Any]) -> None:
        self.trial_id = trial_id
        self.config = config
        self.status: str = Trial.PENDING
        self.step = 0
        self.curve: Sequence[float] = ()

    def set_status(self, status: str) -> None:
        self.status = status


class RayLoop:
    """Calls of Ray's controller for trials that report a curve; a run is one ``run`` call.

    Args:
        slots: trials that run at once.
        callback: None where nothing records.
        budget: epochs after which no trial is started or continued.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        searcher: Any,
        scheduler: TrialScheduler,
        callback: StudyRecorder | None,
        slots: int,
        budget: float = math.inf,
    ) -> None:
        self.replay = Replay()
        self._problem = problem
        self._seed = seed
        self._searcher = searcher
        self._scheduler: Any = scheduler
        self._callback: Any = callback
        self._slots = slots
        self._budget = budget
        self._ids = itertools.count()
        self._live: dict[str, StandIn] = {}
        self._running: list[tuple[float, int, StandIn]] = []
        self._best = -math.inf
        self._finished = False

    def run(self) -> Replay:
        """Run until the searcher has nothing more, every trial has ended, or the budget is spent."""
        now = 0.0
        while self.replay.cost < self._budget:
            self._start_trials(now)
            if not self._running:
                break
            now, _, trial = heapq.heappop(self._running)
            self._report(trial, now)
        return self.replay

    def get_trials(self) -> list[StandIn]:
        """Return the trials that have not ended; schedulers ask for no others."""
        return list(self._live.values())

    def stop_trial(self, trial: StandIn) -> None:
        """Stop a paused trial, as schedulers ask the controller to."""
        self._scheduler.on_trial_remove(self, trial)
        self._searcher.on_trial_complete(trial.trial_id)
        self._end("on_trial_complete", trial)

    def _start_trials(self, now: float) -> None:
        while True:
            self._call_step("on_step_begin")
            asked = not self._finished and self._ask()
            chosen = self._scheduler.choose_trial_to_run(self) if len(self._running) < self._slots else None
            if chosen is not None:
                self._start(chosen, now)
            self._call_step("on_step_end")
            if chosen is None and not asked:
                return

    def _ask(self) -> bool:
        number = str(next(self._ids))
        config = self._searcher.suggest(number)
        if config == Searcher.FINISHED:
            self._finished = True
        if not isinstance(config, dict):
            return False
        self.replay.launched += 1
        trial = self._live[number] = StandIn(number, config)
        self._scheduler.on_trial_add(self, trial)
        return True

    def _start(self, trial: StandIn, now: float) -> None:
        trial.status = Trial.RUNNING
        self._call("on_trial_start", trial)
        heapq.heappush(self._running, (now + self._report_cost, int(trial.trial_id), trial))

    @property
    def _report_cost(self) -> float:
        return 1 / self._problem.per_epoch

    def _report(self, trial: StandIn, now: float) -> None:
        params = trial.config.get("params", trial.config)
        if not self._problem.fits(params):
            self._run_out(trial, params)
            return
        trial.step += 1
        self.replay.cost += self._report_cost
        curve = trial.curve = trial.curve or self._problem.curve(params, self._seed)
        value = float(curve[trial.step - 1])
        ended = trial.step == len(curve)
        sent = SentReport(trial.step, value, ended="complete" if ended else None)
        result = {**sent.as_dict(), "training_iteration": trial.step}
        decision = self._scheduler.on_trial_result(self, trial, result)
        if decision != TrialScheduler.STOP:
            self._searcher.on_trial_result(trial.trial_id, result)
        self._call("on_trial_result", trial, result)
        if ended:
            self._note(curve, params)
            if is_recommended(trial):
                self.replay.recommended.append(params)
        if ended or decision == TrialScheduler.STOP:
            self._scheduler.on_trial_complete(self, trial, result)
            self._searcher.on_trial_complete(trial.trial_id, result=result)
            self._end("on_trial_complete", trial)
        elif decision == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED
        else:
            heapq.heappush(self._running, (now + self._report_cost, int(trial.trial_id), trial))

    def _run_out(self, trial: StandIn, params: Params) -> None:
        self.replay.ooms += 1
        excess = _excess(self._problem, params)
        facts = {"need_gib": 1 + excess, "allowed_gib": 1.0}
        sent = SentReport(facts=facts, ended="oom", reason="memory")
        self._call("on_trial_result", trial, sent.as_dict())
        self._scheduler.on_trial_error(self, trial)
        self._searcher.on_trial_complete(trial.trial_id, error=True)
        self._end("on_trial_error", trial)

    def _note(self, curve: Sequence[float], params: Params) -> None:
        """Record a complete trial, whose value is that of its best epoch."""
        every = self._problem.per_epoch
        epochs = curve[every - 1 :: every]
        best = max(epochs)
        true_value = float(self._problem.true_curve(params)[every - 1 :: every][epochs.index(best)])
        if best > self._best:
            self._best, self.replay.chosen = best, true_value
        if not self.replay.path or true_value > self.replay.path[-1].true_value:
            self.replay.path.append(Point(self.replay.cost, true_value))

    def _end(self, name: str, trial: StandIn) -> None:
        self._call(name, trial)
        trial.status = Trial.TERMINATED
        del self._live[trial.trial_id]

    def _call(self, name: str, trial: StandIn, *more: Any) -> None:
        if self._callback is not None:
            getattr(self._callback, name)(0, [trial], trial, *more)

    def _call_step(self, name: str) -> None:
        if self._callback is not None:
            getattr(self._callback, name)(0, [])


@dataclass(frozen=True)
class Arm:
    """Settings of a Headroom search.

    Attributes:
        sampler: ``tpe`` or ``random``.
        scheduler: ``asha``, ``hyperband`` or ``none``.
        rung: reports in an epoch that the scheduler sees; at most the problem's ``per_epoch``.
        recommended: trials that begin the search with recommended configurations.
        least_bandwidth: of TPE; None: the product's own.
    """

    sampler: str = "tpe"
    scheduler: str = "asha"
    rung: int = 1
    reduction_factor: int = 3
    recommended: int = 0
    least_bandwidth: float | None = None


# Settings that rules read, for problems that do not vary them.
_FIXED: Params = {"model.name": "any", "train.batch_size": 1, "train.grad_accum": 1, "tok.max_length": 1}
SLOTS = 4
"""Trials that run at once."""


class AtRungs:
    """Problem that makes only every n-th report."""

    def __init__(self, problem: Problem, per_epoch: int) -> None:
        if problem.per_epoch % per_epoch:
            raise ValueError(f"{per_epoch} reports an epoch are not among {problem.per_epoch}")
        self._problem = problem
        self._every = problem.per_epoch // per_epoch
        self.per_epoch = per_epoch

    def __getattr__(self, name: str) -> Any:
        # Delegate need and budget, where a problem has them.
        return getattr(self._problem, name)

    def curve(self, params: Mapping[str, Scalar], seed: int) -> Sequence[float]:
        return self._problem.curve(params, seed)[self._every - 1 :: self._every]

    def true_curve(self, params: Mapping[str, Scalar]) -> Sequence[float]:
        return self._problem.true_curve(params)[self._every - 1 :: self._every]


def replay_headroom(
    problem: Problem,
    seed: int,
    arm: Arm,
    *,
    trials: int,
    slots: int = SLOTS,
    budget: float = math.inf,
    store: StudyStore | None = None,
    rules: Sequence[Rule] | None = None,
) -> Replay:
    """Replay a search of the product.

    Args:
        store: an empty study to record it in; None: one in memory.
        rules: reject samples before launch; None: the memory rule with exact needs.
    """
    problem = AtRungs(problem, arm.rung)
    step_scale = StepScale.of(folds=None, epochs=problem.epochs, per_epoch=arm.rung)
    store = store or study_in_memory(StudyRecord(problem.space, "criteria", "macro_f1", "max", "bench"))
    scheduler = build_scheduler(
        arm.scheduler,
        steps=step_scale.count,
        warmup=1,
        reduction_factor=arm.reduction_factor,
        startup_trials=0,
        no_more=lambda: searcher.end is not None,
    )
    proposer = build_proposer(
        arm.sampler,
        ActiveSpace(problem.space),
        store.study,
        store.distributions,
        sub_seed(seed, "sampler:0"),
        least_bandwidth=arm.least_bandwidth,
    )
    searcher = HeadroomSearch(
        store,
        proposer,
        rules=[Fits(problem)] if rules is None else rules,
        fixed=_FIXED,
        gpus=lambda params: 0.0,
        adopt=[],
        launched=0,
        total=trials,
        max_concurrent=slots,
        ask_ahead=1 if arm.scheduler == "hyperband" else 0,
        max_rejections=1_000,
        recommended=problem.recommended(seed) if arm.recommended else (),
        most_recommended=arm.recommended,
    )
    recorder = StudyRecorder(
        store,
        searcher,
        CheckpointKeeper(StudyCheckpoints(CheckpointStorage("."), "none", None, print), 0, []),
        permanent_storage=LocalStorage(),
        step_scale=step_scale,
        scheduler=arm.scheduler,
        timeout_s=None,
        on_report=lambda live, value: None,
        on_close=lambda trial: None,
        on_retry=lambda live, why: None,
        on_note=lambda live, note: None,
        on_halt=lambda why: None,
        on_step=lambda live: None,
        waiting=lambda: waiting_trials(scheduler),
    )
    loop = RayLoop(problem, seed, searcher=searcher, scheduler=scheduler, callback=recorder, slots=slots, budget=budget)
    return loop.run()


class _Listed:
    """Searcher that suggests listed configurations, as many at once as there are slots."""

    def __init__(self, configurations: Sequence[Params], slots: int) -> None:
        self._left = list(configurations)
        self._slots = slots
        self._open = 0

    def suggest(self, trial_id: str) -> Any:
        if not self._left:
            return Searcher.FINISHED
        if self._open == self._slots:
            return None
        self._open += 1
        return self._left.pop(0)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Learn nothing."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._open -= 1


def train_alone(problem: Problem, seed: int, configurations: Sequence[Params], *, slots: int = SLOTS) -> Replay:
    """Replay the training of listed configurations to their end."""
    searcher = _Listed(configurations, slots)
    return RayLoop(problem, seed, searcher=searcher, scheduler=FIFOScheduler(), callback=None, slots=slots).run()


class _Stock:
    """Ray's ``OptunaSearch`` for so many trials, as many at once as there are slots."""

    def __init__(self, problem: Problem, seed: int, trials: int, slots: int) -> None:
        self._stock = OptunaSearch(distributions(problem.space), metric=VALUE, mode="max", seed=seed)
        self._left, self._slots = trials, slots
        self._open: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        if self._left == 0:
            return Searcher.FINISHED
        if len(self._open) == self._slots:
            return None
        self._left -= 1
        self._open.add(trial_id)
        return self._stock.suggest(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._stock.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._open.discard(trial_id)
        self._stock.on_trial_complete(trial_id, result=result, error=error)


def replay_stock(
    problem: Problem, seed: int, *, trials: int, slots: int = SLOTS, asha: bool = True, budget: float = math.inf
) -> Replay:
    """Replay Ray's ``OptunaSearch``, with Ray's ``ASHAScheduler`` at its defaults or without a scheduler."""
    problem = AtRungs(problem, 1)
    scheduler: TrialScheduler = FIFOScheduler()
    if asha:
        scheduler = ASHAScheduler(time_attr=STEP, metric=VALUE, mode="max", max_t=problem.epochs)
    searcher = _Stock(problem, seed, trials, slots)
    return RayLoop(
        problem, seed, searcher=searcher, scheduler=scheduler, callback=None, slots=slots, budget=budget
    ).run()
