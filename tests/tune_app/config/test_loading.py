"""Loading of a configuration: complete and checked before anything runs; one line reports an error."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.space import Choices
from tune_app.config import (
    RunConfig,
    dump_yaml,
    load_config,
    parse_config,
)

Parse = Callable[..., RunConfig]

CONFIGS = Path(__file__).parents[3] / "configs"


LEAST = "study: {name: test}\ndata: {path: demo}\n"


def test_a_reused_anchor_is_no_noise(tmp_path: Path) -> None:
    file = tmp_path / "anchors.yaml"
    file.write_text("study: {name: &n a}\ndata: {path: &n demo}\nmodel: {name: *n}\n")
    assert load_config(file).model.name == "demo"


@pytest.mark.parametrize(("given", "gpu"), [("auto", "auto"), ("null", "auto"), ("0", 0.0), ("0.25", 0.25), ("2", 2.0)])
def test_a_gpu_share_is_by_need_or_fixed(parse: Parse, given: str, gpu: object) -> None:
    assert parse(f"resources.gpu={given}").resources.gpu == gpu


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


def test_a_whole_number_serves_where_any_number_does(parse: Parse) -> None:
    assert parse("train.clip_norm=1", "resources.gpu=2").train.clip_norm == 1.0


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_right(file: Path, tmp_path: Path) -> None:
    overrides = [] if file.name == "demo.yaml" else ["data.path=/data/pairs.csv"]
    config = load_config(file, overrides)
    assert config.space is not None
    assert parse_config(config.as_dict()) == config
    dump_yaml(config.as_dict(), tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config
