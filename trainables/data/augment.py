"""Augmentation of training texts, anew each epoch: tokens masked, deleted, or swapped with their neighbours.

Every draw depends on (seed, epoch, row), so a resumed epoch or a repeated step sees the same texts. The tokens of a
row's evidence stay unchanged and together. Special tokens and criteria are never touched.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.augmentations import AUGMENTATIONS, Text
from trainables.data.rows import Rows
from trainables.data.tokens import IntArray, Reading, TokenColumn, tokens_of_characters
from trainables.settings import AugmentSettings, TrialSettings

Ints = NDArray[np.int64]


class AugmentedRow(NamedTuple):
    """An augmented text.

    Attributes:
        ids: the remaining token ids, (remaining tokens,).
        positions: the new position of each original token, (original tokens,); -1 for a deleted token.
    """

    ids: IntArray
    positions: Ints


def augment_row(
    ids: IntArray,
    span: tuple[int, int],
    settings: AugmentSettings,
    mask_token_id: int | None,
    rng: np.random.Generator,
) -> AugmentedRow:
    """Change ``settings.strength`` of the tokens outside ``span``, but at least one; ids is (tokens,).

    Args:
        span: the first protected token and the one after the last; equal numbers protect none.
        mask_token_id: None if the tokenizer has no mask token.
    """
    change = AUGMENTATIONS[settings.name].change
    assert change is not None
    free = np.concatenate([np.arange(span[0]), np.arange(span[1], len(ids))])
    count = int(touched(settings, len(ids), len(free)))
    return AugmentedRow(*change(Text(ids, free, count, mask_token_id, settings, rng)))


def touched(settings: AugmentSettings, tokens: Any, free: Any) -> Any:
    """Return the number of tokens to change, for one text or for each of an array of texts.

    Args:
        tokens: number of tokens of the text.
        free: number of those tokens that may be changed.
    """
    wanted = np.maximum(1, np.rint(settings.strength * free).astype(np.int64))
    # Deletion must leave at least one token.
    most = np.minimum(free, tokens - 1) if AUGMENTATIONS[settings.name].shortens else free
    return np.clip(wanted, 0, np.maximum(0, most))


class AugmentedTexts:
    """The texts of one reading, as augmented in one epoch.

    Args:
        chosen: marks the rows to augment, (rows,).
        spans: the protected tokens of each row, (rows, 2): the first and the one after the last.
        draw: seed and epoch.
    """

    def __init__(
        self,
        texts: TokenColumn,
        chosen: NDArray[np.bool_],
        spans: Ints,
        settings: AugmentSettings,
        mask_token_id: int | None,
        draw: tuple[int, int],
    ) -> None:
        self._texts = texts
        self.chosen = chosen
        self._spans = spans
        self._settings = settings
        self._mask_token_id = mask_token_id
        self._draw = draw
        self.shortens = AUGMENTATIONS[settings.name].shortens
        self.lengths: Ints = texts.lengths
        if self.shortens:
            free = self.lengths - (spans[:, 1] - spans[:, 0])
            self.lengths = self.lengths - np.where(chosen, touched(settings, self.lengths, free), 0)

    def ids_of(self, row: int) -> IntArray:
        """Return the token ids of a row's text, (its tokens,)."""
        return self.augmented_row(row).ids if self.chosen[row] else self._texts.ids_of(row)

    def augmented_row(self, row: int) -> AugmentedRow:
        """Return the augmented text of a chosen row."""
        first, end = self._spans[row]
        rng = np.random.default_rng([*self._draw, row])
        return augment_row(self._texts.ids_of(row), (int(first), int(end)), self._settings, self._mask_token_id, rng)


class Augmentation:
    """Augmentation of training rows, anew each epoch; see ``AugmentSettings``.

    Raises:
        ValueError: the augmentation needs a mask token, and a tokenizer has none.
    """

    def __init__(self, settings: AugmentSettings, seed: int, rows: Rows, readings: Sequence[Reading]) -> None:
        self._settings = settings
        self._seed = seed
        self._labels = rows.labels
        self._readings = readings
        needs_mask = AUGMENTATIONS[settings.name].needs_mask_token
        if needs_mask and any(reading.mask_token_id is None for reading in readings):
            others = [name for name, other in AUGMENTATIONS.items() if other.change and not other.needs_mask_token]
            raise ValueError(
                f"augment.name: {settings.name!r} needs a mask token, and the tokenizer has none; use"
                f" {' or '.join(others)}"
            )
        self._spans = [_to_leave_alone(rows.evidence, reading.tokens.texts) for reading in readings]

    def texts_in(self, epoch: int, part: Ints) -> tuple[AugmentedTexts, ...]:
        """Return the texts of every reading in an epoch; rows outside ``part``, row numbers (n,), stay unchanged."""
        settings = self._settings
        drawn = np.random.default_rng([self._seed, epoch]).random(len(self._labels)) < settings.probability
        chosen = np.zeros(len(self._labels), dtype=bool)
        chosen[part] = drawn[part]
        if settings.rows == "positives":
            chosen &= self._labels > 0
        return tuple(
            AugmentedTexts(
                reading.tokens.texts,
                # An empty text cannot be augmented.
                chosen & (reading.tokens.texts.lengths > 0),
                spans,
                settings,
                reading.mask_token_id,
                (self._seed, epoch),
            )
            for reading, spans in zip(self._readings, self._spans, strict=True)
        )


def augmentation(settings: TrialSettings, rows: Rows, readings: Sequence[Reading]) -> Augmentation | None:
    """Return a trial's augmentation, or None where nothing is augmented; raise as ``Augmentation`` does."""
    if AUGMENTATIONS[settings.augment.name].change is None:
        return None
    return Augmentation(settings.augment, settings.seeds.augment, rows, readings)


def _to_leave_alone(evidence: Ints, texts: TokenColumn) -> Ints:
    first, last = tokens_of_characters(texts, evidence).T
    has_tokens = (first >= 0) & (first <= last)
    spans: Ints = np.where(has_tokens, np.stack([first, last + 1]), 0).T
    return spans
