"""Models of the config file, version 1. docs/config.md and the JSON Schema contain their descriptions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sidekey.ca.roots import certificates
from sidekey.config import field_types
from sidekey.credentials.base import KindSettings
from sidekey.credentials.basic import check_user_name
from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.context import FileOnly
from sidekey.credentials.destination import SAFE_TO_CHANGE, ComparedAs
from sidekey.credentials.fields import (
    MAX_ENTRIES,
    MAX_NAMES,
    ExternalSecret,
    GlobalPemSecret,
    GlobalSecret,
    HeaderName,
    MaxEntries,
    PemText,
    Reference,
    Section,
    Text,
    literal_check,
)
from sidekey.credentials.injection import AddedSettings
from sidekey.credentials.jws_algorithms import check_library
from sidekey.credentials.registry import KINDS, AuthSettings
from sidekey.credentials.signatures.settings import SignatureSectionSettings
from sidekey.credentials.units import Duration, Retention, Size
from sidekey.policy.targets import Domain, Prefix
from sidekey.policy.urls import InvalidTarget, Origin, Target, parse_target
from sidekey.snapshot import snapshot
from sidekey.snapshot.admin import PER_DAY, PER_MINUTE, Role
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.store import DEFAULT_SENDS_RETENTION

_LISTEN = snapshot.Listen()
_TIMEOUTS = Timeouts()
_LIMITS = Limits()
_LOG = snapshot.Log()


def _check_positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be greater than 0s")
    return seconds


def _check_history(seconds: float) -> float:
    if not 86_400 <= seconds <= 90 * 86_400:
        raise ValueError("must be 1d to 90d")
    return seconds


def _check_positive_size(size: int) -> int:
    if size <= 0:
        raise ValueError("must be at least 1B")
    return size


def _with_kind_names(description: str, includes: Callable[[type[KindSettings]], bool]) -> str:
    """Replace KINDS in a description with the names of the kinds that `includes` selects."""
    *rest, last = (f"`{name}`" for name, kind in KINDS.items() if includes(kind))
    return description.replace("KINDS", f"{', '.join(rest)} and {last}" if rest else last)


PositiveDuration = Annotated[Duration, AfterValidator(_check_positive)]
PositiveSize = Annotated[Size, AfterValidator(_check_positive_size)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


def _sorted_texts(entries: list[Prefix] | list[Domain]) -> list[str]:
    """Return prefixes or domains in a form that ignores their order."""
    return sorted({str(entry) for entry in entries})


def _ca_digests(trust: snapshot.Trust | None) -> str | list[str] | None:
    """Return the SHA-256 of each CA, so that their order and comments in the PEM text do not count as a change."""
    if trust is None:
        return None
    if trust.pem is None:
        return trust.source  # `mozilla` or `system`
    return sorted({hashlib.sha256(der).hexdigest() for der in certificates(trust.pem.encode())})


def _target_of(url: str) -> Target | None:
    try:
        return parse_target(url)
    except InvalidTarget:
        return None


def _check_printable(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("must not be empty or contain control characters")
    return text


def _check_issuer(url: str) -> str:
    target = _target_of(url)
    if target is None or target.origin.scheme != "https" or target.query is not None:
        raise ValueError("must be an https URL without a query, as the issuer's discovery document has it")
    return url


def _check_https(url: str) -> str:
    target = _target_of(url)
    if target is None or target.origin.scheme != "https":
        raise ValueError("must be an https URL")
    return url


def _check_subject(text: str) -> str:
    if not text.isprintable() or not 1 <= len(text) <= 255:
        raise ValueError("must have 1 to 255 printable characters")
    return text


class ServerTlsSettings(Section):
    """The certificate of a listener, which then speaks https only. Sidekey reloads changed files."""

    certificate: PemText = Field(description="The certificate in PEM, with its chain after it.")
    private_key: GlobalPemSecret = Field(description="Its private key in PEM, not encrypted.")


class ListenTlsSettings(ServerTlsSettings):
    """TLS 1.2 and 1.3 on the proxy listener, which then speaks https only. Sidekey reloads changed files."""

    client_ca: PemText | None = Field(
        default=None,
        description="The CAs in PEM that verify callers' certificates; default: Sidekey requests no certificate.",
    )
    client_auth: Literal["require", "optional"] | None = Field(
        default=None,
        description="Needs `client_ca`. `require`, the default with it: no connection without a certificate of these "
        "CAs. `optional`: callers without a certificate need a token or a JWT.",
    )


class ListenSettings(Section):
    """The listeners."""

    proxy: field_types.ListenAddress = Field(
        default=_LISTEN.proxy,
        description="Where callers connect: `ADDRESS:PORT` or `unix:PATH`. An address that is neither loopback nor a "
        "unix socket needs `callers`, or `allow_unauthenticated`.",
    )
    admin: field_types.ListenAddress = Field(
        default=_LISTEN.admin,
        description="Where operators connect. An address that is neither loopback nor a unix socket needs "
        "`store`, which requires operators' tokens, or `allow_unauthenticated`.",
    )
    metrics: field_types.ListenAddress | None = Field(
        default=None,
        description="A further listener with only `/metrics`, `/healthz`, `/startupz` and `/readyz`. It accepts any "
        "`Host` and needs no token.",
    )
    tls: ListenTlsSettings | None = Field(
        default=None,
        description="The TLS of the proxy listener; default: plain HTTP. Adding or removing it needs a restart; "
        "changes below it are reloaded.",
    )
    names: list[field_types.HostName] = Field(
        default=[], description="Further host names of the proxy listener, such as a Service's."
    )
    mode: field_types.Mode = Field(
        default=_LISTEN.proxy.mode, description="File mode of unix sockets, four octal digits."
    )


def _check_san(text: str) -> str:
    kind, _, name = text.partition(":")
    if kind == "dns" and "*" not in name:
        return f"dns:{field_types.check_host_name(name).lower()}"
    if not _SPIFFE_ID.fullmatch(text):
        raise ValueError("must be `spiffe://TRUST_DOMAIN/PATH` or `dns:NAME`, without a wildcard")
    return text


_SPIFFE_ID: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)+")
"""SPIFFE-ID 2: a trust domain in lower case, and path segments that are neither empty nor dots."""


class CallerCertificateSettings(Section):
    """The client certificate that identifies a caller. Needs `listen.tls.client_ca`."""

    san: Annotated[str, AfterValidator(_check_san)] = Field(
        description="A subject alternative name of the certificate, compared as a whole: `spiffe://TRUST_DOMAIN/PATH` "
        "or `dns:NAME`. The common name does not count."
    )


class CallerJwtSettings(Section):
    """The JWT that identifies a caller. The caller sends it in place of a token."""

    issuer: field_types.Name = Field(description="The name of its issuer in `jwt_issuers`.")
    subject: Annotated[str, AfterValidator(_check_subject)] = Field(
        description="Its `sub`, compared as a whole, such as `system:serviceaccount:NAMESPACE:NAME`."
    )


class CallerSettings(Section):
    """A caller: what identifies it, and the integrations and presets that it may use.

    It needs at least one of `token`, `certificate` and `jwt`, and any of them identifies it.
    """

    token: GlobalSecret | None = Field(
        default=None,
        description="The caller's token: the password of the proxy user, or `Sidekey-Token`. Compared as UTF-8. "
        "It needs at least 16 characters if other machines can reach `listen.proxy`. Make it with "
        "`openssl rand -hex 32`: characters other than letters, digits and `-._~` must be percent-encoded in a proxy "
        "URL.",
    )
    certificate: CallerCertificateSettings | None = Field(
        default=None, description="The client certificate of the caller's connection."
    )
    jwt: CallerJwtSettings | None = Field(
        default=None, description="A JSON Web Token, which the caller sends as it would send `token`."
    )
    integrations: field_types.CallerGrants = Field(
        default=(), description='IDs of the integrations that the caller may use, or `"*"` for all; default: none.'
    )
    presets: field_types.CallerGrants = Field(
        default=(),
        description='IDs of the presets that the caller may use, or `"*"` for all; default: none. They need not be '
        "in `integrations` too.",
    )


class JwksSettings(Section):
    """The keys of an issuer (JWKS, RFC 7517): either `url` or `file`."""

    url: Annotated[str, AfterValidator(_check_https)] | None = Field(
        default=None, description="The https URL of the keys. It may be at another origin than the issuer."
    )
    file: field_types.FilePath | None = Field(default=None, description="The file with the keys. Sidekey reloads it.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.url is None) is (self.file is None):
            raise ValueError("needs either `url` or `file`")
        return self


class JwtIssuerSettings(Section):
    """An issuer of JWTs that identify callers. Needs the extra `jwt`."""

    issuer: Annotated[str, AfterValidator(_check_issuer)] = Field(
        description="The issuer's URL, exactly as the `iss` of its JWTs has it."
    )
    audience: Annotated[str, AfterValidator(_check_printable)] = Field(
        description="The audience that `aud` must contain, such as `sidekey`. Not that of another service: a JWT for "
        "the cluster's API would open the cluster."
    )
    jwks: JwksSettings | None = Field(
        default=None,
        description="Where the keys are. Default: the URL in the issuer's discovery document, at the issuer's origin.",
    )
    trusted_ca: field_types.TrustedCA | None = Field(
        default=None, description="Like `network.trusted_ca`, instead of it, for the calls that fetch the keys."
    )
    token: ExternalSecret | None = Field(
        default=None, description="A bearer token for the calls that fetch the keys, as a cluster's API may require."
    )
    allow_private: list[field_types.PrivateNetwork] = Field(
        default=[], description="Like `network.allow_private`, in addition to it, for the calls that fetch the keys."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_library("jwt_issuers")
        return self


class ProxySettings(Section):
    """A parent proxy, to which Sidekey sends CONNECT for each connection."""

    url: field_types.ProxyUrl = Field(
        description="Scheme, host and port of the proxy, such as `http://proxy.example.com:3128` or `https://...`. Its "
        "address must be global, or in `allow_private`."
    )
    username: Annotated[Text, literal_check(check_user_name)] | None = Field(
        default=None, description="User name for the proxy (Basic), without a colon. Needs `password`."
    )
    password: GlobalSecret | None = Field(default=None, description="Password for the proxy. Needs `username`.")
    trusted_ca: field_types.TrustedCA | None = Field(
        default=None,
        description="Like `network.trusted_ca`, instead of it, for the certificate of an `https://` proxy.",
    )
    no_proxy: Annotated[list[field_types.NoProxyEntry], MAX_ENTRIES] = Field(
        default=[],
        description="Targets to which Sidekey connects directly: a host name matches exactly, `.example.com` matches "
        "every name below it, and an IP address or network matches the address that Sidekey would connect to. Loopback "
        "addresses and `localhost` never use the proxy.",
    )
    resolve: Literal["sidekey", "proxy"] = Field(
        default="sidekey",
        description="Who resolves host names of targets: `sidekey` checks the addresses and sends one to the proxy; "
        "`proxy` sends each name that the config file has without a wildcard, so that the proxy alone can prevent "
        "connections to private addresses.",
    )


class NetworkSettings(Section):
    """DNS, the addresses that Sidekey may connect to, and the CAs that it trusts."""

    hosts: dict[field_types.HostName, Annotated[list[field_types.StaticAddress], Field(min_length=1)]] = Field(
        default={},
        description="Static IP addresses by host name, as lists, instead of DNS. The address rules apply to them too.",
    )
    allow_private: list[field_types.PrivateNetwork] = Field(
        default=[], description="Private networks that Sidekey may connect to, such as `10.0.0.0/8`."
    )
    trusted_ca: field_types.TrustedCA = Field(
        default=snapshot.Trust(),
        description="Which CAs upstream certificates are verified against: `mozilla`, `system`, `{file: PATH}` or "
        "`{inline: PEM}`.",
    )
    search: bool = Field(default=False, description="Whether DNS search domains apply to targets.")
    source_address: field_types.SourceAddress | None = Field(
        default=None,
        description="The IP address of this machine for outgoing connections, also those for tokens and "
        "certificates; default: the system chooses. Sidekey then connects only to addresses of the same "
        "family (IPv4 or IPv6).",
    )
    proxy: Annotated[ProxySettings | None, BeforeValidator(field_types.refuse_empty)] = Field(
        default=None,
        description="The parent proxy of all outgoing connections, also those for tokens and certificates; default: "
        "Sidekey connects directly. It ignores `HTTPS_PROXY` and the like.",
    )


class TimeoutSettings(Section):
    """Time limits of the steps of a request, of connections and of the shutdown."""

    connect: PositiveDuration = Field(
        default=_TIMEOUTS.connect,
        description="Resolving, connecting and the TLS handshake together; also how long a CONNECT waits for its "
        "certificate.",
    )
    request_head: PositiveDuration = Field(
        default=_TIMEOUTS.request_head, description="From the first byte of a request head to its last."
    )
    response: PositiveDuration = Field(
        default=_TIMEOUTS.response,
        description="From the last byte of the request to the first byte of the response head.",
    )
    idle: PositiveDuration = Field(default=_TIMEOUTS.idle, description="Between two pieces of a body.")
    keep_alive: PositiveDuration = Field(
        default=_TIMEOUTS.keep_alive, description="How long a connection is kept without a request."
    )
    write: PositiveDuration = Field(
        default=_TIMEOUTS.write, description="How long a peer may accept no bytes while Sidekey sends."
    )
    total: Duration = Field(
        default=_TIMEOUTS.total, description="A whole exchange, also the life of a WebSocket; `0s`: no limit."
    )
    drain_delay: Duration = Field(
        default=_TIMEOUTS.drain_delay, description="From SIGTERM to the end of accepting new connections."
    )
    drain: Duration = Field(
        default=_TIMEOUTS.drain, description="How long requests in flight may take to finish after that."
    )
    tunnel_idle: PositiveDuration = Field(
        default=_TIMEOUTS.tunnel_idle,
        description="How long Sidekey keeps a WebSocket, or a tunnel that it does not decrypt "
        "(`forward.unmatched: pass`), without traffic.",
    )


class LimitSettings(Section):
    """Limits of requests, responses and memory."""

    request_head: PositiveSize = Field(default=_LIMITS.request_head, description="A request head.")
    target: PositiveSize = Field(default=_LIMITS.target, description="A request target.")
    headers: Count = Field(default=_LIMITS.headers, description="Number of headers of a request.")
    request_body: Size = Field(default=_LIMITS.request_body, description="A request body.")
    response_head: PositiveSize = Field(default=_LIMITS.response_head, description="A response head.")
    replay_body: Size = Field(
        default=_LIMITS.replay_body,
        description="A body that Sidekey keeps to send it once more, after a 401 or on a new connection, or buffers to "
        "add a token to it.",
    )
    signed_body: PositiveSize = Field(
        default=_LIMITS.signed_body,
        description="A request body that Sidekey signs, and therefore holds until it is complete.",
    )
    held_bodies: PositiveSize = Field(
        default=_LIMITS.held_bodies,
        description="All bodies together that Sidekey holds to sign them, at least twice `signed_body`. One "
        "integration may use half. A request whose body does not fit gets 503 at once.",
    )
    in_flight: Count = Field(
        default=_LIMITS.in_flight,
        description="Requests at the same time. If integrations name several origins (scheme, host and port; a "
        "wildcard domain counts as one, and so does `forward.unmatched: pass`), each origin may use "
        "half, rounded up. Integrations with their own `limits` are an exception. If `callers` has several entries, "
        "the WebSockets of each may take half of the slots of an origin.",
    )
    pipelined: Count = Field(default=_LIMITS.pipelined, description="Requests waiting on one connection.")
    tunnels: Count = Field(
        default=_LIMITS.tunnels,
        description="Tunnels (CONNECT) and WebSockets at the same time. If `callers` has several entries, each may use "
        "half.",
    )
    preset_parameters: PositiveSize = Field(
        default=_LIMITS.preset_parameters, description="The parameters that a caller sends to a preset."
    )
    preset_body: PositiveSize = Field(
        default=_LIMITS.preset_body, description="The filled body of a preset, and all filled headers together."
    )


class LogSettings(Section):
    """Logging; see [logs.md](logs.md)."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged."
    )
    access: Literal["off", "errors", "all"] = Field(default="errors", description="Which requests are logged.")
    path: bool = Field(
        default=_LOG.path, description="Whether access lines contain path and query, which may be secret."
    )
    audit: Literal["off", "uses"] = Field(
        default=_LOG.audit,
        description="`uses`: a line for each request that was sent with a credential. Changes of the config are logged "
        "in any case.",
    )
    format: Literal["auto", "json", "text"] = Field(
        default=_LOG.format,
        description="`json`: one JSON object per line; `text`: lines for people; `auto`: text on a terminal, JSON "
        "elsewhere.",
    )
    file: field_types.FilePath | None = Field(
        default=_LOG.file,
        description="The file to append lines to; default: standard error. On SIGUSR1, Sidekey opens it again, for "
        "rotation.",
    )


class ForwardSettings(Section):
    """The forward proxy, which clients use through `HTTP_PROXY` and `HTTPS_PROXY`."""

    unmatched: Literal["deny", "pass"] = Field(
        default="deny",
        description="What Sidekey does with requests to a host that no integration names: `deny`, or `pass`: forward "
        "them unchanged, without a credential. It never connects to addresses that are not allowed.",
    )
    match_by_host: bool = Field(
        default=False,
        description="Whether a request or CONNECT that names no integration uses the integration that covers its "
        "target, among those that the caller may use. No two of these may cover the same target. Hosts "
        "that Sidekey learns only from a token response do not match. With `callers` the proxy user is "
        "`-`: `http://-:TOKEN@HOST:PORT`.",
    )
    pass_ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        default=[443, 80],
        description="The ports to which CONNECT may pass with `unmatched: pass`.",
    )


class CaSettings(Section):
    """The local CA, which issues the certificates for tunnels (CONNECT) whose TLS Sidekey terminates."""

    folder: field_types.FilePath | None = Field(
        default=None,
        description="The folder for the CA and its key, which Sidekey keeps in a subfolder `ca` with mode 0700. "
        "Default: a folder for each config path (with symbolic links of folders resolved), such as "
        "`etc-sidekey-906f2f23fc35` for `/etc/sidekey`. It is in `$STATE_DIRECTORY`, else "
        "`$XDG_STATE_HOME/sidekey`, else `~/.local/state/sidekey`.",
    )
    trust_folder: field_types.FilePath | None = Field(
        default=None,
        description="The folder with the public files that callers must trust: `ca.pem`, `bundle.pem`, "
        "`truststore.p12` and `wgetrc`. Default: `trust` in `folder`. Only Sidekey may be able to write "
        "to it.",
    )
    certificate: PemText | None = Field(
        default=None,
        description="The certificate of your own CA in PEM, with its chain up to the root, in any order. Needs "
        "`private_key`.",
    )
    private_key: GlobalPemSecret | None = Field(default=None, description="Its private key in PEM, not encrypted.")
    extra_roots: list[PemText] = Field(
        default=[],
        description="Further CAs in PEM that `bundle.pem` and `truststore.p12` contain. They may complete the chain of "
        "`certificate`.",
    )
    hosts: list[field_types.HostSuffix] = Field(
        default=[],
        description="Suffixes of at least two labels, such as `example.com`, for which the CA may sign even if no "
        "policy contains them.",
    )


def _check_driver(url: Reference) -> Reference:
    if find_spec("asyncpg") is None:
        raise ValueError("a store in PostgreSQL needs asyncpg: install from the checkout with the extra `postgres`")
    return url


class StoreKeySettings(Section):
    """A key of the store."""

    id: field_types.Name = Field(description="The key's ID. Sidekey stores it with everything that the key has sealed.")
    key: ExternalSecret = Field(description="32 random bytes in base64: `sidekey store new-key` makes them.")


class StoreSettings(Section):
    """The store of integrations that people change while Sidekey runs. Needs either `path` or `url`."""

    path: field_types.FilePath | None = Field(
        default=None, description="The file of an SQLite database, on a local disk, for one machine."
    )
    url: Annotated[ExternalSecret, AfterValidator(_check_driver)] | None = Field(
        default=None,
        description="The URL of a PostgreSQL database, `postgresql://...`, for any number of machines; needs the "
        "extra `postgres`. While Sidekey runs, only the password may change.",
    )
    keys: Annotated[list[StoreKeySettings], Field(min_length=1)] = Field(
        description="The keys: the first seals secrets, and all of them open secrets."
    )
    audit: Annotated[Retention, AfterValidator(_check_positive)] = Field(
        default=400 * 86_400.0, description="How long an entry of the audit is kept."
    )
    history: Annotated[Retention, AfterValidator(_check_history)] = Field(
        default=DEFAULT_SENDS_RETENTION,
        description="How long results of sends, and failed requests, are kept: `1d` to `90d`.",
    )
    allow_private: list[field_types.PrivateNetwork] = Field(
        default=[],
        description="Private networks that stored integrations may connect to. `network.allow_private` does not "
        "apply to stored integrations.",
    )


class SenderGrants(Section):
    """The grants of a sender."""

    presets: Annotated[list[field_types.Name], MaxEntries(200)] = Field(
        default=[], description="IDs of the presets that a `sender` may send. Required for a `sender`."
    )
    per_minute: Annotated[int, Field(ge=1, le=600)] = Field(
        default=PER_MINUTE, description="Sends of a `sender` in a minute."
    )
    per_day: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=PER_DAY, description="Sends of a `sender` in 24 hours."
    )


class OperatorGrants(SenderGrants):
    """The role of an operator, and the grants of a sender."""

    role: Role = Field(
        description="`viewer` reads, explains and tests what is saved; `editor` also changes integrations and "
        "presets, and sends presets; `admin` also changes callers and tokens, and reads the audit; `sender` only "
        "sends the presets in `presets`."
    )


class AdminTokenSettings(OperatorGrants):
    """An operator's token, such as the first one of a cluster."""

    token: ExternalSecret = Field(description="The token: at least 16 characters.")


CALLBACK = "/ui/callback"
"""The page to which the issuer redirects browsers."""

MAX_SESSION = 12 * 3600.0
"""Maximum seconds of a session of the console."""


def _check_redirect_url(url: str) -> str:
    target = _target_of(url)
    if target is None or target.request_target != CALLBACK or not _is_confidential(target.origin):
        raise ValueError(
            f"must be https://HOST{CALLBACK} with the host where browsers open the console; http only for localhost"
        )
    return url


def _is_confidential(origin: Origin) -> bool:
    """Return True if nobody on the network can read the authorization code in a redirect to this origin."""
    return origin.scheme == "https" or origin.host in ("127.0.0.1", "localhost", "::1")


def _check_scopes(scopes: list[str]) -> list[str]:
    if "openid" not in scopes:
        raise ValueError("must contain openid: without it the issuer sends no ID token")
    return scopes


def _check_session(seconds: float) -> float:
    if not 60 <= seconds <= MAX_SESSION:
        raise ValueError("must be at least 1m and at most 12h")
    return seconds


NonEmptyText = Annotated[str, AfterValidator(_check_printable)]


class OidcRolesSettings(Section):
    """The roles of people, by a claim of the ID token."""

    claim: NonEmptyText = Field(
        description="Name of the claim, such as `groups`. Its value is a text or a list of texts."
    )
    map: dict[str, Role] = Field(
        description="The role of each value. Somebody with several values has the highest role: `admin`, then "
        "`editor`, `viewer` and `sender`. Somebody without a role cannot log in."
    )


class OidcPresetsSettings(Section):
    """The presets that senders may send, by a claim of the ID token."""

    claim: NonEmptyText = Field(description="Name of the claim, as in `roles`.")
    map: dict[str, Annotated[list[field_types.Name], MaxEntries(200)]] = Field(
        description="IDs of presets for each value. A sender may send those of all values, and at least one is needed."
    )


class OidcSettings(Section):
    """Log-in to the console with OpenID Connect. Needs the extra `oidc`."""

    issuer: Annotated[str, AfterValidator(_check_issuer)] = Field(
        description="The issuer's URL, exactly as its discovery document and its ID tokens have it."
    )
    client_id: NonEmptyText = Field(description="The ID of Sidekey's client at the issuer.")
    client_secret: ExternalSecret = Field(description="The secret of the client.")
    redirect_url: Annotated[str, AfterValidator(_check_redirect_url)] = Field(
        description=f"The URL of the page `{CALLBACK}` as browsers open it, registered at the issuer."
    )
    scopes: Annotated[list[NonEmptyText], AfterValidator(_check_scopes)] = Field(
        default=["openid", "profile"], description="Scopes to request. `openid` is required."
    )
    trusted_ca: field_types.TrustedCA | None = Field(
        default=None, description="Like `network.trusted_ca`, instead of it, for calls to the issuer."
    )
    allow_private: list[field_types.PrivateNetwork] = Field(
        default=[], description="Like `network.allow_private`, in addition to it, for calls to the issuer."
    )
    roles: OidcRolesSettings
    presets: OidcPresetsSettings | None = Field(default=None, description="Required if the role `sender` is mapped.")
    session: Annotated[Duration, AfterValidator(_check_session)] = Field(
        default=MAX_SESSION, description="How long a session lasts, at most 12h."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if find_spec("joserfc") is None:
            raise ValueError("admin.oidc needs joserfc: install from the checkout with the extra `oidc`")
        if "sender" in self.roles.map.values() and self.presets is None:
            raise ValueError("roles.map has the role sender: set `presets`, without which a sender may send nothing")
        return self


class AdminSettings(Section):
    """The API and the console on the admin listener. They need a `store`, or operators configured here.

    Without a store, the API and the console are read-only.
    """

    tokens: dict[field_types.Name, AdminTokenSettings] = Field(
        default={}, description="Operators' tokens by name, in addition to those of `sidekey token create`."
    )
    oidc: OidcSettings | None = Field(
        default=None, description="Log-in to the console with a company account. Without it, people use tokens."
    )
    names: list[field_types.HostName] = Field(
        default=[], description="Further host names of the admin listener, such as a Service's."
    )
    tls: ServerTlsSettings | None = Field(
        default=None,
        description="An admin listener with the API that is neither loopback nor a unix socket needs this, or "
        "`behind_tls`.",
    )
    behind_tls: bool = Field(
        default=False,
        description="Whether the only client of the admin listener is a proxy that terminates TLS.",
    )

    @property
    def has_operators(self) -> bool:
        """Return True if somebody can log in without a store."""
        return bool(self.tokens) or self.oidc is not None


class TestSettings(Section):
    """The request that `sidekey test ID` sends, without a body. Only 200 is success."""

    __test__ = False  # pytest would collect a class whose name starts with Test

    method: Annotated[field_types.Method, SAFE_TO_CHANGE] = Field(default="GET", description="Method.")
    path: Annotated[field_types.TestPath, SAFE_TO_CHANGE] = Field(
        default="", description="Path and query under the base URL, as after `/i/ID`."
    )


class IntegrationLimits(Section):
    """Limits of one integration."""

    in_flight: Annotated[Count | None, SAFE_TO_CHANGE] = Field(
        default=None,
        description="Requests of this integration at the same time, at most `limits.in_flight`. They then do not "
        "count for the limit of the origin.",
    )


class IntegrationSettings(Section):
    """An integration: where its credential may go, and the credential."""

    title: Annotated[str, SAFE_TO_CHANGE] = Field(
        default="", description="The name that people see in place of the ID."
    )
    description: Annotated[str, SAFE_TO_CHANGE] = Field(default="", description="A description for people.")
    tags: Annotated[list[str], SAFE_TO_CHANGE] = Field(default=[], description="Words to find it with.")
    endpoint_prefix: Annotated[field_types.EndpointPrefixes, MAX_ENTRIES, ComparedAs(_sorted_texts)] = Field(
        default=[],
        description=_with_kind_names(
            "The URL under which targets are allowed, or a list of URLs, without wildcards and placeholders. KINDS "
            "need one. Whole path segments count: `/v1` allows `/v1/x`, but not `/v10`, and no path that a server "
            "may interpret as outside of `/v1`.",
            lambda kind: kind.needs_prefix,
        ),
    )
    allow_other_domains: bool = Field(
        default=False, description="Whether `allowed_domains` is used; both keys are needed together."
    )
    allowed_domains: Annotated[list[field_types.AllowedDomain], MAX_ENTRIES, ComparedAs(_sorted_texts)] = Field(
        default=[],
        description="Base URLs, or `https://*.suffix`. With an `endpoint_prefix` both must allow a target.",
    )
    methods: Annotated[list[field_types.Method] | None, MAX_ENTRIES, SAFE_TO_CHANGE] = Field(
        default=None, min_length=1, description="Methods that are allowed; default: all but TRACE and CONNECT."
    )
    allow_private: Annotated[
        list[field_types.PrivateNetwork],
        FileOnly("only the operator allows addresses that are not global, in store.allow_private: remove this key"),
    ] = Field(default=[], description="Like `network.allow_private`, in addition to it, for this integration.")
    trusted_ca: Annotated[field_types.TrustedCA | None, ComparedAs(_ca_digests)] = Field(
        default=None, description="Like `network.trusted_ca`, instead of it, for this integration."
    )
    limits: IntegrationLimits = Field(default=IntegrationLimits(), description="Limits of this integration.")
    source_address: field_types.SourceAddress | None = Field(
        default=None, description="Like `network.source_address`, instead of it, for this integration."
    )
    proxy: Annotated[
        ProxySettings | Literal["none"] | None,
        field_types.OrNone(ProxySettings),
        FileOnly("only the operator chooses the parent proxy, in network.proxy of the config file: remove this key"),
    ] = Field(
        default=None,
        description="Like `network.proxy`, instead of it, for this integration: a whole section, or `none` to connect "
        "directly.",
    )
    auth: AuthSettings = Field(description="The credential. `type` is its kind.")
    add: AddedSettings | None = Field(
        default=None,
        description=_with_kind_names(
            "Headers, query parameters or body fields that Sidekey adds to each request, besides `auth`. The kind "
            "KINDS has these keys in `auth`.",
            lambda kind: kind.brings_added,
        ),
    )
    signature: SignatureSectionSettings | None = Field(
        default=None,
        description="A signature over each request, in addition to `auth` of any kind. It also covers what `auth`"
        " and `add` put into the request.",
    )
    client_certificate: CertificateSettings | None = Field(
        default=None,
        description=_with_kind_names(
            "A client certificate in addition to `auth`. The kind KINDS has these keys in `auth`.",
            lambda kind: kind.brings_certificate,
        ),
    )
    # These headers let callers change the target, so only the operator may allow them.
    pass_headers: Annotated[
        list[field_types.TargetHeader],
        FileOnly("only the operator passes these headers, for an integration in a file: remove this key"),
    ] = Field(
        default=[],
        description="Headers that Sidekey forwards from callers, although some servers use them to select another "
        "target. Sidekey drops the headers that are not listed.",
    )
    redact_response: bool = Field(
        default=False,
        description="Whether Sidekey replaces the integration's secrets with `[redacted]` in response bodies too, as "
        "it always does in response heads: integrations.md lists the spellings that it finds. Bodies are then "
        "chunked, without content coding and `ETag`, and `Range` is not forwarded.",
    )
    upgrade: Annotated[list[Literal["websocket"]], SAFE_TO_CHANGE] = Field(
        default=[],
        description="Protocols to which callers may upgrade a request: `websocket`, or none. Not with a signature, "
        "body fields or `redact_response`. See [websocket.md](websocket.md).",
    )
    test: TestSettings | None = Field(default=None, description="The request of `sidekey test`.")


class ParameterSettings(Section):
    """A parameter of a preset."""

    type: Literal["text", "number", "boolean"] = Field(description="The type of the value.")
    required: bool | None = Field(
        default=None, description="Whether callers must send it. Default: true without a `default`."
    )
    default: field_types.Scalar = Field(default=None, description="The value if callers omit it.")
    max_length: Count | None = Field(default=None, description="Maximum number of characters of a text.")
    enum: Annotated[list[field_types.Scalar] | None, Field(min_length=1)] = Field(
        default=None, description="The allowed values of a text or number."
    )
    title: str = Field(default="", description="A label for people who fill in the preset.")
    help: str = Field(default="", description="An explanation for people who fill in the preset.")
    example: field_types.Scalar = Field(default=None, description="An example of a value.")
    format: Literal["textarea", "email", "url", "phone"] | None = Field(
        default=None, description="How people enter a text. Sidekey does not check values against it."
    )


class BodySettings(Section):
    """The body of a preset: exactly one of `json`, `form` and `text`."""

    json_: field_types.JsonValue = Field(
        default=None,
        alias="json",
        description="A JSON document, sent as `application/json`. A text that is exactly `{{name}}` becomes the value "
        "with its type.",
    )
    form: field_types.JsonValue = Field(
        default=None,
        description="Fields and their values, sent as `application/x-www-form-urlencoded`: a mapping of names to "
        "texts, numbers, true or false.",
    )
    text: str = Field(
        default="",
        description="A text. In XML, values are escaped and may stand only in text and attribute values. Any other "
        "text contains them unchanged.",
    )
    content_type: field_types.ContentType | None = Field(
        default=None, description="The `Content-Type` of `text`: neither JSON nor a form."
    )


class PresetSettings(Section):
    """A preset: a request that callers send by `POST /p/ID`, with a payload or with parameters."""

    title: str = Field(default="", description="A title for people who fill in the preset.")
    help: str = Field(default="", description="An explanation for people who fill in the preset.")
    description: str = Field(default="", description="A description for operators.")
    tags: list[str] = Field(default=[], description="Words to find it with.")
    integration: field_types.Name = Field(description="The ID of the integration that adds the credential.")
    method: field_types.PresetMethod = Field(default="POST", description="The method that is sent.")
    url: str = Field(
        description="The URL, inside the integration's policy. A path segment or a query value may contain `{{name}}`."
    )
    headers: Annotated[dict[HeaderName, str], MAX_NAMES] = Field(
        default={}, description="Public headers; they replace the caller's, and may contain `{{name}}`."
    )
    content_type: field_types.ContentType | None = Field(
        default=None,
        description="Without `body`: the `Content-Type` that the caller's payload must have. Default: any.",
    )
    parameters: Annotated[dict[field_types.ParameterName, ParameterSettings], MAX_NAMES] = Field(
        default={}, description="The parameters by name. Needs `body`."
    )
    body: BodySettings | None = Field(
        default=None, description="The body, whose strings may contain `{{name}}`. Default: the caller's payload."
    )


class GlobalSettings(Section):
    """The global settings. Across the files of a folder, each key but `version` may be set once."""

    version: Literal[1] = Field(description="Version of the config's format; in each file.")
    listen: ListenSettings = Field(default=ListenSettings(), description="The listeners.")
    allow_unauthenticated: bool = Field(
        default=False, description="Whether listeners that other machines can reach may work without tokens."
    )
    callers: dict[field_types.Name, CallerSettings] = Field(
        default={}, description="The callers by name. Without callers, Sidekey does not check who sends requests."
    )
    jwt_issuers: dict[field_types.Name, JwtIssuerSettings] = Field(
        default={}, description="The issuers of the JWTs that identify callers, by name."
    )
    network: NetworkSettings = Field(
        default=NetworkSettings(), description="DNS, addresses and CAs for outgoing connections."
    )
    timeouts: TimeoutSettings = Field(default=TimeoutSettings(), description="Durations.")
    limits: LimitSettings = Field(default=LimitSettings(), description="Sizes and counts.")
    log: LogSettings = Field(default=LogSettings(), description="Logging.")
    via: bool = Field(
        default=True, description="Whether Sidekey sends `Via`. It always checks received ones, to detect loops."
    )
    forward: ForwardSettings = Field(default=ForwardSettings(), description="The forward proxy.")
    ca: CaSettings = Field(default=CaSettings(), description="The local CA of tunnels (CONNECT).")
    store: StoreSettings | None = Field(
        default=None,
        description="The store of integrations that people change while Sidekey runs; default: no store, and no API.",
    )
    admin: AdminSettings = Field(default=AdminSettings(), description="The API and the console on the admin listener.")


class Config(GlobalSettings):
    """Sidekey's config, version 1."""

    integrations: dict[field_types.Name, IntegrationSettings] = Field(default={}, description="The integrations by ID.")
    presets: dict[field_types.Name, PresetSettings] = Field(default={}, description="The presets by ID.")
