"""Access to the hub: whether it answers, and which of its models a name may mean. Cheap to import (no torch)."""

import difflib
import os
import socket
import time
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies

from trainables.models.architectures import ARCHITECTURE_NAMES

_KNOCK_S = 5.0
_REMEMBERED_S = 60.0
_ENDPOINT = "https://huggingface.co"

_LIKENESS = 0.8

KNOWN_NAMES = (
    *ARCHITECTURE_NAMES,
    *("bert-base-cased", "bert-large-cased", "bert-base-multilingual-cased", "distilroberta-base"),
    *("distilbert-base-cased", "albert-large-v2", "albert-xlarge-v2"),
    *("microsoft/deberta-v3-small", "microsoft/deberta-v3-xsmall", "microsoft/mdeberta-v3-base"),
    *("microsoft/deberta-large", "microsoft/deberta-v2-xlarge"),
    *("google/electra-small-discriminator", "google/electra-large-discriminator"),
    *("microsoft/MiniLM-L12-H384-uncased", "nreimers/MiniLM-L6-H384-uncased"),
    *("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-mpnet-base-v2"),
)
"""Names of encoders on the hub that people often use."""


def answers() -> bool:
    """Return whether the hub's address accepts connections; the answer is cached for a minute.

    The hub's library retries for half a minute, for every file, before it gives up.
    """
    return _answered(os.environ.get("HF_ENDPOINT") or _ENDPOINT, int(time.monotonic() // _REMEMBERED_S))


@cache
def _answered(endpoint: str, _: int) -> bool:
    address = urlsplit(endpoint)
    if address.hostname is None or address.scheme in getproxies():
        # Only the proxy can tell.
        return True
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname, port), timeout=_KNOCK_S).close()
    except (OSError, ValueError):
        return False
    return True


def with_owner(name: str) -> str | None:
    """Return the well-known model that a name without its owner means; the hub knows it only with its owner."""
    owned = {known.partition("/")[2].lower(): known for known in KNOWN_NAMES if "/" in known}
    return owned.get(name.lower())


def meant(name: str) -> str | None:
    """Return the well-known model that a name resembles without being it, or None."""
    if name in KNOWN_NAMES:
        return None
    by_leaf = {known.rpartition("/")[2].lower(): known for known in KNOWN_NAMES}
    leaf = name.rpartition("/")[2].lower()
    close = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=_LIKENESS)
    return by_leaf[close[0]] if close else None
