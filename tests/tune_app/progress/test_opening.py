"""Lines about the data at the start of a search."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tune_app.config import RunConfig, parse_config
from tune_app.progress.opening import data_lines
from tune_app.screening.preconditions import study_record, with_classes_of_data


def configured(folder: Path, rows: list[str], header: str = "text,label,group_id", **sections: Any) -> RunConfig:
    file = folder / "rows.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    raw: dict[str, Any] = {
        "study": {"name": "a", "dir": str(folder)},
        "data": {"path": str(file)},
        "model": {"name": "tiny-bert"},
        "space": {"tok.max_length": {"choices": [8, 64]}},
        **sections,
    }
    return with_classes_of_data(parse_config(raw))


def words(count: int) -> str:
    return " ".join(f"word{place}" for place in range(count))


def test_they_tell_counts_cuts_baselines_and_the_standard_error(tmp_path: Path) -> None:
    rows = [f"{words(4 + 20 * (row % 2))} {row},{'no' if row % 4 else 'yes'},{row // 4}" for row in range(80)]
    lines = data_lines(configured(tmp_path, rows), from_here=True)
    assert lines[0] == f"data {tmp_path}/rows.csv: 80 rows in 20 groups; 2 classes: no, yes"
    table = [line.split() for line in lines[1:5]]
    assert table == [
        ["rows", "groups", "no", "yes"],
        ["training", "48", "12", "36", "12"],
        ["validation", "16", "4", "12", "4"],
        ["test", "16", "4", "12", "4"],
    ]
    text = "\n".join(lines)
    assert "texts without criteria: the data has no column 'criterion'" in text
    assert "in tokens of tiny-bert: 8: 50.0%, 64: 0.0%" in text
    assert "macro_f1 without learning: always 'no' 0.4286, guessing by class shares 0.5000" in text
    assert "its standard error on 16 validation rows: at least 0.1" in text


def test_equal_texts_in_several_groups_are_told_and_part_of_what_a_study_is_about(tmp_path: Path) -> None:
    rows = [f"text {row % 40},{row % 2},{row}" for row in range(80)]
    together = configured(tmp_path, rows)
    assert "  40 texts stand in several groups, which stay on one side of the split (at most 2 rows together)" in (
        data_lines(together, from_here=True)
    )
    apart = replace(together, data=replace(together.data, equal_texts="apart"))
    assert any("set data.equal_texts=together" in line for line in data_lines(apart, from_here=True))
    (difference,) = study_record(apart).differences(study_record(together))
    assert str(difference) == 'data.equal_texts: "apart" there, "together" here'


def test_a_study_of_data_without_equal_texts_is_what_it_was(tmp_path: Path) -> None:
    rows = [f"text {row},{row % 2},{row}" for row in range(40)]
    record = study_record(configured(tmp_path, rows))
    assert "data.equal_texts" not in record.fixed
    assert record.fixed["task.labels"] is None
    assert record.fixed["task.classes"] == 2


def test_the_rarest_of_many_classes_is_named(tmp_path: Path) -> None:
    names = [f"class{number:02d}" for number in range(12)]
    rows = [f"text {row},{names[row % 12]}" for row in range(240)] + [f"more {row},class03" for row in range(10)]
    lines = data_lines(configured(tmp_path, rows, header="text,label"), from_here=True)
    assert lines[0].endswith(
        "12 classes: class00, class01, class02, class03, class04, class05, class06, class07 and 4 more"
    )
    assert lines[1].split() == ["rows", "groups", "class00"]


def test_models_of_which_equally_many_rows_are_cut_share_a_line(tmp_path: Path) -> None:
    rows = [f"{words(4 + 20 * (row % 2))} {row},{row % 2},{row // 4}" for row in range(80)]
    space = {"model.name": {"choices": ["tiny-bert", "small-bert"]}}
    lines = data_lines(configured(tmp_path, rows, space=space), from_here=True)
    cut = [line.strip() for line in lines if "rows cut" in line]
    assert cut == ["rows cut by tok.max_length, in tokens of tiny-bert, small-bert: 256: 0.0%"]
