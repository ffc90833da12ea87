"""Error messages for people."""

import errno

import pytest

from tune_app.errors import UserError, first_line, nearest, storage_failure, without_password, without_password_of


@pytest.mark.parametrize(
    ("word", "answer"),
    [("epoch", "; did you mean epochs?"), ("epochs", "; did you mean epochs?"), ("zzz", ""), ("", "")],
)
def test_the_nearest_known_word_is_offered_if_one_is_near(word: str, answer: str) -> None:
    assert nearest(word, ["batch_size", "epochs", "patience"]) == answer
    assert nearest(word, []) == ""


@pytest.mark.parametrize(
    ("message", "line"),
    [("one\ntwo", "one"), ("\n \nthe node timed out\nsee", "the node timed out"), ("\n", "OSError")],
)
def test_the_first_line_of_an_error_says_something(message: str, line: str) -> None:
    assert first_line(OSError(message)) == line


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:secret@host:5432/db", "postgresql://user:***@host:5432/db"),
        ("mysql+pymysql://user:secret@host/db?charset=utf8", "mysql+pymysql://user:***@host/db?charset=utf8"),
        ("https://user:secret@host", "https://user:***@host"),
        ("https://:secret@host", "https://:***@host"),
        ("https://user:@host", "https://user:***@host"),
        ("https://user:se:cr/et@host", "https://user:***@host"),
        ("https://user:se@cret@host", "https://user:***@host"),
        ("cannot reach http://user:secret@host:5000/api here", "cannot reach http://user:***@host:5000/api here"),
    ],
)
def test_a_password_in_a_url_is_never_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////data/study.db",
        "http://host:5000",
        "http://host:5000/path",
        "https://user@host/",
        "postgresql://host/db",
        "s3://bucket/runs",
        "/data/runs",
        "",
    ],
)
def test_a_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert without_password(url) == url


def test_a_message_is_one_line_whatever_the_user_wrote() -> None:
    assert str(UserError("study.name: a\nb: bad")) == "study.name: a b: bad"


@pytest.mark.parametrize(
    ("url", "message", "shown"),
    [
        ("postgresql://u:o@host/db", "no connection to host: port o is closed", None),
        ("postgresql://o:o@host/db", "host unknown to postgresql", None),
        ("http://u:e@h/?token=t", "see the token that the server wants", None),
        ("postgresql://u:o@h/db", "cannot open postgresql://u:o@h/db now", "cannot open postgresql://u:***@h/db now"),
        ("postgresql://u:o@h/db", "who is u:o@h?", "who is u:***@h?"),
        ("postgresql://u:a@b-c@h/db", "failed to resolve host 'b-c@h'", "failed to resolve host '***@h'"),
        ("postgresql://u:p%20w@h/db", "bad URL u:p w@h", "bad URL u:***@h"),
        ("postgresql://u:o@h/db", "bad option: user=u password='o' host=h", "bad option: user=u password='***' host=h"),
        (
            "x://h/db?user=u&password=o",
            "unknown: {'password': 'o', 'user': 'u'}",
            "unknown: {'password': '***', 'user': 'u'}",
        ),
        (
            "s3://b/x?secret_key=k&region=r",
            "Unexpected parameter 'secret_key=k'",
            "Unexpected parameter 'secret_key=***'",
        ),
    ],
)
def test_a_secret_is_removed_where_it_is_a_part_of_its_url_and_nowhere_else(
    url: str, message: str, shown: str | None
) -> None:
    assert without_password_of(url, message) == (shown or message)


def test_a_folder_for_temporary_files_is_not_taken_for_the_disk_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/scratch")
    monkeypatch.setenv("RAY_TMPDIR", "/sessions/")
    full = errno.ENOSPC, "No space left on device"
    for path, expected in [
        ("/scratch/headroom-0/trial-x", "TMPDIR: /scratch, the folder for temporary files, cannot be used (No space"),
        ("/sessions/ray/session_1", "RAY_TMPDIR: /sessions/, the folder for temporary files"),
        ("/scratch/runs/a/study.journal", "the search ended because it cannot record its trials"),
    ]:
        assert (storage_failure(OSError(*full, path)) or "").startswith(expected)
    nowhere = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert (storage_failure(nowhere) or "").startswith("TMPDIR: no folder for temporary files can be written")
