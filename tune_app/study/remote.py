"""Studies in a store (``study.dir: s3://…``), with working copies on this machine.

A study's journal needs appending and locking, which a store cannot do. The store therefore holds complete copies of the
study's own files, which a search rewrites as it goes on. Checkpoints go there directly. Every command that opens the
study first updates this machine's copy. A journal only ever grows, so the copy that begins with all of the other is the
newer one. A lease (``lease.py``) takes the place of a lock. MLflow's files stay on the machine: they mirror the study
and are filled from it wherever it goes on.

Records of a copy that the store lacks are never lost. The next search on this machine sends them, or they are set aside
if the study went on elsewhere.
"""

import datetime
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from pyarrow.fs import FileSelector, FileSystem, FileType

from trainables.files import whole_file
from tune_app.config import RunConfig
from tune_app.errors import StorageError, UserError, without_password
from tune_app.study.lease import LEASE_FILE, SILENT_S, Lease
from tune_app.study.removal import remove_below
from tune_app.study.run_dir import (
    CONFIG_FILE,
    CONFIRMATION_FILE,
    CONFIRMATION_FOLDER,
    REPORT_FILE,
    keep_urls,
    stored_urls,
)
from tune_app.study.storage_location import StorageLocation, StoreUnavailableError, store_errors
from tune_app.study.store import JOURNAL_FILE, search_is_running, search_lock
from tune_app.uris import below, is_store, parted, working_copies

_COPIED = (JOURNAL_FILE, CONFIG_FILE)
"""Files in writing order: a study without a configuration does not count as a study yet. Reading order is reversed."""
_BESIDE = (REPORT_FILE, CONFIRMATION_FILE)
"""Files that a command adds to a study in the store."""
_HOLDER_FILE = "search.holder"
_KNOWN_FILE = "search.known"
LOCAL_FILES = (_HOLDER_FILE, _KNOWN_FILE)
"""Local files beside the copy: the lease of the last search here, and a mark that the store has had the study."""
LEFT_FILES = f"{JOURNAL_FILE}.left-*"
"""Pattern of journals that were set aside."""

# Records that are not urgent, such as rejected samples, are saved after this many seconds at most.
_EVERY_S = 10.0
# Pause after a copy, as a multiple of the copy's duration: a long journal on a slow line must not hold the search up.
_REST = 4.0
# Pause before the last attempt at the end of a search.
_AGAIN_S = 5.0

Say = Callable[[str], None]
# Default for commands that only read: the log, which goes to the standard error.
warn: Say = logging.getLogger("headroom").warning


class PermanentStorage(Protocol):
    """Permanent storage of a study."""

    def save(self, *, at_once: bool) -> bool:
        """Save all records of the study if that is due or requested at once. Return whether all are saved.

        Raises:
            StorageError: this search no longer has the right to save the study.
        """
        ...


class LocalStorage:
    """Storage in the run directory or a database, which saves every record as it is written."""

    def save(self, *, at_once: bool) -> bool:
        return True


@contextmanager
def open_permanent_storage(config: RunConfig, say: Say = warn) -> Iterator[PermanentStorage]:
    """Hold a study's permanent storage for its writer; the caller holds the search lock of the run directory.

    Raises:
        UserError: a search on another machine holds the study, or the store cannot be read.
        StorageError: the store did not accept the new records at the end.
    """
    if is_store(config.study.dir):
        with RemoteStudy(StoredStudies(config.study.dir), config.study.name, say).held() as study:
            yield study
    else:
        yield LocalStorage()


def is_running(config: RunConfig, run_dir: Path) -> bool:
    """Return whether a search is at work on the study, here or, according to its store, on another machine.

    Args:
        run_dir: current run directory, which may have been moved.
    """
    if search_is_running(run_dir):
        return True
    return is_store(config.study.dir) and StoredStudies(config.study.dir).is_leased(config.study.name)


def fetched(location: str) -> Path:
    """Update this machine's copy of the study at a store's URI, and return its run directory.

    Raises:
        UserError: there is no such study, or the store cannot be read.
    """
    around, name = parted(location)
    studies = StoredStudies(around)
    if name not in studies.names():
        raise UserError(f"{location}: no study there; give study.dir and the study's name, as in s3://bucket/runs/demo")
    return studies.fetch(name)


class StoredStudies:
    """Studies at a location in a store.

    Args:
        location: URI of the location, as ``study.dir`` gives it.
    """

    def __init__(self, location: str) -> None:
        self._location = StorageLocation(location, "study.dir")
        self.folder = working_copies(location)

    def names(self) -> list[str]:
        """Return the names of the studies, sorted.

        Raises:
            UserError: the store cannot be read.
        """
        filesystem, path = self._location.opened()
        try:
            with store_errors():
                bucket = path.partition("/")[0]
                if filesystem.get_file_info(bucket).type == FileType.NotFound:
                    # A missing bucket is an error, unlike a location without studies.
                    raise FileNotFoundError(f"there is no {bucket}")
                infos = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
                names = [str(info.base_name) for info in infos if info.type == FileType.Directory]
                files = filesystem.get_file_info([f"{path}/{name}/{CONFIG_FILE}" for name in names]) if names else []
        except OSError as error:
            raise self._unreadable(error) from None
        return sorted(name for name, file in zip(names, files, strict=True) if file.type == FileType.File)

    def fetch_all(self, wanted: Callable[[str], bool] = lambda _: True, *, say: Say = warn) -> list[str]:
        """Update this machine's copies of the wanted studies, and return their names.

        Raises:
            UserError: the store cannot be read.
        """
        names = [name for name in self.names() if wanted(name)]
        for name in names:
            self.fetch(name, say=say)
        return names

    def set_aside_deleted(self, wanted: Callable[[str], bool], say: Say) -> None:
        """Set aside this machine's copies of studies that were deleted from the store.

        Raises:
            UserError: the store cannot be read.
        """
        there = self.names()
        copies = [path.name for path in self.folder.iterdir() if path.is_dir()] if self.folder.is_dir() else []
        for name in copies:
            if wanted(name) and name not in there and (self.folder / name / _KNOWN_FILE).exists():
                self.fetch(name, say=say, may_be_deleted=True)

    def fetch(self, name: str, *, is_locked: bool = False, may_be_deleted: bool = False, say: Say = warn) -> Path:
        """Update this machine's copy of a study, and return its run directory.

        A copy that a search on this machine works on is left alone, since it is ahead of the store.

        Args:
            is_locked: whether the caller holds the search lock of the run directory.
            may_be_deleted: whether a study that the store no longer has counts as deleted.
            say: called with a message if the copy holds records that the store lacks.

        Raises:
            UserError: the store cannot be read.
        """
        run_dir = self.folder / name
        try:
            # The configuration is written last and read first: if it is there, so is the journal.
            contents = {file: self.read(f"{name}/{file}") for file in (*reversed(_COPIED), CONFIRMATION_FILE)}
        except OSError as error:
            raise self._unreadable(error) from None
        if contents[CONFIG_FILE] is None and not (may_be_deleted and (run_dir / _KNOWN_FILE).exists()):
            return run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            if not is_locked:
                try:
                    stack.enter_context(search_lock(run_dir))
                except UserError:
                    # A search is at work on the copy.
                    return run_dir
            self._replace(run_dir, contents, say)
        return run_dir

    def _replace(self, run_dir: Path, contents: dict[str, bytes | None], say: Say) -> None:
        """Replace the copy with the store's files, and set aside records that the store lacks."""
        journal, config = run_dir / JOURNAL_FILE, run_dir / CONFIG_FILE
        there = None if contents[CONFIG_FILE] is None else contents[JOURNAL_FILE] or b""
        here = journal.read_bytes() if journal.exists() else b""
        if there is None or not here.startswith(there):
            # The last line may have been torn by a kill.
            if here and not (there or b"").startswith(here[: here.rfind(b"\n") + 1]):
                aside = journal.with_name(f"{JOURNAL_FILE}.left-{datetime.datetime.now():%Y%m%d-%H%M%S}")
                os.replace(journal, aside)
                say(f"the store lacks some records of this machine; they are saved as {aside}")
            _write(journal, there)
        _write(config, contents[CONFIG_FILE])
        _write(run_dir / CONFIRMATION_FILE, contents[CONFIRMATION_FILE])
        _write(run_dir / _KNOWN_FILE, None if there is None else b"")
        if there is not None:
            keep_urls({**stored_urls(run_dir), "study.dir": self._location.address}, run_dir)

    def is_leased(self, name: str) -> bool:
        """Return whether a search renewed its lease recently, by the clocks of the store and of this machine."""
        try:
            filesystem, path = self._location.opened()
            with store_errors():
                info = filesystem.get_file_info(f"{path}/{name}/{LEASE_FILE}")
        except (OSError, StoreUnavailableError):
            return False
        return bool(info.type == FileType.File and time.time() - info.mtime_ns / 1e9 < SILENT_S)

    def move(self, name: str, to: str) -> None:
        """Rename a study in the store, as its copy on this machine was renamed.

        Raises:
            UserError: the store does not accept the files.
        """
        # Until the store has the study under the new name, its absence must not count as deletion.
        (self.folder / to / _KNOWN_FILE).unlink(missing_ok=True)
        try:
            for file in (*_COPIED, *_BESIDE):
                if (self.folder / to / file).exists():
                    self.write(f"{to}/{file}", (self.folder / to / file).read_bytes())
        except OSError as error:
            raise UserError(
                f"study.dir: {self._location.address}: {to} cannot be written ({self._location.why(error)}); it is in"
                f" {self.folder / to}"
            ) from None
        (self.folder / to / _KNOWN_FILE).touch()
        self.remove(name)

    def add(self, name: str, file: Path) -> None:
        """Copy a file of this machine into a study's folder in the store.

        Raises:
            UserError: the store does not accept the file.
        """
        try:
            self.write(f"{name}/{file.name}", file.read_bytes())
        except OSError as error:
            raise UserError(
                f"study.dir: {self.shown(name)} cannot be written ({self.why(error)}); {file.name} is in {file.parent}"
            ) from None

    def remove(self, name: str) -> None:
        """Delete a study's own files from the store, its configuration first, without which it is no study.

        Raises:
            UserError: the files cannot be deleted.
        """
        try:
            for file in (*reversed(_COPIED), *_BESIDE):
                self.delete(f"{name}/{file}")
            with self._reached() as (filesystem, path):
                remove_below(filesystem, path, f"{name}/{CONFIRMATION_FOLDER}")
        except OSError as error:
            raise UserError(
                f"study.dir: {self._location.address}: {name} cannot be deleted there ({self._location.why(error)})"
            ) from None

    def read(self, file: str) -> bytes | None:
        """Return the content of a file; None without a file. Raise OSError if the store does not answer."""
        with self._reached() as (filesystem, path):
            try:
                with filesystem.open_input_stream(f"{path}/{file}") as stream:
                    content: bytes = stream.read()
            except FileNotFoundError:
                return None
            return content

    def write(self, file: str, content: bytes) -> None:
        """Write a complete file. Raise OSError if the store does not accept it."""
        with self._reached() as (filesystem, path):
            try:
                stream = filesystem.open_output_stream(f"{path}/{file}")
            except FileNotFoundError:
                # A location with real folders needs them to exist.
                filesystem.create_dir(f"{path}/{file}".rpartition("/")[0], recursive=True)
                stream = filesystem.open_output_stream(f"{path}/{file}")
            with stream:
                stream.write(content)

    def delete(self, file: str) -> None:
        """Delete a file if it exists. Raise OSError if the store does not answer."""
        with self._reached() as (filesystem, path), suppress(FileNotFoundError):
            filesystem.delete_file(f"{path}/{file}")

    @contextmanager
    def _reached(self) -> Iterator[tuple[FileSystem, str]]:
        try:
            opened = self._location.opened()
        except StoreUnavailableError as error:
            raise OSError(str(error)) from None
        with store_errors():
            yield opened

    def why(self, error: Exception) -> str:
        return self._location.why(error)

    def shown(self, name: str) -> str:
        """Return a study's location, without passwords."""
        return without_password(below(self._location.address, name))

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(
            f"study.dir: {self._location.address} cannot be read ({self._location.why(error)}); check that the store"
            " answers, and its credentials"
        )


def _write(path: Path, content: bytes | None) -> None:
    """Write a complete file; without content, delete it."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as building:
        building.write_bytes(content)


class RemoteStudy:
    """Study in a store, for its writer.

    Args:
        say: called once when the store stops answering, and once when it answers again.
    """

    def __init__(self, studies: StoredStudies, name: str, say: Say) -> None:
        self._studies = studies
        self._name = name
        self._say = say
        self._run_dir = studies.folder / name
        self._sent_size = -1
        self._next_at = self._next_at_once = 0.0
        self._is_out_of_reach = self._is_urgent = False
        self._lease = Lease(studies, name, self._run_dir / _HOLDER_FILE)

    @contextmanager
    def held(self) -> Iterator["RemoteStudy"]:
        """Hold the lease; update the copy at the start, and the store at the end.

        Raises:
            UserError: a search on another machine holds the lease, or the store cannot be read.
            StorageError: the store did not accept the new records at the end.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._lease.held(self._say))
            except OSError as error:
                raise UserError(f"{self._not_taken(error)}; check that the store answers") from None
            # Update the copy before sending anything: an old copy must not replace the store's newer files.
            self._studies.fetch(self._name, is_locked=True, may_be_deleted=True, say=self._say)
            try:
                yield self
            except BaseException:
                # Report the error that ended the search. The copy remains, and the next search sends it.
                with suppress(OSError, StorageError):
                    self._send()
                raise
            self._send_the_last()

    def save(self, *, at_once: bool) -> bool:
        self._lease.require()
        if self._size() == self._sent_size:
            return True
        began = time.monotonic()
        self._is_urgent |= at_once
        if began < (self._next_at_once if self._is_urgent else self._next_at):
            return False
        try:
            self._send()
        except OSError as error:
            if not self._is_out_of_reach:
                self._say(f"{self._not_taken(error)}; the search goes on, and is copied there later")
            self._is_out_of_reach = True
        else:
            if self._is_out_of_reach:
                self._say(f"study.dir: {self._studies.shown(self._name)}: the store has the whole study again")
            self._is_out_of_reach = self._is_urgent = False
        ended = time.monotonic()
        rest = _REST * (ended - began)
        self._next_at = ended + max(_EVERY_S, rest)
        self._next_at_once = self._next_at if self._is_out_of_reach else ended + rest
        return not self._is_out_of_reach

    def _size(self) -> int:
        journal = self._run_dir / JOURNAL_FILE
        return journal.stat().st_size if journal.exists() else 0

    def _send(self) -> None:
        self._lease.confirm()
        size = self._size()
        for file in _COPIED:
            path = self._run_dir / file
            if path.exists():
                content = path.read_bytes()
                whole = content[: content.rfind(b"\n") + 1] if file == JOURNAL_FILE else content
                self._studies.write(f"{self._name}/{file}", whole)
        if (self._run_dir / CONFIG_FILE).exists():
            (self._run_dir / _KNOWN_FILE).touch()
        self._sent_size = size

    def _send_the_last(self) -> None:
        try:
            self._send()
        except OSError:
            time.sleep(_AGAIN_S)
            try:
                self._send()
            except OSError as error:
                raise StorageError(
                    f"{self._not_taken(error)}; the whole study is in {self._run_dir}, and its next search on this"
                    " machine sends it when the store answers"
                ) from None

    def _not_taken(self, error: Exception) -> str:
        return f"study.dir: {self._studies.shown(self._name)} cannot be written ({self._studies.why(error)})"
