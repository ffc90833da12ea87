"""Texts tokenised once per tokenizer and study, and the inputs that each trial assembles from the tokens.

Every unique text and criterion is stored without special tokens and uncut. The ragged arrays lie in a cache folder that
all trials on a node map into memory. A trial adds the special tokens and cuts at its own ``tok.max_length``.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.rows import Rows
from trainables.files import check_sealed, locked, sealed_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IntArray = NDArray[np.int32]

_FORMAT = 2  # Part of the cache's key: raise it whenever the written content changes.
_CHUNK = 1000  # Texts per call. The lists of Python integers that a call returns take ten times the arrays' memory.
_TEMPLATE = "template.json"
_PARTS = ("ids", "spans", "bounds")

# Errors raised by opening a missing, half-written or overwritten cache.
_UNUSABLE = (OSError, EOFError, ValueError, KeyError, TypeError)


class Example(NamedTuple):
    """One assembled input, ``(length,)`` each; ``token_type_ids`` is ``None`` if the tokenizer returns none."""

    input_ids: IntArray
    token_type_ids: IntArray | None


@dataclass(frozen=True, eq=False)
class _Special:
    """Special tokens that are adjacent in a template, ``(tokens,)`` each."""

    ids: IntArray
    type_ids: IntArray


@dataclass(frozen=True, eq=False)
class _Layout:
    """Special tokens before, between and after the sequences, and the token type of each sequence."""

    specials: tuple[_Special, ...]
    sequence_types: tuple[int, ...]

    @classmethod
    def probed(cls, tokenizer: "PreTrainedTokenizerBase", *sequences: str) -> "_Layout":
        encoding = tokenizer(*sequences, return_token_type_ids=True)
        ids = np.array(encoding["input_ids"], dtype=np.int32)
        type_ids = np.array(encoding["token_type_ids"], dtype=np.int32)
        owners = encoding.sequence_ids()
        specials, sequence_types = [], []
        end = 0
        for sequence in range(len(sequences)):
            if sequence not in owners:
                raise ValueError(f"{_name(tokenizer)} has no token for the probe {sequences[sequence]!r}")
            start = owners.index(sequence)
            specials.append(_Special(ids[end:start], type_ids[end:start]))
            sequence_types.append(int(type_ids[start]))
            end = start + owners.count(sequence)
        specials.append(_Special(ids[end:], type_ids[end:]))
        return cls(tuple(specials), tuple(sequence_types))

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "_Layout":
        specials = (np.array(special, dtype=np.int32).reshape(2, -1) for special in stored["specials"])
        return cls(tuple(_Special(*special) for special in specials), tuple(stored["sequence_types"]))

    def to_json(self) -> dict[str, Any]:
        specials = [[special.ids.tolist(), special.type_ids.tolist()] for special in self.specials]
        return {"specials": specials, "sequence_types": list(self.sequence_types)}

    @property
    def special_tokens(self) -> int:
        """The number of special tokens."""
        return sum(len(special.ids) for special in self.specials)

    def room(self, max_length: int) -> int:
        """Return the number of tokens that the sequences may take together."""
        special_tokens = self.special_tokens
        if max_length <= special_tokens:
            raise ValueError(
                f"tok.max_length={max_length} leaves no room beside {special_tokens} special tokens; raise it"
            )
        return max_length - special_tokens

    def input_ids(self, *sequences: IntArray) -> IntArray:
        pieces = [self.specials[0].ids]
        for sequence, special in zip(sequences, self.specials[1:], strict=True):
            pieces += [sequence, special.ids]
        return np.concatenate(pieces)

    def token_type_ids(self, *lengths: int) -> IntArray:
        pieces = [self.specials[0].type_ids]
        for length, sequence_type, special in zip(lengths, self.sequence_types, self.specials[1:], strict=True):
            pieces += [np.full(length, sequence_type, dtype=np.int32), special.type_ids]
        return np.concatenate(pieces)


@dataclass(frozen=True, eq=False)
class PairTemplate:
    """A tokenizer's frame for a criterion and a text, or for a text alone, and the rule that cuts them to a length.

    The text is cut first: at its end, or at its beginning if ``cuts_beginning`` is set (``truncation_side`` left). A
    criterion is cut only if it takes more than half of the room. It is then cut to that half, or to the room that the
    text leaves if that is more.
    """

    pair: _Layout
    single: _Layout
    has_token_types: bool
    cuts_beginning: bool = False

    @classmethod
    def from_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase") -> "PairTemplate":
        """Read the template from a probe of the tokenizer.

        Raises:
            ValueError: the tokenizer is not backed by the tokenizers library.
        """
        _require_backend(tokenizer)
        return cls(
            pair=_Layout.probed(tokenizer, "a", "b"),
            single=_Layout.probed(tokenizer, "a"),
            has_token_types="token_type_ids" in tokenizer.model_input_names,
            cuts_beginning=tokenizer.truncation_side == "left",
        )

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "PairTemplate":
        """Return the template that ``to_json`` described."""
        pair, single = (_Layout.from_json(stored[layout]) for layout in ("pair", "single"))
        return cls(pair, single, stored["has_token_types"], stored["cuts_beginning"])

    def to_json(self) -> dict[str, Any]:
        """Return the template as plain values."""
        return {
            "pair": self.pair.to_json(),
            "single": self.single.to_json(),
            "has_token_types": self.has_token_types,
            "cuts_beginning": self.cuts_beginning,
        }

    def cut(self, ids: IntArray, tokens: int) -> IntArray:
        """Return at most ``tokens`` of the ids, ``(tokens,)``."""
        return ids[max(0, len(ids) - tokens) :] if self.cuts_beginning else ids[:tokens]

    def assemble(self, criterion_ids: IntArray | None, text_ids: IntArray, max_length: int) -> Example:
        """Join token ids, ``(tokens,)`` each and without special tokens, into at most ``max_length`` tokens.

        Raises:
            ValueError: the special tokens alone fill ``max_length``.
        """
        if criterion_ids is None:
            layout, sequences = self.single, [self.cut(text_ids, self.single.room(max_length))]
        else:
            lengths = _lengths_within(len(criterion_ids), len(text_ids), self.pair.room(max_length))
            layout, sequences = self.pair, [self.cut(criterion_ids, lengths[0]), self.cut(text_ids, lengths[1])]
        types = layout.token_type_ids(*map(len, sequences)) if self.has_token_types else None
        return Example(layout.input_ids(*sequences), types)

    def lengths(
        self, criterion_lengths: NDArray[np.int64] | None, text_lengths: NDArray[np.int64], max_length: int
    ) -> NDArray[np.int64]:
        """Return the input lengths that ``assemble`` makes of these sequence lengths, ``(rows,)`` each."""
        if criterion_lengths is None:
            layout, uncut = self.single, text_lengths
        else:
            layout, uncut = self.pair, criterion_lengths + text_lengths
        room = layout.room(max_length)
        lengths: NDArray[np.int64] = np.minimum(uncut, room) + (max_length - room)
        return lengths

    def text_places(
        self, criterion_lengths: NDArray[np.int64] | None, text_lengths: NDArray[np.int64], max_length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return criterion lengths and text positions after ``assemble``, ``(rows,)`` each, and the room for both.

        Raises:
            ValueError: the special tokens alone fill ``max_length``.
        """
        before = len(self.single.specials[0].ids)
        if criterion_lengths is None:
            nothing = np.zeros_like(text_lengths)
            return nothing, nothing + before, self.single.room(max_length)
        room = self.pair.room(max_length)
        lengths = np.minimum(criterion_lengths, np.maximum(room // 2, room - text_lengths))
        return lengths, lengths + len(self.pair.specials[0].ids) + len(self.pair.specials[1].ids), room


class Texts(Protocol):
    """The tokens of each row's text, without special tokens and uncut."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each row's text, ``(rows,)``."""
        ...

    def ids_of(self, row: int) -> IntArray:
        """Return the token ids of a row's text, ``(its tokens,)``."""
        ...


@dataclass(frozen=True, eq=False)
class TokenColumn:
    """The tokens of one column of the rows, without special tokens and uncut; each unique text is stored once.

    ``ids`` is ``(tokens,)``, one unique text after the other. ``spans`` is ``(tokens, 2)``: each token's first
    character and the one after its last, counted in its text. ``bounds`` is ``(unique texts + 1,)``: the start of each
    text's tokens, and the end of the last text's. ``text_of_row`` is ``(rows,)``.
    """

    ids: IntArray
    spans: IntArray
    bounds: NDArray[np.int64]
    text_of_row: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each row's text, ``(rows,)``."""
        lengths: NDArray[np.int64] = np.diff(self.bounds)[self.text_of_row]
        return lengths

    def ids_of(self, row: int) -> IntArray:
        """Return the token ids of a row's text, ``(its tokens,)``; read-only."""
        return self.ids[self._tokens_of(row)]

    def spans_of(self, row: int) -> IntArray:
        """Return the character spans of the tokens of a row's text, ``(its tokens, 2)``; read-only."""
        return self.spans[self._tokens_of(row)]

    def _tokens_of(self, row: int) -> slice:
        text = self.text_of_row[row]
        return slice(self.bounds[text], self.bounds[text + 1])


def tokens_of_characters(texts: TokenColumn, characters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first and last token of a span of each row's text, ``(rows, 2)``; -1 and -1 for a row without a span.

    Args:
        characters: the first character of each span and the one after the last, ``(rows, 2)``; negative for no span.
            For a span that holds no token, the returned first token comes after the last.
    """
    tokens = np.full((len(characters), 2), -1, dtype=np.int64)
    for row in np.flatnonzero(characters[:, 0] >= 0):
        of_token = texts.spans_of(int(row))
        # The first token that ends after the span begins, and the last that begins before it ends.
        tokens[row, 0] = np.searchsorted(of_token[:, 1], characters[row, 0], side="right")
        tokens[row, 1] = np.searchsorted(of_token[:, 0], characters[row, 1], side="left") - 1
    return tokens


@dataclass(frozen=True, eq=False)
class TokenisedRows:
    """The rows' tokens and the template that joins them; ``criteria`` is ``None`` if the rows are texts alone."""

    template: PairTemplate
    texts: TokenColumn
    criteria: TokenColumn | None

    def __len__(self) -> int:
        return len(self.texts.text_of_row)

    def lengths(self, max_length: int, texts: Texts | None = None) -> NDArray[np.int64]:
        """Return the length of each row's input at ``max_length``, special tokens included, ``(rows,)``.

        Args:
            texts: texts to use instead of the rows' own.

        Raises:
            ValueError: the special tokens alone fill ``max_length``.
        """
        criterion_lengths = None if self.criteria is None else self.criteria.lengths
        return self.template.lengths(criterion_lengths, (texts or self.texts).lengths, max_length)

    def example(self, row: int, max_length: int, texts: Texts | None = None) -> Example:
        """Return one row's input, cut to ``max_length`` tokens.

        Args:
            texts: texts to use instead of the rows' own.

        Raises:
            ValueError: the special tokens alone fill ``max_length``.
        """
        criterion_ids = None if self.criteria is None else self.criteria.ids_of(row)
        return self.template.assemble(criterion_ids, (texts or self.texts).ids_of(row), max_length)


@dataclass(frozen=True, eq=False)
class Reading:
    """The rows as tokenised for one encoder; ``mask_token_id`` is None if the tokenizer has no mask token."""

    tokens: TokenisedRows
    pad_token_id: int
    mask_token_id: int | None = None


def tokenise_rows(rows: Rows, tokenizer: "PreTrainedTokenizerBase", cache_dir: Path) -> TokenisedRows:
    """Return the rows' tokens from ``cache_dir``; tokenise the rows and store the tokens if they are absent.

    Processes that need the same tokens at once wait for the first to write them. A damaged cache, such as a truncated
    one, is written again. The folder may be deleted between trials.

    Raises:
        ValueError: the tokenizer is not backed by the tokenizers library.
        OSError: the cache cannot be written.
    """
    columns = {"texts": _Texts.of_rows(rows.texts)}
    if rows.criteria is not None:
        columns["criteria"] = _Texts.of_rows(rows.criteria)
    folder = tokens_folder(rows, tokenizer, cache_dir)
    with suppress(*_UNUSABLE):
        return _open(folder, columns)
    with locked(folder.with_suffix(".lock")):
        with suppress(*_UNUSABLE):
            return _open(folder, columns)
        _build(folder, columns, tokenizer)
        return _open(folder, columns)


def tokenise_in_memory(
    texts: Sequence[str], criteria: Sequence[str] | None, tokenizer: "PreTrainedTokenizerBase"
) -> TokenisedRows:
    """Return the tokens of at least one row without a cache; see ``tokenise_rows``.

    Raises:
        ValueError: the tokenizer is not backed by the tokenizers library.
    """

    def column(values: Sequence[str]) -> TokenColumn:
        distinct = _Texts.of_rows(values)
        return TokenColumn(**_tokenise(distinct.unique, tokenizer), text_of_row=distinct.text_of_row)

    template = PairTemplate.from_tokenizer(tokenizer)
    return TokenisedRows(template, column(texts), None if criteria is None else column(criteria))


def tokens_folder(rows: Rows, tokenizer: "PreTrainedTokenizerBase", cache_dir: Path) -> Path:
    """Return the cache folder of the rows' tokens; it has the same name in every cache."""
    return cache_dir / _cache_key(rows, tokenizer)


def pad_batch(examples: Sequence[Example], *, pad_token_id: int, pad_token_type_id: int = 0) -> dict[str, torch.Tensor]:
    """Stack examples as a model takes them, padded on the right to the longest: ``(batch, length)``, int64.

    The result holds ``input_ids``, ``attention_mask`` and, if the examples have them, ``token_type_ids``.
    """
    lengths = np.array([len(example.input_ids) for example in examples])
    real = np.arange(lengths.max()) < lengths[:, None]

    def padded(sequences: list[IntArray], filling: int) -> torch.Tensor:
        matrix = np.full(real.shape, filling, dtype=np.int64)
        matrix[real] = np.concatenate(sequences)
        return torch.from_numpy(matrix)

    batch = {
        "input_ids": padded([example.input_ids for example in examples], pad_token_id),
        "attention_mask": torch.from_numpy(real.astype(np.int64)),
    }
    types = [example.token_type_ids for example in examples if example.token_type_ids is not None]
    if types:
        batch["token_type_ids"] = padded(types, pad_token_type_id)
    return batch


def _lengths_within(criterion_length: int, text_length: int, room: int) -> tuple[int, int]:
    """Return how many tokens of the criterion and of the text remain when both share ``room``."""
    criterion = min(criterion_length, max(room // 2, room - text_length))
    return criterion, min(text_length, room - criterion)


def _name(tokenizer: "PreTrainedTokenizerBase") -> str:
    return f"the tokenizer {type(tokenizer).__name__} of {tokenizer.name_or_path!r}"


def _require_backend(tokenizer: "PreTrainedTokenizerBase") -> None:
    # Only these tokenizers give character offsets, which evidence needs, and tokenise in parallel.
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ValueError(
            f"{_name(tokenizer)} is not backed by the tokenizers library; choose another model.name, "
            "or convert its tokenizer to a tokenizer.json"
        )


def _cache_key(rows: Rows, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a digest of everything that the cached content depends on."""
    _require_backend(tokenizer)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # Earlier calls that cut or padded left these settings there; ours do neither.
    for setting in ("truncation", "padding"):
        backend.pop(setting, None)
    described = {
        "format": _FORMAT,
        "rows": rows.fingerprint,
        "class": type(tokenizer).__qualname__,
        "backend": backend,
        "special_tokens": tokenizer.special_tokens_map,
        "split_special_tokens": tokenizer.split_special_tokens,
        "truncation_side": tokenizer.truncation_side,
        "inputs": tokenizer.model_input_names,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class _Texts:
    """The distinct texts of a column in order of first use, and the index of each row's text among them."""

    unique: list[str]
    text_of_row: NDArray[np.int64]

    @classmethod
    def of_rows(cls, texts: Sequence[str]) -> "_Texts":
        places: dict[str, int] = {}
        text_of_row = np.array([places.setdefault(text, len(places)) for text in texts], dtype=np.int64)
        return cls(list(places), text_of_row)


def _open(folder: Path, columns: dict[str, _Texts]) -> TokenisedRows:
    check_sealed(folder)
    template = PairTemplate.from_json(json.loads((folder / _TEMPLATE).read_text()))
    opened = {name: _open_column(folder, name, texts) for name, texts in columns.items()}
    return TokenisedRows(template, opened["texts"], opened.get("criteria"))


def _open_column(folder: Path, name: str, texts: _Texts) -> TokenColumn:
    # np.asarray gives plain views: slicing numpy's memmap class costs several times as much.
    ids, spans, bounds = (np.asarray(np.load(_part_file(folder, name, part), mmap_mode="r")) for part in _PARTS)
    sound = (
        (ids.dtype.str, spans.dtype.str, bounds.dtype.str) == ("<i4", "<i4", "<i8")
        and bounds.shape == (len(texts.unique) + 1,)
        and ids.shape == (bounds[-1],)
        and spans.shape == (bounds[-1], 2)
        and bounds[0] == 0
        and bool((np.diff(bounds) >= 0).all())
    )
    if not sound:
        raise ValueError(f"the cached tokens in {folder} do not belong together")
    return TokenColumn(ids, spans, bounds, texts.text_of_row)


def _build(folder: Path, columns: dict[str, _Texts], tokenizer: "PreTrainedTokenizerBase") -> None:
    """Write the whole cache. The caller holds the lock."""
    with sealed_folder(folder) as partial:
        (partial / _TEMPLATE).write_text(json.dumps(PairTemplate.from_tokenizer(tokenizer).to_json()))
        for name, texts in columns.items():
            for part, array in _tokenise(texts.unique, tokenizer).items():
                with _part_file(partial, name, part).open("wb") as file:
                    np.save(file, array)
                    # Without fsync the rename may survive a power failure that the content does not.
                    file.flush()
                    os.fsync(file.fileno())


def _part_file(folder: Path, name: str, part: str) -> Path:
    return folder / f"{name}.{part}.npy"


def _tokenise(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """Return each array of ``_PARTS`` in the layout of ``TokenColumn``."""
    ids: list[IntArray] = []
    spans: list[IntArray] = []
    lengths = [0]
    for start in range(0, len(texts), _CHUNK):
        encoded = tokenizer(
            texts[start : start + _CHUNK],
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        lengths += map(len, encoded["input_ids"])
        ids.append(np.fromiter(chain.from_iterable(encoded["input_ids"]), dtype=np.int32))
        characters = chain.from_iterable(chain.from_iterable(encoded["offset_mapping"]))
        spans.append(np.fromiter(characters, dtype=np.int32).reshape(-1, 2))
    return {
        "ids": np.concatenate(ids),
        "spans": np.concatenate(spans),
        "bounds": np.cumsum(lengths, dtype=np.int64),
    }
