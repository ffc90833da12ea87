"""ONNX file of a saved model: the model's answers at any size, or none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trainables.onnx_model as onnx_model
from trainables.models.builtin import train_tokenizer
from trainables.models.load import load_encoder, load_tokenizer
from trainables.models.names import resolve_model
from trainables.onnx_model import write_onnx
from trainables.saved import save_model_folder
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, TokSettings, TrialSettings, with_params
from trainables.tasks import build_task
from trainables.tasks.protocol import Batch

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TEXTS = ["She sleeps badly, and nothing tastes of anything.", "a b café c d e f"]
Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Return a function that saves a fresh model of a task, and returns its folder."""

    def save(name: str, params: dict[str, Any]) -> Path:
        train_tokenizer(name, TEXTS, tmp_path / "tokenizer")
        settings = with_params(TrialSettings(DataSettings("none"), trial_seeds(0), tok=TokSettings(40)), params)
        encoders = [
            load_encoder(resolve_model(name), seed=seed, tokenizer_folder=tmp_path / "tokenizer")
            for seed in range(2 if settings.task.name == "joint" else 1)
        ]
        model = build_task(settings).build_model(encoders, seed=3)
        tokenizers = [load_tokenizer(tmp_path / "tokenizer") for _ in encoders]
        save_model_folder(model, tokenizers, tmp_path / "model", settings=settings, decision={})
        return tmp_path / "model"

    return save


def batch_of(rows: int, length: int, prefixes: tuple[str, ...] = ("",)) -> Batch:
    ids = torch.randint(5, 30, (rows, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(ids)
    mask[-1, -2:] = 0
    one = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {f"{prefix}{name}": tensor for prefix in prefixes for name, tensor in one.items()}


@pytest.mark.parametrize(
    ("name", "params", "prefixes", "inputs", "outputs"),
    [
        ("tiny-deberta", {"head.pooling": "native", "task.name": "evidence"}, ("",), 2, ["logits"]),
        (
            "tiny-roberta",
            {"head.pooling": "attention", "task.name": "joint"},
            ("", "criteria_"),
            4,
            ["logits", "span_"],
        ),
    ],
    ids=["native DeBERTa", "two encoders"],
)
def test_the_file_answers_as_the_model_at_any_size(
    name: str, params: dict[str, Any], prefixes: tuple[str, ...], inputs: int, outputs: list[str], saved: Saved
) -> None:
    folder = saved(name, params)
    result = write_onnx(folder, [batch_of(rows, length, prefixes) for rows, length in ((1, 9), (3, 30), (2, 14))])
    assert result.problem is None
    assert result.difference is not None
    assert result.difference < 1e-5
    assert result.rows == 6
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    assert len(session.get_inputs()) == inputs
    assert all(shown.name.startswith(start) for shown, start in zip(session.get_outputs(), outputs, strict=True))
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_file_that_answers_otherwise_is_not_kept(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved("tiny-bert", {"head.pooling": "native"})
    before = sorted(path.name for path in folder.iterdir())

    def fails(*_: object) -> None:
        raise NotImplementedError("no such operation")

    monkeypatch.setattr(onnx_model, "_run", lambda file, batch, names: [torch.full((1, 2), 9.0)])
    monkeypatch.setattr(onnx_model, "_export", lambda model, batch, names, outputs, file: file.touch())
    result = write_onnx(folder, [batch_of(1, 9)])
    assert result.problem is not None
    assert result.problem.startswith("it differs from the model by ")
    monkeypatch.setattr(onnx_model, "_export", fails)
    assert write_onnx(folder, [batch_of(1, 9)]).problem == "NotImplementedError: no such operation"
    assert sorted(path.name for path in folder.iterdir()) == before
