"""Models that answer both questions at once: whether a text meets the criterion, and which words show it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trainables.models.encoder import accepted_inputs
from trainables.models.heads import Head, Pooler, initial_std, set_pooler_aside
from trainables.settings import HeadSettings
from trainables.task_entry import CLASS, SPAN

_SIDES = 2

CRITERIA_PREFIX = "criteria_"
"""Prefix of the batch's tensors for the criteria encoder of a ``JointModel``."""


class SharedModel(nn.Module):
    """One encoder with two heads: one on the pooled text for the classes, one on every token for the span.

    Args:
        encoder: becomes part of the model, without a copy.
        classes: number of logits.
        head: settings of the pooling and of both heads.
        seed: seed of the heads' weights; the global random state is neither read nor changed.

    Raises:
        ValueError: ``head.pooling`` is unknown, or is ``pooler`` and the encoder has none.
    """

    def __init__(self, encoder: PreTrainedModel, *, classes: int, head: HeadSettings, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooler = Pooler(encoder, head)
        hidden, std = encoder.config.hidden_size, initial_std(encoder)
        self.criteria_head = Head(hidden, classes, head, seed=seed, std=std)
        self.span_head = Head(hidden, _SIDES, head, seed=seed + 1, std=std)
        self._encoder_inputs = accepted_inputs(encoder)

    @property
    def output_layers(self) -> dict[str, nn.Linear]:
        return {CLASS: self.criteria_head.output, SPAN: self.span_head.output}

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits ``(batch, classes)`` and span scores ``(batch, length, 2)``.

        ``batch`` is as in ``TextClassifier``.
        """
        outputs = self.encoder(**{name: batch[name] for name in self._encoder_inputs if name in batch})
        logits = self.criteria_head(self.pooler(outputs, batch["attention_mask"]))
        return logits, self.span_head(outputs.last_hidden_state)


class JointModel(nn.Module):
    """Two encoders: the pooled criteria vector gives the logits and scales the features of the evidence tokens.

    A token's feature x becomes x (1 + w · v), where v is the criteria vector; the scale starts at 1. A sum would shift
    the scores of all tokens alike and make no span likelier. Source: Perez et al., "FiLM: Visual Reasoning with a
    General Conditioning Layer", 2018, without the shift.

    Args:
        encoder: the evidence encoder.
        criteria_encoder: the criteria encoder, which reads the batch's tensors with the prefix ``criteria_``. It is a
            separate module, even if both are the same model.
        classes, head, seed: see ``SharedModel``.

    Raises:
        ValueError: see ``SharedModel``.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        criteria_encoder: PreTrainedModel,
        *,
        classes: int,
        head: HeadSettings,
        seed: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.criteria_encoder = criteria_encoder
        set_pooler_aside(encoder)
        self.pooler = Pooler(criteria_encoder, head)
        of_criteria, of_tokens = criteria_encoder.config.hidden_size, encoder.config.hidden_size
        self.criteria_head = Head(of_criteria, classes, head, seed=seed, std=initial_std(criteria_encoder))
        self.span_head = Head(of_tokens, _SIDES, head, seed=seed + 1, std=initial_std(encoder))
        with torch.random.fork_rng(devices=[]):  # nn.Linear draws from the global generator, to no purpose here.
            self.fusion = nn.Linear(of_criteria, of_tokens, bias=False)
        nn.init.zeros_(self.fusion.weight)
        self._encoder_inputs = accepted_inputs(encoder)
        self._criteria_inputs = accepted_inputs(criteria_encoder)

    @property
    def output_layers(self) -> dict[str, nn.Linear]:
        return {CLASS: self.criteria_head.output, SPAN: self.span_head.output}

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits ``(batch, classes)`` and span scores ``(batch, length, 2)``."""
        read = {
            name: batch[CRITERIA_PREFIX + name] for name in self._criteria_inputs if CRITERIA_PREFIX + name in batch
        }
        vector = self.pooler(self.criteria_encoder(**read), read["attention_mask"])
        tokens = self.encoder(**{name: batch[name] for name in self._encoder_inputs if name in batch}).last_hidden_state
        scale = 1 + self.fusion(vector).unsqueeze(1)
        return self.criteria_head(vector), self.span_head(tokens * scale)
