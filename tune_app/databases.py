"""Addresses of databases in SQLAlchemy's form, and the owner of a database's tables.

No other module parses the path in such an address, since it may be quoted. ``uris.is_in_memory``, which a configuration
calls, looks for a few words alone, so that it needs no SQLAlchemy.
"""

import os
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

# SQLAlchemy takes long to import; ``--help`` and a study in a journal need none of it.

_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433}
_LOOPBACK = {"", "localhost", "127.0.0.1", "::1"}
_MLFLOW_TABLES = {"experiments", "runs", "metrics"}


def sqlite_url(file: str | os.PathLike[str]) -> str:
    """Return the address of a SQLite file."""
    from sqlalchemy.engine import URL

    path = os.path.abspath(file)
    plain = f"sqlite:///{path}"
    # MLflow creates the folder of an address in this plain form, even if the path is quoted.
    is_read_as_meant = sqlite_file(plain) == path
    return plain if is_read_as_meant else _written(URL.create("sqlite+pysqlite", database=path))


def sqlite_file(url: str) -> str | None:
    """Return the path of the SQLite file that an address names; None for other databases and for those in memory."""
    parsed = _parsed(url)
    return None if parsed is None else _file_of(parsed)


def with_absolute_file(url: str) -> str:
    """Return the address of a SQLite file with its absolute path; return any other address unchanged."""
    parsed = _parsed(url) if url.startswith("sqlite") else None
    if parsed is None or parsed.host or not parsed.database or parsed.database.startswith(("/", ":memory:", "file:")):
        return url
    return _with_file(parsed, os.path.abspath(os.path.expanduser(parsed.database)))


def moved(url: str, there: str, here: str) -> str:
    """Return the address after a folder was moved that may contain its SQLite file."""
    parsed = _parsed(url)
    file = None if parsed is None else _file_of(parsed)
    if parsed is None or file is None or not file.startswith(f"{there}/"):
        return url
    file = f"{here}{file.removeprefix(there)}"
    is_uri = (parsed.database or "").startswith("file:")
    return _with_file(parsed, f"file:{quote(file)}" if is_uri else file)


def is_same(one: str, other: str) -> bool:
    """Return whether two addresses name one database, however they are written."""
    first, second = _parsed(one), _parsed(other)
    if first is None or second is None:
        return False
    if first.get_backend_name() == "sqlite" == second.get_backend_name():
        files = _file_of(first), _file_of(second)
        return None not in files and len({os.path.realpath(file) for file in files if file}) == 1
    return _server_of(first) == _server_of(second)


def owner(url: str) -> str | None:
    """Return the name of the program whose tables a database holds; None for an empty one. Write nothing.

    A server's database may hold tables of several programs. They conflict if both use Alembic for the version of their
    tables, as Optuna and MLflow do, because Alembic uses the same table name.

    Raises:
        Exception: the database cannot be read; SQLAlchemy and the drivers raise many types.
    """
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.pool import NullPool

    file = sqlite_file(url)
    if file is not None and not os.path.exists(file):
        # Opening the file would create it.
        return None
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        versions: list[str] = []
        if "alembic_version" in tables:
            versions = [str(row[0]) for row in connection.execute(text("SELECT version_num FROM alembic_version"))]
    # Optuna uses its own versions for its tables, such as v3.0.0.d.
    if any(version.startswith("v") for version in versions) or {"studies", "version_info"} <= tables - _MLFLOW_TABLES:
        return "Optuna"
    if "alembic_version" in tables:
        return "MLflow" if tables >= _MLFLOW_TABLES else "another program"
    return "another program" if tables and engine.name == "sqlite" else None


def _parsed(url: str) -> "URL | None":
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None


def _with_file(url: "URL", file: str) -> str:
    is_plain = url.drivername == "sqlite" and not url.query
    return sqlite_url(file) if is_plain else _written(url.set(database=file))


def _written(url: "URL") -> str:
    return url.render_as_string(hide_password=False)


def _file_of(url: "URL") -> str | None:
    file = url.database
    if url.get_backend_name() != "sqlite" or not file or file.startswith(":memory:"):
        return None
    if file.startswith("file:"):
        # SQLite has its own form of address, which may also name a database in memory.
        file = unquote(file.removeprefix("file:").partition("?")[0])
        if url.query.get("mode") == "memory" or not file or file.startswith(":memory:"):
            return None
    return os.path.abspath(file)


def _server_of(url: "URL") -> tuple[object, ...]:
    backend, host = url.get_backend_name(), (url.host or "").lower()
    # PostgreSQL's option search_path divides a database into several.
    where = "" if host in _LOOPBACK else host, url.port or _PORTS.get(backend)
    return backend, *where, url.database, url.query.get("options")
