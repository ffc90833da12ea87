"""Files that a person names, or that come with a named folder: only regular files are read."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

_MOST_JSON_BYTES = 2**28


class NotAFileError(OSError):
    """A path that leads to a pipe, a socket or a device. Reading from it may wait forever, or never end."""

    def __str__(self) -> str:
        return str(self.strerror)


def require_file(path: str | Path) -> None:
    """Reject anything but a regular file before it is opened: a pipe would wait for its writer.

    Raises:
        NotAFileError: the path is a pipe, a socket or a device.
        FileNotFoundError: the path does not exist.
        IsADirectoryError: the path is a folder.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise NotAFileError(errno.EINVAL, f"is {_kind(mode)}, not a file", str(path))


def require_files_in(folder: Path) -> None:
    """Reject a folder that holds anything but regular files and folders, for libraries that open every file they find.

    Raises:
        NotAFileError: another kind of entry exists; the message names it.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        # The target of a broken link does not exist, so nothing can open it.
        if not entry.is_file() and not entry.is_dir() and os.path.exists(entry.path):
            kind = _kind(entry.stat().st_mode)
            raise NotAFileError(errno.EINVAL, f"holds {entry.name}, which is {kind}, not a file", str(folder))


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def read_json(path: Path) -> Any:
    """Read a JSON file that anybody may have written.

    Raises:
        OSError: the file cannot be read, or is not regular.
        ValueError: the file holds no JSON, more than 256 MiB, or values nested too deeply.
    """
    require_file(path)
    if path.stat().st_size > _MOST_JSON_BYTES:
        raise ValueError(f"holds more than {_MOST_JSON_BYTES // 2**20} MiB")
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"is not a valid JSON file: {error}") from None


def parse_json(text: str | bytes) -> Any:
    """Parse JSON that anybody may have written.

    Raises:
        ValueError: the text is no JSON, or its values are nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
