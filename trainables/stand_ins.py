"""Small encoders with random weights that replace a model of their family, and checks that run on such an encoder."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from trainables.data.rows import read_rows
from trainables.models.builtin import build_encoder, train_tokenizer
from trainables.models.checkpoint import ModelLoadError, first_line
from trainables.models.encoder import accepted_inputs
from trainables.models.faults import find_fault
from trainables.models.load import MODEL_LOCK, build_empty, load_tokenizer
from trainables.planning.plan import predict
from trainables.planning.trace import Workload
from trainables.poolings import POOLINGS
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, HeadSettings, TrialSettings

STAND_IN_DATA = DataSettings("demo", max_rows=48)
LAYERS = 2
# Fields of a configuration that make an encoder narrow.
_NARROW = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
    "hidden_dim": 64,
    "embedding_size": 16,
    "pooler_hidden_size": 32,
}
_MOST_PARAMETERS = 300_000_000

# A vocabulary for checks without a tokenizer.
_SPECIALS = {"pad": 0, "bos": 1, "eos": 2, "cls": 1, "sep": 2, "mask": 3}
_VOCABULARY = 200
_TEXTS, _TOKENS, _PADDED = 2, 13, 29
# Relative to the largest output. Rounding causes 1e-6; the slightest leak from padding in any family is 6e-3.
_TOLERANCE = 1e-4
_REMEDY = "use a model of another family, such as bert, roberta or deberta-v2"


def small_model(config: PreTrainedConfig, folder: Path, layers: int = LAYERS) -> Path:
    """Write a model folder: a small encoder of the configuration's family and a tokenizer of the demo data's words.

    Raises:
        ModelLoadError: such an encoder cannot be built or run.
    """
    logging.disable_progress_bar()
    rows = read_rows(STAND_IN_DATA)
    train_tokenizer("tiny-bert", sorted({*rows.texts, *(rows.criteria or ())}), folder)
    tokenizer = load_tokenizer(folder)
    small_encoder(config, len(tokenizer), _specials_of(tokenizer), layers).save_pretrained(folder)
    return folder


def small_encoder(
    config: PreTrainedConfig, vocabulary: int, specials: Mapping[str, int], layers: int = LAYERS
) -> PreTrainedModel:
    """Return the smallest encoder of the configuration's family that can be built and run, in evaluation mode.

    Some families reject smaller sizes. Then the encoder only has fewer layers, or it is unchanged.

    Args:
        specials: ids of the special tokens by their names in a configuration, such as ``pad``.

    Raises:
        ModelLoadError: the family gives no outputs for a text's tokens and their mask alone.
    """
    problem: BaseException | None = None
    changes: tuple[Callable[[PreTrainedConfig, int], None], ...] = (_narrow, _make_shallow, _leave)
    for change in changes:
        small = copy.deepcopy(config)
        try:
            change(small, layers)
            _set_tokens(small, vocabulary, specials)
            if change is _leave and _parameters(small) > _MOST_PARAMETERS:
                continue
            with MODEL_LOCK:
                encoder = build_encoder(small, seed=0)
            _hidden(encoder, _some_tokens(vocabulary), _TOKENS)
            return encoder
        except Exception as error:  # A family's code may reject sizes in any way.
            problem = error if error.__cause__ is None else error.__cause__
    assert problem is not None
    raise _UnusableError(f"model type {config.model_type!r} gives no outputs of a text's tokens: {first_line(problem)}")


def check_trainable(name: str, config: PreTrainedConfig, pooling: str | None = None) -> None:
    """Reject a model of a family that no trial can train or score, by a check on a small encoder.

    Args:
        pooling: the pooling of every trial; None if it is searched.

    Raises:
        ModelLoadError: the encoder does not run on tokens and mask alone, padding changes its outputs for a text, or
            its memory cannot be predicted. Or its first token, if it may be pooled, does not depend on the other
            tokens.
    """
    try:
        _check(config, pooling)
    except _UnusableError as error:
        fault = find_fault(config, lambda other: _is_trainable(other, pooling))
        if fault is not None:
            raise ModelLoadError(fault.explained(error.problem)) from None
        raise ModelLoadError(f"model {name!r}: {error}") from None


class _UnusableError(ModelLoadError):
    """An encoder that no trial can train or score; the message adds the remedy to the problem."""

    def __init__(self, problem: str, remedy: str = _REMEDY) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem


def _is_trainable(config: PreTrainedConfig, pooling: str | None) -> bool:
    try:
        _check(config, pooling)
    except _UnusableError:
        return False
    return True


def _check(config: PreTrainedConfig, pooling: str | None) -> None:
    """Check a small encoder of a configuration, as ``check_trainable`` describes.

    Raises:
        _UnusableError: no trial can train or score such an encoder.
    """
    encoder = small_encoder(config, _VOCABULARY, _SPECIALS)
    family, tokens = f"{config.model_type} encoders", _some_tokens(_VOCABULARY)
    alone = _hidden(encoder, tokens, _TOKENS)
    if _differ(alone, _hidden(encoder, tokens, _PADDED)):
        raise _UnusableError(
            f"the outputs of {family} change with the padding behind a text, so that scores would depend on the batch"
        )
    other = torch.cat([tokens[:, :1], 5 + (tokens[:, 1:] + 50) % (_VOCABULARY - 5)], dim=1)
    first_alone = pooling is None or POOLINGS[pooling].reads_first_token
    if first_alone and not _differ(alone[:, :1], _hidden(encoder, other, _TOKENS)[:, :1]):
        raise _UnusableError(
            f"in {config.model_type} models the first token, which head.pooling: {pooling or 'cls'} uses, does not"
            " depend on the others",
            f"set head.pooling to mean, or {_REMEDY}",
        )
    plain = TrialSettings(STAND_IN_DATA, trial_seeds(0), head=HeadSettings(pooling or "mean"))
    try:
        predict(Workload(plain, encoder.config, has_pooler=getattr(encoder, "pooler", None) is not None))
    except Exception as error:  # Tracing code that needs values of tensors may raise anything.
        problem = f"the memory of {family} cannot be predicted, so none can be trained"
        raise _UnusableError(f"{problem}: {first_line(error)}") from None


def _narrow(config: PreTrainedConfig, layers: int) -> None:
    for name, value in _NARROW.items():
        if hasattr(config, name):
            setattr(config, name, value)
    _make_shallow(config, layers)


def _make_shallow(config: PreTrainedConfig, layers: int) -> None:
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]


def _leave(config: PreTrainedConfig, layers: int) -> None:
    pass


def _set_tokens(config: PreTrainedConfig, vocabulary: int, specials: Mapping[str, int]) -> None:
    config.vocab_size = vocabulary
    for name, token in specials.items():
        if hasattr(config, f"{name}_token_id"):
            setattr(config, f"{name}_token_id", token)


def _specials_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    return {name: getattr(tokenizer, f"{name}_token_id") for name in _SPECIALS}


def _parameters(config: PreTrainedConfig) -> int:
    with MODEL_LOCK:
        return sum(parameter.numel() for parameter in build_empty(config, "meta").parameters())


def _some_tokens(vocabulary: int) -> Tensor:
    """Return random tokens (texts, tokens), none of them special."""
    return torch.randint(5, vocabulary, (_TEXTS, _TOKENS), generator=torch.Generator().manual_seed(0))


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppress transformers' advice about a model that nobody uses."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@torch.inference_mode()
@_quietly()
def _hidden(encoder: PreTrainedModel, tokens: Tensor, length: int) -> Tensor:
    """Return the outputs (texts, tokens, hidden) of tokens padded to ``length``, without the padding's outputs."""
    texts, count = tokens.shape
    ids, mask = torch.zeros((texts, length), dtype=torch.long), torch.zeros((texts, length), dtype=torch.long)
    ids[:, :count], mask[:, :count] = tokens, 1
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    outputs = encoder(**{name: given[name] for name in accepted_inputs(encoder)}).last_hidden_state
    expected = (texts, length, encoder.config.hidden_size)
    if outputs.shape != expected:
        raise ValueError(f"its outputs have the shape {tuple(outputs.shape)}, not {expected}")
    hidden: Tensor = outputs[:, :count]
    return hidden


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > _TOLERANCE * one.abs().max())
