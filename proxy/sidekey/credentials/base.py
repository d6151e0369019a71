"""What a kind of credential is: a settings model, a resolved credential, and how it becomes a grant.

A kind does no I/O and reads no clock. Some know their grant as soon as their secrets are read (`FixedCredential`);
others must call somewhere first: their generator yields a `Call` for each request it needs made, is sent the `Reply`
(httpx's auth flow is the model), and returns what was `Issued`. `sources.tokens` drives it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from sidekey.core.policy import Domain, Forbidden, Prefix
from sidekey.core.urls import Origin
from sidekey.credentials.fields import Keys, Reference

Pairs = tuple[tuple[str, str], ...]

Outcome = Literal["ok", "refused", "rate_limited", "timeout", "unreachable", "invalid"]
"""What came of a call for a token; the metric's label."""


class Sealed:
    """Holds a secret: never pickled, and so never copied into a file, a queue or another process by accident."""

    __slots__ = ()

    def __reduce__(self) -> str:
        raise TypeError(f"{type(self).__name__} holds secrets and is not pickled")


@dataclass(frozen=True, slots=True, repr=False)
class Grant(Sealed):
    """What a kind hands over for one request. Text holds one character a byte (latin-1).

    `query` and `body` are names and values before any encoding; `base_url` is one the kind learnt.
    """

    headers: Pairs = ()
    query: Pairs = ()
    body: Pairs = ()
    base_url: str | None = None

    def __repr__(self) -> str:
        return f"Grant(headers={[name for name, _ in self.headers]}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Call(Sealed):
    """A request that a kind needs made before it can grant. `step` names it for people, such as "token endpoint".

    `previous` is what came of the call before it, where the kind goes on although that one failed. `own_connection` is
    for what may be presented only once, since a server may close a kept connection at any time, and for rare calls.
    """

    step: str
    method: str
    url: str
    headers: Pairs = ()
    body: bytes = b""
    previous: Outcome = "ok"
    own_connection: bool = False

    def __repr__(self) -> str:
        return f"Call({self.step}, {self.method}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Reply(Sealed):
    """The answer to a `Call`. Header names are lower case; no coding is left on the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status}, REDACTED)"


class CallFault(Sealed, Exception):
    """No grant came of a call. `reason` names the step and is shown to callers: never a secret, never an answer's text.

    `retry_after` is in seconds, as the answer asked for; `settings` says that only a change of the config helps.
    `memory` is what the next attempt may use all the same, None where that stays what it was.
    """

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        *,
        retry_after: float | None = None,
        settings: bool = False,
        memory: str | None = None,
    ) -> None:
        super().__init__(outcome, reason)
        self.outcome: Outcome = outcome
        self.reason = reason
        self.retry_after = retry_after
        self.settings = settings
        self.memory = memory


@dataclass(frozen=True, slots=True, repr=False)
class Attempt(Sealed):
    """Under what a credential is asked for a grant.

    `now` is the wall clock, in seconds since the epoch, for claims that are signed. `memory` is what the last `Issued`
    or `CallFault` left, None at first. `rejected` says that the upstream refused the last grant.
    """

    now: float
    memory: str | None = None
    rejected: bool = False

    def __repr__(self) -> str:
        return f"Attempt({self.now:g}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Issued(Sealed):
    """A grant, how long it lives from the moment of the (last) call in seconds, and what the next attempt may use."""

    grant: Grant
    life: float
    memory: str | None = None

    def __repr__(self) -> str:
        return f"Issued({self.grant!r}, {self.life:g} s)"


class Verdict(Enum):
    """What an upstream's answer says of the grant that the request carried."""

    GOOD = "good"
    """Nothing: the answer is the caller's."""
    REJECTED = "rejected"
    """The grant was refused and nothing was done: a newer one may be tried."""
    SPENT = "spent"
    """The grant is of no more use, but whether the request was acted on is not known: it is not sent again."""


@dataclass(frozen=True, slots=True, repr=False)
class FixedCredential(Sealed):
    """The credential of a kind that needs no call: its grant is known once the secrets are read."""

    grant: Grant

    def __repr__(self) -> str:
        return f"FixedCredential({self.grant!r})"


class CallingCredential(Protocol):
    """The credential of a kind that must call first. `calls_a_minute` bounds its calls whatever happens; None: not."""

    calls_a_minute: ClassVar[int | None]

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """Yield the calls it needs, return what was issued. Raises CallFault.

        Where no answer comes of a call, its CallFault is raised at the yield: it may be caught to go on with another.
        """
        ...

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """Judge an upstream's answer of a watched status; `body` is None where it could not be read whole."""
        ...


Credential = FixedCredential | CallingCredential


class GrantSource(Protocol):
    """Where the data plane gets a grant. The warm path is a plain attribute read of `grant`."""

    grant: Grant | None

    async def obtain(self) -> Grant:
        """Get a grant where `grant` is None. Raises ProblemError (credential_unavailable)."""
        ...

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        """Take note of an upstream's response of a watched status to a request with `grant`.

        `body` is None where it was not read whole. True where the response rejects the grant and a newer one is there
        or on its way (`refreshed_after`).
        """
        ...

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        """The grant that replaced `grant`, after the refresh under way, if there is one; None where none did."""
        ...


class Places(NamedTuple):
    """Where a grant goes in a request: names of headers, query parameters and body fields."""

    headers: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()


class Traits(NamedTuple):
    """What is known of an integration's credential before any secret is read.

    `calls`: it must call somewhere first. `learns`: its grants bring the base URL. `watched` are the statuses of
    upstream answers that may say something of the grant.
    """

    places: Places
    calls: bool = False
    learns: bool = False
    watched: frozenset[int] = frozenset()


class Destinations(NamedTuple):
    """Where a kind's credential may go by itself, beside what the integration names.

    `base` is the reverse door's base where the integration names none; `path` lies over every target, whatever its
    origin. Targets at `stand_in` move to the origin that the grant learns, which then is the only one allowed.
    """

    domains: tuple[Domain, ...] = ()
    forbidden: tuple[Forbidden, ...] = ()
    base: Prefix | None = None
    path: str = ""
    stand_in: Origin | None = None


class Part(NamedTuple):
    """A value that a kind needs read. `key` is its place under `auth`, `check` judges what was read (ValueError)."""

    key: Keys
    reference: Reference
    check: Callable[[str], None] | None = None


Reasons = tuple[tuple[Keys, str], ...]
"""Why values could not be read: where each stands in the integration, and the reason."""

ReadReference = Callable[[Reference], str]
"""Reads a reference; raises ValueError, whose text says why and never what."""


class KindSettings(BaseModel, ABC):
    """The `auth:` block of a kind. `type` is declared by each kind as a Literal."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    type: str

    needs_prefix: ClassVar[bool] = True
    """Whether the integration must write an `endpoint_prefix` itself."""

    @abstractmethod
    def traits(self) -> Traits:
        """What is known before anything is read."""

    @abstractmethod
    def parts(self) -> Iterator[Part]:
        """Every value that stands behind a reference."""

    @abstractmethod
    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """The credential made of what `parts` named, by key."""

    def destinations(self, values: Mapping[Keys, str]) -> Destinations | None:
        """Where the credential may go by itself; `values` are those of the `parts` that can be read.

        None where one is missing that decides it: the credential then goes nowhere.
        """
        del values
        return Destinations()

    def read(self, read: ReadReference, known: Mapping[Keys, str]) -> tuple[dict[Keys, str], Reasons]:
        """Read every part that is not known yet: what could be read, and why the others could not."""
        values = dict(known)
        reasons: list[tuple[Keys, str]] = []
        for key, reference, check in self.parts():
            if key in values:
                continue
            try:
                value = read(reference)
                if check is not None:
                    check(value)
                values[key] = value
            except ValueError as fault:
                reasons.append((("auth", *key), str(fault)))
        return values, tuple(reasons)
