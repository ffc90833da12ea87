"""``load_model(…).predict``: frames and dictionaries in, the same with predictions out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trainables.data.demo import demo_rows
from trainables.data.model_inputs import ModelInputs
from tune_app import UserError, load_model

ROWS = demo_rows().sample(20, random_state=0)[["text", "criterion"]]
Save = Callable[..., Path]


def test_a_frame_keeps_its_index_and_its_columns(save_tiny_model: Save) -> None:
    model = load_model(save_tiny_model("share"))
    before = ROWS.assign(n=range(len(ROWS)))
    after = model.predict(before)
    assert before.columns.tolist() == ["text", "criterion", "n"]
    pd.testing.assert_frame_equal(after[before.columns.tolist()], before)
    assert after.columns.tolist()[3:] == list(model.adds)
    assert model.adds[-3:] == ("predicted_start", "predicted_end", "predicted_text")
    for row in after.itertuples():
        assert row.text[row.predicted_start : row.predicted_end] == row.predicted_text
        assert row.probability == getattr(row, f"probability_{row.predicted_label}")
    assert (after.probability_no + after.probability_yes).round(6).eq(1).all()


def test_dictionaries_give_what_a_frame_gives_as_they_come(
    save_tiny_model: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.data.streams.WINDOW_ROWS", 4)
    model = load_model(save_tiny_model())
    taken: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(ROWS.to_dict("records")):
            taken.append(number)
            yield {**row, "id": number}

    predicted = model.predict(rows())
    assert not taken
    first = next(predicted)
    assert first["id"] == 0
    assert len(taken) < len(ROWS)
    got = [first, *predicted]
    assert [row["id"] for row in got] == list(range(len(ROWS)))
    frame = model.predict(ROWS)
    assert [row["probability"] for row in got] == frame.probability.tolist()
    assert list(model.predict([])) == []
    assert list(model.predict(ROWS[:0]).columns) == frame.columns.tolist()


def test_whole_numbers_as_labels_are_numbers(save_tiny_model: Save) -> None:
    predicted = load_model(save_tiny_model(labels=("0", "1", "2"))).predict(ROWS)
    assert predicted.predicted_label.dtype == "int64"
    assert set(predicted.predicted_label) <= {0, 1, 2}


def test_bad_rows_are_named_or_kept(save_tiny_model: Save) -> None:
    model = load_model(save_tiny_model(labels=("0", "1")))
    bad = pd.DataFrame({"text": ["a", float("nan")], "criterion": ["b", "c"]}, index=["x", "y"])
    with pytest.raises(UserError, match="the frame: row 2, column 'text': is empty"):
        model.predict(bad)
    kept = model.predict(bad, skip_bad=True)
    assert kept.index.tolist() == ["x", "y"]
    assert kept.predicted_label.isna().tolist() == [False, True]
    assert kept.error.isna().tolist() == [True, False]
    with pytest.raises(UserError, match=r"has no column 'text'.*name the right one with columns=\{'text': …\}"):
        model.predict(bad.rename(columns={"text": "post"}))
    assert len(model.predict(bad[:1].rename(columns={"text": "post"}), columns={"text": "post"})) == 1
    closed = load_model(save_tiny_model(inputs=ModelInputs(criteria=("sleep", "mood"))))
    with pytest.raises(UserError, match="the frame: row 1, column 'criterion': 'b' is none of the criteria"):
        closed.predict(bad[:1])
    assert len(closed.predict(bad[:1], any_criterion=True)) == 1
    with pytest.raises(UserError, match="'probability' would be overwritten"):
        model.predict(bad.assign(probability=1))
    with pytest.raises(UserError, match="the rows: row 1, has no column 'criterion'"):
        list(model.predict([{"text": "a"}, {"text": "b", "criterion": "c"}]))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder of a saved model"):
        load_model(tmp_path)
