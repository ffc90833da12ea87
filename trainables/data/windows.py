"""Long texts cut into overlapping windows; each window is a separate input that starts with the whole criterion."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data.tokens import Example, Texts, TokenisedRows

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Windows:
    """The part of a row's text that each input holds: ``(inputs,)`` each, with the windows of a row in sequence.

    Attributes:
        row: the window's row.
        first: the window's first text token, counted in the row's text.
        text_tokens: number of text tokens in the window.
        text_at: position in the input where the text begins, after the criterion and the special tokens.
        lengths: number of tokens of the input, special tokens included.
        bounds: ``(rows + 1,)``: the start of each row's windows, and the end of the last row's.
    """

    row: Ints
    first: Ints
    text_tokens: Ints
    text_at: Ints
    lengths: Ints
    bounds: Ints

    def of_rows(self, rows: Ints) -> Ints:
        """Return all windows of these rows, row by row."""
        counts = np.diff(self.bounds)[rows]
        # Each row's windows are consecutive numbers: start at the row's first window and count up.
        before = np.cumsum(counts) - counts
        positions: Ints = np.repeat(self.bounds[rows] - before, counts) + np.arange(counts.sum())
        return positions


def cut_windows(tokens: TokenisedRows, max_length: int, overlap: int) -> Windows:
    """Cut every row's text into the fewest windows of ``max_length`` tokens that overlap by ``overlap`` tokens.

    The criterion is cut as for a single input, depending on the length of the text. An overlap above half of a window's
    text tokens is lowered to that half; otherwise windows would hardly advance.

    Raises:
        ValueError: the special tokens alone fill ``max_length``.
    """
    texts = tokens.texts.lengths
    criteria, text_at, room = tokens.template.text_places(
        None if tokens.criteria is None else tokens.criteria.lengths, texts, max_length
    )
    holds = room - criteria
    # A text without tokens still gives one window.
    advance = np.maximum(1, holds - np.minimum(overlap, holds // 2))
    counts = 1 + -(-np.maximum(0, texts - holds) // advance)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    row = np.repeat(np.arange(len(texts)), counts)
    first = (np.arange(bounds[-1]) - bounds[row]) * advance[row]
    text_tokens = np.minimum(holds[row], texts[row] - first)
    lengths = max_length - room + criteria[row] + text_tokens
    return Windows(row, first, text_tokens, text_at[row], lengths, bounds)


def window_example(
    tokens: TokenisedRows, windows: Windows, number: int, max_length: int, texts: Texts | None = None
) -> Example:
    """Return the input of a window; ``texts``, if given, replace the texts that were cut."""
    row, first = int(windows.row[number]), windows.first[number]
    text = (texts or tokens.texts).ids_of(row)[first : first + windows.text_tokens[number]]
    criterion = None
    if tokens.criteria is not None:
        # Every window of the row holds the same part of the criterion, also the last window, which may be short.
        criterion_length = windows.lengths[number] - windows.text_tokens[number] - tokens.template.pair.special_tokens
        criterion = tokens.template.cut(tokens.criteria.ids_of(row), int(criterion_length))
    return tokens.template.assemble(criterion, text, max_length)
