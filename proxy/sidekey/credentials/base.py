"""What a kind of credential is: a settings model, a resolved credential, and how it becomes a grant.

A kind does no I/O and reads no clock. Some have their grant as soon as their secrets are read (`FixedCredential`);
those of others end. Their generator yields a `Call` for each request it needs made, is sent the `Reply` (httpx's auth
flow is the model), and returns what was `Issued`; one that signs its tokens itself yields none. `sources.tokens` drives
it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import Field

from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.destination import SAFE_TO_CHANGE
from sidekey.credentials.fields import Keys, Reference, Section
from sidekey.credentials.refresh_settings import RENEWAL_INTERVAL
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.signing import ChainedSigner, Signer, SigningRules
from sidekey.policy.canonical import CanonicalForm
from sidekey.policy.parameters import Scalar
from sidekey.policy.targets import Domain, Forbidden, Prefix
from sidekey.policy.urls import Origin

Pairs = tuple[tuple[str, str], ...]

Fields = tuple[tuple[str, Scalar], ...]
"""Of a body: what is no text is a number, true or false in JSON."""

Outcome = Literal["ok", "refused", "rate_limited", "timeout", "unreachable", "invalid"]
"""The outcome of a call for a token; the metric's label."""


@dataclass(frozen=True, slots=True, repr=False)
class Grant(SecretHolder):
    """What a kind hands over for one request. Text holds one character a byte (latin-1).

    `query` and `body` are names and values before any encoding, as characters; `base_url` is one the kind learnt.
    `secrets` are those of the values that must not be shown, as they are sent: without a public word before them, such
    as `Bearer`. `signer` signs each request that has all of this in it. `issued` is what a `supplemented` one was
    before that: two with the same are for the same token.
    """

    headers: Pairs = ()
    query: Pairs = ()
    body: Fields = ()
    base_url: str | None = None
    secrets: tuple[bytes, ...] = ()
    signer: Signer | None = None
    issued: Grant | None = None

    def __repr__(self) -> str:
        return f"Grant(headers={[name for name, _ in self.headers]}, REDACTED)"

    def secret_pairs(self) -> Pairs:
        """The parameters, of the query and of the body, whose values are a secret, or end in one."""
        secrets = tuple(secret.decode() for secret in self.secrets)
        every = self.query + self.body
        return tuple((name, value) for name, value in every if isinstance(value, str) and value.endswith(secrets))

    def supplemented(self, supplement: Grant) -> Grant:
        """The same grant with another's values before its own, and the other's signer after its own."""
        own, further = self.signer, supplement.signer
        return Grant(
            headers=supplement.headers + self.headers,
            query=supplement.query + self.query,
            body=supplement.body + self.body,
            base_url=self.base_url,
            secrets=supplement.secrets + self.secrets,
            signer=own or further if own is None or further is None else ChainedSigner(own, further),
            issued=self,
        )


@dataclass(frozen=True, slots=True, repr=False)
class Call(SecretHolder):
    """A request that a kind needs made before it can grant. `step` names it for people, such as "token endpoint".

    `previous` is the outcome of the call before it, where the kind continues although that one failed.
    """

    step: str
    method: str
    url: str
    headers: Pairs = ()
    body: bytes = b""
    previous: Outcome = "ok"

    def __repr__(self) -> str:
        return f"Call({self.step}, {self.method}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Reply(SecretHolder):
    """The response to a `Call`. Header names are lower case; the body is decoded."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status}, REDACTED)"


class CallError(SecretHolder, Exception):
    """A call brought no grant. `reason` names the step and is shown to callers: no secret, no text of a response.

    `retry_after` is in seconds, as the response asked for; `settings` says that only a change of the config helps.
    `memory` is what the next attempt may use nevertheless, None where that does not change. `expired` says that the
    response brought a token, but one that has ended: the endpoint may return the next one at any moment.
    `unspent` says that it is known what may be presented next: nothing was sent, the endpoint refused what was, or
    `memory` has taken its place. It counts where what was presented may end with its use (`Traits.rotates`).
    """

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        *,
        retry_after: float | None = None,
        settings: bool = False,
        memory: str | None = None,
        expired: bool = False,
        unspent: bool = False,
    ) -> None:
        super().__init__(outcome, reason)
        self.outcome: Outcome = outcome
        self.reason = reason
        self.retry_after = retry_after
        self.settings = settings
        self.memory = memory
        self.expired = expired
        self.unspent = unspent


@dataclass(frozen=True, slots=True, repr=False)
class Attempt(SecretHolder):
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
class Issued(SecretHolder):
    """A grant, how long it lives from the moment of the (last) call in seconds, and what the next attempt may use.

    In use, another is obtained `renewed_after` seconds from then; None: shortly before its end.
    """

    grant: Grant
    life: float
    memory: str | None = None
    renewed_after: float | None = None

    def __repr__(self) -> str:
        return f"Issued({self.grant!r}, {self.life:g} s)"


class Verdict(Enum):
    """What an upstream's response says about the grant of its request."""

    GOOD = "good"
    """Nothing: the response is for the caller."""
    REJECTED = "rejected"
    """The grant was rejected and the request not processed: a newer grant may be tried."""
    SPENT = "spent"
    """The grant is no longer valid, but the request may have been processed: it must not be sent again."""


@dataclass(frozen=True, slots=True, repr=False)
class FixedCredential(SecretHolder):
    """The credential of a kind that needs no call: its grant is known once the secrets are read."""

    grant: Grant

    def __repr__(self) -> str:
        return f"FixedCredential({self.grant!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Lineage(SecretHolder):
    """The client, the scope and the secret of a token, which decide what a change of the config keeps.

    It may hold secrets, is never shown, and is only compared. With the same `client`, a source keeps what the last call
    left for the next (`Issued.memory`). With the same `token` as well, it keeps the token. If `proof` differs, it
    replaces that token at once; otherwise it calls the endpoint no earlier than the endpoint allows.
    """

    client: tuple[Hashable, ...]
    token: tuple[Hashable, ...]
    proof: tuple[Hashable, ...]

    def __repr__(self) -> str:
        return "Lineage(REDACTED)"


class CallingCredential(Protocol):
    """The credential of a kind whose grants end."""

    @property
    def calls_a_minute(self) -> int | None:
        """How many calls may be made in a minute, whatever happens; None: any number."""
        ...

    @property
    def lineage(self) -> Lineage:
        """What a token that it obtains belongs to. How calls are made (CAs, client certificate) is no part of it."""
        ...

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """Yield the calls it needs, if any, return what was issued. Raises CallFault.

        Where a call has no response, its CallFault is raised at the yield: it may be caught to make another call.
        """
        ...

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """Judge an upstream's response of a watched status; `body` is None where it could not be read whole."""
        ...


Credential = FixedCredential | CallingCredential


@dataclass(frozen=True, slots=True, repr=False)
class Supplemented(SecretHolder):
    """A credential that must call first, and what each of its grants is supplemented with.

    What it obtains is the token alone: that is held, handed over and shared, and outlives a change of the supplement.
    """

    credential: CallingCredential
    supplement: Grant

    def __repr__(self) -> str:
        return f"Supplemented({self.credential!r}, {self.supplement!r})"


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


class InjectionPoints(NamedTuple):
    """Where a grant goes in a request: names of headers, query parameters and body fields."""

    headers: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()

    def beside(self, others: InjectionPoints) -> InjectionPoints:
        """These, before others."""
        return InjectionPoints(self.headers + others.headers, self.query + others.query, self.body + others.body)


class CredentialTraits(NamedTuple):
    """What is known about an integration's credential before any secret is read.

    `calls`: it must call somewhere first. `signs`: it makes its grants itself, each for a time, and calls nowhere.
    `learns`: its grants bring the base URL. `watched` are the statuses of
    upstream responses that may say something about the grant. `renewal_interval` is in seconds: how much time is
    between two renewals that such responses force. `single_live_token`: a new token ends the one before.
    `rotates`: a call may end what it presents, which then must never be presented again, and bring what the next one
    presents. `signing` are the rules of the signer that its grants have. `spelling`: targets are brought into one
    spelling before they are judged and sent. `reread` are the keys of inputs that others replace meanwhile, which are
    read again before each attempt to obtain a grant.
    """

    places: InjectionPoints
    calls: bool = False
    learns: bool = False
    watched: frozenset[int] = frozenset()
    renewal_interval: float = RENEWAL_INTERVAL
    single_live_token: bool = False
    rotates: bool = False
    signing: SigningRules | None = None
    signs: bool = False
    spelling: CanonicalForm | None = None
    reread: frozenset[Keys] = frozenset()

    @property
    def ends(self) -> bool:
        """Whether its grants end, and others take their places."""
        return self.calls or self.signs

    @property
    def one_at_a_time(self) -> bool:
        """Whether processes that call with the same credential end what the others have."""
        return self.rotates or self.single_live_token


class Destinations(NamedTuple):
    """Where a kind's credential may go by itself, beside what the integration names.

    `base` is the base of the reverse proxy where the integration names none; every target must be under `path`,
    whatever its origin. Targets at `placeholder_origin` move to the origin that the grant learns, which then is the
    only one allowed.
    """

    domains: tuple[Domain, ...] = ()
    forbidden: tuple[Forbidden, ...] = ()
    base: Prefix | None = None
    path: str = ""
    placeholder_origin: Origin | None = None


class SecretInput(NamedTuple):
    """A value that a part needs. `key` is its place in the part, `check` raises ValueError for an invalid value."""

    key: Keys
    reference: Reference
    check: Callable[[str], None] | None = None


Reasons = tuple[tuple[Keys, str], ...]
"""Why values could not be read: the place of each in the integration, and the reason."""

ReadReference = Callable[[Reference], str]
"""Reads a reference; raises ValueError, whose text says why and never what."""

Findings = Iterator[tuple[Keys, str]]
"""Places in the mapping of an integration, with a message for each."""


Provider = Annotated[
    str | None,
    SAFE_TO_CHANGE,
    Field(description="Name of the provider profile that fills in the other keys; its parameters are keys here."),
]
"""The key by which an integration names a profile. What the profile brings decides where a secret may go."""


class PartSettings(Section, ABC):
    """A part of an integration that brings something into its requests: `auth`, or what supplements it."""

    SECTION: ClassVar[str]
    """Its key in the integration."""

    filled_later: ClassVar[frozenset[str]] = frozenset()
    """What `{name}` may stand for in its texts that is known only when a token is made, or a request signed."""

    @abstractmethod
    def inputs(self) -> Iterator[SecretInput]:
        """Every value that is a reference."""

    def public_headers(self) -> Pairs:
        """The headers that it brings whose values stand in the document, and may be shown."""
        return ()

    def read(self, read: ReadReference, known: Mapping[Keys, str]) -> tuple[dict[Keys, str], Reasons]:
        """Read every input that is not known yet: what could be read, by keys, and why the others could not."""
        values = dict(known)
        reasons: list[tuple[Keys, str]] = []
        for key, reference, check in self.inputs():
            if key in values:
                continue
            try:
                value = read(reference)
                if check is not None:
                    check(value)
                values[key] = value
            except ValueError as error:
                reasons.append(((self.SECTION, *key), str(error)))
        return values, tuple(reasons)


class SupplementSettings(PartSettings):
    """A part beside `auth`, whatever the kind: what it makes of its values supplements each grant."""

    @classmethod
    def find_errors_in(cls, raw: Mapping[str, Any]) -> Findings:
        """Errors between the keys of the part, by the file's plain values; places are in the integration."""
        del raw
        yield from ()

    @classmethod
    def find_warnings_in(cls, raw: Mapping[str, Any]) -> Findings:
        """What loads but should be known, likewise."""
        del raw
        yield from ()

    def places(self) -> InjectionPoints:
        """Where the values go."""
        return InjectionPoints()

    def signing(self) -> SigningRules | None:
        """The rules of the signer that it brings, if it brings one."""
        return None

    def place_of(self, name: str) -> Keys:
        """The keys in the part that say that its signer writes the header of this normalised name."""
        del name
        return ()

    @abstractmethod
    def supplement(self, values: Mapping[Keys, str]) -> Grant:
        """What is made of the values of `inputs`, by key. It brings no base URL."""


class KindSettings(PartSettings):
    """The `auth:` block of a kind. `type` is declared by each kind as a Literal.

    All that is special to a kind is overridden in its own file: code that reads a config asks the registry and knows no
    kind by its name.
    """

    SECTION: ClassVar[str] = "auth"

    type: str

    title: ClassVar[str]
    """What people call the kind."""

    summary: ClassVar[str]
    """The credential of the kind, in a few words for people who choose one."""

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other words by which people search for the kind."""

    also_called: ClassVar[frozenset[str]] = frozenset()
    """Other words for the kind that people write as its `type`, in lower case."""

    needs_prefix: ClassVar[bool] = True
    """Whether the integration must write an `endpoint_prefix` itself."""

    starts_with: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Optional keys that a new document of the kind starts with in the console."""

    plain_secrets: ClassVar[frozenset[str]] = frozenset()
    """Keys of secrets that a provider profile may fill in, and a file may also write as plain text."""

    brings_certificate: ClassVar[bool] = False
    """Whether the block contains the client certificate, which then has no own block (`certificate_settings`)."""

    brings_added: ClassVar[bool] = False
    """Whether the block contains the keys of `add`, which then has no own block."""

    placeholder_profile: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """What is filled in for an unknown provider, so that the rest is still checked. `{name}` stands for a secret.

    Empty for a kind that takes no profiles; the others declare the key `provider` (`Provider`).
    """

    @classmethod
    def find_errors(cls, integration: Mapping[str, Any]) -> Findings:
        """Errors between the keys of an integration of this kind, by the file's plain values.

        A value that is invalid by itself is ignored here: the model reports it.
        """
        del integration
        yield from ()

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """What loads but should be known, likewise."""
        del integration
        yield from ()

    @classmethod
    def find_single_process(cls, integration: Mapping[str, Any]) -> Findings:
        """What only one process may use where processes share no store, likewise (`Traits.one_at_a_time`)."""
        del integration
        yield from ()

    @classmethod
    def hint(cls, key: str) -> str:
        """Where a key that this kind does not have belongs, where only the kind knows that; else empty."""
        del key
        return ""

    @classmethod
    def learns_base_url(cls, auth: Mapping[str, Any]) -> bool:
        """What `Traits.learns` will say, by the plain values of the block."""
        del auth
        return False

    def certificate_settings(self) -> CertificateSettings | None:
        """The client certificate that the block itself contains."""
        return None

    @abstractmethod
    def traits(self) -> CredentialTraits:
        """What is known before anything is read."""

    @abstractmethod
    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """The credential made of the values of `inputs`, by key."""

    def destinations(self, values: Mapping[Keys, str]) -> Destinations | None:
        """Where the credential may go by itself; `values` are those of the `inputs` that can be read.

        None where one is missing that decides it: the credential then goes nowhere.
        """
        del values
        return Destinations()
