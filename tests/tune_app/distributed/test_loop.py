"""Tune's loop: the names that it gives trials, and its end while Ray is silent."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle

from tune_app.distributed import loop
from tune_app.study.checkpoints import CheckpointStorage, StudyCheckpoints


def test_a_trials_folder_name_carries_the_studys_id_and_can_be_pickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    class Tuner:
        def __init__(self, trainable: Any, **options: Any) -> None:
            given.update(options)

        def fit(self) -> None: ...

    monkeypatch.setattr(loop.tune, "Tuner", Tuner)
    # Messages to a person go through locks, as those of a console do.
    checkpoints = StudyCheckpoints(CheckpointStorage(str(tmp_path)), "checkpoints", "0f" * 16, threading.RLock().__eq__)
    with pytest.raises(TypeError, match="cannot pickle"):
        cloudpickle.dumps(checkpoints)
    loop.run_loop(
        lambda config: None, searcher=None, scheduler=None, callbacks=[], cpus=1, checkpoints=checkpoints, retries=0
    )
    name = cloudpickle.loads(cloudpickle.dumps(given["tune_config"].trial_dirname_creator))
    assert name(SimpleNamespace(config={"number": 7}, trial_id="a")) == f"trial-00007-{'0f' * 16}_a"


def test_an_action_is_abandoned_once_ray_is_silent() -> None:
    begun, silent, never = threading.Event(), threading.Event(), threading.Event()

    def wait_for_ray() -> None:
        begun.set()
        silent.set()
        never.wait()

    loop._while(lambda: not silent.is_set(), wait_for_ray)
    assert begun.is_set()
    begun.clear()
    loop._while(lambda: not silent.is_set(), begun.set)
    assert not begun.is_set(), "Ray was silent from the beginning"


def test_an_error_while_ray_answers_is_raised() -> None:
    def fail() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        loop._while(lambda: True, fail)
