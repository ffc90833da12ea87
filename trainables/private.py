"""Folders and lock files that belong to this user alone, on a machine that other users share."""

import errno
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path


class NotOursError(PermissionError):
    """A folder or file that another user prepared in the place of ours. The message is one line, with the remedy."""


def private_folder(folder: Path, setting: str) -> Path:
    """Make a folder for this user alone, and return it. Others lose their access to one that is there already.

    A link is followed only if this user made it.

    Args:
        setting: environment variable that names another place for it, for the message.

    Raises:
        NotOursError: another user owns the folder or made the link, or something else bears its name.
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    seen = folder.lstat()
    _require_own(folder, seen, setting)
    if stat.S_ISLNK(seen.st_mode):
        return private_folder(folder.resolve(), setting)
    if not stat.S_ISDIR(seen.st_mode):
        raise NotOursError(f"{setting}: {folder} is no folder; remove it, or set {setting} to a folder of your own")
    # What is checked last is what is changed: another user may have replaced the folder since.
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
    """Open a file of ours, which is made where ``flags`` say so; return its descriptor.

    Raises:
        NotOursError: a link stands in its place, which would have another file written.
        OSError: it cannot be opened.
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
    """Return a user's name; the number where the machine has no name for it."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
