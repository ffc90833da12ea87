"""Clusters of several machines: the storage that each must reach, and the files sent to nodes without a shared disk.

A trial reads data and models from files that the configuration names by their paths on the driver. A node that has the
same files at the same paths (a shared mount) reads them there. Other nodes receive them through Ray's object store,
once per node, and keep them in the user's cache folder under a digest of their content.
"""

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import ray
from pyarrow.fs import FileSelector
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.files import DamagedError, check_sealed, locked, whole_folder
from trainables.machine import machine_folder
from trainables.models.names import resolve_model, use_sent
from trainables.settings import TrialSettings
from tune_app.errors import UserError, first_line
from tune_app.study.checkpoints import CheckpointStorage

_ANSWER_S = 60.0
_CHUNK_BYTES = 64 * 2**20
_UNUSED_S = 30 * 24 * 3600
# Weights for other libraries, which many model folders contain and which may be larger than all files that are read.
_NOT_READ = (".h5", ".msgpack", ".ot", ".onnx", ".tflite", ".mlmodel")


@dataclass(frozen=True)
class Node:
    """Machine of the cluster, with its total resources."""

    id: str
    address: str
    cpus: float
    gpus: float


def living_nodes() -> list[Node]:
    """Return the living nodes of the cluster that this process has joined."""
    return [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def own_node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def require_reach(storage: CheckpointStorage, setting: str, *, cpu: float) -> None:
    """Refuse storage that a node with enough CPUs for a trial cannot reach; the head of a cluster may have no CPUs.

    Args:
        setting: setting that names the storage, with its value.
        cpu: CPUs of a trial.

    Raises:
        UserError: a node cannot reach the storage; the message names the node, the reason and the remedy.
    """
    nodes = [node for node in living_nodes() if node.cpus >= cpu and node.id != own_node()]
    unreached = not_reached(storage, nodes)
    for node in nodes:
        if node.id in unreached:
            more = f" and {len(unreached) - 1} more" if len(unreached) > 1 else ""
            raise UserError(
                f"{setting} is not in reach of node {node.address}{more} ({unreached[node.id]}); give a folder that all"
                " nodes share, or a URI as checkpoint.dir, or search without checkpoints: -s checkpoint.keep=none"
            )


def not_reached(storage: CheckpointStorage, nodes: Sequence[Node]) -> dict[str, str]:
    """Return the ids of the nodes that do not read and write the same storage as this process, with the reasons.

    Every node must find a file that this process writes, and answer with one of its own.

    Raises:
        UserError: this process cannot reach the storage either.
    """
    storage.check()
    filesystem, location = storage.opened()
    asked = f"{location}/.reached-{uuid.uuid4().hex}"
    filesystem.create_dir(asked, recursive=True)
    try:
        with filesystem.open_output_stream(f"{asked}/question"):
            pass
        whys = _ask(nodes, lambda node: _answer(storage, asked, node))
        answers = {str(file.base_name) for file in filesystem.get_file_info(FileSelector(asked))}
    finally:
        filesystem.delete_dir(asked)
    for node in nodes:
        if whys[node] is None and node.id not in answers:
            whys[node] = "files written there do not arrive here"
    return {node.id: why for node, why in whys.items() if why is not None}


def _answer(storage: CheckpointStorage, asked: str, node: Node) -> None:
    filesystem, _ = storage.opened()
    try:
        with filesystem.open_input_stream(f"{asked}/question"):
            pass
    except FileNotFoundError:
        raise FileNotFoundError("files written here do not arrive there") from None
    with filesystem.open_output_stream(f"{asked}/{node.id}"):
        pass


def _ask(nodes: Sequence[Node], question: Callable[[Node], None]) -> dict[Node, str | None]:
    """Run a function on every node at the same time, and return for each node the reason if it failed, else None."""
    ask = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = {
        node: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(node)
        for node in nodes
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=_ANSWER_S)
    whys: dict[Node, str | None] = {}
    for node, answer in asked.items():
        try:
            whys[node] = ray.get(answer, timeout=0)
        except ray.exceptions.GetTimeoutError:
            ray.cancel(answer, force=True)
            whys[node] = f"no answer in {_ANSWER_S:g} s"
        except ray.exceptions.RayError as error:
            whys[node] = _why(error)
    return whys


def _why(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    if "ModuleNotFoundError" in str(error):
        return "headroom cannot be imported there: install it on every node"
    return first_line(cause)


class TrialFiles(Protocol):
    """Files that a trial reads, on whichever node its worker runs."""

    def here(self, settings: TrialSettings, cache: Path) -> tuple[TrialSettings, Path]:
        """Return the settings with this machine's paths, and this machine's cache folder."""
        ...


class OneMachine:
    """Files of a search whose workers all see the driver's disk."""

    def here(self, settings: TrialSettings, cache: Path) -> tuple[TrialSettings, Path]:
        return settings, cache


@dataclass(frozen=True)
class _File:
    """Content of a file in Ray's store, with its name within the folder that is sent."""

    name: str
    chunks: tuple[Any, ...]


@dataclass(frozen=True)
class _Sent:
    """File, or folder with all files that trials read, ready for any node to fetch.

    Attributes:
        path: path on the driver's machine.
        name: name of the file; None for a folder.
        digest: digest of names and content.
    """

    path: str
    name: str | None
    digest: str
    files: tuple[_File, ...]

    def fetched(self) -> Path:
        """Return the path on this machine, after fetching the content if necessary. A process looks only once."""
        if self.digest not in _found:
            _found[self.digest] = self._find()
        return _found[self.digest]

    def copied_into(self, folder: Path) -> None:
        """Copy a sealed folder into a local folder under its own name, unless an undamaged copy is there."""
        copy = folder / Path(self.path).name
        with locked(folder / f"{copy.name}.lock"):
            try:
                check_sealed(copy)
            except (OSError, DamagedError):
                self._write_to(copy)

    def _write_to(self, folder: Path) -> None:
        with whole_folder(folder) as partial:
            for file in self.files:
                _write(partial / file.name, file.chunks)

    def _find(self) -> Path:
        folder = _sent_folder() / self.digest
        with locked(folder.with_name(f"{self.digest}.lock")):
            target = folder / self.name if self.name else folder
            # Fetch a missing or damaged copy again, unless the driver's path holds the same content here.
            if _digest(target) != self.digest:
                if _digest(Path(self.path)) == self.digest:
                    return Path(self.path)
                _remove_unused(folder.parent)
                self._write_to(folder)
            os.utime(folder)
        return target


_found: dict[str, Path] = {}


def _write(path: Path, chunks: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for chunk in chunks:
            stream.write(ray.get(chunk))


class SentFiles:
    """Data and models of a search, put into Ray's store for the nodes that lack them.

    Args:
        settings: settings of every trial, which name the data.
        models: every model that a trial may use. Built-in and hub models are not sent: nodes make or fetch them.
        cached: folders of this machine's cache that trials will open (tokenised texts, trained tokenizers). A node
            makes other cache folders itself, once and with the same content.
    """

    def __init__(self, settings: TrialSettings, models: Sequence[str], cached: Sequence[Path] = ()) -> None:
        self._home = own_node()
        self._data = None if settings.data.path == "demo" else _send(Path(settings.data.path))
        sources = [resolve_model(name) for name in models]
        self._models = {source.name: _send(Path(source.path)) for source in sources if source.path}
        self._cached = [_send(folder) for folder in cached]

    def here(self, settings: TrialSettings, cache: Path) -> tuple[TrialSettings, Path]:
        if own_node() == self._home:
            return settings, cache
        use_sent({name: str(sent.fetched()) for name, sent in self._models.items()})
        if self._data is not None:
            settings = replace(settings, data=replace(settings.data, path=str(self._data.fetched())))
        cache = _sent_folder() / f"{self._data.digest if self._data else 'demo'}-cache"
        for sent in self._cached:
            sent.copied_into(cache)
        return settings, cache


def _sent_folder() -> Path:
    return machine_folder() / "sent"


def _send(path: Path) -> _Sent:
    files = tuple(_File(name, tuple(map(ray.put, _chunks(file)))) for name, file in _files_of(path))
    return _Sent(str(path), None if path.is_dir() else path.name, _digest(path), files)


def _digest(path: Path) -> str:
    """Return a digest of the names and content that are sent of a file or folder; empty if it cannot be read."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        for name, file in _files_of(path):
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())
            for chunk in _chunks(file):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def _files_of(path: Path) -> list[tuple[str, Path]]:
    if not path.is_dir():
        return [(path.name, path)]
    files = {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}
    has_safetensors = any(name.endswith(".safetensors") for name in files)
    unread = (*_NOT_READ, ".bin") if has_safetensors else _NOT_READ
    return [(name, file) for name, file in files.items() if not name.startswith(".") and not name.endswith(unread)]


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _remove_unused(folder: Path) -> None:
    """Delete folders that no trial has used for a month, so that a node's disk does not fill up over the years."""
    for old in folder.iterdir():
        if old.is_dir() and time.time() - old.stat().st_mtime > _UNUSED_S:
            shutil.rmtree(old, ignore_errors=True)
