"""Places that a study's files may lie in: folders, and places in a store that a URI names (``s3://…``, ``gs://…``)."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import pyarrow
from pyarrow.fs import FileSystem

from tune_app.errors import StorageError, UserError, check_password, first_line, without_password_of
from tune_app.uris import is_store


class PlaceAwayError(UserError):
    """A store that did not answer; it may the next time."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Have whatever Arrow raises of a store be an OSError, as most of it is."""
    try:
        yield
    except pyarrow.ArrowException as error:
        if isinstance(error, OSError):
            raise
        raise OSError(first_line(error)) from error


@dataclass(frozen=True)
class Place:
    """A folder, or a place in a store.

    Attributes:
        place: its path or URI.
        setting: that names it, for messages.
    """

    place: str
    setting: str = "checkpoint.dir"

    def opened(self) -> tuple[FileSystem, str]:
        """The file system, and the path in it.

        Raises:
            PlaceAwayError: the store does not answer.
            UserError: the URI is none, or of a store that is not known.
        """
        check_password(self.setting, self.place)
        try:
            return _opened(self.place)
        except ValueError as error:
            remedy = "give a folder, or a URI such as s3://bucket/folder"
            raise UserError(f"{self.setting}: {self.place}: {self.why(error)}; {remedy}") from None
        except OSError as error:
            remedy = "see that the store answers, and what it is reached with"
            raise PlaceAwayError(f"{self.setting}: {self.place}: {self.why(error)}; {remedy}") from None

    def check(self) -> None:
        """See whether a file can be written there, and taken away again.

        Raises:
            UserError: it cannot.
        """
        filesystem, path = self.opened()
        tried = f"{path}/.tried-{uuid.uuid4().hex}"
        try:
            with store_errors():
                filesystem.create_dir(path, recursive=True)
                with filesystem.open_output_stream(tried):
                    pass
                filesystem.delete_file(tried)
        except OSError as error:
            raise UserError(
                f"{self.setting}: {self.place} cannot be written ({self.why(error)}); see that it is"
                " there, that it may be written, and what it is reached with"
            ) from None

    @contextmanager
    def told(self) -> Iterator[None]:
        """Have a store that does not answer be told in a line that ends the search.

        Raises:
            StorageError: it does not.
        """
        try:
            with store_errors():
                yield
        except (OSError, PlaceAwayError) as error:
            # Errors of this machine's own disks have a number.
            if not is_store(self.place) or getattr(error, "errno", None) is not None:
                raise
            raise StorageError(
                f"the search ended because its store does not answer ({self.why(error)}); what was finished is kept:"
                " see that it does, and run the same command again"
            ) from error

    def why(self, error: Exception) -> str:
        """What a store said, in a line and without the URI's passwords."""
        return without_password_of(self.place, first_line(error))


@lru_cache(maxsize=16)
def _opened(place: str) -> tuple[FileSystem, str]:
    # A store is asked about itself when it is opened, and keeps its connections.
    filesystem, path = FileSystem.from_uri(place)
    return filesystem, str(path).rstrip("/")
