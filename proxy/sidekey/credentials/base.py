"""What a kind of credential is: a settings model, a resolved credential, and a generator that ends in a grant.

A kind does no I/O. Its generator yields a `Call` for each request it needs made first and is sent the `Reply`
(httpx's auth flow is the model); a kind that needs none returns its grant at once. Whoever drives it lives elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from sidekey.credentials.fields import Keys, Reference, SecretUnreadable

Pairs = tuple[tuple[str, str], ...]


class Sealed:
    """Holds a secret: never pickled, and so never copied into a file, a queue or another process by accident."""

    __slots__ = ()

    def __reduce__(self) -> str:
        raise TypeError(f"{type(self).__name__} holds secrets and is not pickled")


@dataclass(frozen=True, slots=True, repr=False)
class Grant(Sealed):
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
class Call(Sealed):
    """A request that a kind needs made before it can grant."""

    method: str
    url: str
    headers: Pairs = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Call({self.method}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Reply(Sealed):
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


@dataclass(frozen=True, slots=True, repr=False)
class FixedCredential(Sealed):
    """The credential of a kind that needs no call: its grant is known once the secrets are read."""

    grant: Grant

    def __repr__(self) -> str:
        return f"FixedCredential({self.grant!r})"

    def obtain(self) -> Generator[Call, Reply, Grant]:
        """Return the grant; there is nothing to call."""
        yield from ()
        return self.grant


class Part(NamedTuple):
    """A value that a kind needs read. `key` is its place under `auth`, `check` judges what was read (ValueError)."""

    key: Keys
    reference: Reference
    check: Callable[[str], None] | None = None


ReadReference = Callable[[Reference], str]
"""Reads a reference; raises ValueError, whose text says why and never what."""


class KindSettings(BaseModel, ABC):
    """The `auth:` block of a kind. `type` is declared by each kind as a Literal."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    type: str

    needs_prefix: ClassVar[bool] = True
    """Whether the integration must write an `endpoint_prefix` itself."""

    @abstractmethod
    def parts(self) -> Iterator[Part]:
        """Every value that stands behind a reference."""

    @abstractmethod
    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """The credential made of what `parts` named, by key."""

    def resolve(self, read: ReadReference) -> Credential:
        """Read every part. Raises SecretUnreadable with all that cannot be read or used."""
        values: dict[Keys, str] = {}
        reasons: list[tuple[Keys, str]] = []
        for key, reference, check in self.parts():
            try:
                values[key] = read(reference)
                if check is not None:
                    check(values[key])
            except ValueError as fault:
                reasons.append((("auth", *key), str(fault)))
        if reasons:
            raise SecretUnreadable(tuple(reasons))
        return self.credential(values)
