"""Folders and lock files that belong to this user alone, on a machine that other users share."""

import errno
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path


class NotOursError(PermissionError):
    """Another user put a folder or file in the place of ours. The message is one line, with the remedy."""


def private_folder(folder: Path, setting: str) -> Path:
    """Make a folder for this user alone, and return it. Other users lose their access to an existing one.

    A link is followed only if this user made it.

    Args:
        setting: environment variable that names another location, for the message.

    Raises:
        NotOursError: another user owns the folder or made the link, or the path is not a folder.
        OSError: the folder cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    seen = folder.lstat()
    _require_own(folder, seen, setting)
    if stat.S_ISLNK(seen.st_mode):
        return private_folder(folder.resolve(), setting)
    if not stat.S_ISDIR(seen.st_mode):
        raise NotOursError(f"{setting}: {folder} is not a folder; remove it, or set {setting} to a folder of your own")
    # Check and change the same open descriptor: another user may have replaced the folder since.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        seen = os.fstat(descriptor)
        _require_own(folder, seen, setting)
        if seen.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            os.fchmod(descriptor, stat.S_IRWXU)
    finally:
        os.close(descriptor)
    return folder


def open_unlinked(path: str | Path, flags: int) -> int:
    """Open a file of ours and return its descriptor; ``flags`` say whether to create it.

    Raises:
        NotOursError: the path is a link, through which another file would be written.
        OSError: the file cannot be opened.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise NotOursError(f"{path}: is a link and is not followed; remove it") from None


def _require_own(folder: Path, seen: os.stat_result, setting: str) -> None:
    if seen.st_uid != os.geteuid():
        raise NotOursError(
            f"{setting}: {folder} belongs to user {user_name(seen.st_uid)} and is not used; set {setting} to a folder"
            " of your own"
        )


def user_name(number: int) -> str:
    """Return a user's name, or the number if the machine has no name for it."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
