"""What the processes of one card hold, in a small file that all of them map: a card made of the CPU is shared by it.

Each process has a slot of three whole numbers: its id, when it started, and the bytes that it holds or has claimed.
Nothing needs cleaning up: the slot of a process that is gone counts as nothing and is taken by the next one. All
processes must see the same process ids (one machine, one container).
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
# The number of slots ever used, then the slots.
_SLOT_CELLS = 3
_CELLS = 1 + _SLOTS * _SLOT_CELLS
_FILE_BYTES = 8 * _CELLS


class SharedBudget:
    """This process's view of a card's slots. It takes a slot when it first publishes, in a forked process a new one.

    Publishing and reading are plain memory accesses; claiming takes the file's lock (``flock``), so that no two
    processes are given the same bytes.

    Args:
        path: the card's file, on a local disk; it and its folder are made when first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid = -1
        self._file: int
        self._cells: memoryview
        self._slot: int | None

    def others_bytes(self) -> int:
        """What the other processes that live hold or have claimed."""
        cells = self._mapped()
        return sum(cells[slot + 2] for slot in _slots(cells) if cells[slot] != self._pid and _lives(cells, slot))

    def publish(self, held_bytes: int) -> None:
        """Let the others know what this process holds, whether or not that fits.

        Raises:
            RuntimeError: more than 256 processes share the card.
        """
        cells = self._mapped()
        slot = self._own_slot(cells)
        cells[slot + 2] = held_bytes

    def claim(self, least_bytes: int, most_bytes: int, total_bytes: int) -> int | None:
        """Publish as much between ``least_bytes`` and ``most_bytes`` as fits ``total_bytes`` beside the others.

        Returns:
            What was published, all that this process holds included; None, and nothing is published, where not even
            the least fits.

        Raises:
            RuntimeError: more than 256 processes share the card.
        """
        cells = self._mapped()
        own = self._own_slot(cells)
        with self._locked():
            room = total_bytes - sum(cells[3 : 3 + cells[0] * _SLOT_CELLS : _SLOT_CELLS]) + cells[own + 2]
            if room < most_bytes:
                # Whether a process lives is worth asking only where its bytes are wanted.
                for slot in _slots(cells):
                    if cells[slot + 2] and slot != own and not _lives(cells, slot):
                        room += cells[slot + 2]
                        cells[slot + 2] = 0
            if room < least_bytes:
                return None
            claimed = min(most_bytes, room)
            cells[own + 2] = claimed
        return claimed

    def _mapped(self) -> memoryview:
        """The file's cells. A forked process opens it anew, or it would share its parent's lock and slot."""
        pid = os.getpid()
        if pid != self._pid:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_unlinked(self._path, os.O_RDWR | os.O_CREAT)
            weakref.finalize(self, os.close, self._file)
            with self._locked():
                missing = _FILE_BYTES - os.fstat(self._file).st_size
                if missing > 0:
                    # Written, not only sized: on a full disk that is an error here, and no crash at the first access.
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
    """The first cell of every slot that was ever used."""
    return range(1, 1 + cells[0] * _SLOT_CELLS, _SLOT_CELLS)


def _take_slot(cells: memoryview, pid: int, started: int, path: Path) -> int:
    """The slot that this process has already, by another view of the file, else one that nobody has any more."""
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
    """When a process started, in the kernel's ticks; -1 if it is gone, 0 where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # After the program's name, in which there may be anything.
            state, *others = file.read().rpartition(b")")[2].split()
    except FileNotFoundError:
        return -1 if os.path.exists("/proc/self/stat") else _answers(pid)
    except ProcessLookupError:
        return -1
    # One that was killed and not waited for yet holds nothing.
    return -1 if state in (b"Z", b"X") else int(others[18])


def _answers(pid: int) -> int:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return -1
    except PermissionError:
        pass
    return 0
