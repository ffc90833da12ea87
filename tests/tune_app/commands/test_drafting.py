"""``headroom init``: a file or the standard output, and one line where it cannot be done."""

from pathlib import Path
from typing import Any

import pytest

from tune_app import UserError, init

TABLE = "tweet;sentiment\n" + "".join(
    f"{'lovely fine' if n % 2 else 'awful poor'} text {n};{'good' if n % 2 else 'bad'}\n" for n in range(60)
)


def test_a_draft_goes_to_the_standard_output_or_to_a_file(headroom: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_app.api.init", lambda data, **given: f"# for {data}\n")
    printed = headroom("init", "my.csv")
    assert (printed.code, printed.out, printed.err) == (0, "# for my.csv\n", "")
    written = headroom("init", "my.csv", "--to", "my.yaml")
    assert written.out.splitlines() == ["wrote my.yaml", "run it  headroom search my.yaml"]
    assert Path("my.yaml").read_text() == "# for my.csv\n"


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
