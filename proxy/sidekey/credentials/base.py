"""What a kind of credential is: a settings model, a resolved credential, and a generator that ends in a grant.

A kind does no I/O. Its generator yields a `Call` for each request it needs made first and is sent the `Reply`
(httpx's auth flow is the model); a kind that needs none returns its grant at once. Whoever drives it lives elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from sidekey.credentials.fields import Reference
from sidekey.errors import Problem

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, repr=False)
class Grant:
    """What a kind hands over for one request. Text holds one character a byte (latin-1).

    `expires` is on the monotonic clock, in seconds; None never expires. `base_url` is one the kind learnt.
    """

    headers: Pairs = ()
    query: Pairs = ()
    body: Pairs = ()
    base_url: str | None = None
    expires: float | None = None

    def __repr__(self) -> str:
        return f"Grant(headers={[name for name, _ in self.headers]}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """A request that a kind needs made before it can grant."""

    method: str
    url: str
    headers: Pairs = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Call({self.method}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """The answer to a `Call`. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status}, REDACTED)"


class Credential(Protocol):
    """A kind with its secrets read."""

    def obtain(self) -> Generator[Call, Reply, Grant]:
        """Yield the calls it needs, return the grant."""
        ...


class GrantSource(Protocol):
    """Where the data plane gets a grant. The warm path is a plain attribute read of `grant`."""

    grant: Grant | None

    async def obtain(self) -> Grant:
        """Get a grant where `grant` is None. Raises Problem (credential_unavailable)."""
        ...


ReadSecret = Callable[[Reference], str]
"""Reads a reference; raises fields.SecretUnreadable, whose text says where and why and never what."""


class KindSettings(BaseModel):
    """The `auth:` block of a kind. `type` is declared by each kind as a Literal."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    needs_prefix: ClassVar[bool] = True
    """Whether the integration must write an `endpoint_prefix` itself."""

    def credential(self, read: ReadSecret) -> Credential:
        """Read the secrets. Raises fields.SecretUnreadable."""
        raise Problem("internal_error", "this kind has no generator")
