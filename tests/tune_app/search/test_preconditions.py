"""What is refused before a search begins."""

from typing import Any

import pytest

from trainables.models import load
from trainables.models.load import ModelLoadError
from tune_app.config import RunConfig, parse_config
from tune_app.errors import UserError
from tune_app.search.preconditions import check_models


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Of which models the hub was asked for the tokenizer; it gives none."""
    names: list[tuple[str, str | None]] = []

    def refused(name: str, revision: str | None = None) -> Any:
        names.append((name, revision))
        raise ModelLoadError(f"tokenizer of {name!r}: no connection")

    monkeypatch.setattr(load, "load_tokenizer", refused)
    return names


def config_of(**model: Any) -> RunConfig:
    space = {"model.name": {"choices": ["tiny-bert", "owner/encoder"]}, "optim.lr": {"choices": [0.1, 0.2]}}
    return parse_config({"study": {"name": "x"}, "data": {"path": "demo"}, "model": model, "space": space})


def test_a_hub_that_does_not_give_a_model_is_told_before_the_first_trial(asked: list[tuple[str, str | None]]) -> None:
    with pytest.raises(UserError, match=r"model.name: tokenizer of 'owner/encoder': no connection"):
        check_models(config_of(), from_here=True)
    assert asked == [("owner/encoder", None)]


def test_where_trials_run_on_other_machines_the_hub_is_theirs(asked: list[tuple[str, str | None]]) -> None:
    check_models(config_of(), from_here=False)
    assert asked == []
