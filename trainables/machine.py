"""This machine: its CPU cores, and what its runs and searches know together about memory, and where they keep it."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from trainables.memory.ledger import Ledger
from trainables.private import private_folder
from trainables.scratch import temporary_folder


def cpu_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    # Not every system has a say in which.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_folder() -> Path:
    """Return ``headroom`` in the user's cache folder; where that cannot be the user's own, among temporary files.

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
    """Everything in it is found again where it is missing."""

    folder: Path = field(default_factory=machine_folder)

    @property
    def predictions(self) -> Path:
        """Folder of traced predictions."""
        return self.folder / "predictions"

    @property
    def probes(self) -> Path:
        """Folder of what probes found."""
        return self.folder / "probes"

    @property
    def tokenizers(self) -> Path:
        """Folder of the tokenizers of built-in encoders, each trained on some data."""
        return self.folder / "tokenizers"

    @property
    def cards(self) -> Path:
        """Folder of what the processes of a card made of the CPU hold."""
        return self.folder / "cards"

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "ledger.jsonl")
