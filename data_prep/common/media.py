"""Files that rows name, under ROOT and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

from data_prep.common.fields import BadRow, checked_text, shown


class MediaRoot:
    """Looks rows' paths up below one folder.

    Folders are listed once and remembered: a data set has hundreds of thousands of files in some dozens of folders,
    and asking for each on a network disk takes longer than everything else. Paths are compared as they are written,
    links are not followed: a media folder may be a link to another disk.
    """

    def __init__(self, root: Path, check_existence: bool = True) -> None:
        self.root = os.path.abspath(root)
        self._check_existence = check_existence
        self._listed: dict[str, dict[str, bool]] = {}

    def path(self, relative: str, field: str) -> str:
        """The absolute path of `relative`, below ROOT.

        Raises:
            BadRow: for an absolute path, or one that leaves ROOT.
        """
        checked_text(relative, field)
        if "\0" in relative or "\\" in relative:
            raise BadRow(field, f"is no path: {shown(relative)}")
        path = os.path.normpath(os.path.join(self.root, relative))
        if os.path.isabs(relative) or not path.startswith(self.root.rstrip(os.sep) + os.sep):
            raise BadRow(field, f"leaves ROOT: {shown(relative)}")
        return path

    def file(self, relative: str, field: str) -> str:
        """As `path`, of a file that is there."""
        path = self.path(relative, field)
        if self._check_existence and not self._is_folder(path, relative, field):
            return path
        if self._check_existence:
            raise BadRow(field, f"is a folder, not a file: {shown(relative)}")
        return path

    def folder(self, relative: str, field: str) -> str:
        """As `path`, of a folder that is there and not empty."""
        path = self.path(relative, field)
        if not self._check_existence:
            return path
        if not self._is_folder(path, relative, field):
            raise BadRow(field, f"is a file, not a folder of frames: {shown(relative)}")
        if not self._listing(path):
            raise BadRow(field, f"is an empty folder: {shown(relative)}")
        return path

    def is_folder(self, relative: str, field: str) -> bool:
        """Raises:
        BadRow: if there is nothing of that name.
        """
        return self._is_folder(self.path(relative, field), relative, field)

    def _is_folder(self, path: str, relative: str, field: str) -> bool:
        found = self._listing(os.path.dirname(path)).get(os.path.basename(path))
        if found is None:
            raise BadRow(field, f"does not exist: {shown(relative)}")
        return found

    def _listing(self, folder: str) -> dict[str, bool]:
        """name -> is it a folder? Empty for a folder that is not there."""
        if folder not in self._listed:
            try:
                with os.scandir(folder) as entries:
                    self._listed[folder] = {entry.name: entry.is_dir() for entry in entries}
            except OSError:  # no such folder, or one that may not be read: its files do not exist for us
                self._listed[folder] = {}
        return self._listed[folder]
