"""The poolings: how the vectors of a text's tokens become one. Cheap to import (no torch)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.registry import Entry, Registry
from trainables.task_entry import NATIVE

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.settings import HeadSettings

Parameters = Mapping[str, "Tensor"]

_HEAD = frozenset({"head.layers", "head.width", "head.activation", "head.dropout"})


@dataclass(frozen=True, kw_only=True)
class Pooling(Entry):
    """A pooling.

    Attributes:
        pool: returns vectors (batch, hidden), given the encoder's outputs with ``last_hidden_state`` (batch, length,
            hidden), the attention mask (batch, length; 0 for padding), the parameters and the head's settings. None for
            the head that transformers defines for a family.
        parameters: returns the initial values of its parameters by name, given the hidden size and the head's settings.
        needs_pooler: whether it reads the encoder's own pooler, which not every encoder has.
        reads_first_token: whether it reads the first token's vector alone.
    """

    reads: frozenset[str] = _HEAD
    pool: Callable[[Any, "Tensor", Parameters, "HeadSettings"], "Tensor"] | None
    parameters: Callable[[int, "HeadSettings"], Parameters] = lambda hidden, settings: {}
    needs_pooler: bool = False
    reads_first_token: bool = False


def _first(outputs: Any, mask: "Tensor", parameters: Parameters, settings: "HeadSettings") -> "Tensor":
    first: Tensor = outputs.last_hidden_state[:, 0]
    return first


def _mean(outputs: Any, mask: "Tensor", parameters: Parameters, settings: "HeadSettings") -> "Tensor":
    hidden, tokens = outputs.last_hidden_state, mask.unsqueeze(-1).bool()
    mean: Tensor = hidden.masked_fill(~tokens, 0.0).sum(dim=1) / tokens.sum(dim=1).clamp(min=1)
    return mean


def _max(outputs: Any, mask: "Tensor", parameters: Parameters, settings: "HeadSettings") -> "Tensor":
    import torch

    hidden, tokens = outputs.last_hidden_state, mask.unsqueeze(-1).bool()
    most: Tensor = hidden.masked_fill(~tokens, torch.finfo(hidden.dtype).min).amax(dim=1)
    return most


def _own(outputs: Any, mask: "Tensor", parameters: Parameters, settings: "HeadSettings") -> "Tensor":
    pooled: Tensor = outputs.pooler_output
    return pooled


def _attended(outputs: Any, mask: "Tensor", parameters: Parameters, settings: "HeadSettings") -> "Tensor":
    import torch

    hidden: Tensor = outputs.last_hidden_state
    # Half precision is too coarse for a softmax over hundreds of tokens.
    scores = (hidden @ parameters["query"]).float().masked_fill(~mask.bool(), torch.finfo(torch.float32).min)
    weights = scores.softmax(dim=1).to(hidden.dtype)
    return (weights.unsqueeze(1) @ hidden).squeeze(1)


def _zero_query(hidden: int, settings: "HeadSettings") -> Parameters:
    """Return the learned query, which starts as the mean, so that it needs no random numbers."""
    import torch

    return {"query": torch.zeros(hidden)}


POOLINGS = Registry(
    "headroom.poolings",
    Pooling,
    {
        "cls": Pooling(pool=_first, reads_first_token=True),
        "mean": Pooling(pool=_mean),
        "max": Pooling(pool=_max),
        "pooler": Pooling(pool=_own, needs_pooler=True),
        "attention": Pooling(pool=_attended, parameters=_zero_query),
        NATIVE: Pooling(pool=None, reads=frozenset()),
    },
    section="head",
    chosen_by="pooling",
)
"""Poolings by ``head.pooling``: the first token, mean and maximum of all tokens, the encoder's own, a learned mean.

``native`` is the whole head that transformers defines for the family, in place of a pooling and a head of ours.
"""


def needs_pooler(name: object) -> bool:
    """Return whether a pooling, if there is one of this name, reads the encoder's own pooler."""
    return isinstance(name, str) and name in POOLINGS and POOLINGS[name].needs_pooler


def pools(*, without_pooler: bool = False) -> str:
    """Return the names of the poolings, or of those that need no pooler of the encoder, as a message lists them."""
    able = [name for name, entry in POOLINGS.items() if not (without_pooler and entry.needs_pooler)]
    *names, last = [name for name in able if POOLINGS[name].pool is not None]
    return f"{', '.join(names)} or {last}"
