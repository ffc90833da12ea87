"""The inputs of a run: rows, their split and their tokens, prepared once per node and shared by all its trials.

A search's runs see nothing of the test part: its rows are neither tokenised nor loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from trainables.content import check_data
from trainables.data.errors import DataError
from trainables.data.rows import Rows
from trainables.data.split import Development, Split, read_development, read_test_rows
from trainables.data.tokens import Reading, TokenisedRows, tokenise_rows, tokens_folder
from trainables.files import DamagedError, check_sealed, locked, sealed_folder
from trainables.models.builtin import train_tokenizer
from trainables.models.load import load_tokenizer
from trainables.models.names import ModelSource, resolve_model
from trainables.scratch import scratch_folder
from trainables.settings import ModelSettings, TrialSettings, encoder_names, revision_of

ANY_LENGTH = 2**31
"""Longer than any text."""

_MOST_MEASURED = 2000

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Reader:
    """One encoder's source and tokenizer, and the rows as tokenised for it.

    ``tokenizer_folder`` is set for built-in models, whose tokenizer is trained on the data.
    """

    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    tokenizer_folder: Path | None
    tokens: TokenisedRows


@dataclass(frozen=True, eq=False)
class Inputs:
    """The rows of a run, the current split, and the reader of each encoder, in the order of ``encoder_names``.

    Attributes:
        rows: all rows; the rows of the test part, if requested, come last.
        split: one of ``splits``, which hold one split per fold.
    """

    rows: Rows
    splits: tuple[Split, ...]
    split: Split
    readers: tuple[Reader, ...]

    @property
    def readings(self) -> tuple[Reading, ...]:
        return tuple(
            Reading(reader.tokens, int(reader.tokenizer.pad_token_id), reader.tokenizer.mask_token_id)
            for reader in self.readers
        )

    def of_fold(self, fold: int) -> "Inputs":
        """Return the same inputs with another fold's split as the current one; folds count from 0."""
        return replace(self, split=self.splits[fold])

    def part(self, part: Part) -> NDArray[np.int64]:
        """Return the row numbers of a part of the current split.

        Raises:
            ValueError: the part is the test part, and ``load_inputs`` was called without it.
        """
        rows: NDArray[np.int64] = getattr(self.split, part)
        if not len(rows):
            raise ValueError(f"the {part} part was not loaded: a search never reads it")
        return rows


def load_inputs(settings: TrialSettings, cache: Path, *, with_test: bool = False) -> Inputs:
    """Read, split and tokenise the data, or open the tokens that another trial of the study stored in ``cache``.

    Args:
        with_test: read the test part too; no run of a search may do so.

    Raises:
        DataError: the data cannot be used.
        InputsChangedError: the data differs from the settings' content.
        UnknownModelError, ModelLoadError: the model does not exist, or its tokenizer cannot be loaded.
    """
    what = settings.data, settings.task.labels, settings.seeds.split
    development = read_development(*what, settings.seeds.redraw)
    check_data(settings, development.fingerprint)
    names = development.rows.class_names
    if len(names) > settings.task.count:
        raise DataError(
            f"{settings.data.path} holds {len(names)} classes ({', '.join(names[:20])}), and task.classes is"
            f" {settings.task.count}; leave task.classes out"
        )
    rows, splits = development.rows, development.splits
    if with_test:
        rows = rows.followed_by(read_test_rows(*what))
        test = np.arange(len(development.rows), len(rows))
        splits = tuple(replace(split, test=test) for split in splits)
    names = encoder_names(settings)
    readers = {name: _reader(name, settings.model, rows, development, cache) for name in dict.fromkeys(names)}
    return Inputs(rows, splits, splits[0], tuple(readers[name] for name in names))


def prepare_inputs(settings: TrialSettings, models: Sequence[str], cache: Path) -> tuple[Path, ...]:
    """Tokenise ahead for trials that use any of the models; return the folders of ``cache`` that they will open.

    Copies of these folders in another cache serve as well.

    Raises:
        DataError, UnknownModelError, ModelLoadError: see ``load_inputs``.
    """
    development = read_development(settings.data, settings.task.labels, settings.seeds.split, settings.seeds.redraw)
    rows, folders = development.rows, []
    for name in models:
        reader = _reader(name, settings.model, rows, development, cache)
        if reader.tokenizer_folder is not None:
            folders.append(reader.tokenizer_folder)
        folders.append(tokens_folder(rows, reader.tokenizer, cache))
    return tuple(dict.fromkeys(folders))


def cut_shares(settings: TrialSettings, model: str, lengths: Sequence[int], cache: Path) -> dict[int, float]:
    """Return, for each length, the share of rows whose inputs are longer; see ``input_lengths``."""
    uncut = input_lengths(settings, model, cache)
    return {length: float(np.mean(uncut > length)) for length in lengths}


def input_lengths(settings: TrialSettings, model: str, cache: Path) -> NDArray[np.int64]:
    """Return the uncut lengths of inputs in tokens, ``(rows,)``; of many rows, those of an even sample.

    Args:
        cache: folder for the tokenizers of built-in models.

    Raises:
        DataError, UnknownModelError, ModelLoadError: see ``load_inputs``.
    """
    with scratch_folder("lengths") as scratch:
        return sampled_inputs(settings, [model], cache, scratch).readings[0].tokens.lengths(ANY_LENGTH)


@dataclass(frozen=True, eq=False)
class SampledInputs:
    """Rows of the development part, evenly chosen, and their reading by each encoder.

    Attributes:
        train: number of training rows of a run, the mean over folds.
        validation: number of validation rows.
    """

    rows: Rows
    readings: tuple[Reading, ...]
    train: int
    validation: int


def sampled_inputs(settings: TrialSettings, models: Sequence[str], cache: Path, scratch: Path) -> SampledInputs:
    """Return the inputs of at most some thousand rows, for estimates.

    Args:
        models: the encoders, in the order of the readings.
        cache: folder for the tokenizers of built-in models.
        scratch: folder for the tokens; it must outlive the result.

    Raises:
        DataError, UnknownModelError, ModelLoadError: see ``load_inputs``.
    """
    development = read_development(settings.data, settings.task.labels, settings.seeds.split, settings.seeds.redraw)
    every = len(development.rows)
    sample = development.rows.take(np.unique(np.linspace(0, every - 1, min(every, _MOST_MEASURED)).astype(np.int64)))
    readings = []
    for model in models:
        _, _, tokenizer = _tokenizer_of(model, settings.model, development, cache)
        tokens = tokenise_rows(sample, tokenizer, scratch)
        readings.append(Reading(tokens, int(tokenizer.pad_token_id), tokenizer.mask_token_id))
    splits = development.splits
    train, validation = (
        round(sum(len(getattr(split, part)) for split in splits) / len(splits)) for part in ("train", "validation")
    )
    return SampledInputs(sample, tuple(readings), train, validation)


def _reader(name: str, model: ModelSettings, rows: Rows, development: Development, cache: Path) -> Reader:
    source, tokenizer_folder, tokenizer = _tokenizer_of(name, model, development, cache)
    return Reader(source, tokenizer, tokenizer_folder, tokenise_rows(rows, tokenizer, cache))


def _tokenizer_of(
    name: str, model: ModelSettings, development: Development, cache: Path
) -> tuple[ModelSource, Path | None, PreTrainedTokenizerBase]:
    """Return an encoder's source, the folder of its tokenizer if that is trained on the data, and the tokenizer."""
    source = resolve_model(name)
    folder = _trained_tokenizer(source, development, cache) if source.kind == "builtin" else None
    return source, folder, load_tokenizer(folder or source.path or source.name, revision_of(model, name))


def builtin_vocabulary(settings: TrialSettings, cache: Path) -> int:
    """Return the vocabulary size of a built-in encoder's tokenizer; train it on the data if ``cache`` lacks it.

    Raises:
        DataError, UnknownModelError: see ``load_inputs``.
    """
    development = read_development(settings.data, settings.task.labels, settings.seeds.split, settings.seeds.redraw)
    return len(load_tokenizer(_trained_tokenizer(resolve_model(settings.model.name), development, cache)))


def _trained_tokenizer(source: ModelSource, development: Development, cache: Path) -> Path:
    """Return the tokenizer folder of a built-in encoder, trained once on the training part alone.

    Folds share one tokenizer, trained on all folds. Its vocabulary determines the model's size, which must be equal in
    every fold. It learns from texts, never from labels.
    """
    part = development.rows
    if len(development.splits) == 1:
        part = part.take(development.splits[0].train)
    key = f"tokenizer-{source.name}-{part.fingerprint[:32]}"
    folder = cache / key
    with locked(cache / f"{key}.lock"):
        try:
            check_sealed(folder)
        except (OSError, DamagedError):
            # Count each distinct text once: a post paired with nine criteria is still one post.
            texts = sorted({*part.texts, *(part.criteria or ())})
            with sealed_folder(folder) as partial:
                train_tokenizer(source.name, texts, partial)
    return folder
