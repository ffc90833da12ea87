"""Spans: the best of a row over its windows, found by trying all; and the spans that are possible."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.tokens import TokenColumn
from trainables.data.windows import Windows
from trainables.tasks.spans import best_spans, candidates, masked, trimmed

TEXT_AT = 2


def windows_of(counts: list[int], text_tokens: int) -> Windows:
    """Return rows with so many windows each, of ``text_tokens`` tokens; each overlaps the previous one by half."""
    row = np.repeat(np.arange(len(counts)), counts)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    first = (np.arange(len(row)) - bounds[row]) * (text_tokens // 2)
    same = np.full(len(row), text_tokens)
    return Windows(row, first, same, np.full(len(row), TEXT_AT), same + TEXT_AT + 1, bounds)


def texts_of(rows: int, tokens: int) -> TokenColumn:
    """Return tokens of three characters with one between them."""
    begin = np.tile(np.arange(tokens) * 4, rows).astype(np.int32)
    ids = np.zeros(rows * tokens, dtype=np.int32)
    return TokenColumn(ids, np.stack([begin, begin + 3], axis=1), np.arange(rows + 1) * tokens, np.arange(rows))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(2, 7), st.integers(1, 5), st.integers(0, 10**6))
def test_the_best_span_is_the_best_of_all(counts: list[int], tokens: int, longest: int, seed: int) -> None:
    windows, texts = windows_of(counts, tokens), texts_of(len(counts), tokens * 3)
    length = TEXT_AT + tokens + 3
    logits = torch.randn(
        len(windows.row), length, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float32
    )
    at, held = torch.from_numpy(windows.text_at), torch.from_numpy(windows.text_tokens)
    outputs = candidates(logits, at, held, n_best=length).numpy().astype(np.float64)
    found = best_spans(outputs, np.arange(len(windows.row)), windows, texts, longest)

    for row in range(len(counts)):
        own = range(windows.bounds[row], windows.bounds[row + 1])
        every = [
            (float(logits[n, TEXT_AT + i, 0] + logits[n, TEXT_AT + j, 1]), windows.first[n] + i, windows.first[n] + j)
            for n in own
            for i in range(tokens)
            for j in range(i, min(tokens, i + longest))
        ]
        score, start, end = max(every)
        none = min(float(logits[n, 0].sum()) for n in own)
        assert found.margin[row] == pytest.approx(score - none, abs=1e-5)
        assert found.characters[row].tolist() == [start * 4, end * 4 + 3]


def test_with_few_candidates_a_span_may_be_missed() -> None:
    # The likeliest start lies behind the likeliest end, so one candidate each gives no span.
    logits = torch.zeros(1, 8, 2)
    logits[0, 6, 0], logits[0, 3, 1], logits[0, 4, 0] = 9.0, 9.0, 1.0
    windows, texts = windows_of([1], 5), texts_of(1, 5)
    at, held = torch.from_numpy(windows.text_at), torch.from_numpy(windows.text_tokens)
    found = {}
    for n_best in (1, 5):
        outputs = candidates(logits, at, held, n_best).numpy().astype(np.float64)
        found[n_best] = best_spans(outputs, np.array([0]), windows, texts, 5)
    assert found[1].characters.tolist() == [[-1, -1]]
    assert found[1].margin[0] < -1e20
    assert found[5].characters.tolist() == [[0, 7]] or found[5].margin[0] == pytest.approx(9.0)


def test_only_the_text_and_the_first_position_are_possible() -> None:
    scores = masked(torch.ones(1, 8, 2), torch.tensor([3]), torch.tensor([2]))
    assert (scores[0, :, 0] == 1.0).tolist() == [True, False, False, True, True, False, False, False]


def test_a_text_without_tokens_has_no_span() -> None:
    windows, texts = windows_of([1], 0), texts_of(1, 0)
    outputs = candidates(torch.randn(1, 4, 2), torch.tensor([TEXT_AT]), torch.tensor([0]), 3).numpy().astype(np.float64)
    found = best_spans(outputs, np.array([0]), windows, texts, 5)
    assert found.characters.tolist() == [[-1, -1]]
    assert found.margin[0] < -1e20


@pytest.mark.parametrize(
    ("start", "end", "expected"), [(0, 4, (1, 4)), (0, 5, (1, 4)), (1, 4, (1, 4)), (4, 5, (4, 4)), (0, 0, (0, 0))]
)
def test_white_space_at_the_ends_is_no_part_of_a_span(start: int, end: int, expected: tuple[int, int]) -> None:
    assert trimmed(" cat dog", start, end) == expected


@pytest.mark.parametrize(
    ("text", "token", "expected"),
    [
        ("a cafe\u0301 b", "cafe", "cafe\u0301"),
        ("a \u2764\ufe0f b", "\u2764", "\u2764\ufe0f"),
        (
            "a \U0001f469\u200d\U0001f469\u200d\U0001f467 b",
            "\u200d\U0001f469",
            "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        ),
        ("a \U0001f44d\U0001f3fd b", "\U0001f44d", "\U0001f44d\U0001f3fd"),
        ("one\r\ntwo", "one\r", "one"),
    ],
    ids=["accent", "variant", "joined", "skin tone", "line end"],
)
def test_a_span_ends_with_a_whole_character(text: str, token: str, expected: str) -> None:
    start, end = trimmed(text, text.index(token), text.index(token) + len(token))
    assert text[start:end] == expected
