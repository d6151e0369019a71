"""Files that a running Sidekey watches."""

from __future__ import annotations

from pathlib import Path


def replace(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace a file atomically, as kubelet and editors do: the watch never sees a part of it."""
    beside = path.with_name(f"{path.name}.beside")
    beside.write_bytes(content if isinstance(content, bytes) else content.encode())
    beside.chmod(mode)
    beside.rename(path)
