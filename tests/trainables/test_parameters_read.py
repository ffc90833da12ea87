"""Searchable parameters: each one changes the training, or the answers of a trained model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.conditions import ActiveSpace, Meets
from search_spaces.space import Scalar, parse_space
from trainables.dry_run import settings_read
from trainables.machine import MachineFiles
from trainables.optimizers import OPTIMIZERS
from trainables.seeds import trial_seeds
from trainables.session import TrainingSession
from trainables.settings import DataSettings, MemorySettings, TrialSettings, with_params
from tune_app.config import searchable_names
from tune_app.config.conditions import conditions


@dataclass(frozen=True)
class Knob:
    """Two values of a parameter, and other settings that it needs to be read.

    Attributes:
        answers_only: it changes the answers alone.
        computation_only: it changes only how often layers are computed, for the same weights and answers.
    """

    values: tuple[Scalar, Scalar]
    beside: dict[str, Scalar] = field(default_factory=dict)
    answers_only: bool = False
    computation_only: bool = False


CONDITIONS = conditions()
SPANS = {"task.name": "evidence"}
LAYERS = {"head.layers": 1, "head.width": 16}
FOCAL = {"loss.name": "focal"}

KNOBS = {
    "model.name": Knob(("tiny-bert", "tiny-roberta")),
    "model.criteria_name": Knob(("tiny-bert", "tiny-roberta"), {"task.name": "joint"}),
    "model.dropout": Knob((0.1, 0.4)),
    "model.attention_dropout": Knob((0.1, 0.4)),
    "model.freeze_layers": Knob((0, 1)),
    "tok.max_length": Knob((16, 40)),
    "tok.doc_stride": Knob((0, 8), SPANS),
    "head.pooling": Knob(("cls", "mean")),
    "head.layers": Knob((0, 2)),
    "head.width": Knob((16, 32), LAYERS),
    "head.activation": Knob(("gelu", "relu"), LAYERS),
    "head.dropout": Knob((0.0, 0.5)),
    "loss.name": Knob(("cross_entropy", "focal")),
    "loss.smoothing": Knob((0.0, 0.2), {"loss.name": "label_smoothing"}),
    "loss.gamma": Knob((1.0, 3.0), FOCAL),
    "loss.alpha": Knob((0.2, 0.8), FOCAL),
    "loss.class_weighting": Knob(("none", "inverse")),
    "optim.name": Knob(("adamw", "adafactor")),
    "optim.lr": Knob((1e-4, 1e-3)),
    "optim.layer_decay": Knob((0.8, 1.0)),
    "optim.weight_decay": Knob((0.0, 0.5)),
    "optim.beta1": Knob((0.5, 0.9)),
    "optim.beta2": Knob((0.9, 0.999)),
    "optim.eps": Knob((1e-8, 1e-3)),
    "schedule.name": Knob(("linear", "constant")),
    "schedule.warmup_ratio": Knob((0.0, 0.5)),
    "schedule.cycles": Knob((1, 3), {"schedule.name": "cosine_restarts"}),
    "schedule.power": Knob((1.0, 3.0), {"schedule.name": "polynomial"}),
    "train.batch_size": Knob((8, 16)),
    "train.grad_accum": Knob((1, 2)),
    "train.clip_norm": Knob((0.0, 0.01)),
    "train.checkpointing": Knob((False, True), computation_only=True),
    "augment.name": Knob(("none", "mask")),
    "augment.probability": Knob((0.2, 0.9), {"augment.name": "delete"}),
    "augment.strength": Knob((0.1, 0.5), {"augment.name": "swap"}),
    "augment.rows": Knob(("all", "positives"), {"augment.name": "mask", "augment.probability": 1.0}),
    "task.threshold": Knob((0.0, 1.0), answers_only=True),
    "task.null_threshold": Knob((-50.0, 50.0), SPANS, answers_only=True),
    "task.max_answer_length": Knob((1, 30), {**SPANS, "task.null_threshold": -50.0}, answers_only=True),
    "task.criteria_weight": Knob((0.2, 0.8), {"task.name": "share"}),
    "task.n_best": Knob((1, 20), {**SPANS, "task.null_threshold": -50.0}, answers_only=True),
}

SETTINGS = with_params(
    TrialSettings(
        data=DataSettings("demo", max_rows=60), seeds=trial_seeds(0), memory=MemorySettings(micro_batch=8, eval_batch=8)
    ),
    {
        "model.name": "tiny-bert",
        "tok.max_length": 32,
        "tok.doc_stride": 4,
        "optim.lr": 1e-3,
        "train.batch_size": 8,
        "train.epochs": 1,
        "train.precision": "fp32",
    },
)

Session = Callable[[TrialSettings], TrainingSession]
Trained = tuple[torch.Tensor, Any, int]
Train = Callable[[TrialSettings], Trained]


@pytest.fixture(scope="module")
def train(session_of: Session) -> Train:
    """Return ``trained`` that trains the same settings only once: many parameters are compared with the same run."""
    runs: dict[TrialSettings, Trained] = {}

    def once(settings: TrialSettings) -> Trained:
        if settings not in runs:
            runs[settings] = trained(settings, session_of)
        return runs[settings]

    return once


@pytest.mark.parametrize("name", searchable_names())
def test_turning_a_knob_changes_what_is_trained(name: str, train: Train) -> None:
    assert name in KNOBS, f"{name} is new: say in KNOBS how it shows"
    knob = KNOBS[name]
    (weights, answers, computed), (other_weights, other_answers, other_computed) = (
        train(with_params(SETTINGS, {**knob.beside, name: value})) for value in knob.values
    )
    if knob.computation_only:
        torch.testing.assert_close(weights, other_weights)
        assert answers == other_answers
        assert computed != other_computed
    elif knob.answers_only:
        assert torch.equal(weights, other_weights), "training itself does not depend on it"
        assert answers != other_answers
    else:
        assert weights.shape != other_weights.shape or not torch.equal(weights, other_weights)


def trained(settings: TrialSettings, session_of: Session) -> Trained:
    """Train an epoch of a few steps.

    Returns:
        All weights, the outputs on the validation part, and the number of calls of linear layers in the epoch.
    """
    session = session_of(settings)
    calls: list[torch.nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: calls.append(module))
        for module in session.model.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    session.train_epoch()
    for hook in hooks:
        hook.remove()
    scores = session.evaluate("validation")
    weights = torch.cat([parameter.detach().flatten() for parameter in session.model.parameters()])
    return weights, (scores.metrics, scores.decision), len(calls)


def test_the_same_settings_train_the_same(session_of: Session) -> None:
    (weights, answers, _), (again, answers_again, _) = (trained(SETTINGS, session_of) for _ in range(2))
    assert torch.equal(weights, again)
    assert answers == answers_again


def test_a_conditional_parameter_is_read_where_its_condition_holds(machine_folder: Path) -> None:
    by_settings: dict[tuple[tuple[str, Scalar], ...], list[str]] = {}
    for name in CONDITIONS:
        by_settings.setdefault(tuple(KNOBS[name].beside.items()), []).append(name)
    for beside, names in by_settings.items():
        settings = with_params(SETTINGS, {**dict(beside), **{name: KNOBS[name].values[0] for name in names}})
        assert [name for name in names if not is_active(name, settings)] == [], "each is tried where it is read"
        assert set(names) <= set(settings_read(settings, MachineFiles(machine_folder)))


UNREAD = [name for name, found in CONDITIONS.items() if not any(isinstance(condition, Meets) for condition in found)]
"""Parameters that may have any value where the condition does not hold; others are rejected there."""


@pytest.mark.parametrize("name", UNREAD)
def test_a_conditional_parameter_changes_nothing_where_its_condition_fails(name: str, train: Train) -> None:
    changes: list[dict[str, Scalar]] = [{}, SPANS, {"optim.name": "adafactor"}, {"head.pooling": "native"}]
    others = [with_params(SETTINGS, change) for change in changes]
    base = next(settings for settings in others if not is_active(name, settings))
    (weights, answers, _), (other_weights, other_answers, _) = (
        train(with_params(base, {name: value})) for value in KNOBS[name].values
    )
    assert torch.equal(weights, other_weights)
    assert answers == other_answers


def test_the_optimizers_say_the_same_of_what_they_read() -> None:
    for name in (name for name in searchable_names() if name.startswith("optim.") and name != "optim.name"):
        reading = {key for key, facts in OPTIMIZERS.items() if name in facts.reads}
        on_optimizer = [condition for condition in CONDITIONS.get(name, ()) if condition.name == "optim.name"]
        assert all(all(condition.holds(key) for condition in on_optimizer) == (key in reading) for key in OPTIMIZERS)


def is_active(name: str, settings: TrialSettings) -> bool:
    fixed = {
        f"{section}.{field}": value
        for section, values in vars(settings).items()
        for field, value in vars(values).items()
    }
    return ActiveSpace(parse_space({name: {"choices": [1]}}), fixed, CONDITIONS).is_active(name, {})
