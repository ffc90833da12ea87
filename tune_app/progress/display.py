"""Choice of the display of a running search."""

from tune_app.config import RunConfig
from tune_app.progress.live_table import LiveTable
from tune_app.progress.plain import PlainLines, Quiet, SearchDisplay
from tune_app.study.remaining import Course
from tune_app.study.store import StudyStore
from tune_app.voice import Voice


def display_of(config: RunConfig, store: StudyStore, voice: Voice) -> SearchDisplay:
    """Return the live table in a terminal, plain lines elsewhere, and nothing for a quiet voice."""
    if voice.is_quiet:
        return Quiet()
    shown = LiveTable if voice.console.is_terminal else PlainLines
    return shown(voice, store, Course.of(config))
