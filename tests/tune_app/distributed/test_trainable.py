"""Workers whose trial cannot save checkpoints: they wait, or let it run again elsewhere."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from trainables.content import InputsChangedError
from tune_app.distributed import trainable
from tune_app.distributed.trainable import CheckpointsOutOfReachError
from tune_app.study.checkpoints import CheckpointStorage

STORE = CheckpointStorage("s3://key:hush@bucket/runs")


class Action:
    """Action that raises each of the errors before it succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tried = 0

    def __call__(self) -> str:
        self.tried += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainable, "_PAUSE_S", 0.0)


def test_a_store_that_answers_again_costs_nothing_but_time() -> None:
    action = Action(OSError("no answer"), OSError("no answer"))
    assert trainable._patiently(STORE, action) == "done"
    assert action.tried == 3


def test_a_store_that_stays_away_is_not_the_trials_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainable, "_PATIENCE_S", -1.0)
    with pytest.raises(
        CheckpointsOutOfReachError, match="the store of the checkpoints does not answer: no answer from key:"
    ) as told:
        trainable._patiently(STORE, Action(OSError("no answer from key:hush")))
    assert "hush" not in str(told.value)


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ValueError("a defect")])
def test_an_answer_is_not_waited_for(error: Exception) -> None:
    action = Action(error)
    with pytest.raises(type(error)):
        trainable._patiently(STORE, action)
    assert action.tried == 1


@pytest.mark.parametrize("kept", [True, False])
def test_a_disk_is_written_to_once(kept: bool, tmp_path: Path) -> None:
    action = Action(OSError("full"))
    with pytest.raises(OSError, match="full"):
        trainable._patiently(CheckpointStorage(str(tmp_path)) if kept else None, action)
    assert action.tried == 1


def test_a_node_that_joined_without_the_place_of_the_checkpoints_is_named(tmp_path: Path) -> None:
    storage = CheckpointStorage(str(tmp_path))
    with pytest.raises(
        CheckpointsOutOfReachError, match=rf"node [\d.]+ does not have {tmp_path}, where checkpoints lie"
    ):
        trainable._require_reach(storage, "checkpoints")
    (tmp_path / "checkpoints").mkdir()
    trainable._require_reach(storage, "checkpoints")


def test_a_disk_that_is_full_for_a_trial_is_named_and_no_error_of_its_own_is(tmp_path: Path) -> None:
    storage = CheckpointStorage(str(tmp_path))
    full = RuntimeError("writing failed")
    full.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    why = trainable._no_trials_fault(full, storage)
    assert why is not None
    assert "No space left on device" in why
    assert why.endswith(f"(a trial was writing to {tempfile.gettempdir()} or {tmp_path})")
    assert trainable._no_trials_fault(InputsChangedError("data.path: gone"), None) == "data.path: gone"
    assert trainable._no_trials_fault(FileNotFoundError("a trial's own"), storage) is None
