"""Records of this machine as files of one JSON line each, to which any number of processes may append at once."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainables.files import checksum
from trainables.private import open_unlinked

_LATEST_BYTES = 2**18
"""Only this much of the end of a long file is read: some thousand lines."""


def append_line(file: Path, entry: Mapping[str, Any]) -> None:
    """Append an entry with its checksum."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**entry, "checksum": checksum(dict(entry))})
    # One write in append mode keeps the lines of several processes apart. The line break comes first, so that the line
    # does not continue one that was cut off.
    descriptor = open_unlinked(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, ("\n" + text).encode())
    finally:
        os.close(descriptor)


def latest_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the latest entries in their order, without those that were cut off when their process died, or damaged.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with file.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LATEST_BYTES))
        lines = stream.read().splitlines()
    for line in lines:
        try:
            entry = json.loads(line)
            is_whole = entry.pop("checksum") == checksum(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if is_whole:
            yield entry
