"""Decide whether a credential may be sent to a target: endpoint prefixes, domains, forbidden targets and methods.

A policy without a rule denies everything. `proxy.routing` decides on plain paths with a faster parser, and a property
test proves that both agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from sidekey.errors import Denial
from sidekey.policy import paths
from sidekey.policy.addresses import parse_address
from sidekey.policy.urls import InvalidTarget, Origin, Target, check_characters, parse_origin, parse_target

NEVER_FORWARDED: Final = frozenset({"TRACE", "CONNECT"})
"""Never forwarded: TRACE reflects credentials (RFC 9110 9.3.8), and CONNECT opens a tunnel."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """An endpoint prefix: an origin, and a path without its trailing slash (the root is empty)."""

    origin: Origin
    path: str

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"


@dataclass(frozen=True, slots=True)
class Domain:
    """An allowed domain: an exact base URL or, as a wildcard, one or more labels under the origin's host."""

    origin: Origin
    wildcard: bool = False

    def __str__(self) -> str:
        return f"{self.origin.scheme}://*.{self.origin.host}" if self.wildcard else str(self.origin)

    def covers(self, origin: Origin) -> bool:
        """Return True if `origin` is this base URL, or is under the wildcard's suffix with its scheme and port."""
        if not self.wildcard:
            return origin == self.origin
        return (
            origin.scheme == self.origin.scheme
            and origin.port == self.origin.port
            and origin.host.endswith("." + self.origin.host)
        )


@dataclass(frozen=True, slots=True)
class Forbidden:
    """A target that no caller may request, in any spelling: a token endpoint or a login URL.

    Scheme and port are not compared. `origin` None means every host. A path segment `*` matches any single segment.
    `below` includes the paths under `path`.
    """

    origin: Origin | None
    path: str
    below: bool = False

    def __str__(self) -> str:
        return f"{self.origin or ''}{self.path}{'/...' if self.below else ''}"

    def applies_to(self, origin: Origin) -> bool:
        """Return True if a target at this origin may be forbidden."""
        return self.origin is None or origin.host == self.origin.host


@dataclass(frozen=True, slots=True)
class Policy:
    """The targets of an integration. If it has both prefixes and domains, both must allow a target.

    Every target must be under `path`. Targets at `placeholder_origin` move to the origin in the token response
    (`with_base`, `move`). Before that, `domains` bounds this origin. Afterwards, it is the only domain.
    """

    prefixes: tuple[Prefix, ...] = ()
    domains: tuple[Domain, ...] = ()
    forbidden: tuple[Forbidden, ...] = ()
    methods: frozenset[str] | None = None
    path: str = ""
    placeholder_origin: Origin | None = None

    def with_base(self, base: Prefix) -> Policy:
        """Return the policy for the base URL in a token response. Raises ValueError if the policy denies that URL."""
        is_bounded = self.domains or self.placeholder_origin is not None
        if is_bounded and not any(domain.covers(base.origin) for domain in self.domains):
            raise ValueError("it is not under any allowed domain")
        prefixes = tuple(
            Prefix(base.origin, prefix.path) if prefix.origin == self.placeholder_origin else prefix
            for prefix in self.prefixes
        )
        if prefixes and not any(prefix.origin == base.origin for prefix in prefixes):
            raise ValueError("its host is not that of any endpoint_prefix")
        return (
            self
            if self.placeholder_origin is None
            else replace(self, prefixes=prefixes, domains=(Domain(base.origin),))
        )

    def find_prefix(self, target: Target) -> Prefix | None:
        """Return the shortest prefix that the target is under. At `placeholder_origin`, compare the path alone."""
        is_placeholder = target.origin == self.placeholder_origin
        shortest = None
        for prefix in self.prefixes:
            if (
                paths.under(target.path, prefix.path)
                and (is_placeholder or prefix.origin == target.origin)
                and (shortest is None or len(prefix.path) < len(shortest.path))
            ):
                shortest = prefix
        return shortest

    def reaches(self, origin: Origin) -> bool:
        """Return True if `judge_target` may allow a target at this origin."""
        if origin.host.endswith("."):
            return False
        has_prefix = any(prefix.origin == origin for prefix in self.prefixes)
        if self.prefixes and not has_prefix and origin != self.placeholder_origin:
            return False
        return any(domain.covers(origin) for domain in self.domains) if self.domains else bool(self.prefixes)

    def uncovered_prefixes(self) -> list[str]:
        """Return a config error message for each prefix that no domain covers, so that it allows nothing."""
        text = "is not an allowed domain: change it, or add it to allowed_domains, with allow_other_domains: true"
        return [
            f"no request passes, because {prefix.origin} {text}"
            for prefix in (self.prefixes if self.domains else ())
            if not any(domain.covers(prefix.origin) for domain in self.domains)
        ]

    def move(self, target: Target, origin: Origin) -> Target:
        """Move a target at the placeholder to the discovered origin. Return any other target unchanged."""
        return target._replace(origin=origin) if target.origin == self.placeholder_origin else target


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a policy on a target, with its reason. `rule` names the rule that allows the target.

    A denial has the `code` of Sidekey's response, and in `denial` one of `errors.DENIAL_REASONS`.
    """

    allowed: bool
    code: str
    reason: str
    target: Target | None = None
    rule: str = ""
    denial: Denial | None = None


def judge_url(policy: Policy, method: str, url: str, canonicalize: Callable[[Target], Target] | None = None) -> Verdict:
    """Judge a method and an absolute URL (one character per byte), already upgraded (`upgrade`)."""
    if not method_allowed(policy, method):
        return Verdict(False, "method_denied", f"the method {method} is not allowed", denial="method_not_allowed")
    try:
        target = parse_target(url)
        return judge_target(policy, target if canonicalize is None else canonicalize(target))
    except (InvalidTarget, paths.UnreadablePath) as error:
        return unreadable_target(error)


def unreadable_target(error: InvalidTarget | paths.UnreadablePath) -> Verdict:
    """Return the denial of a target that cannot be parsed."""
    denial: Denial = "path_ambiguous" if isinstance(error, paths.UnreadablePath) else "target_malformed"
    return Verdict(False, "request_invalid", str(error), denial=denial)


def judge_target(policy: Policy, target: Target) -> Verdict:
    """Judge a parsed target. Raises paths.UnreadablePath."""
    host = target.origin.host
    if host.endswith("."):
        return _outside("trailing_dot", "the target's host must not end in a dot", target)
    final = paths.final_form(target.path)
    forbidden = tuple([(rule.path, rule.below) for rule in policy.forbidden if rule.applies_to(target.origin)])
    if paths.matches_any(final, forbidden):
        return _outside("token_endpoint", "the target is a token or login endpoint of the integration", target)
    if not paths.under(target.path, policy.path):
        return _outside("outside_path", f"the target is not under {policy.path}", target)
    prefix = policy.find_prefix(target)
    domain = next((domain for domain in policy.domains if domain.covers(target.origin)), None)
    if policy.prefixes and prefix is None:
        return _outside("outside_prefix", "the target is not under any endpoint prefix", target)
    if policy.domains and domain is None:
        return _outside("outside_domains", "the target is not under any allowed domain", target)
    rules = [str(rule) for rule in (prefix, domain) if rule is not None]
    if not rules:
        return _outside("nothing_allowed", "the integration allows no target", target)
    return Verdict(True, "", "the target is allowed", target, " and ".join(rules))


def _outside(denial: Denial, reason: str, target: Target) -> Verdict:
    return Verdict(False, "target_denied", reason, target, denial=denial)


def method_allowed(policy: Policy, method: str) -> bool:
    """Return True if the policy allows this method."""
    return method not in NEVER_FORWARDED and (policy.methods is None or method in policy.methods)


def upgrade(policy: Policy, target: Target) -> Target:
    """Upgrade a forward-proxy target from http on port 80 to https.

    This requires a rule of the policy that names the host with https on port 443, and none that names it with http.
    """
    origin = target.origin
    if origin.scheme != "http" or origin.port != 80:
        return target
    secure = Origin("https", origin.host, 443)
    rules = [Domain(prefix.origin) for prefix in policy.prefixes] + list(policy.domains)
    if any(rule.origin.scheme == "http" and _names(rule, origin.host) for rule in rules):
        return target
    if any(rule.covers(secure) for rule in rules):
        return target._replace(origin=secure)
    return target


def _names(rule: Domain, host: str) -> bool:
    return host.endswith("." + rule.origin.host) if rule.wildcard else rule.origin.host == host


def parse_prefix(text: str) -> Prefix:
    """Parse an endpoint prefix. Raises ValueError with a config error message."""
    prefix = _parse_base_url(text)
    if any(character in prefix.path for character in "*{}"):
        raise ValueError(
            "must not contain *, { or }: a prefix is the fixed beginning of a URL, without wildcards or placeholders, "
            "and allows everything under it; end it before this segment"
        )
    return prefix


def _parse_base_url(text: str) -> Prefix:
    """Parse a base URL. Raises ValueError with a config error message."""
    origin, rest = _base(text)
    if "?" in rest:
        raise ValueError("must not contain a query")
    path = rest[:-1] if rest.endswith("/") else rest
    if "//" in rest:
        raise ValueError("must not contain empty segments (//)")
    paths.final_form(path)
    return Prefix(origin, path)


def parse_discovered_base(text: str) -> Prefix:
    """Parse the base URL in a token response. Raises ValueError with a message that continues "the base URL"."""
    try:
        base = _parse_base_url(text)
    except ValueError:
        raise ValueError("it must be an absolute URL without userinfo, query and dot segments") from None
    if base.origin.scheme != "https" or base.origin.port != 443:
        raise ValueError("it must be https on port 443")
    return base


def parse_domain(text: str) -> Domain:
    """Parse an allowed domain: a base URL or `https://*.suffix`. Raises ValueError with a config error message."""
    scheme, _, rest = text.partition("://")
    wildcard = rest.startswith("*.")
    origin, path = _base(f"{scheme}://{rest[2:]}" if wildcard else text)
    if path not in ("", "/"):
        raise ValueError("must not contain a path: narrow it with endpoint_prefix")
    if wildcard and (origin.scheme != "https" or "." not in origin.host or parse_address(origin.host) is not None):
        raise ValueError("a wildcard must be https://*.suffix with a suffix of at least two labels")
    return Domain(origin, wildcard)


def _base(text: str) -> tuple[Origin, str]:
    """Split a URL of the config into its origin and the rest. Raises ValueError with a config error message."""
    if not text.isascii():
        raise ValueError(
            "must be ASCII: write an international host name in punycode (xn--...) and percent-encode a path"
        )
    if "#" in text:
        raise ValueError("must not contain a fragment")
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise ValueError("must be an absolute URL such as https://api.example.com/v1")
    cut = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if "@" in authority:
        raise ValueError("must not contain userinfo: put the credential under auth")
    if "{" in authority or "}" in authority:
        raise ValueError("the host must not contain { or }: nothing is filled in here, write the name itself")
    if "*" in authority:
        raise ValueError("a wildcard must be https://*.suffix, and is allowed only in allowed_domains")
    try:
        check_characters(text)
        origin = parse_origin(scheme, authority)
    except InvalidTarget as error:
        raise ValueError(str(error).replace("the target", "the URL")) from None
    if origin.host.endswith("."):
        raise ValueError("the host must not end in a dot")
    address = parse_address(origin.host)
    if address is not None and str(address) != origin.host:
        raise ValueError(f"the address must be written as {address}")
    return origin, path
