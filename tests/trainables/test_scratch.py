"""Temporary folders: they are removed once their process has ended, whatever ended it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainables.scratch import scratch_folder, take_abandoned, temporary_folder

_HOLDER = """
from trainables.scratch import scratch_folder
with scratch_folder("trial") as folder:
    (folder / "checkpoints").mkdir()
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path / f"headroom-{os.getuid()}"


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """Start another process with a temporary folder."""
    command, root = [sys.executable, "-c", _HOLDER], Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        yield process
        process.kill()


def folders(temporary: Path) -> set[Path]:
    return set(temporary.glob("trial-*"))


def test_a_folder_is_private_and_removed_at_the_end(temporary: Path) -> None:
    with scratch_folder("trial") as folder:
        assert folder.parent == temporary == temporary_folder()
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").touch()
    assert folders(temporary) == set()
    with pytest.raises(KeyError), scratch_folder("trial"):
        raise KeyError
    assert folders(temporary) == set()


def test_a_killed_process_s_folder_is_removed_by_the_next_and_a_living_one_s_is_not(
    temporary: Path, other: subprocess.Popen[str]
) -> None:
    assert other.stdout is not None
    theirs = Path(other.stdout.readline().strip())
    with scratch_folder("trial") as first, scratch_folder("trial") as second:
        assert folders(temporary) == {theirs, first, second}
    other.kill()
    other.wait()
    assert folders(temporary) == {theirs}
    with scratch_folder("train"):
        assert folders(temporary) == {theirs}, "of another purpose"
    with scratch_folder("trial") as next_one:
        assert folders(temporary) == {next_one}


def test_a_folder_that_its_own_process_removes_meanwhile_is_no_error(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary_folder()
    theirs = temporary / "trial-theirs"
    theirs.mkdir()

    def removed_first() -> float:
        theirs.rmdir()
        return time.time()

    monkeypatch.setattr("trainables.scratch.time", SimpleNamespace(time=removed_first))
    assert take_abandoned(temporary, "trial-*") == {}


def test_links_are_not_taken_for_folders(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    temporary_folder()
    (temporary / "trial-x").symlink_to(tmp_path / "precious")
    with scratch_folder("trial"):
        pass
    assert (tmp_path / "precious").exists()
