"""This machine: its CPU cores, and the folder of what its runs and searches know together about memory."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from trainables.private import private_folder
from trainables.scratch import temporary_folder


def cpu_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    # Not every system can restrict a process to some cores.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_folder() -> Path:
    """Return ``headroom`` in the user's cache folder, or a folder among temporary files if that is not the user's own.

    Raises:
        NotOursError: another user owns both.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "headroom"
    try:
        folder = private_folder(cache, "XDG_CACHE_HOME")
    except OSError:
        return temporary_folder()
    return folder if os.access(folder, os.W_OK) else temporary_folder()


@dataclass(frozen=True)
class MachineFiles:
    """The files that the machine's runs and searches share. Every missing file is made again."""

    folder: Path = field(default_factory=machine_folder)

    @property
    def predictions(self) -> Path:
        """The folder of traced predictions."""
        return self.folder / "predictions"

    @property
    def probes(self) -> Path:
        """The folder of the probes' results."""
        return self.folder / "probes"

    @property
    def tokenizers(self) -> Path:
        """The folder of the built-in encoders' tokenizers, each trained on some data."""
        return self.folder / "tokenizers"

    @property
    def cards(self) -> Path:
        """The folder that records what the processes of a simulated card hold."""
        return self.folder / "cards"

    @property
    def ledger(self) -> Path:
        """The file of ``planning.ledger``."""
        return self.folder / "ledger.jsonl"

    @property
    def pace(self) -> Path:
        """The file of ``planning.timings``."""
        return self.folder / "pace.jsonl"

    @property
    def searches(self) -> Path:
        """The file in which searches record the time that they took beside their trials."""
        return self.folder / "searches.jsonl"
