"""Storage locations given by the URI of a store, such as ``s3://bucket/runs?region=eu-west-1``, or by a folder."""

import hashlib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from trainables.machine import machine_folder
from tune_app.errors import foreign_refused


def is_store(location: str) -> bool:
    """Return whether a location is given by the URI of a store. Folders given by a URI become plain paths when read."""
    return "://" in location


def below(location: str, name: str) -> str:
    """Return a folder of a location. A URI's options stay at its end."""
    path, options = _split(location)
    return f"{path.rstrip('/')}/{name}{options}"


def parted(location: str) -> tuple[str, str]:
    """Split a location into its parent and the name of its last folder, as the inverse of ``below``."""
    path, options = _split(location)
    around, _, name = path.rstrip("/").rpartition("/")
    return f"{around}{options}", name


def working_copies(location: str) -> Path:
    """Return this machine's folder for working copies of a store's location, regardless of how its URI is written.

    Keys, a region and similar options do not identify the location.

    Raises:
        UserError: the parent of the folder belongs to another user.
    """
    uri = urlsplit(location)
    server = parse_qs(uri.query).get("endpoint_override", [""])[0]
    where = "\n".join([uri.scheme, uri.netloc.rpartition("@")[2], uri.path.strip("/"), server])
    with foreign_refused():
        return machine_folder() / "studies" / hashlib.sha256(where.encode()).hexdigest()[:16]


def is_in_memory(url: str) -> bool:
    """Return whether a URL names a SQLite database in memory, which only its process can read."""
    scheme, sign, rest = url.partition("://")
    path, _, options = rest.partition("?")
    in_memory = path in ("", "/") or ":memory:" in path or "mode=memory" in options
    return bool(sign) and scheme.lower().startswith("sqlite") and in_memory


def _split(location: str) -> tuple[str, str]:
    """Split a path or a URI into the part without options, and the options with their question mark."""
    path, mark, options = location.partition("?") if is_store(location) else (location, "", "")
    return path, mark + options
