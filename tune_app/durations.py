"""Durations as people read them."""


def duration_text(seconds: float) -> str:
    """``75`` → ``1 min 15 s``; two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
