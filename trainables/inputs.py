"""What a run reads: rows, their split, and their tokens; prepared once per node and shared by all trials on it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from trainables.data.rows import Rows
from trainables.data.split import Split, read_and_split
from trainables.data.tokens import TokenisedRows, tokenise_rows
from trainables.files import locked, whole_folder
from trainables.models.builtin import train_tokenizer
from trainables.models.load import load_tokenizer
from trainables.models.names import ModelSource, resolve_model
from trainables.settings import TrialSettings


@dataclass(frozen=True, eq=False)
class Inputs:
    """``tokenizer_folder`` is set for built-in models, whose tokenizer was trained on the data."""

    rows: Rows
    split: Split
    tokens: TokenisedRows
    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    tokenizer_folder: Path | None

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id)


def load_inputs(settings: TrialSettings, cache: Path) -> Inputs:
    """Read, split and tokenise, or open what another trial of the study prepared in ``cache``.

    Raises:
        DataError: the data cannot be used.
        UnknownModelError, ModelLoadError: there is no such model, or its tokenizer cannot be loaded.
    """
    rows, split = read_and_split(settings.data, settings.task.classes, settings.seeds.split)
    source = resolve_model(settings.model.name)
    tokenizer_folder = None
    if source.kind == "builtin":
        tokenizer_folder = _trained_tokenizer(source, rows, split, cache)
    tokenizer = load_tokenizer(tokenizer_folder or source.path or source.name, settings.model.revision)
    return Inputs(rows, split, tokenise_rows(rows, tokenizer, cache), source, tokenizer, tokenizer_folder)


def builtin_vocabulary(settings: TrialSettings, cache: Path) -> int:
    """How many tokens the tokenizer of a built-in encoder holds; it is trained on the data if ``cache`` has it not.

    Raises:
        DataError, UnknownModelError: as ``load_inputs``.
    """
    rows, split = read_and_split(settings.data, settings.task.classes, settings.seeds.split)
    return len(load_tokenizer(_trained_tokenizer(resolve_model(settings.model.name), rows, split, cache)))


def _trained_tokenizer(source: ModelSource, rows: Rows, split: Split, cache: Path) -> Path:
    """The tokenizer of a built-in encoder, trained once on the training part alone."""
    content = hashlib.sha256(rows.fingerprint.encode() + split.train.tobytes()).hexdigest()
    key = f"tokenizer-{source.name}-{content[:32]}"
    folder = cache / key
    with locked(cache / f"{key}.lock"):
        if not folder.exists():
            part = rows.take(split.train)
            # Each distinct text once: a post that stands against nine criteria is still one post.
            texts = sorted({*part.texts, *(part.criteria or ())})
            with whole_folder(folder) as partial:
                train_tokenizer(source.name, texts, partial)
    return folder
