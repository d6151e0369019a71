"""Base classes of credential kinds: the settings model, the credential with its secrets, and the grant for a request.

A kind does no I/O and reads no clock. A `FixedCredential` has its grant once its secrets are read. A
`CallingCredential` obtains grants that expire: its generator yields a `Call` for each HTTP request, receives the
`Reply`, and returns `Issued`, like httpx's auth flow. A kind that signs its tokens itself yields no call.
`sidekey.tokens` runs the generator.
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
"""Names and values of body fields. Numbers and booleans become those of JSON."""

Outcome = Literal["ok", "refused", "rate_limited", "timeout", "unreachable", "invalid", "unreadable"]
"""The outcome of a call for a token, and the label of the metric. `unreadable`: no call, because of a token file."""


@dataclass(frozen=True, slots=True, repr=False)
class Grant(SecretHolder):
    """The headers, query parameters and body fields that Sidekey adds to one request, with its signer.

    It is not an OAuth 2.0 grant: `oauth2/grant_types.py` has those. Header values are Latin-1 text, one character a
    byte. `query` and `body` are not encoded yet. `base_url` comes from a token response. `secrets` are the values that
    must not be shown, as they are sent, without a public prefix such as `Bearer`. `signer` signs the request after all
    values are in it. `original` is the grant that `supplemented` extended. Equal originals carry the same token.
    """

    headers: Pairs = ()
    query: Pairs = ()
    body: Fields = ()
    base_url: str | None = None
    secrets: tuple[bytes, ...] = ()
    signer: Signer | None = None
    original: Grant | None = None

    def __repr__(self) -> str:
        return f"Grant(headers={[name for name, _ in self.headers]}, REDACTED)"

    def secret_pairs(self) -> Pairs:
        """Return the query parameters and body fields with a value that ends with a secret."""
        secrets = tuple(secret.decode() for secret in self.secrets)
        pairs = self.query + self.body
        return tuple((name, value) for name, value in pairs if isinstance(value, str) and value.endswith(secrets))

    def supplemented(self, supplement: Grant) -> Grant:
        """Return this grant with the supplement's values before its own, and the supplement's signer after its own."""
        first, second = self.signer, supplement.signer
        return Grant(
            headers=supplement.headers + self.headers,
            query=supplement.query + self.query,
            body=supplement.body + self.body,
            base_url=self.base_url,
            secrets=supplement.secrets + self.secrets,
            signer=first or second if first is None or second is None else ChainedSigner(first, second),
            original=self,
        )


@dataclass(frozen=True, slots=True, repr=False)
class Call(SecretHolder):
    """An HTTP request that a credential makes to obtain a grant. `step` names it in messages, as in "token endpoint".

    A credential that continues after a failed call reports the outcome of that call as `previous_outcome`.
    """

    step: str
    method: str
    url: str
    headers: Pairs = ()
    body: bytes = b""
    previous_outcome: Outcome = "ok"

    def __repr__(self) -> str:
        return f"Call({self.step}, {self.method}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Reply(SecretHolder):
    """The response to a `Call`. Header names are in lower case, and the body's content coding is removed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status}, REDACTED)"


class CallError(SecretHolder, Exception):
    """A call that brought no grant. Callers see `reason`: it names the step, and contains no secret or response text.

    `retry_after` is the response's, in seconds. `needs_config_change`: retries cannot succeed. `memory` replaces
    `Attempt.memory` for the next attempt; None keeps it. `expired`: the response contained an expired token, and the
    endpoint may return the next one at any moment. `unspent`: the next attempt may present the current refresh token,
    or `memory`, because nothing was sent, the endpoint refused it, or `memory` replaced it. It matters if the kind
    `rotates`.
    """

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        *,
        retry_after: float | None = None,
        needs_config_change: bool = False,
        memory: str | None = None,
        expired: bool = False,
        unspent: bool = False,
    ) -> None:
        super().__init__(outcome, reason)
        self.outcome: Outcome = outcome
        self.reason = reason
        self.retry_after = retry_after
        self.needs_config_change = needs_config_change
        self.memory = memory
        self.expired = expired
        self.unspent = unspent


@dataclass(frozen=True, slots=True, repr=False)
class Attempt(SecretHolder):
    """The input for obtaining a grant.

    `now` is the wall clock for signed claims, in seconds since the epoch. `memory` is a text that the kind hands from
    one attempt to the next, such as a refresh token: that of the last `Issued` or `CallError`, None at first.
    `rejected`: the upstream rejected the last grant.
    """

    now: float
    memory: str | None = None
    rejected: bool = False

    def __repr__(self) -> str:
        return f"Attempt({self.now:g}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Issued(SecretHolder):
    """A new grant.

    `lifetime` and `renewed_after` are in seconds from the last call. Sidekey renews a grant in use after
    `renewed_after`; None: shortly before it expires. The next attempt may use `memory`.
    """

    grant: Grant
    lifetime: float
    memory: str | None = None
    renewed_after: float | None = None

    def __repr__(self) -> str:
        return f"Issued({self.grant!r}, {self.lifetime:g} s)"


class Verdict(Enum):
    """The meaning of an upstream response for the grant of its request."""

    GOOD = "good"
    """The grant is not rejected: pass the response to the caller."""
    REJECTED = "rejected"
    """The grant was rejected and the request not processed: try a newer grant."""
    SPENT = "spent"
    """The grant is no longer valid, but the request may have been processed: it must not be sent again."""


@dataclass(frozen=True, slots=True, repr=False)
class FixedCredential(SecretHolder):
    """A credential that needs no call: its grant is known once the secrets are read."""

    grant: Grant

    def __repr__(self) -> str:
        return f"FixedCredential({self.grant!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Lineage(SecretHolder):
    """Identity of a token. A token source compares it to decide which state survives a config change.

    `client` identifies the account at an endpoint, `token` the properties of the token, such as its scope, and `proof`
    the secrets that authenticate the account, such as its password. All may hold secrets.

    | equal | the source keeps |
    |---|---|
    | `client` | `Issued.memory` |
    | `client`, `token` | also the token, and replaces it at once |
    | `client`, `token`, `proof` | also the token's schedule, the last error and the pause after it |
    """

    client: tuple[Hashable, ...]
    token: tuple[Hashable, ...]
    proof: tuple[Hashable, ...]

    def __repr__(self) -> str:
        return "Lineage(REDACTED)"


class CallingCredential(Protocol):
    """A credential with grants that expire: it obtains them by calls, or signs them itself."""

    @property
    def calls_a_minute(self) -> int | None:
        """The maximum number of calls in a minute; None: no limit."""
        ...

    @property
    def lineage(self) -> Lineage:
        """The identity of the tokens that it obtains. CAs and client certificate of the calls are not part of it."""
        ...

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """Yield the calls, if any, and return the new grant. Raises CallError.

        If a call fails, its CallError is raised at the yield. The credential may catch it and yield another call.
        """
        ...

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """Interpret an upstream response with a watched status. `body` is None if it is too long or incomplete."""
        ...


Credential = FixedCredential | CallingCredential


@dataclass(frozen=True, slots=True, repr=False)
class Supplemented(SecretHolder):
    """A calling credential, and the supplement for each of its grants.

    Only the token itself is kept and shared between processes, so it survives a change of the supplement.
    """

    credential: CallingCredential
    supplement: Grant

    def __repr__(self) -> str:
        return f"Supplemented({self.credential!r}, {self.supplement!r})"


class GrantSource(Protocol):
    """Provides the data plane with grants. A warm request only reads the attribute `grant`."""

    grant: Grant | None

    async def obtain(self) -> Grant:
        """Obtain a grant if `grant` is None. Raises ProblemError (credential_unavailable)."""
        ...

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        """Record an upstream response with a watched status to a request with `grant`.

        `body` is None if it was not read completely. Return True if the response rejects the grant and
        `refreshed_after` can return a newer one.
        """
        ...

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        """Wait for a refresh under way. Return the grant that replaced `grant`, or None."""
        ...


class InjectionPoints(NamedTuple):
    """The names of the headers, query parameters and body fields that a grant sets."""

    headers: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()

    def joined_with(self, other: InjectionPoints) -> InjectionPoints:
        """Return these names, then those of `other`."""
        return InjectionPoints(self.headers + other.headers, self.query + other.query, self.body + other.body)


class CredentialTraits(NamedTuple):
    """Properties of a credential that the config alone determines.

    `calls`: it obtains grants by HTTP calls. `signs_tokens`: it signs tokens that expire, without a call.
    `discovers_base_url`: its grants contain the base URL. `watched`: statuses of upstream responses to pass to
    `verdict`. `renewal_interval`: seconds between two renewals that upstream responses cause. `single_live_token`: a
    new token revokes the previous one. `rotates`: a call may use up its refresh token, which must then never be sent
    again, and return the next one. `signing`: the rules of its signer. `canonical_form`: Sidekey rewrites
    targets into it before it checks and sends them.
    """

    injection_points: InjectionPoints
    calls: bool = False
    discovers_base_url: bool = False
    watched: frozenset[int] = frozenset()
    renewal_interval: float = RENEWAL_INTERVAL
    single_live_token: bool = False
    rotates: bool = False
    signing: SigningRules | None = None
    signs_tokens: bool = False
    canonical_form: CanonicalForm | None = None

    @property
    def grants_expire(self) -> bool:
        """Return True if its grants expire."""
        return self.calls or self.signs_tokens

    @property
    def needs_lease(self) -> bool:
        """Return True if processes must obtain tokens one at a time: a new token revokes another process's."""
        return self.rotates or self.single_live_token


class Destinations(NamedTuple):
    """The destinations that a kind adds to those of the integration.

    `base` is the reverse proxy's base URL if the integration sets none. Every target, on any origin, must be under
    `path`. Targets at `placeholder_origin` move to the origin in the grant's base URL, which is then the only allowed
    one.
    """

    domains: tuple[Domain, ...] = ()
    forbidden: tuple[Forbidden, ...] = ()
    base: Prefix | None = None
    path: str = ""
    placeholder_origin: Origin | None = None


class SecretInput(NamedTuple):
    """A value that a part reads. `key` is its location in the part; `check` raises ValueError for an invalid value."""

    key: Keys
    reference: Reference
    check: Callable[[str], None] | None = None


Reasons = tuple[tuple[Keys, str], ...]
"""The location in the integration, and the reason, of each value that could not be read."""

ReadReference = Callable[[Reference], str]
"""Reads the value of a reference. Raises ValueError with the reason, never with the value."""

Findings = Iterator[tuple[Keys, str]]
"""Locations in the mapping of an integration, each with a message."""


Provider = Annotated[
    str | None,
    SAFE_TO_CHANGE,
    Field(description="Name of the provider profile that fills in the other keys; its parameters are keys here."),
]
"""The key `provider`. It may change safely, because the profile's own keys decide where a secret may go."""


class PartSettings(Section, ABC):
    """A part of an integration that changes its requests: `auth`, or a supplement such as `add` or `signature`."""

    SECTION: ClassVar[str]
    """The part's key in the integration."""

    filled_later: ClassVar[frozenset[str]] = frozenset()
    """Names of `{name}` placeholders in its texts that are filled in when a token is issued or a request is signed."""

    @abstractmethod
    def inputs(self) -> Iterator[SecretInput]:
        """Yield every value that is a reference."""

    def public_headers(self) -> Pairs:
        """Return the headers with a value that the config contains as public text."""
        return ()

    def read(self, read: ReadReference, known: Mapping[Keys, str]) -> tuple[dict[Keys, str], Reasons]:
        """Read every input that is not `known`. Return the values by key, and the reasons for the missing ones."""
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
    """A part besides `auth` that supplements the grants of every kind."""

    @classmethod
    def find_errors_in(cls, raw: Mapping[str, Any]) -> Findings:
        """Yield errors between keys, from the document's plain values. Locations are in the integration."""
        del raw
        yield from ()

    @classmethod
    def find_warnings_in(cls, raw: Mapping[str, Any]) -> Findings:
        """Yield warnings, from the document's plain values."""
        del raw
        yield from ()

    def injection_points(self) -> InjectionPoints:
        """Return the names under which the part's values go into a request."""
        return InjectionPoints()

    def signing(self) -> SigningRules | None:
        """Return the rules of the part's signer, if it has one."""
        return None

    def location_of_header(self, name: str) -> Keys:
        """Return the key of the part that causes its signer to set the header `name`, which is normalised."""
        del name
        return ()

    @abstractmethod
    def supplement(self, values: Mapping[Keys, str]) -> Grant:
        """Build the supplement from the values of `inputs`. It has no base URL."""


class KindSettings(PartSettings):
    """The `auth:` block of a kind. Each kind declares `type` as a Literal.

    A kind overrides everything special in its own file. Other code finds kinds in the registry and never by name.
    """

    SECTION: ClassVar[str] = "auth"

    type: str

    title: ClassVar[str]
    """The kind's name in the console."""

    summary: ClassVar[str]
    """The credential in a few words, for operators who choose a kind."""

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names of the kind, which the console's search finds."""

    mistaken_types: ClassVar[frozenset[str]] = frozenset()
    """Words that operators write as `type` by mistake when they mean this kind, in lower case."""

    needs_prefix: ClassVar[bool] = True
    """True if the integration must set `endpoint_prefix` itself."""

    template_keys: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Optional keys, with values, in the console's template for a new integration."""

    plain_secrets: ClassVar[frozenset[str]] = frozenset()
    """Keys of secrets that a provider profile or a file may write as plain text."""

    brings_certificate: ClassVar[bool] = False
    """True if the block contains the client certificate, so `client_certificate` is not allowed."""

    brings_added: ClassVar[bool] = False
    """True if the block contains the keys of `add`, so `add` is not allowed."""

    placeholder_profile: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """The `auth` of the profile that replaces an unknown provider, so that the other keys are still checked.

    Each `{name}` in it is the parameter for a secret. It is empty for a kind without profiles. Every other kind
    declares the key `provider` (`Provider`).
    """

    @classmethod
    def find_errors(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield errors between the keys of an integration, from the document's plain values.

        Ignore a value that is invalid by itself: the model reports it.
        """
        del integration
        yield from ()

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield warnings, from the document's plain values."""
        del integration
        yield from ()

    @classmethod
    def find_single_process(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield the values that only one process may use without a store (`CredentialTraits.needs_lease`)."""
        del integration
        yield from ()

    @classmethod
    def hint(cls, key: str) -> str:
        """Return a hint for an unknown key if the kind knows where it belongs, else an empty string."""
        del key
        return ""

    @classmethod
    def discovers_base_url(cls, auth: Mapping[str, Any]) -> bool:
        """Return `CredentialTraits.discovers_base_url` from the block's plain values."""
        del auth
        return False

    def certificate_settings(self) -> CertificateSettings | None:
        """Return the client certificate in the block itself, if any."""
        return None

    @abstractmethod
    def traits(self) -> CredentialTraits:
        """Return the properties that the config alone determines."""

    @abstractmethod
    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """Build the credential from the values of `inputs`."""

    def destinations(self, values: Mapping[Keys, str]) -> Destinations | None:
        """Return the destinations that the credential adds. `values` are the readable `inputs`.

        None if a value that decides them is missing: the credential may then go nowhere.
        """
        del values
        return Destinations()
