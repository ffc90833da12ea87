"""Database addresses: each leads to the file that it was made from. Tables tell whose a database is."""

import sqlite3
from pathlib import Path

import optuna
import pytest
from sqlalchemy.engine import make_url

from tune_app.databases import is_same, moved, owner, sqlite_file, sqlite_url, with_absolute_file


@pytest.mark.parametrize("name", ["feature%2Fsearch", "100%", "a b", "a?b", "a#b", "a@b:c", "ü", "a+b", "%25"])
def test_the_address_of_a_file_leads_to_that_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    file, url = folder / "x.db", sqlite_url(folder / "x.db")
    assert make_url(url).database == str(file)
    assert sqlite_file(url) == str(file)
    optuna.storages.RDBStorage(url)
    assert [found.name for found in tmp_path.iterdir()] == [name]
    assert file.exists()
    monkeypatch.chdir(folder)
    assert with_absolute_file("sqlite:///x.db") == url
    assert moved(url, str(folder), "/new%20") == sqlite_url("/new%20/x.db")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
        "postgresql://ann@host/studies",
        "http://host:5000",
        "no address",
        "sqlite://ann:hush@host/x.db",
    ],
)
def test_other_addresses_are_left_as_they_are(url: str) -> None:
    assert with_absolute_file(url) == url
    assert moved(url, "/there", "/here") == url


def test_a_file_in_the_address_of_sqlites_own_kind_moves_too() -> None:
    found = moved("sqlite:///file:/there/a.db?uri=true", "/there", "/here")
    assert sqlite_file(found) == "/here/a.db"
    assert make_url(found).query == {"uri": "true"}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("sqlite:////data/a.db", "sqlite:////data/../data/a.db", True),
        ("sqlite:////data/a.db", "sqlite+pysqlite:////data/a.db", True),
        ("sqlite:////data/a.db", "sqlite:///file:/data/a.db?uri=true", True),
        ("sqlite:////data/a.db", "sqlite:////data/b.db", False),
        ("sqlite://", "sqlite://", False),
        ("postgresql://ann@host/x", "postgresql+psycopg://bob:hush@HOST:5432/x", True),
        ("postgresql://localhost/x", "postgresql://127.0.0.1/x", True),
        ("postgresql://host/x", "postgresql://host/y", False),
        ("postgresql://host/x", "postgresql://host/x?options=-csearch_path%3Dmlflow", False),
        ("postgresql://host/x", "mysql://host/x", False),
        ("sqlite:////data/a.db", "http://host/a.db", False),
        ("sqlite:////data/a.db", "/data/a.db", False),
    ],
)
def test_two_addresses_may_mean_one_database(one: str, other: str, expected: bool) -> None:
    assert is_same(one, other) is is_same(other, one) is expected


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "x.db")
    assert is_same(sqlite_url(tmp_path / "link.db"), sqlite_url(tmp_path / "x.db"))


def test_a_database_tells_whose_tables_it_holds(empty_database: Path, tmp_path: Path) -> None:
    assert owner(sqlite_url(empty_database)) == "Optuna"
    assert owner(sqlite_url(tmp_path / "absent.db")) is None
    assert not (tmp_path / "absent.db").exists(), "nothing is made by asking"
    (tmp_path / "empty.db").touch()
    assert owner(sqlite_url(tmp_path / "empty.db")) is None
    with sqlite3.connect(tmp_path / "notes.db") as connection:
        connection.execute("CREATE TABLE notes (id INTEGER)")
    connection.close()
    assert owner(sqlite_url(tmp_path / "notes.db")) == "another program"
