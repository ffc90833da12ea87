"""Files of a Ray that is started on this machine, kept from its other users: its sessions and its token."""

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

# Ray's sockets lie below its folder, and the kernel allows their paths so many bytes.
_LONGEST_SOCKET = 107
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
# Logs of earlier searches are kept so long, for whoever wants to know why a worker ended.
_LOGS_S = 7 * 24 * 3600.0


def sessions_folder() -> Path:
    """Return the folder for Ray's sessions; those that nothing has used for a week are removed from it.

    Raises:
        UserError: no folder will do.
    """
    sessions = find_sessions_folder()
    remove_taken(take_abandoned(sessions, "session_*", unused_s=_LOGS_S))
    return sessions


def find_sessions_folder() -> Path:
    """Return where Ray's sessions lie on this machine, or will.

    It lies in the user's private folder for temporary files: in that of ``RAY_TMPDIR`` or ``TMPDIR``, or elsewhere
    where that path is too long for a socket. Ray opens the folder itself to everyone.

    Raises:
        UserError: no folder will do.
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


def _unusable(folder: Path) -> str | None:
    """Return why Ray would not work in a folder, None where it would."""
    if len(os.fsencode(folder / _SOCKET)) > _LONGEST_SOCKET:
        return f"{folder} is too long a path"
    environment = os.environ.get("VIRTUAL_ENV")
    if environment and folder.resolve().is_relative_to(Path(environment).resolve()):
        return f"{folder} lies in a virtual environment"
    return None


@contextmanager
def session_in_use(folder: Path) -> Iterator[None]:
    """Keep other searches from removing a session's folder."""
    held = hold(folder)
    try:
        yield
    finally:
        os.close(held)


def check_announced(file: Path, setting: str) -> None:
    """Refuse a cluster that another user announces to this machine: whoever joins it sends it code and the token.

    Args:
        file: in which Ray's start notes the address that ``auto`` stands for.
        setting: that says ``auto``.

    Raises:
        UserError: another user than root wrote it.
    """
    if file.exists() and (owner := file.stat().st_uid) not in (0, os.geteuid()):
        raise UserError(
            f"{setting}: auto: {file} was written by user {user_name(owner)}; if that is the cluster you mean, give its"
            " address instead of auto"
        )


def protect_token(*, may_make: bool) -> None:
    """See that Ray's token is readable by this user alone.

    Left to itself Ray makes ``~/.ray/auth_token`` readable for everyone. A token that the environment holds or
    names is its owner's business.

    Args:
        may_make: make one where there is none, as Ray does when it is started; one that is joined may want none.

    Raises:
        UserError: it cannot be made or protected.
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
