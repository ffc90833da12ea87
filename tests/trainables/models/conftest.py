"""Small models on disk that the tests of this folder share."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from trainables.models.builtin import build_encoder, builtin_config, train_tokenizer
from trainables.models.load import load_tokenizer


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Return sentences over a made-up lexicon of 400 words."""
    draw = random.Random(7)
    lexicon = ["".join(draw.choices("abcdefghiklmnoprstuvw", k=draw.randint(2, 8))) for _ in range(400)]
    return [" ".join(draw.choices(lexicon, k=20)).capitalize() + ", café!" for _ in range(150)]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Callable[[str], Path]:
    """Return a function from a built-in encoder's name to the folder of its tokenizer, trained once."""
    root = tmp_path_factory.mktemp("tokenizers")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            train_tokenizer(name, texts, root / name)
        return root / name

    return folder


@pytest.fixture
def bert(tokenizer_folder: Callable[[str], Path]) -> PreTrainedModel:
    """Return a fresh tiny BERT, which a test may save and damage."""
    tokenizer = load_tokenizer(tokenizer_folder("tiny-bert"))
    config = builtin_config("tiny-bert", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    return build_encoder(config, seed=3)
