"""Find the hosts of an integration that NO_PROXY excludes from the proxy.

Clients differ. An entry excludes a host here if it does so for curl, Go or Python's requests. A host name, with or
without `.` or `*.` in front, also excludes every name below it. A port limits an entry to that port. An address may be
in brackets. `10.0.0.0/8` is a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Final, NamedTuple

from sidekey.policy.addresses import parse_address
from sidekey.policy.targets import Domain, Policy

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
"""Hosts that `sidekey exec` and `sidekey env` add to NO_PROXY: a service's own machine needs no proxy."""

_ENTRY: Final = re.compile(r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<name>[^:]*))(?::(?P<port>[0-9]+))?")


class Exclusion(NamedTuple):
    """A host that a client reaches without the proxy, the entry that excludes it, and the variable with the entry.

    `variable` is empty if Sidekey adds the entry itself.
    """

    host: str
    entry: str
    variable: str

    def __str__(self) -> str:
        origin = f"{self.variable} excludes" if self.variable else "NO_PROXY, to which Sidekey adds loopback, excludes"
        remedy = "remove the entry, or use the reverse proxy" if self.variable else "use the reverse proxy for it"
        by_entry = "" if self.entry == self.host else f" by its entry {self.entry}"
        return f"{origin} {self.host}{by_entry}: requests to it bypass Sidekey, without a credential; {remedy}"


def entries_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of both variables, each with the first variable that has it."""
    entries: dict[str, str] = {}
    for variable in ("NO_PROXY", "no_proxy"):
        for entry in environ.get(variable, "").split(","):
            if entry.strip():
                entries.setdefault(entry.strip(), variable)
    return entries


def find_exclusions(environ: Mapping[str, str], policies: Iterable[Policy]) -> Iterator[Exclusion]:
    """Yield each excluded host of these policies once. Ignores the entry `*`, which excludes all hosts."""
    # Removing a loopback entry has no effect: Sidekey adds it again.
    entries = {**entries_of(environ), **dict.fromkeys(LOOPBACK, "")}
    rules = {rule: None for policy in policies for rule in _rules(policy)}
    shown: set[str] = set()
    for rule in rules:
        host = f"*.{rule.origin.host}" if rule.wildcard else rule.origin.host
        entry = next((entry for entry in entries if _excludes(entry, rule)), None)
        if entry is not None and host not in shown:
            shown.add(host)
            yield Exclusion(host, entry, entries[entry])


def _rules(policy: Policy) -> Iterator[Domain]:
    """Return the hosts that targets of a policy may have."""
    if policy.prefixes:
        return (Domain(prefix.origin) for prefix in policy.prefixes)
    return iter(policy.domains)


def _excludes(entry: str, rule: Domain) -> bool:
    """Return True if an entry excludes the host of a rule, or with a wildcard some host below it."""
    address = parse_address(rule.origin.host)
    if "/" in entry:
        try:
            return address is not None and address in ip_network(entry, strict=False)
        except ValueError:
            return False
    # An IPv6 address without brackets has colons, and no port.
    match = None if parse_address(entry) is not None else _ENTRY.fullmatch(entry)
    name, port = (entry, None) if match is None else (match["bracketed"] or match["name"] or "", match["port"])
    if port is not None and int(port) != rule.origin.port:
        return False
    if address is not None:
        return parse_address(name) == address
    name = name.lower().removeprefix("*").removeprefix(".").removesuffix(".")
    host = rule.origin.host
    if not name:
        return False
    return f".{host}".endswith(f".{name}") or (rule.wildcard and name.endswith(f".{host}"))
