"""The model card of a saved model, in the format of the Hugging Face hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.models.names import UnknownModelError, resolve_model
from trainables.settings import encoder_names
from trainables.task_entry import NATIVE, SPAN
from trainables.task_registry import TASKS
from tune_app.config import RunConfig
from tune_app.outcomes import Outcome
from tune_app.study.confirmation import Confirmation
from tune_app.study.reporting import outcome_of, was_launched
from tune_app.study.store import StudyStore
from tune_app.version import VERSION

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

    from trainables.export import BestEpoch

_TEMPLATE = Path(__file__).with_name("model_card.md")
# Metric → its name on the hub, and for people.
_METRICS = {
    "mean_score": ("mean_score", "mean of macro-F1 and exact match"),
    "macro_f1": ("f1", "macro-F1"),
    "binary_f1": ("f1", "F1 of the second class"),
    "accuracy": ("accuracy", "accuracy"),
    "auc": ("roc_auc", "area under the ROC curve"),
    "exact_match": ("exact_match", "exact match of spans"),
    "token_f1": ("f1", "token F1 of spans"),
}
_BASELINES = {
    "majority_macro_f1": "macro-F1 of the most frequent class",
    "empty_exact_match": "exact match of no span",
}
_WORDS = {
    "criteria": "It classifies a text, or a text under a criterion.",
    "evidence": "It finds the words of a text that show a criterion, if any do.",
    "share": "It classifies a text under a criterion, and finds the words that show it.",
    "joint": "It classifies a text under a criterion, and finds the words that show it.",
}
_RANKINGS = {
    "search": "the best value of the search",
    "confirmation": "a confirmation on fresh seeds",
    "choice": "a person's choice",
}

_PIPELINE = """\
```python
from transformers import pipeline

classify = pipeline("text-classification", ".")
classify({example}, truncation={truncation})
```

The likeliest label is the answer; no further threshold applies."""
_QUESTION_ANSWERING = """\
```python
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForQuestionAnswering.from_pretrained(".")
model(**tokenizer("a criterion", "a text", return_tensors="pt"))
```

A span is the answer if its score exceeds that of the first token by more than `null_threshold` in `headroom.json`."""
_OWN = """\
The head is Headroom's own, so transformers' `AutoModel` loads the encoder alone. `pip install headroom-tune` provides:

```python
import pandas
from tune_app import load_model

load_model(".").predict(pandas.DataFrame([{example}]))
```"""


@dataclass(frozen=True)
class Origin:
    """Search that found a model's configuration.

    Attributes:
        trial: number of its trial; None for a recommended configuration that no trial completed.
        launched: number of launched trials.
        complete: number of complete trials.
        ranking: ranking that chose it: ``search``, ``confirmation`` or ``choice``.
        confirmation: confirmation of the study; None without one.
    """

    study: str
    trial: int | None
    launched: int
    complete: int
    ranking: str
    confirmation: Confirmation | None

    @classmethod
    def of(cls, store: StudyStore, exported: RunConfig, confirmation: Confirmation | None) -> "Origin":
        """Return the origin of a configuration that was exported from a study."""
        pinned, trials = exported.pinned, store.trials()
        return cls(
            store.name,
            None if pinned is None else pinned.trial,
            sum(map(was_launched, trials)),
            sum(outcome_of(trial) is Outcome.COMPLETE for trial in trials),
            "confirmation" if pinned is None else pinned.ranking,
            confirmation,
        )


def card_text(
    config: RunConfig, saved: "BestEpoch", facts: Mapping[str, Any], fingerprint: str, origin: Origin | None = None
) -> str:
    """Return the model card of a saved model as the text of ``README.md``. It holds no text of the data.

    Args:
        config: configuration of the training, with the classes of the data.
        facts: facts of the training, as a trial reports them.
        fingerprint: fingerprint of the data.
        origin: search that found the configuration; None without one.
    """
    # Imported here, since it takes a while, and only commands that save a model need it.
    from huggingface_hub import ModelCard

    card = ModelCard.from_template(
        _metadata(config, saved, fingerprint),
        template_str=_TEMPLATE.read_text(encoding="utf-8"),
        name=config.study.name,
        summary=_WORDS.get(config.task.name, f"It does the task {config.task.name}."),
        facts=_facts(config, saved),
        loading=_loading(config, has_criterion=saved.has_criterion),
        scores=_scores(saved),
        confirmed=_confirmed(origin),
        calibration=_calibration(saved),
        parts=[(part, f"{rows:,}", f"{groups:,}") for part, (rows, groups) in saved.parts.items()],
        fingerprint=fingerprint,
        found=_found(config, origin),
        cost=_cost(facts),
        limits=_limits(config, facts),
    )
    return f"{str(card).rstrip()}\n"


def _metadata(config: RunConfig, saved: "BestEpoch", fingerprint: str) -> "ModelCardData":
    from huggingface_hub import EvalResult, ModelCardData

    tag = "text-classification" if TASKS[config.task.name].chooses_class else "question-answering"
    measured = {name: saved.test[name] for name in _METRICS if name in saved.test}
    return ModelCardData(
        library_name="transformers" if config.head.pooling == NATIVE else "headroom",
        pipeline_tag=tag,
        base_model=_hub_name(config.model.name),
        tags=["headroom", config.task.name],
        metrics=list(dict.fromkeys(_METRICS[name][0] for name in measured)),
        model_name=config.study.name,
        eval_results=[
            EvalResult(
                task_type=tag,
                dataset_type="private",
                dataset_name="private data",
                dataset_split="test",
                dataset_revision=fingerprint,
                metric_type=_METRICS[name][0],
                metric_name=_METRICS[name][1],
                metric_value=round(value, 4),
            )
            for name, value in measured.items()
        ],
    )


def _hub_name(model: str) -> str | None:
    try:
        return model if resolve_model(model).kind == "hub" else None
    except UnknownModelError:
        return None


def _facts(config: RunConfig, saved: "BestEpoch") -> list[tuple[str, str]]:
    labels = ", ".join(f"`{name}`" for name in config.task.class_names)
    windows = f" Longer texts are read in windows that share {config.tok.doc_stride} tokens."
    # The path of a model's folder says nothing to others.
    names = encoder_names(config.trial_settings())
    encoders = dict.fromkeys(Path(name).name if Path(name).is_dir() else name for name in names)
    return [
        ("task", f"`{config.task.name}`"),
        *([("labels", labels)] if TASKS[config.task.name].chooses_class else []),
        ("input", f"at most {config.tok.max_length} tokens.{windows if config.task.finds_spans else ''}"),
        ("encoder", ", ".join(f"`{name}`" for name in encoders)),
        ("head", f"`{config.head.pooling}`"),
        ("parameters", f"{saved.parameters:,}"),
    ]


def _loading(config: RunConfig, *, has_criterion: bool) -> str:
    task = TASKS[config.task.name]
    if config.head.pooling != NATIVE:
        example = '{"text": "a text", "criterion": "a criterion"}' if has_criterion else '{"text": "a text"}'
        return _OWN.format(example=example)
    if task.native_head == SPAN:
        return _QUESTION_ANSWERING
    if has_criterion:
        example = '{"text": "a criterion", "text_pair": "a text"}'
        return _PIPELINE.format(example=example, truncation='"only_second"')
    return _PIPELINE.format(example='"a text"', truncation="True")


def _scores(saved: "BestEpoch") -> list[tuple[str, str, str]]:
    names = {name: shown for name, (_, shown) in _METRICS.items()} | _BASELINES
    return [
        (shown, f"{saved.validation[name]:.4f}", f"{saved.test[name]:.4f}")
        for name, shown in names.items()
        if name in saved.validation and name in saved.test
    ]


def _confirmed(origin: Origin | None) -> list[str]:
    """Return lines on what a confirmation expects of the configuration, with intervals."""
    confirmation = origin.confirmation if origin and origin.ranking == "confirmation" else None
    if confirmation is None:
        return ["No confirmation on fresh seeds was made of this configuration, so these scores have no intervals."]
    over = f"{confirmation.folds} folds" if confirmation.folds else f"{confirmation.seeds} seeds"
    expected = f"{confirmation.metric} {confirmation.expected_value:.4f}{_interval(confirmation.expected_interval)}"
    lines = [f"Trained again on {over}, the configuration is expected to reach {expected} on unseen rows."]
    if confirmation.test is not None:
        test = f"{confirmation.test.value:.4f}{_interval(confirmation.test.interval)}"
        lines.append(f"The models of these trainings reach {test} on the test part.")
    return lines


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" (90 % interval {interval[0]:.4f} to {interval[1]:.4f})"


def _calibration(saved: "BestEpoch") -> list[str]:
    if not saved.calibrations:
        return ["The probabilities are not calibrated."]
    lines = ["A temperature that was fitted on validation is part of the last layer's weights."]
    for question, calibration in saved.calibrations.items():
        before, after = calibration.errors["test"]
        temperature = calibration.temperature
        note = f" ({temperature.note})" if temperature.note else ""
        lines.append(
            f"The temperature of the {question} is {temperature.value:.3g}{note}. Its expected calibration error on the"
            f" test part is {after:.4f}, and was {before:.4f} before (15 bins, Guo et al., 2017)."
        )
    return lines


def _found(config: RunConfig, origin: Origin | None) -> str:
    if origin is not None:
        number = "A recommended configuration" if origin.trial is None else f"Trial {origin.trial}"
        return (
            f"{number} of the study `{origin.study}`, with {origin.launched} launched trials, {origin.complete} of them"
            f" complete. It was chosen by {_RANKINGS.get(origin.ranking, origin.ranking)}. Headroom {VERSION}."
        )
    if config.pinned is not None:
        return f"Trial {config.pinned.trial} of the study `{config.pinned.study}`, trained again. Headroom {VERSION}."
    return f"One training without a search. Headroom {VERSION}."


def _cost(facts: Mapping[str, Any]) -> str:
    """Return what the training measured; a value that no device reported is left out."""
    device, precision = facts.get("device"), facts.get("precision")
    measured = []
    if facts.get("peak_gib") is not None:
        batch, micro = facts.get("effective_batch"), facts.get("micro_batch")
        measured.append(f"The training took {facts['peak_gib']:.3g} GiB at most, {batch} rows a step, {micro} a pass.")
    if facts.get("seconds_per_sample"):
        measured.append(f"Scoring took {1 / facts['seconds_per_sample']:,.0f} rows a second.")
    if not measured:
        return "Not measured."
    return f"{' '.join(measured)} Measured on {device} in {precision}."


def _limits(config: RunConfig, facts: Mapping[str, Any]) -> list[str]:
    cut = facts.get("cut_share")
    return [
        "The scores hold for rows like those of the data. Other populations, topics and languages were not tested.",
        *([f"{cut:.0%} of the rows were longer than {config.tok.max_length} tokens and cut to it."] if cut else []),
        "A probability is as often right as it says on average over such rows, not for every group of them.",
        "It may repeat what is wrong or unfair in the labels and in the texts that its encoder was trained on.",
    ]
