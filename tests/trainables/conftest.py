"""Small data set and small model on disk, and settings of a trial that takes a fraction of a second on them."""

import csv
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from trainables.devices.cpu import CpuDevice
from trainables.machine import MachineFiles
from trainables.models.builtin import train_tokenizer
from trainables.models.load import load_tokenizer
from trainables.optimizers import OPTIMIZERS, OptimizerMissingError, check_installed
from trainables.seeds import trial_seeds
from trainables.session import TrainingSession
from trainables.settings import (
    DataSettings,
    HeadSettings,
    MemorySettings,
    ModelSettings,
    OptimSettings,
    TokSettings,
    TrainSettings,
    TrialSettings,
    with_params,
)

_LEXICON = ("walks", "dogs", "rain", "coffee", "trains", "music", "letters", "winter", "bread", "rivers")
_TELLING = (("content", "rested", "calm"), ("restless", "worn", "sleepless"))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Run torch on one thread.

    Sums over another number of threads round differently, and tensors this small gain nothing from several.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 150 rows in 50 groups: texts of 3 to 40 words, one of which reveals the label; two criteria.

    Where the label is 1, that word is the evidence.
    """
    draw = random.Random(11)
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "criterion", "label", "group_id", "evidence_start", "evidence_end"])
        for row in range(150):
            label = int(draw.random() < 0.4)
            words = [*draw.choices(_LEXICON, k=draw.randint(2, 39)), draw.choice(_TELLING[label])]
            telling = words[-1]
            draw.shuffle(words)
            text = " ".join(words)
            start = text.index(telling)
            evidence = (start, start + len(telling)) if label else ("", "")
            writer.writerow([text, ("sleeps badly", "is tired")[row % 2], label, row // 3, *evidence])
    return path


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, data_file: Path) -> Path:
    """Save a one-layer BERT without dropout, in transformers' layout."""
    folder = tmp_path_factory.mktemp("model")
    train_tokenizer("tiny-bert", data_file.read_text().splitlines(), folder)
    config = BertConfig(
        vocab_size=len(load_tokenizer(folder)),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(1)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache folder that trials on one node share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def settings(data_file: Path, model_folder: Path) -> TrialSettings:
    """Return the settings of a trial without any dropout: four epochs of three steps."""
    return TrialSettings(
        data=DataSettings(str(data_file)),
        seeds=trial_seeds(0),
        model=ModelSettings(str(model_folder)),
        tok=TokSettings(max_length=48),
        head=HeadSettings(dropout=0.0),
        optim=OptimSettings(lr=3e-3),
        train=TrainSettings(batch_size=32, epochs=4),
        memory=MemorySettings(micro_batch=32, eval_batch=16),
    )


@pytest.fixture(scope="session")
def builtin_settings(settings: TrialSettings) -> TrialSettings:
    """Return the settings of the same trial with a built-in encoder, which has dropout in every layer."""
    return replace(with_params(settings, {"model.name": "tiny-bert"}), head=HeadSettings(dropout=0.1))


@pytest.fixture(params=list(OPTIMIZERS))
def optimizer_name(request: pytest.FixtureRequest) -> str:
    """Return each optimizer's name in turn; skip those whose package is not installed."""
    try:
        check_installed(request.param)
    except OptimizerMissingError as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.fixture(scope="session")
def session_of(cache: Path, machine_folder: Path) -> Callable[[TrialSettings], TrainingSession]:
    """Return a function from settings to a training session on the CPU, ready to train."""

    def build(settings: TrialSettings) -> TrainingSession:
        session = TrainingSession(settings, cache, CpuDevice())
        session.plan_memory(MachineFiles(machine_folder))
        return session

    return build
