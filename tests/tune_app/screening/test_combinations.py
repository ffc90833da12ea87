"""Models and settings that exclude each other: an error where fixed, rejected where sampled, before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from search_spaces.rules import Sample, violations
from tune_app.cli import main
from tune_app.config import RunConfig, parse_config
from tune_app.errors import UserError
from tune_app.screening.combinations import check_combinations, combination_rules
from tune_app.screening.preconditions import model_names

RATES = {"low": 1e-5, "high": 1e-3, "log": True}
MODELS = {"choices": ["albert-base-v2", "bert-base-uncased"]}


def config_of(*overrides: str, space: dict[str, Any] | None = None) -> RunConfig:
    raw: dict[str, Any] = {"study": {"name": "test", "dir": "/runs"}, "data": {"path": "demo"}}
    return parse_config(raw | ({"space": space} if space else {}), overrides)


def refused(*overrides: str, space: dict[str, Any] | None = None) -> str | None:
    config = config_of(*overrides, space=space)
    try:
        check_combinations(config, model_names(config))
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["train.checkpointing=true"], "train.checkpointing: true: albert encoders do not support gradient checkpoint"),
        (["model.freeze_layers=2"], "model.freeze_layers: 2: the layers of albert encoders share their weights; set"),
        (["optim.layer_decay=0.9"], "optim.layer_decay: 0.9: the layers of albert encoders share their weights; set"),
        (["tok.max_length=513"], "tok.max_length: 513: this albert encoder has 512 positions; give at most 512, or"),
        (["model.name=tiny-deberta", "head.pooling=pooler"], 'head.pooling: "pooler": deberta-v2 encoders have no'),
        (["model.name=tiny-bert", "task.name=share", "head.pooling=native"], 'head.pooling: "native": no head of'),
        (["model.name=tiny-bert", "task.name=evidence", "head.pooling=mean"], 'head.pooling: "mean": task evidence'),
        (["model.name=tiny-bert", "model.freeze_layers=3"], "model.freeze_layers: 3: this bert encoder has 2 layers;"),
    ],
)
def test_an_impossible_fixed_setting_is_refused_by_name(overrides: list[str], expected: str) -> None:
    for space in (None, {"optim.lr": RATES}):
        message = refused("model.name=albert-base-v2", *overrides, space=space)
        assert message is not None
        assert message.startswith(expected)
        assert len(message.splitlines()) == 1
        assert f"or use another model than {'tiny' if 'tiny' in ''.join(overrides) else 'albert-base-v2'}" in message


def test_valid_combinations_are_accepted() -> None:
    every = ("train.checkpointing=true", "model.freeze_layers=2", "optim.layer_decay=0.9", "model.dropout=0.2")
    assert refused("model.name=tiny-bert", *every) is None
    assert refused("model.name=albert-base-v2", "model.dropout=0.2", "model.attention_dropout=0.1") is None
    assert refused("model.name=tiny-deberta", "task.name=evidence", "head.pooling=native") is None
    assert refused("model.name=EuroBERT/EuroBERT-210m", "head.pooling=native") is None


def test_a_family_without_a_native_head_is_refused_or_rejected() -> None:
    message = refused("model.name=EuroBERT/EuroBERT-210m", "task.name=evidence", "head.pooling=native")
    assert message is not None
    assert message.startswith('head.pooling: "native": transformers defines no eurobert model with a head for task')
    models = ["EuroBERT/EuroBERT-210m", "tiny-bert"]
    space = {"model.name": {"choices": models}, "head.pooling": {"choices": ["native", "cls"]}}
    config = config_of("task.name=evidence", space=space)
    assert rejected(config, model__name=models[0], head__pooling="native") is not None
    assert rejected(config, model__name=models[0], head__pooling="cls") is None
    assert rejected(config, model__name=models[1], head__pooling="native") is None


def test_one_model_of_the_space_that_can_is_enough() -> None:
    space = {"optim.lr": RATES, "model.name": MODELS}
    assert refused("train.checkpointing=true", space=space) is None
    message = refused("train.checkpointing=true", space={**space, "model.name": {"choices": ["albert-base-v2"]}})
    assert message is not None


def test_both_encoders_of_a_pair_must_follow() -> None:
    pair = ("task.name=joint", "model.name=bert-base-uncased", "model.criteria_name=albert-base-v2")
    assert refused(*pair) is None
    message = refused(*pair, "train.checkpointing=true")
    assert message is not None
    assert "albert encoders" in message


def rejected(config: RunConfig, **params: Any) -> str | None:
    """Return the reason of the rule against combinations, or None."""
    sample = {name.replace("__", "."): value for name, value in params.items()}
    rules = combination_rules(config, model_names(config))
    found = violations(rules, Sample.of({**config.fixed_params(), **sample}))
    assert [violation.rule for violation in found] in ([], ["combination"])
    return found[0].reason if found else None


def test_samples_that_cannot_be_are_rejected_and_no_others() -> None:
    space = {"model.name": MODELS, "train.checkpointing": {"choices": [True]}, "tok.max_length": {"choices": [64, 600]}}
    config = config_of("optim.layer_decay=0.8", space=space)
    assert rejected(config, model__name="bert-base-uncased", train__checkpointing=True, tok__max_length=64) is None
    reason = rejected(config, model__name="bert-base-uncased", train__checkpointing=True, tok__max_length=600)
    assert reason is not None
    assert reason.endswith("the combination: tok.max_length: 600: this bert encoder has 512 positions")
    reason = rejected(config, model__name="albert-base-v2", train__checkpointing=True, tok__max_length=64)
    assert reason is not None
    assert reason.startswith("model albert-base-v2, batch 16, accumulation 1, length 64: the combination: ")
    assert "train.checkpointing: true: albert" in reason
    assert "optim.layer_decay: 0.8: the layers of albert" in reason


def test_an_albert_under_another_name_is_known_by_its_configuration(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.json").write_text(json.dumps({"model_type": "albert", "num_hidden_layers": 12}))
    models = {"choices": [str(mine), "tiny-bert"]}
    for choices, is_rejected in (([False, True], False), ([True], True)):
        config = config_of(space={"model.name": models, "train.checkpointing": {"choices": choices}})
        assert (rejected(config, model__name=str(mine), train__checkpointing=True) is not None) == is_rejected
        assert rejected(config, model__name="tiny-bert", train__checkpointing=True) is None


def test_the_second_encoder_of_a_sample_is_looked_at_too() -> None:
    space = {"model.criteria_name": MODELS, "train.checkpointing": {"choices": [True, False]}}
    config = config_of("task.name=joint", "model.name=tiny-bert", space=space)
    assert rejected(config, model__criteria_name="bert-base-uncased", train__checkpointing=True) is None
    assert rejected(config, model__criteria_name="albert-base-v2", train__checkpointing=True) is not None
    assert rejected(config, model__criteria_name="albert-base-v2", train__checkpointing=False) is None


@pytest.mark.parametrize("limits", ["null", "predicted"])
@pytest.mark.parametrize(
    ("space", "names"),
    [
        ({"model.name": MODELS, "train.checkpointing": {"choices": [True, False]}}, []),
        ({"model.name": MODELS, "train.checkpointing": {"choices": [True]}}, ["combination"]),
        ({"model.name": MODELS, "model.freeze_layers": {"low": 0, "high": 6}}, []),
        ({"model.name": MODELS, "model.freeze_layers": {"low": 2, "high": 6}}, ["combination"]),
        ({"model.name": MODELS, "model.freeze_layers": {"low": 0, "high": 13}}, ["combination"]),
        ({"model.name": MODELS, "tok.max_length": {"low": 128, "high": 768, "step": 64}}, ["combination"]),
        ({"model.name": {"choices": ["tiny-bert"]}, "model.freeze_layers": {"low": 0, "high": 2}}, []),
        ({"model.name": MODELS, "model.dropout": {"low": 0.0, "high": 0.5}}, []),
        (
            {"model.name": {"choices": ["tiny-bert", "tiny-deberta"]}, "head.pooling": {"choices": ["cls", "pooler"]}},
            ["combination"],
        ),
    ],
)
def test_the_rule_is_there_where_the_space_can_hit_it(space: dict[str, Any], names: list[str], limits: str) -> None:
    config = config_of(f"limits={limits}", space=space)
    assert [rule.name for rule in combination_rules(config, model_names(config))] == names


def test_a_hub_model_is_looked_up_only_where_the_answer_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def offline(source: Any, *_: Any) -> None:
        asked.append(source.name)

    monkeypatch.setattr("trainables.models.checkpoint.fetch", offline)
    assert refused("model.name=nobody/unheard-of-1") is None
    assert asked == []
    assert refused("model.name=nobody/unheard-of-1", "train.checkpointing=true") is None, "loading it will tell"
    assert asked == ["nobody/unheard-of-1"]


def test_a_folder_says_itself_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "albert", "num_hidden_layers": 12}))
    message = refused(f"model.name={tmp_path}", "train.checkpointing=true")
    assert message is not None
    assert "albert" in message


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(
        json.dumps(
            {
                "study": {"name": "test", "dir": str(tmp_path / "runs")},
                "data": {"path": "demo", "max_rows": 60},
                "model": {"name": "albert-base-v2"},
                "train": {"checkpointing": True},
                "tracking": {"enabled": False},
            }
        )
    )
    return str(path)


@pytest.mark.parametrize(
    "command",
    [
        ["search", "-s", "space.optim.lr={low: 1.0e-5, high: 1.0e-3}"],
        ["train", "--to", "model"],
        ["memory"],
        ["memory", "--model", "albert-base-v2", "--batch", "8", "--length", "64"],
    ],
    ids=["search", "train", "memory", "verdict"],
)
def test_every_command_refuses_what_is_fixed_before_it_starts(
    command: list[str], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    verb, *rest = command
    with pytest.raises(SystemExit) as exited:
        main([verb, file, *rest])
    captured = capsys.readouterr()
    assert exited.value.code == 2
    assert captured.err.startswith("headroom: train.checkpointing: true: albert encoders do not support")
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert not (tmp_path / "runs").exists()
