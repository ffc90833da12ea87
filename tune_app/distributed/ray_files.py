"""Protection of a local Ray's files, its sessions and its token, from the machine's other users."""

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.private import NotOursError, user_name
from trainables.scratch import hold, remove_taken, take_abandoned, temporary_folder
from tune_app.errors import UserError

# Ray's sockets lie below its folder, and the kernel limits their paths to this many bytes.
_LONGEST_SOCKET = 107
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
# Python's own sockets lie below the temporary folder, where multiprocessing makes a folder for them.
_PYTHONS_SOCKET = "pymp-00000000/listener-00000000"
# Logs of earlier searches are kept this long, so that people can find out why a worker ended.
_LOGS_S = 7 * 24 * 3600.0


def sessions_folder() -> Path:
    """Return the folder for Ray's sessions, after deleting sessions that were unused for a week.

    Raises:
        UserError: no folder is suitable.
    """
    sessions = find_sessions_folder()
    remove_taken(take_abandoned(sessions, "session_*", unused_s=_LOGS_S))
    return sessions


def find_sessions_folder() -> Path:
    """Return the folder of Ray's sessions on this machine, which need not exist yet.

    It is in the user's private folder for temporary files, since Ray makes the folder itself accessible to everyone.
    That private folder is in ``RAY_TMPDIR`` or ``TMPDIR``, or elsewhere if their path is too long for a socket.

    Raises:
        UserError: no folder is suitable.
    """
    given = os.environ.get("RAY_TMPDIR")
    setting, first = ("RAY_TMPDIR", given) if given else ("TMPDIR", tempfile.gettempdir())
    problems = []
    for around in dict.fromkeys([os.path.abspath(first), "/tmp", "/var/tmp"]):
        try:
            folder = temporary_folder(around)
        except OSError as error:
            problems.append(str(error) if isinstance(error, NotOursError) else f"{around}: {error.strerror}")
            continue
        problem = _unusable(folder)
        if problem is None:
            return folder / "ray"
        problems.append(problem)
    raise UserError(f"{setting}: no folder for Ray's sockets ({'; '.join(problems)}); set it to a short path")


def short_temporary_folder() -> dict[str, str]:
    """Return ``TMPDIR`` for Ray's processes if the user's temporary folder is too long a path for Python's sockets.

    Raises:
        UserError: no other folder is suitable.
    """
    if len(os.fsencode(os.path.join(tempfile.gettempdir(), _PYTHONS_SOCKET))) <= _LONGEST_SOCKET:
        return {}
    return {"TMPDIR": str(find_sessions_folder().parent)}


def _unusable(folder: Path) -> str | None:
    """Return the reason why Ray would not work in a folder; None if it would."""
    if len(os.fsencode(folder / _SOCKET)) > _LONGEST_SOCKET:
        return f"{folder} is too long a path"
    environment = os.environ.get("VIRTUAL_ENV")
    if environment and folder.resolve().is_relative_to(Path(environment).resolve()):
        return f"{folder} lies in a virtual environment"
    return None


@contextmanager
def session_in_use(folder: Path) -> Iterator[None]:
    """Prevent other searches from deleting a session's folder."""
    held = hold(folder)
    try:
        yield
    finally:
        os.close(held)


def check_announced(file: Path, setting: str) -> None:
    """Refuse a cluster announced on this machine by another user: joining it would send that user code and the token.

    Args:
        file: file in which Ray records at its start the address that ``auto`` stands for.
        setting: setting whose value is ``auto``.

    Raises:
        UserError: a user other than this one and root wrote the file.
    """
    if file.exists() and (owner := file.stat().st_uid) not in (0, os.geteuid()):
        raise UserError(
            f"{setting}: auto: {file} was written by user {user_name(owner)}; if that is the cluster you mean, give its"
            " address instead of auto"
        )


def protect_token(*, may_make: bool) -> None:
    """Ensure that only this user can read Ray's token.

    By default, Ray makes ``~/.ray/auth_token`` readable for everyone. A token that the environment holds or names is
    its owner's responsibility.

    Args:
        may_make: whether to make a missing token, as Ray does when it starts. A cluster to join may need none.

    Raises:
        UserError: the token cannot be made or protected.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    file = Path.home() / ".ray" / "auth_token"
    try:
        if may_make:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_token(file)
        _close_to_others(file)
    except OSError as error:
        raise UserError(
            f"HOME: {file} cannot be made or kept from others ({error.strerror}); Ray reads its token there: set"
            " RAY_AUTH_TOKEN_PATH to a file of your own"
        ) from None


def _make_token(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_hex(32))


def _close_to_others(file: Path) -> None:
    if file.exists() and stat.S_IMODE(file.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        file.chmod(stat.S_IRUSR | stat.S_IWUSR)
