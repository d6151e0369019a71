"""Build the variables that make HTTP clients use Sidekey and trust the local CA, for `env` and `exec`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click
from cryptography.x509 import (
    DNSName,
    DuplicateExtension,
    ExtensionNotFound,
    IPAddress,
    SubjectAlternativeName,
    load_pem_x509_certificates,
)

from sidekey.ca.trust_folder import TRUSTSTORE, find_missing_file
from sidekey.cli.ca import CaError, trust_folder
from sidekey.cli.config import find_integration, load_snapshot
from sidekey.cli.no_proxy import LOOPBACK, entries_of, find_exclusions
from sidekey.cli.options import config_option
from sidekey.cli.terminal import fail
from sidekey.cli.trust_variables import TrustError, trust_variables
from sidekey.policy.callers import key_kind
from sidekey.policy.identifiers import NO_ID, valid_id
from sidekey.policy.targets import Policy
from sidekey.policy.urls import InvalidTarget, parse_origin
from sidekey.snapshot.snapshot import Address, Listen, Snapshot

TOKEN_PLACEHOLDER = "PUT-THE-CALLERS-TOKEN-HERE"  # noqa: S105 - a placeholder
"""Placeholder for the caller's token, which is never printed."""

_ANY_PASSWORD = "x"  # noqa: S105 - no secret
"""Clients send proxy credentials without a challenge only if the password is not empty."""

_ESCAPED_QUOTE: Final = '"\'"\'"'
_TRUST_STORE: Final = "javax.net.ssl.trustStore="


class NoProxyUrl(ValueError):
    """A URL or an address of a listener cannot be used as a proxy URL. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Address and credentials in a proxy URL. With an empty user, the URL has no credentials."""

    address: Address
    user: str = ""
    password: str = field(default="", repr=False)
    scheme: str = "http"

    @classmethod
    def of(cls, address: Address, integration: str | None, token: str | None, scheme: str = "http") -> Proxy:
        """Build the proxy for an integration, or for `match_by_host` if `integration` is None.

        `token` is None if there are no callers, and empty for a caller with a certificate: whatever such a caller
        sends as a token must be valid.
        """
        if integration is not None:
            return cls(address, integration, _ANY_PASSWORD if token is None else token, scheme)
        # Without a token, Sidekey needs no credentials. Java depends on that: it sends none without a challenge.
        return cls(address, NO_ID.decode(), token, scheme) if token else cls(address, scheme=scheme)

    @property
    def url(self) -> str:
        """Value of HTTP_PROXY. Clients decode user and password (RFC 3986 2.1)."""
        credentials = f"{self.user}:{quote(self.password, safe='')}@" if self.user else ""
        return f"{self.scheme}://{credentials}{self.address}"


@dataclass(frozen=True, slots=True)
class ProxyLocation:
    """Address of a proxy listener and its trust folder, with facts from the config.

    `policies` are those of the integrations in use. `caller_keys` are the kinds of keys (`policy.callers.key_kind`)
    that identify the callers of these integrations, or None without callers. If the options replace the config,
    `is_known` is False, and the config's facts are missing.
    """

    address: Address
    trust: Path
    is_known: bool = False
    caller_keys: frozenset[str] | None = None
    policies: tuple[Policy, ...] = ()
    scheme: str = "http"
    note: str = ""
    """A warning of an address that clients will refuse, or empty."""

    def check_trust(self) -> None:
        """Raise TrustError if a file of the trust folder is missing."""
        absent = find_missing_file(self.trust)
        if absent is not None:
            raise TrustError(f"{self.trust / absent} does not exist: name Sidekey's trust folder (sidekey ca path)")


@dataclass(frozen=True, slots=True)
class Variables:
    """Variables for a service's environment, and warnings for the operator."""

    values: dict[str, str]
    notes: tuple[str, ...] = ()


def build_variables(
    proxy: Proxy, trust: Path, environ: Mapping[str, str], *, java: bool, policies: Iterable[Policy] = ()
) -> Variables:
    """Build the variables to add to `environ`. `trust` is Sidekey's trust folder.

    Set the proxy variables in upper and lower case: curl reads only http_proxy, and other clients prefer one of the
    two. Keep the entries of NO_PROXY, and warn of those that exclude hosts of `policies`. Keep the CAs that the service
    already trusts, or raise TrustError.
    """
    excluded = list(dict.fromkeys([*LOOPBACK, *entries_of(environ)]))
    values: dict[str, str] = {}
    for name, value in (("HTTP_PROXY", proxy.url), ("HTTPS_PROXY", proxy.url), ("NO_PROXY", ",".join(excluded))):
        values |= {name: value, name.lower(): value}
    values["NODE_USE_ENV_PROXY"] = "1"
    values |= trust_variables(trust, environ)
    if "*" in excluded:
        notes = ["NO_PROXY is *: all requests bypass Sidekey"]
    else:
        notes = [str(exclusion) for exclusion in find_exclusions(environ, policies)]
    if java and proxy.scheme == "https":
        notes.append("Java cannot use a proxy over TLS (listen.tls): it needs a Sidekey on its machine without TLS")
    if java:
        options, java_notes = _java_options(proxy, trust / TRUSTSTORE, excluded, environ.get("JAVA_TOOL_OPTIONS", ""))
        values["JAVA_TOOL_OPTIONS"] = options
        notes += java_notes
    return Variables(values, tuple(notes))


def _java_options(proxy: Proxy, store: Path, excluded: Iterable[str], existing: str) -> tuple[str, list[str]]:
    """Return the value of JAVA_TOOL_OPTIONS, and notes."""
    notes = []
    if proxy.user:
        notes.append("Java sends the proxy user only with an Authenticator in its code: use --by-host without callers")
    properties = {
        "http.proxyHost": proxy.address.host,
        "http.proxyPort": str(proxy.address.port),
        "https.proxyHost": proxy.address.host,
        "https.proxyPort": str(proxy.address.port),
        "http.nonProxyHosts": "|".join(_java_hosts(excluded)),
        # Otherwise the JDK sends no Basic credentials with CONNECT, even if the program sets a user.
        "jdk.http.auth.tunneling.disabledSchemes": "",
    }
    options = [_quote_for_java(f"-D{name}={value}") for name, value in properties.items()]
    store_options = [_quote_for_java(f"-D{_TRUST_STORE}{store}"), "-Djavax.net.ssl.trustStoreType=PKCS12"]
    for option in (*options, *store_options):
        existing = re.sub(rf"(?:^|\s){re.escape(option)}(?=\s|$)", "", existing)
    if _TRUST_STORE in existing:
        remedy = f"import {store.parent / 'ca.pem'} into it with keytool"
        notes.append(f"JAVA_TOOL_OPTIONS already names a trust store, which stays as it is: {remedy}")
    else:
        options += store_options
    return " ".join([*([existing.strip()] if existing.strip() else []), *options]), notes


def _java_hosts(excluded: Iterable[str]) -> list[str]:
    """Convert NO_PROXY to http.nonProxyHosts, where a name does not match its subdomains. Drops networks."""
    hosts = ["127.*"]
    for entry in excluded:
        if "/" in entry:
            continue
        if _is_address(entry):
            hosts.append(f"[{entry}]" if ":" in entry else entry)
        elif entry == "*":
            hosts.append(entry)
        else:
            name = entry.lstrip("*.")
            hosts += [name, f"*.{name}"]
    return list(dict.fromkeys(hosts))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _quote_for_java(option: str) -> str:
    """Quote an option for JAVA_TOOL_OPTIONS, which the JVM splits at unquoted spaces. It has no escapes."""
    if not re.search(r"[\s'\"]", option):
        return option
    return '"' + option.replace('"', _ESCAPED_QUOTE) + '"'


_PROXY_FORM: Final = "must be http://HOST:PORT, or https://HOST:PORT with listen.tls"


def proxy_address(address: Address) -> Address:
    """Return the address at which callers on this machine reach a proxy listener. Raises NoProxyUrl."""
    if address.path is not None:
        raise NoProxyUrl(
            "listen.proxy: a unix socket cannot be a proxy URL: use the reverse proxy, or listen on ADDRESS:PORT"
        )
    if address.port == 0:
        raise NoProxyUrl("listen.proxy: with port 0 the system chooses a port at the start: set another port")
    return address.reachable()


def parse_proxy(url: str) -> tuple[str, Address]:
    """Parse the URL of a proxy listener into scheme and address.

    The message of NoProxyUrl never repeats it: it may contain a token.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in ("http", "https") or not separator:
        raise NoProxyUrl(_PROXY_FORM)
    if "@" in rest:
        raise NoProxyUrl("must not contain a user or token: use the ID, and SIDEKEY_TOKEN or --token-file")
    try:
        origin = parse_origin(scheme, rest.removesuffix("/"))
    except InvalidTarget:
        raise NoProxyUrl(_PROXY_FORM) from None
    return scheme, Address(origin.host, origin.port)


F = TypeVar("F", bound=Callable[..., Any])


def proxy_options(command: F) -> F:
    """Add the options that name a proxy listener and its trust folder."""
    for decorate in (
        click.option(
            "--by-host", is_flag=True, help="Name no integration: each request uses the one that covers its target."
        ),
        click.option(
            "--proxy",
            metavar="URL",
            help="URL of Sidekey's proxy listener, such as http://HOST:PORT, instead of the config's.",
        ),
        click.option("--trust", metavar="FOLDER", help="Sidekey's trust folder, instead of the config's."),
        click.option("--java", is_flag=True, help="Set JAVA_TOOL_OPTIONS too."),
        config_option,
    ):
        command = decorate(command)
    return command


def find_proxy(config: str | None, integration_id: str | None, proxy: str | None, trust: str | None) -> ProxyLocation:
    """Find the proxy listener and the trust folder: by the options, else by the config. Exits with an error."""
    try:
        scheme, address = ("", None) if proxy is None else parse_proxy(proxy)
    except NoProxyUrl as error:
        raise click.BadParameter(str(error), param_hint="--proxy") from None
    folder = None if trust is None else Path(trust).absolute()
    if address is not None and folder is not None:
        if integration_id is not None and not valid_id(integration_id):
            raise click.BadParameter("must be an integration's ID", param_hint="ID")
        return ProxyLocation(address, folder, scheme=scheme)
    snapshot = load_snapshot(config)
    if integration_id is not None:
        integrations = [find_integration(snapshot, integration_id)]
    elif snapshot.matching is None:
        fail("forward.match_by_host: must be true for --by-host; or name an integration")
    else:
        integrations = list(snapshot.integrations.values())
    try:
        return ProxyLocation(
            proxy_address(snapshot.listen.proxy) if address is None else address,
            trust_folder(snapshot.ca) if folder is None else folder,
            is_known=True,
            caller_keys=_caller_keys(snapshot, integration_id),
            policies=tuple(integration.policy for integration in integrations),
            scheme=scheme or ("http" if snapshot.listen.tls is None else "https"),
            note=_name_warning(snapshot.listen) if address is None else "",
        )
    except (NoProxyUrl, CaError) as error:
        fail(error)


def _caller_keys(snapshot: Snapshot, integration_id: str | None) -> frozenset[str] | None:
    """Return the kinds of keys of the callers that may use the integration, or of all callers if it is None."""
    if snapshot.callers is None:
        return None
    return frozenset(
        key_kind(key)
        for key, caller in snapshot.callers.items()
        if integration_id is None or caller.may_use(integration_id)
    )


def _name_warning(listen: Listen) -> str:
    """Warn if the certificate of the proxy listener does not name the address that callers on this machine use."""
    if listen.tls is None:
        return ""
    host, names, addresses = listen.proxy.reachable().host, list[str](), list[str]()
    with suppress(ValueError, ExtensionNotFound, DuplicateExtension):
        extensions = load_pem_x509_certificates(listen.tls.certificate.chain)[0].extensions
        alternatives = extensions.get_extension_for_class(SubjectAlternativeName).value
        names, addresses = (
            alternatives.get_values_for_type(DNSName),
            list(map(str, alternatives.get_values_for_type(IPAddress))),
        )
    if host in addresses:
        return ""
    example = next((name for name in names if "*" not in name), "NAME")
    return (
        f"the certificate of listen.tls does not name {host}, so clients refuse this proxy: use "
        f"--proxy https://{example}:{listen.proxy.port} with a name of the certificate that resolves to Sidekey"
    )
