"""Parsing of single cells, the same for every file format: the cell as text, and its meaning in each column."""

import datetime
import math
import re
import reprlib
from contextlib import suppress
from decimal import Decimal

TRUTH = {"false": 0, "true": 1}
_WHOLE = re.compile(r"[+-]?\d+\.0*")
_LONGEST_NAME = 100


def written(cell: object) -> str | None:
    """Return a cell as text, None for an empty one; 7, 7.0 and Decimal("7.00") are all written 7.

    Raises:
        ValueError: the cell holds several values, or bytes.
    """
    if cell is None or isinstance(cell, str):
        return cell or None
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float | Decimal):
        return str(int(cell)) if math.isfinite(cell) and cell == int(cell) else str(cell)
    if isinstance(cell, int | datetime.date | datetime.time):
        return str(cell)
    raise ValueError(f"{reprlib.repr(cell)} is not a text; write it as a string")


def text(cell: object) -> str:
    """Return a text unchanged."""
    text = written(cell)
    if text is None:
        raise ValueError("is empty; fill it in or remove the row")
    if text.isspace():
        raise ValueError("holds only blanks; fill it in or remove the row")
    return unicode(text)


def group(cell: object) -> str:
    """Return the name of a group without surrounding blanks; a whole number loses its decimals.

    Leading zeros stay, in every format: 007 may be a code, and another group than 7.
    """
    text = (written(cell) or "").strip()
    if not text:
        raise ValueError(
            "is empty; give every row its group, or rows of one group may end up on both sides of the split"
        )
    # Convert no other notation: 1e3 may be an identifier.
    return unicode(text.partition(".")[0] if _WHOLE.fullmatch(text) else text)


def label(cell: object) -> str:
    """Return a label as the name of its class: a whole number in digits, true or false, or a name."""
    text = (written(cell) or "").strip()
    if not text:
        raise ValueError("is empty; write its class, or remove the row")
    if text.lower() in TRUTH:
        return text.lower()
    with suppress(ValueError):
        return str(_whole(text))
    if _is_number(text):
        raise ValueError(f"{reprlib.repr(cell)} is not a class: labels are whole numbers or names; write it as one")
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise ValueError(f"{reprlib.repr(cell)} is not the name of a class; give data.columns.label the right column")
    return text


def is_whole(label: str) -> bool:
    """Return whether the name of a class is a whole number in digits."""
    return label.removeprefix("-").isdecimal()


def integer(cell: object) -> int | None:
    """Return an integer however it is written (1, 1.0, " 1 "); None for an empty cell."""
    text = (written(cell) or "").strip()
    if not text:
        return None
    if text.lower() in TRUTH:
        return TRUTH[text.lower()]
    with suppress(ValueError):
        return _whole(text)
    raise ValueError(f"{reprlib.repr(cell)} is not an integer; write it as one")


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False


def unicode(text: str) -> str:
    """Return a text that every program can hold, unchanged.

    Raises:
        ValueError: the text holds NUL, or half a surrogate pair.
    """
    position = text.find("\0")
    if position >= 0:
        raise ValueError(f"character {position + 1} is NUL, which no text holds; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start + 1} is half a surrogate pair; write the whole character") from error
    return text


def _whole(text: str) -> int:
    with suppress(ValueError):
        return int(text)
    number = float(text)
    if not number.is_integer():
        raise ValueError
    return int(number)
