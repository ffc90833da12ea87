"""Task ``evidence``: which words of the text show the criterion, if any."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.data.augment import AugmentedTexts
from trainables.data.rows import Rows
from trainables.data.tokens import Reading, Texts, TokenColumn, pad_batch, tokens_of_characters
from trainables.data.windows import Windows, cut_windows, window_example
from trainables.models.load import LoadedEncoder
from trainables.models.native import NativeModel
from trainables.models.spans import SpanModel
from trainables.reports import BY_CRITERION, BY_SPAN_LENGTH, Breakdown, Breakdowns
from trainables.settings import TaskSettings, TokSettings, TrialSettings
from trainables.task_entry import NATIVE, SPAN
from trainables.tasks.calibration import Choices
from trainables.tasks.criteria import MOST_CRITERIA, full_inputs
from trainables.tasks.losses import SpanLoss
from trainables.tasks.protocol import Answers, Batch, Decision, Scores
from trainables.tasks.spans import BestSpans, best_spans, candidates, flat, masked, trimmed
from trainables.tasks.squad import exact_match, token_f1
from trainables.tasks.thresholds import best_cut, cuts, yes_counts

NULL_THRESHOLD = "null_threshold"
"""Name of the threshold for the margin over no span: the best span is the answer if its margin is above it."""

_NO_PREFERENCE = 0.0
_LENGTHS = (("no span", 0), ("1–2", 2), ("3–5", 5), ("6–10", 10), ("11–20", 20), ("over 20", math.inf))
"""Ranges of a span's length in words, by name, with their upper ends."""


class WindowExamples:
    """Rows as windows over their texts, with the first and last token of the evidence that lies in each window.

    Every window weighs 1 / windows of its row, so that a batch counts long and short rows alike.
    """

    def __init__(self, rows: Rows, reading: Reading, tok: TokSettings) -> None:
        self._tokens = tokens = reading.tokens
        self._max_length = tok.max_length
        self._pad_token_id = reading.pad_token_id
        self.texts = tokens.texts
        self._current_texts: Texts = tokens.texts
        self.windows = cut_windows(tokens, tok.max_length, tok.doc_stride)
        self.lengths = self.windows.lengths
        self.counts = np.diff(self.windows.bounds)
        self.spans = _spans_in_windows(rows.evidence, tokens.texts, self.windows)
        self._labels = rows.labels[self.windows.row]
        self._weights = (1 / self.counts)[self.windows.row].astype(np.float32)

    def __len__(self) -> int:
        return len(self.lengths)

    def inputs_of(self, rows: np.ndarray) -> np.ndarray:
        return self.windows.of_rows(rows)

    def batch(self, inputs: Sequence[int] | np.ndarray) -> Batch:
        numbers = np.asarray(inputs)
        examples = [
            window_example(self._tokens, self.windows, int(number), self._max_length, self._current_texts)
            for number in numbers
        ]
        return {
            **pad_batch(examples, pad_token_id=self._pad_token_id),
            "text_at": torch.from_numpy(self.windows.text_at[numbers]),
            "text_tokens": torch.from_numpy(self.windows.text_tokens[numbers]),
            "span": torch.from_numpy(self.spans[numbers]),
            "labels": torch.from_numpy(self._labels[numbers]),
            "weight": torch.from_numpy(self._weights[numbers]),
        }

    def with_texts(self, texts: Sequence[AugmentedTexts]) -> Self:
        own_texts, *_ = texts
        augmented = copy(self)
        augmented._current_texts = own_texts
        if own_texts.shortens:
            augmented.windows, augmented.spans = _shortened(self.windows, self.spans, own_texts)
            augmented.lengths = augmented.windows.lengths
        return augmented


def _shortened(windows: Windows, spans: NDArray[np.int64], texts: AugmentedTexts) -> tuple[Windows, NDArray[np.int64]]:
    """Return the windows and their evidence spans, (inputs, 2), in texts from which tokens were deleted."""
    first, end, moved = windows.first.copy(), windows.first + windows.text_tokens, spans.copy()
    for row in np.flatnonzero(texts.chosen):
        positions = texts.augmented_row(int(row)).positions
        left_before = np.concatenate([[0], np.cumsum(positions >= 0)])
        for number in range(windows.bounds[row], windows.bounds[row + 1]):
            first[number], end[number] = left_before[first[number]], left_before[end[number]]
            # No span begins with the first token of an input, which is a special one.
            if spans[number, 0]:
                in_text = spans[number] - windows.text_at[number] + windows.first[number]
                moved[number] = positions[in_text] - first[number] + windows.text_at[number]
    lengths = windows.lengths - windows.text_tokens + (end - first)
    return replace(windows, first=first, text_tokens=end - first, lengths=lengths), moved


def _spans_in_windows(evidence: NDArray[np.int64], texts: TokenColumn, windows: Windows) -> NDArray[np.int64]:
    """Return the first and last token of each window's evidence, counted in the input: (inputs, 2); 0 and 0 for none.

    A window has no evidence if it cuts the evidence.
    """
    tokens = tokens_of_characters(texts, evidence)
    first, last = (tokens[windows.row] - windows.first[:, None]).T
    inside = (tokens[windows.row, 0] >= 0) & (first >= 0) & (first <= last) & (last < windows.text_tokens)
    spans: NDArray[np.int64] = np.where(inside, np.stack([first, last]) + windows.text_at, 0).T.copy()
    return spans


def full_windows(samples: int, length: int) -> Batch:
    """Return windows without content that fill ``length`` tokens, in the form of ``WindowExamples.batch``."""
    nothing = torch.zeros(samples, dtype=torch.int64)
    return {
        **full_inputs(samples, length),
        "text_at": nothing + 1,
        "text_tokens": nothing + max(1, length - 2),
        "span": torch.zeros((samples, 2), dtype=torch.int64),
        "labels": nothing.clone(),
        "weight": torch.ones(samples),
    }


class EvidenceTask:
    """A task that scores every token as start and end; the objective is token F1 or exact match."""

    def __init__(self, settings: TrialSettings) -> None:
        self._settings = settings
        self._loss = SpanLoss(settings.loss)
        self._examples: WindowExamples | None = None
        self._scorer: SpanScorer | None = None

    def learn_from(self, rows: Rows, train: np.ndarray) -> None:
        self._loss.learn_from(rows.evidence[train, 0] >= 0)

    def examples(self, rows: Rows, readings: Sequence[Reading]) -> WindowExamples:
        self._examples = examples = WindowExamples(rows, readings[0], self._settings.tok)
        self._scorer = SpanScorer(rows, examples, self._settings.task)
        return examples

    def full_batch(self, samples: int, length: int) -> Batch:
        return full_windows(samples, length)

    def build_model(self, encoders: Sequence[LoadedEncoder], seed: int) -> nn.Module:
        (encoder,) = encoders
        if self._settings.head.pooling == NATIVE:
            return NativeModel(encoder.model, SPAN, seed=seed)
        return SpanModel(encoder.model, head=self._settings.head, seed=seed)

    def counted(self, batch: Batch) -> float:
        return self._loss.weight(batch["span"], batch["weight"])

    def loss_sum(self, outputs: Tensor, batch: Batch) -> Tensor:
        scores = masked(outputs, batch["text_at"], batch["text_tokens"])
        return self._loss.sum(scores, batch["span"], batch["weight"])

    def outputs_to_score(self, outputs: Tensor, batch: Batch) -> Tensor:
        return candidates(outputs, batch["text_at"], batch["text_tokens"], self._settings.task.n_best)

    def score(
        self, outputs: Tensor, rows: np.ndarray, decision: Decision | None = None, *, breakdowns: bool = True
    ) -> Scores:
        assert self._scorer is not None, "examples come first"
        return self._scorer.score(outputs, rows, decision, breakdowns=breakdowns)

    def answers(self, outputs: Tensor, rows: np.ndarray, decision: Decision) -> Answers:
        assert self._scorer is not None, "examples come first"
        return Answers(spans=self._scorer.spans(outputs, rows, decision))

    def outputs_to_calibrate(self, outputs: Tensor, batch: Batch) -> Tensor:
        return span_outputs(outputs, batch, self._settings.tok)

    def choices(self, outputs: Tensor, rows: np.ndarray) -> dict[str, Choices]:
        assert self._examples is not None, "examples come first"
        return {SPAN: span_choices(outputs, rows, self._examples)}


def span_outputs(logits: Tensor, batch: Batch, tok: TokSettings) -> Tensor:
    """Return the scores of every first and every last token: (inputs, 2 × ``tok.max_length``)."""
    return flat(masked(logits, batch["text_at"], batch["text_tokens"]), tok.max_length)


def span_choices(outputs: Tensor, rows: np.ndarray, examples: WindowExamples) -> Choices:
    """Return the choices of first and last tokens in the windows of rows; the windows of a row weigh as much as a row.

    Args:
        outputs: outputs of ``span_outputs`` for the windows of the rows, (inputs, 2 × length).
    """
    inputs = examples.inputs_of(rows)
    weights = 1 / examples.counts[examples.windows.row[inputs]]
    truth = examples.spans[inputs].T.reshape(-1).astype(np.int64)
    return Choices(torch.cat(outputs.chunk(2, dim=1)), truth, np.ones_like(truth), np.tile(weights, 2))


class SpanScorer:
    """Scorer that chooses spans, or none, and compares them with the rows' evidence."""

    def __init__(self, rows: Rows, examples: WindowExamples, settings: TaskSettings) -> None:
        self._rows = rows
        self._texts = examples.texts
        self._windows = examples.windows
        self._settings = settings

    def best_spans(self, outputs: Tensor, rows: np.ndarray) -> BestSpans:
        """Return the best span of each row; kept (inputs, k) belongs to all windows of the rows."""
        return best_spans(
            outputs.numpy().astype(np.float64),
            self._windows.of_rows(rows),
            self._windows,
            self._texts,
            self._settings.max_answer_length,
        )

    def spans(self, outputs: Tensor, rows: np.ndarray, decision: Decision) -> NDArray[np.int64]:
        """Return the characters of each row's span, without white space at its ends, (rows, 2); -1 and -1 for none."""
        best = self.best_spans(outputs, rows)
        spans = np.full_like(best.characters, -1)
        for place in np.flatnonzero(best.margin > decision.get(NULL_THRESHOLD, _NO_PREFERENCE)):
            start, end = best.characters[place].tolist()
            if start < 0:
                continue
            start, end = trimmed(self._rows.texts[rows[place]], start, end)
            if start < end:
                spans[place] = start, end
        return spans

    def score(self, outputs: Tensor, rows: np.ndarray, decision: Decision | None, *, breakdowns: bool) -> Scores:
        best = self.best_spans(outputs, rows)
        truth = [self._answer(row, *self._rows.evidence[row]) for row in rows]
        spans = [self._answer(row, *span) for row, span in zip(rows, best.characters, strict=True)]
        if decision:
            threshold = decision[NULL_THRESHOLD]
        elif isinstance(self._settings.null_threshold, float | int):
            threshold = float(self._settings.null_threshold)
        else:
            threshold = _tuned(best.margin, spans, truth, exact_match if self._wants_exact else token_f1)
        answers = [span if margin > threshold else "" for span, margin in zip(spans, best.margin, strict=True)]
        first_words = self._first_words(rows, truth)
        metrics = {
            **_compared("", answers, truth),
            **_compared("empty_", [""] * len(rows), truth),
            **_compared("first_words_", first_words, truth),
            "answered": float(np.mean([answer != "" for answer in answers])),
            NULL_THRESHOLD: threshold,
        }
        has_evidence = np.array([answer != "" for answer in truth])
        for name, chosen in (("has_evidence_", has_evidence), ("no_evidence_", ~has_evidence)):
            if chosen.any():
                part = np.flatnonzero(chosen)
                metrics |= _compared(name, [answers[n] for n in part], [truth[n] for n in part])
        collapsed = len({answer == "" for answer in answers}) == 1 and len(set(has_evidence.tolist())) == 2
        by_part = self._breakdowns(rows, answers, truth) if breakdowns else {}
        return Scores(metrics, {NULL_THRESHOLD: threshold}, by_part, collapsed)

    def _breakdowns(self, rows: np.ndarray, answers: Sequence[str], truth: Sequence[str]) -> Breakdowns:
        breakdowns: dict[str, Breakdown] = {BY_SPAN_LENGTH: _by_length(answers, truth)}
        if self._rows.criteria is not None:
            breakdowns[BY_CRITERION] = self._by_criterion(self._rows.criteria, rows, answers, truth)
        return breakdowns

    @property
    def _wants_exact(self) -> bool:
        return self._settings.metric != "token_f1"

    def _answer(self, row: int, start: int, end: int) -> str:
        if start < 0:
            return ""
        text = self._rows.texts[row]
        start, end = trimmed(text, int(start), int(end))
        return text[start:end]

    def _first_words(self, rows: np.ndarray, truth: Sequence[str]) -> list[str]:
        """Return the answers of a baseline that takes a text's first words, as many as the median evidence has here."""
        lengths = [len(answer.split()) for answer in truth if answer]
        words = int(np.median(lengths)) if lengths else 0
        return [" ".join(self._rows.texts[row].split()[:words]) for row in rows]

    @staticmethod
    def _by_criterion(
        criteria: Sequence[str], rows: np.ndarray, answers: Sequence[str], truth: Sequence[str]
    ) -> Breakdown:
        positions: dict[str, list[int]] = {}
        for position, row in enumerate(rows):
            positions.setdefault(criteria[row], []).append(position)
        counts = Counter({criterion: len(indices) for criterion, indices in positions.items()})
        return {
            criterion: {
                "rows": float(count),
                "positives": float(sum(truth[position] != "" for position in positions[criterion])),
                **_compared("", [answers[n] for n in positions[criterion]], [truth[n] for n in positions[criterion]]),
            }
            for criterion, count in counts.most_common(MOST_CRITERIA)
        }


def _by_length(answers: Sequence[str], truth: Sequence[str]) -> Breakdown:
    """Return the scores of the rows by the number of words of their true span; lengths without rows are left out."""
    positions: dict[str, list[int]] = {name: [] for name, _ in _LENGTHS}
    for position, answer in enumerate(truth):
        words = len(answer.split())
        positions[next(name for name, most in _LENGTHS if words <= most)].append(position)
    return {
        name: {"rows": float(len(part)), **_compared("", [answers[n] for n in part], [truth[n] for n in part])}
        for name, part in positions.items()
        if part
    }


def _compared(prefix: str, answers: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    pairs = list(zip(answers, truth, strict=True))
    return {
        f"{prefix}exact_match": float(np.mean([exact_match(*pair) for pair in pairs])),
        f"{prefix}token_f1": float(np.mean([token_f1(*pair) for pair in pairs])),
    }


def _tuned(
    margin: NDArray[np.float64], spans: Sequence[str], truth: Sequence[str], measure: Callable[[str, str], float]
) -> float:
    """Return the threshold at which the mean of a measure is highest."""
    if_answered = np.array([measure(span, answer) for span, answer in zip(spans, truth, strict=True)])
    if_not = np.array([measure("", answer) for answer in truth])
    tried = cuts(margin)
    return best_cut(tried, if_not.sum() + yes_counts(margin, if_answered - if_not, tried), _NO_PREFERENCE)
