"""Folders and lists of names that data sets come with."""

import os
from pathlib import Path

from flsl_bench.errors import DataError


def file_names(folder: Path) -> set[str]:
    """Names of the files in a folder; one listing, since single look-ups are slow on network disks.

    Raises `DataError` if the folder is missing or cannot be read.
    """
    return {entry.name for entry in _entries(folder) if entry.is_file()}


def folder_names(folder: Path) -> set[str]:
    """Names of the folders in a folder, see `file_names`."""
    return {entry.name for entry in _entries(folder) if entry.is_dir()}


def read_list(path: Path) -> list[str]:
    """The first word of every line that has one, as VOC's image sets are written.

    Raises `DataError` if the file is missing or names nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: list of images cannot be read ({error.strerror}); name another split") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: list of images is no text; fetch it again") from error
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path}: names no image; fetch it again")
    return names


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{folder}: folder cannot be read ({error.strerror}); name the data set's own") from error
