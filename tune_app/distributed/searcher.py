"""Searcher that suggests trials to Ray: it takes proposals, records those that the rules reject, and launches the rest.

It subclasses Ray's ``OptunaSearch``, which may launch a configuration twice, has no rules, and records too little of a
trial's end. ``tune_app.distributed.recorder``, which sees every report, records the ends instead.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from search_spaces.rules import Rule, Sample, violations
from search_spaces.space import Params
from tune_app.distributed.messages import Launch
from tune_app.outcomes import RECOMMENDED_ATTRIBUTE
from tune_app.sampling.proposers import Proposer
from tune_app.study.checkpoints import StudyCheckpoints, recorded_checkpoints
from tune_app.study.reporting import is_recommended
from tune_app.study.store import StudyStore


@dataclass(frozen=True)
class OpenTrial:
    """Trial to launch under its number, in particular one that an interrupted search left open.

    ``checkpoints`` are the ones to resume from, the newest first. The next one is used if one is damaged.
    """

    number: int
    params: Params
    checkpoints: tuple[str, ...] = ()
    is_recommended: bool = False


class HeadroomSearch(OptunaSearch):
    """Searcher that suggests unseen configurations that every rule accepts.

    Args:
        fixed: every setting that rules read, with its value outside the space.
        gpus: returns the GPUs, or the share of one, for a trial of a whole configuration.
        plans: returns the text of the memory plans that accepted a whole configuration; None if none were made.
        adopt: open trials to resume before new ones are proposed.
        launched: launched trials that the study already holds, including the open ones.
        total: launched trials that the study shall hold, including the adopted ones.
        max_concurrent: trials that may run at a time.
        ask_ahead: trials that may wait beside the running ones; HyperBand fills its brackets with them.
        max_rejections: rejected samples in a row after which the space counts as exhausted.
        recommended: groups of configurations to launch before the proposer is asked. Each group is one recommendation
            with several draws of its open parameters; the first one that the rules accept is launched.
        most_recommended: number of recommendations to launch.
        why_end: returns the reason to end the search instead of launching a configuration; None without one.
    """

    def __init__(
        self,
        store: StudyStore,
        proposer: Proposer,
        *,
        rules: Sequence[Rule],
        fixed: Params,
        gpus: Callable[[Params], float],
        adopt: Sequence[OpenTrial],
        launched: int,
        total: int,
        max_concurrent: int,
        ask_ahead: int,
        max_rejections: int,
        recommended: Iterable[Iterable[Params]] = (),
        most_recommended: int = 0,
        plans: Callable[[Params], str | None] = lambda params: None,
        why_end: Callable[[Params], str | None] = lambda params: None,
    ) -> None:
        super().__init__(
            space=store.distributions,
            metric="value",
            mode=store.record.mode,
            sampler=store.study.sampler,
            storage=store.storage,
            study_name=store.name,
        )
        self._store = store
        self._proposer = proposer
        self._rules = rules
        self._fixed = fixed
        self._gpus = gpus
        self._plans = plans
        self._why_end = why_end
        self._adopt = deque(adopt)
        self._launched = launched
        self._total = total
        self._slots = max_concurrent + ask_ahead
        self._max_rejections = max_rejections
        self._recommended = iter(recommended)
        self._most_recommended = most_recommended
        self._open: set[str] = set()
        self.paused = 0
        """Number of open trials that hold no slot, because the scheduler paused them. The recorder updates it."""
        self.end: str | None = None
        """Reason why there is nothing left to suggest; None while there is."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # Ray omits FINISHED
        """Return the next configuration, ``Searcher.FINISHED``, or None while all slots are taken."""
        if self._adopt:
            if self._slots_taken():
                return None
            return self._launch(trial_id, self._adopt.popleft())
        if self.end is None and self._launched >= self._total:
            self.end = f"the study holds {self._total} launched trials"
        if self.end is not None:
            finished: str = Searcher.FINISHED
            return finished
        if self._slots_taken():
            return None
        recommended = self._next_recommended()
        params = recommended or self._next_allowed()
        if params is not None:
            self.end = self._why_end(params)
        if params is None or self.end is not None:
            return self.suggest(trial_id)
        mark = {RECOMMENDED_ATTRIBUTE: True} if recommended else {}
        number = self._store.open_trial(params, {"suggested_at": time.time(), **mark})
        self._launched += 1
        return self._launch(trial_id, OpenTrial(number, params, is_recommended=bool(recommended)))

    def stop(self, why: str) -> None:
        """Suggest nothing more, for a reason."""
        self.end = why

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Do nothing: the recorder sees every report, while this method misses some."""

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Free the trial's slot; the recorder records the outcome."""
        self._open.discard(trial_id)

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles the searcher into its own experiment state, which nothing reads: the study is the record.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a search resumes from the study."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search is resumed from its study: run the same command again")

    def _slots_taken(self) -> bool:
        return len(self._open) - self.paused >= self._slots

    def _launch(self, trial_id: str, trial: OpenTrial) -> dict[str, Any]:
        self._open.add(trial_id)
        whole = {**self._fixed, **trial.params}
        launch = Launch(
            trial.number,
            trial.params,
            gpus=self._gpus(whole),
            resume_from=trial.checkpoints,
            is_recommended=trial.is_recommended,
            plans=self._plans(whole),
        )
        return launch.as_dict()

    def _next_recommended(self) -> Params | None:
        """Return the next recommended configuration that the rules accept, and record the rejected ones.

        Return None if enough were launched or none is left.
        """
        while self._most_recommended > 0:
            turn = next(self._recommended, None)
            if turn is None:
                return None
            for params in turn:
                if self._proposer.is_seen(params):
                    # An earlier search or another recommendation has used this configuration.
                    break
                if self._is_accepted(params):
                    self._most_recommended -= 1
                    return params
        return None

    def _next_allowed(self) -> Params | None:
        """Return the first proposal that every rule accepts, and record the rejected ones. None ends the search."""
        rejections = 0
        for params in itertools.islice(self._proposer.proposals(), self._max_rejections):
            if self._is_accepted(params):
                return params
            rejections += 1
        if rejections < self._max_rejections:
            self.end = "the space is exhausted: every configuration in it was tried or rejected"
        else:
            self.end = (
                f"the rules rejected {self._max_rejections} samples in a row (search.max_rejections);"
                " the space counts as exhausted"
            )
        return None

    def _is_accepted(self, params: Params) -> bool:
        """Return whether every rule accepts a configuration; record a rejection. It is never proposed again."""
        self._proposer.mark_seen(params)
        rejected = violations(self._rules, Sample.of({**self._fixed, **params}))
        if rejected:
            self._store.record_infeasible(params, rejected)
        return not rejected


def open_trials(store: StudyStore, checkpoints: StudyCheckpoints) -> list[OpenTrial]:
    """Return the trials that an interrupted search left open, with the checkpoints to resume from."""
    return [
        OpenTrial(
            trial.number,
            dict(trial.params),
            tuple(dict.fromkeys(filter(None, map(checkpoints.own, recorded_checkpoints(trial))))),
            is_recommended(trial),
        )
        for trial in store.trials()
        if trial.state == TrialState.RUNNING
    ]
