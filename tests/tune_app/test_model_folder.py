"""Model folder of an export: from the kept checkpoint, or trained again, with the reason."""

import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from trainables.data.rows import read_rows
from trainables.export import BestEpoch
from trainables.reports import TrialReport
from trainables.saved import load_model_folder
from trainables.settings import with_params
from trainables.tasks.calibration import Calibration, Temperature
from trainables.trial import TrialFolders, run_trial
from tune_app.config import load_config
from tune_app.config.run import RunConfig
from tune_app.errors import UserError
from tune_app.model_card import Origin, card_text
from tune_app.outcomes import Outcome
from tune_app.screening.preconditions import study_record, with_classes_of_data
from tune_app.study.checkpoints import BEST
from tune_app.study.confirmation import Confirmation, TestPart
from tune_app.study.run_dir import keep_config
from tune_app.study.store import StudyStore, open_study

PARAMS = {"optim.lr": 0.003}
RAW: dict[str, Any] = {
    "study": {"name": "mine"},
    "data": {"path": "demo", "max_rows": 120},
    "model": {"name": "tiny-bert"},
    "tok": {"max_length": 24},
    "head": {"pooling": "native"},
    "train": {"epochs": 1, "precision": "fp32"},
    "tracking": {"enabled": False},
    "space": {"optim.lr": {"choices": [0.003, 0.001]}},
}

Export = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrialReport:
    """Train the trial once: its last report, with the checkpoint."""
    folder = tmp_path_factory.mktemp("trial")
    reports: list[TrialReport] = []
    settings = with_params(with_classes_of_data(load_config(RAW)).trial_settings(), PARAMS)
    run_trial(settings, report=reports.append, folders=TrialFolders(folder / "cache", folder / "checkpoints"))
    return reports[-1]


def a_study(report: TrialReport, changes: Mapping[str, Any] | None = None, keep: bool = True) -> StudyStore:
    """Write a study with the trial, and its checkpoint where a search would have kept it."""
    config: RunConfig = with_classes_of_data(load_config(RAW, changes or {}))
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    store = open_study(run_dir, "mine", None, study_record(config))
    keep_config(store, config, run_dir)
    attributes: dict[str, Any] = {"best_epoch": 1, "cut_share": 0.0}
    if keep:
        kept = run_dir / "checkpoints" / f"trial-00000-{store.id}_a" / "checkpoint_000000"
        assert report.checkpoint is not None
        shutil.copytree(report.checkpoint, kept)
        attributes[BEST] = str(kept)
    number = store.open_trial(PARAMS, {})
    store.close_trial(number, Outcome.COMPLETE, value=report.value, attributes=attributes)
    return store


def test_the_kept_checkpoint_is_saved_without_training(headroom: Any, trained: TrialReport, tmp_path: Path) -> None:
    a_study(trained)
    for _ in range(2):
        ran = headroom("export", "mine", "--to", "out", "--model")
        assert ran.code == 0, ran.err
        assert "model: from the checkpoint of trial 0, epoch 1, without training again" in ran.err
        assert "epoch 1 of" not in ran.out + ran.err
        assert f"macro_f1 {trained.value:.6f} on validation (epoch 1)" in ran.out
        assert "model               out/model" in ran.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["best.yaml", "leaderboard.csv", "model"]
    saved = load_model_folder("out/model")
    assert trained.checkpoint is not None
    state = torch.load(trained.checkpoint / "state.pt", weights_only=True)["model"]
    name = "model.bert.encoder.layer.1.output.dense.weight"
    assert torch.equal(saved.model.state_dict()[name], state[name])


def test_its_card_is_one_that_the_hub_reads(headroom: Any, trained: TrialReport, tmp_path: Path) -> None:
    store = a_study(trained)
    assert headroom("export", "mine", "--to", "out", "--model", "--quiet").code == 0
    card = ModelCard.load("out/model/README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-classification")
    assert {"headroom", "criteria"} <= set(card.data.tags)
    results = {result.metric_name: result for result in card.data.eval_results}
    scores = json.loads(Path("out/model/scores.json").read_text())
    assert results["macro-F1"].metric_value == pytest.approx(scores["test"]["metrics"]["macro_f1"], abs=1e-4)
    assert results["macro-F1"].dataset_revision == store.record.data_fingerprint
    assert "language" not in card.data.to_dict()
    for part in ("`0`, `1`", "`tiny-bert`", "Trial 0 of the study `mine`, with 1 launched trials", "No confirmation"):
        assert part in card.text
    rows = read_rows(with_classes_of_data(load_config(RAW)).trial_settings().data)
    assert not any(text in card.content for text in rows.texts), "the data stays with its owner"


@pytest.mark.parametrize(
    ("changes", "loads"),
    [
        ({}, 'classify({"text": "a criterion", "text_pair": "a text"}, truncation="only_second")'),
        ({"head.pooling": "mean"}, 'load_model(".").predict(pandas.DataFrame([{"text": "a text", "criterion": '),
        ({"task.name": "evidence"}, "AutoModelForQuestionAnswering.from_pretrained"),
    ],
)
def test_a_card_says_how_its_model_is_loaded_and_what_is_confirmed(changes: dict[str, Any], loads: str) -> None:
    config = load_config(RAW, changes)
    confirmation = Confirmation(
        study="mine",
        metric="macro_f1",
        seeds=5,
        folds=None,
        winner=3,
        winner_params={},
        ties=[],
        candidates=[],
        expected_value=0.87,
        expected_interval=(0.85, 0.89),
        is_clear=True,
        data_fingerprint="f" * 64,
        test=TestPart(3, 0.86, (0.82, 0.9), 5, 0.4, "today"),
    )
    scores = {"macro_f1": 0.9, "token_f1": 0.8}
    calibrations = {"class": Calibration(Temperature(2.0), 30, {"validation": (0.1, 0.05), "test": (0.2, 0.06)})}
    parts = {"training": (1200, 300), "test": (30, 10)}
    saved = BestEpoch(Path("m"), 0.9, scores, scores, calibrations, parts, True, 1_234_567, False)
    origin = Origin("mine", 3, 40, 31, "confirmation", confirmation)
    facts = {"peak_gib": 3.5, "seconds_per_sample": 0.002, "device": "a card", "precision": "bf16", "cut_share": 0.25}
    text = ModelCard(card_text(config, saved, facts, "f" * 64, origin)).text
    for part in (
        loads,
        "Trained again on 5 seeds, the configuration is expected to reach macro_f1 0.8700 (90 % interval 0.8500 to",
        "reach 0.8600 (90 % interval 0.8200 to 0.9000) on the test part",
        "The temperature of the class is 2. Its expected calibration error on the test part is 0.0600, and was 0.2000",
        "| training | 1,200 | 300 |",
        "3.5 GiB at most",
        "500 rows a second. Measured on a card in bf16.",
        "25% of the rows were longer than 24 tokens",
        "Trial 3 of the study `mine`, with 40 launched trials, 31 of them complete. It was chosen by a confirmation",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "keep", "damage", "says"),
    [
        ({}, False, None, "no checkpoint of trial 0 was kept (checkpoint.keep): training it again"),
        ({}, True, "gone", "the checkpoint of trial 0 is gone: training it again"),
        ({}, True, "torn", "the checkpoint of trial 0 cannot be used (state.pt is damaged): training it again"),
        ({"data.folds": 2}, True, None, "trial 0 was trained on 2 folds, one model each: training it on one split"),
    ],
    ids=["not kept", "gone", "torn", "folds"],
)
def test_without_a_checkpoint_it_is_trained_again_and_told(
    changes: dict[str, Any],
    keep: bool,
    damage: str | None,
    says: str,
    headroom: Any,
    trained: TrialReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = a_study(trained, changes, keep)
    if damage:
        kept = Path(store.trial(0).user_attrs[BEST])
        state = (kept / "state.pt").read_bytes()
        shutil.rmtree(kept) if damage == "gone" else (kept / "state.pt").write_bytes(state[: len(state) // 2])

    def stop(*_: object, **__: object) -> None:
        raise UserError("a training began")

    monkeypatch.setattr("tune_app.model_folder.run_training", stop)
    ran = headroom("export", "mine", "--to", "out", "--model")
    assert ran.code == 2
    assert says in ran.err
    assert ran.err.endswith("headroom: a training began\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["best.yaml", "leaderboard.csv"]


def test_nothing_but_a_model_is_replaced(headroom: Any, trained: TrialReport, tmp_path: Path) -> None:
    a_study(trained)
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "model" / "thesis.txt").touch()
    ran = headroom("export", "mine", "--to", "out", "--model")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "headroom: --to: out/model is there and holds no model of headroom; move it, or give another folder\n"
    )
    assert (tmp_path / "out" / "model" / "thesis.txt").exists()


def test_an_onnx_file_needs_a_model_and_its_packages(
    headroom: Any, trained: TrialReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_study(trained)
    assert "--onnx: is written beside a model; give --model" in headroom("export", "mine", "--to", "out", "--onnx").err
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    for command in (["export", "mine", "--model"], ["train", str(tmp_path / "runs" / "mine" / "config.yaml")]):
        ran = headroom(*command, "--to", "out", "--onnx", *(["-s", "space=null"] if command[0] == "train" else []))
        assert ran.code == 2
        assert ran.err == (
            "headroom: --onnx: needs the package onnxscript, which is not installed; run: pip install"
            " 'headroom-tune[onnx]'\n"
        )
    assert not (tmp_path / "out").exists()


def test_a_model_trained_again_is_the_same(headroom: Any, trained: TrialReport, tmp_path: Path) -> None:
    a_study(trained, keep=False)
    ran = headroom("export", "mine", "--to", "out", "--model", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert f"macro_f1 {trained.value:.6f} on validation (epoch 1)" in ran.out
    scores = json.loads(Path("out/model/scores.json").read_text())
    assert scores["validation"]["metrics"]["macro_f1"] == trained.value
