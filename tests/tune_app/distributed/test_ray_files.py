"""Ray's files on this machine: in a private folder, under a path short enough for its sockets."""

import io
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tune_app.config import parse_config
from tune_app.console import Console
from tune_app.distributed.ray_files import (
    check_announced,
    protect_token,
    session_in_use,
    sessions_folder,
    short_temporary_folder,
)
from tune_app.errors import UserError
from tune_app.experiment import run_search


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set a folder for temporary files and return it; count its path as short enough for sockets.

    The tests' own folder is too long for them.
    """
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tune_app.distributed.ray_files._LONGEST_SOCKET", 10_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_sessions_lie_in_a_private_folder(short: Path) -> None:
    folder = sessions_folder()
    assert folder == short / f"headroom-{os.getuid()}" / "ray"
    assert mode(folder.parent) == 0o700


def test_ray_s_own_variable_comes_first(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short / "rays"))
    assert sessions_folder().is_relative_to(short / "rays")


@pytest.mark.parametrize("length", [44, 130])
def test_a_temporary_folder_too_long_for_sockets_is_passed_over(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * length)))
    folder = sessions_folder()
    assert folder.parent.parent in (Path("/tmp"), Path("/var/tmp"))
    socket = folder / f"session_2026-11-28_00-20-33_764454_{2**22}" / "sockets" / "plasma_store"
    assert len(os.fsencode(socket)) <= 107


def test_ray_s_processes_get_another_folder_only_if_python_s_sockets_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", f"/{'x' * 70}")
    assert short_temporary_folder() == {}
    monkeypatch.setattr("tempfile.tempdir", f"/{'x' * 130}")
    other = short_temporary_folder()["TMPDIR"]
    assert len(f"{other}/pymp-abcdefgh/listener-abcdefgh") <= 107
    assert Path(other).is_dir()


def test_all_folders_are_named_if_none_is_suitable(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_app.distributed.ray_files._LONGEST_SOCKET", 10)
    with pytest.raises(UserError, match=r"TMPDIR: no folder for Ray's sockets \(.* too long a path; .*short path"):
        sessions_folder()


def test_a_search_without_a_folder_for_ray_begins_no_study(
    plain_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tune_app.distributed.ray_files._LONGEST_SOCKET", 10)
    with pytest.raises(UserError, match="TMPDIR: no folder for Ray's sockets"):
        run_search(parse_config(plain_config), console=Console(file=io.StringIO()), quiet=True)
    assert not (tmp_path / "runs").exists()


def test_a_virtual_environment_which_ray_refuses_is_passed_over(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(short))
    assert not sessions_folder().is_relative_to(short)


def test_logs_go_after_a_week_unless_their_search_is_still_running(short: Path) -> None:
    folder = sessions_folder()
    names = ("session_new", "session_old", "session_running", "other")
    for name in names:
        (folder / name / "logs").mkdir(parents=True)
        if name != "session_new":
            os.utime(folder / name, (0, time.time() - 8 * 24 * 3600))
    with session_in_use(folder / "session_running"):
        sessions_folder()
    assert {path.name for path in folder.iterdir()} == {"session_new", "session_running", "other"}


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".ray" / "auth_token"


def test_the_token_is_made_for_this_user_alone(token: Path) -> None:
    protect_token(may_make=False)
    assert not token.exists(), "a cluster that is joined may want none"
    protect_token(may_make=True)
    assert (mode(token), mode(token.parent), len(token.read_text())) == (0o600, 0o700, 64)
    first = token.read_text()
    protect_token(may_make=True)
    assert token.read_text() == first


@pytest.mark.parametrize("may_make", [True, False])
def test_a_token_that_others_read_is_closed_to_them(may_make: bool, token: Path) -> None:
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    protect_token(may_make=may_make)
    assert (mode(token), token.read_text()) == (0o600, "secret")


@pytest.mark.parametrize(
    ("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "x"), ("RAY_AUTH_TOKEN_PATH", "/x")]
)
def test_no_token_is_made_that_ray_would_not_read(
    name: str, value: str, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    protect_token(may_make=True)
    assert not token.exists()


def test_a_token_that_cannot_be_made_is_said(token: Path) -> None:
    token.parent.touch()
    with pytest.raises(UserError, match=r"HOME: .*auth_token cannot be made .*RAY_AUTH_TOKEN_PATH"):
        protect_token(may_make=True)


def test_a_cluster_that_another_user_announces_is_not_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ray_current_cluster"
    check_announced(file, "--address")
    file.write_text("127.0.0.1:6379")
    check_announced(file, "--address")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(Path, "stat", lambda path: os.stat_result((0o100644, 0, 0, 1, 4242, 0, 0, 0, 0, 0)))
    with pytest.raises(UserError, match=rf"--address: auto: {file} was written by user 4242; .*give its address"):
        check_announced(file, "--address")
