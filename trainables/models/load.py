"""Loading of encoders and tokenizers: the model holds exactly what the files hold, or an error says why not.

``PreTrainedModel.from_pretrained`` is not used. It builds on the meta device and fills in afterwards. A tensor that it
misses is drawn at random with a mere warning, or left without data if threads interfere. It also keeps the checkpoint's
half precision. Here the model is built on the CPU in fp32 and the checkpoint is read once. Every tensor is matched by
name, copied, and compared with its file.
"""

import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trainables.devices.counting import uncounted
from trainables.models import hub
from trainables.models.builtin import build_encoder, builtin_config
from trainables.models.checkpoint import (
    ModelLoadError,
    first_line,
    hub_remedy,
    listed,
    read_checkpoint,
    read_config,
    refused,
)
from trainables.models.encoder import replace_attention
from trainables.models.families import set_dropout
from trainables.models.faults import find_fault
from trainables.models.names import ModelSource

__all__ = [
    "MODEL_LOCK",
    "LoadReport",
    "LoadedEncoder",
    "ModelLoadError",
    "build_empty",
    "check_files",
    "check_vocabulary",
    "check_weights",
    "load_encoder",
    "load_tokenizer",
]

# Building a model changes state of the whole process: the default dtype, patched torch functions, lazily imported
# modules. So does loading a tokenizer: sentencepiece registers its protobuf types. Threads that did so at once got meta
# tensors and mixed types, so only one may do it at a time. Processes share nothing and need no lock.
MODEL_LOCK = threading.RLock()

_FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# The functions of torch.nn.init that a function mode sees directly; of the others it sees the drawing method they call.
_INITIALISERS = ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_")

# Suffixes of layer norms in checkpoints converted from TensorFlow.
_LEGACY_ENDINGS = ((".gamma", ".weight"), (".beta", ".bias"))


@dataclass(frozen=True)
class LoadReport:
    """The result of loading. The first field has the checkpoint's names, the second the model's.

    ``unused_checkpoint_tensors`` are heads, or index buffers that the model makes itself. ``freshly_initialised`` is
    empty for a checkpoint and holds every parameter of a built-in encoder. ``checkpoint_dtype`` is the type of the
    checkpoint's floating-point tensors (``"float16"``; several are joined with ``+``), None without a checkpoint.
    """

    unused_checkpoint_tensors: tuple[str, ...]
    freshly_initialised: tuple[str, ...]
    checkpoint_dtype: str | None


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder in fp32 on the CPU, in evaluation mode, with the report of its loading."""

    model: PreTrainedModel
    report: LoadReport


def load_tokenizer(folder_or_hub_name: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer; safe to call from several threads and processes at once.

    Raises:
        ModelLoadError: the tokenizer does not exist or cannot be read.
    """
    what = f"tokenizer of {str(folder_or_hub_name)!r}"
    with MODEL_LOCK:
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder_or_hub_name,
                revision=revision,
                trust_remote_code=False,
                local_files_only=os.path.isdir(folder_or_hub_name) or not hub.answers(),
            )
        except Exception as error:  # The tokenizers library raises nothing narrower for a damaged file.
            raise refused(what, error, hub_remedy(str(folder_or_hub_name))) from None
    # If files are missing, transformers makes a tokenizer from its defaults for the family.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ModelLoadError(f"{what}: it has no vocabulary; put its files (tokenizer.json, say) beside config.json")
    if tokenizer.padding_side != "right":
        raise ModelLoadError(
            f"{what}: its padding_side is {tokenizer.padding_side}, but inputs are padded at the end; set padding_side"
            " to right in tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        raise ModelLoadError(f"{what}: it has no padding token; name one in tokenizer_config.json (pad_token)")
    return tokenizer


def check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Reject a tokenizer with tokens for which the encoder ``name`` has no embedding.

    Raises:
        ModelLoadError: the tokenizer has such tokens, whether or not the data uses them.
    """
    size = getattr(config, "vocab_size", None)
    largest = max([len(tokenizer) - 1, *tokenizer.added_tokens_decoder])
    if size is not None and largest >= size:
        raise ModelLoadError(
            f"model {name!r}: its tokenizer has token ids up to {largest}, but its encoder has {size} tokens"
            " (vocab_size in"
            " config.json); use the tokenizer that it was trained with"
        )


def check_files(source: ModelSource) -> None:
    """Reject a model folder that no trial could load, as far as a check without the weights' use can tell.

    Raises:
        ModelLoadError: a file is missing or damaged, or tokenizer and encoder do not match.
    """
    assert source.path is not None
    config = read_config(source, None)
    check_vocabulary(source.name, load_tokenizer(source.path), config)
    check_weights(source, config)


def check_weights(source: ModelSource, config: PreTrainedConfig) -> None:
    """Reject a model folder whose weights are not those of its configuration.

    Raises:
        ModelLoadError: the weights are missing or damaged, or do not match the configuration.
    """
    checkpoint = read_checkpoint(source)
    with MODEL_LOCK:
        try:
            model = build_empty(config, "meta")
        except ModelLoadError:
            # The constructor may compute with values. If it does not, the same error comes again.
            model = build_empty(config)
    _paired(model, checkpoint, source.name)


def load_encoder(
    source: ModelSource,
    *,
    seed: int,
    tokenizer_folder: Path | None = None,
    revision: str | None = None,
    dropout: float | None = None,
    attention_dropout: float | None = None,
) -> LoadedEncoder:
    """Load an encoder without any task head; safe to call from several threads and processes at once.

    Args:
        source: the source that ``names.resolve_model`` returned for the model's name.
        seed: seed of a built-in encoder's weights; a checkpoint leaves nothing to draw.
        tokenizer_folder: folder of the tokenizer that ``builtin.train_tokenizer`` saved; it gives a built-in encoder's
            vocabulary, and others ignore it.
        revision: branch, tag or commit of a hub model.
        dropout: the encoder's dropout, instead of its configuration's; None leaves that.
        attention_dropout: the dropout of its attention, likewise.

    A pooler that the checkpoint lacks is removed from the model, never drawn at random.

    Raises:
        ModelLoadError: the files are missing or damaged, or a tensor of the encoder is missing, has another shape or
            type, or differs from the checkpoint after loading.
        UnsupportedError: the family's fields for dropout are unknown.
        ValueError: a built-in encoder has no ``tokenizer_folder``.
    """
    if source.kind == "builtin":
        config = _builtin_config(source.name, tokenizer_folder)
        set_dropout(config, dropout, attention_dropout)
        with MODEL_LOCK:
            model = build_encoder(config, seed=seed)
        fresh = tuple(parameter_name for parameter_name, _ in model.named_parameters())
        return LoadedEncoder(model, LoadReport((), fresh, None))
    with MODEL_LOCK:
        config = read_config(source, revision)
        set_dropout(config, dropout, attention_dropout)
        # Read on the host, whatever the device. The native reader would also report an out-of-memory error as a damaged
        # file.
        with uncounted():
            checkpoint = read_checkpoint(source, revision)
        model = build_empty(config)
        return LoadedEncoder(model, _fill(model, checkpoint, source.name))


def _builtin_config(name: str, tokenizer_folder: Path | None) -> PreTrainedConfig:
    if tokenizer_folder is None:
        raise ValueError(f"model {name!r} needs tokenizer_folder: train one with builtin.train_tokenizer")
    tokenizer = load_tokenizer(tokenizer_folder)
    return builtin_config(name, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)


class _NoRandomFill(TorchFunctionMode):
    """A mode that skips the random numbers that constructors draw, which take seconds for a large model.

    The checkpoint overwrites them anyway. Unlike the patches that transformers has for this, it affects its own thread
    alone.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_):
            # Zeros are safer than arbitrary memory: a truncated normal is drawn again until it is within its bounds.
            return args[0].zero_()
        # Compare names, because transformers may have replaced torch's functions with its own.
        if getattr(func, "__name__", None) in _INITIALISERS:
            return args[0] if args else arguments["tensor"]
        return func(*args, **arguments)


def build_empty(config: PreTrainedConfig, device: Literal["cpu", "meta"] = "cpu") -> PreTrainedModel:
    """Return the encoder in fp32 with final buffers but empty parameters; on ``meta`` neither has values.

    Raises:
        ModelLoadError: transformers cannot build an encoder from the configuration.
    """
    try:
        return _built(config, device)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # A configuration may be wrong in any way.
        fault = find_fault(config, _can_be_built)
        if fault is not None:
            raise ModelLoadError(fault.explained(first_line(error))) from error
        remedy = "fix its config.json, or use another model"
        raise refused(f"no encoder of model type {config.model_type!r}", error, remedy) from error


def _built(config: PreTrainedConfig, device: Literal["cpu", "meta"]) -> PreTrainedModel:
    with torch.device(device), _NoRandomFill():
        model: PreTrainedModel = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    replace_attention(model)
    model.eval()
    return model


def _can_be_built(config: PreTrainedConfig) -> bool:
    try:
        _built(config, "meta")
    except Exception:  # A configuration may be wrong in any way.
        return False
    return True


def _fill(model: PreTrainedModel, checkpoint: Mapping[str, Tensor], name: str) -> LoadReport:
    """Copy the checkpoint into the model and verify the copy; ``name`` is for messages."""
    pairs = _paired(model, checkpoint, name)
    targets = model.state_dict()
    for source, target in pairs.items():
        targets[target].copy_(checkpoint[source])
    _refuse(name, "without data after loading:", _on_meta(model))
    _refuse(name, "not equal to the checkpoint after loading:", _differing(pairs, checkpoint, targets))

    unused = tuple(sorted(checkpoint.keys() - pairs.keys()))
    return LoadReport(unused, (), _float_types(checkpoint.values()))


def _paired(model: PreTrainedModel, checkpoint: Mapping[str, Tensor], name: str) -> dict[str, str]:
    """Return checkpoint name → model name for all tensors to copy; remove a pooler that nothing fills from the model.

    Raises:
        ModelLoadError: checkpoint and model do not match.
    """
    model_name_of = match_names(checkpoint, model.state_dict(), model.base_model_prefix)
    _drop_absent_pooler(model, set(model_name_of.values()))
    # keep_vars returns the parameters themselves, whose identity shows which are tied.
    targets = model.state_dict(keep_vars=True)
    pairs = {source: target for source, target in model_name_of.items() if target in targets}

    _refuse(name, "the checkpoint lacks", _missing(targets, set(pairs.values())))
    _refuse(name, "other shapes in the checkpoint than in config.json:", _misshapen(pairs, checkpoint, targets))
    _refuse(name, "no floating-point weights in the checkpoint:", _mistyped(pairs, checkpoint, targets))
    remedy = "fetch the model again, or use another one"
    _refuse(name, "NaN or infinite values in the checkpoint:", _not_finite(pairs, checkpoint), remedy)
    remedy = "fix num_hidden_layers there, or save the model without them"
    _refuse(name, "the checkpoint holds layers that config.json leaves out:", _left_out(pairs, checkpoint), remedy)
    return pairs


def match_names(checkpoint: Iterable[str], model: Iterable[str], prefix: str) -> dict[str, str]:
    """Return checkpoint name → model name for every checkpoint tensor that has a counterpart in the model.

    A checkpoint of a model with a head has the encoder's ``prefix`` (``bert.``) in its names. An old checkpoint calls a
    layer norm's weight and bias gamma and beta. Two checkpoint names may lead to one model name.
    """
    places = set(model)
    return {
        name: next(place for place in _spellings(name, prefix) if place in places)
        for name in checkpoint
        if not places.isdisjoint(_spellings(name, prefix))
    }


def _spellings(name: str, prefix: str) -> list[str]:
    """Return the possible model names for the checkpoint's ``name``, the likeliest first."""
    bare = name.removeprefix(f"{prefix}.")
    modern = [bare.removesuffix(old) + new for old, new in _LEGACY_ENDINGS if bare.endswith(old)]
    return [name, bare, *modern]


def _drop_absent_pooler(model: PreTrainedModel, found: set[str]) -> None:
    """Remove the model's pooler, as ``add_pooling_layer=False`` does, if the checkpoint has no pooler at all.

    This applies only to classes with that option, whose forward pass works without a pooler.
    """
    optional = "add_pooling_layer" in signature(type(model).__init__).parameters
    if optional and not any(name.startswith("pooler.") for name in found):
        model.register_module("pooler", None)


def _missing(targets: Mapping[str, Tensor], found: set[str]) -> list[str]:
    """Return the model tensors that nothing in the checkpoint fills.

    A tensor tied to a filled one is filled with it. Integer buffers are index tables that follow from the
    configuration, and the constructor has made them.
    """
    filled = {id(targets[name]) for name in found}
    return [
        name
        for name, tensor in targets.items()
        if name not in found and tensor.is_floating_point() and id(tensor) not in filled
    ]


def _misshapen(pairs: Mapping[str, str], checkpoint: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{source} {tuple(checkpoint[source].shape)} for {tuple(targets[target].shape)}"
        for source, target in pairs.items()
        if checkpoint[source].shape != targets[target].shape
    ]


def _mistyped(pairs: Mapping[str, str], checkpoint: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> list[str]:
    """Return weights stored as integers or 8-bit floats: signs of a quantised model, whose scales the encoder lacks."""
    return [
        f"{source} {checkpoint[source].dtype}"
        for source, target in pairs.items()
        if targets[target].is_floating_point() and checkpoint[source].dtype not in _FLOAT_TYPES
    ]


def _not_finite(pairs: Mapping[str, str], checkpoint: Mapping[str, Tensor]) -> list[str]:
    # A sum in double precision is finite only if every summand is, and takes no memory of its own.
    sums = {name: checkpoint[name].sum(dtype=torch.float64) for name in pairs if checkpoint[name].is_floating_point()}
    return [name for name, total in sums.items() if not total.isfinite()]


def _left_out(pairs: Mapping[str, str], checkpoint: Mapping[str, Tensor]) -> list[str]:
    """Return unused checkpoint tensors whose names differ from used ones by a layer number alone."""
    kinds = {_without_numbers(name) for name in pairs}
    return [name for name in checkpoint.keys() - pairs.keys() if _without_numbers(name) in kinds]


def _without_numbers(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "#", name)


def _on_meta(model: PreTrainedModel) -> list[str]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, tensor in tensors if tensor.is_meta]


def _differing(pairs: Mapping[str, str], checkpoint: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> list[str]:
    """Return filled tensors that differ from the checkpoint: two of its tensors may claim one target."""
    return [
        source
        for source, target in pairs.items()
        if not torch.equal(targets[target], checkpoint[source].to(targets[target].dtype))
    ]


def _refuse(name: str, what: str, tensors: list[str], remedy: str | None = None) -> None:
    if tensors:
        raise ModelLoadError(f"model {name!r}: {what} {listed(tensors)}" + (f"; {remedy}" if remedy else ""))


def _float_types(tensors: Iterable[Tensor]) -> str | None:
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.is_floating_point()}
    return "+".join(sorted(types)) or None
