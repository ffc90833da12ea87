"""Folder of a saved model: whole or absent, and errors name its damage."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, PreTrainedTokenizerBase

from trainables.models.checkpoint import ModelLoadError
from trainables.models.load import load_encoder, load_tokenizer
from trainables.models.names import resolve_model
from trainables.saved import load_model_folder, save_model_folder
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, HeadSettings, TaskSettings, TokSettings, TrialSettings
from trainables.tasks import build_task

TEXTS = ["She sleeps badly, and nothing tastes of anything.", "a b café c d e f"]


@pytest.fixture
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    from trainables.models.builtin import train_tokenizer

    def trained(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        train_tokenizer(name, TEXTS, folder)
        return folder

    return trained


def settings_of(head: HeadSettings | None = None) -> TrialSettings:
    return TrialSettings(
        DataSettings("none"),
        trial_seeds(0),
        task=TaskSettings(classes=3),
        head=head or HeadSettings(),
        tok=TokSettings(max_length=48),
    )


def made(name: str, folder: Path, settings: TrialSettings) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    encoder = load_encoder(resolve_model(name), seed=5, tokenizer_folder=folder)
    model = build_task(settings).build_model([encoder], seed=6).eval()
    return model, load_tokenizer(folder)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("tiny-bert", HeadSettings("pooler", dropout=0.3)),
        ("tiny-roberta", HeadSettings("attention", layers=2, width=24, activation="silu")),
        ("tiny-deberta", HeadSettings("max", layers=1)),
    ],
)
def test_a_saved_model_predicts_the_same(
    name: str, head: HeadSettings, tokenizer_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = settings_of(head)
    model, tokenizer = made(name, tokenizer_folder(name), settings)
    if head.pooling == "attention":
        torch.nn.init.normal_(model.get_parameter("pooler.query"), generator=torch.Generator().manual_seed(1))
    folder = tmp_path / "new" / "model"
    save_model_folder(model, [tokenizer], folder, settings=settings, decision={"threshold": 0.25})
    saved = load_model_folder(folder)
    rows = (["a b café", "c"], ["d", "e f"])
    with torch.no_grad():
        expected = model(tokenizer(*rows, padding=True, return_tensors="pt"))
        got = saved.model(saved.tokenizers[0](*rows, padding=True, return_tensors="pt"))
    assert torch.equal(got, expected)
    assert not saved.model.training
    assert (saved.settings.tok.max_length, saved.settings.head, saved.settings.task.classes) == (48, head, 3)
    assert saved.decision == {"threshold": 0.25}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_class_names_come_back_from_the_folder(tokenizer_folder: Callable[[str], Path], tmp_path: Path) -> None:
    names = ("no", "perhaps", "yes")
    settings = replace(settings_of(), task=TaskSettings(classes=3, labels=names))
    model, tokenizer = made("tiny-bert", tokenizer_folder("tiny-bert"), settings)
    save_model_folder(model, [tokenizer], tmp_path / "model", settings=settings, decision={})
    assert load_model_folder(tmp_path / "model").class_names == names
    config = AutoConfig.from_pretrained(tmp_path / "model")
    assert config.id2label == dict(enumerate(names))
    assert config.label2id == {"no": 0, "perhaps": 1, "yes": 2}


def test_a_folder_from_before_classes_had_names_is_read(
    tokenizer_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model, tokenizer = made("tiny-bert", tokenizer_folder("tiny-bert"), settings_of())
    save_model_folder(model, [tokenizer], tmp_path / "model", settings=settings_of(), decision={})
    settings_file = tmp_path / "model" / "headroom.json"
    kept = json.loads(settings_file.read_text())
    del kept["task"]["labels"]
    settings_file.write_text(json.dumps(kept | {"format_version": 3}))
    assert load_model_folder(tmp_path / "model").class_names == ("0", "1", "2")


def test_a_folder_from_before_native_heads_is_read(tokenizer_folder: Callable[[str], Path], tmp_path: Path) -> None:
    model, tokenizer = made("tiny-bert", tokenizer_folder("tiny-bert"), settings_of())
    save_model_folder(model, [tokenizer], tmp_path / "model", settings=settings_of(), decision={"threshold": 0.3})
    settings_file = tmp_path / "model" / "headroom.json"
    settings_file.write_text(json.dumps(json.loads(settings_file.read_text()) | {"format_version": 4}))
    saved = load_model_folder(tmp_path / "model")
    assert (saved.settings.head.pooling, saved.decision) == ("cls", {"threshold": 0.3})


def test_a_save_that_fails_leaves_nothing(
    tokenizer_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = made("tiny-bert", tokenizer_folder("tiny-bert"), settings_of())

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenizer, "save_pretrained", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_model_folder(model, [tokenizer], tmp_path / "model", settings=settings_of(), decision={})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_overwritten(tokenizer_folder: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    model, tokenizer = made("tiny-bert", tokenizer_folder("tiny-bert"), settings_of())
    with pytest.raises(FileExistsError, match="not empty"):
        save_model_folder(model, [tokenizer], tmp_path, settings=settings_of(), decision={})
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_damage_to_a_saved_model_is_named(tokenizer_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model, tokenizer = made("tiny-bert", tokenizer_folder("tiny-bert"), settings_of())
    save_model_folder(model, [tokenizer], folder, settings=settings_of(), decision={})
    settings_file = folder / "headroom.json"
    kept = json.loads(settings_file.read_text())
    for change, message in (
        ({"task": kept["task"] | {"classes": 5}}, r"headroom_head\.safetensors does not fit"),
        ({"head": kept["head"] | {"layers": 1}}, r"headroom_head\.safetensors does not fit"),
        ({"format_version": 1}, "format_version 1, .* reads 3, 4, 5; train the model again"),
    ):
        settings_file.write_text(json.dumps(kept | change))
        with pytest.raises(ModelLoadError, match=message):
            load_model_folder(folder)
    settings_file.unlink()
    with pytest.raises(ModelLoadError, match="not a folder of a saved model"):
        load_model_folder(folder)
