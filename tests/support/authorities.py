"""Local CAs for tests: scopes, CAs of a moment, rules in a folder, and verifiers that are not ours."""

from __future__ import annotations

import ssl
from pathlib import Path

from sidekey.authority.certificates import make_authority
from sidekey.authority.local import Authority
from sidekey.authority.rules import CaRules
from sidekey.authority.scope import Scope
from sidekey.core.policy import Policy, parse_domain, parse_prefix
from support.tls_peer import shake

NOW = 1_790_000_000.0
"""A wall clock, in seconds since the epoch."""

DAY = 86_400.0


def scope_of(*urls: str) -> Scope:
    """The scope of a policy for each URL; one with a star is an allowed domain."""
    policies = [
        Policy(domains=(parse_domain(url),)) if "*" in url else Policy(prefixes=(parse_prefix(url),)) for url in urls
    ]
    return Scope.of(policies)


def authority_of(*urls: str, generation: int = 1, now: float = NOW) -> Authority:
    """A CA for these URLs."""
    return make_authority(scope_of(*urls), generation, now)


def rules_in(folder: Path, *urls: str, **others: object) -> CaRules:
    """Rules for a CA of these URLs, kept in `folder`."""
    return CaRules(folder=folder, trust_folder=folder / "trust", scope=scope_of(*urls), **others)  # type: ignore[arg-type]


def verified(server: ssl.SSLContext, host: str, trusted: str) -> str | None:
    """What Python's strict verification of a server says of it; None where it is content."""
    client = ssl.create_default_context(cadata=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        shake(client, server, name=host)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return None
