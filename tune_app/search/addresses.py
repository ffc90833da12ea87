"""Which Ray cluster a search is to join, if any, and what names it."""

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
    """Return the cluster to join; None where Ray is to be started here.

    ``RAY_ADDRESS`` names one to every Ray program, and to a job that of its own cluster; ``local`` stands for none.

    Args:
        given: with ``--address``; it goes before the variable.
    """
    if given is not None:
        return ClusterAddress("--address", given)
    address = environ.get(VARIABLE, "").strip()
    return None if address in ("", "local") else ClusterAddress(VARIABLE, address)


def check_address(given: str | None) -> None:
    """Refuse what cannot be a cluster's address; Ray itself tries it for a while.

    Raises:
        UserError: it is neither auto nor a host and its port.
    """
    cluster = cluster_address(given)
    if cluster is not None and not re.fullmatch(_ADDRESS, cluster.address):
        raise UserError(
            f"{cluster.setting}: {quoted(cluster.address)} names no cluster; give HOST:PORT or auto, or"
            f" {cluster.remedy}"
        )
