"""A model that scores every token as the first and as the last of a span."""

from collections.abc import Mapping

from torch import Tensor, nn
from transformers import PreTrainedModel

from trainables.models.encoder import accepted_inputs
from trainables.models.heads import Head, initial_std, set_pooler_aside
from trainables.settings import HeadSettings
from trainables.task_entry import SPAN

_SIDES = 2


class SpanModel(nn.Module):
    """An encoder with a head on every token.

    Args:
        encoder: becomes part of the model, without a copy.
        head: settings of the head; there is no pooling.
        seed: seed of the head's weights; the global random state is neither read nor changed.
    """

    def __init__(self, encoder: PreTrainedModel, *, head: HeadSettings, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        set_pooler_aside(encoder)
        self.head = Head(encoder.config.hidden_size, _SIDES, head, seed=seed, std=initial_std(encoder))
        self._encoder_inputs = accepted_inputs(encoder)

    @property
    def output_layers(self) -> dict[str, nn.Linear]:
        return {SPAN: self.head.output}

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return scores ``(batch, length, 2)`` of a span's first and last token; ``batch`` as in ``TextClassifier``."""
        outputs = self.encoder(**{name: batch[name] for name in self._encoder_inputs if name in batch})
        scores: Tensor = self.head(outputs.last_hidden_state)
        return scores
