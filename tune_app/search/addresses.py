"""Which Ray cluster a search is to join, if any, and what names it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from tune_app.errors import UserError, first_line

VARIABLE = "RAY_ADDRESS"


@dataclass(frozen=True)
class ClusterAddress:
    """Address of a cluster, and the option or variable that gives it."""

    setting: str
    address: str

    def absent(self, error: Exception) -> UserError:
        """Return the error for an address at which no cluster answers."""
        remedy = "leave --address out" if self.setting != VARIABLE else f"unset {VARIABLE} to have Ray started here"
        return UserError(
            f"{self.setting}: no Ray cluster answers at {self.address} ({first_line(error)}); start one with ray start"
            f" --head, or {remedy}"
        )


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
