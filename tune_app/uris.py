"""Places given by the URI of a store, such as ``s3://bucket/runs?region=eu-west-1``, beside those that are folders."""

import hashlib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from trainables.machine import machine_folder
from tune_app.errors import foreign_refused


def is_store(place: str) -> bool:
    """Whether a place is given by the URI of a store. A folder that is given by one is a plain path once it is read."""
    return "://" in place


def below(place: str, name: str) -> str:
    """A folder of a place. Options of a URI stay behind it."""
    path, options = _split(place)
    return f"{path.rstrip('/')}/{name}{options}"


def parted(place: str) -> tuple[str, str]:
    """The other way round: a place → the place around it, and the name of its last folder."""
    path, options = _split(place)
    around, _, name = path.rstrip("/").rpartition("/")
    return f"{around}{options}", name


def working_copies(place: str) -> Path:
    """The folder of this machine for copies of what a store holds at a place, however its URI is written.

    What the store is reached with, keys and a region say, is no part of where it is.

    Raises:
        UserError: the folder that they lie in belongs to another user.
    """
    uri = urlsplit(place)
    server = parse_qs(uri.query).get("endpoint_override", [""])[0]
    where = "\n".join([uri.scheme, uri.netloc.rpartition("@")[2], uri.path.strip("/"), server])
    with foreign_refused():
        return machine_folder() / "studies" / hashlib.sha256(where.encode()).hexdigest()[:16]


def is_in_memory(url: str) -> bool:
    """Return whether a database's URL means one that SQLite keeps in the memory of whoever opens it."""
    scheme, sign, rest = url.partition("://")
    path, _, options = rest.partition("?")
    in_memory = path in ("", "/") or ":memory:" in path or "mode=memory" in options
    return bool(sign) and scheme.lower().startswith("sqlite") and in_memory


def _split(place: str) -> tuple[str, str]:
    """A path, or a URI without its options, and the options with their question mark."""
    path, mark, options = place.partition("?") if is_store(place) else (place, "", "")
    return path, mark + options
