"""Answers of a saved model to many rows: those that it gives to each row alone, in the rows' order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.data.demo import demo_rows
from trainables.devices.cpu import CpuDevice
from trainables.devices.errors import MemoryExhaustedError
from trainables.machine import MachineFiles
from trainables.planning import inference_limits
from trainables.prediction.columns import as_columns
from trainables.prediction.predictor import Predictor
from trainables.saved import load_model_folder
from trainables.tasks.protocol import Answers

ROWS = demo_rows().sample(40, random_state=0)
TEXTS, CRITERIA = ROWS.text.tolist(), ROWS.criterion.tolist()


def answers(folder: Path, texts: list[str], criteria: list[str] | None, budget_gib: float | None = None) -> Answers:
    device = CpuDevice(budget_gib)
    with device.enforce():
        predictor = Predictor(load_model_folder(folder), device, MachineFiles())
        return predictor.answers(predictor.tokenised(texts, criteria))


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "pooler", "attention", "native"])
def test_a_row_among_others_gets_the_probabilities_of_the_row_alone(
    pooling: str, save_tiny_model: Callable[..., Path]
) -> None:
    folder = save_tiny_model(pooling=pooling, labels=("a", "b", "c"))
    saved = load_model_folder(folder)
    alone = []
    for criterion, text in zip(CRITERIA, TEXTS, strict=True):
        encoded = saved.tokenizers[0](criterion, text, truncation="only_second", max_length=48, return_tensors="pt")
        with torch.no_grad():
            alone.append(saved.model(encoded).softmax(dim=-1)[0].numpy())
    got = answers(folder, TEXTS, CRITERIA)
    assert got.probabilities is not None
    assert got.spans is None
    assert np.abs(got.probabilities - np.array(alone)).max() < 1e-5
    assert got.classes is not None
    assert got.classes.tolist() == np.argmax(alone, axis=1).tolist()
    assert len(set(got.classes.tolist())) > 1


def test_the_threshold_of_the_folder_decides(save_tiny_model: Callable[..., Path]) -> None:
    probabilities = answers(save_tiny_model(), TEXTS, CRITERIA).probabilities
    assert probabilities is not None
    threshold = float(np.median(probabilities[:, 1]))
    classes = answers(save_tiny_model(decision={"threshold": threshold}), TEXTS, CRITERIA).classes
    assert classes is not None
    assert classes.tolist() == (probabilities[:, 1] > threshold).astype(int).tolist()
    assert 0 < classes.sum() < len(classes)


@pytest.mark.parametrize(
    ("task", "pooling"), [("evidence", "cls"), ("evidence", "native"), ("share", "mean"), ("joint", "attention")]
)
def test_spans_are_characters_of_the_text_as_it_stands(
    task: str, pooling: str, save_tiny_model: Callable[..., Path]
) -> None:
    hard = "Ich schlafe \U0001f634\r\nschlecht; cafe\u0301, \U0001f469\u200d\U0001f469\u200d\U0001f467! " + TEXTS[0]
    texts = [hard, "  ", *TEXTS[:6], hard * 9]
    folder = save_tiny_model(task, pooling=pooling)
    got = answers(folder, texts, CRITERIA[: len(texts)])
    columns = as_columns(got, texts, load_model_folder(folder).settings.task)
    found = list(
        zip(texts, columns["predicted_start"], columns["predicted_end"], columns["predicted_text"], strict=True)
    )
    assert found[1][1:] == (None, None, "")
    for text, start, end, span in found[:1] + found[2:]:
        assert isinstance(start, int)
        assert isinstance(end, int)
        assert text[start:end] == span == str(span).strip() != ""
    assert ("predicted_label" in columns) == (task != "evidence")


def test_no_span_where_the_folder_asks_for_more_certainty(save_tiny_model: Callable[..., Path]) -> None:
    got = answers(save_tiny_model("evidence", decision={"null_threshold": 1e9}), TEXTS, CRITERIA)
    assert got.spans is not None
    assert (got.spans == -1).all()


def test_a_long_text_is_read_to_its_end_in_windows(save_tiny_model: Callable[..., Path]) -> None:
    long = " ".join(TEXTS)
    folder = save_tiny_model("evidence")
    ends = answers(folder, [long, long[:60]], CRITERIA[:2]).spans
    assert ends is not None
    # Of a text cut to one window no span could lie behind it.
    shifted = answers(folder, [long[200:]], CRITERIA[:1]).spans
    assert shifted is not None
    assert ends[0, 1] > 200 or shifted[0, 1] > 200


def test_a_small_budget_takes_smaller_passes_and_gives_the_same_answers(
    save_tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny_model()
    whole = answers(folder, TEXTS, CRITERIA).probabilities
    tight = answers(folder, TEXTS, CRITERIA, budget_gib=0.0022).probabilities
    # Without a probe, and with a budget that the prediction takes for more than it is, passes run out of memory.
    monkeypatch.setattr(inference_limits, "_CERTAIN", 1e9)
    monkeypatch.setattr(inference_limits.InferencePlan, "need_gib", lambda *_: 0.0)
    monkeypatch.setattr(
        inference_limits.InferencePlan, "most_rows", lambda _, __, lengths: np.full(len(lengths), 2**20)
    )
    shrunk: list[int] = []
    shrink = inference_limits.InferenceLimits.shrink
    monkeypatch.setattr(
        inference_limits.InferenceLimits,
        "shrink",
        lambda self, rows, length: shrunk.append(rows) or shrink(self, rows, length),
    )
    recovered = answers(folder, TEXTS, CRITERIA, budget_gib=0.0022).probabilities
    assert len(shrunk) > 1
    assert whole is not None
    assert tight is not None
    assert recovered is not None
    assert np.abs(whole - tight).max() < 1e-5
    assert np.abs(whole - recovered).max() < 1e-5
    with pytest.raises(MemoryExhaustedError):
        answers(folder, TEXTS, CRITERIA, budget_gib=0.0019)
