"""Discovery of the settings that a run reads, by a run that is real in every step but takes only a moment."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from trainables.devices.cpu import CpuDevice
from trainables.machine import MachineFiles
from trainables.planning.needs import encoder_config
from trainables.recording import recording
from trainables.scratch import scratch_folder
from trainables.session import TrainingSession
from trainables.settings import MemorySettings, TrialSettings, encoder_names, revision_of
from trainables.stand_ins import LAYERS, STAND_IN_DATA, small_model

_LENGTH, _WIDTH, _BATCH = 48, 64, 8
_RATE = 1e-4


def settings_read(settings: TrialSettings, files: MachineFiles) -> frozenset[str]:
    """Return the dotted names of the settings that one epoch and its evaluation read.

    A small encoder with random weights replaces the model, and demo data replaces the user's. All other code is the
    code that trains. Among the other settings only sizes, the learning rate and the precision are changed.

    Raises:
        Exception: any error that a trial with these settings would raise.
    """
    with scratch_folder("dry-run") as scratch, torch.random.fork_rng(devices=[]):
        stand_ins = {
            name: str(
                small_model(encoder_config(name, revision_of(settings.model, name)), scratch / f"model-{position}")
            )
            for position, name in enumerate(dict.fromkeys(encoder_names(settings)))
        }
        small, read = recording(_small(settings, stand_ins))
        session = TrainingSession(small, scratch / "cache", CpuDevice())
        session.plan_memory(files)
        session.train_epoch()
        session.evaluate("validation")
        return frozenset(read)


def _small(settings: TrialSettings, stand_ins: Mapping[str, str]) -> TrialSettings:
    """Return the settings of a small run; ``stand_ins`` maps a model's name to its stand-in."""
    model = settings.model
    second = None if model.criteria_name is None else stand_ins.get(model.criteria_name, model.criteria_name)
    return replace(
        settings,
        data=STAND_IN_DATA,
        task=replace(settings.task, labels=None),
        model=replace(
            model,
            name=stand_ins[model.name],
            criteria_name=second,
            revision=None,
            freeze_layers=min(model.freeze_layers, LAYERS),
        ),
        head=replace(settings.head, width=min(settings.head.width, _WIDTH)),
        tok=replace(settings.tok, max_length=min(settings.tok.max_length, _LENGTH)),
        # A rate that suits the model suits no random weights.
        optim=replace(settings.optim, lr=_RATE),
        train=replace(settings.train, batch_size=_BATCH, grad_accum=1, epochs=1, precision="fp32"),
        memory=MemorySettings(micro_batch=_BATCH, eval_batch=_BATCH),
    )
