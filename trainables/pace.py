"""Seconds that inputs of a model take on this machine, by a few timed passes before anything is trained."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from trainables.data.rows import read_rows
from trainables.devices.current import current_device
from trainables.models.builtin import build_encoder, train_tokenizer
from trainables.models.load import MODEL_LOCK
from trainables.models.names import resolve_model
from trainables.planning.needs import encoder_config
from trainables.planning.rehearsal import rehearsing
from trainables.scratch import scratch_folder
from trainables.session import TrainingSession
from trainables.settings import TrialSettings, encoder_names, revision_of
from trainables.stand_ins import STAND_IN_DATA
from trainables.threads import limit_threads


@dataclass(frozen=True)
class Pace:
    """Seconds that one input takes, in training with its part of the optimizer's step, and in evaluation."""

    train_s: float
    evaluate_s: float


def measure_pace(settings: TrialSettings, *, length: int, inputs: int, threads: int) -> Pace:
    """Time full passes of a trial's model.

    The weights of a model from the hub do not matter for its pace, so random ones replace them: nothing is downloaded
    but its configuration.

    Args:
        length: tokens of each input.
        inputs: inputs of each pass.
        threads: torch threads on the CPU.

    Raises:
        ModelLoadError, UnknownModelError: a model's configuration cannot be read.
    """
    before = torch.get_num_threads()
    limit_threads(threads)
    try:
        with scratch_folder("pace") as scratch, torch.random.fork_rng(devices=[]):
            here = {name: _local(settings, name, scratch) for name in dict.fromkeys(encoder_names(settings))}
            model = settings.model
            second = None if model.criteria_name is None else here[model.criteria_name]
            small = replace(
                settings,
                data=STAND_IN_DATA,
                task=replace(settings.task, labels=None),
                model=replace(model, name=here[model.name], criteria_name=second, revision=None),
                tok=replace(settings.tok, max_length=max(length, settings.tok.max_length)),
            )
            return _timed(TrainingSession(small, scratch / "cache", current_device()), length, inputs)
    finally:
        limit_threads(before)


def _local(settings: TrialSettings, name: str, scratch: Path) -> str:
    """Return a model of this machine with the pace of a model: itself, or one with random weights in a folder."""
    if resolve_model(name).kind != "hub":
        return name
    folder = scratch / name.replace("/", "--")
    with MODEL_LOCK:
        build_encoder(encoder_config(name, revision_of(settings.model, name)), seed=0).save_pretrained(folder)
    rows = read_rows(STAND_IN_DATA)
    train_tokenizer("tiny-bert", sorted({*rows.texts, *(rows.criteria or ())}), folder)
    return str(folder)


def _timed(session: TrainingSession, length: int, inputs: int) -> Pace:
    device = current_device().torch_device

    def seconds(run: Callable[[], object]) -> float:
        # The first pass allocates memory and chooses kernels.
        run()
        if device.type == "cpu":
            # What other programs take from the processor now, they need not take later.
            start = time.process_time()
            run()
            return (time.process_time() - start) / torch.get_num_threads() / inputs
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / inputs

    with rehearsing(
        session.model,
        session.task,
        session.optimizer,
        current_device(),
        clip_norm=session.settings.train.clip_norm,
        precision=session.precision,
    ) as rehearsal:
        return Pace(
            seconds(lambda: rehearsal.training_peak(inputs, length, accumulating=False)),
            seconds(lambda: rehearsal.evaluation_peak(inputs, length)),
        )
