"""A text classifier on a pretrained encoder, and the folder that keeps one."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from trainables.files import whole_folder
from trainables.models.checkpoint import ModelLoadError, first_line, read_tensors
from trainables.models.heads import Head, Pooler, initial_std
from trainables.models.load import load_encoder, load_tokenizer
from trainables.models.names import ModelSource
from trainables.settings import HeadSettings

_DEFAULT_HEAD = HeadSettings()

FORMAT_VERSION = 2
"""Of saved model folders: goes up whenever an older version could not read a new folder, or misread it."""

_HEAD_FILE = "headroom_head.safetensors"
_SETTINGS_FILE = "headroom.json"


class TextClassifier(nn.Module):
    """Encoder, pooling and a head of one or more layers.

    Args:
        encoder: is taken over, not copied.
        classes: how many logits.
        head: settings of pooling and head.
        seed: draws the head's weights; the global random state is neither read nor changed.

    Raises:
        ValueError: ``head.pooling`` is unknown, or ``pooler`` for an encoder that has none.
    """

    def __init__(
        self, encoder: PreTrainedModel, *, classes: int, head: HeadSettings = _DEFAULT_HEAD, seed: int
    ) -> None:
        super().__init__()
        self.settings = head
        self.encoder = encoder
        self.pooler = Pooler(encoder, head.pooling)
        self.head = Head(encoder.config.hidden_size, classes, head, seed=seed, std=initial_std(encoder))
        self._encoder_inputs = accepted_inputs(encoder)

    @property
    def classes(self) -> int:
        return self.head.outputs

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits ``(batch, classes)``.

        ``batch`` holds ``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``, all ``(batch, length)``;
        other keys, and those that the encoder does not know, are left alone.
        """
        outputs = self.encoder(**{name: batch[name] for name in self._encoder_inputs if name in batch})
        logits: Tensor = self.head(self.pooler(outputs, batch["attention_mask"]))
        return logits


def accepted_inputs(encoder: PreTrainedModel) -> tuple[str, ...]:
    """What to pass on. Token types go only to encoders that tell at least two apart (RoBERTa knows just one)."""
    parameters = inspect.signature(encoder.forward).parameters
    names = ["input_ids", "attention_mask"]
    if "token_type_ids" in parameters and getattr(encoder.config, "type_vocab_size", 2) > 1:
        names.append("token_type_ids")
    return tuple(names)


def freeze_layers(encoder: PreTrainedModel, layers: int) -> None:
    """Take the embeddings and the first ``layers`` encoder layers out of training; 0 leaves everything as it is.

    Raises:
        ValueError: the encoder has fewer layers, or its layers share their weights (ALBERT).
    """
    if layers == 0:
        return
    stacks = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    stack = next((stack for stack in stacks if len(stack) == encoder.config.num_hidden_layers), nn.ModuleList())
    if layers > len(stack):
        raise ValueError(
            f"freezing {layers} layers: this {encoder.config.model_type} encoder has {len(stack)} that can be frozen"
        )
    for module in (encoder.embeddings, *stack[:layers]):
        module.requires_grad_(False)


def enable_checkpointing(encoder: PreTrainedModel) -> None:
    """Keep the inputs of each layer alone and compute the rest again in the backward pass.

    Raises:
        ValueError: the encoder does not support it (ALBERT).
    """
    if not encoder.supports_gradient_checkpointing:
        raise ValueError(f"gradient checkpointing: {encoder.config.model_type} encoders do not support it")
    # Not by the public method, which also asks for gradients of the embeddings' output: frozen layers would then keep
    # their activations for nothing.
    encoder._set_gradient_checkpointing(True, partial(checkpoint, use_reentrant=False))
    encoder.config.use_cache = False


@dataclass(frozen=True)
class SavedClassifier:
    """What a model folder holds. ``max_length`` counts tokens, special ones included."""

    classifier: TextClassifier
    tokenizer: PreTrainedTokenizerBase
    max_length: int


def save_model_folder(
    classifier: TextClassifier, tokenizer: PreTrainedTokenizerBase, folder: str | Path, *, max_length: int
) -> None:
    """Save encoder and tokenizer in the transformers layout, with the head and its settings beside them.

    The folder appears whole or not at all: it is written under another name and renamed at the end.

    Raises:
        FileExistsError: ``folder`` exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; save the model to a new folder")
    with whole_folder(folder) as partial:
        _write(classifier, tokenizer, partial, max_length)


def _write(classifier: TextClassifier, tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    # A bar for a file or two would only end up in somebody's log.
    disable_progress_bar()
    classifier.encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in _own_tensors(classifier).items()}
    save_file(own, folder / _HEAD_FILE)
    settings = {
        "format_version": FORMAT_VERSION,
        "head": asdict(classifier.settings),
        "classes": classifier.classes,
        "max_length": max_length,
    }
    settings_file = folder / _SETTINGS_FILE
    settings_file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    # Safetensors files come readable by their owner alone; on a shared machine the user's umask decides.
    for path in folder.iterdir():
        path.chmod(settings_file.stat().st_mode)


def load_model_folder(folder: str | Path) -> SavedClassifier:
    """Load what ``save_model_folder`` saved: the classifier in evaluation mode, on the CPU, in fp32.

    Raises:
        ModelLoadError: the folder is no such folder, or a file in it is missing or damaged.
    """
    folder = Path(folder).absolute()
    settings = _read_settings(folder / _SETTINGS_FILE)
    encoder = load_encoder(ModelSource(str(folder), "folder", str(folder)), seed=0).model
    classifier = TextClassifier(encoder, classes=settings["classes"], head=HeadSettings(**settings["head"]), seed=0)
    _load_own_tensors(classifier, folder / _HEAD_FILE)
    return SavedClassifier(classifier.eval(), load_tokenizer(folder), settings["max_length"])


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = settings["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{path.parent} is no folder of a saved model: {first_line(error)}") from error
    if version != FORMAT_VERSION:
        raise ModelLoadError(
            f"{path}: format_version {version}, but this version of headroom reads {FORMAT_VERSION}; "
            "train the model again, or use the version that saved it"
        )
    return settings


def _own_tensors(classifier: TextClassifier) -> dict[str, Tensor]:
    """All but the encoder's, which are saved in its own layout."""
    return {name: tensor for name, tensor in classifier.state_dict().items() if not name.startswith("encoder.")}


def _load_own_tensors(classifier: TextClassifier, path: Path) -> None:
    tensors = read_tensors(path)
    encoder = {f"encoder.{name}": tensor for name, tensor in classifier.encoder.state_dict().items()}
    try:
        classifier.load_state_dict(encoder | tensors)
    except RuntimeError as error:
        raise ModelLoadError(f"{path} does not fit the settings beside it: {' '.join(str(error).split())}") from error
