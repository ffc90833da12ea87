"""Headroom's private folders and files: for this user alone, and never those that another user prepared there."""

import os
import stat
from pathlib import Path

import pytest

from trainables.devices.shared import SharedBudget
from trainables.files import locked
from trainables.machine import machine_folder
from trainables.planning.ledger import Circumstances, Ledger
from trainables.private import NotOursError, private_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the process another user id than the owner of its files."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)


def test_a_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "new" / "ours", "TMPDIR")
    assert (folder, mode(folder)) == (tmp_path / "new" / "ours", 0o700)


def test_a_folder_that_others_reach_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours").chmod(0o777)
    assert mode(private_folder(tmp_path / "ours", "TMPDIR")) == 0o700


def test_a_link_of_this_user_is_followed(tmp_path: Path) -> None:
    (tmp_path / "ours").symlink_to(tmp_path / "disk")
    (tmp_path / "disk").mkdir()
    assert private_folder(tmp_path / "ours", "TMPDIR") == tmp_path / "disk"
    assert mode(tmp_path / "disk") == 0o700


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_folder_of_another_user_is_refused(kind: str, tmp_path: Path, another_user: None) -> None:
    (tmp_path / "precious").mkdir(mode=0o755)
    ours = tmp_path / "ours"
    if kind == "folder":
        ours.mkdir(mode=0o755)
    else:
        ours.symlink_to(tmp_path / "precious")
    with pytest.raises(NotOursError, match=rf"TMPDIR: {ours} belongs to user \w+ and is not used; set TMPDIR"):
        private_folder(ours, "TMPDIR")
    assert mode(tmp_path / "precious") == mode(ours) == 0o755


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").touch()
    with pytest.raises(NotOursError, match="is not a folder"):
        private_folder(tmp_path / "ours", "TMPDIR")


def test_the_machine_folder_is_private_and_the_fallback_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert machine_folder() == tmp_path / "cache" / "headroom"
    assert mode(machine_folder()) == 0o700
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert machine_folder() == tmp_path / f"headroom-{os.getuid()}"
    assert mode(machine_folder()) == 0o700


def test_a_fallback_that_another_user_prepared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, another_user: None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"headroom-{os.getuid()}").mkdir()
    with pytest.raises(NotOursError, match="belongs to user"):
        machine_folder()


def test_a_link_in_the_place_of_a_file_of_ours_leaves_the_other_file_alone(tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / "link"
    precious.write_text("precious")
    link.symlink_to(precious)

    def lock() -> None:
        with locked(link):
            pass

    where = Circumstances.here("cpu", "fp32")
    writers = [
        lock,
        lambda: Ledger(link).add(where, predicted_gib=1.0, measured_gib=1.0),
        lambda: SharedBudget(link).publish(1),
    ]
    for write in writers:
        with pytest.raises(NotOursError, match="is a link and is not followed; remove it"):
            write()
    assert precious.read_text() == "precious"
