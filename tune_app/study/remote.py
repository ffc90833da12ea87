"""Studies that a store keeps (``study.dir: s3://…``), and that are worked on in copies on this machine.

A study's journal is appended to and locked, which a store cannot do. So the store has the study's own files whole, and
they are written anew as the search goes on (checkpoints go there directly); whoever opens the study brings the copy on
this machine up to date first. As a journal is only ever appended to, the copy that begins with all of the other is the
newer one. For a lock there is a lease (``lease.py``). What MLflow shows stays on the machine: it is a mirror of the
study, and is filled from it wherever the study goes on.

What the store does not know of a copy is never lost: it is sent by the next search of this machine, or set aside where
the study went on elsewhere.
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

from tune_app.config import RunConfig
from tune_app.errors import StorageError, UserError, without_password
from tune_app.study.lease import LEASE_FILE, SILENT_S, Lease
from tune_app.study.places import Place, PlaceAwayError, store_errors
from tune_app.study.run_dir import CONFIG_FILE, keep_urls, stored_urls
from tune_app.study.store import JOURNAL_FILE, search_is_running, search_lock
from tune_app.uris import below, is_store, parted, working_copies

_COPIED = (JOURNAL_FILE, CONFIG_FILE)
"""In the order in which they are written: a study without a configuration is none yet. They are read the other way."""
_HOLDER_FILE = "search.holder"
_KNOWN_FILE = "search.known"
LOCAL_FILES = (_HOLDER_FILE, _KNOWN_FILE)
"""On this machine beside the copy: whose lease the last search here held, and that the store had the study."""
LEFT_FILES = f"{JOURNAL_FILE}.left-*"
"""What was set aside."""

# What is not to be kept at once, such as samples that were turned away, may wait so long.
_EVERY_S = 10.0
# After a copy the search is left alone for so many times as long as that took: a long journal on a slow line.
_REST = 4.0
# Before the last try, at the end of a search.
_AGAIN_S = 5.0

Say = Callable[[str], None]
# Commands that only read have nobody else to tell; without further ado it goes to the standard error.
warn: Say = logging.getLogger("headroom").warning


class Kept(Protocol):
    """What keeps a study for good."""

    def save(self, *, at_once: bool) -> bool:
        """Keep all that the study knows by now, if it is time for it or is to be done at once; whether that is so.

        Raises:
            StorageError: it is not this search's to keep any more.
        """
        ...


class KeptHere:
    """In its run directory or database, where every record is kept as it is written."""

    def save(self, *, at_once: bool) -> bool:
        return True


@contextmanager
def kept(config: RunConfig, say: Say = warn) -> Iterator[Kept]:
    """Hold what keeps a study for the one that writes to it; call with the search lock of its run directory held.

    Raises:
        UserError: a search on another machine holds it, or the store cannot be read.
        StorageError: at the end, the store did not take what is new.
    """
    if is_store(config.study.dir):
        with RemoteStudy(StoredStudies(config.study.dir), config.study.name, say).held() as study:
            yield study
    else:
        yield KeptHere()


def is_running(config: RunConfig, run_dir: Path) -> bool:
    """Whether a search is at work on the study, here or, as far as its store tells, on another machine.

    Args:
        run_dir: where it is now; it may have been moved.
    """
    if search_is_running(run_dir):
        return True
    return is_store(config.study.dir) and StoredStudies(config.study.dir).is_leased(config.study.name)


def fetched(place: str) -> Path:
    """The run directory on this machine of the study that a store keeps at a URI, up to date.

    Raises:
        UserError: there is none, or the store cannot be read.
    """
    around, name = parted(place)
    studies = StoredStudies(around)
    if name not in studies.names():
        raise UserError(f"{place}: no study there; give study.dir and the study's name, as in s3://bucket/runs/demo")
    return studies.fetch(name)


class StoredStudies:
    """The studies that a store keeps at a place.

    Args:
        place: its URI, as ``study.dir`` gives it.
    """

    def __init__(self, place: str) -> None:
        self._place = Place(place, "study.dir")
        self.folder = working_copies(place)

    def names(self) -> list[str]:
        """Of the studies that are there.

        Raises:
            UserError: the store cannot be read.
        """
        filesystem, path = self._place.opened()
        try:
            with store_errors():
                bucket = path.partition("/")[0]
                if filesystem.get_file_info(bucket).type == FileType.NotFound:
                    # That is no place without studies.
                    raise FileNotFoundError(f"there is no {bucket}")
                found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
                names = [str(info.base_name) for info in found if info.type == FileType.Directory]
                files = filesystem.get_file_info([f"{path}/{name}/{CONFIG_FILE}" for name in names]) if names else []
        except OSError as error:
            raise self._unreadable(error) from None
        return sorted(name for name, file in zip(names, files, strict=True) if file.type == FileType.File)

    def fetch_all(self, wanted: Callable[[str], bool] = lambda _: True, *, say: Say = warn) -> list[str]:
        """Bring this machine's copies of the wanted studies up to date; returns their names.

        Raises:
            UserError: the store cannot be read.
        """
        names = [name for name in self.names() if wanted(name)]
        for name in names:
            self.fetch(name, say=say)
        return names

    def set_aside_deleted(self, wanted: Callable[[str], bool], say: Say) -> None:
        """Set aside this machine's copies of studies that the store had once, and that were deleted there.

        Raises:
            UserError: the store cannot be read.
        """
        there = self.names()
        copies = [path.name for path in self.folder.iterdir() if path.is_dir()] if self.folder.is_dir() else []
        for name in copies:
            if wanted(name) and name not in there and (self.folder / name / _KNOWN_FILE).exists():
                self.fetch(name, say=say, may_be_deleted=True)

    def fetch(self, name: str, *, is_locked: bool = False, may_be_deleted: bool = False, say: Say = warn) -> Path:
        """Bring this machine's copy of a study up to date; returns its run directory.

        Nothing is done while a search of this machine works on the copy, which is ahead of the store then.

        Args:
            is_locked: whether the caller holds the search lock of the run directory.
            may_be_deleted: whether a study that is not in the store, and was, is to be taken for deleted.
            say: is told what of the copy the store does not have.

        Raises:
            UserError: the store cannot be read.
        """
        run_dir = self.folder / name
        try:
            # Written last, read first: with a configuration there is a journal.
            found = {file: self.read(f"{name}/{file}") for file in reversed(_COPIED)}
        except OSError as error:
            raise self._unreadable(error) from None
        if found[CONFIG_FILE] is None and not (may_be_deleted and (run_dir / _KNOWN_FILE).exists()):
            return run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            if not is_locked:
                try:
                    stack.enter_context(search_lock(run_dir))
                except UserError:
                    # A search is at work on it.
                    return run_dir
            self._replace(run_dir, found, say)
        return run_dir

    def _replace(self, run_dir: Path, found: dict[str, bytes | None], say: Say) -> None:
        """Take over what the store has, and set aside what it does not know of."""
        journal, config = run_dir / JOURNAL_FILE, run_dir / CONFIG_FILE
        there = None if found[CONFIG_FILE] is None else found[JOURNAL_FILE] or b""
        here = journal.read_bytes() if journal.exists() else b""
        if there is None or not here.startswith(there):
            # The last line may have been torn by a kill.
            if here and not (there or b"").startswith(here[: here.rfind(b"\n") + 1]):
                aside = journal.with_name(f"{JOURNAL_FILE}.left-{datetime.datetime.now():%Y%m%d-%H%M%S}")
                os.replace(journal, aside)
                say(f"the store does not know all that was recorded on this machine; that is kept as {aside}")
            _write(journal, there)
        _write(config, found[CONFIG_FILE])
        _write(run_dir / _KNOWN_FILE, None if there is None else b"")
        if there is not None:
            keep_urls({**stored_urls(run_dir), "study.dir": self._place.place}, run_dir)

    def is_leased(self, name: str) -> bool:
        """Whether a search renewed its lease a short while ago, by the clocks of the store and of this machine."""
        try:
            filesystem, path = self._place.opened()
            with store_errors():
                info = filesystem.get_file_info(f"{path}/{name}/{LEASE_FILE}")
        except (OSError, PlaceAwayError):
            return False
        return bool(info.type == FileType.File and time.time() - info.mtime_ns / 1e9 < SILENT_S)

    def move(self, name: str, to: str) -> None:
        """Keep a study under another name, as its copy on this machine was renamed.

        Raises:
            UserError: the store does not take it.
        """
        # Until it is there under that name, it was not deleted there either.
        (self.folder / to / _KNOWN_FILE).unlink(missing_ok=True)
        try:
            for file in _COPIED:
                if (self.folder / to / file).exists():
                    self.write(f"{to}/{file}", (self.folder / to / file).read_bytes())
        except OSError as error:
            raise UserError(
                f"study.dir: {self._place.place}: {to} cannot be written ({self._place.why(error)}); it is in"
                f" {self.folder / to}"
            ) from None
        (self.folder / to / _KNOWN_FILE).touch()
        self.remove(name)

    def remove(self, name: str) -> None:
        """Take a study's own files out of the store; without its configuration it is a study no more.

        Raises:
            UserError: they cannot be deleted.
        """
        try:
            for file in reversed(_COPIED):
                self.delete(f"{name}/{file}")
        except OSError as error:
            raise UserError(
                f"study.dir: {self._place.place}: {name} cannot be deleted there ({self._place.why(error)})"
            ) from None

    def read(self, file: str) -> bytes | None:
        """The content of a file; None where there is none. OSError where the store does not answer."""
        with self._reached() as (filesystem, path):
            try:
                with filesystem.open_input_stream(f"{path}/{file}") as stream:
                    content: bytes = stream.read()
            except FileNotFoundError:
                return None
            return content

    def write(self, file: str, content: bytes) -> None:
        """Write a file whole. OSError where the store does not take it."""
        with self._reached() as (filesystem, path):
            try:
                stream = filesystem.open_output_stream(f"{path}/{file}")
            except FileNotFoundError:
                # A place that has folders wants them made.
                filesystem.create_dir(f"{path}/{file}".rpartition("/")[0], recursive=True)
                stream = filesystem.open_output_stream(f"{path}/{file}")
            with stream:
                stream.write(content)

    def delete(self, file: str) -> None:
        """Delete a file if it is there. OSError where the store does not answer."""
        with self._reached() as (filesystem, path), suppress(FileNotFoundError):
            filesystem.delete_file(f"{path}/{file}")

    @contextmanager
    def _reached(self) -> Iterator[tuple[FileSystem, str]]:
        try:
            opened = self._place.opened()
        except PlaceAwayError as error:
            raise OSError(str(error)) from None
        with store_errors():
            yield opened

    def why(self, error: Exception) -> str:
        return self._place.why(error)

    def shown(self, name: str) -> str:
        """A study's place, fit to be shown."""
        return without_password(below(self._place.place, name))

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(
            f"study.dir: {self._place.place} cannot be read ({self._place.why(error)}); see that the store answers, and"
            " what it is reached with"
        )


def _write(path: Path, content: bytes | None) -> None:
    """Write a file whole, or see that there is none."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    building = path.with_name(f".{path.name}.{os.getpid()}")
    building.write_bytes(content)
    os.replace(building, path)


class RemoteStudy:
    """A study that a store keeps, for the one that writes to it.

    Args:
        say: is told, once, that the store does not answer, and that it does again.
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
        """Hold the lease; bring the copy up to date first, and the store at the end.

        Raises:
            UserError: a search on another machine holds it, or the store cannot be read.
            StorageError: at the end, the store did not take what is new.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._lease.held(self._say))
            except OSError as error:
                raise UserError(f"{self._not_taken(error)}; see that the store answers") from None
            # Before anything is sent: a copy that is behind must not take the place of what the store has.
            self._studies.fetch(self._name, is_locked=True, may_be_deleted=True, say=self._say)
            try:
                yield self
            except BaseException:
                # What ended the search is what is told; the copy is there, and the next search sends it.
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
                self._say(f"{self._not_taken(error)}; the search goes on, and is copied there once it can be")
            self._is_out_of_reach = True
        else:
            if self._is_out_of_reach:
                self._say(f"study.dir: {self._studies.shown(self._name)}: the store has all of the study again")
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
                    f"{self._not_taken(error)}; all of the study is in {self._run_dir}, and the next search of it on"
                    " this machine sends it once the store answers"
                ) from None

    def _not_taken(self, error: Exception) -> str:
        return f"study.dir: {self._studies.shown(self._name)} cannot be written ({self._studies.why(error)})"
