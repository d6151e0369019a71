"""The snapshot of a config that the process serves: frozen, with loaders in place of secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from itertools import chain
from typing import Final, Literal

from sidekey.ca.authorities import CaRules
from sidekey.credentials.base import CredentialTraits, Pairs
from sidekey.credentials.fields import Keys
from sidekey.policy import addresses, headers
from sidekey.policy.addresses import AllowPrivate, Network, NetworkOverride
from sidekey.policy.callers import Caller
from sidekey.policy.coverage import Coverage
from sidekey.policy.integration_rules import IntegrationRules
from sidekey.policy.match import Matching
from sidekey.policy.origins import has_several, target_origins
from sidekey.policy.parameters import JSON
from sidekey.policy.parent_proxy import is_localhost
from sidekey.policy.targets import Policy, Prefix
from sidekey.policy.urls import Authority
from sidekey.presets.preset import PresetRules
from sidekey.snapshot.admin import AdminRules, ListenTls
from sidekey.snapshot.certificate_loader import CertificateLoader
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.jwt_issuer import JwtIssuer
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.store import StoreRules
from sidekey.snapshot.trust import Trust as Trust  # noqa: PLC0414  exported


@dataclass(frozen=True, slots=True)
class TestRequest:
    """The request that `sidekey test` sends. `path` is appended to the base URL, as after `/i/ID`."""

    method: str = "GET"
    path: str = ""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Integration:
    """One integration, ready to serve.

    `base` is the configured base URL, to which the reverse proxy appends paths. A token response may change it. It is
    None if `rebuild` is set.
    """

    id: str
    kind: str
    policy: Policy
    base: Prefix | None
    secrets: SecretLoader
    traits: CredentialTraits
    egress: Egress = field(default_factory=Egress)
    certificate: CertificateLoader | None = None
    in_flight: int = 0
    """Limit of requests in flight for this integration. 0: only the limit of the origin applies."""
    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    test: TestRequest | None = None
    pass_headers: frozenset[bytes] = frozenset()
    """Normalised names of the `TARGET_FIELDS` that callers may send."""
    redact_response: bool = False
    """True if Sidekey also redacts secrets in response bodies."""
    websocket: bool = False
    """True if callers may upgrade connections to WebSocket."""
    profile_entries: tuple[tuple[str, str], ...] = ()
    """Keys that a provider profile added, each with its text, without secrets."""
    stored: bool = False
    """True for an integration of the store. Tunnels use it only for hosts under `ca.hosts`."""
    row: str = ""
    """The permanent ID of the row of a stored integration."""
    destinations: tuple[str, ...] = ("",)
    """Destinations of a stored integration whose grants expire, as canonical JSON. `("",)` for any other.

    A new token is bound to the first. A saved token is used if it is bound to any of them.
    """
    public_headers: Pairs = field(default=(), repr=False)
    """Injected headers with public text. Only operators see them, because one may be a secret by mistake."""
    settings: object = field(default=None, repr=False, compare=False)
    """The settings in the document, for comparisons. Never shown, because they may contain a secret."""
    digests: tuple[tuple[Keys, bytes], ...] = field(default=(), repr=False, compare=False)
    """The location of each secret that was read, with a digest under a key that only this process has."""
    rebuild: Callable[[], Integration] | None = None
    """Builds the integration again. Blocks. Set if an unreadable value decides where the credential may go."""

    needs_mozilla: bool = field(init=False, compare=False)
    """True if Mozilla's CAs may verify a server for it."""
    wildcard_egress: Egress = field(init=False, repr=False, compare=False)
    """`egress` for the hosts under a wildcard domain, which callers choose."""

    def __post_init__(self) -> None:
        """Compute the derived attributes once, because each new snapshot reads them for every integration or pool."""
        policy = self.policy
        origins = (*(prefix.origin for prefix in policy.prefixes), *(domain.origin for domain in policy.domains))
        https = self.traits.calls or any(origin.scheme == "https" for origin in origins)
        needed = (https and self.egress.trust.source == "mozilla") or _needs_mozilla(self.egress.proxy)
        object.__setattr__(self, "needs_mozilla", needed)
        object.__setattr__(self, "wildcard_egress", replace(self.egress, resolve_locally=True))

    @property
    def rules(self) -> IntegrationRules:
        """The rules for its targets, before a token response sets another base URL."""
        points = self.traits.injection_points
        return IntegrationRules.of(
            self.id,
            self.policy,
            self.base,
            points.query + points.body,
            unresolved=self.rebuild is not None,
            stored=self.stored,
            canonical=self.traits.canonical_form,
            caller_fields=self.caller_fields,
            websocket=self.websocket,
        )

    @property
    def removed_headers(self) -> frozenset[bytes]:
        """Normalised names of the headers that Sidekey removes from callers' requests."""
        names = frozenset(headers.normalise(name.encode("latin-1")) for name in self.traits.injection_points.headers)
        names |= headers.TARGET_FIELDS - self.pass_headers
        if self.policy.methods is not None:
            names |= headers.METHOD_OVERRIDES
        if self.redact_response:
            names |= headers.CODED_BODY_FIELDS
        signing = self.traits.signing
        return names if signing is None else names | (signing.names - signing.caller_fields)

    @property
    def caller_fields(self) -> frozenset[bytes]:
        """Normalised names of the headers that the signer leaves to the caller, and writes if the caller sends none."""
        signing = self.traits.signing
        return frozenset() if signing is None else signing.caller_fields

    def egress_for(self, host: str) -> Egress:
        """Return the rules of connections to a host."""
        policy = self.policy
        if any(prefix.origin.host == host for prefix in policy.prefixes) or any(
            domain.origin.host == host and not domain.wildcard for domain in policy.domains
        ):
            return self.egress
        return self.wildcard_egress

    @property
    def usable(self) -> bool:
        """Return True if secrets and client certificate are loaded and usable, or only a fetch is missing."""
        certificate = self.certificate
        return self.secrets.credential is not None and (
            certificate is None or certificate.identity is not None or certificate.pending
        )


def _needs_mozilla(proxy: ParentProxy | Literal["none"] | None) -> bool:
    return isinstance(proxy, ParentProxy) and proxy.origin.scheme == "https" and proxy.trust.source == "mozilla"


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset, checked against the integrations of the same snapshot.

    `url` is the template from the config. `document` is the whole preset as JSON, which has no secret. `title` and
    `help` are for people who fill in the form. `invalid` says why the preset cannot be used, or is empty. A `stored`
    preset has the permanent ID of its `row`.
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
        """The Content-Type to send to the preset: JSON parameters, or else the type of the body that it forwards."""
        return JSON if self.rules.has_body or not self.content_type else self.content_type


NO_INTEGRATION: Final = "-"
"""The ID in metrics and logs for requests without an integration. No integration can have it."""


@dataclass(frozen=True, slots=True)
class Passthrough:
    """Settings for requests that pass without a credential, because no integration covers their target.

    `unresolved` are the integrations whose coverage is not known yet. `integration` takes the place of one for a
    request that passes: its policy allows no target, and it adds no credential. Tunnels may pass to `ports`. While the
    process `awaits_store`, nothing passes.
    """

    coverage: Coverage
    unresolved: frozenset[str]
    integration: Integration
    ports: frozenset[int]
    awaits_store: bool


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a listener: `host` and `port`, or the path of a unix socket with its file mode."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None
    mode: int = 0o600

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def reachable(self) -> Address:
        """Return the address to connect to from this machine: loopback if the listener has all addresses."""
        if self.path is not None or not ip_address(self.host).is_unspecified:
            return self
        return Address("::1" if ":" in self.host else "127.0.0.1", self.port)


@dataclass(frozen=True, slots=True)
class Listen:
    """Addresses of the listeners. `names` are additional host names of the proxy listener.

    `tls` is the TLS of the proxy listener, or None for plain HTTP.
    """

    proxy: Address = Address(port=8080)
    admin: Address = Address(port=9090)
    metrics: Address | None = None
    names: tuple[str, ...] = ()
    tls: ListenTls | None = None


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """Rules for name resolution, and the networks to which Sidekey may connect besides global addresses.

    `hosts` maps names in lower case to addresses. `search` enables DNS search domains. `source_address` is the local
    address of connections; None leaves the choice to the system. Connections go through `proxy` if it is set.
    """

    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allow_private: tuple[Network, ...] = ()
    search: bool = False
    source_address: addresses.Address | None = None
    proxy: ParentProxy | None = None
    proxies: frozenset[Authority] = frozenset()
    """Hosts and ports of `proxy` and the integrations' own parent proxies. They are no targets."""

    def allowed_networks(self, allow_private: AllowPrivate) -> tuple[Network, ...]:
        """Return the networks to which an integration with these own ones may connect besides global addresses."""
        if isinstance(allow_private, NetworkOverride):
            return allow_private.networks
        return (*self.allow_private, *allow_private)

    def parent_for(self, egress: Egress) -> ParentProxy | None:
        """Return the parent proxy, or None for direct connections. `no_proxy` may still cover a target."""
        if egress.proxy is None:
            return self.proxy
        return None if egress.proxy == "none" else egress.proxy

    def leaves_name(self, host: str, egress: Egress) -> bool:
        """Return True if a parent proxy resolves this host.

        Sidekey itself resolves literals, `localhost` and the names in `hosts`.
        """
        parent = self.parent_for(egress)
        return (
            parent is not None
            and parent.resolves
            and not egress.resolve_locally
            and not parent.no_proxy.covers_host(host)
            and host not in self.hosts
            and addresses.parse_address(host) is None
            and not is_localhost(host)
        )


@dataclass(frozen=True, slots=True)
class Log:
    """Log settings. `path` allows paths and queries in access lines. `file` None means standard error."""

    level: str = "info"
    access: Literal["off", "errors", "all"] = "errors"
    path: bool = False
    audit: Literal["off", "uses"] = "off"
    format: Literal["auto", "json", "text"] = "auto"
    file: str | None = None


def shadowed_by_file(kind: str) -> str:
    """Return why a stored object is not used: a config file has its ID or name."""
    return f"a config file has the same {kind}, and is used instead: remove it there to use this one"


@dataclass(frozen=True, slots=True)
class StoredObjects:
    """The objects in the store at one `revision`, as this process uses them.

    `integrations` are the served ones. `problems` says why a stored integration could not be built, or "". It has no
    key for integrations whose ID a file has. `presets` are not checked against their integrations here. `trust` applies
    to stored integrations that name no CAs. They may connect to `allow_private` besides global addresses.
    """

    revision: int = 0
    integrations: Mapping[str, Integration] = field(default_factory=dict)
    callers: Mapping[bytes, Caller] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    trust: Trust = field(default_factory=Trust)
    allow_private: NetworkOverride = field(default_factory=NetworkOverride)
    is_read: bool = True
    """False until the store was read. The other attributes are empty until then."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole config at run time.

    `callers` is keyed by the SHA-256 digest of the token's UTF-8 bytes, and by the keys of `policy.callers`. None means
    that callers are not authenticated. `unreadable_callers` has the reason for each caller of a file whose token cannot
    be read, by name. `jwt_issuers` are by name.
    `has_several_origins` is True if requests go to at least two origins, so that each gets only a share of
    `limits.in_flight`. All targets without an integration count as one origin. `needs_mozilla` is True if Mozilla's CAs
    verify any server.
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
    """Rules of the local CA that issues certificates for hosts in tunnels."""
    store: StoreRules | None = None
    """The store's settings, or None without a store."""
    admin: AdminRules = field(default_factory=AdminRules)
    stored: StoredObjects | None = None
    """The content of the store. None without a store, or before the first read."""
    passthrough: Passthrough | None = None
    """Set if `forward.unmatched` is `pass`."""
    matching: Matching | None = None
    """Set if `forward.match_by_host` is true."""
    trust: Trust = field(default_factory=Trust)
    """CAs for upstreams of integrations that name none."""
    awaits_store: bool = False
    """True until the process has read its store. Until then, requests that no file covers get a temporary error."""
    jwt_issuers: Mapping[str, JwtIssuer] = field(default_factory=dict)
    unreadable_callers: Mapping[str, str] = field(default_factory=dict)
    settings: object = field(default=None, repr=False, compare=False)
    """The global settings of the files, for comparisons. Never shown, because they may contain a secret."""
    has_several_origins: bool = field(init=False, compare=False)
    needs_mozilla: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Compute the derived attributes here, in the loading thread."""
        origins = (
            origin
            for integration in self.integrations.values()
            for origin in target_origins(integration.id, integration.policy, unresolved=integration.rebuild is not None)
        )
        passing = () if self.passthrough is None else (NO_INTEGRATION,)
        object.__setattr__(self, "has_several_origins", has_several(chain(origins, passing)))
        passthrough = self.passthrough is not None and self.passthrough.integration.egress.trust.source == "mozilla"
        oidc = self.admin.oidc is not None and self.admin.oidc.egress.trust.source == "mozilla"
        jwts = any(
            issuer.egress.trust.source == "mozilla" for issuer in self.jwt_issuers.values() if issuer.keys is None
        )
        needed = (
            passthrough
            or oidc
            or jwts
            or _needs_mozilla(self.network.proxy)
            or any(integration.needs_mozilla for integration in self.integrations.values())
        )
        object.__setattr__(self, "needs_mozilla", needed)

    @property
    def has_api(self) -> bool:
        """Return True if the admin listener serves the API and the console."""
        return self.store is not None or self.admin.has_operators

    def preset_problem(self, name: str) -> str:
        """Return why the stored preset of this ID cannot be used, or ""."""
        served = self.presets.get(name)
        if served is None:
            return ""
        return served.invalid if served.stored else shadowed_by_file("preset ID")
