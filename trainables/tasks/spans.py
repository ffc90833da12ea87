"""Spans of text from start and end scores: a row's best span over its windows, or none, in characters of the text."""

import unicodedata
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.tokens import TokenColumn
from trainables.data.windows import Windows

_IMPOSSIBLE = -1e30
"""Score of a position where no span may begin or end; finite, so that scores add up."""

_JOINER = "\u200d"
_JOINED = {_JOINER, *map(chr, range(0x1F3FB, 0x1F400)), *map(chr, range(0xE0020, 0xE0080))}
"""Signs beside combining marks that continue an emoji: the joiner, skin tones and the letters of a flag's region."""


def masked(logits: Tensor, text_at: Tensor, text_tokens: Tensor) -> Tensor:
    """Return scores in fp32 in which only the text's positions, and the first for no span, are possible.

    Args:
        logits: (batch, length, 2), scores of a span's first and last token.
        text_at, text_tokens: (batch,), the text's first position and its number of tokens.
    """
    allowed = _is_text(logits, text_at, text_tokens)
    allowed[:, 0] = True
    return logits.float().masked_fill(~allowed.unsqueeze(-1), _IMPOSSIBLE)


def flat(scores: Tensor, width: int) -> Tensor:
    """Return the scores of first tokens beside those of last ones: (batch, 2 × width), filled up with impossible ones.

    Args:
        scores: (batch, length, 2), masked, with a length of at most ``width``.
    """
    return torch.cat([_widened(scores[..., side], width, _IMPOSSIBLE) for side in range(2)], dim=1)


def _is_text(logits: Tensor, text_at: Tensor, text_tokens: Tensor) -> Tensor:
    position = torch.arange(logits.shape[1], device=logits.device)
    begin = text_at.unsqueeze(1)
    return (position >= begin) & (position < begin + text_tokens.unsqueeze(1))


def candidates(logits: Tensor, text_at: Tensor, text_tokens: Tensor, n_best: int) -> Tensor:
    """Return what scoring needs of an evaluation pass: (batch, 1 + 4 × n_best) in fp32.

    The columns are the score of no span, the scores of the ``n_best`` best starts, their text tokens, and the same for
    the ends.
    """
    scores = masked(logits, text_at, text_tokens)
    no_span = scores[:, 0].sum(dim=1, keepdim=True)
    of_text = scores.masked_fill(~_is_text(logits, text_at, text_tokens).unsqueeze(-1), _IMPOSSIBLE)
    candidates = min(n_best, logits.shape[1])
    best = of_text.topk(candidates, dim=1)
    columns = [no_span]
    for side in range(2):
        token = (best.indices[..., side] - text_at.unsqueeze(1)).float()
        # A short input may have fewer than ``n_best`` positions.
        columns += [_widened(best.values[..., side], n_best, _IMPOSSIBLE), _widened(token, n_best, 0.0)]
    return torch.cat(columns, dim=1)


def _widened(columns: Tensor, width: int, filling: float) -> Tensor:
    return torch.nn.functional.pad(columns, (0, width - columns.shape[1]), value=filling)


@dataclass(frozen=True, eq=False)
class BestSpans:
    """The best span of each row, even if no span is better: ``(rows,)`` each, ``characters`` ``(rows, 2)``.

    ``margin`` is the span's score minus the score of no span. A text without a possible span has -1 and -1, and a
    margin far below any threshold.
    """

    characters: NDArray[np.int64]
    margin: NDArray[np.float64]


def best_spans(
    candidates: NDArray[np.float64],
    inputs: NDArray[np.int64],
    windows: Windows,
    texts: TokenColumn,
    max_answer_length: int,
) -> BestSpans:
    """Choose among the ``candidates`` of all windows of the rows.

    A row's score of no span is the lowest over its windows.

    Args:
        candidates: (inputs, 1 + 4 × n_best), in the order of ``inputs``.
        inputs: numbers of the windows, with the windows of a row in sequence.
        max_answer_length: number of tokens of the longest span.
    """
    starts_at = np.flatnonzero(np.diff(windows.row[inputs], prepend=-1))
    n_best = (candidates.shape[1] - 1) // 4
    start_score, start, end_score, end = (
        candidates[:, 1 + part * n_best : 1 + (part + 1) * n_best] for part in range(4)
    )
    length = end[:, None, :] - start[:, :, None] + 1
    score = start_score[:, :, None] + end_score[:, None, :]
    score = np.where((length >= 1) & (length <= max_answer_length), score, 2 * _IMPOSSIBLE).reshape(len(candidates), -1)
    pair = score.argmax(axis=1)
    best = score[np.arange(len(candidates)), pair]
    row_best = np.maximum.reduceat(best, starts_at)
    margin = row_best - np.minimum.reduceat(candidates[:, 0], starts_at)

    # Choose the first window of a row that holds its best span.
    run = np.repeat(np.arange(len(starts_at)), np.diff([*starts_at, len(inputs)]))
    at_best = np.flatnonzero(best == row_best[run])
    chosen = at_best[np.searchsorted(run[at_best], np.arange(len(starts_at)))]
    characters = np.full((len(starts_at), 2), -1, dtype=np.int64)
    for number, window in enumerate(chosen):
        if best[window] > _IMPOSSIBLE:
            first = windows.first[inputs[window]]
            tokens = (int(start[window, pair[window] // n_best]), int(end[window, pair[window] % n_best]))
            spans = texts.spans_of(int(windows.row[inputs[window]]))
            characters[number] = spans[first + tokens[0], 0], spans[first + tokens[1], 1]
    return BestSpans(characters, margin)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span without white space at its ends, extended to whole characters as a reader sees them.

    Some tokenizers include the space before a word, or end a token before the accent that combines with its last
    letter.
    """
    span = text[start:end]
    if not span.strip():
        return start, start
    start, end = start + len(span) - len(span.lstrip()), end - len(span) + len(span.rstrip())
    while start > 0 and _continues(text, start):
        start -= 1
    while end < len(text) and _continues(text, end):
        end += 1
    return start, end


def _continues(text: str, position: int) -> bool:
    """Return whether the code point at a position belongs to the same visible character as the one before it."""
    sign = text[position]
    return unicodedata.category(sign).startswith("M") or sign in _JOINED or text[position - 1] == _JOINER
