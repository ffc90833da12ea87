"""The augmentations of training texts: how each changes a text's tokens. Cheap to import (no numpy)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.registry import Entry, Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainables.settings import AugmentSettings

    Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Text:
    """A text to augment.

    Attributes:
        ids: token ids, (tokens,).
        free: positions of the tokens that may change, (free tokens,), in order.
        count: number of tokens to change.
        mask_token_id: None if the tokenizer has no mask token.
        settings: the settings of the augmentation.
        rng: source of every draw, so that a repeated epoch changes the text alike.
    """

    ids: "NDArray[Any]"
    free: "Ints"
    count: int
    mask_token_id: int | None
    settings: "AugmentSettings"
    rng: "np.random.Generator"

    def drawn(self) -> "Ints":
        """Draw the positions of the tokens to change, each of the free ones equally likely: (count,)."""
        return self.rng.choice(self.free, self.count, replace=False)


@dataclass(frozen=True, kw_only=True)
class TextChange(Entry):
    """An augmentation.

    Attributes:
        change: returns the remaining token ids, and the new position of each original token, -1 for a deleted one. It
            keeps the tokens that are not free in their order and together. None changes nothing.
        shortens: whether it deletes exactly ``Text.count`` tokens; otherwise it deletes none.
        needs_mask_token: whether it needs a tokenizer with a mask token.
    """

    change: "Callable[[Text], tuple[NDArray[Any], Ints]] | None"
    shortens: bool = False
    needs_mask_token: bool = False


def _mask(text: Text) -> "tuple[NDArray[Any], Ints]":
    import numpy as np

    masked = text.ids.copy()
    masked[text.drawn()] = text.mask_token_id
    return masked, np.arange(len(text.ids))


def _delete(text: Text) -> "tuple[NDArray[Any], Ints]":
    import numpy as np

    remaining = np.ones(len(text.ids), dtype=bool)
    remaining[text.drawn()] = False
    return text.ids[remaining], np.where(remaining, np.cumsum(remaining) - 1, -1)


def _swap(text: Text) -> "tuple[NDArray[Any], Ints]":
    """Let disjoint pairs of neighbours swap places, so that about ``count`` tokens move."""
    import numpy as np

    order = np.arange(len(text.ids))
    left = max(1, round(text.count / 2))
    for first in text.rng.permutation(text.free[:-1][np.diff(text.free) == 1]):
        if left and order[first] == first and order[first + 1] == first + 1:
            order[first], order[first + 1] = first + 1, first
            left -= 1
    # Each of two neighbours moves to the other's position, so the order is its own inverse.
    return text.ids[order], order


_BY_ALL = frozenset({"augment.probability", "augment.strength", "augment.rows"})

AUGMENTATIONS = Registry(
    "headroom.augmentations",
    TextChange,
    {
        "none": TextChange(change=None),
        "mask": TextChange(change=_mask, needs_mask_token=True, reads=_BY_ALL),
        "delete": TextChange(change=_delete, shortens=True, reads=_BY_ALL),
        "swap": TextChange(change=_swap, reads=_BY_ALL),
    },
    section="augment",
)
"""Augmentations by ``augment.name``."""
