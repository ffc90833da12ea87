"""Studies that a store keeps (``study.dir: s3://…``), and that are worked on in copies on this machine.

A study's journal is appended to and locked, which a store cannot do. So the store has the study's own files whole, and
they are written anew as the search goes on (checkpoints go there directly); whoever opens the study brings the copy on
this machine up to date first. As a journal is only ever appended to, the copy that begins with all of the other is the
newer one. For a lock there is a lease (``lease.py``). What MLflow shows stays on the machine: it is a mirror of the
study, and is filled from it wherever the study goes on.
"""

import datetime
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from pyarrow.fs import FileSelector, FileType

from tune_app.config import RunConfig
from tune_app.errors import StorageError, UserError, without_password
from tune_app.study.lease import LEASE_FILE, SILENT_S, Lease
from tune_app.study.places import Place
from tune_app.study.run_dir import CONFIG_FILE, keep_passwords, stored_passwords
from tune_app.study.store import JOURNAL_FILE, search_is_running, search_lock
from tune_app.uris import below, is_store, parted, working_copies

_COPIED = (JOURNAL_FILE, CONFIG_FILE)
"""In the order in which they are sent: a study without a configuration is none yet."""
_HOLDER_FILE = "search.holder"
_KNOWN_FILE = "search.known"
LOCAL_FILES = (_HOLDER_FILE, _KNOWN_FILE)
"""On this machine beside the copy: whose lease the last search here held, and that the store had the study."""

# What is not to be kept at once, such as samples that were turned away, may wait so long.
_EVERY_S = 10.0
# After a copy the search is left alone for so many times as long as that took: a long journal on a slow line.
_REST = 4.0
# Before the last try, at the end of a search.
_AGAIN_S = 5.0


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
def kept(config: RunConfig, say: Callable[[str], None]) -> Iterator[Kept]:
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
    if not is_store(config.study.dir):
        return False
    try:
        return StoredStudies(config.study.dir).is_leased(config.study.name)
    except OSError:
        return False


def fetched(place: str) -> Path:
    """The run directory on this machine of the study that a store keeps at a URI, up to date.

    Raises:
        UserError: there is none, or the store cannot be read.
    """
    around, name = parted(place)
    run_dir = StoredStudies(around).fetch(name)
    if not (run_dir / CONFIG_FILE).exists():
        raise UserError(f"{place}: no study there; give study.dir and the study's name, as in s3://bucket/runs/demo")
    return run_dir


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
            found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
            names = [str(info.base_name) for info in found if info.type == FileType.Directory]
            files = filesystem.get_file_info([f"{path}/{name}/{CONFIG_FILE}" for name in names]) if names else []
        except OSError as error:
            raise self._unreadable(error) from None
        return sorted(name for name, file in zip(names, files, strict=True) if file.type == FileType.File)

    def fetch_all(
        self, wanted: Callable[[str], bool] = lambda _: True, say: Callable[[str], None] = lambda _: None
    ) -> Path:
        """Bring this machine's copies of the wanted studies up to date; returns the folder that they lie in."""
        copies = [path.name for path in self.folder.iterdir() if path.is_dir()] if self.folder.is_dir() else []
        for name in sorted({*self.names(), *copies}):
            if wanted(name):
                self.fetch(name, say=say)
        return self.folder

    def fetch(self, name: str, *, is_locked: bool = False, say: Callable[[str], None] = lambda _: None) -> Path:
        """Bring this machine's copy of a study up to date; returns its run directory, which need not be there.

        Nothing is done while a search of this machine works on the copy, which is ahead of the store then.

        Args:
            is_locked: whether the caller holds the search lock of the run directory.
            say: is told what of the copy the store does not have.

        Raises:
            UserError: the store cannot be read.
        """
        run_dir = self.folder / name
        try:
            found = {file: self.read(f"{name}/{file}") for file in _COPIED}
        except OSError as error:
            raise self._unreadable(error) from None
        if found[CONFIG_FILE] is None and not any((run_dir / file).exists() for file in _COPIED):
            return run_dir
        if is_locked:
            self._replace(run_dir, found, say)
        elif not search_is_running(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)
            with search_lock(run_dir):
                self._replace(run_dir, found, say)
        return run_dir

    def _replace(self, run_dir: Path, found: dict[str, bytes | None], say: Callable[[str], None]) -> None:
        """Take over what the store has, and set aside what it does not know of."""
        journal, config = run_dir / JOURNAL_FILE, run_dir / CONFIG_FILE
        there = None if found[CONFIG_FILE] is None else found[JOURNAL_FILE] or b""
        here = journal.read_bytes() if journal.exists() else b""
        if there is None and not (run_dir / _KNOWN_FILE).exists():
            # It never came there, so it was not deleted there.
            return
        if there is None or not here.startswith(there):
            # The last line may have been torn by a kill.
            if here and not (there or b"").startswith(here[: here.rfind(b"\n") + 1]):
                aside = journal.with_name(f"{JOURNAL_FILE}.left-{datetime.datetime.now():%Y%m%d-%H%M%S}")
                os.replace(journal, aside)
                say(f"the store does not know all that was recorded on this machine; that is kept as {aside}")
            _write(journal, there)
        _write(config, found[CONFIG_FILE])
        _write(run_dir / _KNOWN_FILE, None if there is None else b"")
        if config.exists():
            keep_passwords({**stored_passwords(run_dir), "study.dir": self._place.place}, run_dir)

    def is_leased(self, name: str) -> bool:
        """Whether a search renewed its lease a short while ago, by the clocks of the store and of this machine."""
        filesystem, path = self._place.opened()
        info = filesystem.get_file_info(f"{path}/{name}/{LEASE_FILE}")
        return bool(info.type == FileType.File and time.time() - info.mtime_ns / 1e9 < SILENT_S)

    def move(self, name: str, to: str) -> None:
        """Keep a study under another name, as its copy on this machine was renamed.

        Raises:
            UserError: the store does not take it.
        """
        try:
            self.make_folder(to)
            for file in _COPIED:
                if (self.folder / to / file).exists():
                    self.write(f"{to}/{file}", (self.folder / to / file).read_bytes())
        except OSError as error:
            raise UserError(
                f"study.dir: {self._place.place}: {to} cannot be written ({self._place.why(error)}); it is in"
                f" {self.folder / to}"
            ) from None
        self.remove(name)

    def remove(self, name: str) -> None:
        """Take a study's own files out of the store.

        Raises:
            UserError: they cannot be deleted.
        """
        try:
            # The other way round: without its configuration it is a study no more.
            for file in (*reversed(_COPIED), LEASE_FILE):
                self.delete(f"{name}/{file}")
            self.delete_empty(name)
        except OSError as error:
            raise UserError(
                f"study.dir: {self._place.place}: {name} cannot be deleted there ({self._place.why(error)})"
            ) from None

    def read(self, file: str) -> bytes | None:
        """The content of a file; None where there is none."""
        filesystem, path = self._place.opened()
        try:
            with filesystem.open_input_stream(f"{path}/{file}") as stream:
                content: bytes = stream.read()
        except FileNotFoundError:
            return None
        return content

    def make_folder(self, name: str) -> None:
        """Of a study, where the store knows folders."""
        filesystem, path = self._place.opened()
        filesystem.create_dir(f"{path}/{name}", recursive=True)

    def write(self, file: str, content: bytes) -> None:
        filesystem, path = self._place.opened()
        with filesystem.open_output_stream(f"{path}/{file}") as stream:
            stream.write(content)

    def delete(self, file: str) -> None:
        filesystem, path = self._place.opened()
        with suppress(FileNotFoundError):
            filesystem.delete_file(f"{path}/{file}")

    def delete_empty(self, name: str) -> None:
        """Delete a study's folder if nothing is in it; some stores know of one all the same."""
        filesystem, path = self._place.opened()
        folder = f"{path}/{name}"
        is_folder = filesystem.get_file_info(folder).type == FileType.Directory
        if is_folder and not filesystem.get_file_info(FileSelector(folder)):
            filesystem.delete_dir(folder)

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

    def __init__(self, studies: StoredStudies, name: str, say: Callable[[str], None]) -> None:
        self._studies = studies
        self._name = name
        self._say = say
        self._run_dir = studies.folder / name
        self._sent: dict[str, int] = {}
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
            # Of a search that was refused nothing is left.
            stack.callback(self._tidy)
            try:
                self._studies.make_folder(self._name)
                stack.enter_context(self._lease.held(self._say))
            except OSError as error:
                raise UserError(f"{self._not_taken(error)}; see that the store answers") from None
            try:
                self._studies.fetch(self._name, is_locked=True, say=self._say)
                yield self
            except BaseException:
                if self._lease.taken_by is None:
                    with suppress(OSError):
                        self._send()
                raise
            self._send_the_last()

    def _tidy(self) -> None:
        with suppress(OSError):
            self._studies.delete_empty(self._name)

    def save(self, *, at_once: bool) -> bool:
        self._refuse_if_taken()
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

    def _refuse_if_taken(self) -> None:
        if self._lease.taken_by is not None:
            raise StorageError(
                f"the search ended because another on {self._lease.taken_by.host} has gone on with the study"
                f" ({self._studies.shown(self._name)}), while the store could not be reached from here"
            )

    def _size(self) -> int:
        journal = self._run_dir / JOURNAL_FILE
        return journal.stat().st_size if journal.exists() else 0

    def _send(self) -> None:
        size = self._size()
        for file in _COPIED:
            path = self._run_dir / file
            if not path.exists():
                continue
            content = path.read_bytes()
            if file == JOURNAL_FILE:
                content = content[: content.rfind(b"\n") + 1]
            if hash(content) != self._sent.get(file):
                self._studies.write(f"{self._name}/{file}", content)
                self._sent[file] = hash(content)
            if file == CONFIG_FILE:
                (self._run_dir / _KNOWN_FILE).touch()
        self._sent_size = size

    def _send_the_last(self) -> None:
        self._refuse_if_taken()
        try:
            self._send()
        except OSError:
            time.sleep(_AGAIN_S)
            try:
                self._send()
            except OSError as error:
                raise StorageError(
                    f"{self._not_taken(error)}; all of the study is in {self._run_dir}: run the same command again on"
                    " this machine once the store answers"
                ) from None

    def _not_taken(self, error: Exception) -> str:
        return f"study.dir: {self._studies.shown(self._name)} cannot be written ({self._studies.why(error)})"
