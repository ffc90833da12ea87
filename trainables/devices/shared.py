"""The holdings of a simulated card's processes, in a small file that all of them map.

Each process has a slot of three whole numbers: its id, its start time, and the bytes that it holds or has claimed.
Nothing needs cleaning up: the slot of a dead process counts as nothing, and the next process takes it. All processes
must see the same process ids (one machine, one container).
"""

import fcntl
import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.private import open_unlinked

_SLOTS = 256
# The number of slots ever used precedes the slots.
_SLOT_CELLS = 3
_CELLS = 1 + _SLOTS * _SLOT_CELLS
_FILE_BYTES = 8 * _CELLS


class SharedBudget:
    """This process's view of a card's slots. It takes a slot when it first publishes; a forked process takes a new one.

    Publishing and reading are plain memory accesses. Claiming takes the file's lock (``flock``), so that no two
    processes get the same bytes.

    Args:
        path: the card's file, on a local disk; the file and its folder are made on first use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid = -1
        self._file: int
        self._cells: memoryview
        self._slot: int | None

    def others_bytes(self) -> int:
        """Return the memory that the other live processes hold or have claimed."""
        cells = self._mapped()
        return sum(cells[slot + 2] for slot in _slots(cells) if cells[slot] != self._pid and _lives(cells, slot))

    def publish(self, held_bytes: int) -> None:
        """Publish this process's holdings, whether or not they fit.

        Raises:
            RuntimeError: more than 256 processes share the card.
        """
        cells = self._mapped()
        slot = self._own_slot(cells)
        cells[slot + 2] = held_bytes

    def claim(self, least_bytes: int, most_bytes: int, total_bytes: int) -> int | None:
        """Publish as much between ``least_bytes`` and ``most_bytes`` as fits ``total_bytes`` beside the others.

        Returns:
            The published bytes, including all that this process holds. If not even ``least_bytes`` fit, None, and
            nothing is published.

        Raises:
            RuntimeError: more than 256 processes share the card.
        """
        cells = self._mapped()
        own_slot = self._own_slot(cells)
        with self._locked():
            room = total_bytes - sum(cells[3 : 3 + cells[0] * _SLOT_CELLS : _SLOT_CELLS]) + cells[own_slot + 2]
            if room < most_bytes:
                # Checking that a process lives is worth it only if its bytes are needed.
                for slot in _slots(cells):
                    if cells[slot + 2] and slot != own_slot and not _lives(cells, slot):
                        room += cells[slot + 2]
                        cells[slot + 2] = 0
            if room < least_bytes:
                return None
            claimed = min(most_bytes, room)
            cells[own_slot + 2] = claimed
        return claimed

    def _mapped(self) -> memoryview:
        """Return the file's cells.

        A forked process opens the file anew; otherwise it would share its parent's lock and slot.
        """
        pid = os.getpid()
        if pid != self._pid:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_unlinked(self._path, os.O_RDWR | os.O_CREAT)
            weakref.finalize(self, os.close, self._file)
            with self._locked():
                missing = _FILE_BYTES - os.fstat(self._file).st_size
                if missing > 0:
                    # Write the bytes instead of only setting the size: a full disk is then an error here, not a crash
                    # at first access.
                    os.pwrite(self._file, bytes(missing), _FILE_BYTES - missing)
            self._cells = memoryview(mmap.mmap(self._file, _FILE_BYTES)).cast("q")
            self._slot = None
            self._pid = pid
        return self._cells

    def _own_slot(self, cells: memoryview) -> int:
        if self._slot is None:
            with self._locked():
                self._slot = _take_slot(cells, self._pid, _started(self._pid), self._path)
        return self._slot

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _slots(cells: memoryview) -> range:
    """Return the first cell of every slot that was ever used."""
    return range(1, 1 + cells[0] * _SLOT_CELLS, _SLOT_CELLS)


def _take_slot(cells: memoryview, pid: int, started: int, path: Path) -> int:
    """Return the slot that this process already has through another view of the file, else a free slot."""
    free = None
    for slot in _slots(cells):
        if (cells[slot], cells[slot + 1]) == (pid, started):
            return slot
        if free is None and not _lives(cells, slot):
            free = slot
    if free is None:
        if cells[0] == _SLOTS:
            raise RuntimeError(f"{path}: more than {_SLOTS} processes share this card")
        free = 1 + cells[0] * _SLOT_CELLS
        cells[0] += 1
    cells[free + 2] = 0
    cells[free] = pid
    cells[free + 1] = started
    return free


def _lives(cells: memoryview, slot: int) -> bool:
    return _started(cells[slot]) == cells[slot + 1]


def _started(pid: int) -> int:
    """Return a process's start time in the kernel's ticks; -1 if it is gone, 0 if the kernel does not report it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Skip the program's name, which may hold any character.
            state, *others = file.read().rpartition(b")")[2].split()
    except FileNotFoundError:
        return -1 if os.path.exists("/proc/self/stat") else _answers(pid)
    except ProcessLookupError:
        return -1
    # A killed process that was not waited for holds nothing.
    return -1 if state in (b"Z", b"X") else int(others[18])


def _answers(pid: int) -> int:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return -1
    except PermissionError:
        pass
    return 0
