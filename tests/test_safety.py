"""Safety: nothing that a user or a hub supplies runs as code, and passwords reach nobody."""

import ast
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch

from trainables.training.checkpoint import TrialProgress, load_checkpoint, load_progress
from tune_app.cli import main

ROOT = Path(__file__).parents[1]


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield every call in the packages: its file, the name of the called function, and the call."""
    for package in ("tune_app", "trainables", "search_spaces"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield str(file.relative_to(ROOT)), ast.unparse(node.func), node


def given(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def test_tensors_are_unpickled_without_code() -> None:
    found = [(file, given(call).get("weights_only")) for file, name, call in calls() if name == "torch.load"]
    assert {file for file, _ in found} >= {"trainables/models/checkpoint.py", "trainables/training/checkpoint.py"}
    assert [file for file, weights_only in found if weights_only != "True"] == []


def test_code_that_comes_with_a_model_is_never_allowed() -> None:
    makers = ("from_pretrained", "from_config")
    found = [(file, given(call)) for file, name, call in calls() if name.rpartition(".")[2] in makers]
    assert len(found) >= 4
    assert [file for file, options in found if options.get("trust_remote_code") != "False"] == []


def test_only_messages_of_our_own_processes_are_unpickled() -> None:
    loaders = ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
    found = {file for file, name, _ in calls() if name.split(".")[0] in loaders and "dump" not in name}
    # Ray's record of a worker's error, and the requests that a parent writes to the standard input of its child.
    assert found == {"tune_app/distributed/recorder.py", "trainables/timed_steps.py"}
    assert [file for file, name, call in calls() if name == "np.load" and "allow_pickle" in given(call)] == []
    assert [file for file, name, _ in calls() if name in ("eval", "exec")] == []


def test_temporary_folders_are_those_that_are_cleaned_up_after_a_kill() -> None:
    makers = ("mkdtemp", "TemporaryDirectory")
    assert {file for file, name, _ in calls() if name.rpartition(".")[2] in makers} == {"trainables/scratch.py"}


def test_one_function_deletes_the_folders_of_studies() -> None:
    deleting = ("rmtree", "delete_dir", "delete_dir_contents")
    found = {file for file, name, _ in calls() if name.rpartition(".")[2] in deleting}
    assert {file for file in found if file.startswith("tune_app/study/")} == {"tune_app/study/removal.py"}


class Code:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.mark), "w")


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"progress": Code(tmp_path / "ran")}, tmp_path / "state.pt")
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    with pytest.raises(UnpicklingError):
        load_progress(tmp_path, TrialProgress())
    with pytest.raises(UnpicklingError):
        load_checkpoint(tmp_path, model=model, optimizer=optimizer, schedule=schedule)
    assert not (tmp_path / "ran").exists()


CONFIG = """
study: {name: a}
data: {path: demo, max_rows: 60}
model: {name: tiny-bert}
tok: {max_length: 32}
train: {epochs: 1}
scheduler: {name: none}
limits: null
search: {trials: 1}
space: {optim.lr: {choices: [0.1, 0.01]}}
"""


# Ray as a search starts it, what it shows to others, and a search on it.
SEARCH = """
import json, sys, urllib.error, urllib.request
import psutil
from tune_app.cli import main
from tune_app.distributed.cluster import Offer, joined

with joined(None, Offer(cpus=1, dashboard=True)) as cluster:
    import ray
    from ray._private.state import state

    ray.get(ray.remote(lambda: 1).remote())
    here = psutil.Process()
    processes = [here, *here.children(recursive=True)]
    places = [place for process in processes for place in process.net_connections() if place.status == "LISTEN"]
    try:
        status = urllib.request.urlopen(f"http://{cluster.dashboard_url}/api/jobs/").status
    except urllib.error.HTTPError as error:
        status = error.code
    open_to = sorted({place.laddr.ip for place in places})
    print(json.dumps({"open_to": open_to, "jobs": str(state.job_table()), "status": status}))
    main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Searched:
    """A search whose addresses hold passwords: its process, its working directory, and the folder of Ray's files."""

    ran: subprocess.CompletedProcess[str]
    folder: Path
    rays: Path


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searched]:
    folder = tmp_path_factory.mktemp("search")
    (folder / "c.yaml").write_text(CONFIG)
    storage = f"sqlite:///file:{folder}/study.db?uri=true&password=hush"
    overrides = ["-s", f"study.storage={storage}", "-s", "tracking.uri=http://user:hush@127.0.0.1:9"]
    # A short path: Ray's sockets lie in its folder, and their paths may not be long.
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/tmp", ignore_cleanup_errors=True) as rays:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": rays}
        environment.pop("RAY_AUTH_MODE", None)
        command = [sys.executable, "-c", SEARCH, "search", "c.yaml", *overrides]
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        yield Searched(ran, folder, Path(rays))


def holding(secret: str, folder: Path) -> list[str]:
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]


@pytest.mark.slow
def test_passwords_in_urls_reach_no_file_but_their_own_and_no_output(
    searched: Searched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = searched.ran
    assert ran.returncode == 0, ran.stderr
    assert "hush" not in ran.stdout + ran.stderr
    assert "MLflow (http://user:***@127.0.0.1:9)" in ran.stderr, "what cannot be reached is named"

    monkeypatch.chdir(searched.folder)
    for command in (["status", "a", "--json"], ["status", "a"], ["study", "show", "a", "--json"], ["study", "list"]):
        run_here(command)
    run_here(["export", "a", "--to", "out"])
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[0])["trials"]["complete"] == 1
    assert "hush" not in captured.out + captured.err

    secrets = searched.folder / "runs" / "a" / "secrets.json"
    assert holding("hush", searched.folder) == ["runs/a/secrets.json"]
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert holding("hush", searched.rays) == [], "Ray's own files and logs"


def run_here(command: list[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(command)
    assert exited.value.code == 0


@pytest.mark.slow
def test_ray_that_is_started_here_listens_here_alone_wants_a_token_and_knows_no_password(searched: Searched) -> None:
    seen = json.loads(searched.ran.stdout.splitlines()[0])
    assert [place for place in seen["open_to"] if place.removeprefix("::ffff:") != "127.0.0.1"] == []
    assert seen["status"] == 401
    assert "http://user:***@127.0.0.1:9" in seen["jobs"]
    assert "hush" not in seen["jobs"]
