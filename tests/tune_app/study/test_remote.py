"""Studies kept in a store: whoever opens one sees its last saved state, and no recorded trial is lost."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem

from tune_app.config import RunConfig, parse_config
from tune_app.errors import StorageError, UserError, storage_failure
from tune_app.outcomes import Outcome, carried_from
from tune_app.study import lease, remote, storage_location
from tune_app.study.record import StudyRecord
from tune_app.study.remote import PermanentStorage, StoredStudies, fetched, is_running, open_permanent_storage
from tune_app.study.run_dir import CONFIG_FILE, check_study_dir, stored_config, write_config
from tune_app.study.store import JOURNAL_FILE, StudyStore, load_study, search_lock
from tune_app.study.versions import archive, begin, choose, delete
from tune_app.uris import below

PLACE = "s3://key:hush@bucket/runs?region=here"
SHOWN = "s3://key:***@bucket/runs/x?region=here"
SPACE = [0.1, 0.2, 0.3]


class Bucket:
    """Folder in place of a store's contents, which can be out of reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_out_of_reach = False

    def opened(self, place: str) -> tuple[FileSystem, str]:
        if self.is_out_of_reach:
            # pyarrow's error for a file in place of a folder is as vague as that for a store that does not answer.
            return SubTreeFileSystem(str(self.folder.parent / "nothing"), LocalFileSystem()), "bucket/runs"
        uri = urlsplit(place)
        path = f"{uri.netloc.rpartition('@')[2]}/{uri.path.strip('/')}".rstrip("/")
        return SubTreeFileSystem(str(self.folder), LocalFileSystem()), path

    @property
    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    folder = tmp_path / "store"
    (folder / "bucket").mkdir(parents=True)
    (tmp_path / "nothing").write_text("a file")
    bucket = Bucket(folder)
    monkeypatch.setattr(storage_location, "_opened", bucket.opened)
    monkeypatch.setattr(remote, "Lease", partial(lease.Lease, settle_s=0.0))
    monkeypatch.setattr(remote, "_AGAIN_S", 0.0)
    monkeypatch.setattr(remote, "_REST", 0.0)
    return bucket


Machine = Callable[[str], Path]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a function that moves the test to a machine by its name.

    Each machine has a cache folder of its own. The function returns the folder of its working copies.
    """

    def go(name: str) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return StoredStudies(PLACE).folder

    go("A")
    return go


def config_of(choices: list[float] = SPACE, **study: Any) -> RunConfig:
    return parse_config(
        {
            "study": {"name": "x", "dir": PLACE, **study},
            "data": {"path": "demo"},
            "space": {"optim.lr": {"choices": choices}},
        }
    )


def recorded(config: RunConfig) -> StudyRecord:
    assert config.space is not None
    return StudyRecord(config.space, "criteria", "macro_f1", "max", "data", config.fixed_for_study())


class Search:
    """Search as far as its study sees it, from beginning to end."""

    def __init__(self, config: RunConfig | None = None) -> None:
        self.messages: list[str] = []
        self._asked = config or config_of()
        self._stack = ExitStack()

    def __enter__(self) -> "Search":
        with self._stack as stack:
            check_study_dir(self._asked)
            record = recorded(self._asked)
            opening = choose(self._asked, record, say=self.messages.append)
            self.run_dir = Path(opening.config.run_dir)
            self.run_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(search_lock(self.run_dir))
            self.storage: PermanentStorage = stack.enter_context(
                open_permanent_storage(opening.config, self.messages.append)
            )
            self.store, _ = begin(opening, opening.parent)
            write_config(opening.config, self.run_dir)
            self.storage.save(at_once=True)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def complete(self, value: float) -> bool:
        """Record a complete trial with that learning rate and value; return whether the store has it."""
        self.store.close_trial(self.store.open_trial({"optim.lr": value}, {}), Outcome.COMPLETE, value=value)
        return self.storage.save(at_once=True)

    @staticmethod
    def kill(machine: Path, *, torn: bytes = b"") -> None:
        """Leave the files of a search killed before it sent its last trial, perhaps in the middle of a line."""
        with Search() as search:
            search.complete(0.1)
            sent = (machine / "x" / JOURNAL_FILE).read_bytes()
            search.complete(0.2)
        (StoredStudies(PLACE)).write(f"x/{JOURNAL_FILE}", sent)
        with (machine / "x" / JOURNAL_FILE).open("ab") as file:
            file.write(torn)


def out_of_reach_from_here(bucket: Bucket, search: Search, *values: float) -> None:
    """Record complete trials that do not reach the store; the first value is the study's first trial."""
    bucket.is_out_of_reach = True
    for value in values:
        assert not search.complete(value)


def values(store: StudyStore) -> list[float | None]:
    return [trial.value for trial in store.trials()]


def read(name: str = "x") -> StudyStore:
    """Load a study by its URI, as a command does."""
    run_dir = fetched(PLACE.replace("runs", f"runs/{name}"))
    return load_study(run_dir, name, stored_config(run_dir).study.storage)


def test_records_of_one_machine_reach_the_next(bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        assert search.complete(0.1)
    machine("B")
    with Search() as again:
        assert (again.store.id, values(again.store)) == (search.store.id, [0.1])
        assert again.complete(0.2)
        machine("C")
        assert values(read()) == [0.1, 0.2], "it can be read while the search runs"
    assert search.messages == again.messages == []
    assert bucket.files == [f"bucket/runs/x/{CONFIG_FILE}", f"bucket/runs/x/{JOURNAL_FILE}"]


def test_no_password_is_in_the_store_and_the_copy_has_it(bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        search.complete(0.1)
    assert not any(b"hush" in (bucket.folder / file).read_bytes() for file in bucket.files)
    machine("B")
    run_dir = fetched("s3://key:hush@bucket/runs/x?region=here")
    assert stored_config(run_dir).study.dir == PLACE
    assert (run_dir / "secrets.json").stat().st_mode & 0o077 == 0


def test_a_copy_of_a_killed_search_goes_on_where_it_was(bucket: Bucket, machine: Machine) -> None:
    Search.kill(machine("A"))
    with Search() as search:
        assert values(search.store) == [0.1, 0.2], "the store had the first alone"
    machine("B")
    assert values(read()) == [0.1, 0.2]
    assert search.messages == []


@pytest.mark.parametrize("torn", [b"", b'{"op_code": 4, "tr'])
def test_records_that_the_store_lacks_are_set_aside_with_a_message(
    bucket: Bucket, machine: Machine, torn: bytes
) -> None:
    Search.kill(machine("A"), torn=torn)
    machine("B")
    with Search() as other:
        assert values(other.store) == [0.1]
        other.complete(0.3)
    here = machine("A")
    with Search() as search:
        assert values(search.store) == [0.1, 0.3]
    (message,) = search.messages
    (aside,) = (here / "x").glob(f"{JOURNAL_FILE}.left-*")
    assert message == f"the store lacks some records of this machine; they are saved as {aside}"
    assert b'"values":[0.2]' in aside.read_bytes()


def test_a_torn_last_line_alone_is_nothing_to_set_aside(bucket: Bucket, machine: Machine) -> None:
    here = machine("A")
    with Search() as search:
        search.complete(0.1)
    with (here / "x" / JOURNAL_FILE).open("ab") as file:
        file.write(b'{"op_co')
    machine("B")
    with Search() as other:
        other.complete(0.2)
    machine("A")
    with Search() as search:
        assert values(search.store) == [0.1, 0.2]
    assert search.messages == []


def test_a_study_that_was_deleted_elsewhere_does_not_come_back(bucket: Bucket, machine: Machine) -> None:
    here = machine("A")
    with Search() as search:
        search.complete(0.1)
    machine("B")
    run_dir = fetched(PLACE.replace("runs", "runs/x"))
    delete(read(), run_dir)
    assert bucket.files == []
    assert not run_dir.exists()
    machine("A")
    with pytest.raises(UserError, match="no study there"):
        read()
    with Search() as search:
        assert values(search.store) == []
    assert len(list((here / "x").glob(f"{JOURNAL_FILE}.left-*"))) == 1


def test_a_report_lies_beside_its_study_and_goes_with_it(bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        search.complete(0.1)
    report = search.run_dir / "report.html"
    report.write_text("page")
    StoredStudies(PLACE).add("x", report)
    assert "bucket/runs/x/report.html" in bucket.files
    archived = archive(search.run_dir)
    assert [file for file in bucket.files if file.endswith(".html")] == [f"bucket/runs/{archived.name}/report.html"]
    delete(load_study(archived, archived.name, None), archived)
    assert bucket.files == []


def test_a_study_that_never_reached_the_store_is_not_taken_for_a_deleted_one(bucket: Bucket, machine: Machine) -> None:
    with pytest.raises(StorageError), Search() as search:
        out_of_reach_from_here(bucket, search, 0.1)
    bucket.is_out_of_reach = False
    for file in (JOURNAL_FILE, CONFIG_FILE):
        StoredStudies(PLACE).delete(f"x/{file}")
    (machine("A") / "x" / "search.known").unlink()
    with Search() as search:
        assert values(search.store) == [0.1]


def test_a_copy_at_work_is_left_as_it_is(bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        search.store.open_trial({"optim.lr": 0.1}, {})
        before = (search.run_dir / JOURNAL_FILE).read_bytes()
        StoredStudies(PLACE).fetch("x")
        assert (search.run_dir / JOURNAL_FILE).read_bytes() == before
        assert len(read().trials()) == 1
    assert search.messages == []


def test_urgent_records_are_saved_at_once_and_others_later(bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        assert search.complete(0.1)
        search.store.open_trial({"optim.lr": 0.2}, {})
        assert not search.storage.save(at_once=False)
        machine("B")
        assert len(read().trials()) == 1
        machine("A")
        assert search.storage.save(at_once=True)
        assert search.storage.save(at_once=False), "nothing is new"
        machine("B")
        assert len(read().trials()) == 2


def test_a_search_goes_on_while_the_store_does_not_answer(
    bucket: Bucket, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Search() as search:
        bucket.is_out_of_reach = True
        assert not search.complete(0.1)
        assert not search.complete(0.2)
        bucket.is_out_of_reach = False
        assert not search.complete(0.3), "it is not asked at every record"
        monkeypatch.setattr("time.monotonic", lambda: 1e9)
        assert search.storage.save(at_once=False)
    gone, back = search.messages
    assert gone.startswith(f"study.dir: {SHOWN} cannot be written (")
    assert gone.endswith("; the search goes on, and is copied there later")
    assert back == f"study.dir: {SHOWN}: the store has the whole study again"
    machine("B")
    assert values(read()) == SPACE


def test_a_store_that_is_gone_at_the_end_is_an_error_that_says_where_the_study_is(
    bucket: Bucket, machine: Machine
) -> None:
    with pytest.raises(StorageError) as raised, Search() as search:
        out_of_reach_from_here(bucket, search, 0.1, 0.2)
    message = storage_failure(RuntimeError("of Ray's")) or storage_failure(raised.value)
    assert message is not None
    assert message.startswith(f"study.dir: {SHOWN} cannot be written (")
    assert message.endswith(
        f"; the whole study is in {search.run_dir}, and its next search on this machine sends it when the store answers"
    )
    bucket.is_out_of_reach = False
    with Search() as again:
        assert values(again.store) == [0.1, 0.2]


@pytest.mark.parametrize("is_over", [True, False])
def test_a_search_that_was_suspended_writes_nothing_once_another_went_on(
    bucket: Bucket, machine: Machine, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    """Suspend a search, so that it stops renewing its lease and the other one cannot know that it is alive."""
    monkeypatch.setattr(remote, "Lease", partial(lease.Lease, settle_s=0.0, beat_s=60.0, silent_s=0.1))
    suspended = Search().__enter__()
    suspended.complete(0.1)
    machine("B")
    other = Search().__enter__()
    other.complete(0.2)
    if is_over:
        other.__exit__(None, None, None)
    machine("A")
    with pytest.raises(StorageError, match=r"another search( on \S+|, which has ended,) has taken over the study x"):
        suspended.complete(0.3)
    with pytest.raises(StorageError, match="has taken over the study x"):
        suspended.__exit__(None, None, None)
    machine("B")
    if not is_over:
        other.__exit__(None, None, None)
    machine("C")
    assert values(read()) == [0.1, 0.2]
    here = machine("A")
    with Search() as again:
        assert values(again.store) == [0.1, 0.2]
    assert len(list((here / "x").glob(f"{JOURNAL_FILE}.left-*"))) == len(again.messages) == 1


def test_a_copy_that_is_behind_is_not_sent_where_the_store_cannot_be_read(
    bucket: Bucket, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Search() as search:
        search.complete(0.1)
    machine("B")
    with Search() as other:
        other.complete(0.2)
    machine("A")
    fetch = StoredStudies.fetch

    def cut_off(studies: StoredStudies, name: str, *, is_locked: bool = False, **options: Any) -> Path:
        if is_locked:
            raise KeyboardInterrupt
        return fetch(studies, name, **options)

    with monkeypatch.context() as patch:
        patch.setattr(StoredStudies, "fetch", cut_off)
        with pytest.raises(KeyboardInterrupt), search_lock(search.run_dir), open_permanent_storage(config_of()):
            pytest.fail("it could not be read")
    machine("C")
    assert values(read()) == [0.1, 0.2]


SPELLINGS = ["s3://bucket/runs", "s3://bucket/runs/", "s3://bucket/runs?region=there", "s3://other:hush@bucket/runs"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_place_is_the_same_however_it_is_written(spelling: str, bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        search.complete(0.1)
        run_dir = fetched(below(spelling, "x"))
        assert run_dir == search.run_dir
        assert is_running(stored_config(run_dir), run_dir)
    assert fetched(below(spelling, "x")) == run_dir
    assert stored_config(run_dir).study.dir == spelling.rstrip("/")
    archived = archive(run_dir)
    assert [StoredStudies(place).names() for place in (PLACE, spelling)] == [[archived.name]] * 2
    delete(read(archived.name), archived)
    assert bucket.files == []


def test_two_servers_are_two_places() -> None:
    one, other = (StoredStudies(f"s3://bucket/runs?endpoint_override={host}") for host in ("a:1", "b:1"))
    assert one.folder != other.folder


def test_a_search_at_work_on_another_machine_shows(bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        assert is_running(config_of(), search.run_dir)
        there = machine("B")
        assert is_running(config_of(), there / "x")
    assert not is_running(config_of(), there / "x")


def test_a_search_that_is_refused_leaves_nothing(bucket: Bucket, machine: Machine) -> None:
    machine("A").joinpath("x").mkdir(parents=True)
    with pytest.raises(RuntimeError), open_permanent_storage(config_of(), pytest.fail):
        raise RuntimeError
    assert bucket.files == []


@pytest.mark.parametrize("there", [True, False])
def test_a_changed_space_takes_over_what_fits_on_any_machine(bucket: Bucket, machine: Machine, there: bool) -> None:
    with Search() as search:
        search.complete(0.1)
        search.complete(0.2)
    machine("B" if there else "A")
    with Search(config_of([0.2, 0.3])) as forked:
        assert (forked.store.name, values(forked.store)) == ("x-v2", [0.2])
        forked.complete(0.3)
    # A fork of a fork finds trials that the first fork had no room for, wherever the copies are.
    shutil.rmtree(machine("A"))
    machine("C")
    with Search(config_of([0.1, 0.3])) as again:
        assert (again.store.name, values(again.store)) == ("x-v3", [0.1, 0.3])
        assert [str(carried_from(trial)) for trial in again.store.trials()] == ["trial 0 of x", "trial 1 of x-v2"]
    assert StoredStudies(PLACE).names() == ["x", "x-v2", "x-v3"]


def test_an_archive_that_could_not_be_sent_stays_on_its_machine(
    bucket: Bucket, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Search() as search:
        search.complete(0.1)
    write = StoredStudies.write

    def refused(studies: StoredStudies, file: str, content: bytes) -> None:
        if "archived" in file:
            raise OSError("no answer")
        write(studies, file, content)

    with monkeypatch.context() as patch:
        patch.setattr(StoredStudies, "write", refused)
        with pytest.raises(UserError, match=r"x-archived-\d+ cannot be written \(no answer\); it is in ") as raised:
            archive(search.run_dir)
    with Search() as again:
        assert values(again.store) == [0.1], "in the store it is what it was"
    kept_here = Path(str(raised.value).rpartition(" ")[2])
    assert values(load_study(kept_here, kept_here.name, None)) == [0.1]
    assert again.messages == []


def test_checkpoints_stay_while_a_study_under_another_name_has_them(bucket: Bucket, machine: Machine) -> None:
    """Leave a store as a process killed while archiving the study does."""
    with Search() as search:
        search.complete(0.1)
    left = {file: StoredStudies(PLACE).read(f"x/{file}") for file in (JOURNAL_FILE, CONFIG_FILE)}
    target = archive(search.run_dir)
    for file, content in left.items():
        assert content is not None
        StoredStudies(PLACE).write(f"x/{file}", content)
    checkpoints = bucket.folder / f"bucket/runs/x/checkpoints-{read().id}"
    checkpoints.mkdir()
    delete(read(target.name), target)
    assert checkpoints.exists()
    delete(read(), fetched(PLACE.replace("runs", "runs/x")))
    assert not checkpoints.exists()


def test_an_archived_study_is_there_for_every_machine(bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        search.complete(0.1)
    checkpoint = bucket.folder / f"bucket/runs/x/checkpoints-{search.store.id}/trial-0/checkpoint_0/model"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("weights")
    machine("B")
    target = archive(fetched(PLACE.replace("runs", "runs/x")))
    machine("C")
    assert StoredStudies(PLACE).names() == [target.name]
    assert values(read(target.name)) == [0.1]
    with Search() as search:
        assert values(search.store) == [], "its name is free"
        search.complete(0.2)
    assert checkpoint.exists()
    delete(read(target.name), StoredStudies(PLACE).folder / target.name)
    assert not checkpoint.exists(), "though they lie under the name that the study had"
    assert values(read()) == [0.2]


@pytest.mark.parametrize("given", ["s3://bucket/runs/y", "s3://bucket/none/x"])
def test_a_study_that_the_store_lacks_is_named(given: str, bucket: Bucket, machine: Machine) -> None:
    with Search():
        pass
    with pytest.raises(UserError, match=f"{given}: no study there; give study.dir and the study's name"):
        fetched(given)


def test_a_store_that_does_not_answer_is_reported(bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        search.complete(0.1)
    bucket.is_out_of_reach = True
    with pytest.raises(UserError, match=r"study.dir: s3://key:\*\*\*@bucket/runs\?region=here cannot be written \("):
        Search().__enter__()
    with pytest.raises(UserError, match=r"study.dir: s3://key:\*\*\*@bucket/runs\?region=here cannot be read \("):
        read()
    assert not is_running(config_of(), search.run_dir)


def test_a_bucket_that_is_gone_is_no_deleted_study(bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        search.complete(0.1)
    (bucket.folder / "bucket").rename(bucket.folder / "gone")
    with pytest.raises(UserError, match="cannot be read"):
        read()
    assert (search.run_dir / CONFIG_FILE).exists()
    (bucket.folder / "gone").rename(bucket.folder / "bucket")
    assert values(read()) == [0.1]


def test_a_command_that_only_reads_takes_nothing_for_deleted_and_tells_what_it_sets_aside(
    bucket: Bucket, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    Search.kill(machine("A"))
    machine("B")
    with Search() as other:
        other.complete(0.3)
    here = machine("A")
    assert values(read()) == [0.1, 0.3]
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("the store lacks some records of this machine; they are saved as ")
    StoredStudies(PLACE).remove("x")
    with pytest.raises(UserError, match="no study there"):
        read()
    assert StoredStudies(PLACE).fetch_all() == []
    assert (here / "x" / CONFIG_FILE).exists()


def test_a_search_that_begins_while_a_command_reads_is_left_alone(
    bucket: Bucket, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Search() as search:
        search.complete(0.1)
    read_file = StoredStudies.read

    def slowly(studies: StoredStudies, file: str) -> bytes | None:
        content = read_file(studies, file)
        if file.endswith(JOURNAL_FILE):
            monkeypatch.setattr(StoredStudies, "read", read_file)
            began.append(Search().__enter__())
            began[0].store.open_trial({"optim.lr": 0.2}, {})
        return content

    began: list[Search] = []
    monkeypatch.setattr(StoredStudies, "read", slowly)
    assert len(read().trials()) == 2, "its own copy is newer"
    began[0].__exit__(None, None, None)


def test_the_commands_know_studies_by_their_uri(bucket: Bucket, machine: Machine, headroom: Callable[..., Any]) -> None:
    with Search() as search:
        search.complete(0.1)
    machine("B")
    listed = headroom("study", "list", "--dir", PLACE)
    assert listed.out.splitlines()[1].split()[0] == "x"
    shown = headroom("status", "s3://key:hush@bucket/runs/x?region=here")
    assert "1 complete" in shown.out
    gone = headroom("study", "delete", "--yes", "s3://key:hush@bucket/runs/x?region=here")
    assert (gone.code, gone.out) == (0, "study x was deleted\n")
    assert bucket.files == []
    assert headroom("study", "list", "--dir", PLACE).out.startswith("no study in s3://key:***@bucket/runs")


def test_a_confirmation_is_there_for_every_machine_and_goes_with_its_study(bucket: Bucket, machine: Machine) -> None:
    with Search() as search:
        search.complete(0.1)
    StoredStudies(PLACE).write("x/confirm.json", b"{}")
    StoredStudies(below(below(PLACE, "x"), "confirm")).write("confirm-seeds/study.journal", b"record")
    folder = machine("B")
    assert (fetched(below(PLACE, "x")) / "confirm.json").read_bytes() == b"{}"
    delete(read(), folder / "x")
    assert bucket.files == []


@pytest.fixture(autouse=True)
def _no_lease_is_renewed_afterwards(machine: Machine) -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]
