"""The folder of a trained model: encoders and tokenizers in transformers' layout, and the parts on top of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from trainables.data.errors import one_line
from trainables.data.model_inputs import ModelInputs
from trainables.declaration import values_of, with_values
from trainables.files import whole_folder
from trainables.given import read_json
from trainables.models.checkpoint import ModelLoadError, first_line, read_checkpoint, read_tensors
from trainables.models.load import load_encoder, load_tokenizer
from trainables.models.names import ModelSource
from trainables.models.native import NativeModel
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, HeadSettings, TaskSettings, TokSettings, TrialSettings, encoder_names
from trainables.task_registry import TASKS
from trainables.tasks import build_task
from trainables.tasks.calibration import ESTIMATOR, METHOD, Calibration
from trainables.tasks.protocol import Scores

FORMAT_VERSION = 5
"""Version of saved model folders: raise it whenever an older program could not read, or would misread, a new folder."""
_READABLE = (3, 4, FORMAT_VERSION)

_OWN_FILE = "headroom_head.safetensors"
_SETTINGS_FILE = "headroom.json"
_CARD_FILE = "README.md"
_SCORES_FILE = "scores.json"
# Folder of the model in an export.
_EXPORTED = "model"
# Attribute of a model → its folder within the model's. The first encoder lies where transformers looks.
_ENCODERS = {"encoder": ".", "criteria_encoder": "criteria_encoder"}


@dataclass(frozen=True)
class SavedModel:
    """The content of a model folder.

    Attributes:
        model: the model in evaluation mode, on the CPU, in fp32.
        tokenizers: the tokenizer of each encoder.
        settings: settings of task, head and inputs; the settings of the data are meaningless.
        decision: the thresholds that were chosen on validation.
        inputs: the columns that the model reads; None for a folder of a version that did not store them.
    """

    model: nn.Module
    tokenizers: tuple[PreTrainedTokenizerBase, ...]
    settings: TrialSettings
    decision: Mapping[str, float]
    inputs: ModelInputs | None = None

    @property
    def encoders(self) -> tuple[PreTrainedModel, ...]:
        """The model's encoders, in the order of ``tokenizers``."""
        if isinstance(self.model, NativeModel):
            base = self.model.model.base_model
            assert isinstance(base, PreTrainedModel)
            return (base,)
        return tuple(saved for saved, _ in _saved_by_transformers(self.model))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the model's classes, in the order of its logits."""
        return self.settings.task.class_names


def save_model_folder(
    model: nn.Module,
    tokenizers: Sequence[PreTrainedTokenizerBase],
    folder: str | Path,
    *,
    settings: TrialSettings,
    decision: Mapping[str, float],
    scores: Mapping[str, Scores] | None = None,
    calibrations: Mapping[str, Calibration] | None = None,
    inputs: ModelInputs | None = None,
    card: str | None = None,
) -> None:
    """Save a task's model with its tokenizers, the settings that it was built with and its thresholds.

    Args:
        scores: scores on each part of the data, stored in ``scores.json`` for people.
        card: model card, stored as ``README.md``; None stores none.
        calibrations: how the model's outputs were calibrated, by question; stored beside the scores.
        inputs: the columns that the model was trained on.

    The folder appears whole or not at all: it is written under another name and renamed at the end.

    Raises:
        FileExistsError: ``folder`` exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; save the model to a new folder")
    with whole_folder(folder) as partial:
        # A progress bar for a file or two would only end up in a log.
        disable_progress_bar()
        for (saved, where), tokenizer in zip(_saved_by_transformers(model), tokenizers, strict=True):
            if TASKS[settings.task.name].chooses_class:
                saved.config.id2label = dict(enumerate(settings.task.class_names))
                saved.config.label2id = {name: number for number, name in enumerate(settings.task.class_names)}
                saved.config.problem_type = "single_label_classification"
            saved.save_pretrained(partial / where)
            # Stock tools cut texts where the tokenizer says.
            with _longest_input(tokenizer, settings.tok.max_length):
                tokenizer.save_pretrained(partial / where)
        if not isinstance(model, NativeModel):
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _own_tensors(model).items()}
            save_file(tensors, partial / _OWN_FILE)
        stored = {"format_version": FORMAT_VERSION, **_stored_settings(settings), "decision": dict(decision)}
        if inputs is not None:
            stored["inputs"] = inputs.to_json()
        settings_file = partial / _SETTINGS_FILE
        settings_file.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
        stored_scores = {part: _flat(values) for part, values in (scores or {}).items()}
        if calibrations:
            stored_scores["calibration"] = _calibration(calibrations)
        (partial / _SCORES_FILE).write_text(json.dumps(stored_scores, indent=2) + "\n", encoding="utf-8")
        if card is not None:
            (partial / _CARD_FILE).write_text(card, encoding="utf-8")
        # Safetensors makes files readable by their owner alone. On a shared machine the user's umask should decide.
        for path in partial.rglob("*"):
            if path.is_file():
                path.chmod(settings_file.stat().st_mode)


def load_model_folder(folder: str | Path) -> SavedModel:
    """Load a model that ``save_model_folder`` saved.

    Raises:
        ModelLoadError: the folder holds no saved model, or a file in it is missing or damaged.
    """
    folder = Path(folder).absolute()
    stored = _read_settings(folder / _SETTINGS_FILE)
    settings = TrialSettings(
        DataSettings(""),
        trial_seeds(0),
        task=_task(stored["task"]),
        head=with_values(HeadSettings(), stored["head"]),
        tok=with_values(TokSettings(), stored["tok"]),
    )
    places = [folder / where for where in _ENCODERS.values()][: len(encoder_names(settings))]
    encoders = [load_encoder(_source(place), seed=0) for place in places]
    model = build_task(settings).build_model(encoders, seed=0)
    if isinstance(model, NativeModel):
        _load_head(model, folder)
    else:
        _load_own_tensors(model, folder / _OWN_FILE)
    inputs = ModelInputs.from_json(stored["inputs"]) if "inputs" in stored else None
    return SavedModel(model.eval(), tuple(map(load_tokenizer, places)), settings, stored["decision"], inputs)


def _flat(scores: Scores) -> dict[str, Any]:
    """Return scores as plain data, with every breakdown under its own name."""
    values = asdict(scores)
    breakdowns: dict[str, Any] = values.pop("breakdowns")
    return {**values, **breakdowns}


def _calibration(calibrations: Mapping[str, Calibration]) -> dict[str, Any]:
    by_question = {question: calibration.as_dict() for question, calibration in calibrations.items()}
    return {"method": METHOD, "error": ESTIMATOR, "fitted_on": "validation", **by_question}


def _task(stored: Mapping[str, Any]) -> TaskSettings:
    labels = stored.get("labels")
    return with_values(TaskSettings(), {**stored, "labels": labels and tuple(labels)})


def _stored_settings(settings: TrialSettings) -> dict[str, Any]:
    """Return the settings that the model's answers depend on."""
    task = replace(settings.task, classes=settings.task.count)
    return {"task": values_of(task), "head": values_of(settings.head), "tok": values_of(settings.tok)}


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        within = path.parent / _EXPORTED
        hint = f"; give {within}" if (within / path.name).exists() else ""
        raise ModelLoadError(f"{path.parent} is not a folder of a saved model: it holds no {path.name}{hint}")
    try:
        settings: dict[str, Any] = read_json(path)
        version = settings["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{path.parent} is not a folder of a saved model: {first_line(error)}") from error
    if version not in _READABLE:
        raise ModelLoadError(
            f"{path}: format_version {version}, but this version of headroom reads"
            f" {', '.join(map(str, _READABLE))}; train the model again, or use the version that saved it"
        )
    return settings


def _source(folder: Path) -> ModelSource:
    return ModelSource(str(folder), "folder", str(folder))


@contextmanager
def _longest_input(tokenizer: PreTrainedTokenizerBase, tokens: int) -> Iterator[None]:
    """Limit a tokenizer's inputs inside the block."""
    before = tokenizer.model_max_length
    tokenizer.model_max_length = tokens
    try:
        yield
    finally:
        tokenizer.model_max_length = before


def _saved_by_transformers(model: nn.Module) -> list[tuple[PreTrainedModel, str]]:
    """Return the parts of a model that transformers saves, each with its folder within the model's."""
    if isinstance(model, NativeModel):
        return [(model.model, ".")]
    return [(getattr(model, name), where) for name, where in _ENCODERS.items() if hasattr(model, name)]


def _own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all tensors except the encoders', which are saved in their own layout."""
    prefixes = tuple(f"{name}." for name in _ENCODERS)
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(prefixes)}


def _load_head(model: NativeModel, folder: Path) -> None:
    """Load the head of a model whose encoder is loaded already; its files name its tensors as transformers does."""
    try:
        model.model.load_state_dict(read_checkpoint(_source(folder)))
    except RuntimeError as error:
        raise ModelLoadError(f"{folder}: its weights do not fit {_SETTINGS_FILE}: {one_line(error)}") from error


def _load_own_tensors(model: nn.Module, path: Path) -> None:
    of_encoders = model.state_dict().keys() - _own_tensors(model).keys()
    state = {name: tensor for name, tensor in model.state_dict().items() if name in of_encoders}
    try:
        model.load_state_dict(state | read_tensors(path))
    except RuntimeError as error:
        raise ModelLoadError(f"{path} does not fit the settings beside it: {one_line(error)}") from error
