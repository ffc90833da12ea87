"""Errors that a person can fix: shown as one line, without a traceback and without passwords."""

import difflib
import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

from trainables.private import NotOursError
from tune_app.printable import printable

_HIDDEN = "***"
# Names of URL options whose values are secret.
_SECRETS = "pass|pwd|secret|token|key|credential"


class UserError(Exception):
    """Error for bad input. The message is one line with the setting, its value and the remedy, without passwords."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


_LONGEST_WORD = 300
_LONGEST_LINE = 1500


def one_line(message: str) -> str:
    """Return a message fit for a terminal: one line of bounded length, without passwords and control characters.

    A message that is too long loses its middle, since the setting is at the beginning and the remedy at the end.
    """
    words = " ".join(without_password(message).splitlines()).split(" ")
    line = _without_middle(" ".join(_without_middle(word, _LONGEST_WORD) for word in words), _LONGEST_LINE)
    return printable(line)


def _without_middle(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[-most // 3 :]}"


class StorageError(Exception):
    """Error of a study's storage that no longer works. The message is one line, for a person, without passwords."""


@contextmanager
def foreign_refused() -> Iterator[None]:
    """Report a folder or file of another user in the place of ours as bad input.

    Raises:
        UserError: there is such a folder or file.
    """
    try:
        yield
    except NotOursError as error:
        raise UserError(str(error)) from None


_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
_NO_TEMPORARY = "No usable temporary directory"
# Errors of Optuna and SQLAlchemy by name, since importing them takes long.
_DATABASE_ERRORS = {"StorageInternalError", "OperationalError", "InterfaceError"}


def storage_failure(error: BaseException) -> str | None:
    """Return the message for an error caused by a disk, a database or a store, however wrapped; None for any other."""
    causes = list(_chain(error))
    if storage_errors := [str(cause) for cause in causes if isinstance(cause, StorageError)]:
        return storage_errors[0]
    for cause in causes:
        if isinstance(cause, OSError) and (failure := _temporary_failure(cause)) is not None:
            return failure
    disk = [cause for cause in causes if isinstance(cause, OSError) and cause.errno in _DISK_ERRORS]
    database = [cause for cause in causes if type(cause).__name__ in _DATABASE_ERRORS]
    if not disk and not database:
        return None
    # The innermost database error knows the cause; the SQL statement after it does not help.
    failure = str(disk[0] if disk else database[-1]).partition("[SQL:")[0]
    remedy = "free space there, or make it writable again," if disk else "check that the database answers"
    text = without_password(" ".join(failure.split()))[:300]
    return (
        f"the search ended because it cannot record its trials: {text}; finished trials are saved: {remedy} and run the"
        " same command again"
    )


def _temporary_failure(error: OSError) -> str | None:
    """Return the message for an unusable folder of temporary files; None for any other error."""
    remedy = "finished trials are saved: run the same command again"
    if _NO_TEMPORARY in str(error):
        return f"TMPDIR: no folder for temporary files can be written; set TMPDIR to one that can; {remedy}"
    for setting in ("RAY_TMPDIR", "TMPDIR"):
        folder = os.environ.get(setting) or ("/tmp" if setting == "TMPDIR" else None)
        # Match only Ray's and headroom's own files, since a study may lie there, too.
        ours = folder and re.match(
            rf"{re.escape(folder.rstrip('/'))}(/(ray|headroom-[^/]*)(/|$)|$)", str(error.filename)
        )
        if ours and error.errno in _DISK_ERRORS | {errno.EACCES, errno.EPERM}:
            return (
                f"{setting}: {folder}, the folder for temporary files, cannot be used ({error.strerror}); set {setting}"
                f" to another one, or free space there; {remedy}"
            )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty, or its type's name where there is none."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean X?"`` for the closest known word; an empty text if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


# The match extends to the last @, since a password may contain an unescaped one.
_PASSWORD = re.compile(r"(?P<before>://[^:/@\s]*:)(?P<password>\S*)@")
_SECRET_OPTION = re.compile(rf"(?i)(?P<before>[?&;][\w.-]*(?:{_SECRETS})[\w.-]*=)(?P<password>[^&;\s'\"]+)")


def without_password(text: str) -> str:
    """Return a URL, or a text that quotes URLs, with the passwords and keys replaced by ``***``."""
    return _SECRET_OPTION.sub(rf"\g<before>{_HIDDEN}", _PASSWORD.sub(rf"\g<before>{_HIDDEN}@", text))


def without_password_of(url: str, message: str) -> str:
    """Return another library's message about a URL, without the URL's secrets.

    A secret is removed where it is part of the URL, whole or cut: before an @, or after the name of an option. The same
    letters elsewhere in the message stay.
    """
    message = without_password(message.replace(url, without_password(url)))
    for secret in (match["password"] for match in _PASSWORD.finditer(url)):
        # If a password contains an @, some libraries take the text after it for the host.
        parts = [secret, *(secret[at.end() :] for at in re.finditer("@", secret))]
        for part in _spellings(*parts):
            message = re.sub(rf"{_EDGE}{re.escape(part)}@", f"{_HIDDEN}@", message)
        message = _without_value(secret, message)
    for secret in (match["password"] for match in _SECRET_OPTION.finditer(url)):
        message = _without_value(secret, message)
    return message


# Position at which a part of a URL may begin.
_EDGE = r"(?<![^\s'\"(/:@=])"


def _without_value(secret: str, message: str) -> str:
    """Return the message without the secret after names of secret options: ``password=…``, ``'password': '…'``."""
    for value in _spellings(secret):
        named = rf"(?i)(?P<before>\b[\w.-]*(?:{_SECRETS})[\w.-]*['\"]?\s*[=:]\s*['\"]?){re.escape(value)}(?!\w)"
        message = re.sub(named, rf"\g<before>{_HIDDEN}", message)
    return message


def _spellings(*parts: str) -> list[str]:
    """Return the parts of a URL as written, decoded and encoded, the longest first."""
    spellings = {way for part in parts if part for way in (part, unquote(part), quote(part, safe=""))}
    return sorted(spellings, key=len, reverse=True)


def check_password(setting: str, url: str) -> None:
    """Refuse a URL whose password contains unescaped reserved characters: each library would end it elsewhere.

    Raises:
        UserError: there is such a character. The message names it, but not the URL, since the secret's end is unclear.
    """
    secret = re.search(r"://[^:/@?#]*:(?!\d+/)(?P<password>.*)@", url, re.DOTALL)
    for sign in _RESERVED:
        if secret and sign in secret["password"]:
            raise UserError(f"{setting}: the URL holds a {_RESERVED[sign]} before its @; write it as {quote(sign, '')}")


_RESERVED = {" ": "blank", "\t": "tab", "\n": "line break", "/": "/", "?": "?", "#": "#"}


def lacks_password(url: str) -> bool:
    """Return whether the password was left out of a URL."""
    return f":{_HIDDEN}@" in url or f"={_HIDDEN}" in url
