"""Watch of the driver, which ends workers that hang and halts a search that has lost Ray.

A worker's own clock (``trainable.py``) rings first and logs where the worker hangs. It does not ring in a frozen
process, nor on a node that is cut off.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.experiment import Trial

from tune_app.distributed.nodes import Node, living_nodes, own_node
from tune_app.distributed.private import worker_of

_LOOK_S = 1.0
# Longest gap to count: a driver that was stopped for a while (by Ctrl-Z, say) has heard from no worker meanwhile.
_MOST_BETWEEN_LOOKS_S = 5.0
_ASK_S = 2.0
_NO_ANSWER_S = 60.0
# A search that ends loses nothing if it leaves a slow Ray to the operating system, so it waits less.
_SILENCE_AT_END_S = 8.0
# Time without a suitable node after which Ray counts as lost, since a cluster may get another node.
_NO_NODE_S = 300.0

_REMEDY = "finished trials are saved: run the same command again"


@dataclass
class _Silence:
    """Seconds since the last report of a trial in its worker."""

    worker: Any
    seconds: float = 0.0


class Watch(tune.Callback):
    """Ray callback that ends workers that hang, and halts a search that has lost Ray.

    Args:
        timeout_s: silence in seconds after which a worker is killed; None means never.
        lost: returns the reason why Ray is lost; None while it answers.
        on_halt: called with the reason, so that the search ends.
        kill: ends a worker.
    """

    def __init__(
        self,
        *,
        timeout_s: float | None,
        lost: Callable[[], str | None],
        on_halt: Callable[[str], None],
        kill: Callable[[Any], None] = ray.kill,
    ) -> None:
        self._timeout_s = timeout_s
        self._lost = lost
        self._on_halt = on_halt
        self._kill = kill
        self._silences: dict[str, _Silence] = {}
        self._looked_at = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles callbacks into its own experiment state, which nothing reads here.
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Check every worker and Ray, once a second."""
        passed_s = time.monotonic() - self._looked_at
        if passed_s < _LOOK_S:
            return
        self._looked_at += passed_s
        for trial in trials:
            self._look_at(trial, min(passed_s, _MOST_BETWEEN_LOOKS_S))
        why = self._lost()
        if why is not None:
            self._on_halt(f"{why}; {_REMEDY}")

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Reset the silence of a trial that starts."""
        self._silences.pop(trial.trial_id, None)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Reset the silence of a trial that reports."""
        self._silences.pop(trial.trial_id, None)

    def _look_at(self, trial: Trial, passed_s: float) -> None:
        # Include trials that are not running yet: a reused worker may hang before it starts one.
        worker = worker_of(trial)
        silence = self._silences.get(trial.trial_id)
        if worker is None:
            self._silences.pop(trial.trial_id, None)
        elif silence is None or silence.worker is not worker:
            self._silences[trial.trial_id] = _Silence(worker)
        else:
            silence.seconds += passed_s
            if self._timeout_s is not None and silence.seconds > self._timeout_s:
                # Ray reports this end of a worker to the loop like any other.
                self._kill(worker)
                silence.seconds = 0.0


@dataclass
class RayHealth:
    """State of Ray, queried by a thread of its own, which may have to wait for answers.

    Args:
        cpu: CPUs of a trial.
        own: id of the driver's node.
        dead: returns the names of the dead Ray processes that this process started.
    """

    cpu: float
    own: str
    dead: Callable[[], Sequence[str]]
    _nodes: Sequence[Node] | None = None
    _is_lost: bool = False
    _heard_at: float = field(default_factory=lambda: time.monotonic())
    _asked_at: float = field(default_factory=lambda: time.monotonic())
    _unanswered_s: float = 0.0
    _without_node_s: float = 0.0
    _stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Query Ray repeatedly while the block runs."""
        asker = threading.Thread(target=self._ask_on, name="ray-health", daemon=True)
        asker.start()
        try:
            yield
        finally:
            self._stopped.set()
            # The thread may be waiting for an answer that never arrives.
            asker.join(_ASK_S)

    def _ask_on(self) -> None:
        while not self._stopped.is_set():
            # An error counts as silence.
            with suppress(RayError):
                self.heard(living_nodes())
            self._stopped.wait(_ASK_S)

    def heard(self, nodes: Sequence[Node]) -> None:
        """Record the living nodes of an answer."""
        self._nodes, self._unanswered_s, self._heard_at = nodes, 0.0, time.monotonic()

    def lost(self) -> str | None:
        """Return the reason why no trial can run any more; None while some can. Call this regularly."""
        why = self._why_lost()
        self._is_lost = self._is_lost or why is not None
        return None if why is None else f"Ray was lost: {why}"

    def answers(self) -> bool:
        """Return whether Ray is worth waiting for at the end of a search: not lost, and heard from recently."""
        return not self._is_lost and not self.dead() and time.monotonic() - self._heard_at < _SILENCE_AT_END_S

    def _why_lost(self) -> str | None:
        now = time.monotonic()
        passed_s, self._asked_at = min(now - self._asked_at, _MOST_BETWEEN_LOOKS_S), now
        dead = self.dead()
        if dead:
            return f"its {dead[0]} on this machine has died"
        self._unanswered_s += passed_s
        if self._unanswered_s > _NO_ANSWER_S:
            return f"its head has not answered for {_NO_ANSWER_S:g} s"
        if self._nodes is None:
            return None
        if all(node.id != self.own for node in self._nodes):
            return "it counts this machine's node as dead"
        able = any(node.cpus >= self.cpu for node in self._nodes)
        self._without_node_s = 0.0 if able else self._without_node_s + passed_s
        if self._without_node_s > _NO_NODE_S:
            return f"no node has had the {self.cpu:g} CPUs of a trial for {_NO_NODE_S:g} s"
        return None


def ray_health(cpu: float, dead: Callable[[], Sequence[str]]) -> RayHealth:
    """Return the health of the Ray that this process has started or joined."""
    return RayHealth(cpu, own_node(), dead)
