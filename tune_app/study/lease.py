"""Lease on a study in a store: a file there that the search with the right to write renews while it runs.

A store has no locks that a dead process releases, and the clocks of two machines may differ. A search that finds a
lease therefore waits to see whether it is renewed, and takes it if not. If two searches take a lease at once, the last
one has it. Both see this a moment later.

A search may be silent for long, suspended with its machine, say. Another search may take its lease meanwhile. A search
therefore checks that it still holds the lease before every write. A missing lease was taken by another search and
released again.
"""

import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from tune_app.errors import StorageError, UserError

LEASE_FILE = "search.lease"

_BEAT_S = 10.0
SILENT_S = 3 * _BEAT_S
"""Seconds without a renewal after which the holder of a lease counts as dead."""
# Seconds after which two searches that took a lease at once both see who was last.
_SETTLE_S = 1.0


class Files(Protocol):
    """Files of a store, by their paths in it. Every method raises OSError if the store does not answer."""

    def read(self, file: str) -> bytes | None: ...
    def write(self, file: str, content: bytes) -> None: ...
    def delete(self, file: str) -> None: ...


@dataclass(frozen=True)
class Holder:
    """Holder of a lease.

    Attributes:
        id: id that is new at every start.
        beat: number of renewals so far.
    """

    id: str
    host: str
    pid: int
    beat: int = 0


class Lease:
    """Lease of one study.

    Args:
        study: name of the study and of its folder in the store.
        noted: local file that records the holder of the last lease taken from this machine.
        beat_s: seconds between two renewals.
        silent_s: seconds without a renewal after which the holder counts as dead.
        settle_s: seconds to wait after taking a lease, until another search that took it at once is visible.
    """

    def __init__(
        self,
        store: Files,
        study: str,
        noted: Path,
        *,
        beat_s: float = _BEAT_S,
        silent_s: float = SILENT_S,
        settle_s: float = _SETTLE_S,
    ) -> None:
        self._store = store
        self._study = study
        self._file = f"{study}/{LEASE_FILE}"
        self._noted = noted
        self._beat_s = beat_s
        self._silent_s = silent_s
        self._settle_s = settle_s
        self._this_holder: Holder | None = None
        self._lost: str | None = None

    def require(self) -> None:
        """Check that this search still holds the lease, as far as it knows. The store is not asked.

        Raises:
            StorageError: the lease is lost.
        """
        if self._lost is not None:
            raise StorageError(self._lost)

    def confirm(self) -> None:
        """Check in the store that this search still holds the lease.

        Raises:
            StorageError: the lease is lost.
            OSError: the store does not answer.
        """
        self.require()
        assert self._this_holder is not None, "it is held"
        there = self._read()
        if there is None or there.id != self._this_holder.id:
            self._lose(there)
        self.require()

    def _lose(self, there: Holder | None) -> None:
        who = f"another search on {there.host}" if there else "another search, which has ended,"
        self._lost = (
            f"the search ended because {who} has taken over the study {self._study}, because this machine was silent"
            " for too long; records that only this machine has are saved here"
        )

    @contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[None]:
        """Take the lease, renew it in a thread, and release it at the end; the caller holds this machine's lock.

        Args:
            say: called with a message if there is another holder to wait for.

        Raises:
            UserError: another search holds the lease and renews it.
            OSError: the store does not answer.
        """
        this_holder = self._this_holder = Holder(uuid.uuid4().hex, socket.gethostname(), os.getpid())
        self._take(this_holder, say)
        is_over = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(this_holder, is_over), name="lease", daemon=True)
        renewal.start()
        try:
            yield
        finally:
            is_over.set()
            renewal.join()
            self._release(this_holder)

    def _take(self, this_holder: Holder, say: Callable[[str], None]) -> None:
        there = self._read()
        # A previous holder that worked on the same copy is dead, since the caller holds that copy's lock.
        is_noted = there is not None and self._noted.exists() and self._noted.read_text() == there.id
        was_own = is_noted and there is not None and there.host == this_holder.host
        if there is not None and not was_own:
            say(f"a search on {there.host} may be running on the study; waiting {self._silent_s:g} s to find out")
            self._wait_for(there)
        self._write(this_holder)
        self._noted.write_text(this_holder.id)
        if not was_own:
            time.sleep(self._settle_s)
        last = self._read()
        if last is not None and last.id != this_holder.id:
            raise self._refusal(last)

    def _wait_for(self, there: Holder) -> None:
        end = time.monotonic() + self._silent_s
        while time.monotonic() < end:
            time.sleep(min(self._beat_s, self._silent_s) / 4)
            now = self._read()
            if now is None:
                return
            if now != there:
                raise self._refusal(now)

    def _refusal(self, holder: Holder) -> UserError:
        return UserError(
            f"study.name: a search is running on {self._study} already, on {holder.host} (process {holder.pid}); wait"
            " for it, end it, or set another study.name"
        )

    def _renew(self, this_holder: Holder, is_over: threading.Event) -> None:
        while not is_over.wait(self._beat_s) and self._lost is None:
            asked_at = time.monotonic()
            # If the store does not answer, try again at the next beat.
            with suppress(OSError, StorageError):
                self.confirm()
                this_holder = replace(this_holder, beat=this_holder.beat + 1)
                self._write(this_holder)
                if time.monotonic() - asked_at > self._silent_s:
                    # Another search may have taken the lease between the check and the write.
                    self._lose(None)

    def _release(self, this_holder: Holder) -> None:
        # If the release fails, the next search takes the lease after a wait.
        with suppress(OSError):
            there = self._read()
            if self._lost is None and there is not None and there.id == this_holder.id:
                self._store.delete(self._file)

    def _read(self) -> Holder | None:
        content = self._store.read(self._file)
        if content is None:
            return None
        try:
            return Holder(**json.loads(content))
        except (ValueError, TypeError):
            # The lease may be another version's. Its hash changes when that version renews it.
            return Holder(hashlib.sha256(content).hexdigest(), "an unknown machine", 0)

    def _write(self, holder: Holder) -> None:
        self._store.write(self._file, json.dumps(asdict(holder)).encode())
