"""Values as messages quote them: on one line, and not too long."""

_LONGEST = 80


def quoted(value: object) -> str:
    """Return a value's ``repr``, cut if it is long."""
    try:
        text = repr(value)
    except ValueError:
        # Python refuses to convert an integer of thousands of digits to text.
        text = "a very long number"
    except RecursionError:
        text = f"a {type(value).__name__} nested very deeply"
    return _cut(text)


def short(text: str) -> str:
    """Return a text on one line, cut if it is long."""
    # Cut twice: white space may be most of it.
    return _cut(" ".join(text[: 4 * _LONGEST].split()))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
