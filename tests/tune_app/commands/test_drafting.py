"""``headroom init``: a file or the standard output, and one line where it cannot be done."""

from pathlib import Path
from typing import Any

import pytest

from tune_app import UserError, init

TABLE = "tweet;sentiment\n" + "".join(
    f"{'lovely fine' if n % 2 else 'awful poor'} text {n};{'good' if n % 2 else 'bad'}\n" for n in range(60)
)


@pytest.mark.slow
def test_a_file_becomes_a_search_in_two_commands(headroom: Any, ray_with_one_slot: None) -> None:
    Path("my.csv").write_text(TABLE)
    drafted = headroom("init", "my.csv")
    assert (drafted.code, drafted.err) == (0, "")
    assert drafted.out.startswith("# yaml-language-server: $schema=")
    Path("my.yaml").write_text(drafted.out)
    ran = headroom("search", "my.yaml", "--trials", "1")
    assert ran.code == 0, ran.err
    assert "macro_f1" in ran.out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["init", "none.csv"], ["none.csv: there is no such file"]),
        (["init", "my.csv", "--to", "there.yaml"], ["--to: there.yaml exists", "--force"]),
        (["init", "my.csv", "--to", "."], ["--to: . is a folder"]),
        (["init", "my.csv", "--label", "lable"], ["my.csv: --label: 'lable'", "'tweet', 'sentiment'"]),
        (["init", "empty.csv"], ["empty.csv holds no rows"]),
        (["init", "my.csv", "--text", "sentiment"], ["my.csv: cannot tell which column holds the label"]),
        (["init", "my.csv", "--task", "evidense"], ["--task: 'evidense'", "did you mean evidence?"]),
        (["init", "my.csv", "--task", "share"], ["--task: share finds evidence", "evidence_start"]),
        (["init", "s3://bucket/my.csv"], ["is a URL"]),
    ],
)
def test_what_cannot_be_drafted_is_one_line(arguments: list[str], parts: list[str], headroom: Any) -> None:
    Path("my.csv").write_text(TABLE)
    Path("there.yaml").write_text("mine")
    Path("empty.csv").write_text("")
    ran = headroom(*arguments)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert [part for part in parts if part not in ran.err] == [], ran.err
    assert Path("there.yaml").read_text() == "mine"
    assert sorted(path.name for path in Path().iterdir()) == ["empty.csv", "my.csv", "there.yaml"]


def test_python_raises_the_same_error(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(TABLE)
    with pytest.raises(UserError, match="--label: 'lable'"):
        init(tmp_path / "my.csv", label="lable")
