"""``headroom train``: one training run without a search, which saves its model."""

import importlib.util
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.machine import cpu_cores
from trainables.scratch import scratch_folder
from tune_app.config import RunConfig
from tune_app.console import Console
from tune_app.errors import UserError
from tune_app.folders import check_own_folders, made_folder
from tune_app.model_card import Origin, card_text
from tune_app.objectives import measured
from tune_app.progress.opening import data_lines
from tune_app.screening.combinations import check_combinations
from tune_app.screening.preconditions import (
    check_cpu,
    check_families,
    check_optimizers,
    development_of,
    input_errors,
    model_names,
    with_classes_of_data,
)
from tune_app.study.export import installed_versions
from tune_app.study.lines import baseline_lines, cut_lines
from tune_app.study.reporting import baselines_in
from tune_app.study.run_dir import CACHE
from tune_app.voice import Voice

if TYPE_CHECKING:
    from trainables.export import BestEpoch
    from trainables.onnx_model import OnnxResult
    from trainables.tasks.calibration import Calibration


@dataclass(frozen=True)
class TrainEnd:
    """End of a training run; the values are those of ``metric``, the task's objective.

    ``reached`` is the value on validation before calibration, that of a trial. ``further`` shows the values of further
    objectives as text. ``remarks`` are lines that qualify the test score. ``logged`` is a line on the model in MLflow,
    None if tracking is disabled.
    """

    folder: Path
    metric: str
    value: float
    best_epoch: int
    test_value: float
    reached: float = math.nan
    further: str = ""
    remarks: tuple[str, ...] = ()
    logged: str | None = None
    out_of_memory: str | None = None

    @property
    def score_lines(self) -> list[str]:
        """Lines with the scores of the saved model."""
        epoch = f"on validation (epoch {self.best_epoch})"
        scores = f"{self.metric} {self.value:.6f} {epoch}, {self.test_value:.6f} on test"
        return [scores, *([self.further] if self.further else []), *self.remarks]


def run_training(
    config: RunConfig,
    folder: Path,
    *,
    console: Console,
    quiet: bool = False,
    origin: Origin | None = None,
    onnx: bool = False,
) -> TrainEnd:
    """Train, and save the best epoch as a model folder.

    Args:
        origin: search that found the configuration, for the model card; None without one.
        onnx: write the model as an ONNX file, too.

    Raises:
        UserError: the configuration still holds a space, or is predicted not to fit. Or its data, model or optimizer
            cannot be used, or ``folder`` is not empty.
    """
    if config.space is not None:
        raise UserError(
            "space: headroom train runs one configuration; export one with headroom export, or give -s space=null"
        )
    if os.path.isdir(folder) and any(folder.iterdir()):
        raise UserError(f"--to: {folder} is not empty; give a new folder")
    if onnx:
        check_onnx()
    check_own_folders()
    check_cpu(config)
    check_optimizers(config)
    check_combinations(config, model_names(config))
    config = with_classes_of_data(config)

    # torch and transformers take seconds to import, so the checks that can refuse the run come before.
    from trainables.devices.errors import is_out_of_memory
    from trainables.export import save_best_epoch
    from trainables.reports import TrialReport
    from trainables.threads import limit_threads
    from trainables.trial import TrialFolders, run_trial
    from trainables.worker import MemoryTakenError

    voice = Voice(console, quiet=quiet)
    say = voice.say
    folds = config.data.folds
    if folds is not None:
        say(f"note: data.folds {folds} is for searches: this run trains on one split, with the same data and test part")
        config = replace(config, data=replace(config.data, folds=None))
    settings = config.trial_settings()
    metric = settings.task.metric
    limit_threads(config.resources.cpu)
    values: list[float] = []
    ends: list[TrialReport] = []
    with voice, made_folder(folder, "--to"), scratch_folder("train") as scratch:
        cache, best = scratch / CACHE, scratch / "best"

        def report(trial_report: TrialReport) -> None:
            if trial_report.ended:
                ends.append(trial_report)
            if math.isnan(trial_report.value):
                return
            values.append(trial_report.value)
            say(f"epoch {trial_report.step} of {config.train.epochs}: {metric} {trial_report.value:.4f}")
            voice.doing(f"training epoch {trial_report.step + 1}")
            assert trial_report.checkpoint is not None
            if trial_report.value == max(values) and values.count(trial_report.value) == 1:
                shutil.rmtree(best, ignore_errors=True)
                trial_report.checkpoint.rename(best)
            else:
                shutil.rmtree(trial_report.checkpoint)

        try:
            with input_errors():
                check_families(config, model_names(config))
                for line in (*data_lines(config, from_here=True), *_what_differs(config)):
                    say(line)
                voice.doing("predicting the memory of the configuration")
                _check_it_fits(config, say)
                voice.doing("loading the model and training epoch 1")
                run_trial(settings, report=report, folders=TrialFolders(cache, scratch / "checkpoints"))
                if ends[-1].ended == "oom":
                    return _out_of_memory(folder, metric, ends[-1].reason)
                voice.doing("scoring the best epoch on validation and test, and saving it")
                describe = _describer(config, ends[-1].facts, origin)
                saved = save_best_epoch(settings, cache, best, folder, describe, onnx=onnx)
        except MemoryTakenError as error:
            return _out_of_memory(folder, metric, str(error))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return _out_of_memory(folder, metric, f"scoring the best epoch: {error}")
    return _end(config, saved, values.index(max(values)) + 1, ends[-1].facts)


def save_kept_checkpoint(
    config: RunConfig,
    checkpoint: Path,
    folder: Path,
    *,
    facts: Mapping[str, Any],
    origin: Origin,
    voice: Voice,
    onnx: bool = False,
) -> TrainEnd:
    """Save the checkpoint of a trial's best epoch as a model folder, without training.

    Args:
        config: the trial's configuration, pinned to it.
        facts: facts of the trial, as its study records them.
        origin: search of the trial, for the model card.
        onnx: write the model as an ONNX file, too.

    Raises:
        UserError: the data, the model or the optimizer of the configuration cannot be used.
    """
    check_own_folders()
    check_optimizers(config)
    config = with_classes_of_data(config)

    from trainables.devices.errors import is_out_of_memory
    from trainables.export import save_best_epoch
    from trainables.threads import limit_threads

    assert config.pinned is not None
    limit_threads(min(config.resources.cpu, cpu_cores()))
    with made_folder(folder, "--to"), scratch_folder("export") as scratch, input_errors():
        for line in _what_differs(config):
            voice.say(line)
        voice.doing("scoring the checkpoint on validation and test, and saving it")
        try:
            describe = _describer(config, facts, origin)
            settings = config.trial_settings()
            saved = save_best_epoch(settings, scratch / CACHE, checkpoint, folder, describe, onnx=onnx)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = f"scoring the checkpoint: {error}"
            return _out_of_memory(folder, config.trial_settings().task.metric, reason)
    return _end(config, saved, config.pinned.epoch or 0, facts)


def _describer(config: RunConfig, facts: Mapping[str, Any], origin: Origin | None) -> Callable[["BestEpoch"], str]:
    fingerprint = development_of(config).fingerprint
    return lambda saved: card_text(config, saved, facts, fingerprint, origin)


def _end(config: RunConfig, saved: "BestEpoch", best_epoch: int, facts: Mapping[str, Any]) -> TrainEnd:
    metric = config.task.metric
    return TrainEnd(
        saved.folder,
        metric,
        saved.validation[metric],
        best_epoch,
        saved.test[metric],
        saved.reached[metric],
        further=_further(config, saved.reached, facts),
        remarks=(
            *(["on test it gives one answer for every row (collapsed)"] if saved.collapsed else []),
            *(f"on test, {line}" for line in baseline_lines(baselines_in(saved.test, metric))),
            *cut_lines(facts.get("cut_share")),
            *_calibration_lines(saved.calibrations),
            *_onnx_lines(saved.onnx),
        ),
    )


def _calibration_lines(calibrations: "Mapping[str, Calibration]") -> list[str]:
    lines = []
    for question, calibration in calibrations.items():
        temperature = calibration.temperature
        note = f" ({temperature.note})" if temperature.note else ""
        errors = [f"{before:.3f} → {after:.3f} on {part}" for part, (before, after) in calibration.errors.items()]
        lines.append(
            f"{question} probabilities calibrated: temperature {temperature.value:.3g}{note},"
            f" calibration error {', '.join(errors)}"
        )
    return lines


def _onnx_lines(result: "OnnxResult | None") -> list[str]:
    if result is None:
        return []
    if result.problem is not None:
        return [f"note: no ONNX file was kept: {result.problem}"]
    return [f"ONNX file compared with the model on {result.rows} inputs: largest difference {result.difference:.1g}"]


def check_onnx() -> None:
    """Refuse to write an ONNX file without the packages that do.

    Raises:
        UserError: a package is not installed.
    """
    for package in ("onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"--onnx: needs the package {package}, which is not installed; run: pip install 'headroom-tune[onnx]'"
            )


def _further(config: RunConfig, scores: Mapping[str, float], facts: Mapping[str, Any]) -> str:
    """Return the further objectives beside the exported trial's values, such as ``peak_gib 0.0513 (trial: 0.0513)``."""
    objectives = config.objectives
    _, *values = measured(objectives, math.nan, scores, facts)
    shown = []
    for objective, value in zip(objectives[1:], values, strict=True):
        had = config.pinned.further.get(objective.name) if config.pinned else None
        beside = "" if had is None else f" (trial: {objective.shown(had)})"
        shown.append(f"{objective.name} {'unknown' if value is None else objective.shown(value)}{beside}")
    return ", ".join(shown)


def _out_of_memory(folder: Path, metric: str, reason: str | None) -> TrainEnd:
    return TrainEnd(folder, metric, math.nan, 0, math.nan, out_of_memory=reason)


def _check_it_fits(config: RunConfig, say: Callable[[str], None]) -> None:
    """Refuse a configuration that is predicted not to fit, unless its ``limits`` exclude ``predicted``.

    Raises:
        UserError: not even one sample fits, or there is no such model.
    """
    from search_spaces.rules import MemoryRule, Sample
    from trainables.devices.facts import trial_device
    from trainables.machine import MachineFiles
    from tune_app.screening.packing import Packing

    if "predicted" not in config.limits:
        return
    packing = Packing(
        config.trial_settings(),
        trial_device(config.memory.device_gib),
        gpus=1.0,
        passes=config.resources.passes,
        files=MachineFiles(),
        say=say,
    )
    violation = MemoryRule(packing.predict_fit).check(Sample.of(config.fixed_params()))
    if violation is not None:
        raise packing.refusal(violation, "this configuration", "use a smaller model.name or tok.max_length")


def _what_differs(config: RunConfig) -> list[str]:
    """Return the reasons, as lines, why an exported configuration may not reproduce its value here."""
    if config.pinned is None:
        return []
    notes = []
    if development_of(config).fingerprint != config.pinned.data_fingerprint:
        notes.append("note: the data differs from that of the trial, so its value cannot be reproduced")
    here = installed_versions()
    for package, version in config.pinned.versions.items():
        if here.get(package) != version:
            notes.append(
                f"note: {package} is {here.get(package)} here and was {version}; the value may differ slightly"
            )
    return notes
