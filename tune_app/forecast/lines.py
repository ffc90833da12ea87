"""Lines on a plan for a person."""

from collections.abc import Iterator

from tune_app.durations import duration_text
from tune_app.forecast.hours import Range
from tune_app.forecast.time_forecast import TimeForecast


def time_lines(time: TimeForecast, trials: int) -> Iterator[str]:
    """Yield the lines on the hours of a study."""
    yield f"hours      {range_text(time.hours)} for {trials} trials, with early stopping (from {time.basis})"
    if time.gpu_hours.expected:
        yield f"gpu-hours  {range_text(time.gpu_hours)}"
    if time.scaled:
        yield f"  not timed, but scaled by size from another model: {', '.join(time.scaled)}"
    for name, error in time.errors.items():
        yield f"  {name} cannot be trained: {error}"


def range_text(hours: Range) -> str:
    """Return a range as people read it: the expected value, and the bounds that nine of ten searches keep."""
    expected, low, high = (duration_text(3600 * value) for value in (hours.expected, hours.low, hours.high))
    return f"{expected} (nine of ten times between {low} and {high})"
