"""The models with a head that transformers defines for each family, around an encoder that is loaded already."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, PreTrainedModel

from trainables.internals import mark_initialised, model_class, no_random_weights
from trainables.models.encoder import accepted_inputs
from trainables.models.families import UnsupportedError
from trainables.models.load import MODEL_LOCK
from trainables.task_entry import CLASS, NATIVE, SPAN

_AUTO = {CLASS: AutoModelForSequenceClassification, SPAN: AutoModelForQuestionAnswering}
_SIDES = 2


class NativeModel(nn.Module):
    """A model of transformers with a head for one question: its own forward pass, weights and names.

    Args:
        encoder: becomes part of the model, without a copy.
        question: ``CLASS`` for the family's model for sequence classification, ``SPAN`` for question answering.
        classes: number of classes; a span has a first and a last token instead.
        seed: seed of the head's weights; the global random state is neither read nor changed.

    Attributes:
        model: ``BertForSequenceClassification``, say.

    Raises:
        UnsupportedError: transformers defines no such model for the encoder's family.
    """

    def __init__(self, encoder: PreTrainedModel, question: str, *, classes: int = _SIDES, seed: int) -> None:
        super().__init__()
        self.model = _with_head(encoder, question, classes if question == CLASS else _SIDES, seed)
        self._question = question
        self._inputs = accepted_inputs(self.model)

    @property
    def output_layers(self) -> dict[str, nn.Linear]:
        """The layer that gives the logits: a head's last one."""
        *_, last = (module for module in _head_modules(self.model) if isinstance(module, nn.Linear))
        return {self._question: last}

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return logits ``(batch, classes)``, or scores ``(batch, length, 2)`` of a span's first and last token.

        ``batch`` is as in ``TextClassifier``.
        """
        outputs = self.model(**{name: batch[name] for name in self._inputs if name in batch})
        if self._question == CLASS:
            logits: Tensor = outputs.logits
            return logits
        return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)


def _with_head(encoder: PreTrainedModel, question: str, outputs: int, seed: int) -> PreTrainedModel:
    """Return the family's model for a question around an encoder, with a head as transformers initialises it."""
    config = encoder.config
    kind = model_class(_AUTO[question], config)
    if kind is None:
        raise UnsupportedError(
            f"head.pooling: {NATIVE!r}: transformers defines no {config.model_type} model with such a head; set it to"
            " another pooling"
        )
    config.num_labels = outputs
    with MODEL_LOCK, torch.random.fork_rng(devices=[]):
        # The skeleton's own encoder takes no memory and is replaced.
        with torch.device("meta"), no_random_weights():
            model: PreTrainedModel = kind(config)
        _match_pooler(encoder, model.base_model)
        setattr(model, model.base_model_prefix, encoder)
        for name, child in model.named_children():
            if name != model.base_model_prefix:
                _allocate(child)
        torch.default_generator.manual_seed(seed)
        model.init_weights()
    model.train(encoder.training)
    return model


def _match_pooler(encoder: PreTrainedModel, skeleton: nn.Module) -> None:
    """Give an encoder a new pooler if the family's model reads one, and remove one that it does not read."""
    mark_initialised(encoder)
    if not hasattr(encoder, "pooler"):
        return
    read = getattr(skeleton, "pooler", None)
    if read is None:
        encoder.register_module("pooler", None)
    elif encoder.pooler is None:
        _allocate(read)
        encoder.register_module("pooler", read)


def _allocate(part: nn.Module) -> None:
    """Give a part of a skeleton parameters without values on the CPU.

    ``Module.to_empty`` changes tensors in place, which the fake tensors of a memory prediction do not allow.
    """
    for module in part.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            module.register_parameter(name, nn.Parameter(torch.empty_like(parameter, device="cpu")))


def _head_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Return all modules outside the encoder, in the order in which the model registers them."""
    of_encoder = set(model.base_model.modules())
    return [module for module in model.modules() if module not in of_encoder]
