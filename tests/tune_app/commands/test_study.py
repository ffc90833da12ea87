"""``headroom study``: its output, its exit codes, and the changes that it makes only on request."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tune_app.config import load_config
from tune_app.outcomes import Outcome
from tune_app.screening.preconditions import study_record
from tune_app.study.run_dir import write_config
from tune_app.study.store import JOURNAL_FILE, load_study, open_study, search_lock


@pytest.fixture
def config(mine_yaml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a configuration and its study, of which two trials are complete and one is open."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_text(mine_yaml)
    config = load_config(file)
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    write_config(config, run_dir)
    store = open_study(run_dir, "mine", None, study_record(config))
    store.set_target(3)
    for lr in (0.1, 0.2):
        store.close_trial(store.open_trial({"optim.lr": lr}, {}), Outcome.COMPLETE, value=lr)
    store.open_trial({"optim.lr": 0.3}, {})
    return file


@pytest.fixture
def nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)


@pytest.mark.parametrize("command", ["list", "show", "diff", "fork", "archive", "delete"])
def test_every_command_has_help(command: str, headroom: Any) -> None:
    ran = headroom("study", command, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: headroom study {command} ")
    assert f"\n  {command} " in headroom("study", "--help").out


def test_studies_are_listed(config: Path, headroom: Any) -> None:
    (Path("runs") / "broken").mkdir()
    (Path("runs") / "broken" / "config.yaml").write_text("garbage: 1\n")
    (Path("runs") / "no-study").mkdir()
    ran = headroom("study", "list")
    assert (ran.code, ran.err) == (0, "")
    _, mine, broken = ran.out.splitlines()
    assert mine.split()[:5] == ["mine", "3", "of", "3", "2"]
    assert "macro_f1 0.2000" in mine
    assert broken.startswith("broken cannot be read: ")
    assert "study: is missing from" in broken
    listed = json.loads(headroom("study", "list", "--json").out)
    assert [study["study"] for study in listed] == ["mine", "broken"]
    assert listed[0].items() <= json.loads(headroom("status", "mine", "--json").out).items()
    assert listed[0]["run_dir"] == str(Path("runs/mine").resolve())
    assert (listed[0]["is_running"], listed[0]["parent"]) == (False, None)
    assert set(listed[1]) == {"study", "run_dir", "problem"}


def test_no_studies_are_an_empty_list(headroom: Any) -> None:
    Path("runs").mkdir()
    assert headroom("study", "list").out == "no study in runs; headroom search starts one\n"
    assert headroom("study", "list", "--json").out == "[]\n"


def test_a_study_is_shown_with_what_it_is_about(config: Path, headroom: Any) -> None:
    ran = headroom("study", "show", "mine")
    assert (ran.code, ran.err) == (0, "")
    for part in ("task", "criteria", "macro_f1 (max)", "space  optim.lr", "0.1, 0.2, 0.3", "set    model.name"):
        assert part in ran.out
    assert [line.split() for line in ran.out.splitlines() if line.startswith("set ")] == [
        ["set", "model.name", '"tiny-bert"'],
    ], "what is as by default is not shown"
    assert "3 of 3 launched: 2 complete, 1 interrupted" in ran.out
    shown = json.loads(headroom("study", "show", "mine", "--json").out)
    assert shown["record"] == study_record(load_config(config)).as_dict()
    assert shown["trials"]["complete"] == 2


def test_diff_tells_what_differs_by_its_exit_code_too(config: Path, headroom: Any) -> None:
    ran = headroom("study", "diff", "mine", "mine.yaml")
    assert (ran.code, ran.out, ran.err) == (0, "study mine and mine.yaml do not differ\n", "")
    ran = headroom("study", "diff", "mine", "mine.yaml", "-s", "space.optim.lr.choices=[0.1]", "-s", "train.epochs=2")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith("study mine: the space and the fixed settings changed:\n")
    assert [line.split() for line in ran.out.splitlines()[1:]] == [
        ["parameter", "study", "config"],
        ["optim.lr", "[0.1,", "0.2,", "0.3]", "[0.1]"],
        ["train.epochs", "3", "2"],
    ]


def test_a_fork_is_begun_and_the_search_of_its_configuration_would_go_on_with_it(config: Path, headroom: Any) -> None:
    ran = headroom("study", "fork", "mine", "mine.yaml", "-s", "space.optim.lr.choices=[0.2, 0.4]")
    assert (ran.code, ran.err) == (0, "")
    assert "carried over from mine: 1 of 2 finished trials (1 × optim.lr is not in the space)" in ran.out
    status = json.loads(headroom("status", "mine", "--json").out)
    assert (status["study"], status["version"]) == ("mine-v2", "newest version of mine")
    assert (status["launched"], status["carried"], status["target"]) == (0, {"complete": 1}, 20)
    assert status["best"]["carried_from"] == {"study": "mine", "trial": 1}
    assert set(status["trials"].values()) == {0}
    for name in ("mine", "mine-v2"):
        heading = "study mine-v2 (not running; newest version of mine)"
        assert headroom("status", name).out.startswith(heading)
        assert heading in headroom("study", "show", name).out
    assert headroom("status", "runs/mine").out.startswith("study mine (not running; later versions: mine-v2)")
    Path("runs/mine-v2/study.journal").rename("journal")
    Path("runs/mine-v2/study.journal").write_text("something else\n")
    heading = "study mine (not running; later versions: mine-v2, which cannot be read)"
    assert headroom("status", "mine").out.startswith(heading)
    Path("journal").replace("runs/mine-v2/study.journal")
    ran = headroom("export", "mine", "--to", "out")
    assert ran.code == 0
    assert ran.out.startswith("study mine-v2 (newest version of mine)\n")
    assert "Trial 0 of study mine-v2 (trial 1 of mine)" in Path("out/best.yaml").read_text()
    assert load_config("out/best.yaml").optim.lr == 0.2


def test_diff_compares_with_the_version_that_a_search_would_go_on_with(config: Path, headroom: Any) -> None:
    assert headroom("study", "fork", "mine", "mine.yaml", "-s", "space.optim.lr.choices=[0.2]").code == 0
    ran = headroom("study", "diff", "mine", "mine.yaml")
    assert (ran.code, ran.out) == (0, "study mine and mine.yaml do not differ\n")
    ran = headroom("study", "diff", "mine", "mine.yaml", "-s", "space.optim.lr.choices=[0.2]")
    assert (ran.code, ran.out) == (0, "study mine-v2 and mine.yaml do not differ\n")
    assert headroom("study", "diff", "runs/mine-v2", "mine.yaml").code == 1


@pytest.mark.parametrize("command", [("archive",), ("delete", "--yes")])
def test_a_name_that_several_versions_bear_is_neither_deleted_nor_set_aside(
    command: tuple[str, ...], config: Path, headroom: Any
) -> None:
    assert headroom("study", "fork", "mine", "mine.yaml", "-s", "space.optim.lr.choices=[0.2]").code == 0
    ran = headroom("study", command[0], "mine", *command[1:])
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert (
        "mine: its newest version is mine-v2; give the run directory of the version that you mean: runs/mine"
        " or" in ran.err
    )
    assert headroom("study", command[0], "runs/mine", *command[1:]).code == 0
    ran = headroom("study", command[0], "mine", *command[1:])
    assert (ran.code, ran.err.endswith("version that you mean: runs/mine-v2\n")) == (2, True)
    assert headroom("status", "mine").out.startswith("study mine-v2 (not running; newest version of mine)")
    assert headroom("study", command[0], "mine-v2", *command[1:]).code == 0


def test_a_study_is_set_aside(config: Path, headroom: Any) -> None:
    ran = headroom("study", "archive", "mine")
    assert (ran.code, ran.err) == (0, "")
    (aside,) = Path("runs").iterdir()
    assert ran.out == f"study mine was archived as {aside.resolve()}\n"
    assert json.loads(headroom("status", aside.name, "--json").out)["study"] == aside.name


def test_a_study_is_deleted_only_where_that_was_agreed_to(
    config: Path, headroom: Any, nobody_to_ask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = headroom("study", "delete", "mine")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "Delete study mine with its trials (3)" in ran.err
    assert "--yes" in ran.err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer, code in ((False, 2), (True, 0)):
        monkeypatch.setattr("click.confirm", lambda question, answer=answer: answer)
        assert Path("runs/mine").exists()
        assert headroom("study", "delete", "mine").code == code
    assert not Path("runs/mine").exists()


def test_yes_agrees_beforehand(config: Path, headroom: Any, nobody_to_ask: None) -> None:
    (Path("runs") / "mine" / "notes.txt").touch()
    ran = headroom("study", "delete", "runs/mine", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert "notes.txt in it is not headroom's" in ran.out
    assert [path.name for path in Path("runs/mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("command", [("archive",), ("delete", "--yes")])
def test_a_study_at_work_is_left_alone(command: tuple[str, ...], config: Path, headroom: Any) -> None:
    with search_lock(Path("runs/mine")):
        ran = headroom("study", command[0], "mine", *command[1:])
    assert (ran.code, ran.out) == (2, "")
    assert "a search is running on" in ran.err
    assert "mine" in [path.name for path in Path("runs").iterdir()]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["show", "nine"], ["nine", "no study", "did you mean mine?"]),
        (["archive", "."], ["no run directory"]),
        (["delete", "runs", "--yes"], ["no run directory"]),
        (["diff", "mine", "none.yaml"], ["none.yaml", "no such file"]),
        (["diff", "mine", "mine.yaml", "-s", "space=null"], ["space: is missing"]),
        (["fork", "mine", "mine.yaml", "-s", "data.path=none.csv"], ["data.path"]),
        (["list", "--dir", "none"], ["--dir: none", "study.dir"]),
        (["show"], ["STUDY"]),
        (["fly"], ["'fly'"]),
        ([], ["Missing command"]),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line(arguments: list[str], parts: list[str], config: Path, headroom: Any) -> None:
    ran = headroom("study", *arguments)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran.err
    assert [part for part in parts if part not in ran.err] == [], ran.err
    assert [path.name for path in Path("runs").iterdir()] == ["mine"]
    assert len(load_study(Path("runs/mine"), "mine", None).trials()) == 3


@pytest.mark.parametrize("named", ["linked", "runs/linked", "runs/linked/"])
@pytest.mark.parametrize("command", [["archive"], ["delete", "--yes"]], ids=["archive", "delete"])
def test_a_run_directory_that_is_a_link_is_left_alone(
    command: list[str], named: str, config: Path, headroom: Any
) -> None:
    Path("runs/linked").symlink_to(Path("runs/mine").absolute())
    assert headroom("status", named).code == 0, "it can be read"
    ran = headroom("study", *command, named)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran.err
    assert "runs/linked: is a link" in ran.err
    assert len(load_study(Path("runs/mine"), "mine", None).trials()) == 3


@pytest.mark.parametrize(
    ("name", "part"),
    [("checkpoints", "is a link to {there}"), ("search.lock", "is a link and is not followed; remove")],
)
def test_a_search_refuses_a_link_in_the_place_of_its_own(name: str, part: str, config: Path, headroom: Any) -> None:
    there = Path("there").absolute()
    there.mkdir()
    link = Path("runs/mine") / name
    link.symlink_to(there)
    ran = headroom("search", "mine.yaml", "--quiet", "-s", "study.on_change=archive", "-s", "search.trials=3")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran.err
    assert f"{link}: " in ran.err or f"{link} " in ran.err
    assert part.format(there=there) in ran.err


REFUSED = [
    (
        ["-s", "study.on_change=refuse"],
        ["settings changed since study mine was started", "train.epochs: 3 there, 2 here"],
    ),
    (["-s", "study.on_change=delete"], ["Delete study mine with its trials (3)", "--yes"]),
    (["-s", "study.on_change=forget"], ["study.on_change", "'forget'", "fork, refuse, archive, delete"]),
]


@pytest.mark.parametrize(("arguments", "parts"), REFUSED, ids=[row[0][1] for row in REFUSED])
def test_a_search_of_a_changed_study_may_be_refused(
    arguments: list[str], parts: list[str], config: Path, headroom: Any, nobody_to_ask: None
) -> None:
    before = (Path("runs/mine") / JOURNAL_FILE).read_bytes()
    ran = headroom("search", "mine.yaml", "--quiet", "-s", "train.epochs=2", *arguments)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran.err
    assert [part for part in parts if part not in ran.err] == [], ran.err
    assert (Path("runs/mine") / JOURNAL_FILE).read_bytes() == before
    assert [path.name for path in Path("runs").iterdir()] == ["mine"]
