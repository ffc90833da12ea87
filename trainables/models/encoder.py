"""A text classifier on a pretrained encoder, and functions for the encoder of any model."""

import inspect
from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from trainables.internals import set_checkpointing
from trainables.models.families import FAMILIES, UnsupportedError, beneath_layers, check_supported, layer_stack
from trainables.models.heads import Head, Pooler, initial_std
from trainables.registry import imported
from trainables.settings import HeadSettings
from trainables.task_entry import CLASS

_DEFAULT_HEAD = HeadSettings()


class TextClassifier(nn.Module):
    """Encoder, pooling and a head of one or more layers.

    Args:
        encoder: becomes part of the model, without a copy.
        classes: number of logits.
        head: settings of pooling and head.
        seed: seed of the head's weights; the global random state is neither read nor changed.

    Raises:
        ValueError: ``head.pooling`` is unknown, or is ``pooler`` and the encoder has none.
    """

    def __init__(
        self, encoder: PreTrainedModel, *, classes: int, head: HeadSettings = _DEFAULT_HEAD, seed: int
    ) -> None:
        super().__init__()
        self.settings = head
        self.encoder = encoder
        self.pooler = Pooler(encoder, head)
        self.head = Head(encoder.config.hidden_size, classes, head, seed=seed, std=initial_std(encoder))
        self._encoder_inputs = accepted_inputs(encoder)

    @property
    def classes(self) -> int:
        return self.head.outputs

    @property
    def output_layers(self) -> dict[str, nn.Linear]:
        return {CLASS: self.head.output}

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return logits ``(batch, classes)``.

        ``batch`` holds ``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``, all ``(batch, length)``. Other
        keys, and keys that the encoder does not accept, are ignored.
        """
        outputs = self.encoder(**{name: batch[name] for name in self._encoder_inputs if name in batch})
        logits: Tensor = self.head(self.pooler(outputs, batch["attention_mask"]))
        return logits


def accepted_inputs(encoder: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of the encoder's inputs.

    Token types go only to encoders with at least two of them (RoBERTa has one).
    """
    parameters = inspect.signature(encoder.forward).parameters
    names = ["input_ids", "attention_mask"]
    if "token_type_ids" in parameters and getattr(encoder.config, "type_vocab_size", 2) > 1:
        names.append("token_type_ids")
    return tuple(names)


def replace_attention(encoder: PreTrainedModel) -> None:
    """Give an encoder the attention of its family's entry, which takes less memory than transformers' own."""
    family = FAMILIES.get(encoder.config.model_type)
    if family is not None and family.attention is not None:
        imported(family.attention)(encoder)


def freeze_layers(encoder: PreTrainedModel, layers: int) -> None:
    """Exclude the first ``layers`` encoder layers and everything beneath them from training; 0 freezes nothing.

    Raises:
        UnsupportedError: the encoder has fewer layers, or its layers share their weights (ALBERT).
    """
    if layers == 0:
        return
    check_supported(encoder.config, {"model.freeze_layers": layers})
    for module in (*beneath_layers(encoder), *layer_stack(encoder)[:layers]):
        module.requires_grad_(False)


def enable_checkpointing(*encoders: PreTrainedModel) -> None:
    """Store only each layer's inputs and recompute the rest in the backward pass.

    Raises:
        UnsupportedError: one of the encoders does not support it (ALBERT); then all stay unchanged.
    """
    for encoder in encoders:
        check_supported(encoder.config, {"train.checkpointing": True})
        if not encoder.supports_gradient_checkpointing:
            raise UnsupportedError(f"gradient checkpointing: {encoder.config.model_type} encoders do not support it")
    for encoder in encoders:
        set_checkpointing(encoder, partial(checkpoint, use_reentrant=False))
        encoder.config.use_cache = False
