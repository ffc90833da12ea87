"""Checkpoint from which a trial resumes: the newest whole one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pyarrow.fs import LocalFileSystem
from ray import tune

from tune_app.distributed.resuming import resumed
from tune_app.study.checkpoints import CheckpointStorage

TRIAL = "trial-00003-a"


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Path]:
    """Write three checkpoints of one trial; return them, the newest first."""
    folders = [tmp_path / "checkpoints" / TRIAL / f"checkpoint_{number:06}" for number in (2, 1, 0)]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        torch.save({"weights": torch.full((1000,), number)}, folder / "state.pt")
    return folders


def flip(folder: Path) -> None:
    content = bytearray((folder / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "state.pt").write_bytes(content)


def cut(folder: Path) -> None:
    (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:-40])


def emptied(folder: Path) -> None:
    (folder / "state.pt").unlink()


DAMAGES = [
    (flip, "state.pt is damaged"),
    (cut, "state.pt is damaged"),
    (emptied, "it holds no file"),
    (shutil.rmtree, "it is gone"),
]


@pytest.fixture
def storage(tmp_path: Path) -> CheckpointStorage:
    return CheckpointStorage(str(tmp_path))


def number_in(folder: Path | None) -> int:
    assert folder is not None
    return int(torch.load(folder / "state.pt", weights_only=True)["weights"][0])


def test_the_newest_is_taken_and_nothing_is_said_of_it(
    checkpoints: list[Path], storage: CheckpointStorage, tmp_path: Path
) -> None:
    found = resumed(None, list(map(str, checkpoints)), storage, tmp_path / "scratch")
    assert (number_in(found.folder), found.passed_over) == (0, None)


@pytest.mark.parametrize(("damage", "problem"), DAMAGES)
@pytest.mark.parametrize("is_rays", [True, False])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    is_rays: bool,
    damage: Callable[[Path], None],
    problem: str,
    checkpoints: list[Path],
    storage: CheckpointStorage,
    tmp_path: Path,
) -> None:
    newest, before, _ = checkpoints
    damage(newest)
    # Ray's checkpoint of a paused trial is not among those that the study named at launch.
    rays = tune.Checkpoint(str(newest), LocalFileSystem()) if is_rays else None
    found = resumed(rays, [] if is_rays else [str(newest), str(before)], storage, tmp_path / "scratch")
    assert number_in(found.folder) == 1
    assert found.passed_over == (
        f"its checkpoint {TRIAL}/checkpoint_000002 cannot be used ({problem}); it resumes from"
        f" {TRIAL}/checkpoint_000001"
    )


@pytest.mark.parametrize(("damage", "problem"), DAMAGES)
def test_without_a_whole_one_the_trial_starts_again(
    damage: Callable[[Path], None], problem: str, checkpoints: list[Path], storage: CheckpointStorage, tmp_path: Path
) -> None:
    for folder in checkpoints:
        damage(folder)
    found = resumed(None, list(map(str, checkpoints)), storage, tmp_path / "scratch")
    assert found.folder is None
    assert found.passed_over is not None
    assert found.passed_over.endswith(f"({problem}); it starts again from the beginning")


def test_a_trial_that_has_none_starts_without_a_word(storage: CheckpointStorage, tmp_path: Path) -> None:
    found = resumed(None, (), storage, tmp_path / "scratch")
    assert (found.folder, found.passed_over) == (None, None)
