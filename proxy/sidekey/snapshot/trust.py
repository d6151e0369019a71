"""The CAs that verify servers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Trust:
    """The CAs that verify an upstream. `source` is mozilla, system, file (with `path`) or inline.

    `pem` is the content of the config or the file when it was loaded, so that every part uses the same, and `digest`
    its SHA-256. If `pem` of a file is None, no certificate verifies.
    """

    source: str = "mozilla"
    path: str | None = None
    digest: str = ""
    pem: str | None = field(default=None, repr=False, compare=False)

    @property
    def usable(self) -> bool:
        """Return True if CA certificates are loaded."""
        return self.source != "file" or self.pem is not None
