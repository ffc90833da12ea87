"""Locks that end with their holder, and folders that appear whole or not at all."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.files import (
    DamagedError,
    check_sealed,
    locked,
    read_checked,
    sealed_folder,
    whole_file,
    whole_folder,
    write_checked,
    write_whole,
)

_KILLED_INSIDE = """
import os, signal, sys
from pathlib import Path
from trainables.files import locked, whole_folder, write_whole
with {context} as folder:
    if folder is not None:
        (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def die_inside(context: str) -> None:
    """Run another process that is killed while it holds the context."""
    code = _KILLED_INSIDE.format(context=context)
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -9


def test_only_one_holds_a_lock(tmp_path: Path) -> None:
    inside: list[str] = []

    def work(name: str) -> None:
        with locked(tmp_path / "new" / "lock"):
            inside.append(name)
            time.sleep(0.02)
            assert inside[-1] == name
            inside.append(name)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside[0::2] == inside[1::2]
    assert len(inside) == 8


def test_a_lock_is_released_by_an_error_and_by_the_death_of_its_holder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    die_inside(f"locked(Path({str(tmp_path / 'lock')!r}))")
    with locked(tmp_path / "lock"):
        pass


def test_a_folder_appears_only_when_it_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with whole_folder(folder) as partial:
        (partial / "file").write_text("text")
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_a_folder_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with whole_folder(tmp_path / "folder") as partial:
            (partial / name).touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]


def test_an_error_leaves_the_earlier_folder_and_nothing_else(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "folder") as partial:
        (partial / "old").touch()

    def interrupted() -> None:
        with whole_folder(tmp_path / "folder") as partial:
            (partial / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["folder", "folder/old"]


def test_a_process_that_is_killed_leaves_no_half_written_folder(tmp_path: Path) -> None:
    die_inside(f"whole_folder(Path({str(tmp_path / 'folder')!r}))")
    assert not (tmp_path / "folder").exists()
    # The next call removes the remains.
    with whole_folder(tmp_path / "folder") as partial:
        (partial / "file").touch()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["folder", "folder/file"]


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "plan.json"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_stays_as_it_is_where_its_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("one")

    def write() -> None:
        with whole_file(path) as building:
            building.write_text("tw")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def change(path: Path) -> None:
    size = path.stat().st_size
    path.write_text("tex7")
    assert path.stat().st_size == size
    # The kernel's clock may not have advanced since the file was written.
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: change(folder / "sub" / "b"),
        lambda folder: (folder / "a").unlink(),
        lambda folder: (folder / "new").touch(),
        lambda folder: (folder / "checksums.json").write_text(""),
        lambda folder: (folder / "checksums.json").write_text("{}"),
    ],
    ids=["changed", "missing", "new", "seal cut short", "seal of nothing"],
)
def test_a_sealed_folder_tells_every_damage(damage: Callable[[Path], object], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for _ in range(2):
        with sealed_folder(folder) as partial:
            (partial / "sub").mkdir()
            (partial / "a").write_text("text")
            (partial / "sub" / "b").write_text("text")
        check_sealed(folder)
        check_sealed(folder)
        damage(folder)
        with pytest.raises(DamagedError):
            check_sealed(folder)


def test_a_folder_that_is_not_there_or_was_not_sealed_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_sealed(tmp_path)


@pytest.mark.parametrize("written", ['{"value": 1}', "[]", "", '{"value": 1, "checksum": 0}', "\udc80"])
def test_a_checked_value_is_what_was_written_or_an_error(written: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_checked(path, {"one": [1.5, None]})
    assert read_checked(path) == {"one": [1.5, None]}
    path.write_text(written, errors="surrogateescape")
    with pytest.raises(DamagedError):
        read_checked(path)
