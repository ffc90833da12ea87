"""Hub access, as far as it can be tested without the hub."""

import socket
import time

import pytest

from trainables.models import hub
from trainables.models.checkpoint import ModelLoadError, fetch
from trainables.models.load import load_tokenizer
from trainables.models.names import ModelSource, UnknownModelError, resolve_model


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the hub's address to a port of this machine on which nothing listens."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")


@pytest.mark.usefixtures("closed_port")
def test_a_hub_that_does_not_answer_is_not_asked_again_and_again(capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert not hub.answers()
    assert fetch(ModelSource("bert-base-uncasd", "hub"), "config.json", None) is None
    with pytest.raises(ModelLoadError, match=r"did you mean 'bert-base-uncased'\?"):
        load_tokenizer("bert-base-uncasd")
    with pytest.raises(ModelLoadError, match=r"did you mean 'microsoft/deberta-v3-base'\?"):
        load_tokenizer("microsft/deberta-v3-base")
    assert time.monotonic() - began < 10
    assert "Retry" not in "".join(capfd.readouterr())


def test_whatever_listens_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert hub.answers()


def test_a_proxy_is_left_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert hub.answers()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("deberta-v3-base", "microsoft/deberta-v3-base"),
        ("modernbert-base", "answerdotai/ModernBERT-base"),
        ("electra-base-discriminator", "google/electra-base-discriminator"),
    ],
)
def test_a_well_known_model_without_its_owner_gets_a_suggestion(name: str, meant: str) -> None:
    with pytest.raises(UnknownModelError, match=f"did you mean '{meant}'"):
        resolve_model(name)


def test_every_well_known_name_is_a_name_on_the_hub() -> None:
    assert {resolve_model(name).kind for name in hub.KNOWN_NAMES} == {"hub"}
    assert [name for name in hub.KNOWN_NAMES if hub.meant(name)] == []
