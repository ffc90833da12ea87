"""Cluster that a search runs on: started on this machine, or joined, without output, and left at the end."""

import gc
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import ray

from tune_app.distributed.addresses import ClusterAddress, cluster_address
from tune_app.distributed.environment import set_for_ray, variables
from tune_app.distributed.nodes import living_nodes
from tune_app.distributed.private import (
    LOOPBACK,
    OwnImports,
    announcement_file,
    command_line_hidden,
    dead_processes,
    kill_processes,
    on_loopback,
    session_folder,
    sessions_in,
    silence_workers,
)
from tune_app.distributed.ray_files import (
    check_announced,
    protect_token,
    session_in_use,
    sessions_folder,
    short_temporary_folder,
)
from tune_app.errors import UserError, first_line, without_password

if TYPE_CHECKING:
    from tune_app.screening.packing import Gpus

_SAFE_PATH = "PYTHONSAFEPATH"
_KNOCK_S = 5.0
_ANSWER_S = 60.0
# A busy cluster may take longer to greet than to accept a connection.
_GREETING_S = 20.0
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS_FRAME = 4
_FRAME_HEADER = 9
_LEAST_OF_A_GPU = 0.01

T = TypeVar("T")


@dataclass(frozen=True)
class Offer:
    """What a Ray that is started here offers.

    Attributes:
        cpus: CPUs, so that as many trials run at once as wanted.
        gpus: GPUs to claim, whether or not they exist; None takes those that Ray finds.
        niceness: niceness of the trials' processes.
        dashboard: whether Ray's own dashboard is served.
    """

    cpus: int = 0
    gpus: int | None = None
    niceness: int = 0
    dashboard: bool = False


@dataclass(frozen=True)
class Cluster:
    """Ray's resources by name, and the address of its dashboard, if it has one.

    ``joined`` is whether the cluster existed before, perhaps with several machines. ``node`` is the id of the node that
    this process runs on.
    """

    resources: dict[str, float]
    dashboard_url: str | None
    joined: bool = False
    node: str = ""

    def gpus_per_trial(self, wanted: "Gpus") -> "Gpus":
        """Return the GPUs of a trial: as wanted, or none if ``auto`` is wanted and there is no GPU."""
        return 0.0 if wanted == "auto" and self.resources.get("GPU", 0) < 1 else wanted

    def most_on_a_node(self, cpus: float) -> int:
        """Return the largest number of trials with so many CPUs that one node of the cluster runs at a time."""
        return max(int(node.cpus // cpus) for node in living_nodes())

    def where_gpus_are(self, question: Callable[[], T]) -> T:
        """Return the result of ``question`` as run where trials with a GPU run: in a GPU worker on a cluster's node.

        The function runs in this process instead if Ray runs on this machine alone, or if no GPU is free at present.
        """
        if not self.joined:
            return question()
        try:
            task = ray.remote(num_cpus=0, num_gpus=_LEAST_OF_A_GPU)(lambda: question())
            answer: T = ray.get(task.remote(), timeout=_ANSWER_S)
            return answer
        except ray.exceptions.GetTimeoutError:
            return question()

    def check_fits(self, *, cpu: float, gpu: "Gpus") -> None:
        """Refuse a trial that could never start; ``auto`` counts as a whole GPU.

        Raises:
            UserError: no node has enough CPUs or GPUs for one trial.
        """
        nodes = living_nodes()
        offers = (
            ("resources.cpu", cpu, max((node.cpus for node in nodes), default=0.0)),
            ("resources.gpu", 1.0 if gpu == "auto" else gpu, max((node.gpus for node in nodes), default=0.0)),
        )
        where = "any node of the cluster" if self.joined else "Ray"
        for setting, wanted, offered in offers:
            if wanted > offered:
                raise UserError(f"{setting}: {wanted:g} is more than the {offered:g} that {where} has here; lower it")


@contextmanager
def joined(address: str | None, offer: Offer = Offer()) -> Iterator[Cluster]:
    """Start Ray here, or join the cluster at ``address`` or this job's cluster, and leave it at the end.

    If Ray already runs in this process, it is used as it is and left running.

    Args:
        address: address of a cluster; None starts Ray here, unless the environment names a cluster.
        offer: what Ray offers if it starts here.

    Raises:
        UserError: there is no cluster at ``address``, or Ray does not start here, for example because no folder is
            suitable for its files.
    """
    with set_for_ray(offer.niceness), _session(address, offer) as cluster:
        yield cluster


@contextmanager
def _session(address: str | None, offer: Offer) -> Iterator[Cluster]:
    if ray.is_initialized():
        yield Cluster(dict(ray.cluster_resources()), None)
        return
    cluster = cluster_address(address)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": False}
    options["job_config"] = OwnImports()
    if cluster is not None:
        if cluster.address == "auto":
            check_announced(announcement_file(), cluster.setting)
        require_listener(cluster)
        options["address"] = address
    else:
        options |= {"address": "local", "num_cpus": offer.cpus, "num_gpus": offer.gpus}
        options |= {"include_dashboard": offer.dashboard, "dashboard_host": LOOPBACK}
        options |= sessions_in(sessions_folder())
    protect_token(may_make=cluster is None)
    try:
        silence_workers()
        with (
            command_line_hidden(without_password),
            variables(_for_processes()),
            nullcontext() if cluster else on_loopback(options),
        ):
            context = ray.init(**options)
    except Exception as error:  # Ray raises a plain Exception if its start takes too long.
        if cluster is None:
            _leave()
            raise _not_started(error) from error
        if not isinstance(error, ConnectionError | ValueError | RuntimeError):
            raise
        raise cluster.absent(error) from None
    try:
        node = str(ray.get_runtime_context().get_node_id())
        with nullcontext() if cluster else session_in_use(session_folder()):
            yield Cluster(
                dict(ray.cluster_resources()), context.dashboard_url or None, joined=cluster is not None, node=node
            )
    finally:
        _leave()


def _leave() -> None:
    """Shut Ray down, or leave the cluster. If Ray no longer answers, only kill its processes.

    Garbage collection is disabled meanwhile. It may run in another thread, such as MLflow's, and collect Ray's own
    objects. Ray ends a process that uses it during its shutdown, with exit code 1.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        if not ray.is_initialized() or (not dead_processes() and _in_time(living_nodes)):
            ray.shutdown()
        else:
            kill_processes()
            _in_time(ray.shutdown)
    finally:
        if was_enabled:
            gc.enable()


def _in_time(action: Callable[[], object]) -> bool:
    """Run an action that may wait forever for Ray, and return whether it ended in time."""
    doing = threading.Thread(target=action, daemon=True)
    doing.start()
    doing.join(_KNOCK_S)
    return not doing.is_alive()


def _for_processes() -> dict[str, str]:
    """Return variables for Ray's processes that a process of headroom's own does without.

    They keep files of the working directory off the import path. A long temporary folder is replaced, because Ray's
    processes create sockets there.
    """
    safe = {} if os.environ.get(_SAFE_PATH) else {_SAFE_PATH: "1"}
    return {**safe, **short_temporary_folder()}


def require_listener(cluster: ClusterAddress) -> None:
    """Check that a server of Ray's protocol answers at a cluster's address.

    Ray itself would try for minutes before it gives up, and its native code would print what it tries.

    Raises:
        UserError: nothing answers, or what answers is not Ray.
    """
    host, _, port = cluster.address.removeprefix("ray://").rpartition(":")
    if not port.isdigit() or "/" in host:
        return
    try:
        with socket.create_connection((host, int(port)), timeout=_KNOCK_S) as connection:
            connection.settimeout(_GREETING_S)
            if not _uses_tls() and not _speaks_http2(connection):
                raise ConnectionError("what answers there is not Ray")
    except (OSError, OverflowError) as error:
        raise cluster.absent(error) from None


def _uses_tls() -> bool:
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _speaks_http2(connection: socket.socket) -> bool:
    """Return whether a server greets as HTTP/2 does, the protocol beneath gRPC, which Ray's servers speak.

    Client and server each begin with a SETTINGS frame (RFC 9113, section 3.4). A frame begins with nine bytes, of which
    the fourth is its type.
    """
    connection.sendall(_HTTP2_PREFACE + bytes([0, 0, 0, _SETTINGS_FRAME, 0, 0, 0, 0, 0]))
    greeting = b""
    while len(greeting) < _FRAME_HEADER and (received := connection.recv(_FRAME_HEADER - len(greeting))):
        greeting += received
    return len(greeting) == _FRAME_HEADER and greeting[3] == _SETTINGS_FRAME


def _not_started(error: Exception) -> UserError:
    return UserError(
        f"Ray does not start on this machine ({first_line(error)}); see headroom doctor, and run the same command again"
        " when the machine is less busy"
    )
