"""Checks of several config keys together. They read the file's plain values, so that no error hides another.

A check takes a mapping, and yields locations in it with messages. The models report a value that is invalid by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from sidekey.config.errors import Loc
from sidekey.config.field_types import check_test_path, parse_address
from sidekey.credentials.base import FixedCredential, InjectionPoints, KindSettings
from sidekey.credentials.context import Context
from sidekey.credentials.fields import Keys, mapping
from sidekey.credentials.header_values import SAME_HEADER
from sidekey.credentials.injection import SAME_PARAMETER, AddedSettings
from sidekey.credentials.registry import KINDS, SUPPLEMENTS
from sidekey.credentials.signing import SigningRules
from sidekey.credentials.units import parse_size
from sidekey.policy.addresses import parse_address as parse_ip_address
from sidekey.policy.callers import Caller
from sidekey.policy.canonical import CanonicalForm
from sidekey.policy.headers import normalise
from sidekey.policy.match import find_overlaps
from sidekey.policy.parameters import ParameterNames
from sidekey.policy.redaction import MIN_LENGTH, searchable
from sidekey.policy.targets import Policy, judge_url, parse_prefix
from sidekey.snapshot.request_rules import Limits
from sidekey.snapshot.snapshot import Address, Integration, Listen

Messages = Iterator[tuple[Loc, str]]
"""Locations in the checked mapping, each with the message of an error or a warning."""

_LIMITS: Final = Limits()


def kind_of(raw: Mapping[str, Any]) -> type[KindSettings] | None:
    """Return the kind that an integration names, or None if there is no such kind."""
    return KINDS.get(str(mapping(raw.get("auth")).get("type")))


def integration_errors(raw: Mapping[str, Any], context: Context) -> Messages:
    """Yield errors between the keys of an integration."""
    kind = kind_of(raw)
    if kind is not None and kind.needs_prefix and raw.get("endpoint_prefix", []) == []:
        yield ("endpoint_prefix",), "this kind needs endpoint_prefix: write the URL under which targets are allowed"
    allow_others, domains = raw.get("allow_other_domains", False), raw.get("allowed_domains", [])
    if allow_others is True and domains == []:
        yield ("allow_other_domains",), "needs allowed_domains: list the domains, or remove this key"
    if allow_others is False and domains != []:
        yield ("allowed_domains",), "needs allow_other_domains: true: add it, or remove the list"
    if kind is not None:
        if kind.brings_certificate and raw.get("client_certificate") is not None:
            name = raw["auth"]["type"]
            yield ("client_certificate",), f"kind {name} has its certificate under auth: remove this block"
        yield from kind.find_errors(raw)
        yield from _supplement_errors(kind, raw, context)
        if raw.get("upgrade"):
            yield from _upgrade_errors(kind, raw, context)
    yield from _proxy_errors(raw.get("proxy"), ("proxy",))
    yield from _test_errors(raw)


class _Writes(NamedTuple):
    """The headers and parameters that the section `key` writes into requests.

    `signing` has the headers of its signature, and `signature_loc` returns the location in the section that causes
    such a header. A kind that signs the URL needs targets in `canonical_form`.
    """

    key: str
    injected: InjectionPoints
    signing: SigningRules | None
    signature_loc: Callable[[str], Keys] = lambda _: ()
    canonical_form: CanonicalForm | None = None


def _supplement_errors(kind: type[KindSettings], raw: Mapping[str, Any], context: Context) -> Messages:
    """Yield errors of sections that do not fit the kind, and of names that two sections write."""
    if all(raw.get(model.SECTION) is None for model in SUPPLEMENTS):
        # This is the common case: avoid the second validation of `auth`.
        return
    auth = _valid(kind, raw.get("auth"), context)
    earlier = []
    if auth is not None:
        traits = auth.traits()
        earlier.append(_Writes("auth", traits.injection_points, traits.signing, canonical_form=traits.canonical_form))
    for model in SUPPLEMENTS:
        section = raw.get(model.SECTION)
        if section is not None and kind.brings_added and model is AddedSettings:
            name = raw["auth"]["type"]
            yield ("add",), f"belongs under auth with type {name}: move its headers, query and body there"
            continue
        if isinstance(section, Mapping):
            yield from model.find_errors_in(section)
        part = _valid(model, section, context)
        if part is not None:
            writes = _Writes(part.SECTION, part.injection_points(), part.signing(), part.location_of_header)
            for other in earlier:
                yield from _conflicts(other, writes)
            earlier.append(writes)


def _upgrade_errors(kind: type[KindSettings], raw: Mapping[str, Any], context: Context) -> Messages:
    """Refuse `upgrade` where Sidekey could not send a WebSocket handshake, or not do what another key demands."""
    loc, methods = ("upgrade",), raw.get("methods")
    if isinstance(methods, list) and "GET" not in methods:
        yield loc, "a WebSocket handshake is a GET: add GET to methods, or remove this key"
    if raw.get("redact_response") is True:
        yield loc, "Sidekey cannot search a WebSocket for secrets: remove this key, or redact_response"
    auth = _valid(kind, raw.get("auth"), context)
    traits = None if auth is None else auth.traits()
    parts = [part for model in SUPPLEMENTS if (part := _valid(model, raw.get(model.SECTION), context)) is not None]
    if (traits is not None and traits.signing is not None) or any(part.signing() is not None for part in parts):
        yield loc, "a signature covers no WebSocket: remove this key, or write a second integration without a signature"
    if (traits is not None and traits.injection_points.body) or any(part.injection_points().body for part in parts):
        yield loc, "a WebSocket handshake has no body to which fields could be added: remove this key, or the fields"


_Model = TypeVar("_Model", bound=BaseModel)


def _valid(model: type[_Model], raw: Any, context: Context) -> _Model | None:
    """Validate a section by itself, so that an error elsewhere hides none in it. Return None if it is invalid."""
    try:
        return None if raw is None else model.model_validate(raw, context=context)
    except ValidationError:
        return None


def _conflicts(first: _Writes, second: _Writes) -> Messages:
    """Yield errors of names in the second section that the first one writes or signs."""
    names = {normalise(name.encode("latin-1")): name for name in first.injected.headers}
    first_signing = first.signing
    # The list of signed headers may be incomplete (`SigningRules.signs`). That is harmless here: the first signer also
    # signs headers that the second section adds. It cannot sign the headers of a second signature, see below.
    signature_headers = (
        frozenset()
        if first_signing is None
        else first_signing.names | first_signing.caller_fields | first_signing.signed
    )
    for name in second.injected.headers:
        normal = normalise(name.encode("latin-1"))
        if normal in names:
            message = SAME_HEADER.format(f"{names[normal]} of {first.key}", f"{name} of {second.key}")
            yield (second.key, "headers", name), f"{message}: remove one"
        elif normal in signature_headers:
            yield (second.key, "headers", name), f"{name} belongs to the signature that {first.key} makes: remove it"
    signing = second.signing
    for normal in sorted(frozenset() if signing is None else signing.names | signing.caller_fields):
        name = normal.decode("latin-1")
        loc = (second.key, *second.signature_loc(name))
        if normal in names:
            yield loc, f"this signature writes {name}, which {first.key} writes as well: remove one"
        elif _writes_or_signs(first_signing, normal):
            yield loc, f"this signature writes {name}, which belongs to the signature that {first.key} makes"
    if first.canonical_form is not None:
        yield from _reserved_errors(first.canonical_form, second)
    parameters = ParameterNames(first.injected.query + first.injected.body)
    for key, second_names in (("query", second.injected.query), ("body", second.injected.body)):
        for name in second_names:
            other = parameters.find(name)
            if other is not None:
                message = SAME_PARAMETER.format(f"{other} of {first.key}", f"{name} of {second.key}")
                yield (second.key, key, name), f"{message}: remove one"


def _reserved_errors(form: CanonicalForm, writes: _Writes) -> Messages:
    """Yield errors of query parameters that the signature reserves."""
    for name in writes.injected.query:
        if form.contains_reserved(quote(name, safe="")):
            yield (writes.key, "query", name), f"must not begin with {form.reserved}: such parameters sign a URL"


def _writes_or_signs(signing: SigningRules | None, name: bytes) -> bool:
    """Return True if a signer writes or signs the header of this normalised name."""
    return signing is not None and (name in signing.names | signing.caller_fields or signing.signs(name))


def limit_errors(raw: Mapping[str, Any], maximum: int) -> Messages:
    """Refuse a limit of an integration that is above the `maximum` of the process."""
    in_flight = mapping(raw.get("limits")).get("in_flight")
    if type(in_flight) is int and in_flight > maximum:
        yield (
            ("limits", "in_flight"),
            f"must be at most {maximum}, the limit of all integrations together (limits.in_flight of the config file)",
        )


def _test_errors(raw: Mapping[str, Any]) -> Messages:
    """Refuse a test request that the integration's own policy would deny."""
    test = raw.get("test")
    if not isinstance(test, Mapping):
        return
    method, path = test.get("method", "GET"), test.get("path", "")
    if not isinstance(method, str) or not isinstance(path, str) or not _is_valid(check_test_path, path):
        return
    policy = _policy(raw)
    if policy is None:
        return
    decision = judge_url(policy, method, f"{policy.prefixes[0]}{path}")
    if not decision.allowed:
        key = "method" if decision.code == "method_denied" else "path"
        yield ("test", key), f"must be allowed by the integration's own policy: {decision.reason}"


def _policy(raw: Mapping[str, Any]) -> Policy | None:
    """Build a policy from the plain prefixes and methods, or return None if one is invalid or a reference.

    It has no allowed domains, because only the kind knows all of them. `uncovered_prefixes` reports a prefix outside
    them.
    """
    prefixes, methods = [] if _discovers_base_url(raw) else raw.get("endpoint_prefix", []), raw.get("methods")
    prefixes = [prefixes] if isinstance(prefixes, str) else prefixes
    if not (_are_texts(prefixes) and (methods is None or _are_texts(methods))):
        return None
    try:
        return Policy(
            prefixes=tuple(map(parse_prefix, prefixes)) or (_ANYWHERE,),
            methods=None if methods is None else frozenset(methods),
        )
    except ValueError:
        return None


_ANYWHERE = parse_prefix("https://host.invalid")
"""The base URL for checking the test path of an integration without a prefix."""


def _discovers_base_url(raw: Mapping[str, Any]) -> bool:
    """Return True if the base URL comes with the token, so that a path cannot be checked before."""
    kind = kind_of(raw)
    return kind is not None and kind.discovers_base_url(mapping(raw.get("auth")))


def _is_valid(check: Callable[[str], str], text: str) -> bool:
    try:
        check(text)
    except ValueError:
        return False
    return True


def _are_texts(raw: Any) -> bool:
    return isinstance(raw, list) and all(isinstance(entry, str) for entry in raw)


def global_errors(raw: Mapping[str, Any]) -> Messages:
    """Yield errors between global keys, such as open listeners, equal addresses and hosts that appear twice."""
    listeners = dict(_listeners(raw))
    seen: dict[str, str] = {}
    for name, address in listeners.items():
        if raw.get("allow_unauthenticated") is not True and _is_open(name, address, raw):
            remedy = "name callers" if name == "proxy" else "add admin.tokens"
            text = f"other machines can reach this listener: {remedy}, or set allow_unauthenticated: true"
            yield ("listen", name), text
        first = seen.setdefault(str(address), name)
        if first != name and address.port:
            yield ("listen", name), f"must differ from listen.{first}"
    for name, caller in mapping(raw.get("callers")).items():
        if isinstance(caller, Mapping) and not any(caller.get(key) is not None for key in _IDENTITIES):
            yield ("callers", name), "needs token, certificate or jwt, which identifies the caller"
    yield from _listen_tls_errors(raw)
    yield from _jwt_issuer_errors(raw)
    ca = mapping(raw.get("ca"))
    for key, other in (("certificate", "private_key"), ("private_key", "certificate")):
        if ca.get(key) is not None and ca.get(other) is None:
            yield ("ca", key), f"needs ca.{other}: a CA of your own is both, or remove this key"
    yield from _proxy_errors(mapping(raw.get("network")).get("proxy"), ("network", "proxy"))
    yield from _held_body_errors(mapping(raw.get("limits")))
    yield from _store_errors(raw)
    yield from _admin_errors(listeners.get("admin"), raw)
    hosts: dict[str, str] = {}
    for name in mapping(mapping(raw.get("network")).get("hosts")):
        if hosts.setdefault(name.lower(), name) != name:
            yield ("network", "hosts", name), "this host is given twice (case does not count): remove one"


_IDENTITIES: Final = ("token", "certificate", "jwt")


def _listen_tls_errors(raw: Mapping[str, Any]) -> Messages:
    """Refuse settings of callers' certificates that no CA would verify."""
    tls = mapping(mapping(raw.get("listen")).get("tls"))
    if tls.get("client_ca") is not None:
        return
    if tls.get("client_auth") is not None:
        yield (
            ("listen", "tls", "client_auth"),
            "needs client_ca: write the CAs of callers' certificates, or remove this",
        )
    for name, caller in mapping(raw.get("callers")).items():
        if mapping(caller).get("certificate") is not None:
            text = "needs listen.tls.client_ca, the CAs that verify callers' certificates"
            yield ("callers", name, "certificate"), text


_CLUSTER_API: Final = re.compile(r"(https?://)?kubernetes(\.default)?(\.svc(\..*)?)?(:\d+)?/?")


def _jwt_issuer_errors(raw: Mapping[str, Any]) -> Messages:
    """Refuse issuers twice, audiences of other services, and callers with an issuer that is not configured."""
    issuers = mapping(raw.get("jwt_issuers"))
    seen: dict[str, str] = {}
    for name, entry in issuers.items():
        issuer, audience = mapping(entry).get("issuer"), mapping(entry).get("audience")
        if isinstance(issuer, str) and seen.setdefault(issuer, name) != name:
            yield ("jwt_issuers", name, "issuer"), f"must differ from that of {seen[issuer]}"
        if isinstance(audience, str) and (audience == issuer or _CLUSTER_API.fullmatch(audience)):
            text = "is the audience of the cluster's API: such a JWT opens the cluster, so request JWTs for another one"
            yield ("jwt_issuers", name, "audience"), f"{text}, such as sidekey"
        oidc = mapping(mapping(raw.get("admin")).get("oidc"))
        if audience is not None and (issuer, audience) == (oidc.get("issuer"), oidc.get("client_id")):
            text = "must differ from admin.oidc.client_id: otherwise the ID tokens of operators identify callers"
            yield ("jwt_issuers", name, "audience"), text
    for name, caller in mapping(raw.get("callers")).items():
        issuer = mapping(mapping(caller).get("jwt")).get("issuer")
        if isinstance(issuer, str) and issuer not in issuers:
            yield ("callers", name, "jwt", "issuer"), "jwt_issuers has no entry with this name: add one"


def _held_body_errors(limits: Mapping[str, Any]) -> Messages:
    """Refuse limits with which one body may not fit: one integration may use only half of `held_bodies`."""
    try:
        body_size, total = (
            parse_size(limits[key]) if key in limits else default
            for key, default in (("signed_body", _LIMITS.signed_body), ("held_bodies", _LIMITS.held_bodies))
        )
    except ValueError:
        return
    if total < 2 * body_size:
        key = "held_bodies" if "held_bodies" in limits else "signed_body"
        text = "limits.held_bodies must be at least twice limits.signed_body: raise the one, or lower the other"
        yield ("limits", key), text


def _store_errors(raw: Mapping[str, Any]) -> Messages:
    """Refuse a store with both `path` and `url` or neither, and two keys with the same ID."""
    if not isinstance(raw.get("store"), Mapping):
        return
    store = raw["store"]
    path, url = (store.get(key) is not None for key in ("path", "url"))
    if path and url:
        yield ("store", "url"), "a store must be in one place: remove path, or url"
    if not path and not url:
        yield ("store",), "needs path (SQLite) or url (PostgreSQL)"
    seen: dict[str, int] = {}
    keys = store.get("keys")
    for index, entry in enumerate(keys if isinstance(keys, list) else []):
        name = mapping(entry).get("id")
        if isinstance(name, str) and seen.setdefault(name, index) != index:
            yield ("store", "keys", index, "id"), f"must differ from store.keys[{seen[name]}].id"


def _admin_errors(address: Address | None, raw: Mapping[str, Any]) -> Messages:
    """Refuse an admin listener that sends tokens over the network unencrypted, even with `allow_unauthenticated`."""
    admin = mapping(raw.get("admin"))
    if not _has_api(raw) or address is None or is_local_listener(address):
        return
    if admin.get("tls") is None and admin.get("behind_tls") is not True:
        text = "other machines can reach the API at this listener: it needs admin.tls, or admin.behind_tls: true"
        yield ("listen", "admin"), f"{text} where a proxy in front of it speaks https"


class ResourceIds(NamedTuple):
    """The IDs of the integrations and presets in the files or in the store."""

    integrations: Container[str] = ()
    presets: Container[str] = ()


_NO_IDS: Final = ResourceIds()


def caller_errors(raw: Mapping[str, Any], files: ResourceIds, stored: ResourceIds = _NO_IDS) -> Messages:
    """Refuse callers that name integrations or presets which neither the files nor the store have."""
    kinds = (
        ("integrations", "integration", "an", files.integrations, stored.integrations),
        ("presets", "preset", "a", files.presets, stored.presets),
    )
    for name, caller in mapping(raw.get("callers")).items():
        for key, noun, article, in_files, in_store in kinds:
            granted = mapping(caller).get(key)
            for index, entry in enumerate(granted if isinstance(granted, list) else []):
                if isinstance(entry, str) and entry not in in_files and entry not in in_store:
                    text = f"no {noun} has this ID: add one, or remove the ID here"
                    if raw.get("store") is not None:
                        text = f"no file has {article} {noun} with this ID: create it in the store"
                    yield ("callers", name, key, index), text


def matching_errors(integrations: Mapping[str, Integration], callers: Iterable[Caller]) -> Messages:
    """Refuse integrations of one caller that cover the same target: Sidekey must find the integration by the target."""
    callers = list(callers)

    def share_caller(first: str, second: str) -> bool:
        return not callers or any(caller.may_use(first) and caller.may_use(second) for caller in callers)

    # The targets of an integration with `rebuild` are not known yet.
    policies = {
        integration.id: integration.policy for integration in integrations.values() if integration.rebuild is None
    }
    for overlap in find_overlaps(policies, share_caller):
        yield (
            ("integrations", overlap.second),
            f"covers {overlap.url} as integration {overlap.first} does, and one caller may use both: with "
            "forward.match_by_host no target may be in two policies; narrow one, or set it to false",
        )


def _listeners(raw: Mapping[str, Any]) -> Iterator[tuple[str, Address]]:
    """Yield the name and address of each listener, with defaults. Skip invalid addresses."""
    listen, default = mapping(raw.get("listen")), Listen()
    for name in ("proxy", "admin", "metrics"):
        if listen.get(name) is None:
            address = getattr(default, name)
        else:
            try:
                address = parse_address(listen[name])
            except ValueError:
                continue
        if address is not None:
            yield name, address


def _is_open(name: str, address: Address, raw: Mapping[str, Any]) -> bool:
    """Return True if other machines can reach a listener that requires no token."""
    if name == "metrics" or is_local_listener(address) or raw.get("store") is not None:
        # With a store Sidekey always checks callers and operators, even if there are none yet.
        return False
    return not (_has_api(raw) if name == "admin" else raw.get("callers"))


def _has_api(raw: Mapping[str, Any]) -> bool:
    """Return True if the admin listener serves the API, which needs an operator."""
    admin = mapping(raw.get("admin"))
    return raw.get("store") is not None or bool(admin.get("tokens") or admin.get("oidc"))


def is_local_listener(address: Address) -> bool:
    """Return True if only this machine can reach a listener."""
    return address.path is not None or ip_address(address.host).is_loopback


def global_warnings(raw: Mapping[str, Any]) -> Messages:
    """Warn of open listeners, and of tokens that are written in the file."""
    if raw.get("allow_unauthenticated") is True:
        for name, address in _listeners(raw):
            if _is_open(name, address, raw):
                yield ("listen", name), "anyone who can reach this listener can use it"
    yield from insecure_value_warnings(mapping(raw.get("listen")), ("listen",))
    yield from insecure_value_warnings(mapping(raw.get("callers")), ("callers",))
    yield from insecure_value_warnings(mapping(raw.get("ca")), ("ca",))
    yield from insecure_value_warnings(mapping(raw.get("admin")), ("admin",))
    yield from _proxy_warnings(mapping(raw.get("network")).get("proxy"), ("network", "proxy"))
    yield from variable_warnings(raw, ())
    if raw.get("admin") is not None and not _has_api(raw):
        yield ("admin",), "does nothing without operators or a store: add `tokens`, or remove this key"


def integration_warnings(raw: Mapping[str, Any]) -> Messages:
    """Warn of credentials that travel in the clear, and of secrets that are written in the file."""
    prefixes = raw.get("endpoint_prefix", [])
    is_list = isinstance(prefixes, list)
    kind = kind_of(raw)
    certificate = (kind is not None and kind.brings_certificate) or raw.get("client_certificate") is not None
    in_the_clear = f"the credential travels in the clear{', and no client certificate is sent' if certificate else ''}"
    for index, prefix in enumerate(prefixes if is_list else [prefixes]):
        if _is_http(prefix):
            yield ("endpoint_prefix", index) if is_list else ("endpoint_prefix",), in_the_clear
    domains = raw.get("allowed_domains")
    for index, domain in enumerate(domains if isinstance(domains, list) else []):
        if _is_http(domain):
            yield ("allowed_domains", index), in_the_clear
    if kind is not None:
        yield from kind.find_warnings(raw)
    for model in SUPPLEMENTS:
        yield from model.find_warnings_in(mapping(raw.get(model.SECTION)))
    for key in ("auth", *(model.SECTION for model in SUPPLEMENTS), "client_certificate"):
        yield from insecure_value_warnings(mapping(raw.get(key)), (key,))
    yield from _proxy_warnings(raw.get("proxy"), ("proxy",))


def _proxy_errors(raw: Any, loc: Loc) -> Messages:
    """Refuse keys of a parent proxy that need another key."""
    proxy = mapping(raw)
    for key, other in (("username", "password"), ("password", "username")):
        if proxy.get(key) is not None and proxy.get(other) is None:
            yield (*loc, key), f"needs {other}: add it, or remove this key"
    if proxy.get("trusted_ca") is not None and _is_http(proxy.get("url")):
        yield (*loc, "trusted_ca"), "may be used only with an https:// url: remove it, or change url"


def _proxy_warnings(raw: Any, loc: Loc) -> Messages:
    """Warn of a parent proxy that gets its password in the clear, or resolves names."""
    proxy = mapping(raw)
    if proxy.get("password") is not None and _is_http(proxy.get("url")):
        yield (*loc, "url"), "the password for the proxy travels in the clear: use https:// if the proxy supports it"
    if proxy.get("resolve") == "proxy":
        text = "the proxy resolves names, so it alone prevents connections to private addresses (DNS rebinding)"
        yield (*loc, "resolve"), text
        entries = proxy.get("no_proxy")
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, str) and ("/" in entry or parse_ip_address(entry) is not None):
                yield (*loc, "no_proxy", index), "does not apply to host names, whose address only the proxy knows"
    yield from insecure_value_warnings(proxy, loc)


def _is_http(url: Any) -> bool:
    return isinstance(url, str) and url[:5].lower() == "http:"


StoreKind = Literal["none", "file", "database"]
"""The kind of store through which processes share state: none, a file on one machine, or a database."""

_ONE_FILE = (
    "only processes that use the file of store.path may use this, each on this machine: to run more, keep the store in "
    "PostgreSQL (store.url)"
)


def single_process_warnings(raw: Mapping[str, Any], store: StoreKind) -> Messages:
    """Warn of credentials that two processes invalidate for each other unless they share the store."""
    kind = kind_of(raw)
    if kind is not None and store != "database":
        for loc, reason in kind.find_single_process(raw):
            yield loc, reason if store == "none" else _ONE_FILE


def uncovered_prefixes(policy: Policy) -> Messages:
    """Yield the endpoint prefixes that no allowed domain covers.

    Saving refuses them. In a file they are a warning, because an error would keep all integrations from loading.
    """
    for text in policy.uncovered_prefixes():
        yield ("endpoint_prefix",), text


def redaction_warnings(integration: Integration) -> Messages:
    """Warn of `redact_response` if the integration injects no secret that can be searched for."""
    credential = integration.secrets.credential
    if not integration.redact_response or not isinstance(credential, FixedCredential):
        return
    if not searchable(credential.grant.secrets):
        text = f"does nothing: no secret of {MIN_LENGTH} bytes or more is put into requests; remove this key"
        yield ("redact_response",), text


_VARIABLE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::?[-=?+][^}]*)?\}")
_WHOLE_VARIABLE: Final = re.compile(r"\$[A-Z_][A-Z0-9_]+")
"""Variables of shells, docker compose and CI. `$` is common in texts, so without braces it must be the whole value."""

_REFERABLE: Final = frozenset(
    {"endpoint_prefix", "auth", "client_certificate", *(model.SECTION for model in SUPPLEMENTS)}
)
"""The keys of an integration that may contain {env: NAME}."""

_FREE_TEXTS: Final = frozenset({"title", "description", "tags", "value"})
"""Keys of texts for people, and of the secrets in stored documents: `$` may be part of these values."""


def variable_warnings(raw: Any, loc: Loc, remedy: str = "write the value itself") -> Messages:
    """Warn of values with a shell variable, which Sidekey does not expand."""
    if isinstance(raw, str):
        if "$" in raw and (_VARIABLE.search(raw) or _WHOLE_VARIABLE.fullmatch(raw)):
            yield loc, f"nothing is expanded: {remedy}"
    elif isinstance(raw, Mapping):
        for key, value in raw.items():
            if key not in _FREE_TEXTS:
                yield from variable_warnings(value, (*loc, key), remedy)
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            yield from variable_warnings(value, (*loc, index), remedy)


def integration_variable_warnings(raw: Mapping[str, Any], context: Context) -> Messages:
    """Warn of shell variables in an integration. In a file it can refer to an environment variable instead."""
    for key, value in raw.items():
        if key in _FREE_TEXTS:
            continue
        if key in _REFERABLE and context.is_file:
            yield from variable_warnings(value, (key,), "write {env: NAME}")
        else:
            yield from variable_warnings(value, (key,))


def preset_warnings(raw: Mapping[str, Any]) -> Messages:
    """Warn of shell variables in a preset, except in its body, which is for the upstream."""
    for key in ("url", "headers", "content_type"):
        yield from variable_warnings(raw.get(key), (key,))


def insecure_value_warnings(raw: Any, loc: Loc) -> Messages:
    """Warn of secrets that are written in the file itself."""
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            if key == "insecure_value":
                yield (*loc, key), "a secret is written in the config file: use this for trials only"
            else:
                yield from insecure_value_warnings(value, (*loc, key))
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            yield from insecure_value_warnings(value, (*loc, index))
