"""Reading rows: every valid form is read correctly, and every invalid cell and file is rejected with its message."""

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainables.data.rows import DataError, Rows, read_rows
from trainables.settings import ColumnNames, DataSettings

COLUMNS = ["text", "criterion", "label", "group_id", "evidence_start", "evidence_end"]


def records() -> list[dict[str, Any]]:
    """Return six rows in three groups: both classes, one with evidence, an integer column beside empty cells."""
    texts = ["I sleep badly.", "NA", "null", "Très fatiguée 😴", "All is well", "She, too, said:\n“fine”"]
    return [
        {
            "text": text,
            "criterion": "sleeps badly" if row % 2 else "None",
            "label": row % 2,
            "group_id": row // 2,
            "evidence_start": 5 if row == 3 else None,
            "evidence_end": 13 if row == 3 else None,
        }
        for row, text in enumerate(texts)
    ]


def changed(row: int, **cells: Any) -> list[dict[str, Any]]:
    """Return the records with some cells of one row (counted from 1) replaced."""
    rows = records()
    rows[row - 1].update(cells)
    return rows


def without(*columns: str) -> list[dict[str, Any]]:
    return [{name: cell for name, cell in row.items() if name not in columns} for row in records()]


def as_csv(rows: list[dict[str, Any]]) -> str:
    def field(cell: Any) -> str:
        return "" if cell is None else '"' + str(cell).replace('"', '""') + '"'

    header = list(rows[0])
    return "".join(",".join(line) + "\n" for line in [header, *([field(row[name]) for name in header] for row in rows)])


def as_jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(path: Path, labels: Sequence[str] | None = None, **settings: Any) -> Rows:
    return read_rows(DataSettings(str(path), **settings), labels)


def read_text(folder: Path, content: str | bytes, name: str = "rows.csv", **settings: Any) -> Rows:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, **settings)


def test_reads_every_column_as_it_was_written(tmp_path: Path) -> None:
    rows = read_text(tmp_path, as_csv(records()))

    assert rows.texts == tuple(row["text"] for row in records())
    assert rows.criteria == ("None", "sleeps badly") * 3
    assert rows.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert rows.groups == ("0", "0", "1", "1", "2", "2")
    assert rows.evidence.tolist() == [[-1, -1]] * 3 + [[5, 13]] + [[-1, -1]] * 2
    assert rows.labels.dtype == np.int64
    assert rows.evidence.dtype == np.int64
    assert len(rows) == 6


def test_the_same_content_has_the_same_fingerprint_in_every_format(tmp_path: Path) -> None:
    pd.DataFrame(records()).to_parquet(tmp_path / "floats.parquet")
    pd.DataFrame(records()).convert_dtypes().set_index("group_id").to_parquet(tmp_path / "index.PARQUET")

    fingerprints = {
        read_text(tmp_path, as_csv(records())).fingerprint,
        read_text(tmp_path, as_jsonl(records()), "rows.jsonl").fingerprint,
        read(tmp_path / "floats.parquet").fingerprint,
        read(tmp_path / "index.PARQUET").fingerprint,
    }

    assert len(fingerprints) == 1
    assert re.fullmatch("[0-9a-f]{64}", fingerprints.pop())


@pytest.mark.parametrize(
    "other",
    [
        changed(1, text="I sleep badly"),
        changed(1, criterion="other"),
        changed(1, label=1),
        changed(6, group_id=1),
        changed(4, evidence_end=12),
        changed(2, evidence_start=0, evidence_end=1),
        list(reversed(records())),
        without("criterion"),
    ],
)
def test_any_change_of_content_changes_the_fingerprint(tmp_path: Path, other: list[dict[str, Any]]) -> None:
    assert read_text(tmp_path, as_csv(other)).fingerprint != read_text(tmp_path, as_csv(records())).fingerprint


@pytest.mark.parametrize(
    "content",
    [
        as_csv(records()).encode("utf-8-sig"),
        as_csv(records()).replace('"\n', '"\r\n').replace(",\n", ",\r\n").replace("end\n", "end\r\n").encode(),
        as_csv([{name: row[name] for name in reversed(COLUMNS)} for row in records()]).encode(),
        as_csv([{**row, "label": float(row["label"]), "unused": "x"} for row in records()]).encode(),
    ],
    ids=["byte order mark", "CRLF", "other order of columns", "labels as 1.0, one column more"],
)
def test_variants_of_a_file_are_read_alike(tmp_path: Path, content: bytes) -> None:
    assert read_text(tmp_path, content).fingerprint == read_text(tmp_path, as_csv(records())).fingerprint


@pytest.mark.parametrize("labels", [("0", "1"), (0.0, 1.0), (False, True), (" 0 ", "1.0")])
def test_labels_may_be_written_in_several_ways(tmp_path: Path, labels: tuple[Any, Any]) -> None:
    rows = [{**row, "label": labels[row["label"]]} for row in records()]
    assert read_text(tmp_path, as_jsonl(rows), "rows.jsonl").labels.tolist() == [0, 1] * 3


def test_criterion_and_evidence_may_be_absent(tmp_path: Path) -> None:
    rows = read_text(tmp_path, as_csv(without("criterion", "evidence_start", "evidence_end")))
    assert rows.criteria is None
    assert (rows.evidence == -1).all()


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    names = ColumnNames(text="post", group_id="author")
    content = as_csv(records()).replace("text,", "post,", 1).replace("group_id", "author", 1)
    assert read_text(tmp_path, content, columns=names).fingerprint == read_text(tmp_path, as_csv(records())).fingerprint


def test_blank_lines_of_json_lines_are_passed_over(tmp_path: Path) -> None:
    content = "\n" + as_jsonl(records()).replace("}\n", "}\n\n")
    assert len(read_text(tmp_path, content, "rows.jsonl")) == 6


def test_the_demo_needs_no_file() -> None:
    rows = read_rows(DataSettings("demo"))
    assert rows.criteria is not None
    assert set(rows.labels.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(3, text=""), "row 3, column 'text': is empty; fill it in or remove the row"),
        (changed(3, text=None), "row 3, column 'text': is empty"),
        (changed(3, text=" \n"), "row 3, column 'text': holds only blanks; fill it in"),
        (changed(5, criterion=None), "row 5, column 'criterion': is empty; fill it in"),
        (changed(2, label=None), "row 2, column 'label': is empty; write its class, or remove the row"),
        (changed(2, label="yes"), "row 2, column 'label': 'yes' is a name among numbers such as '0'; write labels"),
        (changed(2, label=0.5), "is not a class: labels are whole numbers or names"),
        (changed(2, label="inf"), "row 2, column 'label': 'inf' is not a class"),
        (changed(2, label="a text " * 20), "is not the name of a class; give data.columns.label the right column"),
        (changed(4, group_id=None), "row 4, column 'group_id': is empty; give every row its group"),
        (
            changed(1, evidence_start=0),
            "row 1, column 'evidence_end': is empty, but the other end of the evidence is",
        ),
        (
            changed(1, evidence_end=2),
            "row 1, column 'evidence_start': is empty, but the other end of the evidence is",
        ),
        (changed(4, evidence_start="x"), "row 4, column 'evidence_start': 'x' is not an integer"),
        (
            changed(4, evidence_start=-1),
            "row 4, column 'evidence_start': the evidence from -1 to 13 is not within the",
        ),
        (
            changed(4, evidence_end=16),
            "row 4, column 'evidence_end': the evidence from 5 to 16 is not within the text's 15",
        ),
        (changed(4, evidence_start=13), "row 4, column 'evidence_end': the evidence from 13 to 13 is not within"),
        (without("text"), "has no column 'text', its columns are 'criterion', 'label', 'group_id'"),
        (without("label"), "name the right one with data.columns.label=NAME"),
        (
            without("text", "label"),
            "has no columns 'text' and 'label', its columns are 'criterion', 'group_id', 'evidence_start',"
            " 'evidence_end'; name the right ones with data.columns.text=NAME data.columns.label=NAME",
        ),
        (without("evidence_end"), "has no column 'evidence_end', its columns are"),
        (
            [{**row, "label": 1} for row in records()],
            "holds only the class 1, so there is nothing to learn; add rows of",
        ),
        (
            [{**row, "group_id": row["label"]} for row in records()],
            "holds 2 group(s), and training, validation and test",
        ),
    ],
)
@pytest.mark.parametrize(("name", "form"), [("rows.csv", as_csv), ("rows.jsonl", as_jsonl)])
def test_rows_that_cannot_be_used_are_refused(
    tmp_path: Path, name: str, form: Any, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_text(tmp_path, form(rows), name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "columns", "remedy"),
    [
        ("Text", ColumnNames(), "data.columns.text=Text"),
        ("texts", ColumnNames(), "data.columns.text=texts"),
        ("post", ColumnNames(text="pots"), "data.columns.text=post"),
    ],
)
def test_a_missing_column_is_answered_with_the_nearest_name(
    tmp_path: Path, header: str, columns: ColumnNames, remedy: str
) -> None:
    with pytest.raises(DataError, match=re.escape(remedy)):
        read_text(tmp_path, as_csv(records()).replace("text", header, 1), columns=columns)


@pytest.mark.parametrize(
    ("header", "columns"), [("Criterion", ColumnNames()), ("criterion", ColumnNames(criterion="rule"))]
)
def test_an_optional_column_that_is_meant_is_not_left_out_in_silence(
    tmp_path: Path, header: str, columns: ColumnNames
) -> None:
    with pytest.raises(DataError, match=re.escape("data.columns.criterion=")):
        read_text(tmp_path, as_csv(records()).replace("criterion", header, 1), columns=columns)


def test_max_rows_takes_whole_groups_from_all_over_the_file(tmp_path: Path) -> None:
    numbers = range(300)
    frame = pd.DataFrame({"text": "a", "label": [n % 2 for n in numbers], "group_id": [n // 3 for n in numbers]})
    frame.to_csv(tmp_path / "rows.csv", index=False)

    few = read(tmp_path / "rows.csv", max_rows=50)
    groups = [int(group) for group in few.groups]

    assert len(few) == 48
    assert all(groups.count(group) == 3 for group in groups)
    assert groups == sorted(groups)
    assert max(groups) > 50
    frame.iloc[::-1].to_csv(tmp_path / "reversed.csv", index=False)
    assert set(read(tmp_path / "reversed.csv", max_rows=50).groups) == set(few.groups)
    assert len(read(tmp_path / "rows.csv", max_rows=1000)) == 300


@pytest.mark.parametrize(
    ("max_rows", "message"),
    [
        (
            1,
            "data.max_rows=1 is less than the smallest group, and groups are taken whole; raise it to 2 at least",
        ),
        (
            4,
            "cut to data.max_rows=4 holds 2 group(s), and training, validation and test need one each at least",
        ),
    ],
)
def test_a_max_rows_that_leaves_too_little_is_refused(tmp_path: Path, max_rows: int, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read_text(tmp_path, as_csv(records()), max_rows=max_rows)


def labelled(*labels: Any) -> list[dict[str, Any]]:
    """Return the records with these labels, one after the other."""
    return [{**row, "label": labels[number % len(labels)]} for number, row in enumerate(records())]


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (("yes", "no"), ("no", "yes"), [1, 0] * 3),
        ((" yes", "no "), ("no", "yes"), [1, 0] * 3),
        (("b", "a", "c"), ("a", "b", "c"), [1, 0, 2] * 2),
        ((10, 9, 2), ("2", "9", "10"), [2, 1, 0] * 2),
        ((3.0, "1", 2), ("1", "2", "3"), [2, 0, 1] * 2),
        ((1, -1), ("-1", "1"), [1, 0] * 3),
        ((True, "FALSE"), ("false", "true"), [1, 0] * 3),
        ((1, "false"), ("0", "1"), [1, 0] * 3),
        ((0, 1), ("0", "1"), [0, 1] * 3),
    ],
)
@pytest.mark.parametrize(("name", "form"), [("rows.csv", as_csv), ("rows.jsonl", as_jsonl)])
def test_labels_become_the_classes_that_there_are(
    tmp_path: Path, name: str, form: Any, labels: tuple[Any, ...], names: tuple[str, ...], numbers: list[int]
) -> None:
    rows = read_text(tmp_path, form(labelled(*labels)), name)
    assert rows.class_names == names
    assert rows.labels.tolist() == numbers


def test_the_order_of_classes_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(as_csv(labelled("yes", "no")))
    rows = read(tmp_path / "rows.csv", labels=["yes", "no"])
    assert rows.class_names == ("yes", "no")
    assert rows.labels.tolist() == [0, 1] * 3


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        (("yes", "no"), ["yes", "maybe"], "row 2, column 'label': 'no' is not one of task.labels (yes, maybe)"),
        (("yes", "no"), ["yes", "no", "maybe"], "no row is of the class 'maybe' of task.labels, which every score"),
        (("yes", "Yes"), None, "row 2, column 'label': 'Yes' differs from 'yes' only in case; write both alike"),
        (("yes",), None, "holds only the class yes"),
    ],
)
def test_classes_that_are_not_those_of_the_rows_are_refused(
    tmp_path: Path, labels: tuple[str, ...], given: list[str] | None, message: str
) -> None:
    (tmp_path / "rows.csv").write_text(as_csv(labelled(*labels)))
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path / "rows.csv", labels=given)


def test_labels_that_differ_in_case_are_classes_where_both_are_listed(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(as_csv(labelled("yes", "Yes")))
    assert read(tmp_path / "rows.csv", labels=["Yes", "yes"]).labels.tolist() == [1, 0] * 3


@pytest.mark.parametrize("columns", [ColumnNames(), ColumnNames(group_id=None)])
def test_without_a_group_column_every_row_is_its_own_group(tmp_path: Path, columns: ColumnNames) -> None:
    given = without("group_id") if columns.group_id else records()
    rows = read_text(tmp_path, as_csv([*given, given[0]]), columns=columns)
    assert len(set(rows.groups)) == 7
    assert any("every row is its own group" in remark for remark in rows.remarks)
    mirrored = read_text(tmp_path, as_csv([*given, given[0]][::-1]), columns=columns)
    assert set(mirrored.groups) == set(rows.groups), "the order of the file does not matter"


def test_a_criterion_column_may_be_left_unread(tmp_path: Path) -> None:
    rows = read_text(tmp_path, as_csv(records()), columns=ColumnNames(criterion=None))
    assert rows.criteria is None
    assert rows.remarks == (
        "texts without criteria (data.columns.criterion is null)",
        "columns that are not read: 'criterion'",
    )


def test_columns_without_a_role_and_absent_ones_are_reported(tmp_path: Path) -> None:
    rows = read_text(tmp_path, as_csv([{**row, "author": "x"} for row in without("criterion")]))
    assert rows.remarks == (
        "texts without criteria: the data has no column 'criterion'",
        "columns that are not read: 'author'",
    )


@pytest.mark.parametrize("written", [("7", "7.0", " 7"), (7, 7.0, "7")])
def test_one_number_is_one_group_however_it_is_written(tmp_path: Path, written: tuple[Any, ...]) -> None:
    def with_ids(*ids: Any) -> list[dict[str, Any]]:
        return [{**row, "group_id": ids[number // 2]} for number, row in enumerate(records())]

    rows = [{**row, "group_id": written[number % 3]} for number, row in enumerate(records()[:3])]
    rest = with_ids("1e3", "1000", "007")[3:]
    assert read_text(tmp_path, as_jsonl(rows + rest), "rows.jsonl").groups == ("7", "7", "7", "1000", "007", "007")


@pytest.mark.parametrize(("write", "name"), [(as_csv, "rows.csv"), (as_jsonl, "rows.jsonl")])
def test_leading_zeros_make_another_group_and_are_remarked(tmp_path: Path, write: Any, name: str) -> None:
    ids = ("007", "007", "7", "7.0", "0a", "a")
    rows = read_text(tmp_path, write([row | {"group_id": own} for row, own in zip(records(), ids, strict=True)]), name)
    assert rows.groups == ("007", "007", "7", "7", "0a", "a")
    (remark,) = rows.remarks
    assert remark.startswith("column 'group_id': '007' and '7' are two groups (1 such numbers)")


@pytest.mark.parametrize("form", [as_csv, as_jsonl])
def test_numbers_may_stand_in_text_columns(tmp_path: Path, form: Any) -> None:
    name = "rows.csv" if form is as_csv else "rows.jsonl"
    rows = read_text(tmp_path, form(changed(3, text=7, criterion=1)), name)
    assert rows.texts[2] == "7"
    assert rows.criteria is not None
    assert rows.criteria[2] == "1"


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records with texts of one line, without commas or quotes."""
    return [{**row, "text": f"I sleep badly {number}"} for number, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", as_csv(plain(records())).replace(",", ";")),
        ("rows.csv", as_csv(plain(records())).replace(",", "\t")),
        ("rows.tsv", as_csv(plain(records())).replace(",", "\t")),
        ("rows.txt", as_csv(plain(records())).replace(",", "|")),
        ("rows.csv", as_csv(plain(records())).replace(",", ", ")),
        ("rows.csv", "sep=;\n" + as_csv(plain(records())).replace(",", ";")),
        ("rows.csv", "sep=;\r\n" + as_csv(plain(records())).replace(",", ";").replace("\n", "\r\n")),
        ("rows.csv", "\ufeffsep=\t\n" + as_csv(plain(records())).replace(",", "\t")),
        ("rows.csv", as_csv(plain(records())).encode("utf-16")),
        ("rows.csv.gz", gzip.compress(as_csv(plain(records())).encode())),
        ("rows.csv", gzip.compress(as_csv(plain(records())).replace(",", ";").encode())),
        ("rows.jsonl.gz", gzip.compress(as_jsonl(plain(records())).encode())),
        ("rows.ndjson", as_jsonl(plain(records()))),
    ],
)
def test_files_are_read_as_programs_write_them(tmp_path: Path, name: str, content: str | bytes) -> None:
    rows = read_text(tmp_path, content, name)
    assert rows.fingerprint == read_text(tmp_path, as_csv(plain(records())), "plain.csv").fingerprint


@pytest.mark.parametrize("above", ["# made by hand\n", "# posts, labelled\n\n", "Posts;2024\nby hand\n"])
def test_a_header_below_other_lines_is_named(tmp_path: Path, above: str) -> None:
    with pytest.raises(DataError, match=r"first line, .*, is above the line with the columns' names, 'text,"):
        read_text(tmp_path, above + as_csv(records()))


def test_parquet_may_be_compressed(tmp_path: Path) -> None:
    pd.DataFrame(records()).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet.gz").write_bytes(gzip.compress((tmp_path / "rows.parquet").read_bytes()))
    assert read(tmp_path / "rows.parquet.gz").fingerprint == read(tmp_path / "rows.parquet").fingerprint


def test_a_quoted_name_holds_any_delimiter(tmp_path: Path) -> None:
    content = as_csv([{**row, "a;b;c;d;e;f;g": "x"} for row in records()])
    assert read_text(tmp_path, content).fingerprint == read_text(tmp_path, as_csv(records())).fingerprint


ORDERS = [
    ["text", "label", "group_id"],
    ["label", "text", "group_id"],
    ["group_id", "label", "text"],
    ["text", "label"],
    ["label", "text"],
]


def with_stray_quotes(columns: list[str], opens: int, closes: int) -> str:
    """Return a table of twelve rows; the texts of two of them (counted from 1) begin with a quote."""
    lines = [",".join(columns)]
    for row in range(1, 13):
        quote = '"' if row in (opens, closes) else ""
        cells = {"text": f"{quote}Well said she", "label": "yes" if row % 2 else "no", "group_id": str(row)}
        lines.append(",".join(cells[name] for name in columns))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("columns", ORDERS, ids=str)
@pytest.mark.parametrize(("opens", "closes"), [(2, 11), (3, 5), (4, 5)])
def test_rows_that_stray_quotes_swallow_are_named(tmp_path: Path, columns: list[str], opens: int, closes: int) -> None:
    content = with_stray_quotes(columns, opens, closes)
    with pytest.raises(DataError, match=rf"lines {opens + 1} to {closes + 1} are one row.*'text'.*stray quotes"):
        read_text(tmp_path, content)
    with pytest.raises(DataError, match=rf"lines {opens + 2} to {closes + 2} are one row"):
        read_text(tmp_path, "sep=,\n" + content)


def test_texts_of_several_lines_with_commas_are_texts(tmp_path: Path) -> None:
    poem = "Roses, red\nviolets, blue, 1\nand, so, on, 0, they, go\n1\n"
    assert poem in read_text(tmp_path, as_csv(changed(2, text=poem))).texts


def test_a_swallowed_part_of_any_size_is_named(tmp_path: Path) -> None:
    rows = "".join(f"{'long ' * 200}{row},{row % 2}\n" for row in range(300))
    with pytest.raises(DataError, match="lines 2 to 303 are one row"):
        read_text(tmp_path, f'text,label\n"begins,0\n{rows}"ends,1\n' + "a,0\nb,1\n" * 5)


def test_lines_of_any_size_are_texts(tmp_path: Path) -> None:
    text = "x" * 300_000 + "\n" + "y" * 300_000
    assert text in read_text(tmp_path, as_csv(changed(2, text=text))).texts
