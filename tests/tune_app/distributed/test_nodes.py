"""Files for nodes without access to the driver's disk; test_ray_jobs.py tests a whole cluster of such nodes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from trainables.files import sealed_folder
from trainables.models.names import resolve_model, use_sent
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, TrialSettings
from tune_app.distributed import nodes
from tune_app.distributed.nodes import OneMachine, SentFiles

pytestmark = pytest.mark.slow

READ = ("config.json", "model.safetensors", "sub/tokenizer.json")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Write a data file, and a model folder with weights in two forms."""
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (tmp_path / "rows.csv").write_text("text,label\na,1\n")
    for name in (
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "model.onnx",
        "sub/tokenizer.json",
        ".hidden",
    ):
        (model / name).write_text(name)
    return tmp_path


@pytest.fixture
def settings(files: Path) -> TrialSettings:
    return TrialSettings(DataSettings(str(files / "rows.csv")), trial_seeds(0))


@pytest.fixture
def sent(
    files: Path,
    settings: TrialSettings,
    ray_with_one_slot: None,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SentFiles]:
    """Yield the sent files in a process that takes itself for one on another node."""
    cached = tmp_path_factory.mktemp("run") / "0123abcd"
    with sealed_folder(cached) as partial:
        (partial / "texts.ids.npy").write_text("tokens")
    sent = SentFiles(settings, [str(files / "model")], [cached])
    monkeypatch.setattr(nodes, "own_node", lambda: "another")
    monkeypatch.setattr(nodes, "_found", {})
    yield sent
    use_sent({})


def test_nothing_changes_on_a_shared_disk(settings: TrialSettings, tmp_path: Path) -> None:
    assert OneMachine().here(settings, tmp_path) == (settings, tmp_path)


def test_inputs_at_the_same_path_are_read_there(
    files: Path, settings: TrialSettings, sent: SentFiles, tmp_path: Path, machine_folder: Path
) -> None:
    here, cache = sent.here(settings, tmp_path / "cache")
    assert here == settings
    assert resolve_model(str(files / "model")).path == str(files / "model")
    assert cache.is_relative_to(machine_folder)


def test_missing_or_different_inputs_are_fetched_whole(
    files: Path, settings: TrialSettings, sent: SentFiles, tmp_path: Path, machine_folder: Path
) -> None:
    (files / "rows.csv").write_text("text,label\nb,0\n")
    (files / "model").rename(files / "gone")
    here, _ = sent.here(settings, tmp_path / "cache")
    data, model = Path(here.data.path), resolve_model(str(files / "model"))
    assert data.name == "rows.csv"
    assert data.read_text() == "text,label\na,1\n"
    assert data.is_relative_to(machine_folder)
    assert model.path is not None
    found = {
        str(file.relative_to(model.path)): file.read_text() for file in Path(model.path).rglob("*") if file.is_file()
    }
    assert found == {name: name for name in ("config.json", "model.safetensors", "sub/tokenizer.json")}
    # A second worker of the node finds the file there, and fetches it again after damage.
    before = data.stat()
    nodes._found.clear()
    assert Path(sent.here(settings, tmp_path)[0].data.path).stat().st_ino == before.st_ino
    nodes._found.clear()
    data.write_text("text,label\na,0\n")
    assert Path(sent.here(settings, tmp_path)[0].data.path).read_text() == "text,label\na,1\n"


def test_texts_are_tokenised_on_one_machine_only(settings: TrialSettings, sent: SentFiles, tmp_path: Path) -> None:
    _, cache = sent.here(settings, tmp_path / "cache")
    tokens = cache / "0123abcd" / "texts.ids.npy"
    assert tokens.read_text() == "tokens"
    # Every worker of the node finds the file there, and fetches it again after damage.
    before = tokens.stat()
    sent.here(settings, tmp_path / "cache")
    assert tokens.stat() == before
    tokens.write_text("tokenz")
    sent.here(settings, tmp_path / "cache")
    assert tokens.read_text() == "tokens"
