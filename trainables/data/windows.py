"""Long texts cut into overlapping windows, each an input of its own with the whole criterion before it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data.tokens import Example, Texts, TokenisedRows

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Windows:
    """Which part of a row's text each input holds. ``(inputs,)`` each, the windows of a row one after the other.

    Attributes:
        row: the row that the window is of.
        first: the text token that it begins with, counted in the row's text.
        text_tokens: how many tokens of the text it holds.
        text_at: where in the input the text begins, after the criterion and the special tokens.
        lengths: tokens of the input, special tokens included.
        bounds: ``(rows + 1,)``: where each row's windows begin, and where the last one's end.
    """

    row: Ints
    first: Ints
    text_tokens: Ints
    text_at: Ints
    lengths: Ints
    bounds: Ints

    def of_rows(self, rows: Ints) -> Ints:
        """All windows of these rows, row by row."""
        counts = np.diff(self.bounds)[rows]
        # Within each row's run of windows: the run's beginning, then one more each time.
        before = np.cumsum(counts) - counts
        found: Ints = np.repeat(self.bounds[rows] - before, counts) + np.arange(counts.sum())
        return found


def cut_windows(tokens: TokenisedRows, max_length: int, overlap: int) -> Windows:
    """Cut every row's text into the fewest windows of ``max_length`` tokens, each ``overlap`` into the one before.

    The criterion is cut as for a single input, by what it leaves of the text. An overlap of more than half of what a
    window holds of its text is lowered to that, or windows would hardly move on.

    Raises:
        ValueError: the special tokens alone fill ``max_length``.
    """
    texts = tokens.texts.lengths
    criteria, text_at, room = tokens.template.text_places(
        None if tokens.criteria is None else tokens.criteria.lengths, texts, max_length
    )
    holds = room - criteria
    # A text of no tokens at all holds nothing, and still is one window.
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
    """The input that a window stands for; ``texts``, where given, are those that the windows lie in."""
    row, first = int(windows.row[number]), windows.first[number]
    text = (texts or tokens.texts).ids_of(row)[first : first + windows.text_tokens[number]]
    criterion = None
    if tokens.criteria is not None:
        # As much of it as every window of the row has, also of the last, which may be short.
        kept = windows.lengths[number] - windows.text_tokens[number] - tokens.template.pair.special_tokens
        criterion = tokens.template.cut(tokens.criteria.ids_of(row), int(kept))
    return tokens.template.assemble(criterion, text, max_length)
