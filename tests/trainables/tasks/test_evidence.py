"""Evidence task: spans to windows and back, its threshold, its baselines, and a gradient independent of the split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.data.rows import Rows
from trainables.data.tokens import Reading, TokenisedRows, tokenise_rows
from trainables.models.builtin import train_tokenizer
from trainables.models.load import load_tokenizer
from trainables.settings import TaskSettings, TokSettings, TrialSettings
from trainables.tasks.evidence import EvidenceTask, WindowExamples
from trainables.tasks.protocol import Scores

SENTENCES = ["She works a lot.", "He sleeps very badly these nights.", "Food tastes of nothing to her.", "They walk."]
EVIDENCE = "sleeps very badly"


def made_up_rows() -> Rows:
    """Return long and short texts, in half of which the evidence is early, late or across the end of a window."""
    draw = np.random.default_rng(5)
    texts, evidence = [], []
    for row in range(12):
        chosen = [SENTENCES[0], *draw.choice([SENTENCES[0], SENTENCES[2], SENTENCES[3]], size=1 + 3 * (row % 6))]
        if row % 2:
            chosen.insert(int(draw.integers(0, len(chosen))), SENTENCES[1])
        text = " ".join(chosen)
        start = text.find(EVIDENCE)
        texts.append(text)
        evidence.append((start, start + len(EVIDENCE)) if start >= 0 else (-1, -1))
    labels = np.array([int(start >= 0) for start, _ in evidence])
    groups = tuple(str(row) for row in range(len(texts)))
    return Rows(
        tuple(texts),
        ("trouble with sleep",) * len(texts),
        labels,
        groups,
        np.array(evidence, dtype=np.int64),
        ("0", "1"),
    )


@pytest.fixture(scope="module", params=["tiny-bert", "tiny-roberta", "tiny-deberta"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, TokenisedRows]:
    folder, rows = tmp_path_factory.mktemp("evidence"), made_up_rows()
    train_tokenizer(request.param, [*rows.texts, "trouble with sleep"], folder)
    return rows, tokenise_rows(rows, load_tokenizer(folder), Path(folder) / "cache")


@pytest.fixture
def evidence_settings(settings: TrialSettings) -> TrialSettings:
    return replace(settings, task=TaskSettings("evidence"), tok=TokSettings(max_length=32, doc_stride=12))


def made(data: tuple[Rows, TokenisedRows], settings: TrialSettings) -> tuple[EvidenceTask, WindowExamples]:
    rows, tokens = data
    task = EvidenceTask(settings)
    task.learn_from(rows, np.arange(len(rows)))
    return task, task.examples(rows, [Reading(tokens, 0)])


def perfect_kept(task: EvidenceTask, examples: WindowExamples, *, certainty: float = 5.0) -> torch.Tensor:
    """Return the span candidates of a model that is right about every window."""
    batch = examples.batch(np.arange(len(examples)))
    logits = torch.zeros(len(examples), int(examples.lengths.max()), 2)
    for number, (first, last) in enumerate(batch["span"].tolist()):
        logits[number, first, 0] = logits[number, last, 1] = certainty
    return task.outputs_to_score(logits, batch)


def score(task: EvidenceTask, outputs: torch.Tensor, rows: Rows, **given: dict[str, float]) -> Scores:
    return task.score(outputs, np.arange(len(rows)), **given)


def test_a_model_that_is_right_in_every_window_is_right(
    data: tuple[Rows, TokenisedRows], evidence_settings: TrialSettings
) -> None:
    task, examples = made(data, evidence_settings)
    assert len(examples) > len(data[0]), "some texts take several windows"
    scores = score(task, perfect_kept(task, examples), data[0])
    assert scores.metrics["exact_match"] == scores.metrics["token_f1"] == 1.0
    assert scores.metrics["answered"] == 0.5
    assert not scores.collapsed


def test_spans_in_windows_are_the_evidence(data: tuple[Rows, TokenisedRows], evidence_settings: TrialSettings) -> None:
    rows, tokens = data
    _, examples = made(data, evidence_settings)
    windows = examples.windows
    with_span = np.flatnonzero(examples.spans[:, 0])
    assert len(with_span)
    for number in with_span:
        row, shift = windows.row[number], windows.first[number] - windows.text_at[number]
        first, last = examples.spans[number] + shift
        spans = tokens.texts.spans_of(int(row))
        assert rows.texts[row][spans[first, 0] : spans[last, 1]].strip() == EVIDENCE
    for row in np.flatnonzero(rows.labels):
        assert examples.spans[windows.of_rows(np.array([row])), 0].any(), "it is whole in one of the row's windows"
    assert not examples.spans[windows.of_rows(np.flatnonzero(rows.labels == 0))].any()


def test_windows_of_a_row_weigh_as_much_as_a_row(
    data: tuple[Rows, TokenisedRows], evidence_settings: TrialSettings
) -> None:
    task, examples = made(data, evidence_settings)
    rows = np.array([0, 5, 11])
    batch = examples.batch(examples.inputs_of(rows))
    assert len(batch["weight"]) > 3
    assert task.counted(batch) == pytest.approx(3.0)


def test_the_threshold_is_tuned_or_fixed_or_that_of_another_part(
    data: tuple[Rows, TokenisedRows], evidence_settings: TrialSettings
) -> None:
    rows = data[0]
    task, examples = made(data, evidence_settings)
    outputs = perfect_kept(task, examples)
    # Outputs of a model that prefers to give no answer.
    outputs[:, 0] += 20.0
    tuned = score(task, outputs, rows)
    assert tuned.metrics["exact_match"] == 1.0
    assert tuned.decision["null_threshold"] < -5.0
    assert score(task, outputs, rows, decision={"null_threshold": 100.0}).collapsed
    fixed, _ = made(data, replace(evidence_settings, task=TaskSettings("evidence", null_threshold=0.0)))
    scores = score(fixed, outputs, rows)
    assert scores.decision == {"null_threshold": 0.0}
    assert scores.metrics["exact_match"] == scores.metrics["empty_exact_match"] == 0.5


def test_a_span_is_no_longer_than_is_allowed(
    data: tuple[Rows, TokenisedRows], evidence_settings: TrialSettings
) -> None:
    short = replace(evidence_settings, task=TaskSettings("evidence", max_answer_length=1))
    task, examples = made(data, short)
    assert score(task, perfect_kept(task, examples), data[0]).metrics["has_evidence_exact_match"] == 0.0


def test_the_baselines_are_what_they_say(data: tuple[Rows, TokenisedRows], evidence_settings: TrialSettings) -> None:
    rows = data[0]
    task, examples = made(data, evidence_settings)
    metrics = score(task, perfect_kept(task, examples), rows).metrics
    assert metrics["empty_exact_match"] == metrics["empty_token_f1"] == 0.5
    # The evidence is never the first three words of a text, unless the sentence comes first.
    assert metrics["first_words_exact_match"] == 0.0


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_the_gradient_does_not_depend_on_the_cut(
    data: tuple[Rows, TokenisedRows], evidence_settings: TrialSettings, pieces: int
) -> None:
    task, examples = made(data, evidence_settings)
    torch.manual_seed(0)
    whole_batch = examples.batch(np.arange(len(examples)))
    length = int(examples.lengths.max())
    logits = torch.randn(len(examples), length, 2, requires_grad=True)
    counted = task.counted(whole_batch)
    (whole,) = torch.autograd.grad(task.loss_sum(logits, whole_batch) / counted, logits)
    parts = np.array_split(np.arange(len(examples)), pieces)
    batches = [examples.batch(part) for part in parts]
    assert sum(map(task.counted, batches)) == pytest.approx(counted, rel=1e-6)
    loss = sum(
        task.loss_sum(logits[part][:, : batch["input_ids"].shape[1]], batch)
        for part, batch in zip(parts, batches, strict=True)
    )
    (cut,) = torch.autograd.grad(loss / counted, logits)
    torch.testing.assert_close(cut, whole, atol=1e-6, rtol=1e-5)


def test_a_criterion_has_its_own_scores(data: tuple[Rows, TokenisedRows], evidence_settings: TrialSettings) -> None:
    task, examples = made(data, evidence_settings)
    own = score(task, perfect_kept(task, examples), data[0]).breakdowns["by_criterion"]
    assert own == {"trouble with sleep": {"rows": 12.0, "positives": 6.0, "exact_match": 1.0, "token_f1": 1.0}}


def test_spans_have_scores_by_their_length(data: tuple[Rows, TokenisedRows], evidence_settings: TrialSettings) -> None:
    task, examples = made(data, evidence_settings)
    by_length = score(task, perfect_kept(task, examples), data[0], decision={"null_threshold": 1e9}).breakdowns[
        "by_span_length"
    ]
    assert by_length == {
        "no span": {"rows": 6.0, "exact_match": 1.0, "token_f1": 1.0},
        "3–5": {"rows": 6.0, "exact_match": 0.0, "token_f1": 0.0},
    }, "the answer is no span everywhere"
