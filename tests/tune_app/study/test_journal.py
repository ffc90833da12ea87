"""Journal: Optuna's own format, one write for records that belong together, and no damage from a kill."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from tune_app.errors import StorageError
from tune_app.study.journal import JournalFile


def records(path: Path) -> list[dict[str, Any]]:
    return list(JournalFile(path).read_logs(0))


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"number": number} for number in numbers]


def run_trials(storage: JournalStorage, count: int) -> optuna.Study:
    study = optuna.create_study(study_name="test", storage=storage, load_if_exists=True)
    for _ in range(count):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.report(0.5, step=1)
        trial.set_user_attr("reason", "Grüße\nin two lines")
        trial.set_constraint("memory", 0.5)
        study.tell(trial, 0.25)
    return study


def start_writer(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start another process that runs the code with ``journal``, and ``arguments`` as text."""
    head = "import sys, time\nfrom pathlib import Path\nfrom tune_app.study.journal import JournalFile\n"
    head += "journal, arguments = JournalFile(Path(sys.argv[1])), sys.argv[2:]\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(str, arguments)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("write", "read"), [(JournalFile, JournalFileBackend), (JournalFileBackend, JournalFile)])
def test_each_backend_reads_the_others_records(write: Any, read: Any, tmp_path: Path) -> None:
    def backend(kind: Any) -> Any:
        return kind(tmp_path / "journal" if kind is JournalFile else str(tmp_path / "journal"))

    written = run_trials(JournalStorage(backend(write)), 3).trials
    other = optuna.load_study(study_name="test", storage=JournalStorage(backend(read)))
    assert other.trials == written
    assert other.trials[0].constraints == {"memory": 0.5}
    # … and appends to it.
    run_trials(JournalStorage(backend(read)), 2)
    again = optuna.load_study(study_name="test", storage=JournalStorage(backend(write)))
    assert [trial.state for trial in again.trials] == [TrialState.COMPLETE] * 5


def test_reading_begins_at_any_record(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path / "journal")
    journal.append_logs(numbered(0, 1, 2, 3))
    assert list(journal.read_logs(2)) == numbered(2, 3)
    assert list(journal.read_logs(4)) == []
    assert list(journal.read_logs(1)) == numbered(1, 2, 3)
    journal.append_logs(numbered(4))
    assert list(journal.read_logs(4)) == numbered(4)
    assert list(journal.read_logs(0)) == numbered(0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    "torn", [b"{", b'{"number": 9', b'{"number": 9}', b'{"text": "\xc3', b'{"text": "' + b"x" * 200_000]
)
def test_a_torn_last_line_is_not_there_for_readers_and_cut_before_the_next(torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    JournalFile(path).append_logs(numbered(0, 1))
    with path.open("ab") as file:
        file.write(torn)
    journal = JournalFile(path)
    assert list(journal.read_logs(0)) == numbered(0, 1)
    assert path.read_bytes().endswith(torn), "a reader changes nothing"
    journal.append_logs(numbered(2))
    assert list(journal.read_logs(2)) == numbered(2)
    assert records(path) == numbered(0, 1, 2)
    assert [json.loads(line) for line in path.read_text().splitlines()] == numbered(0, 1, 2)


def test_a_file_of_nothing_but_a_torn_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"number"')
    JournalFile(path).append_logs(numbered(0))
    assert records(path) == numbered(0)


def test_a_study_goes_on_after_its_last_line_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    run_trials(JournalStorage(JournalFile(path)), 2)
    path.write_bytes(path.read_bytes()[:-7])
    study = run_trials(JournalStorage(JournalFile(path)), 2)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]
    assert optuna.load_study(study_name="test", storage=JournalStorage(JournalFile(path))).trials == study.trials


def test_records_that_belong_together_reach_the_disk_in_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    journal = JournalFile(path)
    forced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: forced.append(os.fstat(descriptor).st_size) or fsync(descriptor)
    )
    with journal.one_write():
        journal.append_logs(numbered(0, 1))
        with journal.one_write():
            journal.append_logs(numbered(2))
        journal.append_logs(numbered(3))
        assert path.stat().st_size == 0
        assert records(path) == []
    assert forced == [path.stat().st_size]
    assert records(path) == numbered(0, 1, 2, 3)


def test_the_writer_itself_reads_what_it_holds_back(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path / "journal")
    journal.append_logs(numbered(0))
    assert list(journal.read_logs(0)) == numbered(0)
    with journal.one_write():
        journal.append_logs(numbered(1))
        assert list(journal.read_logs(1)) == numbered(1)
        journal.append_logs(numbered(2))
        assert list(journal.read_logs(2)) == numbered(2)
    assert list(journal.read_logs(3)) == []
    journal.append_logs(numbered(3))
    assert list(journal.read_logs(3)) == numbered(3)


def test_lines_appended_before_an_exception_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalFile(path)

    def fail() -> None:
        with journal.one_write():
            journal.append_logs(numbered(0, 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert records(path) == numbered(0, 1)
    journal.append_logs(numbered(2))
    JournalFile(path).append_logs(numbered(3))
    assert records(path) == numbered(0, 1, 2, 3)


def test_a_record_that_cannot_be_written_is_refused_at_once_and_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    storage_file = JournalFile(path)
    storage = JournalStorage(storage_file)
    study = run_trials(storage, 1)

    def fail() -> None:
        with storage_file.one_write():
            trial = study.ask()
            trial.set_user_attr("before", 1)
            trial.set_user_attr("unspeakable", object())

    with pytest.raises(TypeError):
        fail()
    run_trials(storage, 1)
    fresh = optuna.load_study(study_name="test", storage=JournalStorage(JournalFile(path)))
    assert fresh.trials == study.trials
    assert [trial.number for trial in fresh.trials] == [0, 1, 2]
    assert fresh.trials[1].user_attrs == {"before": 1}


def test_an_empty_write_changes_nothing(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path / "journal")
    with journal.one_write():
        pass
    assert (tmp_path / "journal").read_bytes() == b""


def test_two_processes_that_write_at_once_lose_nothing_and_a_reader_never_fails(tmp_path: Path) -> None:
    path, go = tmp_path / "journal", tmp_path / "go"
    path.touch()
    code = """
        name, go = arguments
        print("ready", flush=True)
        while not Path(go).exists():
            time.sleep(0.001)
        for number in range(100):
            journal.append_logs([{"writer": name, "number": 2 * number, "text": "x" * 3000}])
            with journal.one_write():
                journal.append_logs([{"writer": name, "number": 2 * number + 1}])
    """
    writers = [start_writer(code, path, name, go) for name in ("a", "b")]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    reader, seen = JournalFile(path), 0
    go.touch()
    while any(writer.poll() is None for writer in writers):
        new = list(reader.read_logs(seen))
        assert all("writer" in record for record in new)
        seen += len(new)
        assert len(records(path)) >= seen
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    found = records(path)
    assert len(found) == 400
    for name in ("a", "b"):
        assert [record["number"] for record in found if record["writer"] == name] == list(range(200))
    assert [*reader.read_logs(0)] == found


def test_a_killed_writer_leaves_no_lock_and_no_half_of_what_it_held_back(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    JournalFile(path).append_logs(numbered(0))
    writer = start_writer(
        """
        with journal.one_write():
            journal.append_logs([{"number": 1}])
            print("held", flush=True)
            time.sleep(600)
        """,
        path,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "held\n"
    with path.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    JournalFile(path).append_logs(numbered(2))
    assert records(path) == numbered(0, 2)


def test_a_thread_may_read_the_study_while_trials_are_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalFile(path)
    storage = JournalStorage(journal)
    study_id = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "test")
    ended, counts, problems = threading.Event(), [], []

    def read() -> None:
        try:
            while not ended.is_set():
                counts.append(len(storage.get_all_trials(study_id)))
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for number in range(200):
            with journal.one_write():
                trial_id = storage.create_new_trial(study_id, create_trial(state=TrialState.RUNNING))
                storage.set_trial_user_attr(trial_id, "number", number)
                storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    finally:
        ended.set()
        thread.join()
    assert problems == []
    assert counts == sorted(counts), "what was seen once stays"
    trials = storage.get_all_trials(study_id)
    assert [trial.user_attrs["number"] for trial in trials] == list(range(200))
    assert JournalStorage(JournalFile(path)).get_all_trials(study_id) == trials


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda path: path.unlink(), "is gone"),
        (lambda path: path.rename(path.with_name("old")), "is gone"),
        (lambda path: (path.with_name("new").write_text("{}\n"), path.with_name("new").rename(path)), "was replaced"),
        (lambda path: path.write_text(""), "was cut short"),
    ],
    ids=["deleted", "moved away", "replaced", "emptied"],
)
def test_nothing_is_written_behind_a_file_that_is_not_the_study_s(
    loss: Callable[[Path], object], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "study.journal"
    journal = JournalFile(path)
    journal.append_logs(numbered(1, 2))
    assert list(journal.read_logs(0)) == numbered(1, 2)
    loss(path)
    after = path.read_bytes() if path.exists() else None
    with pytest.raises(StorageError, match=f"study.journal {expected}.*: it holds the study.*restore it"):
        journal.append_logs(numbered(3))
    with pytest.raises(StorageError), journal.one_write():
        journal.append_logs(numbered(3))
    assert (path.read_bytes() if path.exists() else None) == after
