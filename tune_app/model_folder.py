"""The model folder of an export: from the exported trial's checkpoint, or by training its configuration again."""

import os
from dataclasses import replace
from pathlib import Path

from trainables.files import whole_folder
from trainables.scratch import scratch_folder
from tune_app.config import RunConfig, load_config
from tune_app.console import Console
from tune_app.errors import UserError
from tune_app.model_card import Origin
from tune_app.screening.preconditions import development_of
from tune_app.study.checkpoints import BEST
from tune_app.study.confirmation import Confirmation
from tune_app.study.run_dir import study_checkpoints
from tune_app.study.store import StudyStore
from tune_app.training import TrainEnd, run_training, save_kept_checkpoint
from tune_app.voice import Voice

MODEL_FOLDER = "model"
"""Name of the model folder in the folder of an export."""

_MARK = "headroom.json"


def export_model(
    store: StudyStore,
    config: RunConfig,
    best: Path,
    confirmation: Confirmation | None = None,
    *,
    console: Console,
    quiet: bool = False,
    onnx: bool = False,
) -> TrainEnd:
    """Save the model of an exported configuration beside it, in place of the model of an earlier export.

    The checkpoint of the trial's best epoch is saved without training, if the search has kept it. Otherwise the
    configuration is trained again, as ``headroom train`` does.

    Args:
        config: configuration of the study.
        best: exported ``best.yaml``.
        confirmation: confirmation of the study; None without one.
        onnx: write the model as an ONNX file, too.

    Raises:
        UserError: the folder holds something else than a model, or the model cannot be saved or trained.
    """
    target = best.parent / MODEL_FOLDER
    check_replaceable(target)
    exported = load_config(best)
    origin = Origin.of(store, exported, confirmation)
    voice = Voice(console, quiet=quiet)
    with scratch_folder("checkpoint") as scratch, whole_folder(target) as building:
        checkpoint, line = _kept_checkpoint(store, config, exported, scratch / "checkpoint")
        voice.say(line)
        if checkpoint is None:
            end = run_training(exported, building, console=console, quiet=quiet, origin=origin, onnx=onnx)
        else:
            assert exported.pinned is not None
            facts = store.trial(exported.pinned.trial).user_attrs
            # A trial's share of a card limits its training; here the whole device serves.
            own = replace(exported, memory=config.memory)
            with voice:
                end = save_kept_checkpoint(
                    own, checkpoint, building, facts=facts, origin=origin, voice=voice, onnx=onnx
                )
        if end.out_of_memory:
            raise UserError(
                f"--model: out of memory: {end.out_of_memory}; export it on a machine with more memory, or without"
                " --model"
            )
    return replace(end, folder=target)


def check_replaceable(folder: Path) -> None:
    """Refuse to replace anything but a model folder.

    Raises:
        UserError: the folder holds something else.
    """
    if (
        os.path.lexists(folder)
        and not (folder / _MARK).is_file()
        and not (folder.is_dir() and not any(folder.iterdir()))
    ):
        raise UserError(f"--to: {folder} is there and holds no model of headroom; move it, or give another folder")


def _kept_checkpoint(
    store: StudyStore, config: RunConfig, exported: RunConfig, scratch: Path
) -> tuple[Path | None, str]:
    """Return the folder of the exported trial's best checkpoint, None if there is none, and a line that says so.

    Args:
        scratch: new folder, to which a checkpoint in a store is copied.
    """
    if exported.pinned is None:
        return None, "model: no trial of the search completed this configuration: training it"
    trial = f"trial {exported.pinned.trial}"
    if exported.data.folds is not None:
        return (
            None,
            f"model: {trial} was trained on {exported.data.folds} folds, one model each: training it on one split",
        )
    recorded = store.trial(exported.pinned.trial).user_attrs.get(BEST)
    if recorded is None:
        return None, f"model: no checkpoint of {trial} was kept (checkpoint.keep): training it again"
    if development_of(exported).fingerprint != exported.pinned.data_fingerprint:
        return (
            None,
            f"model: the data differs from that of {trial}, whose checkpoint it cannot score: training it again",
        )
    found = study_checkpoints(config, store.id, lambda _: None).fetched(recorded, scratch)
    if found is None:
        return None, f"model: the checkpoint of {trial} is gone: training it again"

    from trainables.training.checkpoint import damage_of

    damage = damage_of(found)
    if damage:
        return None, f"model: the checkpoint of {trial} cannot be used ({damage}): training it again"
    return found, f"model: from the checkpoint of {trial}, epoch {exported.pinned.epoch}, without training again"
