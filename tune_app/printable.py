"""Conversion of external texts (names, paths, values, messages of libraries) for a terminal, a log or a report."""

import logging
import unicodedata

_KEPT = "\n\t"


def printable(text: str) -> str:
    """Return the text with its control, format and surrogate characters as escapes, so that no terminal obeys them.

    Line breaks and tabs stay, as do the blanks of all languages.
    """
    if text.isprintable():
        return text
    return "".join(sign if _is_harmless(sign) else repr(sign)[1:-1] for sign in text)


class PrintableFormatter(logging.Formatter):
    """Formatter whose lines cannot control a terminal that shows the log."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _is_harmless(sign: str) -> bool:
    return sign.isprintable() or sign in _KEPT or unicodedata.category(sign) == "Zs"
