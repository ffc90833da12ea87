"""Lease in a store: one holder at a time; nobody takes it while it is renewed, and anybody may afterwards."""

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tune_app.errors import StorageError, UserError
from tune_app.study.lease import LEASE_FILE, Lease

FILE = f"demo/{LEASE_FILE}"
BEAT_S = 0.05
WaitFor = Callable[[Callable[[], object]], None]
OTHER = {"id": "other", "host": "elsewhere", "pid": 7, "beat": 3}


class Store:
    """Files in memory, which can be out of reach."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.is_out_of_reach = False

    def _reach(self) -> None:
        if self.is_out_of_reach:
            raise OSError("no answer")

    def read(self, file: str) -> bytes | None:
        self._reach()
        return self.files.get(file)

    def write(self, file: str, content: bytes) -> None:
        self._reach()
        self.files[file] = content

    def delete(self, file: str) -> None:
        self._reach()
        self.files.pop(file, None)

    def beat(self) -> int:
        return int(json.loads(self.files[FILE])["beat"])

    def put(self, holder: dict[str, object]) -> None:
        self.files[FILE] = json.dumps(holder).encode()


@pytest.fixture
def store() -> Store:
    return Store()


def lease(store: Store, machine: Path, *, silent_s: float = 10.0, settle_s: float = 0.0) -> Lease:
    machine.mkdir(exist_ok=True)
    return Lease(store, "demo", machine / "holder", beat_s=BEAT_S, silent_s=silent_s, settle_s=settle_s)


def is_lost(held: Lease) -> bool:
    try:
        held.require()
    except StorageError:
        return True
    return False


def test_it_is_renewed_while_it_is_held_and_gone_afterwards(store: Store, tmp_path: Path, wait_for: WaitFor) -> None:
    with lease(store, tmp_path).held(pytest.fail):
        wait_for(lambda: store.beat() > 2)
    assert store.files == {}


def test_it_is_let_go_of_by_a_search_that_fails(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), lease(store, tmp_path).held(pytest.fail):
        raise RuntimeError
    assert store.files == {}


def test_a_renewed_lease_stays_with_its_holder(store: Store, tmp_path: Path) -> None:
    messages: list[str] = []
    with lease(store, tmp_path / "here").held(pytest.fail):
        held = json.loads(store.files[FILE])["id"]
        with (
            pytest.raises(UserError, match="a search is running on demo already, on"),
            lease(store, tmp_path / "there").held(messages.append),
        ):
            pytest.fail("two hold it")
        assert json.loads(store.files[FILE])["id"] == held
    assert len(messages) == 1


def test_a_lease_that_is_no_longer_renewed_is_taken(store: Store, tmp_path: Path) -> None:
    store.put(OTHER)
    messages: list[str] = []
    with lease(store, tmp_path, silent_s=0.1).held(messages.append):
        assert json.loads(store.files[FILE])["id"] != "other"
    assert "elsewhere" in messages[0]


def test_a_lease_that_is_released_meanwhile_is_taken_at_once(store: Store, tmp_path: Path) -> None:
    store.put(OTHER)
    threading.Timer(2 * BEAT_S, lambda: store.delete(FILE)).start()
    with lease(store, tmp_path, silent_s=60).held(lambda _: None):
        assert FILE in store.files


def test_a_lease_of_a_killed_search_on_this_machine_is_taken_at_once(store: Store, tmp_path: Path) -> None:
    with ExitStack() as killed:
        killed.enter_context(lease(store, tmp_path).held(pytest.fail))
        left = store.files[FILE]
    store.files[FILE] = left
    with lease(store, tmp_path, silent_s=60).held(pytest.fail):
        assert store.files[FILE] != left


def test_the_last_of_two_that_take_a_lease_at_once_holds_it(store: Store, tmp_path: Path) -> None:
    threading.Timer(2 * BEAT_S, lambda: store.put(OTHER)).start()
    with pytest.raises(UserError, match="on elsewhere"), lease(store, tmp_path, settle_s=0.5).held(pytest.fail):
        pytest.fail("two hold it")
    assert json.loads(store.files[FILE]) == OTHER


def test_a_search_learns_that_its_lease_was_taken_and_leaves_it_to_the_other(
    store: Store, tmp_path: Path, wait_for: WaitFor
) -> None:
    held = lease(store, tmp_path)
    with held.held(pytest.fail):
        held.confirm()
        store.put(OTHER)
        with pytest.raises(StorageError, match="another search on elsewhere has taken over the study demo"):
            held.confirm()
    assert json.loads(store.files[FILE]) == OTHER


def test_a_search_learns_it_too_while_it_has_nothing_to_write(store: Store, tmp_path: Path, wait_for: WaitFor) -> None:
    held = lease(store, tmp_path)
    with held.held(pytest.fail):
        store.put(OTHER)
        wait_for(lambda: is_lost(held))
    assert json.loads(store.files[FILE]) == OTHER


def test_a_lease_that_another_took_and_released_is_not_resumed(store: Store, tmp_path: Path, wait_for: WaitFor) -> None:
    held = lease(store, tmp_path)
    with held.held(pytest.fail):
        store.delete(FILE)
        wait_for(lambda: is_lost(held))
        with pytest.raises(StorageError, match="another search, which has ended, has taken over"):
            held.require()
    assert store.files == {}


def test_a_lease_after_a_long_silence_may_belong_to_another(store: Store, tmp_path: Path, wait_for: WaitFor) -> None:
    held = lease(store, tmp_path, silent_s=-1.0)
    with held.held(pytest.fail):
        wait_for(lambda: is_lost(held))


def test_it_outlives_a_store_that_does_not_answer_for_a_while(store: Store, tmp_path: Path, wait_for: WaitFor) -> None:
    held = lease(store, tmp_path)
    with held.held(pytest.fail):
        store.is_out_of_reach = True
        threading.Event().wait(3 * BEAT_S)
        store.is_out_of_reach = False
        beat = store.beat()
        wait_for(lambda: store.beat() > beat)
        held.confirm()
        store.is_out_of_reach = True
    assert FILE in store.files, "it could not be let go of"


def test_a_store_that_does_not_answer_gives_none(store: Store, tmp_path: Path) -> None:
    store.is_out_of_reach = True
    with pytest.raises(OSError, match="no answer"), lease(store, tmp_path).held(pytest.fail):
        pytest.fail("there is none")


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"id": 1}'])
def test_an_unreadable_lease_may_be_of_another_version_and_is_awaited(
    store: Store, tmp_path: Path, content: bytes
) -> None:
    store.files[FILE] = content
    messages: list[str] = []
    with lease(store, tmp_path, silent_s=0.1).held(messages.append):
        assert store.beat() == 0
    assert messages == ["a search on an unknown machine may be running on the study; waiting 0.1 s to find out"]


def test_the_note_of_another_machine_is_none(store: Store, tmp_path: Path) -> None:
    """Wait for a lease although its holder's note lies here.

    The folder of working copies may have been copied, or be on a disk that machines share.
    """
    store.put(OTHER)
    (tmp_path / "holder").write_text("other")
    messages: list[str] = []
    with lease(store, tmp_path, silent_s=0.1).held(messages.append):
        assert len(messages) == 1
