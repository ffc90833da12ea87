"""Files that a person names, or that come with what is named: only regular ones are read."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

_MOST_JSON_BYTES = 2**28


class NotAFileError(OSError):
    """A path that leads to a pipe, a socket or a device: reading from it may wait for ever, or never end."""

    def __str__(self) -> str:
        return str(self.strerror)


def require_file(path: str | Path) -> None:
    """Refuse what is no regular file, before anything opens it: a pipe would wait for its writer.

    Raises:
        NotAFileError: it is a pipe, a socket or a device.
        FileNotFoundError: there is nothing.
        IsADirectoryError: it is a folder.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise NotAFileError(errno.EINVAL, f"is {_kind(mode)}, not a file", str(path))


def require_files_in(folder: Path) -> None:
    """Refuse a folder that holds anything but regular files and folders, for libraries that open what they find.

    Raises:
        NotAFileError: naming what is none of these.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        # What a broken link leads to is not there to be opened.
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
        OSError: it cannot be read, or is no regular file.
        ValueError: it holds no JSON, more than 256 MiB, or values nested too deeply to be read.
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
        ValueError: it is none, or its values are nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
