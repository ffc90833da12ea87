"""Address of the Ray cluster that a search joins, if any, and the option or variable that gives it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.quoting import quoted
from tune_app.errors import UserError, first_line

VARIABLE = "RAY_ADDRESS"
_ADDRESS = r"auto|local|(ray://)?(\[[\da-fA-F:.]+\]|[^\s:/]+):\d+"


@dataclass(frozen=True)
class ClusterAddress:
    """Address of a cluster, and the option or variable that gives it."""

    setting: str
    address: str

    def absent(self, error: Exception) -> UserError:
        """Return the error for an address at which no cluster answers."""
        return UserError(
            f"{self.setting}: no Ray cluster answers at {self.address} ({first_line(error)}); start one with ray start"
            f" --head, or {self.remedy}"
        )

    @property
    def remedy(self) -> str:
        return "leave --address out" if self.setting != VARIABLE else f"unset {VARIABLE} to have Ray started here"


def cluster_address(given: str | None, environ: Mapping[str, str] = os.environ) -> ClusterAddress | None:
    """Return the cluster to join; None if Ray shall start here.

    ``RAY_ADDRESS`` names a cluster for every Ray program; in a job it names the job's own cluster. ``local`` means no
    cluster.

    Args:
        given: address given with ``--address``, which takes precedence over the variable.
        environ: environment that holds the variable.
    """
    if given is not None:
        return ClusterAddress("--address", given)
    address = environ.get(VARIABLE, "").strip()
    return None if address in ("", "local") else ClusterAddress(VARIABLE, address)


def check_address(given: str | None) -> None:
    """Refuse an impossible cluster address at once; Ray itself would try it for a while.

    Raises:
        UserError: the address is neither auto nor a host and its port.
    """
    cluster = cluster_address(given)
    if cluster is not None and not re.fullmatch(_ADDRESS, cluster.address):
        raise UserError(
            f"{cluster.setting}: {quoted(cluster.address)} is not a cluster's address; give HOST:PORT or auto, or"
            f" {cluster.remedy}"
        )
