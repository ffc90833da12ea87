"""``headroom predict``: the input's rows with predictions, whole or not at all, and continued where it was cut off."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import trainables.data.streams
from trainables.data.demo import demo_rows
from trainables.data.model_inputs import ModelInputs
from trainables.prediction.predictor import Predictor

ROWS = demo_rows().sample(20, random_state=0)[["text", "criterion"]].reset_index(drop=True)
ADDED = ["predicted_label", "probability", "probability_no", "probability_yes"]

Save = Callable[..., Path]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainables.data.streams, "WINDOW_ROWS", 8)


def frame_of(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def test_every_format_gives_the_same_predictions(headroom: Any, save_tiny_model: Save) -> None:
    model = str(save_tiny_model())
    ROWS.assign(code="007").to_csv("in.csv", index=False)
    ROWS.assign(code="007").rename(columns={"text": "post"}).to_csv("semi.csv.gz", sep=";", index=False)
    ROWS.assign(code="007").to_json("in.jsonl", orient="records", lines=True)
    ROWS.assign(code="007").to_parquet("in.parquet")
    ran = headroom("predict", model, "in.csv", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    shown = frame_of(ran.out)
    assert shown.columns.tolist() == ["text", "criterion", "code", *ADDED]
    assert shown[["text", "criterion"]].equals(ROWS.astype(shown.text.dtype))
    assert set(shown.code) == {"007"}
    assert set(shown.predicted_label) == {"no", "yes"}
    for source, out, more in (
        ("semi.csv.gz", "out.csv", ("--columns", "text=post")),
        ("in.jsonl", "out.csv.gz", ()),
        ("in.parquet", "out.jsonl", ()),
        ("in.jsonl", "out.parquet", ()),
    ):
        assert headroom("predict", model, source, "--out", out, "--quiet", *more).code == 0
        path = Path(out)
        if out.endswith(".parquet"):
            got = pd.read_parquet(path)
        elif out.endswith(".jsonl"):
            got = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
        else:
            data = gzip.decompress(path.read_bytes()) if out.endswith(".gz") else path.read_bytes()
            got = frame_of(data.decode())
        assert got.predicted_label.tolist() == shown.predicted_label.tolist(), out
        assert got.probability.astype(float).tolist() == shown.probability.astype(float).tolist(), out
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


def test_the_standard_input_is_recognised_by_its_content(
    headroom: Any, save_tiny_model: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(save_tiny_model())
    as_json = ROWS.to_json(orient="records", lines=True).encode()
    outs = []
    for data in (ROWS.to_csv(index=False).encode(), gzip.compress(as_json), ROWS.to_parquet()):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        ran = headroom("predict", model, "-", "--out", "-", "--quiet")
        assert ran.code == 0
        outs.append(ran.out)
    assert len(set(outs)) == 1
    assert len(frame_of(outs[0])) == len(ROWS)


HEAD = b"text,criterion\n"


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.csv", HEAD + b"a,b\n" * 9 + b",b\n", "a.csv: row 10, column 'text': is empty"),
        ("a.csv", HEAD + b"a,b\na, \n", "row 2, column 'criterion': holds only blanks"),
        ("a.csv", HEAD + b"a,b\ncaf\xe9,b\n", "row 2, column 'text': is not UTF-8 (it holds the byte 0xe9)"),
        ("a.csv", b"post,criterion\na,b\n", "a.csv has no column 'text', its columns are 'post', 'criterion'; name"),
        ("a.csv", b"text,criterion,probability\na,b,c\n", "column 'probability' would be overwritten"),
        ("a.csv", HEAD + b"a,b,c\n", "more fields than the header names"),
        ("a.csv", HEAD + b'a,"b\n', "a quote is opened and never closed"),
        ("a.jsonl", b'{"text": "a", "criterion": "b"}\n{"text": "a"}\n', "row 2, has no column 'criterion'"),
        ("a.jsonl", b'{"text": "a", "criterion": "b"}\n[1]\n', "row 2, line 2 holds [1], not an object"),
        ("a.parquet", b"nonsense", "a.parquet is not a proper Parquet file"),
        ("a.xlsx", b"", "the suffix '.xlsx' is not one of"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    name: str, data: bytes, problem: str, headroom: Any, save_tiny_model: Save
) -> None:
    Path(name).write_bytes(data)
    for out in ((), ("--out", "out.csv")):
        ran = headroom("predict", str(save_tiny_model()), name, *out)
        assert (ran.code, ran.out) == (2, "")
        assert len(ran.err.splitlines()) == 1
        assert problem in ran.err
    assert [path.name for path in Path().iterdir()] == [name]


def test_bad_rows_are_kept_with_their_reason_if_asked(headroom: Any, save_tiny_model: Save) -> None:
    model = str(save_tiny_model())
    Path("in.csv").write_bytes(b"text,criterion,x\na,b,1\n,b,2\ncaf\xe9,b,3\n" + b"c,d,4\n" * 7)
    ran = headroom("predict", model, "in.csv", "--skip-bad", "--out", "out.csv")
    assert ran.code == 0
    assert "10 rows, 2 of them without a prediction" in ran.err
    got = frame_of(Path("out.csv").read_text())
    assert got.x.tolist() == list("123") + ["4"] * 7
    assert [cell[:22] for cell in got.error[:4]] == ["", "column 'text': is empt", "column 'text': is not ", ""]
    assert (got.probability == "").tolist() == [False, True, True] + [False] * 7
    assert got.text[2] == "caf\ufffd"


def test_a_criterion_is_checked_where_training_knew_all_of_them(headroom: Any, save_tiny_model: Save) -> None:
    closed = str(save_tiny_model(inputs=ModelInputs(criteria=("sleep", "mood"))))
    Path("in.csv").write_text("text,criterion\na,sleep\na,sleeep\n")
    ran = headroom("predict", closed, "in.csv")
    assert ran.code == 2
    assert "row 2, column 'criterion': 'sleeep' is none of the criteria" in ran.err
    assert headroom("predict", closed, "in.csv", "--quiet", "--any-criterion").code == 0
    alone = str(save_tiny_model(inputs=ModelInputs(criterion=None)))
    Path("texts.csv").write_text("text\na\n")
    assert headroom("predict", alone, "texts.csv", "--quiet").code == 0
    ran = headroom("predict", alone, "in.csv", "--columns", "criterion=criterion")
    assert (ran.code, "the model reads texts alone" in ran.err) == (2, True)
    # A folder of before columns were stored.
    old = str(save_tiny_model(inputs=None))
    assert headroom("predict", old, "texts.csv", "--quiet").code == 0
    assert headroom("predict", old, "in.csv", "--quiet").code == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--out", "out.xlsx"), "--out: out.xlsx ends with none of .csv, .csv.gz, .jsonl, .parquet"),
        (("--out", "in.csv"), "--out: in.csv is the input itself"),
        (("--out", "folder.csv"), "--out: folder.csv is a folder"),
        (("--out", "missing/out.csv"), "--out: there is no folder missing; make it, or name a file in another one"),
        (("--resume",), "--resume: the standard output cannot be continued"),
        (("--columns", "text"), "--columns: 'text' is not ROLE=COLUMN"),
        (("--columns", "label=x"), "columns: 'label' is no role"),
        (("--budget-gib", "0.0001"), "budget_gib"),
    ],
)
def test_bad_options_are_refused(options: tuple[str, ...], problem: str, headroom: Any, save_tiny_model: Save) -> None:
    Path("folder.csv").mkdir()
    ROWS.to_csv("in.csv", index=False)
    ran = headroom("predict", str(save_tiny_model()), "in.csv", *options)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert problem in ran.err
    if "--out" not in options and "--resume" not in options:
        assert headroom("predict", str(save_tiny_model()), "in.csv", "--out", "out.csv", *options).code == 2
    assert sorted(path.name for path in Path().iterdir()) == ["folder.csv", "in.csv"]


def test_ctrl_c_says_how_to_go_on(headroom: Any, save_tiny_model: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    model = str(save_tiny_model())
    ROWS.to_csv("in.csv", index=False)
    assert headroom("predict", model, "in.csv", "--out", "whole.csv").code == 0
    calls: list[int] = []
    answers = Predictor.answers

    def interrupted(self: Predictor, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answers(self, *arguments)

    monkeypatch.setattr(Predictor, "answers", interrupted)
    ran = headroom("predict", model, "in.csv", "--out", "out.csv")
    assert ran.code == 130
    assert ran.err.splitlines()[-1] == (
        "headroom: interrupted at row 8 of 20; go on with the same command and --resume"
    )
    assert not Path("out.csv").exists()
    ran = headroom("predict", model, "in.csv", "--out", "out.csv", "--resume")
    assert (ran.code, len(calls)) == (0, 4)
    assert "goes on after row 8 of 20" in ran.err
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


@pytest.mark.parametrize("change", ["rows", "model", "options"])
def test_another_run_is_not_continued(
    change: str, headroom: Any, save_tiny_model: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(save_tiny_model())
    ROWS.to_csv("in.csv", index=False)
    with monkeypatch.context() as patch:
        calls: list[int] = []

        def interrupted(self: Predictor, *arguments: Any, answers: Any = Predictor.answers) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return answers(self, *arguments)

        patch.setattr(Predictor, "answers", interrupted)
        assert headroom("predict", model, "in.csv", "--out", "out.csv").code == 130
    more: tuple[str, ...] = ()
    if change == "rows":
        ROWS.assign(text=ROWS.text + "!").to_csv("in.csv", index=False)
    elif change == "model":
        model = str(save_tiny_model(pooling="mean"))
    else:
        more = ("--skip-bad",)
    ran = headroom("predict", model, "in.csv", "--out", "out.csv", "--resume", *more)
    assert ran.code == 2
    assert "--resume: " in ran.err
    assert "without --resume" in ran.err
    assert headroom("predict", model, "in.csv", "--out", "out.csv", "--quiet", *more).code == 0
    assert len(frame_of(Path("out.csv").read_text())) == len(ROWS)


KILLED = """
import os, signal, sys
import trainables.data.streams
from trainables.prediction.partial import Partial
from tune_app.cli import main

trainables.data.streams.WINDOW_ROWS = 8
append = Partial.append
def dying(self, data, rows, digest):
    if rows == 16:
        os.write(self._descriptor, data[:5])
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, data, rows, digest)
Partial.append = dying
main(sys.argv[1:])
"""


def test_a_killed_run_is_continued(headroom: Any, save_tiny_model: Save) -> None:
    model = str(save_tiny_model())
    ROWS.to_csv("in.csv", index=False)
    command = ("predict", model, "in.csv", "--out", "out.parquet")
    ran = subprocess.run([sys.executable, "-c", KILLED, *command], check=False, env={**os.environ}, timeout=120)
    assert ran.returncode == -signal.SIGKILL
    assert not Path("out.parquet").exists()
    resumed = headroom(*command, "--resume")
    assert (resumed.code, "goes on after row 8 of 20" in resumed.err) == (0, True)
    assert headroom("predict", model, "in.csv", "--out", "whole.parquet").code == 0
    assert Path("out.parquet").read_bytes() == Path("whole.parquet").read_bytes()
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


def test_nobody_reads_the_output(save_tiny_model: Save, tmp_path: Path) -> None:
    ROWS.to_csv(tmp_path / "in.csv", index=False)
    command = [sys.executable, "-m", "tune_app", "predict", str(save_tiny_model()), str(tmp_path / "in.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
