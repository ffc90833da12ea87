"""Durations as people read them."""


def duration_text(seconds: float) -> str:
    """Return a duration in at most two units, such as ``1 min 15 s`` for 75 seconds."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
