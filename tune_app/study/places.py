"""Places that a study's files may lie in: folders, and places in a store that a URI names (``s3://…``, ``gs://…``)."""

import uuid
from dataclasses import dataclass
from functools import lru_cache

from pyarrow.fs import FileSystem

from tune_app.errors import UserError, first_line, without_password_of


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
            UserError: the URI is none, or of a store that is not known.
        """
        try:
            filesystem, path = _opened(self.place)
        except (ValueError, OSError) as error:
            remedy = "see that the store answers, or give a folder, or a URI such as s3://bucket/folder"
            raise UserError(f"{self.setting}: {self.place}: {self.why(error)}; {remedy}") from None
        return filesystem, path

    def check(self) -> None:
        """See whether a file can be written there, and taken away again.

        Raises:
            UserError: it cannot.
        """
        filesystem, path = self.opened()
        tried = f"{path}/.tried-{uuid.uuid4().hex}"
        try:
            filesystem.create_dir(path, recursive=True)
            with filesystem.open_output_stream(tried):
                pass
            filesystem.delete_file(tried)
        except OSError as error:
            raise UserError(
                f"{self.setting}: {self.place} cannot be written ({self.why(error)}); give another, or what it is"
                " reached with"
            ) from None

    def why(self, error: Exception) -> str:
        """What a store said, in a line and without the URI's passwords."""
        return without_password_of(self.place, first_line(error))


@lru_cache(maxsize=16)
def _opened(place: str) -> tuple[FileSystem, str]:
    # A store is asked about itself when it is opened, and keeps its connections.
    filesystem, path = FileSystem.from_uri(place)
    return filesystem, str(path).rstrip("/")
