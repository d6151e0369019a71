"""CAs that verify servers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Trust:
    """Which CAs verify an upstream's certificate: `source` is mozilla, system, file (then with `path`) or inline.

    `pem` is what the config or the file held when it was loaded, so that every part uses the same content, and
    `digest` the SHA-256 of that: other content is another trust. Without `pem` a file's trust verifies nothing.
    """

    source: str = "mozilla"
    path: str | None = None
    digest: str = ""
    pem: str | None = field(default=None, repr=False, compare=False)

    @property
    def usable(self) -> bool:
        """Whether there is something to verify with."""
        return self.source != "file" or self.pem is not None
