"""Cells pass through every format unchanged, beside the columns of predictions."""

import csv
import datetime
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainables.data.streams import RowFile, Window
from trainables.prediction.outputs import output_for

ODD = [
    "007",
    "NA",
    " x ",
    "one\r\ntwo",
    "lone\rreturn",
    'say "so"',
    "a;b,c",
    "\U0001f469\u200d\U0001f467",
    "cafe\u0301",
    "",
]


def read(path: Path) -> tuple[RowFile, list[Window]]:
    file = RowFile(str(path), ["text"], scratch=path.parent)
    return file, list(file.windows())


def written(path: Path, suffix: str) -> Path:
    """Return a file with a column ``p`` beside those of another file."""
    file, windows = read(path)
    names = file.titles or {name: name for window in windows for record in window.records for name in record}
    output = output_for(suffix, names, file.schema, {"p": float, "s": str, "n": int})
    partial, target = path.parent / "partial", path.parent / f"out{suffix}"
    added = [{"p": [0.5] * len(window), "s": ["é"] * len(window), "n": [None] * len(window)} for window in windows]
    partial.write_bytes(output.header() + b"".join(map(output.encode, windows, added)))
    output.finish(partial, target)
    return target


def cells(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file as other libraries read it."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in data.decode().split("\n") if line]
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".parquet"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_texts_of_a_csv_file_stay_as_they_are(
    suffix: str, delimiter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.data.streams.WINDOW_ROWS", 3)
    with gzip.open(tmp_path / "in.csv.gz", "wt", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerows([["text", "other"], *([text, "x"] for text in ODD)])
    got = cells(written(tmp_path / "in.csv.gz", suffix))
    assert [row["text"] for row in got] == ODD
    assert {row["p"] for row in got} == {"0.5" if "csv" in suffix else 0.5}
    assert {row["s"] for row in got} == {"é"}
    assert {row["n"] for row in got} == {"" if "csv" in suffix else None}
    assert list(got[0]) == ["text", "other", "p", "s", "n"]


def test_a_nameless_column_stays_nameless(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(",text\n0,a\n1,b\n")
    assert written(tmp_path / "in.csv", ".csv").read_text() == ",text,p,s,n\n0,a,0.5,é,\n1,b,0.5,é,\n"


def test_values_of_json_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.data.streams.WINDOW_ROWS", 2)
    rows = [{"text": "a", "id": 7}, {"text": "b", "deep": {"x": [1, 2.5]}}, {"text": "ç", "id": "7b", "flag": True}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    kept = [
        {name: row[name] for name in row if name not in "psn"}
        for row in cells(written(tmp_path / "in.jsonl", ".jsonl"))
    ]
    assert kept == rows
    as_csv = cells(written(tmp_path / "in.jsonl", ".csv"))
    assert [row["id"] for row in as_csv] == ["7", "", "7b"]
    assert as_csv[1]["deep"] == '{"x": [1, 2.5]}'
    # A column that holds numbers and texts has no type of its own in Parquet.
    as_parquet = cells(written(tmp_path / "in.jsonl", ".parquet"))
    assert [row["id"] for row in as_parquet] == ["7", None, "7b"]
    assert [row["flag"] for row in as_parquet] == [None, None, True]


def test_types_of_parquet_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.data.streams.WINDOW_ROWS", 2)
    table = pa.table(
        {
            "text": ["a", None, "c"],
            "id": pa.array([1, None, 3], pa.int32()),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "at": pa.array([datetime.datetime(2026, 1, 2, 3, 4), None, None], pa.timestamp("ns")),
            "list": [[1], [], None],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=2)
    (tmp_path / "in.parquet.gz").write_bytes(gzip.compress((tmp_path / "in.parquet").read_bytes()))
    for name in ("in.parquet", "in.parquet.gz"):
        got = pq.read_table(written(tmp_path / name, ".parquet"))
        assert got.select(table.column_names).equals(table)
    as_csv = cells(written(tmp_path / "in.parquet", ".csv"))
    assert [row["id"] for row in as_csv] == ["1", "", "3"]
    assert as_csv[0]["at"] == "2026-01-02T03:04:00"
