"""Deletion of a study's files. Nothing outside a study's folder is deleted, even if the study itself names it."""

import os
import shutil
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem


def resolves_inside(filesystem: FileSystem, folder: str, name: str) -> bool:
    """Return whether a path below a folder lies there in fact, so that no link on its way leads elsewhere.

    Args:
        folder: folder that may itself lie behind links, since a configuration or a person names it.
        name: path below the folder.
    """
    if any(part in ("", ".", "..") for part in name.split("/")):
        return False
    if filesystem.type_name != "local":
        return True
    place = os.path.join(os.path.realpath(folder), name)
    return os.path.realpath(place) == place


def remove_below(filesystem: FileSystem, folder: str, name: str) -> bool:
    """Delete a file, or a folder and its content; links in it are removed and not followed.

    Args:
        folder: folder that the file must lie in.
        name: path of the file below the folder.

    Returns:
        Whether the file is gone. A file behind a link is left as it is.
    """
    if not resolves_inside(filesystem, folder, name):
        return False
    path = f"{folder}/{name}"
    kind = filesystem.get_file_info(path).type
    if kind == FileType.Directory and filesystem.type_name == "local":
        # Arrow's own deletion would not do: other processes can make it follow a link.
        shutil.rmtree(path)
    elif kind == FileType.Directory:
        filesystem.delete_dir(path)
    elif kind != FileType.NotFound:
        filesystem.delete_file(path)
    return True


def remove_if_empty(filesystem: FileSystem, path: str) -> None:
    """Delete a folder if it is empty; a store without folders has none."""
    if filesystem.get_file_info(path).type != FileType.Directory:
        return
    if not filesystem.get_file_info(FileSelector(path)):
        if filesystem.type_name == "local":
            os.rmdir(path)
        else:
            filesystem.delete_dir(path)


def remove_here(folder: Path, name: str) -> bool:
    """Delete a file or folder below a local folder, as ``remove_below`` does."""
    return remove_below(LocalFileSystem(), str(folder), name)
