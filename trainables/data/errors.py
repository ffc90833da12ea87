"""The error that means the user's data cannot be used."""


class DataError(ValueError):
    """The user's data cannot be used. The message is one line: the problem, where it is, and the remedy."""


def one_line(error: Exception) -> str:
    """Return an error's message without its line breaks."""
    return " ".join(str(error).split())
