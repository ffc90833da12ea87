"""Arbitrary content in a configuration or a data file: it is read, or rejected with ``UserError`` alone."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainables.data.rows import DataError, Rows, read_rows
from trainables.settings import DataSettings
from tune_app.config import RunConfig, load_config
from tune_app.errors import UserError

# Every run has the same examples, so that the author of a fault is the one who meets it.
FEW = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

BYTES = st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))


def lines(parts: list[str]) -> st.SearchStrategy[bytes]:
    """Generate texts of parts that mean something to the reader, with anything between them."""
    piece = st.sampled_from(parts) | st.text(max_size=3)
    return st.lists(piece, max_size=30).map(lambda pieces: "".join(pieces).encode("utf-8", "surrogatepass"))


CONFIG_PARTS = [
    *(
        "study: {name: a}\n",
        "data: {path: demo}\n",
        "train: ",
        "space: ",
        "limits: ",
        "search: ",
        "optim.lr",
        "train.x",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        ": ",
        ", ",
        "\n",
        "  ",
        "- ",
        "&a ",
        "*a",
        "<<: ",
        "!!set ",
        "!!binary ",
        "!x ",
        "? ",
        "| ",
        "#",
    ),
    *(
        "'",
        '"',
        "\\u0000",
        "\\ud800",
        "\t",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "~",
        "null",
        "true",
        "1e5",
        ".nan",
        "-.inf",
    ),
    *(
        "0x10",
        "2001-01-01",
        "1:30",
        "choices",
        "low",
        "high",
        "log",
        "type",
        "from",
        "epochs",
        "metric",
        "macro_f1",
        "3",
    ),
]
ROW_PARTS = [
    *(
        "text",
        "criterion",
        "label",
        "group_id",
        "evidence_start",
        "evidence_end",
        ",",
        "\n",
        "\r",
        '"',
        "\0",
        "\ufeff",
        ";",
        "\t",
        "sep=;\n",
    ),
    *(
        "text,label,group_id\n",
        "a,0,1\n",
        "b,1,2\n",
        "c,0,3\n",
        "d,1,3\n",
        "e,1,1\n",
        "f,0,2\n",
        "1e999",
        "nan",
        "-1",
        " ",
    ),
]
JSON_PARTS = [
    *('{"text": "a", "label": 0, "group_id": 1}\n', '{"text": "b", "label": 1, "group_id": 2}\n', "{", "}", "[", "]"),
    *(
        '"text"',
        '"label"',
        '"group_id"',
        '"evidence_end"',
        ": ",
        ", ",
        "NaN",
        "-Infinity",
        "1e999",
        "null",
        "true",
        "\\",
    ),
    *('"\\ud800"', '"\\u0000"', '{"text": "c", "label": "1", "group_id": [3]}\n', "\n", "\ufeff", "0", "-1", "0.5"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def assert_one_line(error: Exception) -> None:
    assert str(error)
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 3000


@FEW
@given(content=BYTES | lines(CONFIG_PARTS) | lines(CONFIG_PARTS).map(b"study: {name: a}\ndata: {path: demo}\n".__add__))
def test_any_configuration_is_read_or_refused(content: bytes, folder: Path) -> None:
    file = folder / "c.yaml"
    file.write_bytes(content)
    try:
        assert isinstance(load_config(file), RunConfig)
    except UserError as error:
        assert_one_line(error)


@FEW
@given(
    override=st.text(max_size=50)
    | lines(CONFIG_PARTS).map(lambda part: f"train.epochs={part.decode('utf-8', 'replace')}")
)
def test_any_override_is_read_or_refused(override: str, folder: Path) -> None:
    file = folder / "c.yaml"
    file.write_text("study: {name: a}\ndata: {path: demo}\n")
    try:
        assert isinstance(load_config(file, [override]), RunConfig)
    except UserError as error:
        assert_one_line(error)


def assert_read_or_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        rows = read_rows(DataSettings(str(file)))
    except DataError as error:
        assert_one_line(error)
    else:
        assert isinstance(rows, Rows)
        assert rows.fingerprint


@FEW
@given(content=BYTES | lines(ROW_PARTS) | lines(ROW_PARTS).map(b"text,label,group_id\na,0,1\nb,1,2\nc,1,3\n".__add__))
def test_any_csv_file_is_read_or_refused(content: bytes, folder: Path) -> None:
    assert_read_or_refused(folder / "rows.csv", content)


@FEW
@given(content=BYTES | lines(JSON_PARTS))
def test_any_jsonl_file_is_read_or_refused(content: bytes, folder: Path) -> None:
    assert_read_or_refused(folder / "rows.jsonl", content)


@FEW
@given(content=BYTES)
def test_any_parquet_file_is_read_or_refused(content: bytes, folder: Path) -> None:
    assert_read_or_refused(folder / "rows.parquet", content)
