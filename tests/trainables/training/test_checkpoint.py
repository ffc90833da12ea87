"""Checkpoints: training resumes as if never interrupted, folders are whole, and no code in them runs."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.devices.cpu import CpuDevice
from trainables.planning.batch_limits import MachineFiles
from trainables.session import TrainingSession
from trainables.settings import TrialSettings, with_params
from trainables.training import checkpoint
from trainables.training.checkpoint import TrialProgress

SessionOf = Callable[[TrialSettings], TrainingSession]


class RunsCode:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._path,)


def train(session: TrainingSession, epochs: int) -> list[float]:
    """Return loss and value of each epoch."""
    results = []
    for _ in range(epochs):
        results.append(session.train_epoch())
        scores = session.evaluate("validation").metrics
        session.progress.values.append(scores["macro_f1"])
        results += scores.values()
    return results


def is_same(one: Any, other: Any) -> bool:
    """Compare values, which may be nested in dicts, lists and tuples."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def test_an_epoch_and_another_in_a_fresh_session_are_two_to_the_last_bit(
    optimizer_name: str, builtin_settings: TrialSettings, session_of: SessionOf, tmp_path: Path
) -> None:
    changed = with_params(builtin_settings, {"optim.name": optimizer_name, "train.epochs": 2})
    straight = session_of(changed)
    values = train(straight, 2)

    first = session_of(changed)
    begun = train(first, 1)
    first.save(tmp_path / "epoch-1")
    second = session_of(changed)
    # Another trial of the process may leave such a random state behind.
    torch.manual_seed(99)
    second.resume(tmp_path / "epoch-1")

    assert second.progress == first.progress
    assert begun + train(second, 1) == values
    weights, resumed = straight.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert is_same(second.optimizer.state_dict(), straight.optimizer.state_dict())
    assert second.schedule.get_last_lr() == straight.schedule.get_last_lr()
    assert second.progress.values == straight.progress.values


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_one(
    settings: TrialSettings, session_of: SessionOf, tmp_path: Path
) -> None:
    session = session_of(settings)
    session.progress.values.append(0.5)
    folder = session.save(tmp_path / "kept")
    session.progress.values.append(0.7)
    session.optimizer.param_groups[0]["unpicklable"] = lambda: None
    for name in ("kept", "new"):
        with pytest.raises(Exception, match="lambda"):
            session.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    fresh = session_of(settings)
    fresh.resume(folder)
    assert fresh.progress.values == [0.5]


def test_a_checkpoint_from_before_there_were_rungs_is_loaded(
    settings: TrialSettings, session_of: SessionOf, tmp_path: Path
) -> None:
    session = session_of(settings)
    session.progress.values.append(0.5)
    (file,) = session.save(tmp_path / "checkpoint").iterdir()
    state = torch.load(file, weights_only=True)
    for name in ("step_losses", "rung_values"):
        del state["progress"][name]
    torch.save(state, file)
    fresh = session_of(settings)
    fresh.resume(tmp_path / "checkpoint")
    assert fresh.progress == session.progress


def test_a_checkpoint_runs_no_code(settings: TrialSettings, session_of: SessionOf, tmp_path: Path) -> None:
    session = session_of(settings)
    (file,) = session.save(tmp_path / "checkpoint").iterdir()
    torch.save({"model": RunsCode(tmp_path / "touched")}, file)
    with pytest.raises(Exception, match="Weights only load failed"):
        session.resume(tmp_path / "checkpoint")
    assert not (tmp_path / "touched").exists()


def test_a_folder_without_a_checkpoint_is_an_error(
    settings: TrialSettings, session_of: SessionOf, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        session_of(settings).resume(tmp_path)


@pytest.mark.parametrize(("values", "best"), [([], 0), ([0.1], 1), ([0.1, 0.4, 0.4, 0.2], 2)])
def test_the_best_epoch_is_the_first_with_the_highest_value(values: list[float], best: int) -> None:
    progress = TrialProgress(values=values)
    assert (progress.epoch, progress.best_epoch) == (len(values), best)


def test_going_on_takes_no_more_memory_than_the_run_holds_anyway(
    optimizer_name: str, settings: TrialSettings, cache: Path, machine_folder: Path, tmp_path: Path
) -> None:
    device = CpuDevice()
    with device.enforce():
        session = TrainingSession(with_params(settings, {"optim.name": optimizer_name}), cache, device)
        names = [list(state) for state in session.optimizer.state.values()]
        session.plan_memory(MachineFiles(machine_folder))
        folder = session.save(tmp_path / "checkpoint")
        before = device.live_bytes()
        with device.measured() as measured:
            session.resume(folder)
        # The memory of the session is counted as before.
        assert device.live_bytes() == before
        assert measured.peak_bytes - before < 2**10
        assert [list(state) for state in session.optimizer.state.values()] == names


def test_the_schedules_position_is_restored_too(settings: TrialSettings, session_of: SessionOf, tmp_path: Path) -> None:
    trained = session_of(settings)
    trained.train_epoch()
    folder = trained.save(tmp_path / "checkpoint")
    fresh = session_of(settings)
    fresh.resume(folder)
    rates = [[group["lr"] for group in session.optimizer.param_groups] for session in (trained, fresh)]
    assert rates[0] == rates[1] == [trained.schedule.get_last_lr()[0]] * 2
    for (_, state), (_, resumed) in zip(trained.optimizer.state.items(), fresh.optimizer.state.items(), strict=True):
        assert state.keys() == resumed.keys()
        assert all(torch.equal(value, resumed[name]) for name, value in state.items())


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_FILE", "/dev/full")
    with pytest.raises(OSError, match="No space left") as results:
        checkpoint.save_progress(tmp_path / "epoch-1", TrialProgress())
    assert results.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_a_session_is_whole_until_a_bit_of_it_changes(
    builtin_settings: TrialSettings, session_of: SessionOf, tmp_path: Path
) -> None:
    folder = session_of(builtin_settings).save(tmp_path / "epoch-0")
    assert checkpoint.damage_of(folder) is None
    content = bytearray((folder / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "state.pt").write_bytes(content)
    assert checkpoint.damage_of(folder) == "state.pt is damaged"
