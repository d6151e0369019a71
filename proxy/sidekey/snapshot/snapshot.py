"""The runtime snapshot: what the data plane and the listeners see of a config, frozen, secrets behind sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import chain
from types import MappingProxyType
from typing import Final, Literal

from sidekey.ca.authorities import CaRules
from sidekey.credentials.base import CredentialTraits, Pairs
from sidekey.credentials.fields import Keys
from sidekey.policy import addresses, headers
from sidekey.policy.addresses import AllowPrivate, Network, NetworkOverride
from sidekey.policy.callers import Caller
from sidekey.policy.decide import IntegrationRules
from sidekey.policy.match import Coverage, Matching, named, several
from sidekey.policy.parameters import JSON
from sidekey.policy.targets import Policy, Prefix
from sidekey.presets.preset import Preset as PresetRules
from sidekey.snapshot.admin import AdminRules
from sidekey.snapshot.certificate_loader import CertificateLoader
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.store import StoreRules
from sidekey.snapshot.trust import Trust as Trust  # noqa: PLC0414  exported


@dataclass(frozen=True, slots=True)
class TestRequest:
    """The request `sidekey test` sends: `path` is appended to the base, as after `/i/ID`."""

    method: str = "GET"
    path: str = ""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Integration:
    """One integration, ready to serve.

    `base` is the base of the reverse proxy as far as it is known before a grant; None where `rebuild` is set.
    """

    id: str
    kind: str
    policy: Policy
    base: Prefix | None
    secrets: SecretLoader
    traits: CredentialTraits
    trust: Trust = field(default_factory=Trust)
    certificate: CertificateLoader | None = None
    """The client certificate, where there is one."""
    allow_private: AllowPrivate = ()
    in_flight: int = 0
    """The limit of its own of requests in flight; 0: they count against their origin's."""
    source_address: addresses.Address | None = None
    """What its connections leave from, in place of the network's; None where it names none."""
    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    test: TestRequest | None = None
    pass_headers: frozenset[bytes] = frozenset()
    """Normalised names of the `TARGET_FIELDS` that callers may send nevertheless."""
    redact_response: bool = False
    """Whether secrets are replaced in bodies of responses too."""
    filled: tuple[tuple[str, str], ...] = ()
    """What a provider profile filled in: keys and values, as text."""
    stored: bool = False
    """Whether it is the store's: it is used in tunnels only to hosts under `ca.hosts`, and dials what the store may."""
    row: str = ""
    """The lasting ID of its row, where it is the store's."""
    destinations: tuple[str, ...] = ("",)
    """All that its secrets may be bound to, where it is the store's and a token is as well, each in one spelling.

    Its own is the first.
    """
    public_headers: Pairs = field(default=(), repr=False)
    """The headers that it brings whose values stand in the document, for operators: one may be a secret by mistake."""
    written: object = field(default=None, repr=False, compare=False)
    """The settings that it was built of, for comparisons with others. Never shown: a secret may be written there."""
    digests: tuple[tuple[Keys, bytes], ...] = field(default=(), repr=False, compare=False)
    """The place in the integration of each secret that was read, with a digest under a key of this process alone."""
    rebuild: Callable[[], Integration] | None = None
    """Set where an unreadable value decides where the credential may go: builds the integration again, blocking."""

    needs_mozilla: bool = field(init=False, compare=False)
    """Whether a connection for it may be to an https server that Mozilla's CAs verify."""

    def __post_init__(self) -> None:
        """Look once: each snapshot asks ten thousand."""
        policy = self.policy
        origins = (*(prefix.origin for prefix in policy.prefixes), *(domain.origin for domain in policy.domains))
        https = self.traits.calls or any(origin.scheme == "https" for origin in origins)
        object.__setattr__(self, "needs_mozilla", https and self.trust.source == "mozilla")

    @property
    def rules(self) -> IntegrationRules:
        """The rules for its targets, before a grant has learnt a base URL."""
        places = self.traits.places
        return IntegrationRules.of(
            self.id,
            self.policy,
            self.base,
            places.query + places.body,
            unresolved=self.rebuild is not None,
            stored=self.stored,
            spelling=self.traits.spelling,
            kept=self.kept,
        )

    @property
    def stripped(self) -> frozenset[bytes]:
        """The normalised names of what a caller may not send to an upstream."""
        names = frozenset(headers.normalise(name.encode("latin-1")) for name in self.traits.places.headers)
        names |= headers.TARGET_FIELDS - self.pass_headers
        if self.policy.methods is not None:
            names |= headers.METHOD_OVERRIDES
        if self.redact_response:
            names |= headers.ASKING_FOR_CODED
        signing = self.traits.signing
        return names if signing is None else names | (signing.names - signing.kept)

    @property
    def kept(self) -> frozenset[bytes]:
        """The normalised names of what a caller may send in place of what its signer writes."""
        signing = self.traits.signing
        return frozenset() if signing is None else signing.kept

    @property
    def usable(self) -> bool:
        """Whether everything that can be read without a call is there, and may be used."""
        certificate = self.certificate
        return self.secrets.credential is not None and (
            certificate is None or certificate.identity is not None or certificate.pending
        )


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset, as it belongs to the integrations of the same snapshot. `url` is as written.

    `document` is all that is written of it, as JSON: it holds no secret. `title` and `help` are for people who fill it
    in. `invalid` says why it cannot be used beside them; empty where it can. `stored`: it is the store's, in this
    `row` (by its lasting ID).
    """

    id: str
    rules: PresetRules
    url: str
    content_type: str
    title: str = ""
    help: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    invalid: str = ""
    document: str = field(default="{}", repr=False)
    stored: bool = False
    row: str = ""

    @property
    def accepts(self) -> str:
        """The Content-Type that callers send, or may send if the preset leaves it to them."""
        return JSON if self.rules.has_body or not self.content_type else self.content_type


NOBODY: Final = "-"
"""Replaces the ID of an integration where there is none, in metrics and logs; no ID can be this."""


@dataclass(frozen=True, slots=True)
class Passthrough:
    """How targets that no integration covers are forwarded without a credential.

    `unresolved` are the integrations whose coverage is not known yet. `nobody` replaces an integration for such
    targets: its policy allows none, its grant is empty, its trust the network's. `ports` are those to which tunnels
    may pass. While the process `awaits_store`, nothing passes.
    """

    coverage: Coverage
    unresolved: frozenset[str]
    nobody: Integration
    ports: frozenset[int]
    awaits_store: bool


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener listens: `host` and `port`, or the path of a unix socket with its file mode."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None
    mode: int = 0o600

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def reachable(self) -> Address:
        """The address by which this machine reaches the listener: its loopback where it listens on all addresses."""
        if self.path is not None or not ip_address(self.host).is_unspecified:
            return self
        return Address("::1" if ":" in self.host else "127.0.0.1", self.port)


@dataclass(frozen=True, slots=True)
class Listen:
    """The listeners. `names` are further host names by which the proxy listener is known."""

    proxy: Address = Address(port=8080)
    admin: Address = Address(port=9090)
    metrics: Address | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """How names are resolved and what may be dialled beyond global addresses.

    `hosts` maps names in lower case to addresses as text; `search` lets DNS search domains apply. Connections leave
    from `source_address`, or where it is None from what the system chooses.
    """

    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allow_private: tuple[Network, ...] = ()
    search: bool = False
    source_address: addresses.Address | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """`access` is off, errors or all; `path` allows paths and queries in access lines.

    Lines are written to `file`, or where it is None to standard error.
    """

    level: str = "info"
    access: Literal["off", "errors", "all"] = "errors"
    path: bool = False
    audit: Literal["off", "uses"] = "off"
    format: Literal["auto", "json", "text"] = "auto"
    file: str | None = None


def file_wins(kind: str) -> str:
    """Return the problem of a stored item whose ID, or name, a config file has."""
    return f"a config file has the same {kind}, and is used instead: remove it there to use this one"


@dataclass(frozen=True, slots=True)
class Stored:
    """The content of the store at one `revision`, as far as it is used.

    `problems` has an entry for each stored integration whose ID no file has, by ID: why it cannot be used, as found
    when it was built; empty: nothing was found. `integrations` are those that are served. Whether `presets` fit their
    integrations is not judged here. `unsettled` are the integrations without a problem whose status may change with
    time or with another reading (`runtime.standing`). `trust` is that of stored integrations that name none,
    `allow_private` what they may dial beyond global addresses.
    """

    revision: int = 0
    integrations: Mapping[str, Integration] = field(default_factory=dict)
    callers: Mapping[bytes, Caller] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    trust: Trust = field(default_factory=Trust)
    allow_private: NetworkOverride = field(default_factory=NetworkOverride)
    read: bool = True
    """Whether the store was read; until then nothing else is known of it."""
    unusable: int = field(init=False, compare=False)
    """How many integrations have a problem."""
    unsettled: Mapping[str, Integration] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Count here, in the thread of a load."""
        object.__setattr__(self, "unusable", sum(map(bool, self.problems.values())))
        unsettled = {
            name: each
            for name, each in self.integrations.items()
            if (each.certificate is not None or each.secrets.credential is None) and self._has_no_problem(name)
        }
        object.__setattr__(self, "unsettled", MappingProxyType(unsettled))

    def settled(self, name: str) -> Integration | None:
        """Return one without a problem, if only requests tell more of it."""
        found = self.integrations.get(name)
        return found if found is not None and name not in self.unsettled and self._has_no_problem(name) else None

    def _has_no_problem(self, name: str) -> bool:
        return self.problems.get(name) == ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole config at run time.

    `callers` is keyed by the SHA-256 digest of the token's UTF-8 bytes; None: callers are not checked.
    `several_origins` says whether requests go to two origins or more; those that no integration covers count as one.
    `needs_mozilla`: something of it is verified by Mozilla's CAs.
    """

    integrations: Mapping[str, Integration]
    callers: Mapping[bytes, Caller] | None = None
    presets: Mapping[str, Preset] = field(default_factory=dict)
    listen: Listen = Listen()
    network: NetworkRules = NetworkRules()
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    log: Log = Log()
    via: bool = True
    ca: CaRules = field(default_factory=CaRules)
    """Of the local CA that signs for hosts in tunnels."""
    store: StoreRules | None = None
    """Where managed integrations are stored; None: nowhere."""
    admin: AdminRules = field(default_factory=AdminRules)
    """Who may use the admin listener where there is a store."""
    stored: Stored | None = None
    """What the store says; None where there is none, or nothing was read yet."""
    passing: Passthrough | None = None
    """Set where `forward.unmatched` is pass."""
    matching: Matching | None = None
    """Set where `forward.match_by_host` is true."""
    trust: Trust = field(default_factory=Trust)
    """By which upstreams are verified whose integration names no CAs."""
    awaits_store: bool = False
    """Whether the process has not read its store yet: what no file covers is refused for now, and not for good."""
    written: object = field(default=None, repr=False, compare=False)
    """The global settings of the files, to compare configs. Never shown: a secret may be written there."""
    several_origins: bool = field(init=False, compare=False)
    needs_mozilla: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Look through all integrations here, where a reload has a thread for it."""
        origins = (
            origin
            for each in self.integrations.values()
            for origin in named(each.id, each.policy, unresolved=each.rebuild is not None)
        )
        passing = () if self.passing is None else (NOBODY,)
        object.__setattr__(self, "several_origins", several(chain(origins, passing)))
        passes = self.passing is not None and self.passing.nobody.trust.source == "mozilla"
        oidc = self.admin.oidc is not None and self.admin.oidc.trust.source == "mozilla"
        needed = passes or oidc or any(each.needs_mozilla for each in self.integrations.values())
        object.__setattr__(self, "needs_mozilla", needed)

    @property
    def has_api(self) -> bool:
        """Return True if the admin listener serves the API and the console."""
        return self.store is not None or self.admin.has_operators

    def preset_problem(self, name: str) -> str:
        """Return why the store's preset of this ID cannot be used; empty: it can."""
        served = self.presets.get(name)
        if served is None:
            return ""
        return served.invalid if served.stored else file_wins("preset ID")
