"""Every family of encoders in every task, at tiny size: load, probe, train, evaluate, save, load again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from trainables.devices.cpu import CpuDevice
from trainables.devices.host import GIB
from trainables.export import calibrate
from trainables.machine import MachineFiles
from trainables.models.families import Architecture, head_obstacle
from trainables.planning.needs import encoder_config
from trainables.saved import load_model_folder, save_model_folder
from trainables.seeds import trial_seeds
from trainables.session import TrainingSession
from trainables.settings import (
    DataSettings,
    HeadSettings,
    OptimSettings,
    TokSettings,
    TrainSettings,
    TrialSettings,
    with_params,
)
from trainables.stand_ins import small_model
from trainables.task_registry import TASKS
from trainables.tasks import build_task

FAMILIES = {
    "bert": "bert-base-uncased",
    "roberta": "roberta-base",
    "xlm-roberta": "xlm-roberta-base",
    "deberta-v2": "microsoft/deberta-v3-base",
    "electra": "google/electra-base-discriminator",
    "distilbert": "distilbert-base-uncased",
    "albert": "albert-base-v2",
    "modernbert": "answerdotai/ModernBERT-base",
    "camembert": "camembert-base",
    "deberta": "microsoft/deberta-base",
    "mpnet": "microsoft/mpnet-base",
    "eurobert": "EuroBERT/EuroBERT-210m",
}

AUTO = {"criteria": AutoModelForSequenceClassification, "evidence": AutoModelForQuestionAnswering}

BUDGET_GIB = 0.02
"""Budget so small that a batch of long inputs takes several passes."""


@pytest.fixture(scope="module", params=FAMILIES)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small encoder of the family with weights, built like the published one."""
    folder = tmp_path_factory.mktemp(request.param)
    return small_model(encoder_config(FAMILIES[request.param], None), folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


def _pooling(encoder: Path, task: str) -> str:
    """Return ``native`` for the tasks and families that have such a head."""
    family = json.loads((encoder / "config.json").read_text())["model_type"]
    return "native" if head_obstacle(task, "native", Architecture(family)) is None else "mean"


@pytest.mark.parametrize("task", TASKS)
def test_a_family_does_a_task(encoder: Path, task: str, shared: Path, tmp_path: Path) -> None:
    settings = TrialSettings(
        DataSettings("demo", max_rows=48),
        trial_seeds(0),
        head=HeadSettings(_pooling(encoder, task), layers=1, width=16),
        tok=TokSettings(max_length=32, doc_stride=8),
        optim=OptimSettings(lr=1e-3),
        train=TrainSettings(batch_size=16, epochs=1),
    )
    settings = with_params(settings, {"task.name": task, "model.name": str(encoder)})
    device = CpuDevice(BUDGET_GIB)
    with device.enforce():
        session = TrainingSession(settings, shared / "cache", device)
        session.plan_memory(MachineFiles(shared / "machine"))
        weights = next(session.model.parameters())
        before = weights.detach().clone()
        device.reset_peak()
        loss = session.train_epoch()
        scores = session.evaluate("validation")
        peak_gib = device.peak_bytes() / GIB
    assert loss > 0
    assert session.progress.recoveries == 0, "what was predicted and probed fits"
    assert peak_gib <= BUDGET_GIB
    assert session.steps_per_epoch >= 2
    assert not torch.equal(weights, before)

    calibrate(session, scores.decision, ["validation"])
    tokenizers = [reader.tokenizer for reader in session.inputs.readers]
    save_model_folder(
        session.model, tokenizers, tmp_path / "model", settings=settings, decision=scores.decision, scores={"v": scores}
    )
    saved = load_model_folder(tmp_path / "model")
    inputs = session.examples.inputs_of(session.inputs.part("validation"))
    batch = session.examples.batch(inputs)
    with torch.no_grad():
        expected_logits = session.model.eval()(batch)
        expected = session.task.outputs_to_score(expected_logits, batch)
        got = build_task(replace(settings, task=saved.settings.task)).outputs_to_score(saved.model(batch), batch)
    assert torch.equal(got, expected)
    assert saved.decision == scores.decision
    if settings.head.pooling == "native":
        torch.testing.assert_close(_stock_outputs(tmp_path / "model", task, batch), expected_logits, atol=1e-5, rtol=0)


def _stock_outputs(folder: Path, task: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the outputs of the saved model as transformers loads it."""
    model: Any
    model, report = AUTO[task].from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), "nothing is missing, left over or of another shape"
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    if model.config.model_type in ("distilbert", "modernbert", "mpnet", "eurobert"):
        inputs.pop("token_type_ids", None)
    elif getattr(model.config, "type_vocab_size", 2) < 2:
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    outputs = model.eval()(**inputs)
    if task == "criteria":
        assert model.config.problem_type == "single_label_classification"
        return outputs.logits.detach()
    return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1).detach()
