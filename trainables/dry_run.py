"""What of its settings a run reads, found out by a run: real in every step, but so small that it takes a moment."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from trainables.data.rows import read_rows
from trainables.machine import MachineFiles
from trainables.memory.cpu import CpuDevice
from trainables.memory.needs import encoder_config
from trainables.models.builtin import build_encoder, train_tokenizer
from trainables.models.load import MODEL_LOCK, load_tokenizer
from trainables.recording import recording
from trainables.settings import DataSettings, MemorySettings, TrialSettings, encoder_names, revision_of
from trainables.training.session import TrainingSession

_DATA = DataSettings("demo", max_rows=48)
_LENGTH, _WIDTH, _BATCH = 48, 64, 8
_RATE = 1e-4

_LAYERS = 2
# Of a configuration, what makes an encoder narrow.
_NARROW = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "hidden_dim": 64,
    "embedding_size": 16,
    "pooler_hidden_size": 32,
}


def settings_read(settings: TrialSettings, files: MachineFiles) -> frozenset[str]:
    """Dotted names of the settings that one epoch and its evaluation read.

    A small encoder with random weights stands in for the model, demo data for the user's; everything else is the code
    that trains. Of the settings only their sizes are made smaller.

    Raises:
        Exception: whatever a trial with these settings would fail with.
    """
    with TemporaryDirectory(prefix="headroom-dry-run-") as scratch, torch.random.fork_rng(devices=[]):
        stand_ins = {
            name: str(
                small_model(encoder_config(name, revision_of(settings.model, name)), Path(scratch) / f"model-{place}")
            )
            for place, name in enumerate(dict.fromkeys(encoder_names(settings)))
        }
        small, read = recording(_small(settings, stand_ins))
        session = TrainingSession(small, Path(scratch) / "cache", CpuDevice())
        session.fit_to_memory(files)
        session.train_epoch()
        session.evaluate("validation")
        return frozenset(read)


def _small(settings: TrialSettings, stand_ins: Mapping[str, str]) -> TrialSettings:
    """The settings of a small run: ``stand_ins`` names a model's stand-in."""
    model = settings.model
    second = None if model.criteria_name is None else stand_ins.get(model.criteria_name, model.criteria_name)
    return replace(
        settings,
        data=_DATA,
        task=replace(settings.task, labels=None),
        model=replace(
            model,
            name=stand_ins[model.name],
            criteria_name=second,
            revision=None,
            freeze_layers=min(model.freeze_layers, _LAYERS),
        ),
        head=replace(settings.head, width=min(settings.head.width, _WIDTH)),
        tok=replace(settings.tok, max_length=min(settings.tok.max_length, _LENGTH)),
        # A rate that suits the model is none for random weights.
        optim=replace(settings.optim, lr=_RATE),
        train=replace(settings.train, batch_size=_BATCH, grad_accum=1, epochs=1, precision="fp32"),
        memory=MemorySettings(micro_batch=_BATCH, eval_batch=_BATCH),
    )


def small_model(config: PreTrainedConfig, folder: Path, layers: int = _LAYERS) -> Path:
    """Write a model folder: a small encoder of the configuration's family and a tokenizer of the demo data's words."""
    disable_progress_bar()
    rows = read_rows(_DATA)
    train_tokenizer("tiny-bert", sorted({*rows.texts, *(rows.criteria or ())}), folder)
    small = _small_config(config, load_tokenizer(folder), layers)
    with MODEL_LOCK:
        encoder = build_encoder(small, seed=0)
    encoder.save_pretrained(folder)
    return folder


def _small_config(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, layers: int) -> PreTrainedConfig:
    small = copy.deepcopy(config)
    for name, value in _NARROW.items():
        if hasattr(small, name):
            setattr(small, name, value)
    small.num_hidden_layers = layers
    if getattr(small, "layer_types", None):
        small.layer_types = small.layer_types[:layers]
    small.vocab_size = len(tokenizer)
    for name in ("pad", "bos", "eos", "cls", "sep"):
        if hasattr(small, f"{name}_token_id"):
            setattr(small, f"{name}_token_id", getattr(tokenizer, f"{name}_token_id"))
    return small
