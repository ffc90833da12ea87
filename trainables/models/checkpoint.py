"""Readers of a model's files: folder or hub, safetensors or pickle, whole or in shards, without running code."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from trainables.given import read_json, require_file
from trainables.internals import cached_file
from trainables.models import hub
from trainables.models.bounds import read_config_file
from trainables.models.names import ModelSource

_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


_LONGEST = 200


class ModelLoadError(RuntimeError):
    """A model cannot be loaded exactly as its files say. The message names the file or the tensors."""


def hub_remedy(name: str) -> str:
    """Return the remedy for a model that the hub does not provide."""
    likely = hub.meant(name)
    question = f"did you mean {likely!r}? Else " if likely else ""
    return f"{question}name a model folder, a built-in model, or connect to the hub once to download it"


def fetch(source: ModelSource, filename: str, revision: str | None) -> Path | None:
    """Return the local path of one of the model's files, downloaded if need be; None if it is unavailable.

    Raises:
        ModelLoadError: the hub refuses because the model or revision does not exist, or needs a permission.
    """
    if source.path is not None:
        path = Path(source.path) / filename
        return path if path.is_file() else None
    try:
        return cached_file(source.name, filename, revision=revision, local_files_only=not hub.answers())
    except OSError as error:
        # The chained exception is many network errors deep and adds nothing.
        raise ModelLoadError(f"model {source.name!r}: {first_line(error)}; {hub_remedy(source.name)}") from None


def read_config(source: ModelSource, revision: str | None = None) -> PreTrainedConfig:
    """Read the configuration of a folder or hub model and check that its numbers are within bounds.

    Raises:
        ModelLoadError: the configuration does not exist, cannot be read, is out of bounds, or is of a quantised model.
    """
    path = fetch(source, "config.json", revision)
    if path is None:
        raise ModelLoadError(
            f"model {source.name!r} has no config.json here and none can be fetched; {hub_remedy(source.name)}"
        )
    try:
        read_config_file(path)
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"{path}: {first_line(error)}; fix it, or give another folder in the transformers layout"
        ) from None
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(path.parent, trust_remote_code=False)
    except Exception as error:  # transformers can fail anywhere on a malformed file.
        remedy = "fix it, or give another folder in the transformers layout"
        raise refused(str(path), error, remedy) from error
    # The format and the chunking of an encoder's outputs are settings of ours, not of the model.
    config.return_dict, config.chunk_size_feed_forward = True, 0
    if getattr(config, "quantization_config", None) is not None:
        raise ModelLoadError(f"{path}: quantised models cannot be fine-tuned here; use the full-precision model")
    return config


def read_checkpoint(source: ModelSource, revision: str | None = None) -> dict[str, Tensor]:
    """Return every tensor of the model's checkpoint, on the CPU, with the names and types of its files.

    Safetensors take precedence over pickled files, which are read without running any code in them. Values stay on disk
    until they are used.

    Raises:
        ModelLoadError: there are no weights, or a file is damaged, incomplete or holds more than tensors.
    """
    for filename in _WEIGHT_FILES:
        path = fetch(source, filename, revision)
        if path is not None:
            return _read_shards(source, path, revision) if path.suffix == ".json" else read_tensors(path)
    raise ModelLoadError(
        f"model {source.name!r}: no weights in {source.path or 'the hub cache, and the hub gave none'}; "
        f"it needs one of {', '.join(_WEIGHT_FILES)}"
    )


def has_weights(source: ModelSource) -> bool:
    """Return whether a model folder holds weights, without reading them."""
    return any(fetch(source, filename, None) for filename in _WEIGHT_FILES)


def _read_shards(source: ModelSource, index: Path, revision: str | None) -> dict[str, Tensor]:
    shard_of = _read_index(index)
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(shard_of.values())):
        path = fetch(source, shard, revision)
        if path is None:
            raise ModelLoadError(f"{index}: the shard {shard} is missing; fetch the model again")
        tensors |= read_tensors(path)
    absent = shard_of.keys() - tensors.keys()
    if absent:
        raise ModelLoadError(f"{index}: its shards lack {listed(absent)}; fetch the model again")
    return tensors


def _read_index(index: Path) -> dict[str, str]:
    """Return tensor name → file name of its shard, which must lie beside the index."""
    try:
        shard_of = read_json(index)["weight_map"]
        misplaced = [shard for shard in shard_of.values() if Path(shard).name != shard]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelLoadError(f"{index} is not an index of shards: {first_line(error)}") from error
    if misplaced:
        raise ModelLoadError(f"{index}: the shard {misplaced[0]!r} lies outside the model's folder")
    return dict(shard_of)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one safetensors or pickled file.

    Raises:
        ModelLoadError: the file is missing, damaged, or holds more than tensors.
    """
    try:
        require_file(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # The errors below describe a pickle that torch did not write, so its warning is redundant.
            warnings.simplefilter("ignore", UserWarning)
            # Map the file into memory, as for safetensors. The format that preceded archives cannot be mapped.
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except (SafetensorError, OSError) as error:
        raise ModelLoadError(f"{path} cannot be read: {first_line(error)}; fetch the model again") from error
    except UnpicklingError as error:
        # Torch's own advice is to run the code.
        raise ModelLoadError(
            f"{path} is damaged or holds more than tensors, perhaps code, which is never run; fetch the model again, or"
            " use one with safetensors"
        ) from error
    except Exception as error:  # A damaged pickle can raise nearly anything.
        raise ModelLoadError(
            f"{path} is damaged or holds more than tensors: {first_line(error)}; "
            "fetch the model again, or use one with safetensors"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ModelLoadError(f"{path} holds no plain table of tensors; save the model's state_dict alone")
    return tensors


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names in order for a one-line message, cut short after ``most``."""
    ordered = sorted(names)
    rest = len(ordered) - most
    return ", ".join(ordered[:most]) + (f" and {rest} more" if rest > 0 else "")


def refused(what: str, error: BaseException, remedy: str) -> ModelLoadError:
    """Return the error for a file that the libraries reject; ``what`` and ``remedy`` surround their own message."""
    # The libraries advise to allow that code.
    if "trust_remote_code" in str(error):
        return ModelLoadError(
            f"{what}: it comes with code of its own, which is never run here; use a model that transformers supports"
        )
    return ModelLoadError(f"{what}: {first_line(error)}; {remedy}")


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, short and without its full stop, or its type if it is empty."""
    first, *others = [*filter(None, map(str.strip, str(error).splitlines())), ""]
    if first.endswith(":"):
        first = f"{first} {others[0]}"
    if isinstance(error, KeyError):
        first = f"{first} is missing or unknown"
    if len(first) > _LONGEST:
        first = f"{first[:_LONGEST]}…"
    return first.rstrip(" .") or type(error).__name__
