"""Errors that a person can mend: shown as one line, without a traceback."""

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message is one line: the setting, its value and what would be right."""

    def __init__(self, message: str) -> None:
        # A name or a path of the user's may hold a line break.
        super().__init__(" ".join(message.splitlines()))


def nearest(word: str, known: Iterable[str]) -> str:
    """``"; did you mean X?"`` for the closest known word, or an empty text where none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def without_password(url: str) -> str:
    """A storage or tracking URL fit to be shown: the password in it, if any, is replaced by ``***``."""
    # Up to the last @: a password may hold one, unescaped.
    return re.sub(r"(?P<user>://[^:/@\s]*):\S*@", r"\g<user>:***@", url)
