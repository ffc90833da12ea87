"""DeBERTa's disentangled attention in memory that does not grow with the batch, with a backward pass of its own.

The attention of He et al. (DeBERTa, ICLR 2021, equation 4) adds two terms to the score of query i and key j: content to
position, ``q_i · K_r``, and position to content, ``k_j · Q_r``. The row r of the position projections depends on i - j
alone; DeBERTa v2 and v3 put distant differences into logarithmic buckets. Transformers keeps about eight tensors of
shape (batch, heads, length, length) per layer for the backward pass, and repeats the position keys for every sample.

Here the scores of a few samples exist at a time: they are computed, used and dropped, and computed again in the
backward pass. The position projections are laid out by the difference i - j. A product with them then holds a term's
scores on its diagonals, which a strided view reads where transformers gathers. The gradient takes the same way back.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from trainables.devices.random_state import RandomState

_PARTS = 4
"""Parts into which a sample's queries, and its keys, are cut for the position terms.

A part of m queries meets length + m differences, so smaller parts compute fewer products that no score reads.
"""

_CHANCES = 2**16
_PER_WORD = 4
"""Values that the random bits of one probability have, and probabilities per random number of 64 bits."""

_SAMPLES = {"cpu": 1, "cuda": 8}
"""Samples whose scores exist at a time, by the kind of device.

A CPU's caches hold the scores of few samples. On a GPU, more samples at a time mean fewer kernels to launch. The number
depends on neither batch nor length, so that the memory of the scores is one term of a prediction.
"""


@dataclass(frozen=True)
class _Plan:
    """What the products of one call share.

    Attributes:
        root: square root of the factor of every score; queries, keys and position projections are multiplied by it.
        dropped: probabilities that dropout sets to 0, of ``_CHANCES``; 0 outside training.
        parts: samples of the batch whose scores exist at a time.
    """

    root: float
    dropped: int
    parts: Sequence[slice]


class DisentangledAttention(nn.Module):
    """Self-attention of DeBERTa in place of transformers' own.

    It takes over the submodules and parameters of the module that it replaces under their names, so weights are loaded
    and saved as before. Its subclasses hold what DeBERTa v1, and DeBERTa v2 and v3, do in their own ways.

    Args:
        original: ``DisentangledSelfAttention`` of transformers.

    Attributes:
        original_class: class of the module that it replaced.
        samples: samples whose scores exist at a time; None suits the device.
        computes_all: False computes the first samples alone, for a trace of memory, since all others take the same.
    """

    dropout: nn.Dropout
    pos_dropout: nn.Dropout

    def __init__(self, original: Any) -> None:
        super().__init__()
        for name, module in original.named_children():
            self.add_module(name, module)
        for name, parameter in original.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.original_class = type(original)
        self.samples: int | None = None
        self.computes_all = True
        self.heads = int(original.num_attention_heads)
        self.size = int(original.attention_head_size)
        self.terms = frozenset(original.pos_att_type if original.relative_attention else ())
        self.largest = int(getattr(original, "max_relative_positions", 0))
        self._root = (self.size * (1 + self._counted(original.pos_att_type))) ** -0.25

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Return the context ``(batch, length, heads · size)``.

        Args:
            hidden_states: ``(batch, length, width)``.
            attention_mask: ``(batch, length)``, 1 for tokens and 0 for padding.
            relative_pos: not used.
            rel_embeddings: embeddings of the differences, ``(2 · span, width)``.

        Raises:
            ValueError: attentions are asked for, or queries of their own; this module has neither.
        """
        if output_attentions or query_states is not None:
            raise ValueError("this disentangled attention returns no attentions and takes no queries of their own")
        query, key, value = self._content(hidden_states)
        key_table, query_table = self._tables(rel_embeddings, length=query.shape[1])
        samples = self.samples or _SAMPLES.get(query.device.type, 1)
        parts = [slice(start, start + samples) for start in range(0, len(query), samples)]
        plan = _Plan(
            self._root,
            round(self.dropout.p * _CHANCES) if self.training else 0,
            parts if self.computes_all else parts[:2],
        )
        attend: Callable[..., Tensor] = _Attention.apply
        return attend(query, key, value, key_table, query_table, attention_mask.bool(), plan), None

    def _tables(self, embeddings: Tensor | None, length: int) -> tuple[Tensor | None, Tensor | None]:
        """Return position keys by key minus query, and position queries by query minus key; None for an absent term.

        Both are ``(heads, 2 · length, size)``. Row r belongs to the difference r + 1 - length; nothing reads the last.
        """
        if embeddings is None or not self.terms:
            return None, None
        embeddings = self.pos_dropout(embeddings)
        keys, queries = self._position_projections()
        differences = torch.arange(1 - length, length + 1, device=embeddings.device)
        # The embedding depends on query minus key in both terms.
        return (
            self._table(keys(embeddings), self._rows(-differences, length)) if "c2p" in self.terms else None,
            self._table(queries(embeddings), self._rows(differences, length)) if "p2c" in self.terms else None,
        )

    def _table(self, projected: Tensor, rows: Tensor) -> Tensor:
        by_head: Tensor = projected.unflatten(-1, (self.heads, self.size)).transpose(0, 1)
        return by_head.index_select(1, rows)

    def _counted(self, terms: Sequence[str]) -> int:
        """Return how many terms beside that of the contents the scale of the scores counts."""
        raise NotImplementedError

    def _content(self, hidden: Tensor) -> Sequence[Tensor]:
        """Return queries, keys and values, each ``(batch, length, heads, size)``."""
        raise NotImplementedError

    def _position_projections(self) -> tuple[Any, Any]:
        """Return the projections of embeddings to position keys and to position queries; None for an absent term."""
        raise NotImplementedError

    def _rows(self, differences: Tensor, length: int) -> Tensor:
        """Return the row of the embeddings for each difference of query and key."""
        raise NotImplementedError


class _FirstVersion(DisentangledAttention):
    """Attention of DeBERTa v1."""

    in_proj: nn.Linear
    q_bias: nn.Parameter
    v_bias: nn.Parameter

    def _counted(self, terms: Sequence[str]) -> int:
        return len(terms)

    def _content(self, hidden: Tensor) -> Sequence[Tensor]:
        # The weights of each head's query, key and value lie beside each other.
        query, key, value = self.in_proj(hidden).unflatten(-1, (self.heads, 3, self.size)).unbind(-2)
        query_bias, value_bias = (bias.view(self.heads, self.size) for bias in (self.q_bias, self.v_bias))
        return query + query_bias, key, value + value_bias

    def _position_projections(self) -> tuple[Any, Any]:
        return getattr(self, "pos_proj", None), getattr(self, "pos_q_proj", None)

    def _rows(self, differences: Tensor, length: int) -> Tensor:
        span = min(length, self.largest)
        return (differences + span).clamp(0, 2 * span - 1) + self.largest - span


class _LaterVersion(DisentangledAttention):
    """Attention of DeBERTa v2 and v3."""

    query_proj: nn.Linear
    key_proj: nn.Linear
    value_proj: nn.Linear

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.buckets = int(getattr(original, "position_buckets", 0))
        self.shares_keys = bool(original.share_att_key)

    def _counted(self, terms: Sequence[str]) -> int:
        return len({"c2p", "p2c"} & set(terms))

    def _content(self, hidden: Tensor) -> Sequence[Tensor]:
        projections = (self.query_proj, self.key_proj, self.value_proj)
        return [project(hidden).unflatten(-1, (self.heads, self.size)) for project in projections]

    def _position_projections(self) -> tuple[Any, Any]:
        if self.shares_keys:
            return self.key_proj, self.query_proj
        return getattr(self, "pos_key_proj", None), getattr(self, "pos_query_proj", None)

    def _rows(self, differences: Tensor, length: int) -> Tensor:
        span = self.buckets if self.buckets > 0 else self.largest
        if self.buckets > 0:
            differences = make_log_bucket_position(differences, self.buckets, self.largest).long()
        return (differences + span).clamp(0, 2 * span - 1)


class _Attention(torch.autograd.Function):
    """Masked attention with position terms; keeps its inputs and its result, and no scores."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_table: Tensor | None,
        query_table: Tensor | None,
        mask: Tensor,
        plan: _Plan,
    ) -> Tensor:
        ctx.plan = plan
        ctx.random = RandomState(query.device) if plan.dropped else None
        with torch.autocast(query.device.type, enabled=False):
            tables = _Tables(key_table, query_table, query.dtype, plan.root)
            context = torch.empty_like(query, memory_format=torch.contiguous_format)
            for part in plan.parts:
                samples = _Samples(query[part], key[part], value[part], mask[part], tables, plan)
                context[part] = _by_sample(samples.context())
        result = context.flatten(2)
        ctx.save_for_backward(query, key, value, key_table, query_table, mask, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, key_table, query_table, mask, result = ctx.saved_tensors
        plan: _Plan = ctx.plan
        of_context, context = (each.reshape(query.shape) for each in (gradients[0], result))
        with torch.autocast(query.device.type, enabled=False), _replayed(ctx.random, query.device):
            tables = _Tables(key_table, query_table, query.dtype, plan.root, with_gradients=True)
            of_inputs = [torch.empty_like(each, memory_format=torch.contiguous_format) for each in (query, key, value)]
            for part in plan.parts:
                samples = _Samples(query[part], key[part], value[part], mask[part], tables, plan)
                parts = samples.gradients(_by_head(of_context[part]), _by_head(context[part]))
                for whole, gradient in zip(of_inputs, parts, strict=True):
                    whole[part] = _by_sample(gradient)
        return (*of_inputs, *tables.gradients(), None, None)


class _Samples:
    """Attention of a few samples, whose tensors are ``(heads, samples, length, …)``.

    Args:
        query: ``(samples, length, heads, size)``, like ``key`` and ``value``.
        mask: ``(samples, length)``, True for tokens.
    """

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, tables: "_Tables", plan: _Plan) -> None:
        self._queries, self._keys = (_by_head(each) * plan.root for each in (query, key))
        self._values = _by_head(value)
        self._mask = mask
        self._tables = tables
        self._plan = plan
        # Dropout divides by the kept share. Dividing products instead saves passes over the probabilities.
        self._kept = 1 - plan.dropped / _CHANCES

    def context(self) -> Tensor:
        """Return the values' means by the probabilities after dropout, ``(heads, samples, length, size)``."""
        probabilities = self._probabilities()
        if self._plan.dropped:
            probabilities *= self._drawn(probabilities)
        return probabilities.to(self._values.dtype) @ self._values / self._kept

    def gradients(self, of_context: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of queries, keys and values, and add those of the tables to these.

        Args:
            of_context: gradient of the context.
            context: result of the forward pass.
        """
        probabilities = self._probabilities()
        drawn = self._drawn(probabilities) if self._plan.dropped else None
        dropped = probabilities if drawn is None else probabilities * drawn
        of_values = dropped.to(self._values.dtype).transpose(-1, -2) @ (of_context / self._kept)
        del dropped
        # The scores of a padded query are all replaced, so they get no gradient.
        of_context = of_context * self._mask.to(of_context.dtype)[None, :, :, None]
        of_scores = (of_context / self._kept) @ self._values.transpose(-1, -2)
        of_scores = of_scores.to(probabilities.dtype)
        if drawn is not None:
            of_scores *= drawn
            del drawn
        # Gradient of a softmax. The sum over a row of probability times gradient is the product of these two.
        of_scores -= (of_context * context).sum(-1, keepdim=True, dtype=probabilities.dtype)
        of_scores = of_scores.mul_(probabilities).to(self._queries.dtype)
        del probabilities
        of_queries, of_keys = of_scores @ self._keys, of_scores.transpose(-1, -2) @ self._queries
        self._tables.add_gradients(of_scores, self._queries, self._keys, of_queries, of_keys)
        return of_queries * self._plan.root, of_keys * self._plan.root, of_values

    def _probabilities(self) -> Tensor:
        """Return the probabilities; as in transformers, a padded query attends to all keys alike."""
        scores = self._queries @ self._keys.transpose(-1, -2)
        self._tables.add_scores(scores, self._queries, self._keys)
        scores.masked_fill_(~(self._mask[:, :, None] & self._mask[:, None, :]), torch.finfo(scores.dtype).min)
        return scores.softmax(-1, dtype=_exact(scores))

    def _drawn(self, like: Tensor) -> Tensor:
        """Draw which probabilities dropout keeps: 1, or 0.

        16 random bits decide about each, which on a CPU takes a seventh of the time of ``bernoulli_``.
        """
        count = like.numel()
        words = torch.empty(-(-count // _PER_WORD), dtype=torch.int64, device=like.device).random_(-(2**63), None)
        bits = words.view(torch.int16)[:count].view(like.shape)
        return torch.ge(bits, self._plan.dropped - _CHANCES // 2, out=torch.empty_like(like))


class _Tables:
    """Position projections of one call times the root, and their gradients.

    Args:
        keys: position keys by key minus query, ``(heads, 2 · length, size)``; None without this term.
        queries: position queries by query minus key, likewise.
        kind: number format of the products.
    """

    def __init__(
        self,
        keys: Tensor | None,
        queries: Tensor | None,
        kind: torch.dtype,
        root: float,
        *,
        with_gradients: bool = False,
    ) -> None:
        self._root = root
        self._keys, self._queries = (None if each is None else (each * root).to(kind) for each in (keys, queries))
        # Sums over the whole batch, so in fp32 whatever the products' format is.
        self._of_keys, self._of_queries = (
            torch.zeros_like(each, dtype=_exact(each)) if with_gradients and each is not None else None
            for each in (keys, queries)
        )
        self._products: dict[tuple[int, ...], Tensor] = {}
        self._spread: dict[tuple[int, ...], Tensor] = {}

    def add_scores(self, scores: Tensor, queries: Tensor, keys: Tensor) -> None:
        """Add the position terms to scores ``(heads, samples, length, length)``."""
        for part, window in _windows(scores.shape[-1]):
            products = self._buffer(self._products, scores, part, window)
            if self._keys is not None:
                scores[:, :, part] += _diagonals(_product(queries[:, :, part], self._keys[:, window], products[0]))
            if self._queries is not None:
                terms = _diagonals(_product(keys[:, :, part], self._queries[:, window], products[1]))
                scores[..., part] += terms.transpose(-1, -2)

    def add_gradients(
        self, of_scores: Tensor, queries: Tensor, keys: Tensor, of_queries: Tensor, of_keys: Tensor
    ) -> None:
        """Add what the position terms contribute to the gradients of queries and keys, and of the tables."""
        for part, window in _windows(of_scores.shape[-1]):
            # Beside the diagonals the buffers stay 0.
            by_query, by_key = self._buffer(self._spread, of_scores, part, window)
            if self._keys is not None and self._of_keys is not None:
                _diagonals(by_query).copy_(of_scores[:, :, part])
                _add_product(of_queries[:, :, part], by_query, self._keys[:, window])
                _add_transposed(self._of_keys[:, window], by_query, queries[:, :, part])
            if self._queries is not None and self._of_queries is not None:
                _diagonals(by_key).copy_(of_scores[..., part].transpose(-1, -2))
                _add_product(of_keys[:, :, part], by_key, self._queries[:, window])
                _add_transposed(self._of_queries[:, window], by_key, keys[:, :, part])

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of both projections."""
        keys, queries = (None if each is None else each.mul_(self._root) for each in (self._of_keys, self._of_queries))
        return keys, queries

    def _buffer(self, buffers: dict[tuple[int, ...], Tensor], scores: Tensor, part: slice, window: slice) -> Tensor:
        """Return a buffer ``(terms, heads, samples, rows, rows + length)``, which all parts of one size share."""
        shape = (2, *scores.shape[:2], part.stop - part.start, window.stop - window.start)
        if shape not in buffers:
            buffers[shape] = scores.new_zeros(shape)
        return buffers[shape]


def _by_head(tensor: Tensor) -> Tensor:
    """View ``(samples, length, heads, size)`` as ``(heads, samples, length, size)``."""
    return tensor.permute(2, 0, 1, 3)


def _by_sample(tensor: Tensor) -> Tensor:
    """View ``(heads, samples, length, size)`` as ``(samples, length, heads, size)``."""
    return tensor.permute(1, 2, 0, 3)


def _windows(length: int) -> Iterator[tuple[slice, slice]]:
    """Yield each part of the rows of a square of scores, and the rows of a table that its differences select."""
    size = -(-length // _PARTS)
    for start in range(0, length, size):
        stop = min(start + size, length)
        yield slice(start, stop), slice(length - stop, 2 * length - start)


def _product(rows: Tensor, table: Tensor, products: Tensor) -> Tensor:
    """Fill ``products`` ``(heads, samples, rows, columns)`` with the product of every sample's rows and a table."""
    torch.bmm(rows.flatten(1, 2), table.transpose(1, 2), out=products.flatten(1, 2))
    return products


def _add_product(total: Tensor, products: Tensor, table: Tensor) -> None:
    """Add the product of every sample's ``products`` with a table to ``total`` ``(heads, samples, rows, size)``."""
    total += torch.bmm(products.flatten(1, 2), table).unflatten(1, products.shape[1:3])


def _add_transposed(total: Tensor, products: Tensor, rows: Tensor) -> None:
    """Add the product of transposed ``products`` with ``rows``, summed over the samples, to a table's gradient."""
    left, right = products.flatten(1, 2).transpose(1, 2), rows.flatten(1, 2)
    if total.dtype == left.dtype:
        total.baddbmm_(left, right)
    else:
        total += torch.bmm(left, right)


def _diagonals(products: Tensor) -> Tensor:
    """View products with a window as scores: row a, column c of the scores is column c - a + rows - 1 of the products.

    Args:
        products: ``(heads, samples, rows, rows + length)``, contiguous.
    """
    heads, samples, rows, width = products.shape
    strides = (samples * rows * width, rows * width, width - 1, 1)
    shape = (heads, samples, rows, width - rows)
    return products.as_strided(shape, strides, products.storage_offset() + rows - 1)


def _exact(like: Tensor) -> torch.dtype:
    """Return the number format of probabilities: as under autocast, fp32 for products in half precision."""
    return torch.promote_types(like.dtype, torch.float32)


@contextmanager
def _replayed(state: RandomState | None, device: torch.device) -> Iterator[None]:
    """Draw random numbers from an earlier state inside the block, and go on from the current one afterwards."""
    if state is None:
        yield
        return
    current = RandomState(device)
    state.restore()
    try:
        yield
    finally:
        current.restore()


def use_disentangled_attention(encoder: PreTrainedModel) -> None:
    """Replace the attention of every layer of a DeBERTa encoder; one with talking heads keeps transformers' own."""
    stack: Any = encoder.encoder
    originals = [layer.attention.self for layer in stack.layer]
    if any(getattr(original, "talking_head", False) for original in originals):
        return
    for layer, original in zip(stack.layer, originals, strict=True):
        layer.attention.self = (_FirstVersion if hasattr(original, "in_proj") else _LaterVersion)(original)
    # Each of these makes a tensor of a number per pair of positions, which this attention does not need.
    stack.get_attention_mask = _unchanged
    stack.get_rel_pos = _nothing


def restore_attention(encoder: PreTrainedModel) -> None:
    """Undo ``use_disentangled_attention``, for programs that know torch's own operations alone; others stay as are."""
    replaced = [(name, module) for name, module in encoder.named_modules() if isinstance(module, DisentangledAttention)]
    for name, module in replaced:
        own = module.original_class(encoder.config)
        own.load_state_dict(module.state_dict())
        encoder.set_submodule(name, own.train(module.training))
    if replaced:
        stack: Any = encoder.encoder
        del stack.get_attention_mask, stack.get_rel_pos


def prepare_trace(model: nn.Module, device_kind: str) -> None:
    """Make the attention of a model take memory as on a device, and compute its first samples alone."""
    for module in model.modules():
        if isinstance(module, DisentangledAttention):
            module.samples, module.computes_all = _SAMPLES[device_kind], False


def _unchanged(attention_mask: Tensor) -> Tensor:
    return attention_mask


def _nothing(*_: Any, **__: Any) -> None:
    return None
