"""The variables that make a service's HTTP clients send through Sidekey, and trust the local CA: `env` and `exec`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click

from sidekey.ca.trust_folder import TRUSTSTORE, missing
from sidekey.cli.ca import CaError, trust_folder
from sidekey.cli.config import find_integration, load_snapshot
from sidekey.cli.no_proxy import LOOPBACK, entries_of, find_exclusions
from sidekey.cli.options import config_option
from sidekey.cli.terminal import fail
from sidekey.cli.trust_variables import KeptTrustError, trust_variables
from sidekey.policy.naming import NOBODY, valid_id
from sidekey.policy.targets import Policy
from sidekey.policy.urls import InvalidTarget, parse_origin
from sidekey.snapshot.snapshot import Address

TOKEN_PLACE = "PUT-THE-CALLERS-TOKEN-HERE"  # noqa: S105 - says where a token goes
"""Stands for the caller's token, which is never printed."""

_ANY_WORD = "x"
"""Clients send proxy credentials unprompted only where the password is not empty."""

_JAVA_QUOTE: Final = '"\'"\'"'
_STORE: Final = "javax.net.ssl.trustStore="


class NoProxyUrl(ValueError):
    """No proxy URL can name this; the message says why and the way out."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Sidekey as a proxy URL names it: where it listens, and the user and password that are sent to it.

    An empty user stands for a URL without credentials.
    """

    address: Address
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, address: Address, integration: str | None, token: str | None) -> Proxy:
        """For an integration, or where it is None for targets that are matched by their host."""
        if integration is not None:
            return cls(address, integration, token or _ANY_WORD)
        # Without a token nothing is to be said, and Java, which says nothing unasked, is served.
        return cls(address, NOBODY.decode(), token) if token else cls(address)

    @property
    def url(self) -> str:
        """The value of HTTP_PROXY; clients decode user and password (RFC 3986 2.1)."""
        credentials = f"{self.user}:{quote(self.password, safe='')}@" if self.user else ""
        return f"http://{credentials}{self.address}"


@dataclass(frozen=True, slots=True)
class ProxyLocation:
    """How a service reaches Sidekey: its proxy listener, and the folder of what it must trust.

    `callers` says whether Sidekey checks callers; None where there is no config to say so. `policies` are those of the
    integrations that the service uses, as far as a config says so.
    """

    address: Address
    trust: Path
    callers: bool | None = None
    policies: tuple[Policy, ...] = ()

    def check_trust(self) -> None:
        """Look whether the trust folder is there. Raises KeptTrustError."""
        absent = missing(self.trust)
        if absent is not None:
            raise KeptTrustError(f"{self.trust / absent} does not exist: name Sidekey's trust folder (sidekey ca path)")


@dataclass(frozen=True, slots=True)
class Variables:
    """Names and values for the service's environment, and what whoever starts it should know."""

    values: dict[str, str]
    notes: tuple[str, ...] = ()


def environment(
    proxy: Proxy, trust: Path, environ: Mapping[str, str], *, java: bool, policies: Iterable[Policy] = ()
) -> Variables:
    """What to set in an environment that is `environ` so far; `trust` is Sidekey's trust folder.

    The notes name the hosts of `policies` that NO_PROXY excludes.
    Both cases of each proxy variable: curl reads http_proxy alone, others prefer either. What NO_PROXY excludes already
    stays excluded. Raises KeptTrustError where what the service trusts already cannot be kept.
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
    if java:
        options, found = _java(proxy, trust / TRUSTSTORE, excluded, environ.get("JAVA_TOOL_OPTIONS", ""))
        values["JAVA_TOOL_OPTIONS"] = options
        notes += found
    return Variables(values, tuple(notes))


def _java(proxy: Proxy, store: Path, excluded: Iterable[str], before: str) -> tuple[str, list[str]]:
    """The value of JAVA_TOOL_OPTIONS, and what should be known."""
    notes = []
    if proxy.user:
        notes.append("Java sends the proxy user only with an Authenticator in its code: use --by-host without callers")
    properties = {
        "http.proxyHost": proxy.address.host,
        "http.proxyPort": str(proxy.address.port),
        "https.proxyHost": proxy.address.host,
        "https.proxyPort": str(proxy.address.port),
        "http.nonProxyHosts": "|".join(_java_hosts(excluded)),
        # The JDK refuses Basic to a CONNECT otherwise, also where code names a user.
        "jdk.http.auth.tunneling.disabledSchemes": "",
    }
    ours = [_java_quoted(f"-D{name}={value}") for name, value in properties.items()]
    own_store = [_java_quoted(f"-D{_STORE}{store}"), "-Djavax.net.ssl.trustStoreType=PKCS12"]
    for option in (*ours, *own_store):
        before = re.sub(rf"(?:^|\s){re.escape(option)}(?=\s|$)", "", before)
    if _STORE in before:
        way_out = f"import {store.parent / 'ca.pem'} into it with keytool"
        notes.append(f"JAVA_TOOL_OPTIONS already names a trust store, which stays as it is: {way_out}")
    else:
        ours += own_store
    return " ".join([*([before.strip()] if before.strip() else []), *ours]), notes


def _java_hosts(excluded: Iterable[str]) -> list[str]:
    """NO_PROXY as http.nonProxyHosts: a name there does not stand for those below it, and networks are unknown."""
    found = ["127.*"]
    for entry in excluded:
        if "/" in entry:
            continue
        if _is_address(entry):
            found.append(f"[{entry}]" if ":" in entry else entry)
        elif entry == "*":
            found.append(entry)
        else:
            name = entry.lstrip("*.")
            found += [name, f"*.{name}"]
    return list(dict.fromkeys(found))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _java_quoted(option: str) -> str:
    """As the JVM splits JAVA_TOOL_OPTIONS: at spaces outside of quotes of either kind; it knows no escapes."""
    if not re.search(r"[\s'\"]", option):
        return option
    return '"' + option.replace('"', _JAVA_QUOTE) + '"'


def proxy_address(address: Address) -> Address:
    """Where callers on this machine reach this proxy listener. Raises NoProxyUrl."""
    if address.path is not None:
        raise NoProxyUrl(
            "listen.proxy: a unix socket cannot be a proxy URL: use the reverse proxy, or listen on ADDRESS:PORT"
        )
    if address.port == 0:
        raise NoProxyUrl("listen.proxy: port 0 is chosen at start: write another port")
    return address.reachable()


def parse_proxy(url: str) -> Address:
    """Read the URL of a proxy listener. Raises NoProxyUrl, which repeats nothing of it: it may hold a token."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() != "http" or not separator:
        raise NoProxyUrl("must be http://HOST:PORT")
    if "@" in rest:
        raise NoProxyUrl("must not contain a user or token: use the ID, and SIDEKEY_TOKEN or --token-file")
    try:
        origin = parse_origin("http", rest.removesuffix("/"))
    except InvalidTarget:
        raise NoProxyUrl("must be http://HOST:PORT") from None
    return Address(origin.host, origin.port)


F = TypeVar("F", bound=Callable[..., Any])


def way_in_options(command: F) -> F:
    """Add the options."""
    for decorate in (
        click.option(
            "--by-host", is_flag=True, help="Name no integration: each request uses the one that covers its target."
        ),
        click.option(
            "--proxy", metavar="URL", help="URL of Sidekey's proxy listener, http://HOST:PORT, instead of the config's."
        ),
        click.option("--trust", metavar="FOLDER", help="Sidekey's trust folder, instead of the config's."),
        click.option("--java", is_flag=True, help="Set JAVA_TOOL_OPTIONS too."),
        config_option,
    ):
        command = decorate(command)
    return command


def find_way_in(config: str | None, integration_id: str | None, proxy: str | None, trust: str | None) -> ProxyLocation:
    """The way in as the options say, and the config where they do not; ends the command where there is none."""
    try:
        address = None if proxy is None else parse_proxy(proxy)
    except NoProxyUrl as error:
        raise click.BadParameter(str(error), param_hint="--proxy") from None
    folder = None if trust is None else Path(trust).absolute()
    if address is not None and folder is not None:
        if integration_id is not None and not valid_id(integration_id):
            raise click.BadParameter("must be an integration's ID", param_hint="ID")
        return ProxyLocation(address, folder)
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
            snapshot.callers is not None,
            tuple(integration.policy for integration in integrations),
        )
    except (NoProxyUrl, CaError) as error:
        fail(error)
