"""Files from other people: only regular files are opened, and any invalid JSON gives the same error."""

import json
import os
import socket
from pathlib import Path

import pytest

from trainables.given import NotAFileError, parse_json, read_json, require_file, require_files_in


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(NotAFileError, match=r"^is a pipe, not a file$"):
            require_file(tmp_path / name)
        with pytest.raises(NotAFileError):
            read_json(tmp_path / name)


def test_devices_and_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # A socket's path is limited to about a hundred characters.
    with pytest.raises(NotAFileError, match="is a device"):
        require_file("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(NotAFileError, match="is a socket"):
            require_file("socket")


def test_a_missing_file_or_a_folder_is_the_usual_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        require_file(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        require_file(tmp_path)


def test_a_folder_may_hold_files_folders_and_broken_links_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").symlink_to("none")
    require_files_in(tmp_path)
    os.mkfifo(tmp_path / "vocab.txt")
    with pytest.raises(NotAFileError, match=r"^holds vocab\.txt, which is a pipe, not a file$"):
        require_files_in(tmp_path)


def test_json_is_read_and_deep_json_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": [1, "ä"]}))
    assert read_json(tmp_path / "a.json") == {"a": [1, "ä"]}
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json('{"a":' * 100_000 + "1" + "}" * 100_000)
