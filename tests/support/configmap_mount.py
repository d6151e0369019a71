"""A folder as the kubelet mounts a ConfigMap or Secret: files link into `..data`, a link that each update replaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class ConfigMapMount:
    """Files in `folder`, replaced together by `update` (kubelet's AtomicWriter)."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        self._count = 0
        folder.mkdir(exist_ok=True)
        self.update(files)

    def update(self, files: Mapping[str, str]) -> None:
        """Write the files to a new folder, replace the link, and remove the previous folder."""
        self._count += 1
        data = self.folder / f"..{self._count}"
        data.mkdir()
        for name, content in files.items():
            (data / name).write_text(content)
        previous = self.folder / "..data"
        old = previous.resolve() if previous.is_symlink() else None
        link = self.folder / "..data_tmp"
        link.symlink_to(data.name)
        link.replace(previous)
        for name in files:
            path = self.folder / name
            if not path.is_symlink():
                path.symlink_to(f"..data/{name}")
        if old is not None:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
