"""Timing of models that the machine's record does not know, by a few steps of real training in child processes."""

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from search_spaces.space import Params
from trainables.machine import MachineFiles
from trainables.planning.timings import PaceLedger
from trainables.settings import with_params
from tune_app.config import RunConfig
from tune_app.errors import UserError

if TYPE_CHECKING:
    from trainables.timed_steps import Requests

_ALL_MODELS_S = 30.0
_LEAST_S, _ENOUGH_S = 2.0, 6.0
# A person waits for a minute at most: what was timed until then is in the machine's record. Only if nothing is, as on a
# machine with much other work, the wait goes on.
_MOST_S = 50.0
_PATIENCE_S = 300.0
_LOOK_S = 0.5


def time_models(
    config: RunConfig,
    unknown: Mapping[tuple[str, ...], Sequence[Params]],
    *,
    at_once: int,
    gpus: Callable[[Params], float],
) -> dict[str, str]:
    """Train a few steps of a typical trial of every model; the machine's record then knows their pace.

    As many processes do so at once as trials will run side by side, because they slow each other down.

    Args:
        unknown: some configurations of every model.
        at_once: trials that will run side by side.
        gpus: returns the GPUs of a trial.

    Returns:
        The errors of models that cannot be trained, by name.

    Raises:
        UserError: a process died.
    """
    # The module trains, so it imports torch, which a search that knows its models does without.
    from trainables.timed_steps import Request, Requests

    settings, fixed = config.trial_settings(), config.fixed_params()
    seconds = min(_ENOUGH_S, max(_LEAST_S, _ALL_MODELS_S / len(unknown)))
    typical = [_typical(draws, fixed) for draws in unknown.values()]
    requests = [
        Request(with_params(settings, params), seconds, min(1.0, gpus(params) or 1 / at_once)) for params in typical
    ]
    asked = [
        Requests(
            # Each process begins with another model, so that different models run side by side, as in a search.
            [*requests[first % len(requests) :], *requests[: first % len(requests)]],
            threads=config.resources.cpu,
            at_once=config.search.max_concurrent,
            keeps_checkpoints=config.checkpoint.is_written,
            most_s=_ALL_MODELS_S,
        )
        for first in range(at_once)
    ]
    children = [_started(one) for one in asked]
    try:
        _wait(children, PaceLedger(MachineFiles().pace))
        return {name: error for child in children for name, error in _answer(child).items()}
    finally:
        for child in children:
            child.kill()
            child.wait()


def _wait(children: Sequence["subprocess.Popen[bytes]"], ledger: PaceLedger) -> None:
    """Wait until all children have ended, or for too long."""
    begun, before = time.monotonic(), sum(1 for _ in ledger.timings())
    while any(child.poll() is None for child in children):
        waited_s = time.monotonic() - begun
        if waited_s > _PATIENCE_S or (waited_s > _MOST_S and sum(1 for _ in ledger.timings()) > before):
            return
        time.sleep(_LOOK_S)


def _typical(draws: Sequence[Params], fixed: Params) -> Params:
    """Return the configuration with the median of the computed tokens of a step."""

    def tokens(params: Params) -> float:
        whole = {**fixed, **params}
        return float(whole["train.batch_size"]) * float(whole["train.grad_accum"]) * float(whole["tok.max_length"])

    return sorted(draws, key=tokens)[len(draws) // 2]


def _started(asked: "Requests") -> "subprocess.Popen[bytes]":
    child = subprocess.Popen(
        [sys.executable, "-m", "trainables.timed_steps"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    pickle.dump(asked, child.stdin)
    child.stdin.close()
    child.stdin = None
    return child


def _answer(child: "subprocess.Popen[bytes]") -> dict[str, str]:
    """Return the errors that a child reports; none if it has not ended.

    Raises:
        UserError: the child died.
    """
    if child.poll() is None:
        return {}
    said, problem = child.communicate()
    if child.returncode:
        last = problem.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"model.name: the process that times its steps ended with {child.returncode}: {''.join(last)}")
    errors: dict[str, str] = json.loads(said.decode().splitlines()[-1])
    return errors
