"""Fixtures shared by all tests: searches on real Ray with trials that follow a script instead of training."""

import gc
import io
import logging
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tune_app.console import Console

RunSearch = Callable[..., Any]


@pytest.fixture(autouse=True, scope="session")
def machine_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the memory measurements of the tests and their child processes apart from those of the machine."""
    folder = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "headroom"


@pytest.fixture(autouse=True, scope="session")
def workers_are_not_put_off() -> Iterator[None]:
    """Run the workers of clusters that tests start at normal priority, as a search runs those of its own Ray.

    Ray lowers it by default. With several test processes at once, its workers would wait for minutes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(autouse=True, scope="session")
def signals_reach_what_is_started() -> None:
    """Replace ignored signals by a handler that does nothing.

    A shell that runs the tests in the background makes them ignore signals, and so every process that they start. Child
    processes inherit an ignored signal, but no handler.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True, scope="module")
def imports_are_no_garbage() -> None:
    """Exclude everything allocated so far from garbage collection.

    Giving memory back searches every object for tensors. The objects that the tests' imports made need no search, and
    tensors that another module retains do not count as live in this one.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_measured_before(machine_folder: Path) -> None:
    """Delete the ledgers and the probes of other tests; keep the predictions.

    What other tests measured must correct no prediction of this one.
    """
    for name in ("ledger.jsonl", "pace.jsonl", "searches.jsonl"):
        (machine_folder / name).unlink(missing_ok=True)
    shutil.rmtree(machine_folder / "probes", ignore_errors=True)


@pytest.fixture
def plain_config(tmp_path: Path) -> dict[str, Any]:
    """Return the smallest configuration that can be searched: the built-in data, and a folder of the test's own."""
    return _plain_config(tmp_path)


def _plain_config(folder: Path) -> dict[str, Any]:
    return {
        "study": {"name": "test", "dir": str(folder / "runs")},
        "data": {"path": "demo"},
        "model": {"name": "tiny-bert"},
        "train": {"epochs": 4},
        "search": {"trials": 4, "sampler": "exhaustive"},
        "scheduler": {"name": "none", "rung": "epoch"},
        # Trials that train nothing have no memory need to predict.
        "limits": None,
        "tracking": {"enabled": False},
        "space": {"optim.lr": {"choices": [0.1, 0.2, 0.3, 0.4]}},
    }


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that installs a distribution: ``(file → text, entry-point group → name → address)``."""
    from search_spaces.rules import registry as rules
    from trainables import registry as entries

    def look_again() -> None:
        rules.look_again()
        entries.look_again()

    folder = tmp_path / "plugin"
    imported = set(sys.modules)

    def install(files: Mapping[str, str], points: Mapping[str, Mapping[str, str]]) -> None:
        metadata = folder / "headroom_plugin-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: headroom-plugin\nVersion: 1.0\n")
        groups = [
            f"[{group}]\n" + "".join(f"{n} = {a}\n" for n, a in entries.items()) for group, entries in points.items()
        ]
        (metadata / "entry_points.txt").write_text("\n".join(groups))
        for name, text in files.items():
            (folder / name).write_text(text)
        monkeypatch.syspath_prepend(folder)
        look_again()

    yield install
    monkeypatch.undo()
    for name in set(sys.modules) - imported:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    look_again()


class RaySessions:
    """Starter of Ray as a search starts it, without its slow dashboard; this process has one session at a time.

    The session with room for one trial stays for the next module that shares it, since a start takes longer than many
    tests.
    """

    def __init__(self) -> None:
        self._shared = ExitStack()
        self._is_shared = False

    def share(self) -> None:
        """Start a session with room for one trial, unless there is one."""
        import ray

        if not (self._is_shared and ray.is_initialized()):
            self.stop()
            self._shared.enter_context(_ray(1))
            self._is_shared = True

    def stop(self) -> None:
        """End the shared session, if there is one."""
        self._shared.close()
        self._is_shared = False

    @contextmanager
    def __call__(self, cpus: int, gpus: int | None = None) -> Iterator[None]:
        """Run Ray of this size in place of the shared session."""
        self.stop()
        with _ray(cpus, gpus):
            yield


@contextmanager
def _ray(cpus: int, gpus: int | None = None) -> Iterator[None]:
    import ray

    from tune_app.distributed.environment import set_for_ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with set_for_ray():
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            configure_logging=False,
        )
        try:
            yield
        finally:
            ray.shutdown()


@pytest.fixture(scope="session")
def start_ray() -> Iterator[RaySessions]:
    """Return a context manager, ``(cpus, gpus=None)``, in which Ray runs."""
    rays = RaySessions()
    yield rays
    rays.stop()


@pytest.fixture(autouse=True, scope="module")
def shared_ray_ends_where_nobody_shares_it(request: pytest.FixtureRequest, start_ray: RaySessions) -> None:
    if request.node.nodeid not in request.config.stash[SHARES_RAY]:
        start_ray.stop()


@pytest.fixture(scope="module")
def ray_with_one_slot(start_ray: RaySessions) -> None:
    """Provide Ray with room for one trial at a time, which this process's test modules share."""
    start_ray.share()


SHARES_RAY = pytest.StashKey[set[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the modules that share Ray first, then those that replace it, then the others with slow tests.

    Each test process then starts the shared Ray once, and no long module is the last one, for which the other processes
    would wait.
    """
    shares, replaces, slow = set[str](), set[str](), set[str]()
    for item in items:
        if "ray_with_one_slot" in getattr(item, "fixturenames", ()):
            shares.add(_module(item))
        if item.get_closest_marker("replaces_ray"):
            replaces.add(_module(item))
        if item.get_closest_marker("slow"):
            slow.add(_module(item))
    config.stash[SHARES_RAY] = shares
    order = (shares - replaces, replaces, slow)
    items.sort(
        key=lambda item: next((place for place, group in enumerate(order) if _module(item) in group), len(order))
    )


def _module(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


@pytest.fixture
def run_scripted(plain_config: dict[str, Any], ray_with_one_slot: None) -> Iterator[RunSearch]:
    """Return a function that runs a search whose trials follow ``script(settings, epoch) -> value``.

    It takes changes to the configuration as dotted overrides, and returns the search's end, its study and its output. A
    scripted trial writes a checkpoint every epoch and resumes from one, as real trials do. ``script`` may raise, or
    kill its process; ``patience`` is the caller's business.
    """
    yield partial(_scripted_search, plain_config)
    shutil.rmtree(plain_config["study"]["dir"], ignore_errors=True)


@pytest.fixture(scope="module")
def run_scripted_once(tmp_path_factory: pytest.TempPathFactory, ray_with_one_slot: None) -> RunSearch:
    """Return the function of ``run_scripted`` for a search that several tests look at; its folder is the module's."""
    return partial(_scripted_search, _plain_config(tmp_path_factory.mktemp("search")))


def _scripted_search(raw: dict[str, Any], script: Callable[..., float], *overrides: str, run_trial: Any = None) -> Any:
    from tune_app.config import parse_config
    from tune_app.experiment import run_search
    from tune_app.study.store import load_study

    config = parse_config(raw, overrides)
    output = io.StringIO()
    end = run_search(
        config,
        console=Console(file=output, width=200),
        run_trial=run_trial or scripted_trial(script),
        checks=(),
    )
    # A changed configuration may have started another version.
    store = load_study(end.run_dir, end.status.study, config.study.storage)
    return end, store, output.getvalue()


def scripted_trial(script: Callable[..., float]) -> Any:
    def run_trial(settings: Any, report: Any, workspace: Any) -> None:
        from trainables.reports import TrialReport

        done = 0
        if workspace.resume_from is not None:
            done = int((workspace.resume_from / "epoch").read_text())
        epochs = settings.train.epochs
        # A trial interrupted after its last epoch has yet to report its end.
        for epoch in range(min(done + 1, epochs), epochs + 1):
            value = script(settings, epoch)
            folder = workspace.checkpoints / f"epoch-{epoch}"
            folder.mkdir(parents=True)
            (folder / "epoch").write_text(str(epoch))
            report(
                TrialReport(
                    step=epoch,
                    value=value,
                    facts={"resumed_at": done},
                    ended="complete" if epoch == epochs else None,
                    checkpoint=folder,
                )
            )

    return run_trial


SaveModel = Callable[..., Path]


@pytest.fixture(scope="session")
def save_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> SaveModel:
    """Return a function that saves a tiny model with random weights: ``(task="criteria", **changes) -> its folder``.

    Changes are ``labels``, ``pooling``, ``max_length``, ``decision`` and ``inputs``. Equal arguments give one folder,
    which no test may change.
    """
    from trainables.data.demo import demo_rows
    from trainables.data.model_inputs import ModelInputs
    from trainables.models.builtin import train_tokenizer
    from trainables.models.load import load_encoder, load_tokenizer
    from trainables.models.names import resolve_model
    from trainables.saved import save_model_folder
    from trainables.seeds import trial_seeds
    from trainables.settings import DataSettings, HeadSettings, TaskSettings, TokSettings, TrialSettings, encoder_names
    from trainables.tasks import build_task

    tokenizer_folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer("tiny-bert", sorted({*demo_rows().text, *demo_rows().criterion}), tokenizer_folder)
    saved: dict[str, Path] = {}
    usual = ModelInputs()

    def save(
        task: str = "criteria",
        *,
        labels: tuple[str, ...] = ("no", "yes"),
        pooling: str = "cls",
        max_length: int = 48,
        decision: Mapping[str, float] = {"threshold": 0.5, "null_threshold": -1e9},
        inputs: ModelInputs | None = usual,
    ) -> Path:
        key = repr((task, labels, pooling, max_length, sorted(decision.items()), inputs))
        if key not in saved:
            settings = TrialSettings(
                DataSettings("none"),
                trial_seeds(0),
                task=TaskSettings(task, labels=labels),
                head=HeadSettings(pooling),
                tok=TokSettings(max_length, doc_stride=16),
            )
            encoders = [
                load_encoder(resolve_model("tiny-bert"), seed=5, tokenizer_folder=tokenizer_folder)
                for _ in encoder_names(settings)
            ]
            model = build_task(settings).build_model(encoders, seed=6)
            # Random weights of the usual size answer every row alike.
            for tensor in model.parameters():
                if tensor.dim() > 1:
                    tensor.data *= 8
            saved[key] = tmp_path_factory.mktemp("saved") / "model"
            tokenizers = [load_tokenizer(tokenizer_folder) for _ in encoders]
            save_model_folder(model, tokenizers, saved[key], settings=settings, decision=decision, inputs=inputs)
        return saved[key]

    return save
