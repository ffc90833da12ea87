"""The driver's watch over workers and over Ray, on a clock of the test's own."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tune_app.distributed import watch
from tune_app.distributed.nodes import Node
from tune_app.distributed.watch import RayHealth, Watch

TIMEOUT_S = 10.0
HERE = Node("here", "127.0.0.1", 4, 0)
HEAD = Node("head", "10.0.0.1", 0, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Watched:
    """Watch over trials, with its clock and its actions."""

    def __init__(self, clock: Clock, timeout_s: float | None) -> None:
        self.clock = clock
        self.killed: list[str] = []
        self.halts: list[str] = []
        self.lost: str | None = None
        self.watch = Watch(
            timeout_s=timeout_s, lost=lambda: self.lost, on_halt=self.halts.append, kill=self.killed.append
        )

    def pass_s(self, seconds: float, *trials: Any) -> None:
        """Advance the clock in steps of half a second."""
        for _ in range(int(2 * seconds)):
            self.clock.now += 0.5
            self.watch.on_step_end(0, list(trials))


def trial(name: str, worker: str | None) -> Any:
    return SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=worker))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    return clock


@pytest.fixture
def watched(clock: Clock) -> Watched:
    return Watched(clock, TIMEOUT_S)


def test_a_worker_that_is_silent_for_too_long_is_killed_and_the_others_are_not(watched: Watched) -> None:
    silent, heard = trial("silent", "worker of silent"), trial("heard", "worker of heard")
    for _ in range(4):
        watched.pass_s(4, silent, heard)
        watched.watch.on_trial_result(0, [], heard, {})
    assert watched.killed == ["worker of silent"]


def test_a_trial_without_a_worker_is_waited_for(watched: Watched) -> None:
    paused = trial("paused", None)
    watched.pass_s(100, paused)
    paused.temporary_state.ray_actor = "first"
    watched.pass_s(8, paused)
    paused.temporary_state.ray_actor = "second"
    watched.pass_s(8, paused)
    assert watched.killed == [], "each worker has its own time"
    watched.pass_s(5, paused)
    assert watched.killed == ["second"]


def test_a_driver_that_was_stopped_has_not_missed_a_report(watched: Watched) -> None:
    running = trial("running", "worker")
    watched.pass_s(2, running)
    watched.clock.now += 3600
    watched.watch.on_step_end(0, [running])
    assert watched.killed == []


def test_without_a_timeout_no_worker_is_killed(clock: Clock) -> None:
    watched = Watched(clock, None)
    watched.pass_s(1000, trial("silent", "worker"))
    assert watched.killed == []


def test_a_search_that_has_lost_ray_is_halted_with_what_to_do(watched: Watched) -> None:
    watched.pass_s(3)
    assert watched.halts == []
    watched.lost = "Ray was lost: so"
    watched.pass_s(1)
    assert watched.halts == ["Ray was lost: so; finished trials are saved: run the same command again"]


def lost_after(clock: Clock, seconds: float, nodes: Sequence[Node] | None, dead: Sequence[str] = ()) -> str | None:
    """Return the verdict once so many seconds have passed; without nodes Ray's head does not answer."""
    health = RayHealth(1, HERE.id, lambda: dead)
    reason = None
    for _ in range(int(seconds)):
        clock.now += 1
        if nodes is not None:
            health.heard(nodes)
        reason = health.lost()
    return reason


def test_ray_is_there_while_a_node_can_run_trials(clock: Clock) -> None:
    assert lost_after(clock, 1000, [HERE, HEAD]) is None


@pytest.mark.parametrize(
    ("seconds", "nodes", "dead", "why"),
    [
        (1, [HERE], ["raylet"], "its raylet on this machine has died"),
        (1, [HEAD], [], "it counts this machine's node as dead"),
        (70, None, [], "its head has not answered for 60 s"),
        (400, [Node("here", "127.0.0.1", 0, 0), HEAD], [], "no node has had the 1 CPUs of a trial for 300 s"),
    ],
)
def test_a_ray_that_can_run_no_trial_is_lost(
    seconds: float, nodes: Sequence[Node] | None, dead: Sequence[str], why: str, clock: Clock
) -> None:
    assert lost_after(clock, seconds, nodes, dead) == f"Ray was lost: {why}"


def test_a_node_may_be_replaced_in_time(clock: Clock) -> None:
    assert lost_after(clock, 200, [Node("here", "127.0.0.1", 0, 0)]) is None


def test_the_end_of_a_search_waits_only_for_a_ray_that_answers(clock: Clock) -> None:
    dead: list[str] = []
    health = RayHealth(1, HERE.id, lambda: dead)
    assert health.answers()
    clock.now += 10
    assert not health.answers(), "Ray may be dying, although its processes are still there"
    health.heard([HERE])
    assert health.answers()
    dead.append("raylet")
    assert not health.answers()
