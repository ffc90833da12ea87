"""Page that follows a study in a terminal, for ``headroom status --watch``."""

import functools
import time

from rich.live import Live

from tune_app.commands.endings import endings_line
from tune_app.commands.overview import overview
from tune_app.commands.terminal import open_named, warn
from tune_app.console import Console
from tune_app.progress.watch_page import GpuMeter, watch_page
from tune_app.study.remaining import Course

WATCH_S = 2.0
"""Seconds between two readings of a watched study."""


def watch_study(console: Console, study: str) -> int:
    """Show the page of a study until Ctrl-C.

    Args:
        study: name, run directory or URI of the study.

    Raises:
        UserError: the study cannot be read.
    """
    warn_once, gpus = functools.cache(warn), GpuMeter()
    version: str | None = None
    # The page has the whole screen, and the terminal returns to its former content at the end.
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="ellipsis") as display:
        while True:
            loaded = open_named(study, say=warn_once)
            # Computed only once, because it opens every later version.
            version = loaded.version if version is None else version
            shown = overview(loaded.store, loaded.config, loaded.run_dir)
            gpus.read()
            page = watch_page(
                loaded.store,
                shown.status,
                Course.of(loaded.config),
                is_running=shown.is_running,
                version=version,
                gpus=gpus,
                ending=endings_line(loaded.store, loaded.config, running=shown.is_running),
            )
            display.update(page, refresh=True)
            time.sleep(WATCH_S)
