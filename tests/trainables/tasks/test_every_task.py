"""Contract of every task: it learns, splits exactly, needs the predicted memory, is reproducible, and can be saved."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.devices.counting import uncounted
from trainables.devices.cpu import CpuDevice
from trainables.devices.host import GIB
from trainables.export import calibrate
from trainables.reports import TrialReport
from trainables.saved import load_model_folder, save_model_folder
from trainables.session import TrainingSession
from trainables.settings import (
    AugmentSettings,
    HeadSettings,
    LossSettings,
    OptimSettings,
    TokSettings,
    TrialSettings,
    with_params,
)
from trainables.task_registry import TASKS
from trainables.tasks import build_task
from trainables.training.split import micro_batches
from trainables.training.step import accumulate_gradient
from trainables.trial import TrialFolders, run_trial

SessionOf = Callable[[TrialSettings], TrainingSession]


@pytest.fixture(params=TASKS)
def task_settings(request: pytest.FixtureRequest, settings: TrialSettings) -> TrialSettings:
    """Return settings with short inputs, so that rows of tasks with windows need several."""
    return replace(
        with_params(settings, {"task.name": request.param, "model.name": "tiny-bert", "train.batch_size": 8}),
        tok=TokSettings(max_length=24, doc_stride=6),
        head=HeadSettings(dropout=0.0),
        optim=OptimSettings(lr=3e-3),
    )


def test_its_objective_is_among_the_scores_and_all_are_finite(
    task_settings: TrialSettings, session_of: SessionOf
) -> None:
    session = session_of(task_settings)
    scores = session.evaluate("validation")
    assert task_settings.task.metric in scores.metrics
    assert all(np.isfinite(value) for value in scores.metrics.values())
    assert scores.decision.items() <= scores.metrics.items()
    again = session.evaluate("validation", scores.decision)
    assert again.metrics == scores.metrics, "its own thresholds are those of the part"


def test_the_loss_falls(task_settings: TrialSettings, session_of: SessionOf) -> None:
    session = session_of(task_settings)
    first, *_, last = [session.train_epoch() for _ in range(3)]
    assert last < first


@pytest.mark.parametrize(
    "loss", [LossSettings(), LossSettings("focal", class_weighting="inverse")], ids=["plain", "focal"]
)
def test_the_gradient_is_that_of_the_batch_in_one_pass(
    task_settings: TrialSettings, loss: LossSettings, session_of: SessionOf
) -> None:
    session = session_of(replace(task_settings, loss=loss))
    for module in session.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for config in (encoder.config for encoder in session._encoders):
        config.attention_probs_dropout_prob = 0.0
    inputs = session.examples.inputs_of(session.inputs.part("train")[:8])
    longest = int(session.examples.lengths.max())
    limits = replace(
        session.batch_limits.row_limits, alone=np.full(longest + 1, 3), accumulating=np.full(longest + 1, 3)
    )
    pieces = micro_batches(inputs, session.examples.lengths, limits)
    assert len(pieces) > 1

    def gradient(parts: list[np.ndarray]) -> list[torch.Tensor]:
        session.model.eval()
        session.optimizer.zero_grad(set_to_none=True)
        batches = [session.examples.batch(part) for part in parts]
        counted = sum(map(session.task.counted, batches))
        accumulate_gradient(session.model, session.task, batches, counted, "fp32")
        return [p.grad.clone() for p in session.model.parameters() if p.grad is not None]

    whole, cut = gradient([inputs]), gradient(pieces)
    assert len(whole) > 10
    for one, other in zip(whole, cut, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "native"])
def test_its_steps_need_what_was_predicted(
    pooling: str, task_settings: TrialSettings, cache: Path, machine_folder: Path
) -> None:
    if not TASKS[task_settings.task.name].takes_pooling(pooling):
        pytest.skip("the task has no such head")
    task_settings = with_params(task_settings, {"head.pooling": pooling})
    from trainables.machine import MachineFiles
    from trainables.planning.rehearsal import rehearsing

    device, length = CpuDevice(0.5), task_settings.tok.max_length
    with device.enforce():
        # Live tensors of other test modules are no need of this trial, but must not be freed while it is measured.
        gc.collect()
        held = device.live_bytes()
        session = TrainingSession(task_settings, cache, device)
        session.plan_memory(MachineFiles(machine_folder))
        plan = session.batch_limits._plan
        with rehearsing(
            session.model, session.task, session.optimizer, device, clip_norm=1.0, precision="fp32"
        ) as rehearsal:
            trained = rehearsal.training_peak(6, length, accumulating=True)
            evaluated = rehearsal.evaluation_peak(9, length)
    assert trained is not None
    assert evaluated is not None
    assert plan.need_gib(6, length, 2) == pytest.approx((trained - held) / GIB, rel=0.002)
    assert plan.eval_need_gib(9, length) == pytest.approx((evaluated - held) / GIB, rel=0.002)


def test_a_trial_gives_the_same_values_twice(task_settings: TrialSettings, cache: Path, tmp_path: Path) -> None:
    values = []
    for run in range(2):
        reports: list[TrialReport] = []
        once = with_params(task_settings, {"train.epochs": 1, "rungs.per_epoch": 2, "rungs.rows": 10})
        run_trial(once, report=reports.append, folders=TrialFolders(cache, tmp_path / str(run)))
        assert [trial_report.ended for trial_report in reports] == [None, "complete"]
        values.append([(trial_report.value, trial_report.metrics) for trial_report in reports])
    assert values[0] == values[1]


def test_the_saved_model_answers_the_same(task_settings: TrialSettings, session_of: SessionOf, tmp_path: Path) -> None:
    session = session_of(replace(task_settings, head=HeadSettings("mean", layers=1, width=16)))
    session.train_epoch()
    decision = session.evaluate("validation").decision
    tokenizers = [reader.tokenizer for reader in session.inputs.readers]
    save_model_folder(session.model, tokenizers, tmp_path / "m", settings=session.settings, decision=decision)
    saved = load_model_folder(tmp_path / "m")
    batch = session.examples.batch(session.examples.inputs_of(session.inputs.part("validation")[:6]))
    task = build_task(saved.settings)
    with torch.no_grad(), uncounted():
        expected = session.task.outputs_to_score(session.model.eval()(batch), batch)
        torch.testing.assert_close(task.outputs_to_score(saved.model(batch), batch), expected, atol=0.0, rtol=0.0)
    assert saved.decision == decision
    assert len(saved.tokenizers) == len(tokenizers)


def test_calibrated_outputs_are_as_likely_as_the_temperature_made_them(
    task_settings: TrialSettings, session_of: SessionOf
) -> None:
    session = session_of(task_settings)
    session.train_epoch()
    before = session.choices("validation")
    calibrations = calibrate(session, session.evaluate("validation").decision, ["validation"])
    after = session.choices("validation")
    finds_spans, chooses_class = task_settings.task.finds_spans, task_settings.task.name != "evidence"
    assert ("class" in calibrations, "span" in calibrations) == (chooses_class, finds_spans)
    for question, calibration in calibrations.items():
        temperature = calibration.temperature.value
        assert after[question].loss(1.0) == pytest.approx(before[question].loss(temperature), abs=1e-5)
        assert after[question].loss(1.0) <= before[question].loss(1.0) + 1e-5
        assert calibration.errors["validation"][1] == pytest.approx(after[question].error(1.0), abs=1e-4)


@pytest.mark.parametrize("way", ["mask", "delete", "swap"])
def test_inputs_that_are_augmented_are_shorter_at_most_and_hold_the_same_evidence(
    way: str, task_settings: TrialSettings, session_of: SessionOf
) -> None:
    session = session_of(replace(task_settings, augment=AugmentSettings(way, probability=0.7, strength=0.4)))
    train = session.inputs.part("train")
    plain, augmented = session.examples, session._augmented_in(1)
    inputs = plain.inputs_of(train)
    assert augmented.counts.tolist() == plain.counts.tolist()
    assert augmented.inputs_of(train).tolist() == inputs.tolist()
    assert (augmented.lengths <= plain.lengths).all()
    assert (augmented.lengths < plain.lengths).any() == (way == "delete")
    changed = spans = 0
    for number in inputs.tolist():
        before, after = plain.batch([number]), augmented.batch([number])
        widths = [tensor.shape[1] for name, tensor in after.items() if name.endswith("input_ids")]
        assert augmented.lengths[number] == max(widths)
        changed += any(not torch.equal(before[name], after[name]) for name in before if name.endswith("input_ids"))
        assert torch.equal(before["labels"], after["labels"])
        if "span" in before:
            own = [
                batch["input_ids"][0, slice(batch["span"][0, 0], batch["span"][0, 1] + 1)] for batch in (before, after)
            ]
            assert torch.equal(*own)
            assert (before["span"] > 0).equal(after["span"] > 0)
            spans += int(before["span"][0, 0] > 0)
    assert 0.4 < changed / len(inputs) < 0.9
    assert (spans > 0) == task_settings.task.finds_spans
    # Rows outside the training part stay unchanged.
    for number in plain.inputs_of(session.inputs.part("validation")).tolist():
        before, after = plain.batch([number]), augmented.batch([number])
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_resumed_epoch_is_augmented_as_it_would_have_been(
    task_settings: TrialSettings, session_of: SessionOf, tmp_path: Path
) -> None:
    # This augmentation changes the most, including the lengths.
    settings = replace(task_settings, augment=AugmentSettings("delete", probability=0.5, strength=0.3))

    def epoch(session: TrainingSession) -> float:
        loss = session.train_epoch()
        session.progress.values.append(0.0)
        return loss

    straight = session_of(settings)
    losses = [epoch(straight) for _ in range(2)]
    first = session_of(settings)
    assert epoch(first) == losses[0]
    folder = first.save(tmp_path / "epoch-1")
    second = session_of(settings)
    second.resume(folder)
    assert epoch(second) == losses[1]
    weights, resumed = straight.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_without_augmentation_the_examples_are_the_rows(task_settings: TrialSettings, session_of: SessionOf) -> None:
    session = session_of(task_settings)
    assert session._augmented_in(1) is session.examples
