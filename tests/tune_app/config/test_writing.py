"""A configuration written to a file and read again is the same."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tune_app.config import (
    dump_yaml,
    load_config,
    parse_config,
)

LEAST = {"study": {"name": "test", "dir": "/runs"}, "data": {"path": "demo"}}
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
    config = parse_config({**LEAST, "scheduler": {"name": "none"}, **values})
    assert parse_config(config.as_dict()) == config
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        dump_yaml(config.as_dict(), file, "two lines\nof comment")
        assert load_config(file) == config
        assert file.read_text().startswith("# two lines\n# of comment\n")
        assert [path.name for path in Path(folder).iterdir()] == ["config.yaml"]


def test_a_text_that_looks_like_something_else_stays_text(least: dict[str, Any], tmp_path: Path) -> None:
    for text in ("1e-5", "true", "null", "2001-01-01", "0x10", "- a", "a: b", "#x", " x ", "~"):
        config = parse_config({**least, "model": {"name": "m", "revision": text}})
        dump_yaml(config.as_dict(), tmp_path / "config.yaml")
        assert load_config(tmp_path / "config.yaml").model.revision == text
