"""Deletion of a study's files. Whatever names one, be it the study itself, nothing outside its folder is deleted."""

import os
import shutil
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem


def resolves_inside(filesystem: FileSystem, folder: str, name: str) -> bool:
    """Return whether a path below a folder is that very place: no link on its way leads elsewhere.

    Args:
        folder: may itself be reached by links, since a configuration or a person names it.
        name: the path below it.
    """
    if any(part in ("", ".", "..") for part in name.split("/")):
        return False
    if filesystem.type_name != "local":
        return True
    place = os.path.join(os.path.realpath(folder), name)
    return os.path.realpath(place) == place


def remove_below(filesystem: FileSystem, folder: str, name: str) -> bool:
    """Delete a file, or a folder with all in it; links in it are removed and not followed.

    Args:
        folder: that it must lie in.
        name: its path below that.

    Returns:
        Whether it is gone; it is left as it is where a link leads to it.
    """
    if not resolves_inside(filesystem, folder, name):
        return False
    path = f"{folder}/{name}"
    kind = filesystem.get_file_info(path).type
    if kind == FileType.Directory and filesystem.type_name == "local":
        # Not Arrow's, which other processes can have follow a link.
        shutil.rmtree(path)
    elif kind == FileType.Directory:
        filesystem.delete_dir(path)
    elif kind != FileType.NotFound:
        filesystem.delete_file(path)
    return True


def remove_if_empty(filesystem: FileSystem, path: str) -> None:
    """Delete a folder that holds nothing; a store without folders has none."""
    if filesystem.get_file_info(path).type != FileType.Directory:
        return
    if not filesystem.get_file_info(FileSelector(path)):
        if filesystem.type_name == "local":
            os.rmdir(path)
        else:
            filesystem.delete_dir(path)


def remove_here(folder: Path, name: str) -> bool:
    """Delete something that lies in a folder of this machine, as ``remove_below`` does."""
    return remove_below(LocalFileSystem(), str(folder), name)
