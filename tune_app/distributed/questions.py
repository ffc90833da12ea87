"""Questions about the cluster of a search: whether there is one, what its nodes can do, and what they need."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tune_app.config import RunConfig
from tune_app.distributed.addresses import cluster_address
from tune_app.screening.packing import Gpus
from tune_app.screening.preconditions import model_names
from tune_app.screening.screen import Screen, build_screen, host_share
from tune_app.study.run_dir import CACHE, checkpoint_storage

if TYPE_CHECKING:
    from tune_app.distributed.cluster import Cluster
    from tune_app.distributed.nodes import TrialFiles


def ray_starts_here(address: str | None) -> bool:
    """Return whether the search starts Ray: there is no cluster to join, and no Ray in this process."""
    return cluster_address(address) is None and not ray_runs_here()


def joins_cluster(address: str | None) -> bool:
    """Return whether the search joins a cluster: a named one, or that of the job it runs in."""
    return cluster_address(address) is not None and not ray_runs_here()


def ray_runs_here() -> bool:
    """Return whether Ray runs in this process already."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def check_cluster(config: RunConfig, address: str | None) -> None:
    """Refuse a cluster on which trials could not run or not write their checkpoints.

    Raises:
        UserError: the cluster is refused; the message names what is missing, and where.
    """
    # Ray takes seconds to import.
    from tune_app.distributed.cluster import joined
    from tune_app.distributed.nodes import require_reach

    resources, checkpoint = config.resources, config.checkpoint
    with joined(address) as cluster:
        cluster.check_fits(cpu=resources.cpu, gpu=cluster.gpus_per_trial(resources.gpu))
        if checkpoint.is_written:
            storage = checkpoint_storage(config)
            require_reach(storage, f"{storage.setting}: {checkpoint.dir or config.study.dir}", cpu=resources.cpu)


def host_share_on(cluster: "Cluster", config: RunConfig) -> float:
    """Return the share of a host's memory for a trial on the CPU: 1 / the number of trials that run there at a time."""
    at_once = config.search.max_concurrent
    if cluster.joined:
        at_once = min(at_once, cluster.most_on_a_node(config.resources.cpu))
    return host_share(config, at_once)


def screen_on(cluster: "Cluster", config: RunConfig, gpus: Gpus, say: Callable[[str], None]) -> Screen:
    """Build the screen for the devices of the cluster's trials.

    Raises:
        UserError: the rules reject the whole space.
    """
    from trainables.devices.facts import trial_device

    device_gib = config.memory.device_gib
    device = (
        trial_device(device_gib, use_cuda=False)
        if gpus == 0
        else cluster.where_gpus_are(lambda: trial_device(device_gib))
    )
    return build_screen(config, device, gpus, host_share=host_share_on(cluster, config), say=say)


def trial_files(config: RunConfig, cluster: "Cluster", say: Callable[[str], None]) -> "TrialFiles":
    """Return the files that trials read, on any node."""
    from trainables.inputs import prepare_inputs
    from trainables.models.names import resolve_model
    from tune_app.distributed.nodes import OneMachine, SentFiles

    if not cluster.joined:
        return OneMachine()
    models, settings = model_names(config), config.trial_settings()
    # Nodes fetch the hub's tokenizers themselves, with the models.
    prepared = [name for name in models if resolve_model(name).kind != "hub"]
    say(f"preparing data and models for the cluster's nodes ({len(models)} models)")
    return SentFiles(settings, models, prepare_inputs(settings, prepared, Path(config.run_dir) / CACHE))
