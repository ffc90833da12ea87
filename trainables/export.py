"""The last steps of a training run that saves its model: load the best epoch's weights, calibrate, score, save them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainables.data.model_inputs import ModelInputs
from trainables.devices.current import current_device
from trainables.inputs import Inputs, Part
from trainables.machine import MachineFiles
from trainables.models.heads import Answering, rescale_outputs
from trainables.models.native import NativeModel
from trainables.onnx_model import OnnxResult, write_onnx
from trainables.saved import save_model_folder
from trainables.session import TrainingSession
from trainables.settings import TrialSettings
from trainables.task_entry import CLASS, SPAN
from trainables.tasks.calibration import Calibration, fit_temperature, softened_probability
from trainables.tasks.criteria import THRESHOLD
from trainables.tasks.evidence import NULL_THRESHOLD
from trainables.tasks.protocol import Batch, Decision, Scores

_ONNX_INPUTS = 24
"""Number of inputs of the validation part on which an ONNX file is compared with the model."""


@dataclass(frozen=True)
class BestEpoch:
    """Scores of the saved model on the two parts that it was not trained on.

    Attributes:
        reached: metrics on validation before calibration, as the training reported them.
        calibrations: calibration of each question that the model answers.
        parts: rows and groups of each part of the data.
        has_criterion: whether the data holds criteria beside its texts.
        parameters: number of the model's parameters.
        onnx: result of writing the model as an ONNX file; None if none was asked for.
        collapsed: whether the model gives every row of the test part the same answer although the true answers differ.
    """

    folder: Path
    reached: Mapping[str, float]
    validation: Mapping[str, float]
    test: Mapping[str, float]
    calibrations: Mapping[str, Calibration]
    parts: Mapping[str, tuple[int, int]]
    has_criterion: bool
    parameters: int
    collapsed: bool
    onnx: OnnxResult | None = None


def save_best_epoch(
    settings: TrialSettings,
    cache: Path,
    checkpoint: Path,
    folder: Path,
    describe: Callable[[BestEpoch], str] | None = None,
    *,
    onnx: bool = False,
) -> BestEpoch:
    """Load the checkpoint of the best epoch, calibrate it, score it on validation and test, and save it.

    Args:
        describe: returns the model card; None writes none.
        onnx: write ``model.onnx``, too.

    Raises:
        FileExistsError: ``folder`` exists and is not empty.
        torch.OutOfMemoryError, MemoryExhaustedError: the memory budget of the settings does not suffice.
    """
    device = current_device(settings.memory.budget_gib, device_gib=settings.memory.device_gib)
    with device.enforce():
        session = TrainingSession(settings, cache, device, with_test=True)
        session.plan_memory(MachineFiles())
        session.resume(checkpoint)
        reached = session.evaluate("validation")
        calibrations = calibrate(session, reached.decision)
        validation = _evaluate_calibrated(session, calibrations) if calibrations else reached
        test = session.evaluate("test", validation.decision)
        best = BestEpoch(
            folder,
            reached.metrics,
            validation.metrics,
            test.metrics,
            calibrations,
            parts=_sizes(session.inputs),
            has_criterion=session.inputs.rows.criteria is not None,
            parameters=sum(parameter.numel() for parameter in session.model.parameters()),
            collapsed=test.collapsed,
        )
        tokenizers = [reader.tokenizer for reader in session.inputs.readers]
        save_model_folder(
            session.model,
            tokenizers,
            folder,
            settings=settings,
            decision=validation.decision,
            scores={"validation": validation, "test": test},
            calibrations=calibrations,
            inputs=ModelInputs.of(settings.data.columns, session.inputs.rows, session.inputs.part("train")),
            card=None if describe is None else describe(best),
        )
        rows = _some_rows(session) if onnx else []
    return replace(best, onnx=write_onnx(folder, rows)) if onnx else best


def _some_rows(session: TrainingSession) -> list[Batch]:
    """Return batches of one and of several inputs of the validation part."""
    inputs = session.examples.inputs_of(session.inputs.part("validation"))
    parts = np.split(inputs[:_ONNX_INPUTS], [1, _ONNX_INPUTS // 4])
    return [session.examples.batch(part) for part in parts if len(part)]


def _sizes(inputs: Inputs) -> dict[str, tuple[int, int]]:
    """Return the number of rows and of groups of each part of the data."""
    groups = inputs.rows.groups
    parts = {"training": inputs.split.train, "validation": inputs.split.validation, "test": inputs.split.test}
    return {name: (len(rows), len({groups[row] for row in rows})) for name, rows in parts.items()}


def calibrate(
    session: TrainingSession, decision: Decision, parts: Sequence[Part] = ("validation", "test")
) -> dict[str, Calibration]:
    """Fit a temperature for each question on the first part, and divide the model's outputs by it.

    A softmax of the outputs is calibrated then. A task or a model that does not name its outputs stays as it is.

    Stock tools answer with the likeliest class. The two classes of a ``native`` model are therefore shifted first, so
    that the threshold lies where both are equally likely, and stock tools give the same answers.

    Args:
        decision: thresholds that were chosen on the first part.
        parts: parts of the data whose calibration errors are measured.
    """
    layers = session.model.output_layers if isinstance(session.model, Answering) else {}
    choices = {part: session.choices(part) for part in parts} if layers else {}
    calibrations: dict[str, Calibration] = {}
    for question, fitted_on in choices.get(parts[0], {}).items():
        is_shifted = question == CLASS and THRESHOLD in decision and isinstance(session.model, NativeModel)
        shift = fitted_on.margin_at(decision[THRESHOLD]) if is_shifted else 0.0
        temperature = fit_temperature(fitted_on)
        if shift:
            # The rows chose the threshold themselves, so they look better around it than others would. A shift may make
            # answers less certain, but not more.
            temperature = max(temperature, fit_temperature(fitted_on.shifted(shift)), key=lambda each: each.value)
        errors: dict[str, tuple[float, float]] = {}
        for part, of_part in choices.items():
            before = of_part[question]
            after = before.shifted(shift) if shift else before
            errors[part] = before.error(1.0), after.error(temperature.value)
        calibrations[question] = Calibration(temperature, len(fitted_on.truth), errors, shift)
    # Change the outputs only now: the errors before calibration are those of the outputs as trained.
    for question, calibration in calibrations.items():
        rescale_outputs(layers[question], calibration.temperature.value, calibration.shift)
    return calibrations


def _evaluate_calibrated(session: TrainingSession, calibrations: Mapping[str, Calibration]) -> Scores:
    """Return the scores on validation: tuned thresholds are tuned anew, others give the answers that they gave."""
    scores = session.evaluate("validation")
    carried = _carried_over(session, calibrations)
    if carried.items() <= scores.decision.items():
        return scores
    return session.evaluate("validation", {**scores.decision, **carried})


def _carried_over(session: TrainingSession, calibrations: Mapping[str, Calibration]) -> Decision:
    """Return thresholds that are fixed, or part of the outputs now, on the scale of calibrated outputs."""
    task = session.settings.task
    temperatures = {question: calibration.temperature.value for question, calibration in calibrations.items()}
    carried: dict[str, float] = {}
    if task.count == 2 and CLASS in temperatures and isinstance(session.model, NativeModel):
        carried[THRESHOLD] = 0.5
    elif task.count == 2 and CLASS in temperatures and not isinstance(task.threshold, str):
        carried[THRESHOLD] = softened_probability(float(task.threshold), temperatures[CLASS])
    if SPAN in temperatures and not isinstance(task.null_threshold, str):
        # The margin of a span is a difference of outputs.
        carried[NULL_THRESHOLD] = float(task.null_threshold) / temperatures[SPAN]
    return carried
