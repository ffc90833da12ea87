"""Configuration: complete and checked before anything runs; one line reports an error."""

import dataclasses
import re
import tempfile
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticUndefined

from search_spaces.conditions import CONDITIONS
from search_spaces.rules import LimitSet
from search_spaces.space import Choices, FloatRange
from trainables import settings as trial
from trainables.machine import machine_folder
from trainables.models.names import BUILTIN_NAMES
from trainables.optimizers import OPTIMIZERS
from trainables.seeds import trial_seeds
from tune_app.config import (
    SEARCHABLE,
    RunConfig,
    dump_yaml,
    load_config,
    parse_config,
    searchable_names,
    with_classes,
)
from tune_app.config.training_sections import OptimSection
from tune_app.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
LEAST = "study: {name: test}\ndata: {path: demo}\n"


def least() -> dict[str, Any]:
    return {"study": {"name": "test", "dir": "/runs"}, "data": {"path": "demo"}}


def parse(*overrides: str) -> RunConfig:
    return parse_config(least(), overrides)


def assert_one_line(caught: pytest.ExceptionInfo[UserError], parts: list[str]) -> None:
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert "Traceback" not in message
    assert [part for part in parts if part not in message] == [], message


BAD_SETTINGS: list[tuple[str, list[str]]] = [
    ("train: {epoch: 3}", ["train.epoch:", "did you mean train.epochs?"]),
    ("optm: {lr: 0.1}", ["optm:", "did you mean optim?"]),
    ("lr: 0.1", ["lr:", "did you mean optim.lr?"]),
    ("zzz: 1", ["zzz:", "unknown setting", "known here: study, data"]),
    ("limits: {large: {bach: 3}}", ["limits.large.bach:", "did you mean batch?"]),
    ("train: {epochs: '3'}", ["train.epochs:", "'3'", "whole number"]),
    ("train: {epochs: true}", ["train.epochs:", "True", "whole number"]),
    ("train: {epochs: 3.0}", ["train.epochs:", "3.0", "whole number"]),
    ("train: {epochs: 0}", ["train.epochs:", "0", "greater than 0"]),
    ("train: {epochs: null}", ["train.epochs:", "None", "whole number"]),
    ("train: {epochs: [3]}", ["train.epochs:", "[3]", "whole number"]),
    ("optim: {name: adam}", ["optim.name:", "'adam'", "adamw, adafactor, lion, adamw_8bit", "did you mean adamw?"]),
    ("optim: {lr: fast}", ["optim.lr:", "'fast'", "number"]),
    ("optim: {lr: true}", ["optim.lr:", "True", "number"]),
    ("optim: {lr: .nan}", ["optim.lr:", "nan", "finite"]),
    ("optim: {lr: .inf}", ["optim.lr:", "inf", "finite"]),
    ("optim: {lr: 2}", ["optim.lr:", "2", "less than or equal to 1"]),
    ("optim: {lr: 2001-01-01}", ["optim.lr:", "2001", "number"]),
    ("optim: {lr: 1.0.0}", ["optim.lr:", "'1.0.0'", "number"]),
    ("train: {tf32: 1}", ["train.tf32:", "1", "true or false"]),
    ("train: {tf32: 'yes'}", ["train.tf32:", "'yes'", "true or false"]),
    ("model: {name: 3}", ["model.name:", "3", "text"]),
    ("model: {name: ''}", ["model.name:", "''", "is blank"]),
    ("head: {pooling: men}", ["head.pooling:", "'men'", "cls, mean, max, pooler, attention", "did you mean mean?"]),
    ("search: {sampler: grid}", ["search.sampler:", "'grid'", "tpe, nsga2, random, exhaustive"]),
    ("train: null", ["train:", "settings (key: value)"]),
    ("train: 3", ["train:", "3", "settings (key: value)"]),
    ("train: [epochs]", ["train:", "['epochs']", "settings (key: value)"]),
    ("tracking: false", ["tracking:", "False", "settings (key: value)"]),
    ("1: 3", ["1:", "strings"]),
    ("memory: {budget_gib: 0}", ["memory.budget_gib:", "0"]),
    ("memory: {budget_gib: -2.5}", ["memory.budget_gib:", "-2.5"]),
    ("memory: {micro_batch: most}", ["memory.micro_batch:", "'most'", "expected auto, or a whole number above 0"]),
    ("memory: {eval_batch: 0}", ["memory.eval_batch:", "0", "expected auto, or a whole number above 0"]),
    ("resources: {gpu: 1.5}", ["resources.gpu:", "1.5", "0.5"]),
    ("resources: {gpu: -1}", ["resources.gpu:", "-1", "greater than or equal to 0"]),
    ("resources: {gpu: .inf}", ["resources.gpu:", "inf", "auto"]),
    ("resources: {gpu: half}", ["resources.gpu:", "'half'", "auto", "0.25"]),
    ("resources: {gpu: true}", ["resources.gpu:", "True", "auto", "0.25"]),
    ("resources: {passes: 0}", ["resources.passes:", "0", "greater than 0"]),
    ("memory: {headroom: -0.1}", ["memory.headroom:", "-0.1", "greater than or equal to 0"]),
    ("optim: {eps: 1.0e-50}", ["optim.eps: 1e-50:", "greater than or equal to 1e-20"]),
    ("memory: {headroom: 1}", ["memory.headroom:", "1", "less than 1"]),
    ("memory: {device_gib: 0}", ["memory.device_gib:", "0", "greater than 0"]),
    ("memory: {max_accumulation: 0}", ["memory.max_accumulation:", "0", "greater than 0"]),
    ("memory: {max_accumulation: 2.5}", ["memory.max_accumulation:", "2.5", "whole number"]),
    ("memory: {allow_checkpointing: 1}", ["memory.allow_checkpointing:", "1", "true or false"]),
    ("limits: users_24g", ["limits:", "'users_24g'", "did you mean users_24gb?", "predicted", "users_families"]),
    ("limits: predict", ["limits:", "'predict'", "did you mean predicted?"]),
    ("limits: 3", ["limits:", "3", "known: predicted"]),
    ("limits: [predicted, users_familie]", ["limits:", "'users_familie'", "did you mean users_families?"]),
    ("limits: [predicted, predicted]", ["limits:", "'predicted'", "twice"]),
    ("limits: {from: predicted}", ["limits.from:", "'predicted'", "known: users_24gb"]),
    ("limits: [predicted, {large: {bach: 3}}]", ["limits.large.bach:", "did you mean batch?"]),
    ("limits: {large: {batch: '16'}}", ["limits.large.batch:", "'16'", "whole number"]),
    ("limits: {large: {batch: true}}", ["limits.large.batch:", "True", "whole number"]),
    (
        "scheduler: {warmup: 4}\nspace: {optim.lr: {choices: [0.1]}}",
        ["scheduler.warmup:", "4", "train.epochs", "3", "lower it"],
    ),
    (
        "train: {epochs: 1}\nscheduler: {rung: epoch}\nspace: {optim.lr: {choices: [0.1]}}",
        ["scheduler.rung: epoch leaves asha", "1 epoch (train.epochs)", "scheduler.rung=0.25", "scheduler.name=none"],
    ),
    (
        "train: {epochs: 3}\nscheduler: {warmup: 3}\nspace: {optim.lr: {choices: [0.1]}}",
        ["scheduler.warmup:", "3 leaves asha", "3 epochs (train.epochs)", "scheduler.name=none"],
    ),
    ("scheduler: {rung: 0.3}", ["scheduler.rung: 0.3:", "a whole number of rungs", "0.25"]),
    ("scheduler: {rung: 2}", ["scheduler.rung: 2:", "expected auto, epoch, or a share of one"]),
    (
        "scheduler: {name: hyperband, warmup: 2}\nspace: {optim.lr: {choices: [0.1]}}",
        ["scheduler.reduction_factor:", "3 epochs (train.epochs)", "rounded down 1", "scheduler.warmup 2"],
    ),
    ("scheduler: {warmup_epochs: 2, warmup: 1}", ["scheduler.warmup_epochs:", "2", "its new name", "keep one"]),
    ("scheduler: {warmup_epochs: 0}", ["scheduler.warmup:", "0", "greater than 0"]),
    ("space: 3", ["space:", "names with choices or ranges"]),
    ("space: {}", ["space:", "empty", "name at least one"]),
    ("space: [optim.lr]", ["space:", "a list"]),
    ("space: {optim.l: {choices: [0.1]}}", ["space.optim.l:", "did you mean optim.lr?"]),
    ("space: {lr: {choices: [0.1]}}", ["space.lr:", "no such parameter", "optim.lr"]),
    ("space: {data.path: {choices: [a]}}", ["space.data.path:", "no such parameter"]),
    ("space: {a.b.c: {choices: [a]}}", ["space.a.b.c:", "no such parameter"]),
    ("space: {optim: {lr: {choices: [0.1]}}}", ["space.optim:", "nested", "optim.lr"]),
    ("space: {optim.lr: 0.1}", ["space.optim.lr:", "0.1", "choices"]),
    ("space: {train.epochs: {choices: [1, 2]}}", ["space.train.epochs:", "cannot be searched", "outside the space"]),
    ("space: {train.precision: {choices: [fp32]}}", ["space.train.precision:", "cannot be searched"]),
    ("space: {train.patience: {choices: [1, 2]}}", ["space.train.patience:", "cannot be searched"]),
    ("space: {model.revision: {choices: [main]}}", ["space.model.revision:", "cannot be searched"]),
    ("space: {optim.lr: {choices: [0.1, 2.0]}}", ["space.optim.lr:", "2.0", "less than or equal to 1"]),
    ("space: {optim.lr: {low: 0.1, high: 2.0}}", ["space.optim.lr:", "2.0", "less than or equal to 1"]),
    ("space: {optim.lr: {low: 0.0, high: 0.1}}", ["space.optim.lr:", "0.0", "greater than 0"]),
    ("space: {optim.lr: {choices: [slow, fast]}}", ["space.optim.lr:", "'slow'", "number"]),
    ("space: {train.batch_size: {low: 8.0, high: 16.0}}", ["space.train.batch_size:", "8.0", "whole number"]),
    ("space: {head.pooling: {choices: [cls, men]}}", ["space.head.pooling:", "'men'", "did you mean mean?"]),
    (
        "space: {loss.gamma: {choices: [1.0, 2.0]}}",
        ["space.loss.gamma:", "used only with loss.name=focal", "loss.name is cross_entropy", "drop space.loss.gamma"],
    ),
    (
        "space: {schedule.power: {low: 1.0, high: 2.0}, schedule.name: {choices: [linear, cosine]}}",
        ["space.schedule.power:", "schedule.name=polynomial", "schedule.name may be linear, cosine only"],
    ),
    (
        "search: {sampler: exhaustive}\nspace: {optim.lr: {low: 0.1, high: 0.2}}",
        ["search.sampler:", "exhaustive", "float range space.optim.lr", "choices"],
    ),
]


@pytest.mark.parametrize(("text", "parts"), BAD_SETTINGS, ids=[row[0] for row in BAD_SETTINGS])
def test_a_wrong_setting_is_named_with_its_value_and_the_remedy(text: str, parts: list[str], tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(LEAST + text)
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert_one_line(caught, parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data: {path: demo}", ["study:", "missing", "bad.yaml", "-s study=…"]),
        ("study: {name: a}", ["data:", "missing"]),
        ("study: {dir: runs}\ndata: {path: demo}", ["study.name:", "missing", "-s study.name=…"]),
        ("study: {name: a}\ndata: {path: 3}", ["data.path:", "3", "text"]),
        (
            "study: {name: a}\ndata: {path: demo, validation_share: 0.9}",
            ["data.validation_share:", "0.9", "data.test_share 0.2", "lower one"],
        ),
    ],
)
def test_what_every_run_needs_is_asked_for(text: str, parts: list[str], tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert_one_line(caught, parts)


def test_a_reused_anchor_is_no_noise(tmp_path: Path) -> None:
    file = tmp_path / "anchors.yaml"
    file.write_text("study: {name: &n a}\ndata: {path: &n demo}\nmodel: {name: *n}\n")
    assert load_config(file).model.name == "demo"


BAD_OVERRIDES: list[tuple[str, list[str]]] = [
    ("", ["-s", "KEY=VALUE"]),
    ("=", ["-s =", "KEY=VALUE"]),
    ("=3", ["-s =3", "KEY=VALUE"]),
    ("train.epochs", ["-s train.epochs", "KEY=VALUE"]),
    ("train.epochs=[", ["-s train.epochs", "'['", "not valid YAML"]),
    ("train.epochs={a: 1, a: 2}", ["-s train.epochs", "not valid YAML"]),
    ("train.epochs=*x", ["-s train.epochs", "not valid YAML"]),
    ("train.epochs=2001-99-99", ["-s train.epochs", "not valid YAML"]),
    ("train.epochs=!!int abc", ["-s train.epochs", "not valid YAML"]),
    ("train.epochs=!!python/object/apply:os.getcwd []", ["-s train.epochs", "not valid YAML"]),
    ("train.epochs=5\nfoo: 3", ["-s train.epochs", "not valid YAML"]),
    ("train.epochs=", ["train.epochs", "None"]),
    ("train.epochs=abc", ["train.epochs", "'abc'", "whole number"]),
    ("train.epochs.x=3", ["train.epochs", "whole number"]),
    ("study.name.x=3", ["-s study.name.x", "study.name is 'test'"]),
    ("train.epoch=3", ["train.epoch", "did you mean train.epochs?"]),
    ("train..epochs=3", ["train.", "unknown setting"]),
    ("tra\nin=3", ["unknown setting"]),
    ("space=3", ["space:", "names with choices"]),
    ("space.optim.lr=3", ["space.optim.lr", "3", "choices"]),
    ("space.optim.lr.choices=3", ["space.optim.lr.choices", "3", "list"]),
    ("space.optim.lr.choces=[0.1]", ["space.optim.lr.choces", "choices"]),
    ("space.optim.l.choices=[0.1]", ["space.optim.l", "did you mean optim.lr?"]),
    ("space.optim.lr.high=0.5", ["space.optim.lr", "low"]),
]


@pytest.mark.parametrize(("override", "parts"), BAD_OVERRIDES, ids=[repr(row[0]) for row in BAD_OVERRIDES])
def test_a_wrong_override_is_named_with_the_remedy(override: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse(override)
    assert_one_line(caught, parts)


def test_a_misspelt_key_of_an_entry_is_told_from_a_new_entry() -> None:
    raw = {**least(), "space": {"optim.lr": {"choices": [0.1]}}}
    with pytest.raises(UserError) as caught:
        parse_config(raw, ["space.optim.lr.choces=[0.2]"])
    assert_one_line(caught, ["space.optim.lr.choces", "did you mean choices?"])


def test_the_last_override_of_a_setting_stands() -> None:
    assert parse("train.epochs=5", "train.epochs=7").train.epochs == 7


def test_overrides_reach_nested_settings() -> None:
    config = parse(
        "data.columns.label=target",
        "limits=users_24gb",
        "limits.large.batch=8",
        "train={epochs: 9}",
        "train.patience=2",
        "model.name='a = b'",
    )
    assert config.data.columns.label == "target"
    (limits,) = config.limits
    assert isinstance(limits, LimitSet)
    assert (limits.large.batch, limits.large.length) == (8, 384)
    assert (config.train.epochs, config.train.patience) == (9, 2)
    assert config.model.name == "a = b"


USERS_24GB = LimitSet.model_validate({"from": "users_24gb"})
OWN = LimitSet.model_validate({"large": {"batch": 8}})


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ("null", ()),
        ("predicted", ("predicted",)),
        ("users_24gb", (USERS_24GB,)),
        ("users_families", ("users_families",)),
        ("{large: {batch: 8}}", (OWN,)),
        ("[]", ()),
        ("[predicted, users_24gb, users_families]", ("predicted", USERS_24GB, "users_families")),
        ("[{large: {batch: 8}}, predicted]", (OWN, "predicted")),
    ],
)
def test_limits_are_a_name_ones_own_or_several_together(given: str, limits: Any, tmp_path: Path) -> None:
    config = parse(f"limits={given}")
    assert config.limits == limits
    assert parse_config(config.as_dict()) == config
    dump_yaml(config.as_dict(), tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_prediction_alone_turns_away_by_default() -> None:
    assert parse().limits == ("predicted",)
    assert parse().as_dict()["limits"] == "predicted"


@pytest.mark.parametrize(
    ("overrides", "limits"),
    [
        (["limits.large.batch=8"], ("predicted", OWN)),
        (["limits=null", "limits.large.batch=8"], (OWN,)),
        (["limits=[users_families]", "limits.large={batch: 8}"], ("users_families", OWN)),
        (
            ["limits=[predicted, users_24gb]", "limits.large.batch=8"],
            ("predicted", LimitSet.model_validate({"from": "users_24gb", "large": {"batch": 8}})),
        ),
    ],
)
def test_an_override_changes_ones_own_limits_and_leaves_the_others(overrides: list[str], limits: Any) -> None:
    assert parse(*overrides).limits == limits


@pytest.mark.parametrize(("given", "gpu"), [("auto", "auto"), ("null", "auto"), ("0", 0.0), ("0.25", 0.25), ("2", 2.0)])
def test_a_gpu_share_is_by_need_or_fixed(given: str, gpu: object) -> None:
    assert parse(f"resources.gpu={given}").resources.gpu == gpu


def test_overrides_replace_add_and_drop_entries_of_the_space() -> None:
    raw = {**least(), "space": {"optim.lr": {"low": 0.1, "high": 0.2}, "train.batch_size": {"choices": [8]}}}
    config = parse_config(
        raw,
        [
            "space.optim.lr={choices: [0.3]}",
            "space.train.batch_size=null",
            "space.head.dropout.low=0.0",
            "space.head.dropout.high=0.5",
            "space.model.name.choices=[tiny-bert, tiny-roberta]",
        ],
    )
    assert config.space is not None
    assert config.space.as_dict() == {
        "optim.lr": {"choices": [0.3]},
        "head.dropout": {"type": "float", "low": 0.0, "high": 0.5, "log": False},
        "model.name": {"choices": ["tiny-bert", "tiny-roberta"]},
    }


def test_an_override_changes_one_key_of_an_entry() -> None:
    raw = {**least(), "space": {"optim.lr": {"low": 0.1, "high": 0.2}}}
    config = parse_config(raw, ["space.optim.lr.high=0.5", "space.optim.lr.log=true"])
    assert config.space is not None
    assert config.space.entries["optim.lr"] == FloatRange(low=0.1, high=0.5, log=True)


def test_a_space_that_is_null_can_be_filled_from_the_command_line() -> None:
    config = parse_config({**least(), "space": None}, ["space.optim.lr.choices=[0.1]"])
    assert config.space is not None
    assert config.space.entries == {"optim.lr": Choices(choices=(0.1,))}


def test_a_space_can_be_dropped_whole() -> None:
    assert parse_config({**least(), "space": {"optim.lr": {"choices": [0.1]}}}, ["space=null"]).space is None


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1.0e-5", "0.00001", "1e-05"])
def test_numbers_with_an_exponent_are_numbers(text: str, tmp_path: Path) -> None:
    file = tmp_path / "lr.yaml"
    file.write_text(
        f"{LEAST}optim: {{lr: {text}}}\nspace: {{optim.eps: {{choices: [{text}, 1]}}}}".replace(", 1]", "]")
    )
    config = load_config(file, [f"optim.weight_decay={text}"])
    assert config.optim.lr == config.optim.weight_decay == 1e-5
    assert config.space is not None
    assert config.space.entries["optim.eps"] == Choices(choices=(1e-5,))


def test_a_whole_number_serves_where_any_number_does() -> None:
    assert parse("train.clip_norm=1", "resources.gpu=2").train.clip_norm == 1.0


SECTION_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "train": st.fixed_dictionaries(
            {},
            optional={
                "batch_size": st.integers(1, 65536),
                "epochs": st.integers(1, 10_000),
                "patience": st.none() | st.integers(1, 100),
                "clip_norm": st.floats(0, 1e9),
                "tf32": st.booleans(),
                "precision": st.sampled_from(["auto", "fp32", "bf16"]),
            },
        ),
        "optim": st.fixed_dictionaries(
            {}, optional={"lr": st.floats(1e-300, 1.0), "eps": st.floats(1e-20, 1, exclude_max=True)}
        ),
        "model": st.fixed_dictionaries(
            {},
            optional={
                # YAML cannot represent other texts.
                "revision": st.none()
                | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])).filter(str.strip),
            },
        ),
        "resources": st.fixed_dictionaries(
            {}, optional={"gpu": st.sampled_from(["auto", 0.0, 2.0]) | st.floats(0.01, 1)}
        ),
        "limits": st.sampled_from([None, "predicted", ["predicted", {"from": "users_24gb", "base": {"batch": 3}}], {}]),
        "search": st.fixed_dictionaries({}, optional={"seed": st.integers(0, 2**63 - 1)}),
        "space": st.sampled_from(
            [
                None,
                {"optim.lr": {"low": 1e-5, "high": 0.1, "log": True}, "train.batch_size": {"low": 1, "high": 9}},
                {"head.pooling": {"choices": ["cls", "mean"]}, "head.dropout": {"choices": [0, 0.1]}},
            ]
        ),
    },
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SECTION_VALUES)
def test_a_configuration_written_down_and_read_again_is_the_same(values: dict[str, Any]) -> None:
    config = parse_config({**least(), "scheduler": {"name": "none"}, **values})
    assert parse_config(config.as_dict()) == config
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        dump_yaml(config.as_dict(), file, "two lines\nof comment")
        assert load_config(file) == config
        assert file.read_text().startswith("# two lines\n# of comment\n")
        assert [path.name for path in Path(folder).iterdir()] == ["config.yaml"]


def test_a_text_that_looks_like_something_else_stays_text(tmp_path: Path) -> None:
    for text in ("1e-5", "true", "null", "2001-01-01", "0x10", "- a", "a: b", "#x", " x ", "~"):
        config = parse_config({**least(), "model": {"name": "m", "revision": text}})
        dump_yaml(config.as_dict(), tmp_path / "config.yaml")
        assert load_config(tmp_path / "config.yaml").model.revision == text


def test_relative_paths_become_absolute_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model").mkdir()
    config = parse_config(
        {
            "study": {"name": "test", "dir": "out", "storage": "sqlite:///study.db"},
            "data": {"path": "sub/../pairs.csv"},
            "model": {"name": "./my-model"},
            "tracking": {"uri": "sqlite:///mlflow.db"},
            "space": {"model.name": {"choices": ["my-model", "tiny-bert", "owner/name"]}},
        }
    )
    assert config.study.dir == str(tmp_path / "out")
    assert config.run_dir == str(tmp_path / "out" / "test")
    assert config.study.storage == f"sqlite:///{tmp_path}/study.db"
    assert config.data.path == str(tmp_path / "pairs.csv")
    assert config.model.name == str(tmp_path / "my-model")
    assert config.tracking.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert config.space is not None
    assert config.space.entries["model.name"].examples == (str(tmp_path / "my-model"), "tiny-bert", "owner/name")
    monkeypatch.chdir("/")
    assert parse_config(config.as_dict()) == config


def test_what_is_no_path_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = {
        "study": {"name": "test", "dir": "s3://bucket/runs", "storage": "postgresql://u:p@host/db"},
        "data": {"path": "demo"},
        "model": {"name": "bert-base-uncased"},
        "tracking": {"uri": "http://host:5000"},
    }
    config = parse_config(raw)
    assert config.study.dir == "s3://bucket/runs"
    assert config.place == config.checkpoint_dir == "s3://bucket/runs/test"
    assert Path(config.run_dir).parent.parent == machine_folder() / "studies"
    assert config.study.storage == "postgresql://u:p@host/db"
    assert (config.data.path, config.model.name) == ("demo", "bert-base-uncased")
    assert config.tracking.uri == "http://host:5000"


@pytest.mark.parametrize("name", [BUILTIN_NAMES[0], "minilm-l6"])
def test_a_built_in_model_keeps_its_name_beside_a_folder_of_that_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert parse(f"model.name={name}").model.name == name


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000, "~nobody-of-this-name/model"])
def test_a_model_name_that_can_be_no_path_is_no_defect(name: str) -> None:
    assert parse(f"model.name={name}").model.name == name


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    config = parse("data.path=~/pairs.csv", "study.dir=~/runs", "model.name=~/model")
    assert config.data.path == str(tmp_path / "pairs.csv")
    assert config.study.dir == str(tmp_path / "runs")
    assert config.model.name == str(tmp_path / "model")


def test_fixed_params_are_every_searchable_setting_that_has_a_value() -> None:
    fixed = parse("train.epochs=7", "tok.max_length=64").fixed_params()
    assert (fixed["train.epochs"], fixed["tok.max_length"]) == (7, 64)
    without = {"model.criteria_name", "model.dropout", "model.attention_dropout"}
    assert set(searchable_names()) - set(fixed) == without, "where nothing is said of these, the model decides"
    assert {name.split(".")[0] for name in fixed} == set(SEARCHABLE)
    assert "train.patience" not in fixed, "null is no value"


SAMPLE: dict[str, Any] = {
    "model.name": "tiny-roberta",
    "tok.max_length": 64,
    "head.pooling": "mean",
    "head.dropout": 0.3,
    "optim.lr": 1e-3,
    "optim.beta2": 0.98,
    "schedule.name": "cosine",
    "schedule.warmup_ratio": 0.2,
    "schedule.cycles": 3,
    "schedule.power": 1.5,
    "train.batch_size": 48,
    "train.grad_accum": 3,
    "train.clip_norm": 0.5,
}


def test_a_sample_in_the_configuration_and_in_a_trials_settings_come_to_the_same() -> None:
    config = parse("train.epochs=7", "search.seed=5", "data.columns.label=y")
    settled = config.with_params(SAMPLE)
    assert settled.space is None
    assert settled.trial_settings() == trial.with_params(config.trial_settings(), SAMPLE)
    assert {name: settled.fixed_params()[name] for name in SAMPLE} == SAMPLE
    assert settled.train.epochs == 7
    assert config.train.batch_size == 16, "the configuration itself is left alone"


def test_a_trial_gets_every_setting_and_the_seeds_of_the_one_seed() -> None:
    config = parse("data.columns.text=post", "search.seed=5", "memory.eval_batch=7", "train.patience=2")
    settled = config.trial_settings()
    assert settled.seeds == trial_seeds(5)
    assert settled.data.columns.text == "post"
    for section in ("task", *SEARCHABLE, "memory"):
        given = getattr(config, section).model_dump()
        # The data determines the number of classes.
        counted = {"classes": 2} if section == "task" else {}
        assert dataclasses.asdict(getattr(settled, section)) == {**given, **counted}


def test_a_sample_of_what_is_no_setting_is_refused() -> None:
    with pytest.raises(KeyError, match=r"optim\.rate"):
        trial.with_params(parse().trial_settings(), {"optim.rate": 1})


def sections_and_dataclasses() -> list[Any]:
    pairs: list[Any] = [(RunConfig.model_fields["data"].annotation, trial.DataSettings)]
    hints = typing.get_type_hints(trial.TrialSettings)
    pairs += [
        (RunConfig.model_fields[name].annotation, kind)
        for name, kind in hints.items()
        if name not in ("data", "seeds", "rungs", "content")
    ]
    columns = pairs[0][0].model_fields["columns"].annotation
    return [pytest.param(*pair, id=pair[1].__name__) for pair in [*pairs, (columns, trial.ColumnNames)]]


@pytest.mark.parametrize(("section", "kind"), sections_and_dataclasses())
def test_a_section_and_a_trials_settings_have_the_same_fields_and_defaults(section: Any, kind: Any) -> None:
    def default(field: dataclasses.Field[Any]) -> Any:
        if field.default_factory is not dataclasses.MISSING:
            return dataclasses.asdict(field.default_factory())
        return None if field.default is dataclasses.MISSING else field.default

    def plain(value: Any) -> Any:
        return value.model_dump() if hasattr(value, "model_dump") else None if value is PydanticUndefined else value

    mine = {field.name: default(field) for field in dataclasses.fields(kind)}
    theirs = {name: plain(field.default) for name, field in section.model_fields.items()}
    if kind is trial.TaskSettings:
        assert theirs["classes"] is None, "the data says how many"
        theirs["classes"] = 2
    assert theirs == mine
    assert {name: type(value) for name, value in theirs.items()} == {name: type(value) for name, value in mine.items()}


def test_every_optimizer_can_be_chosen() -> None:
    assert typing.get_args(OptimSection.model_fields["name"].annotation) == tuple(OPTIMIZERS)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_right(file: Path, tmp_path: Path) -> None:
    overrides = [] if file.name == "demo.yaml" else ["data.path=/data/pairs.csv"]
    config = load_config(file, overrides)
    assert config.space is not None
    assert parse_config(config.as_dict()) == config
    dump_yaml(config.as_dict(), tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config


def test_overrides_leave_the_callers_data_alone() -> None:
    raw = {**least(), "space": {"optim.lr": {"choices": [0.1]}}}
    parse_config(raw, ["train.epochs=5", "space.optim.lr.choices=[0.2]"])
    assert raw == {**least(), "space": {"optim.lr": {"choices": [0.1]}}}


def test_what_is_read_under_a_condition_names_settings_that_there_are() -> None:
    known = {*searchable_names(), "task.name", "task.classes"}
    named = {condition.name for conditions in CONDITIONS.values() for condition in conditions}
    assert {*CONDITIONS, *named} <= known


def test_a_condition_that_can_hold_lets_its_parameter_be_searched() -> None:
    config = parse("loss.name=focal", "space.loss.gamma.choices=[1.0, 2.0]")
    assert config.active_space().size == 2


# Classes and columns


def test_a_configuration_takes_the_classes_of_its_data() -> None:
    config = with_classes(parse(), ("no", "yes", "maybe"))
    task = config.trial_settings().task
    assert (task.classes, task.labels) == (3, ("no", "yes", "maybe"))
    assert config.fixed_for_study()["task.labels"] == ["no", "yes", "maybe"]
    assert parse_config(config.as_dict()) == config


def test_classes_called_by_their_numbers_leave_a_study_what_it_was() -> None:
    assert with_classes(parse(), ("0", "1")).fixed_for_study()["task.labels"] is None


def test_labels_are_read_as_those_of_the_data() -> None:
    assert parse("task.labels=[no, 1.0, true]").task.labels == ("no", "1", "true")


@pytest.mark.parametrize(
    ("overrides", "names", "message"),
    [
        (["task.classes=4"], "abc", "task.classes: 4: the data holds 3 classes (a, b, c)"),
        (["task.threshold=0.5"], "abc", "task.threshold: 0.5: is for two classes, and there are 3"),
        (["task.objective=binary_f1"], "abc", "task.objective: 'binary_f1': is for two classes"),
        (["search.metric=[macro_f1, binary_f1]", "scheduler.name=none"], "abc", "binary_f1 is for two classes"),
        (["space.task.threshold.choices=[0.4, 0.5]"], "abc", "space.task.threshold: 0.4: is for two classes"),
    ],
)
def test_settings_for_other_classes_than_the_datas_are_refused(overrides: list[str], names: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        with_classes(parse("space.optim.lr.choices=[0.1]", *overrides), tuple(names))


# Folds


SEARCHED = "space.optim.lr.choices=[0.1]"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["data.folds=1"], ["data.folds:", "1", "greater than or equal to 2"]),
        (["data.folds=5.0"], ["data.folds:", "5.0", "whole number"]),
        (["data.folds=5", "scheduler.warmup=5"], ["scheduler.warmup:", "5 leaves asha", "5 folds (data.folds)"]),
        (
            ["data.folds=2", "scheduler.name=hyperband"],
            ["scheduler.reduction_factor:", "3", "2 folds (data.folds)", "rounded down 0", "scheduler.warmup 1"],
        ),
        (
            ["data.folds=5", "scheduler.warmup_epochs=2"],
            ["scheduler.warmup_epochs:", "2 counts epochs", "data.folds 5"],
        ),
    ],
)
def test_folds_that_fit_nothing_are_refused_with_the_numbers(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse(*overrides, SEARCHED)
    assert_one_line(caught, parts)


def test_with_folds_the_scheduler_counts_folds_whatever_the_epochs() -> None:
    config = parse("data.folds=5", "scheduler.warmup=4", "train.epochs=1", SEARCHED)
    assert (config.unit.name, config.unit.count) == ("fold", 5)
    assert parse("train.epochs=7").unit.count == 7
    assert config.trial_settings().data.folds == 5
    assert config.fixed_for_study()["data.folds"] == 5


def test_a_run_without_a_search_may_have_one_epoch() -> None:
    assert parse("train.epochs=1").unit.count == 1


def test_the_warmup_is_understood_by_its_old_name_and_the_last_word_counts() -> None:
    old = {**least(), "scheduler": {"warmup_epochs": 2}}
    assert parse_config(old).scheduler.warmup == 2
    assert parse_config(old, ["scheduler.warmup_epochs=3"]).scheduler.warmup == 3
    assert parse_config(old, ["data.folds=5", "scheduler.warmup=1"]).scheduler.warmup == 1
    assert parse("scheduler.warmup=1", "scheduler.warmup_epochs=2").scheduler.warmup == 2
    assert "warmup_epochs" not in parse_config(old).as_dict()["scheduler"]


def test_trials_of_few_epochs_report_every_half_of_one_where_a_scheduler_may_stop_them() -> None:
    def unit(*overrides: str) -> str:
        given = {**least(), "space": {"optim.lr": {"choices": [0.1]}}}
        return str(parse_config(given, overrides).unit)

    assert unit("train.epochs=3") == "3 epochs in 6 rungs"
    assert unit("train.epochs=5") == "5 epochs"
    assert unit("train.epochs=9") == "9 epochs"
    assert unit("train.epochs=9", "scheduler.rung=0.5") == "9 epochs in 18 rungs"
    assert unit("train.epochs=3", "scheduler.rung=epoch") == "3 epochs"
    assert unit("train.epochs=3", "scheduler.name=none") == "3 epochs"
    assert unit("train.epochs=3", "scheduler.warmup=1") == "3 epochs", "the first rung lies at an epoch's end"
    assert unit("train.epochs=3", "data.folds=4") == "4 folds"
    with pytest.raises(UserError, match=r"scheduler\.rung: 0\.25 .* data\.folds 4 .* scheduler\.rung=auto"):
        unit("scheduler.rung=0.25", "data.folds=4")


def test_the_warmup_counts_epochs_whatever_the_rungs() -> None:
    given = {**least(), "space": {"optim.lr": {"choices": [0.1]}}}
    assert parse_config(given, ["scheduler.rung=0.25", "scheduler.warmup=2"]).first_rung == 8
    assert parse_config(given, ["scheduler.rung=0.25", "scheduler.warmup=0.3"]).first_rung == 2
    assert parse_config(given, []).first_rung == 1
    assert parse_config(given, ["scheduler.warmup=2", "train.epochs=9"]).first_rung == 2


def test_the_old_name_of_the_warmup_goes_with_rungs_and_not_with_folds() -> None:
    given = {**least(), "scheduler": {"warmup_epochs": 1}, "space": {"optim.lr": {"choices": [0.1]}}}
    assert parse_config(given, ["scheduler.rung=0.25"]).first_rung == 4
    with pytest.raises(UserError, match=r"scheduler\.warmup_epochs: 1 counts epochs"):
        parse_config(given, ["data.folds=4"])
