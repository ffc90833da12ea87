"""Windows over long texts: they cover every token, neighbours overlap, and inputs are the tokenizer's own."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.rows import Rows
from trainables.data.tokens import PairTemplate, TokenColumn, TokenisedRows, _Layout, _Special, tokenise_rows
from trainables.data.windows import cut_windows, window_example
from trainables.models.builtin import train_tokenizer
from trainables.models.load import load_tokenizer


def ragged(lengths: list[int], start: int) -> TokenColumn:
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(start, start + bounds[-1], dtype=np.int32)
    return TokenColumn(ids, np.zeros((len(ids), 2), np.int32), bounds, np.arange(len(lengths)))


def special(*ids: int) -> _Special:
    return _Special(np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=np.int32))


TEMPLATE = PairTemplate(
    pair=_Layout((special(1), special(2, 2), special(2)), (0, 1)),
    single=_Layout((special(1), special(2)), (0,)),
    has_token_types=True,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 90)), min_size=1, max_size=5),
    max_length=st.integers(6, 40),
    overlap=st.integers(0, 50),
    paired=st.booleans(),
)
def test_windows_cover_the_text_in_the_fewest_inputs(
    rows: list[tuple[int, int]], max_length: int, overlap: int, paired: bool
) -> None:
    texts = ragged([text for _, text in rows], 1000)
    criteria = ragged([criterion for criterion, _ in rows], 100) if paired else None
    tokens = TokenisedRows(TEMPLATE, texts, criteria)
    windows = cut_windows(tokens, max_length, overlap)
    assert windows.lengths.max() <= max_length
    assert windows.of_rows(np.arange(len(rows))).tolist() == list(range(len(windows.row)))
    for row, (_, length) in enumerate(rows):
        own = windows.of_rows(np.array([row]))
        first, held = windows.first[own], windows.text_tokens[own]
        assert first[0] == 0
        assert first[-1] + held[-1] == length
        shared = first[:-1] + held[:-1] - first[1:]
        assert (shared == min(overlap, held[0] // 2)).all()
        assert (held[:-1] == held[0]).all(), "only the last may be shorter"
        for number in own:
            example = window_example(tokens, windows, int(number), max_length)
            at, count = windows.text_at[number], windows.text_tokens[number]
            assert len(example.input_ids) == windows.lengths[number]
            expected = texts.ids_of(row)[windows.first[number] : windows.first[number] + count]
            assert example.input_ids[at : at + count].tolist() == expected.tolist()
        if len(own) == 1:
            assert example.input_ids.tolist() == tokens.example(row, max_length).input_ids.tolist()


@pytest.fixture(scope="module")
def tokenised(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, TokenisedRows]:
    folder = tmp_path_factory.mktemp("tokenizer")
    text = "She sleeps badly, and in the morning nothing tastes of anything. " * 12
    train_tokenizer("tiny-bert", [text, "Trouble with sleep?"], folder)
    rows = Rows(
        (text, "She sleeps."),
        ("Trouble with sleep?",) * 2,
        np.array([1, 0]),
        ("a", "b"),
        np.full((2, 2), -1),
        ("0", "1"),
    )
    return rows, tokenise_rows(rows, load_tokenizer(folder), Path(folder) / "cache")


def test_windows_are_those_that_the_tokenizer_cuts_itself(
    tokenised: tuple[Rows, TokenisedRows], tmp_path: Path
) -> None:
    rows, tokens = tokenised
    assert rows.criteria is not None
    train_tokenizer("tiny-bert", [*rows.texts, *rows.criteria], tmp_path)
    own = load_tokenizer(tmp_path)
    tokens = tokenise_rows(rows, own, tmp_path / "cache")
    theirs = own(
        list(rows.criteria), list(rows.texts), truncation="only_second", max_length=40, stride=8,
        return_overflowing_tokens=True,
    )  # fmt: skip
    windows = cut_windows(tokens, 40, 8)
    ours = [window_example(tokens, windows, number, 40).input_ids.tolist() for number in range(len(windows.row))]
    assert ours == theirs["input_ids"]


def test_no_room_for_anything_is_refused(tokenised: tuple[Rows, TokenisedRows]) -> None:
    with pytest.raises(ValueError, match=r"tok\.max_length=3 leaves no room"):
        cut_windows(tokenised[1], 3, 1)
