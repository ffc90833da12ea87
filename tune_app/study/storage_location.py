"""Storage locations of a study's files: folders, and locations in a store given by a URI (``s3://…``, ``gs://…``)."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import pyarrow
from pyarrow.fs import FileSystem

from tune_app.errors import StorageError, UserError, check_password, first_line, without_password_of
from tune_app.uris import is_store


class StoreUnavailableError(UserError):
    """Error of a store that did not answer, but may answer later."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Convert Arrow's errors about a store to OSError, which most of them are already."""
    try:
        yield
    except pyarrow.ArrowException as error:
        if isinstance(error, OSError):
            raise
        raise OSError(first_line(error)) from error


@dataclass(frozen=True)
class StorageLocation:
    """Storage location: a folder, or a location in a store.

    Attributes:
        address: path or URI of the location.
        setting: setting that names the location, for messages.
    """

    address: str
    setting: str = "checkpoint.dir"

    def opened(self) -> tuple[FileSystem, str]:
        """Return the file system and the path in it.

        Raises:
            StoreUnavailableError: the store does not answer.
            UserError: the URI is invalid, or names an unknown kind of store.
        """
        check_password(self.setting, self.address)
        try:
            return _opened(self.address)
        except ValueError as error:
            remedy = "give a folder, or a URI such as s3://bucket/folder"
            raise UserError(f"{self.setting}: {self.address}: {self.why(error)}; {remedy}") from None
        except OSError as error:
            remedy = "check that the store answers, and its credentials"
            raise StoreUnavailableError(f"{self.setting}: {self.address}: {self.why(error)}; {remedy}") from None

    def check(self) -> None:
        """Check that a file can be written to the location and deleted again.

        Raises:
            UserError: a file cannot be written or deleted there.
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
                f"{self.setting}: {self.address} cannot be written ({self.why(error)}); check that it exists, that you"
                " may write to it, and its credentials"
            ) from None

    @contextmanager
    def as_storage_errors(self) -> Iterator[None]:
        """Convert errors of a store that does not answer to a one-line StorageError, which ends the search.

        Raises:
            StorageError: the store does not answer.
        """
        try:
            with store_errors():
                yield
        except (OSError, StoreUnavailableError) as error:
            # Errors of this machine's disks have an error number; they are not the store's.
            if not is_store(self.address) or getattr(error, "errno", None) is not None:
                raise
            raise StorageError(
                f"the search ended because its store does not answer ({self.why(error)}); finished trials are saved:"
                " make sure that it answers, and run the same command again"
            ) from error

    def why(self, error: Exception) -> str:
        """Return a store's error message on one line, without the URI's passwords."""
        return without_password_of(self.address, first_line(error))


@lru_cache(maxsize=16)
def _opened(location: str) -> tuple[FileSystem, str]:
    # Cached, because opening a store queries it, and an opened store keeps its connections.
    filesystem, path = FileSystem.from_uri(location)
    return filesystem, str(path).rstrip("/")
